// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of huge pages that the host maps where they are shared: a block is split
 * around its shared pages and put together again, and guest and host keep what they
 * wrote.
 */
#include "guestmem_restructure.h"
#include "guestmem_signal.h"
#include "kvm_test_harness.h"

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

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
