// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest_memfd of huge pages and its pool: what is reserved, taken and given
 * back, and when.
 */
#include "guestmem_hugetlb.h"
#include "guestmem_signal.h"
#include "kvm_test_harness.h"

FIXTURE(guestmem_hugetlb) {
	struct kvm_vm *vm;
	struct pool before;
	u64 unit;
	int fd;
};

FIXTURE_VARIANT(guestmem_hugetlb) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb, 1G) {
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_hugetlb)
{
	const char *why = why_no_pool(1ull << variant->log2, 2);

	if (why)
		SKIP(return, "%s", why);

	self->fd = -1;
	self->unit = 1ull << variant->log2;
	self->vm = vm_create_barebones();
	self->before = read_pool(self->unit);
}

/* However a test went about it, all is as before. */
FIXTURE_TEARDOWN(guestmem_hugetlb)
{
	if (self->fd >= 0)
		kvm_close(self->fd);
	expect_pool(self->unit, &self->before, 0, 0, "after the last file was closed");
	kvm_vm_free(self->vm);
}

static void expect_reserved(struct kvm_vm *vm, u8 log2, u64 size, u64 blocks)
{
	u64 unit = 1ull << log2;
	struct pool before = read_pool(unit);
	int fd = create_huge_file(vm, size, 0, log2);

	TEST_ASSERT_EQ(file_stat(fd).st_size, size);
	expect_pool(unit, &before, 0, blocks, "at creation");
	kvm_close(fd);
	expect_pool(unit, &before, 0, 0, "after close");
}

TEST_F_TIMEOUT(guestmem_hugetlb, creation_reserves_the_whole_file, 240)
{
	expect_reserved(self->vm, variant->log2, self->unit, 1);
	expect_reserved(self->vm, variant->log2, 2 * self->unit, 2);
}

TEST_F_TIMEOUT(guestmem_hugetlb, odd_sizes_are_rounded_up, 240)
{
	expect_reserved(self->vm, variant->log2, SZ_4K, 1);
	expect_reserved(self->vm, variant->log2, self->unit - SZ_4K, 1);
	expect_reserved(self->vm, variant->log2, self->unit + SZ_4K, 2);
	expect_reserved(self->vm, variant->log2, 2 * self->unit - SZ_4K, 2);
}

TEST_F_TIMEOUT(guestmem_hugetlb, pool_that_is_too_small_gives_nothing, 240)
{
	u64 nr = pool_available(self->unit);

	expect_no_huge_file(self->vm, (nr + 1) * self->unit, 0, variant->log2, ENOMEM,
			    "a page more than there is");
	expect_no_huge_file(self->vm, nr * self->unit + SZ_4K, 0, variant->log2, ENOMEM,
			    "4 KiB more than there is");
	expect_pool(self->unit, &self->before, 0, 0, "after files that were refused");
	expect_reserved(self->vm, variant->log2, nr * self->unit, nr);
}

TEST_F_TIMEOUT(guestmem_hugetlb, pool_does_not_grow_for_a_file, 240)
{
	u64 nr = pool_available(self->unit);
	u64 overcommit = pool_read(self->unit, "nr_overcommit");

	pool_write(self->unit, "nr_overcommit", 4);
	expect_no_huge_file(self->vm, (nr + 1) * self->unit, 0, variant->log2, ENOMEM,
			    "a page more than there is");
	self->fd = create_huge_file(self->vm, nr * self->unit, 0, variant->log2);
	expect_no_huge_file(self->vm, SZ_4K, 0, variant->log2, ENOMEM,
			    "a file when all is reserved");
	expect_pool(self->unit, &self->before, 0, nr, "with all reserved");
	pool_write(self->unit, "nr_overcommit", overcommit);
}

TEST_F_TIMEOUT(guestmem_hugetlb, allocation_takes_from_the_reservation, 240)
{
	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);

	allocate_blocks(self->fd, self->unit, 1, 1);
	expect_pool(self->unit, &self->before, 1, 1, "with one of two pages there");
	allocate_blocks(self->fd, self->unit, 0, 2);
	expect_pool(self->unit, &self->before, 2, 0, "with both pages there");
	allocate_blocks(self->fd, self->unit, 0, 2);
	expect_pool(self->unit, &self->before, 2, 0, "after allocating them again");
}

TEST_F_TIMEOUT(guestmem_hugetlb, hole_gives_the_page_back_to_the_file, 240)
{
	u64 rest;

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	rest = pool_available(self->unit);
	allocate_blocks(self->fd, self->unit, 0, 2);
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_pool(self->unit, &self->before, 1, 1, "after a hole");
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_pool(self->unit, &self->before, 1, 1, "after a hole where one was");

	expect_no_huge_file(self->vm, (rest + 1) * self->unit, 0, variant->log2, ENOMEM,
			    "another file that wants the punched page");
	allocate_blocks(self->fd, self->unit, 0, 2);
	expect_pool(self->unit, &self->before, 2, 0, "with the hole filled");
}

/* Reserved is reserved: nothing else is left to fall back on. */
TEST_F_TIMEOUT(guestmem_hugetlb, whole_pool_can_be_allocated_and_punched, 240)
{
	u64 nr = pool_available(self->unit);
	int i;

	self->fd = create_huge_file(self->vm, nr * self->unit, 0, variant->log2);
	for (i = 0; i < 3; i++) {
		allocate_blocks(self->fd, self->unit, 0, nr);
		expect_pool(self->unit, &self->before, nr, 0, "with the pool allocated");
		punch_blocks(self->fd, self->unit, 0, nr);
		expect_pool(self->unit, &self->before, 0, nr, "with all punched out");
	}
}

TEST_F_TIMEOUT(guestmem_hugetlb, close_gives_back_what_is_allocated_and_what_is_not, 240)
{
	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 1, 1);
	kvm_close(self->fd);
	expect_pool(self->unit, &self->before, 0, 0, "after close");

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	expect_pool(self->unit, &self->before, 0, 2, "with a new file");
}

TEST_F_TIMEOUT(guestmem_hugetlb, blocks_follow_what_is_allocated, 240)
{
	u64 pages = self->unit / getpagesize();

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	expect_pages(self->fd, 0, "at creation");
	allocate_blocks(self->fd, self->unit, 1, 1);
	expect_pages(self->fd, pages, "with one block there");
	allocate_blocks(self->fd, self->unit, 0, 2);
	expect_pages(self->fd, 2 * pages, "with two blocks there");
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_pages(self->fd, pages, "after a hole");
}

TEST_F_TIMEOUT(guestmem_hugetlb, signal_ends_an_allocation, 240)
{
	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	TEST_ASSERT_EQ(allocate_with_signal(self->fd, 0, 2 * self->unit), EINTR);
	expect_pool(self->unit, &self->before, 0, 2, "after a signal");
	allocate_blocks(self->fd, self->unit, 0, 2);
	expect_pool(self->unit, &self->before, 2, 0, "after asking again");
}

/* The first block goes in any case.  Whoever asks for the same again gets it all. */
TEST_F_TIMEOUT(guestmem_hugetlb, signal_ends_a_hole_between_blocks, 240)
{
	u64 pages = self->unit / getpagesize();

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 2);
	TEST_ASSERT_EQ(punch_with_signal(self->fd, 0, 2 * self->unit), EINTR);
	expect_pool(self->unit, &self->before, 1, 1, "after a signal");
	TEST_ASSERT(!shown_pfn(self->fd, 0) && shown_pfn(self->fd, pages),
		    "it is not the first of two blocks that is gone");

	punch_blocks(self->fd, self->unit, 0, 2);
	expect_pool(self->unit, &self->before, 0, 2, "after asking again");
	allocate_blocks(self->fd, self->unit, 1, 1);
	TEST_ASSERT_EQ(punch_with_signal(self->fd, self->unit, self->unit), 0);
	expect_pool(self->unit, &self->before, 0, 2, "after a hole of one block");
}

/* Pages are shown as one folio, aligned as a page of that size is. */
TEST_F_TIMEOUT(guestmem_hugetlb, block_is_one_aligned_folio, 240)
{
	u64 pages = self->unit / getpagesize();
	u64 pfn;

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 1, 1);
	TEST_ASSERT(!shown_pfn(self->fd, 0), "a block that is absent has a pfn");
	pfn = shown_pfn(self->fd, pages);
	TEST_ASSERT(pfn && !(pfn % pages), "pfn 0x%lx, in blocks of 0x%lx", pfn, pages);
	TEST_ASSERT_EQ(shown_pfn(self->fd, 2 * pages - 1), pfn + pages - 1);
}

static u64 meminfo_kib(const char *key)
{
	char value[32];

	TEST_ASSERT(read_shown("/proc/meminfo", key, value, sizeof(value)),
		    "no %s in meminfo", key);
	return strtoul(value, NULL, 0);
}

static u64 vmstat_pages(const char *key)
{
	char line[128], name[64];
	u64 value, found = -1;
	FILE *f;

	f = fopen("/proc/vmstat", "r");
	TEST_ASSERT(f, "cannot open vmstat");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lu", name, &value) == 2 && !strcmp(name, key))
			found = value;
	}
	fclose(f);
	TEST_ASSERT(found != -1, "no %s in vmstat", key);
	return found;
}

struct sample {
	u64 hugetlb_kib;
	u64 nr_hugetlb;
	u64 file_pages;
	u64 unevictable;
};

/* File pages of everybody else move as well, but not by as much as a huge page. */
static struct sample take_sample(void)
{
	write_text("/proc/sys/vm/stat_refresh", "1");
	return (struct sample) {
		.hugetlb_kib = meminfo_kib("Hugetlb"),
		.nr_hugetlb = vmstat_pages("nr_hugetlb"),
		.file_pages = vmstat_pages("nr_file_pages"),
		.unevictable = vmstat_pages("nr_unevictable"),
	};
}

static void expect_sample(const struct sample *before, u64 unit, u64 taken,
			  const char *when)
{
	u64 pages = unit / getpagesize();
	struct sample now = take_sample();

	TEST_ASSERT(now.hugetlb_kib == before->hugetlb_kib,
		    "%s: Hugetlb, the size of all pools, went from %lu kB to %lu kB", when,
		    before->hugetlb_kib, now.hugetlb_kib);
	TEST_ASSERT(now.nr_hugetlb == before->nr_hugetlb + taken * pages,
		    "%s: nr_hugetlb is %lu, expected %lu", when, now.nr_hugetlb,
		    before->nr_hugetlb + taken * pages);
	TEST_ASSERT(now.file_pages < before->file_pages + pages / 2 &&
		    now.unevictable < before->unevictable + pages / 2,
		    "%s: huge pages are counted as pages of files too: %lu, unevictable %lu",
		    when, now.file_pages - before->file_pages,
		    now.unevictable - before->unevictable);
}

TEST_F_TIMEOUT(guestmem_hugetlb, pages_are_counted_as_hugetlb_and_once, 240)
{
	struct sample before = take_sample();

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	expect_sample(&before, self->unit, 0, "at creation");
	allocate_blocks(self->fd, self->unit, 0, 2);
	expect_sample(&before, self->unit, 2, "with two pages allocated");
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_sample(&before, self->unit, 1, "after a hole");
	kvm_close(self->fd);
	self->fd = -1;
	expect_sample(&before, self->unit, 0, "after close");
}

/* What is in use stays; it is what the pool has too much of until it has grown again. */
TEST_F_TIMEOUT(guestmem_hugetlb, pool_that_is_in_use_shrinks_in_name_only, 240)
{
	u64 nr = pool_available(self->unit);
	u64 pfn;

	self->fd = create_huge_file(self->vm, nr * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 0, nr);
	pfn = shown_pfn(self->fd, 0);

	pool_write(self->unit, "nr", 0);
	TEST_ASSERT_EQ(pool_read(self->unit, "surplus"), self->before.nr);
	TEST_ASSERT_EQ(shown_pfn(self->fd, 0), pfn);
	expect_pages(self->fd, nr * self->unit / getpagesize(), "in a pool shrunk to nothing");

	pool_write(self->unit, "nr", self->before.nr);
	expect_pool(self->unit, &self->before, nr, 0, "with the pool grown again");
}

/* Pages of 2M alone: a page of 1G that goes may not come back. */
FIXTURE(guestmem_hugetlb_shrink) {
	struct kvm_vm *vm;
	struct pool before;
	int fd;
};

FIXTURE_SETUP(guestmem_hugetlb_shrink)
{
	const char *why = why_no_pool(SZ_2M, 4);

	if (why)
		SKIP(return, "%s", why);

	self->vm = vm_create_barebones();
	self->before = read_pool(SZ_2M);
	self->fd = create_huge_file(self->vm, 2 * SZ_2M, 0, LOG2_2M);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_shrink)
{
	pool_write(SZ_2M, "nr", self->before.nr);
	kvm_close(self->fd);
	expect_pool(SZ_2M, &self->before, 0, 0, "after the last file was closed");
	kvm_vm_free(self->vm);
}

TEST_F(guestmem_hugetlb_shrink, reserved_pages_stay)
{
	pool_write(SZ_2M, "nr", 0);
	TEST_ASSERT_EQ(pool_read(SZ_2M, "nr"), 2);
	allocate_blocks(self->fd, SZ_2M, 0, 2);
	expect_pages(self->fd, 2 * SZ_2M / getpagesize(), "in a pool that has shrunk");
}

TEST_F(guestmem_hugetlb_shrink, hole_can_be_filled_again)
{
	allocate_blocks(self->fd, SZ_2M, 0, 2);
	pool_write(SZ_2M, "nr", 2);
	punch_blocks(self->fd, SZ_2M, 0, 2);
	allocate_blocks(self->fd, SZ_2M, 0, 2);
}

/*
 * A pool that is made smaller than what is in use gives up pages as they come back,
 * reserved or not.  Nobody else may take that for room.
 */
TEST_F(guestmem_hugetlb_shrink, hole_in_too_small_a_pool_is_filled_when_it_has_grown)
{
	allocate_blocks(self->fd, SZ_2M, 0, 2);
	pool_write(SZ_2M, "nr", 0);
	punch_blocks(self->fd, SZ_2M, 0, 1);
	expect_failure(allocate_bytes(self->fd, 0, SZ_2M), ENOSPC,
		       "fallocate() in a pool that has no page left");
	expect_no_huge_file(self->vm, SZ_2M, 0, LOG2_2M, ENOMEM,
			    "a file in a pool that has no page left");
	expect_no_huge_file(self->vm, 64 * SZ_2M, 0, LOG2_2M, ENOMEM,
			    "a larger file in a pool that has no page left");
	expect_pages(self->fd, SZ_2M / getpagesize(), "with the hole empty");

	pool_write(SZ_2M, "nr", self->before.nr);
	allocate_blocks(self->fd, SZ_2M, 0, 2);
}

TEST_F(guestmem_hugetlb_shrink, file_can_use_what_the_pool_grew_by)
{
	u64 nr = self->before.nr + 2;
	int fd;

	pool_write(SZ_2M, "nr", nr);
	fd = create_huge_file(self->vm, (nr - 2) * SZ_2M, 0, LOG2_2M);
	allocate_blocks(fd, SZ_2M, 0, nr - 2);
	allocate_blocks(self->fd, SZ_2M, 0, 2);
	kvm_close(fd);
}

#define PAGES_PER_2M	(SZ_2M / SZ_4K)

/* A guest whose second block was punched out of a pool that has become too small for it. */
FIXTURE(guestmem_hugetlb_short) {
	struct huge_bed bed;
	struct pool before;
};

FIXTURE_VARIANT(guestmem_hugetlb_short) {
	unsigned long vm_type;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_short, plain) {
	.vm_type = VM_TYPE_DEFAULT,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_short, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(guestmem_hugetlb_short)
{
	const char *why = why_no_pool(SZ_2M, 4);

	if (why)
		SKIP(return, "%s", why);
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->before = read_pool(SZ_2M);
	self->bed = create_bound_bed(variant->vm_type, LOG2_2M, 2 * SZ_2M);
	fill_strides(&self->bed, 0, SZ_4K, 2 * PAGES_PER_2M, 1);
	pool_write(SZ_2M, "nr", 0);
	punch_blocks(self->bed.fd, SZ_2M, 1, 1);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_short)
{
	pool_write(SZ_2M, "nr", self->before.nr);
	free_huge_bed(&self->bed);
	expect_pool(SZ_2M, &self->before, 0, 0, "after the file was closed");
}

static void expect_run_without_page(struct huge_bed *bed)
{
	expect_failure(_vcpu_run(bed->vcpu), ENOSPC, "KVM_RUN in a pool that has no page left");
	expect_pages(bed->fd, PAGES_PER_2M, "after a fault that failed");
}

/* The vCPU stands where it stood, and its access is made when there is a page for it. */
TEST_F_TIMEOUT(guestmem_hugetlb_short, vcpu_goes_on_when_the_pool_has_grown, 120)
{
	struct huge_bed *bed = &self->bed;

	guest_stride_set(bed->vm, GUEST_FILL, GUESTMEM_GPA + SZ_2M, SZ_4K, PAGES_PER_2M, 2);
	expect_run_without_page(bed);
	expect_run_without_page(bed);

	pool_write(SZ_2M, "nr", self->before.nr);
	vcpu_run(bed->vcpu);
	expect_guest_done(bed->vcpu);
	expect_pool(SZ_2M, &self->before, 2, 0, "with the hole filled");
	check_strides(bed, SZ_2M, SZ_4K, PAGES_PER_2M, 2);
	check_strides(bed, 0, SZ_4K, PAGES_PER_2M, 1);
}

TEST_F_TIMEOUT(guestmem_hugetlb_short, pre_fault_goes_on_when_the_pool_has_grown, 120)
{
	struct huge_bed *bed = &self->bed;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "KVM cannot pre-fault");

	expect_pre_fault_stops(bed->vcpu, GUESTMEM_GPA, 2 * SZ_2M, GUESTMEM_GPA + SZ_2M, ENOSPC);
	expect_pages(bed->fd, PAGES_PER_2M, "after pre-faulting that failed");

	pool_write(SZ_2M, "nr", self->before.nr);
	pre_fault(bed->vcpu, GUESTMEM_GPA, 2 * SZ_2M);
	expect_pool(SZ_2M, &self->before, 2, 0, "with the hole filled");
	check_strides(bed, SZ_2M, SZ_4K, PAGES_PER_2M, 0);
	check_strides(bed, 0, SZ_4K, PAGES_PER_2M, 1);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);

	return test_harness_run(argc, argv);
}
