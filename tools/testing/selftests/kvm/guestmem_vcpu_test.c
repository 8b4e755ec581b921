// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens to a running vCPU when the file under its memory changes: holes
 * are punched into it, or it is closed.
 */
#include "guestmem_util.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define NR_PAGES	64
#define NR_VCPUS	2
#define NR_HOLES	25
#define NR_STORM_OPS	100
#define NR_CLOSES	20
#define PATIENCE_SEC	20

/* Comes true, or the test fails and says what did not come true. */
#define WAIT_FOR(cond, fmt, ...)						\
do {										\
	struct timespec __start;						\
										\
	clock_gettime(CLOCK_MONOTONIC, &__start);				\
	while (!(cond)) {							\
		TEST_ASSERT(timespec_elapsed(__start).tv_sec < PATIENCE_SEC,	\
			    "after %d s: " fmt, PATIENCE_SEC, ##__VA_ARGS__);	\
		usleep(1000);							\
	}									\
} while (0)

/* Lives in guest memory that is not under test; the host reads and writes it. */
struct guest_state {
	u64 filled;
	u64 emptied;
	u64 rounds[NR_VCPUS];
	u64 zeroes[NR_VCPUS];
	bool stop;
};

static struct guest_state guest_state;

struct runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	bool done;
	int ret;
	int err;
};

/* A VM whose memory under test is one file. */
struct testbed {
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct runner runners[NR_VCPUS];
	struct guest_state *guest;
	struct kvm_vm *vm;
	size_t size;
	u64 flags;
	int fd;
};

static u64 page_tag(u64 page)
{
	return page + 0x1000;
}

static u64 *guest_page(u64 page)
{
	return (u64 *)(GUESTMEM_GPA + page * MIN_PAGE_SIZE);
}

/* Writes a page if it is empty; returns true if it was. */
static bool guest_touch(u64 page)
{
	u64 *word = guest_page(page);
	u64 value = READ_ONCE(*word);

	__GUEST_ASSERT(!value || value == page_tag(page),
		       "page %lu holds 0x%lx, neither zero nor its tag",
		       page, value);
	if (value)
		return false;

	WRITE_ONCE(*word, page_tag(page));
	return true;
}

static void guest_touch_all(u64 vcpu)
{
	struct guest_state *s = &guest_state;
	u64 zeroes = 0;
	u64 page;

	for (page = 0; page < NR_PAGES; page++)
		zeroes += guest_touch(page);

	WRITE_ONCE(s->zeroes[vcpu], READ_ONCE(s->zeroes[vcpu]) + zeroes);
	WRITE_ONCE(s->rounds[vcpu], READ_ONCE(s->rounds[vcpu]) + 1);
}

static void guest_touch_forever(u64 vcpu)
{
	while (!READ_ONCE(guest_state.stop))
		guest_touch_all(vcpu);

	GUEST_DONE();
}

static void guest_wait_until_empty(u64 page)
{
	while (READ_ONCE(*guest_page(page)))
		cpu_relax();
}

/* Fill all pages, watch the host empty them, and so on. */
static void guest_fill_and_watch(u64 vcpu)
{
	struct guest_state *s = &guest_state;
	u64 page;

	while (!READ_ONCE(s->stop)) {
		guest_touch_all(vcpu);
		WRITE_ONCE(s->filled, READ_ONCE(s->filled) + 1);

		for (page = 0; page < NR_PAGES; page++)
			guest_wait_until_empty(page);
		WRITE_ONCE(s->emptied, READ_ONCE(s->emptied) + 1);
	}

	GUEST_DONE();
}

/* The file can be replaced, the slot and its place in the guest stay. */
static void replace_file(struct testbed *bed)
{
	bed->fd = vm_create_guest_memfd(bed->vm, bed->size, bed->flags);
	bind_file(bed->vm, GUESTMEM_GPA, bed->size, bed->fd, 0);
}

static void create_testbed(struct testbed *bed, unsigned long vm_type, u64 flags)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = vm_type,
	};

	bed->size = NR_PAGES * MIN_PAGE_SIZE;
	bed->flags = flags;
	bed->vm = __vm_create_with_vcpus(shape, NR_VCPUS, NR_PAGES,
					 guest_touch_forever, bed->vcpus);
	bed->guest = addr_gva2hva(bed->vm, (gva_t)&guest_state);
	replace_file(bed);
	virt_map(bed->vm, GUESTMEM_GPA, GUESTMEM_GPA, NR_PAGES);
}

static void free_testbed(struct testbed *bed)
{
	close(bed->fd);
	kvm_vm_free(bed->vm);
}

static void *run_vcpu(void *arg)
{
	struct runner *runner = arg;

	runner->ret = _vcpu_run(runner->vcpu);
	runner->err = errno;
	if (!runner->ret)
		expect_guest_done(runner->vcpu);
	WRITE_ONCE(runner->done, true);
	return NULL;
}

/* Also resumes a vCPU whose run has failed, at the access that failed. */
static void resume_vcpu(struct testbed *bed, u64 i)
{
	struct runner *runner = &bed->runners[i];

	runner->vcpu = bed->vcpus[i];
	runner->done = false;
	kvm_pthread_create(&runner->thread, NULL, run_vcpu, runner);
}

static void start_vcpu(struct testbed *bed, u64 i, void *guest_code)
{
	vcpu_arch_set_entry_point(bed->vcpus[i], guest_code);
	vcpu_args_set(bed->vcpus[i], 1, i);
	resume_vcpu(bed, i);
}

static void join_vcpu(struct testbed *bed, u64 i)
{
	WAIT_FOR(READ_ONCE(bed->runners[i].done),
		 "vCPU %lu runs on, with no sign of what happened to its memory", i);
	kvm_pthread_join(bed->runners[i].thread, NULL);
}

/* The guest ends its loop by itself, nothing went wrong in it. */
static void stop_vcpu(struct testbed *bed, u64 i)
{
	WRITE_ONCE(bed->guest->stop, true);
	join_vcpu(bed, i);
	TEST_ASSERT(!bed->runners[i].ret, "KVM_RUN failed with errno %d",
		    bed->runners[i].err);
}

static void wait_for_rounds(struct testbed *bed, u64 i, u64 nr)
{
	u64 start = READ_ONCE(bed->guest->rounds[i]);

	WAIT_FOR(READ_ONCE(bed->guest->rounds[i]) >= start + nr,
		 "vCPU %lu made less than %lu rounds through its memory", i, nr);
}

FIXTURE(guestmem_vcpu) {
	struct testbed bed;
};

FIXTURE_VARIANT(guestmem_vcpu) {
	unsigned long vm_type;
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_vcpu, shared) {
	.flags = GUESTMEM_SHARED,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(guestmem_vcpu, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};
#endif

FIXTURE_SETUP(guestmem_vcpu)
{
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	create_testbed(&self->bed, variant->vm_type, variant->flags);
}

FIXTURE_TEARDOWN(guestmem_vcpu)
{
	free_testbed(&self->bed);
}

TEST_F_TIMEOUT(guestmem_vcpu, hole_is_seen_by_running_vcpu, 240)
{
	struct testbed *bed = &self->bed;
	u64 i;

	start_vcpu(bed, 0, guest_fill_and_watch);
	for (i = 1; i <= NR_HOLES; i++) {
		WAIT_FOR(READ_ONCE(bed->guest->filled) == i,
			 "the vCPU did not fill its memory");
		if (i == NR_HOLES)
			WRITE_ONCE(bed->guest->stop, true);
		punch_pages(bed->fd, 0, NR_PAGES);
		WAIT_FOR(READ_ONCE(bed->guest->emptied) == i,
			 "the vCPU still reads what was there before the hole");
	}
	stop_vcpu(bed, 0);
}

TEST_F_TIMEOUT(guestmem_vcpu, blocks_are_right_after_holes, 240)
{
	struct testbed *bed = &self->bed;
	u64 i;

	start_vcpu(bed, 0, guest_touch_forever);
	for (i = 0; i < NR_HOLES; i++) {
		wait_for_rounds(bed, 0, 2);
		punch_pages(bed->fd, i, NR_PAGES - i);
	}
	wait_for_rounds(bed, 0, 2);
	stop_vcpu(bed, 0);

	expect_pages(bed->fd, NR_PAGES, "after the vCPU touched all again");
	punch_pages(bed->fd, 0, NR_PAGES);
	expect_pages(bed->fd, 0, "after the last hole");
}

/* One hole per page, so that each page's own mapping has to go. */
TEST_F_TIMEOUT(guestmem_vcpu, single_page_holes_are_seen, 240)
{
	struct testbed *bed = &self->bed;
	u64 page;

	start_vcpu(bed, 0, guest_fill_and_watch);
	WAIT_FOR(READ_ONCE(bed->guest->filled) == 1,
		 "the vCPU did not fill its memory");
	WRITE_ONCE(bed->guest->stop, true);
	for (page = NR_PAGES; page--;)
		punch_pages(bed->fd, page, 1);
	WAIT_FOR(READ_ONCE(bed->guest->emptied) == 1,
		 "the vCPU still reads what was there before the holes");
	stop_vcpu(bed, 0);
}

static void random_pages(u64 *first, u64 *nr)
{
	*first = kvm_random_u32_in_range(&kvm_rng, 0, NR_PAGES - 1);
	*nr = kvm_random_u32_in_range(&kvm_rng, 1, NR_PAGES - *first);
}

struct storm {
	struct guest_state *guest;
	u64 *mem;
	int fd;
};

static void *allocate_in_storm(void *arg)
{
	struct storm *storm = arg;
	struct kvm_random_state rng = new_kvm_random_state(1);

	while (!READ_ONCE(storm->guest->stop)) {
		u64 first = kvm_random_u32_in_range(&rng, 0, NR_PAGES - 1);

		allocate_pages(storm->fd, first, NR_PAGES - first);
	}
	return NULL;
}

static void *read_in_storm(void *arg)
{
	struct storm *storm = arg;
	u64 page = 0;

	while (storm->mem && !READ_ONCE(storm->guest->stop)) {
		u64 value = READ_ONCE(storm->mem[page * MIN_PAGE_SIZE / sizeof(u64)]);

		TEST_ASSERT(!value || value == page_tag(page),
			    "host reads 0x%lx in page %lu, neither zero nor its tag",
			    value, page);
		page = (page + 1) % NR_PAGES;
	}
	return NULL;
}

static void punch_in_storm(struct testbed *bed)
{
	u64 first, nr;
	int i;

	for (i = 0; i < NR_STORM_OPS; i++) {
		random_pages(&first, &nr);
		punch_pages(bed->fd, first, nr);
		usleep(500);
	}
}

static void expect_holes_were_seen(const struct guest_state *guest)
{
	u64 i;

	for (i = 0; i < NR_VCPUS; i++)
		pr_info("# vCPU %lu: %lu rounds, %lu pages found empty\n", i,
			guest->rounds[i], guest->zeroes[i]);

	TEST_ASSERT(guest->zeroes[0] + guest->zeroes[1] > NR_PAGES + NR_STORM_OPS / 2,
		    "%d holes, but the guest hardly found an empty page",
		    NR_STORM_OPS);
}

/* Holes, allocations and faults by vCPUs and host, all on the same pages. */
TEST_F_TIMEOUT(guestmem_vcpu, holes_against_faults_and_fallocate, 240)
{
	struct testbed *bed = &self->bed;
	struct storm storm = { .guest = bed->guest, .fd = bed->fd };
	pthread_t allocator, reader;
	u64 i;

	if (bed->flags == GUESTMEM_SHARED)
		storm.mem = map_file(bed->fd, bed->size);

	for (i = 0; i < NR_VCPUS; i++)
		start_vcpu(bed, i, guest_touch_forever);
	kvm_pthread_create(&allocator, NULL, allocate_in_storm, &storm);
	kvm_pthread_create(&reader, NULL, read_in_storm, &storm);

	punch_in_storm(bed);

	for (i = 0; i < NR_VCPUS; i++)
		stop_vcpu(bed, i);
	kvm_pthread_join(allocator, NULL);
	kvm_pthread_join(reader, NULL);

	expect_holes_were_seen(bed->guest);
}

static void expect_fault_exit(struct testbed *bed, u64 i)
{
	struct runner *runner = &bed->runners[i];
	struct kvm_run *run = runner->vcpu->run;
	u64 flags = vm_is_private(bed->vm) ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0;

	TEST_ASSERT(runner->ret == -1 && runner->err == EFAULT,
		    "KVM_RUN on a closed file: got %d errno %d, expected EFAULT",
		    runner->ret, runner->err);
	TEST_ASSERT_KVM_EXIT_REASON(runner->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT(run->memory_fault.gpa >= GUESTMEM_GPA &&
		    run->memory_fault.gpa < GUESTMEM_GPA + bed->size,
		    "fault reported at gpa 0x%llx, outside the file",
		    run->memory_fault.gpa);
	TEST_ASSERT_EQ(run->memory_fault.size, MIN_PAGE_SIZE);

	/*
	 * A file that is gone takes with it what it knew of its pages, before or
	 * after the fault has asked.
	 */
	if (converts_in_place() && !run->memory_fault.flags)
		return;
	TEST_ASSERT_EQ(run->memory_fault.flags, flags);
}

/* The slot stays when its file goes; the vCPU can be run again with a new one. */
static void expect_new_file_works(struct testbed *bed)
{
	unbind_file(bed->vm, GUESTMEM_GPA);
	replace_file(bed);
	resume_vcpu(bed, 0);
	wait_for_rounds(bed, 0, 2);
	stop_vcpu(bed, 0);
}

static void expect_dead_slot_stays_dead(struct testbed *bed)
{
	resume_vcpu(bed, 0);
	join_vcpu(bed, 0);
	expect_fault_exit(bed, 0);
}

TEST_F_TIMEOUT(guestmem_vcpu, close_under_running_vcpus, 240)
{
	struct testbed *bed = &self->bed;
	u64 i;

	for (i = 0; i < NR_VCPUS; i++)
		start_vcpu(bed, i, guest_touch_forever);
	for (i = 0; i < NR_VCPUS; i++)
		wait_for_rounds(bed, i, 2);

	kvm_free_fd(bed->fd);

	for (i = 0; i < NR_VCPUS; i++) {
		join_vcpu(bed, i);
		expect_fault_exit(bed, i);
	}
	expect_dead_slot_stays_dead(bed);
	expect_new_file_works(bed);
}

/* Close at a random moment of the vCPU's first walk through new memory. */
TEST_F_TIMEOUT(guestmem_vcpu, close_against_first_faults, 240)
{
	struct testbed *bed = &self->bed;
	int i;

	start_vcpu(bed, 0, guest_touch_forever);
	for (i = 0; i < NR_CLOSES; i++) {
		usleep(kvm_random_u32_in_range(&kvm_rng, 0, 2000));
		kvm_free_fd(bed->fd);
		join_vcpu(bed, 0);
		expect_fault_exit(bed, 0);

		unbind_file(bed->vm, GUESTMEM_GPA);
		replace_file(bed);
		resume_vcpu(bed, 0);
	}
	stop_vcpu(bed, 0);
}

TEST_F_TIMEOUT(guestmem_vcpu, dup_keeps_the_file_open, 240)
{
	struct testbed *bed = &self->bed;
	int dup_fd = kvm_dup(bed->fd);

	start_vcpu(bed, 0, guest_touch_forever);
	kvm_free_fd(bed->fd);
	wait_for_rounds(bed, 0, 2);

	kvm_close(dup_fd);
	join_vcpu(bed, 0);
	expect_fault_exit(bed, 0);
}

FIXTURE(guestmem_vcpu_mapped) {
	struct testbed bed;
};

FIXTURE_SETUP(guestmem_vcpu_mapped)
{
	create_testbed(&self->bed, VM_TYPE_DEFAULT, GUESTMEM_SHARED);
}

FIXTURE_TEARDOWN(guestmem_vcpu_mapped)
{
	free_testbed(&self->bed);
}

TEST_F_TIMEOUT(guestmem_vcpu_mapped, mapping_keeps_the_file_open, 240)
{
	struct testbed *bed = &self->bed;
	void *mem = map_file(bed->fd, bed->size);

	start_vcpu(bed, 0, guest_touch_forever);
	kvm_free_fd(bed->fd);
	wait_for_rounds(bed, 0, 2);

	kvm_munmap(mem, bed->size);
	join_vcpu(bed, 0);
	expect_fault_exit(bed, 0);
}

/*
 * KVM unmaps from the guest what the host address loses, but that is not where its pages
 * come from: each was found empty once, and never again.
 */
TEST_F_TIMEOUT(guestmem_vcpu_mapped, host_address_may_go, 240)
{
	struct testbed *bed = &self->bed;
	void *mem = map_file(bed->fd, bed->size);

	unbind_file(bed->vm, GUESTMEM_GPA);
	bind_mapped_file(bed->vm, GUESTMEM_GPA, bed->size, mem, bed->fd, 0);
	start_vcpu(bed, 0, guest_touch_forever);
	wait_for_rounds(bed, 0, 2);

	kvm_munmap(mem, bed->size);
	wait_for_rounds(bed, 0, 2);
	stop_vcpu(bed, 0);
	TEST_ASSERT_EQ(bed->guest->zeroes[0], NR_PAGES);
	expect_pages(bed->fd, NR_PAGES, "after the host address went");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
