// SPDX-License-Identifier: GPL-2.0-only
/*
 * Converting huge pages of a guest_memfd in place, of a file that the host never
 * maps: pages change with their contents, and no folio is split for them; but no
 * more is mapped at once than what has one state.
 */
#include "guestmem_convert.h"
#include "guestmem_hugetlb.h"
#include "guestmem_signal.h"
#include "kvm_test_harness.h"

FIXTURE(guestmem_hugetlb_convert) {
	struct huge_bed bed;
};

FIXTURE_VARIANT(guestmem_hugetlb_convert) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_convert, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_convert, 1G) {
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_hugetlb_convert)
{
	const char *why = why_no_pool(1ull << variant->log2, 2);

	if (why)
		SKIP(return, "%s", why);

	self->bed = create_bound_bed(KVM_X86_SW_PROTECTED_VM, variant->log2,
				     2ull << variant->log2);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_convert)
{
	free_huge_bed(&self->bed);
}

static u64 block_pages(const struct huge_bed *bed)
{
	return bed->unit / SZ_4K;
}

/* All is private but for [start, end). */
static void expect_shared_run(int fd, u64 start, u64 end, u64 nr_pages, const char *when)
{
	char want[128] = {}, got[SZ_4K];
	int len = 0;

	if (start)
		len = sprintf(want, "0 %lu private\n", start);
	len += sprintf(want + len, "%lu %lu shared\n", start, end);
	if (end < nr_pages)
		sprintf(want + len, "%lu %lu private\n", end, nr_pages);

	read_debugfs(fd, "states", got, sizeof(got));
	TEST_ASSERT(!strcmp(got, want), "%s: states are\n%sexpected\n%s", when, got, want);
}

static void expect_state(int fd, const char *want)
{
	char state[16];

	TEST_ASSERT(read_fdinfo(fd, "guestmem-state", state, sizeof(state)), "no state");
	TEST_ASSERT(!strcmp(state, want), "the file is %s, expected %s", state, want);
}

static void guest_fills_all(struct huge_bed *bed, u64 seed)
{
	fill_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), seed);
}

static void guest_finds_all(struct huge_bed *bed, u64 seed)
{
	check_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), seed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, whole_blocks_keep_their_contents, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);

	guest_fills_all(bed, 1);
	make_shared(bed->fd, 0, nr);
	expect_state(bed->fd, "mixed");
	guest_finds_all(bed, 1);

	make_shared(bed->fd, 0, 2 * nr);
	guest_finds_all(bed, 1);
	guest_fills_all(bed, 2);
	make_private(bed->fd, nr, nr);
	guest_finds_all(bed, 2);
	make_private(bed->fd, 0, 2 * nr);
	expect_state(bed->fd, "private");
	guest_finds_all(bed, 2);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, absent_blocks_change_too, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);

	make_shared(bed->fd, nr, nr);
	expect_state(bed->fd, "mixed");
	expect_pages(bed->fd, 0, "after converting a hole");
	guest_finds_all(bed, 0);
	make_private(bed->fd, nr, nr);
	expect_state(bed->fd, "private");
}

static u64 large_mappings(struct huge_bed *bed)
{
	return vm_get_stat(bed->vm, pages_2m) + vm_get_stat(bed->vm, pages_1g);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, shared_blocks_are_mapped_whole, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 large;

	guest_fills_all(bed, 3);
	large = large_mappings(bed);
	make_shared(bed->fd, 0, block_pages(bed));
	TEST_ASSERT_EQ(large_mappings(bed), large - 1);
	guest_finds_all(bed, 3);
	TEST_ASSERT_EQ(large_mappings(bed), large);
}

/* At either end, in the middle, across a border of blocks. */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, parts_of_blocks_change, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);
	const u64 runs[][2] = {
		{ 0, 1 },
		{ 1, 2 },
		{ 0, nr - 1 },
		{ nr - 1, 2 * nr },
		{ nr / 2, nr + 1 },
		{ 2 * nr - 1, 2 * nr },
	};
	int i;

	guest_fills_all(bed, 4);
	for (i = 0; i < ARRAY_SIZE(runs); i++) {
		make_shared(bed->fd, runs[i][0], runs[i][1] - runs[i][0]);
		expect_shared_run(bed->fd, runs[i][0], runs[i][1], 2 * nr, "to shared");
		guest_finds_all(bed, 4);
		expect_folios(bed->fd, variant->log2 - 12, 2);
		make_private(bed->fd, 0, 2 * nr);
		expect_state(bed->fd, "private");
	}
	guest_finds_all(bed, 4);
}

/*
 * Around a shared page, what is mapped at once shrinks; nothing outside the block does.
 * The words lie so that each is mapped by an entry of its own.
 */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, what_has_one_state_is_mapped_at_once, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 small, large;

	guest_fills_all(bed, 5);
	small = vm_get_stat(bed->vm, pages_4k);
	large = large_mappings(bed);
	make_shared(bed->fd, 0, 1);
	TEST_ASSERT_EQ(large_mappings(bed), large - 1);

	guest_finds_all(bed, 5);
	if (bed->unit == SZ_1G) {
		TEST_ASSERT_EQ(large_mappings(bed), large - 1 + 511);
		TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), small + 1);
	} else {
		TEST_ASSERT_EQ(large_mappings(bed), large - 1);
		TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), small + 512);
	}
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, what_changes_nothing_succeeds, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);

	make_private(bed->fd, 1, 1);
	make_private(bed->fd, nr - 1, 2);
	expect_state(bed->fd, "private");
	make_shared(bed->fd, 0, nr);
	make_shared(bed->fd, 0, 1);
	make_shared(bed->fd, 1, nr - 1);
	expect_shared_run(bed->fd, 0, nr, 2 * nr, "after what changes nothing");
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, ends_that_have_the_state_do_not_count, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);

	make_shared(bed->fd, 0, nr);
	make_shared(bed->fd, nr - 1, 2);
	expect_shared_run(bed->fd, 0, nr + 1, 2 * nr, "one page more");
	make_private(bed->fd, nr, nr);
	expect_shared_run(bed->fd, 0, nr, 2 * nr, "one page less");
	make_private(bed->fd, 1, 2 * nr - 1);
	expect_shared_run(bed->fd, 0, 1, 2 * nr, "all but one page less");
}

/*
 * A block that changes does so in any case, and the same request goes on behind it; the
 * last one has nothing left to be stopped from.
 */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, signal_stops_between_blocks, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);

	guest_fills_all(bed, 7);
	TEST_ASSERT_EQ(convert_with_signal(bed->fd, 0, 2 * nr, false), EINTR);
	expect_shared_run(bed->fd, 0, nr, 2 * nr, "to shared, with a signal");
	guest_finds_all(bed, 7);
	TEST_ASSERT_EQ(convert_with_signal(bed->fd, 0, 2 * nr, false), 0);
	expect_shared_run(bed->fd, 0, 2 * nr, 2 * nr, "asked again, with a signal");

	TEST_ASSERT_EQ(convert_with_signal(bed->fd, 0, 2 * nr, true), EINTR);
	expect_shared_run(bed->fd, nr, 2 * nr, 2 * nr, "to private, with a signal");
	guest_finds_all(bed, 7);
	make_private(bed->fd, 0, 2 * nr);
	expect_state(bed->fd, "private");
	guest_finds_all(bed, 7);
}

/* The last block reaches beyond the end, and what is there has the state of the rest. */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, odd_end_is_a_whole_block, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);
	int fd;

	kvm_close(bed->fd);
	bed->fd = -1;
	fd = create_huge_file(bed->vm, bed->unit + SZ_64K, 0, variant->log2);
	allocate_blocks(fd, bed->unit, 0, 1);
	make_shared(fd, nr, 16);
	expect_shared_run(fd, nr, nr + 16, nr + 16, "all there is of the last block");
	make_private(fd, nr, 1);
	expect_shared_run(fd, nr + 1, nr + 16, nr + 16, "all but its first page");
	make_private(fd, 0, nr + 16);
	expect_state(fd, "private");
	kvm_close(fd);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, holes_keep_their_state, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 nr = block_pages(bed);

	guest_fills_all(bed, 6);
	make_shared(bed->fd, 1, nr - 1);
	punch_blocks(bed->fd, bed->unit, 0, 2);
	expect_shared_run(bed->fd, 1, nr, 2 * nr, "after a hole");
	guest_finds_all(bed, 0);
	make_private(bed->fd, 0, nr);
	expect_state(bed->fd, "private");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
