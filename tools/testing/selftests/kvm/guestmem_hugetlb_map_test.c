// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest on huge pages: how large KVM maps them, and that it finds in them what
 * it wrote, and zeroes before that.
 */
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define PAGES_PER_2M	(SZ_2M / SZ_4K)

/* What KVM has mapped for the VM, by size. */
struct mapped {
	u64 small;
	u64 huge;
	u64 giant;
};

static struct mapped read_mapped(struct kvm_vm *vm)
{
	return (struct mapped) {
		.small = vm_get_stat(vm, pages_4k),
		.huge = vm_get_stat(vm, pages_2m),
		.giant = vm_get_stat(vm, pages_1g),
	};
}

static void expect_mapped(struct kvm_vm *vm, const struct mapped *before, u64 small,
			  u64 huge, u64 giant, const char *when)
{
	struct mapped now = read_mapped(vm);

	TEST_ASSERT(now.small == before->small + small && now.huge == before->huge + huge &&
		    now.giant == before->giant + giant,
		    "%s: mapped %ld * 4K, %ld * 2M, %ld * 1G; expected %lu, %lu, %lu", when,
		    now.small - before->small, now.huge - before->huge,
		    now.giant - before->giant, small, huge, giant);
}

static u8 unit_log2(const struct huge_bed *bed)
{
	return bed->unit == SZ_1G ? LOG2_1G : LOG2_2M;
}

/* Who serves the faults: guest_memfd alone, or also the host's page tables? */
static bool host_address_matters(const struct huge_bed *bed)
{
	return !(bed->flags & GUEST_MEMFD_FLAG_MMAP) && !converts_in_place();
}

static void bind_at(struct huge_bed *bed, gpa_t gpa, u64 size, u64 offset, void *hva)
{
	vm_set_user_memory_region2(bed->vm, GUESTMEM_SLOT, KVM_MEM_GUEST_MEMFD, gpa, size,
				   hva, bed->fd, offset);
	mark_private(bed->vm, gpa, size);
}

/*
 * Touches a word in every @stride bytes of the slot.  Once for the guest's own
 * page tables, which are in memory that is mapped as it is needed, and once after
 * a hole for KVM to map the file's pages while nothing else changes.
 */
static struct mapped touch_twice(struct huge_bed *bed, u64 stride, u64 size)
{
	struct mapped before;

	fill_strides(bed, 0, stride, size / stride, 1);
	TEST_ASSERT(!punch_bytes(bed->fd, 0, bed->size), "errno %d", errno);
	before = read_mapped(bed->vm);
	check_strides(bed, 0, stride, size / stride, 0);
	return before;
}

static void expect_whole_blocks(struct huge_bed *bed, const struct mapped *before,
				u64 blocks, const char *when)
{
	bool giant = bed->unit == SZ_1G;

	expect_mapped(bed->vm, before, 0, giant ? 0 : blocks, giant ? blocks : 0, when);
}

static void block_is_mapped_at_once(struct huge_bed *bed)
{
	struct mapped before;
	u64 stride;

	bind_at(bed, GUESTMEM_GPA, bed->size, 0, NULL);
	before = touch_twice(bed, bed->unit, bed->size);
	expect_whole_blocks(bed, &before, 2, "with a word of each block read");
	stride = bed->unit == SZ_1G ? SZ_64K : SZ_4K;
	check_strides(bed, 0, stride, bed->size / stride, 0);
	expect_whole_blocks(bed, &before, 2, "with pages all over them read");
	fill_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), 2);
	expect_whole_blocks(bed, &before, 2, "with all pages written");
	check_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), 2);
}

static void hole_unmaps_a_block_and_no_other(struct huge_bed *bed)
{
	struct mapped before;

	bind_at(bed, GUESTMEM_GPA, bed->size, 0, NULL);
	before = touch_twice(bed, bed->unit, bed->size);
	fill_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), 3);
	punch_blocks(bed->fd, bed->unit, 0, 1);
	expect_whole_blocks(bed, &before, 1, "after a hole of one block");
	check_strides(bed, 0, block_stride(bed), bed->unit / block_stride(bed), 0);
	expect_whole_blocks(bed, &before, 2, "with the hole filled");
}

/* The same place in units of 4K only. */
static void offset_that_is_not_congruent_is_mapped_small(struct huge_bed *bed)
{
	struct mapped before;

	bind_at(bed, GUESTMEM_GPA, bed->unit, SZ_4K, NULL);
	before = touch_twice(bed, SZ_4K, SZ_2M);
	expect_mapped(bed->vm, &before, PAGES_PER_2M, 0, 0, "one page off");

	/* The end of the slot is in the second block. */
	fill_strides(bed, bed->unit - SZ_2M, SZ_4K, PAGES_PER_2M, 4);
	check_strides(bed, bed->unit - SZ_2M, SZ_4K, PAGES_PER_2M, 4);
	expect_pages(bed->fd, 2 * bed->unit / SZ_4K, "with both blocks touched");
}

/* The guest sees the second block first: as good as any. */
static void offset_of_whole_blocks_is_congruent(struct huge_bed *bed)
{
	struct mapped before;

	bind_at(bed, GUESTMEM_GPA, bed->unit, bed->unit, NULL);
	before = touch_twice(bed, bed->unit, bed->unit);
	expect_whole_blocks(bed, &before, 1, "with the second block alone");
	check_strides(bed, 0, block_stride(bed), bed->unit / block_stride(bed), 0);
}

/* Where guest memory ends in the middle of a block, so does what is mapped. */
static void slot_smaller_than_a_block_is_mapped_small(struct huge_bed *bed)
{
	struct mapped before;

	bind_at(bed, GUESTMEM_GPA, SZ_1M, 0, NULL);
	before = touch_twice(bed, SZ_4K, SZ_1M);
	expect_mapped(bed->vm, &before, SZ_1M / SZ_4K, 0, 0, "in a slot of 1M");
	expect_pages(bed->fd, bed->unit / SZ_4K, "with a part of a block touched");
}

static void host_address_matters_only_where_the_host_maps(struct huge_bed *bed)
{
	struct mapped before;

	bind_at(bed, GUESTMEM_GPA, bed->size, 0, (void *)SZ_4K);
	before = touch_twice(bed, SZ_4K, SZ_2M);
	if (host_address_matters(bed))
		expect_mapped(bed->vm, &before, PAGES_PER_2M, 0, 0,
			      "at a host address that does not fit");
	else
		expect_whole_blocks(bed, &before, 1, "with no use for a host address");
}

/* The last block belongs to the file as a whole, but to the guest only in part. */
static void odd_end_of_the_file_is_mapped_small(struct huge_bed *bed)
{
	struct mapped before;

	kvm_close(bed->fd);
	bed->size = bed->unit + SZ_64K;
	bed->fd = create_huge_file(bed->vm, bed->size, bed->flags, unit_log2(bed));
	bind_at(bed, GUESTMEM_GPA, bed->size, 0, NULL);

	fill_strides(bed, bed->unit, SZ_4K, 16, 5);
	before = touch_twice(bed, bed->unit, bed->unit);
	check_strides(bed, bed->unit, SZ_4K, 16, 0);
	expect_mapped(bed->vm, &before, 16, bed->unit == SZ_2M, bed->unit == SZ_1G,
		      "with a block and 16 pages touched");
}

/* Pages of a guest that was private may go to one that is not. */
static void read_by_next_guest(u8 log2, u64 blocks)
{
	struct huge_bed bed = create_bound_bed(VM_TYPE_DEFAULT, log2, blocks << log2);

	check_strides(&bed, 0, block_stride(&bed), bed.size / block_stride(&bed), 0);
	check_strides(&bed, 8, block_stride(&bed), bed.size / block_stride(&bed), 0);
	check_strides(&bed, SZ_4K - 8, block_stride(&bed), bed.size / block_stride(&bed), 0);
	free_huge_bed(&bed);
}

/* All of the pool, so that what one guest wrote is what the next one gets. */
static void next_guest_finds_zeroes(struct huge_bed *bed)
{
	u64 nr;

	kvm_close(bed->fd);
	nr = min_t(u64, pool_available(bed->unit), 16);
	bed->size = 2 * bed->unit;
	bed->fd = create_huge_file(bed->vm, bed->size, bed->flags, unit_log2(bed));
	bind_at(bed, GUESTMEM_GPA, bed->size, 0, NULL);
	fill_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), 6);
	fill_strides(bed, SZ_4K - 8, block_stride(bed), bed->size / block_stride(bed), 7);
	kvm_close(bed->fd);
	bed->fd = -1;

	read_by_next_guest(unit_log2(bed), nr);
}

/* Not zeroed again where it has contents. */
static void contents_outlive_the_binding(struct huge_bed *bed)
{
	bind_at(bed, GUESTMEM_GPA, bed->size, 0, NULL);
	fill_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), 8);
	unbind_file(bed->vm, GUESTMEM_GPA);
	allocate_blocks(bed->fd, bed->unit, 0, 2);
	bind_at(bed, GUESTMEM_GPA, bed->size, 0, NULL);
	check_strides(bed, 0, block_stride(bed), bed->size / block_stride(bed), 8);
}

/* A VM, and a file for it, for each test. */
FIXTURE(guestmem_hugetlb_map) {
	struct huge_bed bed;
};

FIXTURE_VARIANT(guestmem_hugetlb_map) {
	unsigned long vm_type;
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_map, plain_2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_map, plain_1G) {
	.log2 = LOG2_1G,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_map, private_2M) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.log2 = LOG2_2M,
};

FIXTURE_SETUP(guestmem_hugetlb_map)
{
	const char *why = why_no_pool(1ull << variant->log2, 2);

	if (why)
		SKIP(return, "%s", why);
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->bed = create_huge_bed(variant->vm_type, variant->log2,
				    2ull << variant->log2);
	map_huge_bed(&self->bed);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_map)
{
	free_huge_bed(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, block_is_mapped_at_once, 240)
{
	block_is_mapped_at_once(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, hole_unmaps_a_block_and_no_other, 240)
{
	hole_unmaps_a_block_and_no_other(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, offset_that_is_not_congruent_is_mapped_small, 240)
{
	offset_that_is_not_congruent_is_mapped_small(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, offset_of_whole_blocks_is_congruent, 240)
{
	offset_of_whole_blocks_is_congruent(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, slot_smaller_than_a_block_is_mapped_small, 240)
{
	slot_smaller_than_a_block_is_mapped_small(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, host_address_matters_only_where_the_host_maps, 240)
{
	host_address_matters_only_where_the_host_maps(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, odd_end_of_the_file_is_mapped_small, 240)
{
	odd_end_of_the_file_is_mapped_small(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, next_guest_finds_zeroes, 240)
{
	next_guest_finds_zeroes(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map, contents_outlive_the_binding, 240)
{
	contents_outlive_the_binding(&self->bed);
}

/*
 * A VM that is private keeps the state of each 4K by itself, unless the file does: to set it
 * for blocks of 1G takes longer than all of these, so one VM is there for them all.
 */
static void (* const in_one_vm[])(struct huge_bed *bed) = {
	block_is_mapped_at_once,
	hole_unmaps_a_block_and_no_other,
	offset_that_is_not_congruent_is_mapped_small,
	offset_of_whole_blocks_is_congruent,
	slot_smaller_than_a_block_is_mapped_small,
	host_address_matters_only_where_the_host_maps,
	odd_end_of_the_file_is_mapped_small,
	next_guest_finds_zeroes,
	contents_outlive_the_binding,
};

/* The guest's memory is as it was, with another file in it. */
static void replace_file(struct huge_bed *bed)
{
	unbind_file(bed->vm, GUESTMEM_GPA);
	if (bed->fd >= 0)
		kvm_close(bed->fd);
	bed->size = 2 * bed->unit;
	bed->fd = create_huge_file(bed->vm, bed->size, bed->flags, unit_log2(bed));
}

FIXTURE(guestmem_hugetlb_map_private) {
	struct huge_bed bed;
};

FIXTURE_SETUP(guestmem_hugetlb_map_private)
{
	const char *why = why_no_pool(SZ_1G, 2);

	if (why)
		SKIP(return, "%s", why);
	if (!vm_type_available(KVM_X86_SW_PROTECTED_VM))
		SKIP(return, "KVM lacks VM type %d", KVM_X86_SW_PROTECTED_VM);

	self->bed = create_huge_bed(KVM_X86_SW_PROTECTED_VM, LOG2_1G, 2ull * SZ_1G);
	map_huge_bed(&self->bed);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_map_private)
{
	free_huge_bed(&self->bed);
}

TEST_F_TIMEOUT(guestmem_hugetlb_map_private, blocks_of_1G_in_one_vm, 480)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(in_one_vm); i++) {
		if (i)
			replace_file(&self->bed);
		in_one_vm[i](&self->bed);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	TEST_REQUIRE(get_kvm_param_bool("tdp_mmu"));

	return test_harness_run(argc, argv);
}
