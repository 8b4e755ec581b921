// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs on a guest_memfd whose pages are converted in place: what KVM says it can
 * do, how slots are served, what a vCPU is told, and pre-faulting.
 */
#include "guestmem_convert.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define NR_PAGES	16
#define SLOT_GAP	SZ_1G

static void expect_vm_ioctl_gone(struct kvm_vm *vm, u64 attributes)
{
	struct kvm_memory_attributes attrs = {
		.address = GUESTMEM_GPA,
		.size = getpagesize(),
		.attributes = attributes,
	};
	int ret = __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attrs);

	TEST_ASSERT(ret == -1 && errno == ENOTTY,
		    "KVM_SET_MEMORY_ATTRIBUTES 0x%lx on the VM: got %d errno %d, expected ENOTTY",
		    attributes, ret, errno);
}

TEST(guestmem_convert_vm_has_no_attributes_of_its_own)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES), 0);
	expect_vm_ioctl_gone(vm, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	expect_vm_ioctl_gone(vm, 0);
	kvm_vm_free(vm);
}

TEST(guestmem_convert_vm_capability_names_the_attributes)
{
	struct kvm_vm *private = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	struct kvm_vm *ordinary = vm_create_barebones();
	int cap = KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES;

	TEST_ASSERT_EQ(kvm_check_cap(cap), KVM_MEMORY_ATTRIBUTE_PRIVATE);
	TEST_ASSERT_EQ(vm_check_cap(private, cap), KVM_MEMORY_ATTRIBUTE_PRIVATE);
	TEST_ASSERT_EQ(vm_check_cap(ordinary, cap), 0);
	kvm_vm_free(ordinary);
	kvm_vm_free(private);
}

TEST(guestmem_convert_vm_with_private_memory_may_start_shared)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int fd;

	TEST_ASSERT(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_INIT_SHARED,
		    "INIT_SHARED is not advertised");
	fd = vm_create_guest_memfd(vm, getpagesize(), GUEST_MEMFD_FLAG_INIT_SHARED);
	TEST_ASSERT(mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED &&
		    errno == ENODEV, "a file without MMAP was mapped");
	kvm_close(fd);
	kvm_vm_free(vm);
}

/* Without host mappings, but the guest has a use for shared pages all the same. */
TEST(guestmem_convert_vm_takes_shared_memory_from_unmappable_file)
{
	struct convert_bed bed = create_convert_bed(NR_PAGES, GUEST_MEMFD_FLAG_INIT_SHARED);

	guest_fills(&bed, 0, NR_PAGES, 1);
	expect_pages(bed.fd, NR_PAGES, "after the guest wrote shared memory");
	make_private(bed.fd, 0, NR_PAGES);
	guest_checks(&bed, 0, NR_PAGES, 1);
	make_shared(bed.fd, 0, NR_PAGES);
	guest_checks(&bed, 0, NR_PAGES, 1);
	free_convert_bed(&bed);
}

/* The pages of such a file could never be shared, so they are not used for shared memory. */
TEST(guestmem_convert_vm_ordinary_vm_is_served_by_host_address)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm_for(VM_TYPE_DEFAULT, NR_PAGES * getpagesize(),
					  guest_main, &vcpu);
	size_t size = NR_PAGES * getpagesize();
	int fd = vm_create_guest_memfd(vm, size, 0);
	void *mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	vm_set_user_memory_region2(vm, GUESTMEM_SLOT, KVM_MEM_GUEST_MEMFD, GUESTMEM_GPA,
				   size, mem, fd, 0);
	virt_map(vm, GUESTMEM_GPA, GUESTMEM_GPA, NR_PAGES);
	guest_do(vcpu, GUEST_FILL, GUESTMEM_GPA, size, 2);
	expect_pattern(mem, size, 2, "memory at the host's address");
	expect_pages(fd, 0, "after a guest without private memory ran");
	kvm_munmap(mem, size);
	kvm_close(fd);
	kvm_vm_free(vm);
}

FIXTURE(guestmem_convert_vm) {
	struct convert_bed bed;
};

FIXTURE_SETUP(guestmem_convert_vm)
{
	self->bed = create_convert_bed(NR_PAGES, GUEST_MEMFD_FLAG_MMAP);
}

FIXTURE_TEARDOWN(guestmem_convert_vm)
{
	free_convert_bed(&self->bed);
}

static void expect_pre_faulted(struct convert_bed *bed, u64 first, u64 nr, u64 more,
			       const char *what)
{
	u64 before = vm_get_stat(bed->vm, pages_4k);

	pre_fault(bed->vcpu, GUESTMEM_GPA + first * getpagesize(), nr * getpagesize());
	TEST_ASSERT(vm_get_stat(bed->vm, pages_4k) == before + more,
		    "pre-faulting %s mapped %lu pages, expected %lu", what,
		    vm_get_stat(bed->vm, pages_4k) - before, more);
}

TEST_F(guestmem_convert_vm, pre_fault_maps_pages_of_either_state)
{
	struct convert_bed *bed = &self->bed;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "KVM cannot pre-fault");

	make_shared(bed->fd, 4, 4);
	host_fills(bed, 4, 4, 3);
	/* Sets up what a vCPU needs before its first run. */
	guest_checks(bed, 0, 1, 0);
	expect_pre_faulted(bed, 0, NR_PAGES, NR_PAGES - 1, "all pages");
	expect_pages(bed->fd, NR_PAGES, "after pre-faulting");

	make_private(bed->fd, 4, 4);
	expect_pre_faulted(bed, 0, NR_PAGES, 4, "pages made private");
	make_shared(bed->fd, 8, 2);
	expect_pre_faulted(bed, 0, NR_PAGES, 2, "pages made shared");
	guest_checks(bed, 4, 4, 3);
}

/* The second slot shows the rest of the file somewhere else. */
static void bind_half(struct convert_bed *bed, u32 slot, gpa_t gpa, u64 first)
{
	vm_set_user_memory_region2(bed->vm, slot, KVM_MEM_GUEST_MEMFD, gpa,
				   bed->size / 2, NULL, bed->fd, first * getpagesize());
}

TEST_F(guestmem_convert_vm, range_may_span_memslots)
{
	struct convert_bed *bed = &self->bed;
	gpa_t second = GUESTMEM_GPA + SLOT_GAP;
	u64 mapped;

	unbind_file(bed->vm, GUESTMEM_GPA);
	bind_half(bed, GUESTMEM_SLOT, GUESTMEM_GPA, 0);
	bind_half(bed, GUESTMEM_SLOT + 1, second, NR_PAGES / 2);
	virt_map(bed->vm, second, second, NR_PAGES / 2);

	guest_do(bed->vcpu, GUEST_FILL, GUESTMEM_GPA, bed->size / 2, 4);
	guest_do(bed->vcpu, GUEST_FILL, second, bed->size / 2, 5);
	mapped = vm_get_stat(bed->vm, pages_4k);

	make_shared(bed->fd, 0, NR_PAGES);
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), mapped - NR_PAGES);
	host_checks(bed, 0, NR_PAGES / 2, 4, "pages of the first slot");
	host_checks(bed, NR_PAGES / 2, NR_PAGES / 2, 5, "pages of the second slot");

	make_private(bed->fd, NR_PAGES / 2 - 2, 4);
	expect_host_refused(host_page(bed, NR_PAGES / 2 - 1));
	expect_host_refused(host_page(bed, NR_PAGES / 2));
	guest_do(bed->vcpu, GUEST_CHECK, GUESTMEM_GPA, bed->size / 2, 4);
	guest_do(bed->vcpu, GUEST_CHECK, second, bed->size / 2, 5);
}

/* A vCPU that runs into memory whose file is gone learns that it is not private any more. */
TEST_F(guestmem_convert_vm, closed_file_is_reported_as_shared)
{
	struct convert_bed *bed = &self->bed;
	struct kvm_run *run = bed->vcpu->run;
	int ret, err;

	guest_fills(bed, 0, 2, 6);
	kvm_munmap(bed->mem, bed->size);
	bed->mem = NULL;
	kvm_close(bed->fd);

	guest_command_set(bed->vcpu, GUEST_CHECK, GUESTMEM_GPA, getpagesize(), 6);
	ret = _vcpu_run(bed->vcpu);
	err = errno;
	TEST_ASSERT(ret == -1 && err == EFAULT, "KVM_RUN: got %d errno %d, expected EFAULT",
		    ret, err);
	TEST_ASSERT_KVM_EXIT_REASON(bed->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.flags, 0);
	TEST_ASSERT_EQ(run->memory_fault.gpa, GUESTMEM_GPA);
	TEST_ASSERT_EQ(run->memory_fault.size, getpagesize());

	bed->fd = vm_create_guest_memfd(bed->vm, bed->size, GUEST_MEMFD_FLAG_MMAP);
	unbind_file(bed->vm, GUESTMEM_GPA);
	bind_file(bed->vm, GUESTMEM_GPA, bed->size, bed->fd, 0);
}

/* Ask the host for another state of a page, then use it. */
static void guest_asks(void)
{
	u64 flags[] = { KVM_MAP_GPA_RANGE_DECRYPTED, KVM_MAP_GPA_RANGE_ENCRYPTED };

	for (u64 i = 0;; i++) {
		u64 *word = (u64 *)GUESTMEM_GPA;

		WRITE_ONCE(*word, i + 1);
		kvm_hypercall_map_gpa_range(GUESTMEM_GPA, PAGE_SIZE, flags[i % 2]);
		GUEST_ASSERT_EQ(READ_ONCE(*word), i + 1);
		GUEST_SYNC(i);
	}
}

static void expect_asked_for(struct kvm_vcpu *vcpu, bool private)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_HYPERCALL);
	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	TEST_ASSERT_EQ(!!(run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED), private);
}

TEST_F(guestmem_convert_vm, guest_asks_for_the_conversion)
{
	struct convert_bed *bed = &self->bed;
	struct ucall uc;

	if (!(kvm_check_cap(KVM_CAP_EXIT_HYPERCALL) & BIT(KVM_HC_MAP_GPA_RANGE)))
		SKIP(return, "KVM does not pass on KVM_HC_MAP_GPA_RANGE");

	vm_enable_cap(bed->vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));
	vcpu_arch_set_entry_point(bed->vcpu, guest_asks);
	for (u64 i = 0; i < 6; i++) {
		expect_asked_for(bed->vcpu, i % 2);
		convert(bed->fd, 0, 1, i % 2);
		bed->vcpu->run->hypercall.ret = 0;
		if (i % 2)
			expect_host_refused(bed->mem);
		else
			TEST_ASSERT_EQ(READ_ONCE(*(u64 *)bed->mem), i + 1);

		vcpu_run(bed->vcpu);
		TEST_ASSERT_EQ(get_ucall(bed->vcpu, &uc), UCALL_SYNC);
	}
}

/*
 * A slot whose host address is a mapping of its own file.  The guest's faults do not go
 * there, but what KVM itself reads and writes for the guest does; and when the host loses
 * its mapping, KVM takes the guest's along.
 */
FIXTURE(guestmem_convert_vm_mapped) {
	struct convert_bed bed;
};

FIXTURE_SETUP(guestmem_convert_vm_mapped)
{
	struct convert_bed *bed = &self->bed;

	*bed = create_convert_bed(NR_PAGES, GUESTMEM_SHARED);
	unbind_file(bed->vm, GUESTMEM_GPA);
	bind_mapped_file(bed->vm, GUESTMEM_GPA, bed->size, bed->mem, bed->fd, 0);
}

FIXTURE_TEARDOWN(guestmem_convert_vm_mapped)
{
	free_convert_bed(&self->bed);
}

TEST_F(guestmem_convert_vm_mapped, private_pages_are_the_guests_alone)
{
	struct convert_bed *bed = &self->bed;
	u64 seed;

	guest_fills(bed, 0, 4, 1);
	guest_fills(bed, 4, 4, 2);
	host_fills(bed, 8, NR_PAGES - 8, 1);
	for (seed = 2; seed < 5; seed++) {
		make_private(bed->fd, 4, 4);
		expect_host_refused(host_page(bed, 4));
		expect_host_refused(host_page(bed, 7));
		host_checks(bed, 0, 4, 1, "shared pages before private ones");
		host_checks(bed, 8, NR_PAGES - 8, 1, "shared pages behind private ones");
		guest_checks(bed, 4, 4, seed);

		guest_fills(bed, 4, 4, seed + 1);
		make_shared(bed->fd, 4, 4);
		host_checks(bed, 4, 4, seed + 1, "what the guest wrote while it was private");
	}
	guest_checks(bed, 0, 4, 1);
	guest_checks(bed, 8, NR_PAGES - 8, 1);
	expect_pages(bed->fd, NR_PAGES, "after converting to and fro");
}

/* KVM reads a version there, makes it even if it is odd, and counts on to the next even one. */
static void kvm_writes_wall_clock(struct convert_bed *bed, u64 page)
{
	vcpu_set_msr(bed->vcpu, MSR_KVM_WALL_CLOCK_NEW,
		     GUESTMEM_GPA + page * getpagesize());
}

TEST_F(guestmem_convert_vm_mapped, kvm_itself_may_touch_what_the_host_may)
{
	struct convert_bed *bed = &self->bed;
	u32 *version = host_page(bed, 3);

	guest_fills(bed, 3, 1, 1);
	TEST_ASSERT_EQ(READ_ONCE(*version), 1);
	kvm_writes_wall_clock(bed, 3);
	TEST_ASSERT_EQ(READ_ONCE(*version), 4);

	make_private(bed->fd, 3, 1);
	guest_fills(bed, 3, 1, 2);
	kvm_writes_wall_clock(bed, 3);
	guest_checks(bed, 3, 1, 2);
	make_shared(bed->fd, 3, 1);
	host_checks(bed, 3, 1, 2, "a page that was private when KVM was to write to it");
	kvm_writes_wall_clock(bed, 3);
	TEST_ASSERT_EQ(READ_ONCE(*version), 4);
}

/* A guest that writes all of its pages and reads them again, each round something else. */
struct busy_guest {
	struct convert_bed *bed;
	pthread_t thread;
	u64 rounds;
	bool stop;
};

static void *run_busy_guest(void *arg)
{
	struct busy_guest *busy = arg;

	while (!READ_ONCE(busy->stop)) {
		guest_fills(busy->bed, 0, NR_PAGES, busy->rounds + 1);
		guest_checks(busy->bed, 0, NR_PAGES, busy->rounds + 1);
		WRITE_ONCE(busy->rounds, busy->rounds + 1);
	}
	return NULL;
}

static void wait_for_rounds(struct busy_guest *busy, u64 nr)
{
	u64 until = READ_ONCE(busy->rounds) + nr;

	while (READ_ONCE(busy->rounds) < until)
		usleep(1000);
}

TEST_F_TIMEOUT(guestmem_convert_vm_mapped, guest_runs_on_without_the_mapping, 120)
{
	struct convert_bed *bed = &self->bed;
	struct busy_guest busy = { .bed = bed };

	make_private(bed->fd, 4, 4);
	kvm_pthread_create(&busy.thread, NULL, run_busy_guest, &busy);
	wait_for_rounds(&busy, 2);
	kvm_munmap(bed->mem, bed->size);
	wait_for_rounds(&busy, 2);
	WRITE_ONCE(busy.stop, true);
	kvm_pthread_join(busy.thread, NULL);

	expect_pages(bed->fd, NR_PAGES, "after the mapping went");
	make_shared(bed->fd, 0, NR_PAGES);
	bed->mem = map_file(bed->fd, bed->size);
	host_checks(bed, 0, NR_PAGES, busy.rounds, "what the guest wrote last");
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
