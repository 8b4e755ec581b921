// SPDX-License-Identifier: GPL-2.0-only
/*
 * A block goes back to its pool whatever happens to its pages: they are pinned, go bad,
 * or all of the VMM is killed.
 */
#include "guestmem_holder.h"
#include "guestmem_restructure.h"
#include "kvm_test_harness.h"

#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

/* A page that someone in the host holds. */
FIXTURE(guestmem_restructure_pin) {
	struct restructure r;
	struct holder holder;
};

FIXTURE_VARIANT(guestmem_restructure_pin) {
	struct holder holder;
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_pin, gup_test_2M) {
	.holder = HOLDER_GUP_TEST,
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_pin, gup_test_1G) {
	.holder = HOLDER_GUP_TEST,
	.log2 = LOG2_1G,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_pin, vmsplice_2M) {
	.holder = HOLDER_VMSPLICE,
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_pin, vmsplice_1G) {
	.holder = HOLDER_VMSPLICE,
	.log2 = LOG2_1G,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_pin, io_uring_2M) {
	.holder = HOLDER_IO_URING,
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_pin, io_uring_1G) {
	.holder = HOLDER_IO_URING,
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_restructure_pin)
{
	const char *why = why_no_pool(1ull << variant->log2, NR_BLOCKS);

	self->holder = variant->holder;
	why = why ?: self->holder.open(&self->holder);
	if (why)
		SKIP(return, "%s", why);

	start_bed(&self->r, variant->log2, 0);
	guest_writes(&self->r);
	share(&self->r, TARGET, 2);
	self->holder.hold(&self->holder, near_word(&self->r, TARGET), SZ_4K);
}

FIXTURE_TEARDOWN(guestmem_restructure_pin)
{
	forget_file(&self->r);
	forget_vm(&self->r);
	holder_close(&self->holder);
	expect_blocks_back(&self->r, "with the holder gone");
}

TEST_F_TIMEOUT(guestmem_restructure_pin, held_page_stays_shared, 240)
{
	struct restructure *r = &self->r;
	u64 page = r->near + TARGET;

	expect_refused_at(r->bed.fd, page, 1, true, EAGAIN, page);
	expect_refused_at(r->bed.fd, 0, r->block, true, EAGAIN, page);
	expect_split(r, 1);
	TEST_ASSERT_EQ(*near_word(r, TARGET + 1), pattern_word(NEAR_SEED, TARGET + 1));
	guest_finds(r);

	/* The page beside it is nobody's business. */
	take_back(r, TARGET + 1, 1);
	expect_split(r, 1);
	self->holder.release(&self->holder);
	take_back(r, TARGET, 1);
	expect_split(r, 0);
	guest_finds(r);
}

TEST_F_TIMEOUT(guestmem_restructure_pin, hole_over_a_held_page_is_refused, 240)
{
	struct restructure *r = &self->r;
	struct mappings before;

	guest_finds(r);
	before = read_mappings(r);
	expect_failure(punch_bytes(r->bed.fd, 0, r->bed.unit), EAGAIN,
		       "a hole over a held page");
	expect_failure(punch_bytes(r->bed.fd, 0, r->bed.size), EAGAIN,
		       "a hole over a held page and more");
	expect_split(r, 1);
	expect_mappings(r, &before, 0, 0, 0);
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	guest_finds(r);

	self->holder.release(&self->holder);
	punch_blocks(r->bed.fd, r->bed.unit, 0, 1);
	expect_pages(r->bed.fd, 0, "after a hole");
}

/* The block that the page is part of comes last, and not before the page is let go. */
TEST_F_TIMEOUT(guestmem_restructure_pin, block_outlives_file_and_vm, 240)
{
	struct restructure *r = &self->r;

	forget_file(r);
	expect_pool(r->bed.unit, &r->before, 1, 0, "with the file closed");
	forget_vm(r);
	usleep(200000);
	expect_pool(r->bed.unit, &r->before, 1, 0, "with the VM gone");

	self->holder.release(&self->holder);
	expect_blocks_back(r, "with the page let go");
}

/* The pool has another page for the next file. */
TEST_F_TIMEOUT(guestmem_restructure_pin, next_file_does_without_the_held_block, 240)
{
	struct restructure *r = &self->r;
	u64 *mem;
	int fd;

	forget_file(r);
	fd = create_huge_file(r->bed.vm, r->bed.unit, GUEST_MEMFD_FLAG_MMAP, variant->log2);
	make_shared(fd, 3, 1);
	mem = map_file(fd, r->bed.unit);
	TEST_ASSERT_EQ(mem[3 * SZ_4K / sizeof(*mem)], 0);
	kvm_munmap(mem, r->bed.unit);
	kvm_close(fd);
	self->holder.release(&self->holder);
}

/* A page that is bad, found where the host has it mapped. */
FIXTURE(guestmem_restructure_poison) {
	struct restructure r;
	u64 pfn;
};

FIXTURE_VARIANT(guestmem_restructure_poison) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_poison, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_poison, 1G) {
	.log2 = LOG2_1G,
};

/* The kernel says EBUSY or SIGBUS, as the file keeps the page and this process maps it. */
static void poison_mapped_page(struct restructure *r)
{
	struct sigaction old, act = { .sa_handler = expect_sigbus_handler };

	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	sigaction(SIGBUS, &act, &old);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1))
		TEST_ASSERT(!madvise(near_word(r, TARGET), SZ_4K, MADV_HWPOISON) ||
			    errno == EBUSY, "MADV_HWPOISON fails with errno %d", errno);
	sigaction(SIGBUS, &old, NULL);
}

FIXTURE_SETUP(guestmem_restructure_poison)
{
	const char *why = why_no_pool(1ull << variant->log2, NR_BLOCKS);

	if (why)
		SKIP(return, "%s", why);
	if (access(UNPOISON, W_OK))
		SKIP(return, "needs root, CONFIG_HWPOISON_INJECT and debugfs");

	start_bed(&self->r, variant->log2, 0);
	guest_writes(&self->r);
	share(&self->r, TARGET, 2);
	self->pfn = shown_pfn(self->r.bed.fd, self->r.near + TARGET);
	poison_mapped_page(&self->r);
}

static void unpoison(u64 pfn)
{
	char text[32];
	int tries = 0;
	int err;

	snprintf(text, sizeof(text), "0x%lx", pfn);
	do {
		err = write_text(UNPOISON, text);
	} while (err && ++tries < 100 && !usleep(10000));
	TEST_ASSERT(!err, "pfn %s cannot be unpoisoned, error %d", text, err);
}

FIXTURE_TEARDOWN(guestmem_restructure_poison)
{
	forget_file(&self->r);
	forget_vm(&self->r);
	unpoison(self->pfn);
	expect_blocks_back(&self->r, "with the page unpoisoned");
}

static void expect_ehwpoison(struct restructure *r, u64 page)
{
	gpa_t gpa = GUESTMEM_GPA + (r->near + page) * SZ_4K;

	guest_stride_set(r->bed.vm, GUEST_CHECK, gpa, SZ_4K, 1, NEAR_SEED);
	expect_failure(_vcpu_run(r->bed.vcpu), EHWPOISON, "KVM_RUN on poison");
	TEST_ASSERT_KVM_EXIT_REASON(r->bed.vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(r->bed.vcpu->run->memory_fault.gpa, gpa);
	vcpu_arch_set_entry_point(r->bed.vcpu, guest_stride_main);
}

TEST_F_TIMEOUT(guestmem_restructure_poison, neighbours_stay_usable, 240)
{
	struct restructure *r = &self->r;

	host_is_refused(r, TARGET);
	TEST_ASSERT_EQ(*near_word(r, TARGET + 1), pattern_word(NEAR_SEED, TARGET + 1));
	expect_ehwpoison(r, TARGET);
	guest_near(r, GUEST_CHECK, 0, TARGET, NEAR_SEED);
	guest_second(r, GUEST_FILL);
	share(r, TARGET + 2, PIECE - TARGET - 2);
	take_back(r, TARGET + 1, PIECE - TARGET - 1);
	guest_near(r, GUEST_CHECK, 0, TARGET, NEAR_SEED);
	expect_split(r, 1);
}

TEST_F_TIMEOUT(guestmem_restructure_poison, bad_page_does_not_become_private, 240)
{
	struct restructure *r = &self->r;
	u64 page = r->near + TARGET;

	expect_refused_at(r->bed.fd, page, 1, true, EHWPOISON, page);
	expect_refused_at(r->bed.fd, 0, NR_BLOCKS * r->block, true, EHWPOISON, page);
	expect_split(r, 1);
	guest_near(r, GUEST_CHECK, 0, TARGET, NEAR_SEED);
}

static void expect_not_in_file(int fd, u64 block, u64 nr, u64 bad)
{
	u64 i, pfn;

	for (i = 0; i < nr; i++) {
		pfn = shown_pfn(fd, i * block);
		TEST_ASSERT(pfn, "block %lu is not there", i);
		TEST_ASSERT(bad < pfn || bad >= pfn + block,
			    "block %lu is 0x%lx, with poison at 0x%lx", i, pfn, bad);
	}
}

/* Whoever takes all there is does not get it. */
TEST_F_TIMEOUT(guestmem_restructure_poison, block_never_comes_back_as_a_good_one, 240)
{
	struct restructure *r = &self->r;
	u64 nr = r->before.free - r->before.resv - 1;
	int fd;

	forget_file(r);
	TEST_ASSERT_EQ(pool_available(r->bed.unit), nr);
	fd = create_huge_file(r->bed.vm, nr * r->bed.unit, 0, variant->log2);
	allocate_blocks(fd, r->bed.unit, 0, nr);
	expect_not_in_file(fd, r->block, nr, self->pfn);
	kvm_close(fd);
}

/* A hole puts a good block in the place of the bad one; who maps the file anew gets it. */
TEST_F_TIMEOUT(guestmem_restructure_poison, hole_replaces_the_block, 240)
{
	struct restructure *r = &self->r;

	punch_blocks(r->bed.fd, r->bed.unit, 0, 1);
	kvm_munmap(r->mem, r->bed.size);
	r->mem = map_file(r->bed.fd, r->bed.size);
	TEST_ASSERT_EQ(*near_word(r, TARGET), 0);
	TEST_ASSERT(shown_pfn(r->bed.fd, r->near + TARGET) != self->pfn,
		    "the page is the poisoned one");
	guest_near(r, GUEST_CHECK, 0, PIECE, 0);
}

/* A VMM that is killed, wherever it is. */
FIXTURE(guestmem_restructure_kill) {
	struct restructure r;
};

FIXTURE_VARIANT(guestmem_restructure_kill) {
	u8 log2;
	int nr;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_kill, 2M) {
	.log2 = LOG2_2M,
	.nr = 12,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_kill, 1G) {
	.log2 = LOG2_1G,
	.nr = 6,
};

FIXTURE_SETUP(guestmem_restructure_kill)
{
	const char *why = why_no_pool(1ull << variant->log2, NR_BLOCKS);

	if (why)
		SKIP(return, "%s", why);

	self->r.bed.unit = 1ull << variant->log2;
	self->r.before = read_pool(self->r.bed.unit);
}

FIXTURE_TEARDOWN(guestmem_restructure_kill)
{
}

static void *guest_writes_forever(void *arg)
{
	struct restructure *r = arg;

	for (;;)
		guest_near(r, GUEST_FILL, TARGET + 1, PIECE - TARGET - 1, NEAR_SEED);
	return NULL;
}

/* Says so once its file is split and mapped, and does not end by itself. */
static void run_vmm(u8 log2, int ready)
{
	struct restructure r;
	pthread_t thread;
	char byte = 0;

	start_bed(&r, log2, 0);
	guest_writes(&r);
	share(&r, TARGET, 1);
	kvm_pthread_create(&thread, NULL, guest_writes_forever, &r);
	for (;;) {
		WRITE_ONCE(*near_word(&r, TARGET), 1);
		if (write(ready, &byte, 1) != 1)
			exit(KSFT_FAIL);
		take_back(&r, TARGET, 1);
		share(&r, TARGET, 1);
	}
}

static void kill_vmm(u8 log2, u32 us)
{
	int fds[2], status;
	char byte;
	pid_t pid;

	TEST_ASSERT(!pipe(fds), __KVM_SYSCALL_ERROR("pipe()", -1));
	pid = fork();
	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid) {
		kvm_close(fds[0]);
		run_vmm(log2, fds[1]);
	}

	kvm_close(fds[1]);
	TEST_ASSERT_EQ(read(fds[0], &byte, 1), 1);
	usleep(us);
	TEST_ASSERT(!kill(pid, SIGKILL), __KVM_SYSCALL_ERROR("kill()", -1));
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "the VMM ended with status 0x%x", status);
	kvm_close(fds[0]);
}

TEST_F_TIMEOUT(guestmem_restructure_kill, pool_has_its_pages_back, 480)
{
	int i;

	for (i = 0; i < variant->nr; i++) {
		kill_vmm(variant->log2, kvm_random_u32_in_range(&kvm_rng, 0, 300000));
		expect_blocks_back(&self->r, "after the VMM was killed");
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
