// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of huge pages that the host maps where they are shared: a block is split
 * around its shared pages and put together again, guest and host keep what they
 * wrote, and a block goes back to its pool whatever happens to its pages.
 */
#include "guestmem_convert.h"
#include "guestmem_holder.h"
#include "guestmem_hugetlb.h"
#include "guestmem_signal.h"
#include "kvm_test_harness.h"

#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

#define PIECE		512
#define ORDER_2M	9
#define NR_BLOCKS	2ull

/*
 * What is looked at: each page of one piece of 2M in the first block, by its first
 * word, and places all over the block, by the second word of their page.  The page
 * that is shared is one of the former.  A second block is there where a test says so:
 * clearing 1G takes its time.
 */
#define NEAR_SEED	1
#define FAR_SEED	2
#define TARGET		7

struct restructure {
	struct huge_bed bed;
	struct pool before;
	unsigned int order;
	u64 block;
	u64 near;
	u64 *mem;
};

static void start_bed(struct restructure *r, u8 log2, u64 flags)
{
	r->before = read_pool(1ull << log2);
	r->bed = __create_huge_bed(KVM_X86_SW_PROTECTED_VM, log2, NR_BLOCKS << log2,
				   GUEST_MEMFD_FLAG_MMAP | flags);
	bind_huge_bed(&r->bed);
	r->order = log2 - 12;
	r->block = r->bed.unit / SZ_4K;
	r->near = r->block > PIECE ? 5 * PIECE : 0;
	r->mem = map_file(r->bed.fd, r->bed.size);
}

static void forget_file(struct restructure *r)
{
	if (r->mem)
		kvm_munmap(r->mem, r->bed.size);
	r->mem = NULL;
	if (r->bed.fd >= 0)
		kvm_close(r->bed.fd);
	r->bed.fd = -1;
}

static void forget_vm(struct restructure *r)
{
	if (r->bed.vm)
		kvm_vm_free(r->bed.vm);
	r->bed.vm = NULL;
}

/* In the background, if someone held a page for a moment. */
static void expect_blocks_back(struct restructure *r, const char *when)
{
	expect_pool_back(r->bed.unit, &r->before, when);
}

static void guest_near(struct restructure *r, enum guest_op op, u64 first, u64 nr, u64 seed)
{
	guest_strides(r->bed.vcpu, op, GUESTMEM_GPA + (r->near + first) * SZ_4K, SZ_4K, nr,
		      seed);
}

static u64 blocks_there(struct restructure *r)
{
	return file_stat(r->bed.fd).st_blocks / (r->bed.unit / 512);
}

static void guest_far(struct restructure *r, enum guest_op op)
{
	guest_strides(r->bed.vcpu, op, GUESTMEM_GPA + sizeof(u64), block_stride(&r->bed),
		      PIECE, FAR_SEED);
}

static void guest_second(struct restructure *r, enum guest_op op)
{
	guest_strides(r->bed.vcpu, op, GUESTMEM_GPA + r->bed.unit, block_stride(&r->bed),
		      PIECE, FAR_SEED);
}

static void guest_writes(struct restructure *r)
{
	guest_near(r, GUEST_FILL, 0, PIECE, NEAR_SEED);
	guest_far(r, GUEST_FILL);
}

static void guest_finds(struct restructure *r)
{
	guest_near(r, GUEST_CHECK, 0, PIECE, NEAR_SEED);
	guest_far(r, GUEST_CHECK);
}

static u64 *near_word(struct restructure *r, u64 page)
{
	return r->mem + (r->near + page) * (SZ_4K / sizeof(u64));
}

static void host_finds(struct restructure *r, u64 first, u64 nr, u64 seed)
{
	u64 i;

	for (i = 0; i < nr; i++)
		TEST_ASSERT_EQ(READ_ONCE(*near_word(r, first + i)), pattern_word(seed, i));
}

static void host_is_refused(struct restructure *r, u64 page)
{
	TEST_EXPECT_SIGBUS(READ_ONCE(*near_word(r, page)));
}

static void share(struct restructure *r, u64 page, u64 nr)
{
	make_shared(r->bed.fd, r->near + page, nr);
}

static void take_back(struct restructure *r, u64 page, u64 nr)
{
	make_private(r->bed.fd, r->near + page, nr);
}

/* So many pieces of the first block are single pages; if there is a second, it is whole. */
static void __expect_split(struct restructure *r, u64 pieces, int line)
{
	u64 whole = blocks_there(r) - !!pieces;

	if (r->order > ORDER_2M) {
		__expect_folios(r->bed.fd, r->order, whole, line);
		whole = pieces ? r->block / PIECE - pieces : 0;
	}
	__expect_folios(r->bed.fd, ORDER_2M, whole, line);
	__expect_folios(r->bed.fd, 0, pieces * PIECE, line);
}

#define expect_split(r, pieces)	__expect_split(r, pieces, __LINE__)

struct mappings {
	u64 small;
	u64 medium;
	u64 large;
};

static struct mappings read_mappings(struct restructure *r)
{
	return (struct mappings) {
		.small = vm_get_stat(r->bed.vm, pages_4k),
		.medium = vm_get_stat(r->bed.vm, pages_2m),
		.large = vm_get_stat(r->bed.vm, pages_1g),
	};
}

static void __expect_mappings(struct restructure *r, const struct mappings *before,
			      long small, long medium, long large, int line)
{
	struct mappings now = read_mappings(r);

	TEST_ASSERT(now.small - before->small == small &&
		    now.medium - before->medium == medium &&
		    now.large - before->large == large,
		    "line %d: %+ld, %+ld and %+ld mappings of 4K, 2M and 1G, expected %+ld, %+ld and %+ld",
		    line, (long)(now.small - before->small),
		    (long)(now.medium - before->medium), (long)(now.large - before->large),
		    small, medium, large);
}

#define expect_mappings(r, before, small, medium, large)	\
	__expect_mappings(r, before, small, medium, large, __LINE__)

FIXTURE(guestmem_restructure) {
	struct restructure r;
};

FIXTURE_VARIANT(guestmem_restructure) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_restructure, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure, 1G) {
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_restructure)
{
	const char *why = why_no_pool(1ull << variant->log2, NR_BLOCKS);

	if (why)
		SKIP(return, "%s", why);

	start_bed(&self->r, variant->log2, 0);
}

FIXTURE_TEARDOWN(guestmem_restructure)
{
	forget_file(&self->r);
	forget_vm(&self->r);
	expect_blocks_back(&self->r, "after the file was closed");
}

TEST_F_TIMEOUT(guestmem_restructure, block_is_split_around_a_shared_page, 240)
{
	struct restructure *r = &self->r;

	guest_writes(r);
	expect_split(r, 0);
	host_is_refused(r, TARGET);

	share(r, TARGET, 1);
	expect_split(r, 1);
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	host_is_refused(r, TARGET - 1);
	host_is_refused(r, TARGET + 1);
	guest_finds(r);

	WRITE_ONCE(*near_word(r, TARGET), pattern_word(3, 0));
	guest_near(r, GUEST_CHECK, TARGET, 1, 3);
	guest_near(r, GUEST_FILL, TARGET, 1, 4);
	host_finds(r, TARGET, 1, 4);
	guest_near(r, GUEST_CHECK, 0, TARGET, NEAR_SEED);
	guest_far(r, GUEST_CHECK);
	expect_split(r, 1);
}

TEST_F_TIMEOUT(guestmem_restructure, block_is_whole_again_with_its_contents, 240)
{
	struct restructure *r = &self->r;

	guest_writes(r);
	share(r, TARGET, 1);
	WRITE_ONCE(*near_word(r, TARGET), pattern_word(3, 0));
	take_back(r, TARGET, 1);
	expect_split(r, 0);
	host_is_refused(r, TARGET);

	guest_near(r, GUEST_CHECK, TARGET, 1, 3);
	guest_near(r, GUEST_CHECK, 0, TARGET, NEAR_SEED);
	guest_far(r, GUEST_CHECK);
}

TEST_F_TIMEOUT(guestmem_restructure, split_and_merge_can_be_repeated, 240)
{
	struct restructure *r = &self->r;
	u64 i;

	guest_writes(r);
	for (i = 0; i < 10; i++) {
		share(r, i * 50, 1);
		expect_split(r, 1);
		TEST_ASSERT_EQ(*near_word(r, i * 50), pattern_word(NEAR_SEED, i * 50));
		take_back(r, i * 50, 1);
		expect_split(r, 0);
	}
	guest_finds(r);
}

/* What the guest touches again is mapped as large as it is. */
TEST_F_TIMEOUT(guestmem_restructure, guest_gets_its_large_mappings_back, 240)
{
	struct restructure *r = &self->r;
	bool giant = r->order > ORDER_2M;
	struct mappings before;

	guest_writes(r);
	guest_finds(r);
	before = read_mappings(r);

	share(r, TARGET, 1);
	expect_mappings(r, &before, 0, giant ? 0 : -1, giant ? -1 : 0);
	guest_finds(r);
	expect_mappings(r, &before, PIECE, giant ? 511 : -1, giant ? -1 : 0);

	take_back(r, TARGET, 1);
	expect_mappings(r, &before, 0, giant ? 0 : -1, giant ? -1 : 0);
	guest_finds(r);
	expect_mappings(r, &before, 0, 0, 0);
}

/* A second page goes without anything but its own mapping. */
TEST_F_TIMEOUT(guestmem_restructure, sharing_unmaps_nothing_else, 240)
{
	struct restructure *r = &self->r;
	struct mappings before;

	guest_writes(r);
	share(r, TARGET, 1);
	guest_finds(r);
	before = read_mappings(r);

	share(r, TARGET + 1, 1);
	expect_mappings(r, &before, -1, 0, 0);
	share(r, TARGET, 3);
	expect_mappings(r, &before, -2, 0, 0);
	guest_finds(r);
	expect_mappings(r, &before, 0, 0, 0);
	expect_split(r, 1);

	if (r->order > ORDER_2M) {
		share(r, PIECE, 1);
		expect_mappings(r, &before, 0, -1, 0);
		expect_split(r, 2);
		guest_far(r, GUEST_CHECK);
		expect_mappings(r, &before, 1, -1, 0);
	}
}

/* The second block is none of the first one's business. */
TEST_F_TIMEOUT(guestmem_restructure, other_blocks_stay_mapped, 240)
{
	struct restructure *r = &self->r;
	bool giant = r->order > ORDER_2M;
	struct mappings before;

	guest_writes(r);
	guest_second(r, GUEST_FILL);
	guest_finds(r);
	before = read_mappings(r);
	make_shared(r->bed.fd, r->block - 1, 1);
	make_shared(r->bed.fd, 0, 1);
	expect_mappings(r, &before, 0, giant ? 0 : -1, giant ? -1 : 0);
	make_private(r->bed.fd, 0, r->block);
	expect_split(r, 0);
	guest_finds(r);
	guest_second(r, GUEST_CHECK);
	expect_mappings(r, &before, 0, 0, 0);
}

TEST_F_TIMEOUT(guestmem_restructure, all_of_a_piece_is_shared, 240)
{
	struct restructure *r = &self->r;

	guest_writes(r);
	share(r, 0, PIECE);
	expect_split(r, 1);
	host_finds(r, 0, PIECE, NEAR_SEED);
	guest_finds(r);

	take_back(r, 0, PIECE);
	expect_split(r, 0);
	guest_finds(r);
	host_is_refused(r, 0);
	host_is_refused(r, PIECE - 1);
}

/* A piece is whole again although its neighbour is not. */
TEST_F_TIMEOUT(guestmem_restructure, pieces_merge_one_by_one, 240)
{
	struct restructure *r = &self->r;
	bool giant = r->order > ORDER_2M;
	struct mappings before;

	guest_writes(r);
	share(r, TARGET, 1);
	share(r, PIECE - 1, giant ? 2 : 1);
	expect_split(r, giant ? 2 : 1);
	guest_finds(r);
	before = read_mappings(r);

	take_back(r, TARGET, 1);
	expect_split(r, giant ? 2 : 1);
	take_back(r, PIECE - 1, 1);
	expect_split(r, giant ? 1 : 0);
	guest_finds(r);
	expect_mappings(r, &before, -PIECE, 1, 0);
	if (giant) {
		TEST_ASSERT_EQ(*near_word(r, PIECE), 0);
		take_back(r, PIECE, 1);
		expect_split(r, 0);
		guest_finds(r);
	}
}

/* A range that crosses blocks splits, and merges, both. */
TEST_F_TIMEOUT(guestmem_restructure, range_across_blocks, 240)
{
	struct restructure *r = &self->r;
	bool giant = r->order > ORDER_2M;
	u64 border = r->block - r->near;

	guest_writes(r);
	guest_second(r, GUEST_FILL);
	share(r, border - 1, 2);
	expect_folios(r->bed.fd, 0, 2 * PIECE);
	expect_folios(r->bed.fd, ORDER_2M, giant ? 2 * 511 : 0);
	*near_word(r, border - 1) = 1;
	*near_word(r, border) = 2;
	guest_far(r, GUEST_CHECK);
	TEST_ASSERT_EQ(*near_word(r, border - 1), 1);
	TEST_ASSERT_EQ(*near_word(r, border), 2);

	take_back(r, border - 1, 2);
	expect_split(r, 0);
	guest_far(r, GUEST_CHECK);
}

/* The first block is split, or merged, in any case, the second when one asks again. */
TEST_F_TIMEOUT(guestmem_restructure, signal_stops_between_blocks, 240)
{
	struct restructure *r = &self->r;
	u64 border = r->block - r->near, last = r->block - 1;

	guest_far(r, GUEST_FILL);
	guest_second(r, GUEST_FILL);
	TEST_ASSERT_EQ(convert_with_signal(r->bed.fd, last, 2, false), EINTR);
	expect_split(r, 1);
	WRITE_ONCE(*near_word(r, border - 1), 1);
	host_is_refused(r, border);
	make_shared(r->bed.fd, last, 2);
	TEST_ASSERT_EQ(*near_word(r, border), pattern_word(FAR_SEED, 0));

	TEST_ASSERT_EQ(convert_with_signal(r->bed.fd, last, 2, true), EINTR);
	host_is_refused(r, border - 1);
	TEST_ASSERT_EQ(*near_word(r, border), pattern_word(FAR_SEED, 0));
	make_private(r->bed.fd, last, 2);
	host_is_refused(r, border);
	expect_split(r, 0);
	guest_far(r, GUEST_CHECK);
	guest_second(r, GUEST_CHECK);
}

/* Blocks that are not there yet are split as soon as they are, whoever asks. */
TEST_F_TIMEOUT(guestmem_restructure, hole_is_split_when_the_host_fills_it, 240)
{
	struct restructure *r = &self->r;

	share(r, TARGET, 1);
	expect_pages(r->bed.fd, 0, "after converting a hole");
	host_is_refused(r, TARGET + 1);
	expect_pages(r->bed.fd, 0, "after a fault that was refused");

	host_finds(r, TARGET, 1, 0);
	expect_pages(r->bed.fd, r->block, "after a fault of the host");
	WRITE_ONCE(*near_word(r, TARGET), pattern_word(3, 0));
	guest_near(r, GUEST_CHECK, TARGET, 1, 3);
	guest_near(r, GUEST_CHECK, 0, TARGET, 0);
	expect_split(r, 1);
}

TEST_F_TIMEOUT(guestmem_restructure, hole_is_split_when_the_guest_fills_it, 240)
{
	struct restructure *r = &self->r;

	share(r, TARGET, 1);
	guest_writes(r);
	expect_split(r, 1);
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	host_is_refused(r, TARGET + 1);
	take_back(r, TARGET, 1);
	expect_split(r, 0);
	guest_finds(r);
}

TEST_F_TIMEOUT(guestmem_restructure, hole_is_split_by_fallocate, 240)
{
	struct restructure *r = &self->r;

	share(r, TARGET, 1);
	allocate_blocks(r->bed.fd, r->bed.unit, 0, 1);
	expect_split(r, 1);
	host_finds(r, TARGET, 1, 0);
}

TEST_F_TIMEOUT(guestmem_restructure, hole_takes_a_split_block, 240)
{
	struct restructure *r = &self->r;

	guest_writes(r);
	share(r, TARGET, 1);
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	punch_blocks(r->bed.fd, r->bed.unit, 0, 1);
	expect_pages(r->bed.fd, 0, "after a hole");

	/* The page is shared still, and new. */
	host_finds(r, TARGET, 1, 0);
	expect_split(r, 1);
	guest_near(r, GUEST_CHECK, 0, PIECE, 0);
	take_back(r, TARGET, 1);
	expect_split(r, 0);
}

/* What the host has mapped keeps the file, and the file its VM. */
TEST_F_TIMEOUT(guestmem_restructure, file_may_be_closed_while_it_is_split, 240)
{
	struct restructure *r = &self->r;

	guest_writes(r);
	share(r, TARGET, 1);
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	forget_vm(r);
	kvm_close(r->bed.fd);
	r->bed.fd = -1;
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
	host_is_refused(r, TARGET + 1);
}

/*
 * It is on its way to the LRU, with a reference of its own, while its file goes, and gets
 * there, or has its last reference dropped, on the CPU that has it in a batch.
 */
TEST_F_TIMEOUT(guestmem_restructure, block_is_back_though_a_page_was_isolated, 240)
{
	struct restructure *r = &self->r;
	u64 i;

	guest_writes(r);
	share(r, 0, 3);
	for (i = 0; i < 3; i++) {
		pin_self_to_cpu(i % 2);
		TEST_ASSERT_EQ(*near_word(r, i), pattern_word(NEAR_SEED, i));
		TEST_ASSERT(!madvise(near_word(r, i), SZ_4K, MADV_PAGEOUT),
			    __KVM_SYSCALL_ERROR("madvise()", -1));
	}
	forget_vm(r);
	forget_file(r);
	expect_blocks_back(r, "with pages on their way to the LRU");
}

/*
 * A page that starts shared is split off as soon as it is there; what has become
 * private before is not.
 */
FIXTURE(guestmem_restructure_shared) {
	struct restructure r;
};

FIXTURE_VARIANT(guestmem_restructure_shared) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_shared, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_shared, 1G) {
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_restructure_shared)
{
	const char *why = why_no_pool(1ull << variant->log2, NR_BLOCKS);

	if (why)
		SKIP(return, "%s", why);

	start_bed(&self->r, variant->log2, GUEST_MEMFD_FLAG_INIT_SHARED);
}

FIXTURE_TEARDOWN(guestmem_restructure_shared)
{
	forget_file(&self->r);
	forget_vm(&self->r);
	expect_blocks_back(&self->r, "after the file was closed");
}

TEST_F_TIMEOUT(guestmem_restructure_shared, block_starts_in_single_pages, 480)
{
	struct restructure *r = &self->r;

	WRITE_ONCE(*near_word(r, TARGET), pattern_word(3, 0));
	expect_pages(r->bed.fd, r->block, "after a fault of the host");
	expect_folios(r->bed.fd, 0, r->block);
	guest_near(r, GUEST_CHECK, TARGET, 1, 3);
	guest_near(r, GUEST_FILL, 0, PIECE, NEAR_SEED);
	host_finds(r, 0, PIECE, NEAR_SEED);

	make_private(r->bed.fd, 0, r->block);
	expect_folios(r->bed.fd, 0, 0);
	expect_folios(r->bed.fd, r->order, 1);
	guest_near(r, GUEST_CHECK, 0, PIECE, NEAR_SEED);
}

TEST_F_TIMEOUT(guestmem_restructure_shared, what_became_private_stays_large, 240)
{
	struct restructure *r = &self->r;

	if (r->near)
		make_private(r->bed.fd, 0, r->near);
	make_private(r->bed.fd, r->near + PIECE, NR_BLOCKS * r->block - r->near - PIECE);
	expect_pages(r->bed.fd, 0, "after converting holes");
	guest_writes(r);
	expect_split(r, 1);
	host_finds(r, 0, PIECE, NEAR_SEED);
	guest_finds(r);
	take_back(r, 0, PIECE);
	expect_split(r, 0);
	guest_finds(r);
}

/*
 * A hole, with a shared page in it, in a pool that has become too small to fill it; the
 * first block is there, with a shared page as well.
 */
FIXTURE(guestmem_restructure_short) {
	struct restructure r;
	u64 page;
};

FIXTURE_SETUP(guestmem_restructure_short)
{
	const char *why = why_no_pool(SZ_2M, 2 * NR_BLOCKS);
	struct restructure *r = &self->r;

	if (why)
		SKIP(return, "%s", why);

	start_bed(r, LOG2_2M, 0);
	self->page = r->block + TARGET;
	guest_writes(r);
	guest_second(r, GUEST_FILL);
	share(r, TARGET, 1);
	share(r, self->page, 1);
	pool_write(SZ_2M, "nr", 0);
	punch_blocks(r->bed.fd, SZ_2M, 1, 1);
}

FIXTURE_TEARDOWN(guestmem_restructure_short)
{
	pool_write(SZ_2M, "nr", self->r.before.nr);
	forget_file(&self->r);
	forget_vm(&self->r);
	expect_blocks_back(&self->r, "after the file was closed");
}

static void expect_first_block(struct restructure *r, const char *when)
{
	expect_pages(r->bed.fd, r->block, when);
	expect_split(r, 1);
	TEST_ASSERT_EQ(*near_word(r, TARGET), pattern_word(NEAR_SEED, TARGET));
}

TEST_F_TIMEOUT(guestmem_restructure_short, host_gets_its_page_when_the_pool_has_grown, 120)
{
	struct restructure *r = &self->r;

	TEST_EXPECT_SIGBUS(READ_ONCE(*near_word(r, self->page)));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(*near_word(r, self->page), 1));
	expect_first_block(r, "after accesses that failed");
	guest_finds(r);

	pool_write(SZ_2M, "nr", r->before.nr);
	TEST_ASSERT_EQ(READ_ONCE(*near_word(r, self->page)), 0);
	WRITE_ONCE(*near_word(r, self->page), pattern_word(3, 0));
	guest_near(r, GUEST_CHECK, self->page, 1, 3);
	expect_folios(r->bed.fd, 0, 2 * PIECE);
	guest_finds(r);
}

TEST_F_TIMEOUT(guestmem_restructure_short, guest_gets_its_pages_when_the_pool_has_grown, 120)
{
	struct restructure *r = &self->r;
	int i;

	guest_stride_set(r->bed.vm, GUEST_FILL, GUESTMEM_GPA + SZ_2M, SZ_4K, PIECE, FAR_SEED);
	for (i = 0; i < 2; i++) {
		expect_failure(_vcpu_run(r->bed.vcpu), ENOSPC,
			       "KVM_RUN in a pool that has no page left");
		expect_first_block(r, "after a fault that failed");
	}

	pool_write(SZ_2M, "nr", r->before.nr);
	vcpu_run(r->bed.vcpu);
	expect_guest_done(r->bed.vcpu);
	expect_folios(r->bed.fd, 0, 2 * PIECE);
	TEST_ASSERT_EQ(*near_word(r, self->page), pattern_word(FAR_SEED, TARGET));
	guest_second(r, GUEST_CHECK);
	guest_finds(r);
}

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
