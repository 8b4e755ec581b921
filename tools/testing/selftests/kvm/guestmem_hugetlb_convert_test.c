// SPDX-License-Identifier: GPL-2.0-only
/*
 * Converting huge pages of a guest_memfd in place: whole blocks of a file that the
 * host never maps change, with their contents; what would have to be split does
 * not, and the caller is told where.
 */
#include "guestmem_hugetlb.h"
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

static int try_convert(int fd, u64 offset, u64 size, bool private, u64 *error_offset)
{
	struct kvm_memory_attributes2 attrs = {
		.offset = offset,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
		.error_offset = -1,
	};
	int ret = ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &attrs);

	*error_offset = attrs.error_offset;
	return ret;
}

static void convert(int fd, u64 offset, u64 size, bool private)
{
	u64 error_offset;
	int ret = try_convert(fd, offset, size, private, &error_offset);

	TEST_ASSERT(!ret && error_offset == -1,
		    "0x%lx bytes from 0x%lx to %s: errno %d, error_offset 0x%lx", size,
		    offset, private ? "private" : "shared", errno, error_offset);
}

/* What has to be split is named by its start: the first page that would change. */
static void expect_no_split(int fd, u64 offset, u64 size, bool private, u64 want)
{
	u64 error_offset;

	expect_failure(try_convert(fd, offset, size, private, &error_offset), EOPNOTSUPP,
		       "a change that would split a block");
	TEST_ASSERT(error_offset == want, "error_offset is 0x%lx, expected 0x%lx",
		    error_offset, want);
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

	guest_fills_all(bed, 1);
	convert(bed->fd, 0, bed->unit, false);
	expect_state(bed->fd, "mixed");
	guest_finds_all(bed, 1);

	convert(bed->fd, 0, bed->size, false);
	guest_finds_all(bed, 1);
	guest_fills_all(bed, 2);
	convert(bed->fd, bed->unit, bed->unit, true);
	guest_finds_all(bed, 2);
	convert(bed->fd, 0, bed->size, true);
	expect_state(bed->fd, "private");
	guest_finds_all(bed, 2);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, absent_blocks_change_too, 240)
{
	struct huge_bed *bed = &self->bed;

	convert(bed->fd, bed->unit, bed->unit, false);
	expect_state(bed->fd, "mixed");
	expect_pages(bed->fd, 0, "after converting a hole");
	guest_finds_all(bed, 0);
	convert(bed->fd, bed->unit, bed->unit, true);
	expect_state(bed->fd, "private");
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, shared_blocks_are_mapped_whole, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 large;

	guest_fills_all(bed, 3);
	large = vm_get_stat(bed->vm, pages_2m) + vm_get_stat(bed->vm, pages_1g);
	convert(bed->fd, 0, bed->unit, false);
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_2m) + vm_get_stat(bed->vm, pages_1g),
		       large - 1);
	guest_finds_all(bed, 3);
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_2m) + vm_get_stat(bed->vm, pages_1g),
		       large);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, part_of_a_block_is_refused, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 unit = bed->unit;

	guest_fills_all(bed, 4);
	expect_no_split(bed->fd, 0, SZ_4K, false, 0);
	expect_no_split(bed->fd, SZ_4K, SZ_4K, false, SZ_4K);
	expect_no_split(bed->fd, 0, unit - SZ_4K, false, 0);
	expect_no_split(bed->fd, unit - SZ_4K, SZ_4K + unit, false, unit - SZ_4K);
	expect_no_split(bed->fd, 0, unit + SZ_4K, false, 0);
	expect_state(bed->fd, "private");
	guest_finds_all(bed, 4);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, what_changes_nothing_succeeds, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 unit = bed->unit;

	convert(bed->fd, SZ_4K, SZ_4K, true);
	convert(bed->fd, unit - SZ_4K, 2 * SZ_4K, true);
	convert(bed->fd, 0, unit, false);
	convert(bed->fd, 0, SZ_4K, false);
	convert(bed->fd, SZ_4K, unit - SZ_4K, false);
	expect_state(bed->fd, "mixed");
}

/* Of an odd range only what changes counts. */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, ends_that_have_the_state_do_not_count, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 unit = bed->unit;

	convert(bed->fd, 0, unit, false);
	convert(bed->fd, unit - SZ_4K, unit + SZ_4K, false);
	expect_state(bed->fd, "mixed");
	expect_no_split(bed->fd, 0, unit + SZ_4K, true, 0);
	convert(bed->fd, 0, unit, true);
	convert(bed->fd, SZ_4K, 2 * unit - SZ_4K, true);
	expect_state(bed->fd, "private");
}

/* The last block reaches beyond the end, and is whole all the same. */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, odd_end_is_a_whole_block, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 size = bed->unit + SZ_64K;
	int fd;

	kvm_close(bed->fd);
	bed->fd = -1;
	fd = create_huge_file(bed->vm, size, 0, variant->log2);
	allocate_blocks(fd, bed->unit, 0, 1);
	convert(fd, bed->unit, SZ_64K, false);
	expect_no_split(fd, bed->unit, SZ_4K, true, bed->unit);
	convert(fd, 0, size, false);
	expect_state(fd, "mixed");
	convert(fd, 0, size, true);
	expect_state(fd, "private");
	kvm_close(fd);
}

/* The host would map what is shared, which takes pages in pieces. */
TEST_F_TIMEOUT(guestmem_hugetlb_convert, mappable_file_stays_private, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 unit = bed->unit;
	int fd;

	kvm_close(bed->fd);
	bed->fd = -1;
	fd = create_huge_file(bed->vm, 2 * unit, GUEST_MEMFD_FLAG_MMAP, variant->log2);
	expect_no_split(fd, 0, unit, false, 0);
	expect_no_split(fd, unit, unit, false, unit);
	convert(fd, 0, 2 * unit, true);
	allocate_blocks(fd, unit, 0, 2);
	expect_no_split(fd, 0, 2 * unit, false, 0);
	expect_state(fd, "private");
	kvm_close(fd);
}

TEST_F_TIMEOUT(guestmem_hugetlb_convert, holes_keep_their_state, 240)
{
	struct huge_bed *bed = &self->bed;

	guest_fills_all(bed, 5);
	convert(bed->fd, 0, bed->unit, false);
	punch_blocks(bed->fd, bed->unit, 0, 2);
	expect_state(bed->fd, "mixed");
	guest_finds_all(bed, 0);
	convert(bed->fd, 0, bed->unit, true);
	expect_state(bed->fd, "private");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	TEST_REQUIRE(converts_in_place());
	TEST_REQUIRE(vm_type_available(KVM_X86_SW_PROTECTED_VM));

	return test_harness_run(argc, argv);
}
