// SPDX-License-Identifier: GPL-2.0-only
/*
 * A poisoned page of a guest_memfd: whoever touches it is told, nobody else is
 * harmed, and a hole gives the guest a good page in its place.
 *
 * The kernel logs each poisoned page.  Those are unpoisoned in the end if the
 * kernel has CONFIG_HWPOISON_INJECT, else they stay in HardwareCorrupted.
 */
#include <sys/prctl.h>

#include "guestmem_convert.h"
#include "kvm_test_harness.h"

#define NR_PAGES	8
#define BAD		3

#define INJECT		"/sys/kernel/debug/hwpoison/corrupt-pfn"
#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

struct ward {
	struct kvm_vcpu *vcpu;
	size_t page_size;
	size_t size;
	u64 corrupted_kib;
	u64 pfn;
	char *mem;
	int fd;
};

static gpa_t page_gpa(const struct ward *w, u64 page)
{
	return GUESTMEM_GPA + page * w->page_size;
}

/* Each page has its own content. */
static u64 page_seed(u64 page)
{
	return 0x100 + page;
}

static void guest_do_page(const struct ward *w, enum guest_op op, u64 page)
{
	guest_do(w->vcpu, op, page_gpa(w, page), w->page_size, page_seed(page));
}

static bool read_hardware_corrupted(u64 *kib)
{
	char value[32];

	if (!read_shown("/proc/meminfo", "HardwareCorrupted", value, sizeof(value)))
		return false;
	*kib = strtoul(value, NULL, 0);
	return true;
}

static u64 hardware_corrupted_kib(void)
{
	u64 kib;

	TEST_ASSERT(read_hardware_corrupted(&kib), "no HardwareCorrupted in meminfo");
	return kib;
}

static void create_ward(struct ward *w, unsigned long vm_type, u64 flags)
{
	struct kvm_vm *vm;
	u64 page;

	w->corrupted_kib = hardware_corrupted_kib();
	w->page_size = getpagesize();
	w->size = NR_PAGES * w->page_size;

	vm = create_vm_for(vm_type, w->size, guest_main, &w->vcpu);
	w->fd = vm_create_guest_memfd(vm, w->size, flags);
	bind_file(vm, GUESTMEM_GPA, w->size, w->fd, 0);
	virt_map(vm, GUESTMEM_GPA, GUESTMEM_GPA, w->size / vm->page_size);

	for (page = 0; page < NR_PAGES; page++)
		guest_do_page(w, GUEST_FILL, page);
	if (flags & GUEST_MEMFD_FLAG_INIT_SHARED)
		w->mem = map_file(w->fd, w->size);
}

static int write_number(const char *path, u64 number)
{
	int fd = open(path, O_WRONLY);
	int len, err = 0;
	char text[32];

	if (fd < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "0x%lx", number);
	if (write(fd, text, len) != len)
		err = -errno;
	kvm_close(fd);
	return err;
}

/* The file may live on for a moment, while the guests are told of the poison. */
static void unpoison(u64 pfn)
{
	int tries = 0;
	int err;

	do {
		err = write_number(UNPOISON, pfn);
	} while (err && ++tries < 100 && !usleep(10000));
	TEST_ASSERT(!err, "pfn 0x%lx cannot be unpoisoned, error %d", pfn, err);
}

static void free_ward(struct ward *w)
{
	if (w->mem)
		kvm_munmap(w->mem, w->size);
	close(w->fd);
	kvm_vm_free(w->vcpu->vm);

	if (!w->pfn || access(UNPOISON, W_OK))
		return;

	unpoison(w->pfn);
	TEST_ASSERT(hardware_corrupted_kib() == w->corrupted_kib,
		    "HardwareCorrupted is %lu kB and was %lu kB before",
		    hardware_corrupted_kib(), w->corrupted_kib);
}

/*
 * The kernel says EBUSY, as the file keeps the page.  Whoever has a dirty page
 * mapped gets SIGBUS at once instead.
 */
static void poison_mapped_page(struct ward *w)
{
	char *page = w->mem + BAD * w->page_size;
	struct sigaction old, act = { .sa_handler = expect_sigbus_handler };

	READ_ONCE(*page);
	w->pfn = mapped_pfn(page);

	sigaction(SIGBUS, &act, &old);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1))
		TEST_ASSERT(!madvise(page, w->page_size, MADV_HWPOISON) ||
			    errno == EBUSY, "MADV_HWPOISON fails with errno %d", errno);
	sigaction(SIGBUS, &old, NULL);
}

static u64 pfn_from_debugfs(int fd, u64 want)
{
	u64 index, order, pfn, found = 0;
	char path[64];
	FILE *f;

	guestmem_debugfs_path(fd, "pfns", path, sizeof(path));
	f = fopen(path, "r");
	TEST_ASSERT(f, "cannot open %s, errno %d", path, errno);
	while (!found && fscanf(f, "%lu %lu %lx", &index, &order, &pfn) == 3) {
		if (want >= index && want < index + (1ull << order))
			found = pfn + want - index;
	}
	fclose(f);
	TEST_ASSERT(found, "%s has no page %lu", path, want);
	return found;
}

static void inject(u64 pfn)
{
	int err = write_number(INJECT, pfn);

	TEST_ASSERT(!err || err == -EBUSY, "%s: error %d for 0x%lx", INJECT, err,
		    pfn);
}

static void poison_private_page(struct ward *w)
{
	w->pfn = pfn_from_debugfs(w->fd, BAD);
	inject(w->pfn);
}

static void poison(struct ward *w)
{
	if (w->mem)
		poison_mapped_page(w);
	else
		poison_private_page(w);
}

static const char *why_not_poison(bool private)
{
	u64 kib;

	if (geteuid())
		return "only root may poison memory";
	if (!read_hardware_corrupted(&kib))
		return "the kernel lacks CONFIG_MEMORY_FAILURE";
	if (private && access(INJECT, W_OK))
		return "the kernel lacks CONFIG_HWPOISON_INJECT, or debugfs is not mounted";
	return NULL;
}

/* Runs a command that touches the bad page, until KVM says so. */
static void expect_guest_ehwpoison(struct ward *w, enum guest_op op, u64 seed)
{
	struct kvm_run *run = w->vcpu->run;
	int ret;

	guest_command_set(w->vcpu, op, page_gpa(w, BAD), w->page_size, seed);
	ret = _vcpu_run(w->vcpu);

	TEST_ASSERT(ret == -1 && errno == EHWPOISON,
		    "KVM_RUN on poison: got %d errno %d, expected EHWPOISON",
		    ret, errno);
	TEST_ASSERT_KVM_EXIT_REASON(w->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.gpa, page_gpa(w, BAD));
	TEST_ASSERT_EQ(run->memory_fault.size, w->page_size);
}

FIXTURE(guestmem_poison) {
	struct ward ward;
};

FIXTURE_VARIANT(guestmem_poison) {
	unsigned long vm_type;
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_poison, shared) {
	.flags = GUESTMEM_SHARED,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(guestmem_poison, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};
#endif

FIXTURE_SETUP(guestmem_poison)
{
	const char *why = why_not_poison(variant->vm_type != VM_TYPE_DEFAULT);

	if (why)
		SKIP(return, "%s", why);
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	create_ward(&self->ward, variant->vm_type, variant->flags);
}

FIXTURE_TEARDOWN(guestmem_poison)
{
	free_ward(&self->ward);
}

TEST_F_TIMEOUT(guestmem_poison, guest_read_gets_ehwpoison, 120)
{
	poison(&self->ward);
	expect_guest_ehwpoison(&self->ward, GUEST_CHECK, page_seed(BAD));
}

TEST_F_TIMEOUT(guestmem_poison, guest_write_gets_ehwpoison, 120)
{
	poison(&self->ward);
	expect_guest_ehwpoison(&self->ward, GUEST_FILL, page_seed(BAD));
}

TEST_F_TIMEOUT(guestmem_poison, pre_fault_stops_at_it, 120)
{
	struct ward *w = &self->ward;
	gpa_t end = GUESTMEM_GPA + w->size;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "KVM cannot pre-fault");

	poison(w);
	expect_pre_fault_stops(w->vcpu, GUESTMEM_GPA, w->size, page_gpa(w, BAD), EHWPOISON);
	pre_fault(w->vcpu, page_gpa(w, BAD + 1), end - page_gpa(w, BAD + 1));
	guest_do_page(w, GUEST_CHECK, BAD - 1);
	guest_do_page(w, GUEST_CHECK, BAD + 1);

	punch_pages(w->fd, BAD, 1);
	pre_fault(w->vcpu, GUESTMEM_GPA, w->size);
	expect_pages(w->fd, NR_PAGES, "with a new page in the place of poison");
}

TEST_F_TIMEOUT(guestmem_poison, guest_keeps_the_neighbours, 120)
{
	struct ward *w = &self->ward;
	u64 page;

	poison(w);
	for (page = 0; page < NR_PAGES; page++) {
		if (page != BAD)
			guest_do_page(w, GUEST_CHECK, page);
	}
}

TEST_F_TIMEOUT(guestmem_poison, fallocate_does_not_hide_it, 120)
{
	struct ward *w = &self->ward;

	poison(w);
	allocate_pages(w->fd, 0, NR_PAGES);
	expect_guest_ehwpoison(w, GUEST_CHECK, page_seed(BAD));
}

TEST_F_TIMEOUT(guestmem_poison, hole_replaces_the_page, 120)
{
	struct ward *w = &self->ward;

	poison(w);
	expect_guest_ehwpoison(w, GUEST_CHECK, 0);
	punch_pages(w->fd, BAD, 1);

	/* Goes on with the check that failed, of a page that is zero now. */
	vcpu_run(w->vcpu);
	expect_guest_done(w->vcpu);
}

TEST_F_TIMEOUT(guestmem_poison, closed_file_leaves_it_poisoned, 120)
{
	struct ward *w = &self->ward;
	u64 before = w->corrupted_kib;

	poison(w);
	if (w->mem)
		kvm_munmap(w->mem, w->size);
	w->mem = NULL;
	kvm_free_fd(w->fd);

	TEST_ASSERT(hardware_corrupted_kib() == before + w->page_size / SZ_1K,
		    "HardwareCorrupted went from %lu kB to %lu kB for one page",
		    before, hardware_corrupted_kib());
}

struct reader {
	struct kvm_vcpu *vcpu;
	u64 rounds;
};

/* The guest reads the page that its command names, until it cannot. */
static void *read_until_error(void *arg)
{
	struct reader *reader = arg;

	while (!_vcpu_run(reader->vcpu)) {
		expect_guest_done(reader->vcpu);
		WRITE_ONCE(reader->rounds, reader->rounds + 1);
	}
	TEST_ASSERT(errno == EHWPOISON,
		    "vCPU on poison: errno %d, expected EHWPOISON", errno);
	return NULL;
}

/* The page is in the guest's page table, and has to leave it. */
TEST_F_TIMEOUT(guestmem_poison, running_vcpu_is_stopped, 120)
{
	struct ward *w = &self->ward;
	struct reader reader = { .vcpu = w->vcpu };
	pthread_t thread;

	guest_command_set(w->vcpu, GUEST_CHECK, page_gpa(w, BAD), w->page_size,
			  page_seed(BAD));
	kvm_pthread_create(&thread, NULL, read_until_error, &reader);
	while (READ_ONCE(reader.rounds) < 3)
		usleep(1000);

	poison(w);
	kvm_pthread_join(thread, NULL);
	TEST_ASSERT_KVM_EXIT_REASON(w->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(w->vcpu->run->memory_fault.gpa, page_gpa(w, BAD));
}

FIXTURE(guestmem_poison_host) {
	struct ward ward;
};

FIXTURE_SETUP(guestmem_poison_host)
{
	const char *why = why_not_poison(false);

	if (why)
		SKIP(return, "%s", why);

	create_ward(&self->ward, VM_TYPE_DEFAULT, GUESTMEM_SHARED);
}

FIXTURE_TEARDOWN(guestmem_poison_host)
{
	free_ward(&self->ward);
}

static siginfo_t sigbus_info;

static void sigbus_handler(int sig, siginfo_t *info, void *context)
{
	sigbus_info = *info;
	siglongjmp(expect_sigbus_jmpbuf, 1);
}

static void expect_memory_error(char *addr)
{
	struct sigaction old, act = {
		.sa_sigaction = sigbus_handler,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGBUS, &act, &old);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1)) {
		READ_ONCE(*addr);
		TEST_FAIL("host reads poison at %p without SIGBUS", addr);
	}
	sigaction(SIGBUS, &old, NULL);

	TEST_ASSERT(sigbus_info.si_code == BUS_MCEERR_AR,
		    "SIGBUS code is %d, expected BUS_MCEERR_AR", sigbus_info.si_code);
	TEST_ASSERT(sigbus_info.si_addr == addr, "SIGBUS address is %p, expected %p",
		    sigbus_info.si_addr, addr);
}

TEST_F_TIMEOUT(guestmem_poison_host, access_is_sigbus, 120)
{
	struct ward *w = &self->ward;

	poison(w);
	expect_memory_error(w->mem + BAD * w->page_size);
}

TEST_F_TIMEOUT(guestmem_poison_host, access_through_a_new_mapping_is_sigbus, 120)
{
	struct ward *w = &self->ward;
	char *mem;

	poison(w);
	mem = map_file(w->fd, w->size);
	expect_memory_error(mem + BAD * w->page_size);
	kvm_munmap(mem, w->size);
}

/* A VMM that asked for it learns of poison in what its guest wrote. */
TEST_F_TIMEOUT(guestmem_poison_host, early_kill_process_is_told, 120)
{
	struct ward *w = &self->ward;
	char *page = w->mem + BAD * w->page_size;
	struct sigaction act = {
		.sa_sigaction = sigbus_handler,
		.sa_flags = SA_SIGINFO,
	};

	READ_ONCE(*page);
	w->pfn = mapped_pfn(page);
	if (!w->pfn || access(INJECT, W_OK))
		SKIP(return, "the kernel lacks CONFIG_HWPOISON_INJECT, or debugfs is not mounted");

	sigaction(SIGBUS, &act, NULL);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1)) {
		inject(w->pfn);
		TEST_FAIL("the process was not told of the poison");
	}
	TEST_ASSERT(sigbus_info.si_code == BUS_MCEERR_AO,
		    "SIGBUS code is %d, expected BUS_MCEERR_AO", sigbus_info.si_code);
	TEST_ASSERT(sigbus_info.si_addr == page, "SIGBUS address is %p, expected %p",
		    sigbus_info.si_addr, page);
}

TEST_F_TIMEOUT(guestmem_poison_host, neighbours_are_kept, 120)
{
	struct ward *w = &self->ward;
	u64 page;

	poison(w);
	for (page = 0; page < NR_PAGES; page++) {
		if (page != BAD)
			expect_pattern(w->mem + page * w->page_size, w->page_size,
				       page_seed(page), "a neighbour of poison");
	}
}

TEST_F_TIMEOUT(guestmem_poison_host, hole_replaces_the_page, 120)
{
	struct ward *w = &self->ward;

	poison(w);
	punch_pages(w->fd, BAD, 1);

	/* The old mapping remembers the poison until it is gone. */
	kvm_munmap(w->mem, w->size);
	w->mem = map_file(w->fd, w->size);
	expect_pattern(w->mem + BAD * w->page_size, w->page_size, 0,
		       "the page in place of the poisoned one");
}

/* A page that is converted in place after it became poisoned. */
FIXTURE(guestmem_poison_convert) {
	struct ward ward;
};

FIXTURE_VARIANT(guestmem_poison_convert) {
	bool private;
};

FIXTURE_VARIANT_ADD(guestmem_poison_convert, from_private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(guestmem_poison_convert, from_shared) {
	.private = false,
};

FIXTURE_SETUP(guestmem_poison_convert)
{
	const char *why = why_not_poison(variant->private);

	if (!convert_available())
		why = "kvm.gmem_in_place_conversion is off";
	if (why)
		SKIP(return, "%s", why);

	create_ward(&self->ward, KVM_X86_SW_PROTECTED_VM, GUESTMEM_SHARED);
	if (variant->private) {
		make_private(self->ward.fd, BAD, 1);
		poison_private_page(&self->ward);
	} else {
		poison_mapped_page(&self->ward);
	}
}

FIXTURE_TEARDOWN(guestmem_poison_convert)
{
	free_ward(&self->ward);
}

TEST_F_TIMEOUT(guestmem_poison_convert, nobody_gets_the_page, 120)
{
	struct ward *w = &self->ward;
	bool states[NR_PAGES] = {};

	if (variant->private) {
		make_shared(w->fd, 0, NR_PAGES);
	} else {
		expect_refused_at(w->fd, 0, NR_PAGES, true, EHWPOISON, BAD);
		expect_refused_at(w->fd, BAD, 1, true, EHWPOISON, BAD);
	}
	expect_states(w->fd, states, NR_PAGES, "after converting poison");
	expect_host_refused(w->mem + BAD * w->page_size);
	expect_guest_ehwpoison(w, GUEST_CHECK, page_seed(BAD));
}

TEST_F_TIMEOUT(guestmem_poison_convert, neighbours_and_a_new_page_convert, 120)
{
	struct ward *w = &self->ward;

	make_private(w->fd, 0, BAD);
	make_private(w->fd, BAD + 1, NR_PAGES - BAD - 1);
	guest_do_page(w, GUEST_CHECK, BAD - 1);
	guest_do_page(w, GUEST_CHECK, BAD + 1);

	punch_pages(w->fd, BAD, 1);
	make_private(w->fd, 0, NR_PAGES);
	make_shared(w->fd, 0, NR_PAGES);
	/* The old mapping remembers the poison until it is gone. */
	kvm_munmap(w->mem, w->size);
	w->mem = map_file(w->fd, w->size);
	expect_pattern(w->mem + BAD * w->page_size, w->page_size, 0,
		       "the page in place of the poisoned one");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
