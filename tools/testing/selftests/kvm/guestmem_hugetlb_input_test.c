// SPDX-License-Identifier: GPL-2.0-only
/*
 * How user space asks for a guest_memfd of huge pages, what is refused, and what
 * system calls on such a file take: sizes, offsets, and nothing that resizes it.
 */
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define NR_BLOCKS	2

FIXTURE(guestmem_hugetlb_create) {
	struct kvm_vm *vm;
};

FIXTURE_VARIANT(guestmem_hugetlb_create) {
	unsigned long vm_type;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_create, plain) {
	.vm_type = VM_TYPE_DEFAULT,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_create, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(guestmem_hugetlb_create)
{
	const char *why = why_no_pool(get_def_hugetlb_pagesz(), 1);

	if (why)
		SKIP(return, "%s", why);
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->vm = vm_create_barebones_type(variant->vm_type);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_create)
{
	kvm_vm_free(self->vm);
}

TEST_F(guestmem_hugetlb_create, flag_is_advertised)
{
	TEST_ASSERT(vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS) &
		    GUEST_MEMFD_FLAG_HUGETLB, "the flag works but is not advertised");
}

static void expect_file_of(struct kvm_vm *vm, u8 size_log2, u64 unit)
{
	int fd = create_huge_file(vm, unit, 0, size_log2);
	char order[16];

	TEST_ASSERT(file_stat(fd).st_blksize == unit,
		    "page_size_log2 %u: st_blksize is 0x%lx, expected 0x%lx", size_log2,
		    file_stat(fd).st_blksize, unit);
	TEST_ASSERT(read_fdinfo(fd, "guestmem-block-order", order, sizeof(order)),
		    "fdinfo has no order of blocks");
	TEST_ASSERT((u64)getpagesize() << strtoul(order, NULL, 0) == unit,
		    "page_size_log2 %u: fdinfo says order %s", size_log2, order);
	kvm_close(fd);
}

TEST_F(guestmem_hugetlb_create, no_size_means_the_default_size)
{
	expect_file_of(self->vm, 0, get_def_hugetlb_pagesz());
}

TEST_F(guestmem_hugetlb_create, size_is_the_one_asked_for)
{
	u8 log2;

	for (log2 = LOG2_2M; log2 <= LOG2_1G; log2 += LOG2_1G - LOG2_2M) {
		if (!why_no_pool(1ull << log2, 1))
			expect_file_of(self->vm, log2, 1ull << log2);
	}
}

TEST_F(guestmem_hugetlb_create, size_that_the_host_lacks_is_refused)
{
	char path[128];
	unsigned int log2;

	for (log2 = 1; log2 < 256; log2++) {
		if (log2 >= 12 && log2 < 64) {
			pool_path(1ull << log2, "nr", path, sizeof(path));
			if (!access(path, F_OK))
				continue;
		}
		expect_no_huge_file(self->vm, getpagesize(), 0, log2, EINVAL,
				    "a size without a pool");
	}
}

/* Where reserved words are checked, this one is checked as well; else it is ignored. */
TEST_F(guestmem_hugetlb_create, size_without_the_flag)
{
	struct kvm_create_guest_memfd args = {
		.size = getpagesize(),
		.page_size_log2 = LOG2_2M,
	};
	int fd = __vm_ioctl(self->vm, KVM_CREATE_GUEST_MEMFD, &args);

	if (get_kvm_param_bool("gmem_in_place_conversion")) {
		expect_failure(fd, EINVAL, "a page size, and no flag that takes one");
		return;
	}
	TEST_ASSERT(fd >= 0, "reserved words are not ignored: errno %d", errno);
	kvm_close(fd);
}

/* Each byte that has to be zero, by itself. */
TEST_F(guestmem_hugetlb_create, padding_and_reserved_words_must_be_zero)
{
	struct kvm_create_guest_memfd args;
	u64 i, first = offsetof(struct kvm_create_guest_memfd, padding);

	TEST_ASSERT_EQ(offsetof(struct kvm_create_guest_memfd, page_size_log2) + 1, first);
	for (i = first; i < sizeof(args); i++) {
		memset(&args, 0, sizeof(args));
		args.size = getpagesize();
		args.flags = GUEST_MEMFD_FLAG_HUGETLB;
		((u8 *)&args)[i] = 0x80;
		expect_failure(__vm_ioctl(self->vm, KVM_CREATE_GUEST_MEMFD, &args), EINVAL,
			       "a byte that has to be zero");
	}
}

TEST_F(guestmem_hugetlb_create, bad_sizes_are_refused)
{
	u64 page = getpagesize(), unit = get_def_hugetlb_pagesz();
	struct pool before = read_pool(unit);

	expect_no_huge_file(self->vm, 0, 0, 0, EINVAL, "size 0");
	expect_no_huge_file(self->vm, page - 1, 0, 0, EINVAL, "half a page");
	expect_no_huge_file(self->vm, unit + 1, 0, 0, EINVAL, "a page and a byte");
	expect_no_huge_file(self->vm, -page, 0, 0, EINVAL, "a negative size");
	expect_no_huge_file(self->vm, BIT_ULL(63) - page, 0, 0, ENOMEM, "a size to wrap at");
	expect_no_huge_file(self->vm, BIT_ULL(63) - unit, 0, 0, ENOMEM, "as much as fits");
	expect_pool(unit, &before, 0, 0, "after files that were refused");
}

/* All of its pages would be in pieces for good, where none can become private. */
TEST_F(guestmem_hugetlb_create, file_that_starts_shared_and_mappable)
{
	u64 unit = get_def_hugetlb_pagesz();
	struct pool before = read_pool(unit);
	int fd;

	if (vm_is_private(self->vm) && converts_in_place()) {
		fd = create_huge_file(self->vm, unit, GUESTMEM_SHARED, 0);
		expect_pool(unit, &before, 0, 1, "at creation");
		kvm_close(fd);
	} else {
		expect_no_huge_file(self->vm, unit, GUESTMEM_SHARED, 0, EINVAL,
				    "INIT_SHARED and MMAP");
	}
	expect_pool(unit, &before, 0, 0, "with no file there");
}

FIXTURE(guestmem_hugetlb_input) {
	struct kvm_vm *vm;
	struct pool before;
	u64 unit;
	u64 size;
	int fd;
};

/* The last block is there in part: @less bytes of it are beyond the end. */
FIXTURE_VARIANT(guestmem_hugetlb_input) {
	u8 log2;
	u64 less;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_input, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_input, 2M_odd) {
	.log2 = LOG2_2M,
	.less = SZ_4K,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_input, 1G_odd) {
	.log2 = LOG2_1G,
	.less = SZ_1G - SZ_4K,
};

FIXTURE_SETUP(guestmem_hugetlb_input)
{
	const char *why = why_no_pool(1ull << variant->log2, NR_BLOCKS);

	if (why)
		SKIP(return, "%s", why);

	self->unit = 1ull << variant->log2;
	self->size = NR_BLOCKS * self->unit - variant->less;
	self->vm = vm_create_barebones();
	self->before = read_pool(self->unit);
	self->fd = create_huge_file(self->vm, self->size, GUEST_MEMFD_FLAG_MMAP,
				    variant->log2);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_input)
{
	kvm_close(self->fd);
	expect_pool(self->unit, &self->before, 0, 0, "after the file was closed");
	kvm_vm_free(self->vm);
}

static void expect_allocated(int fd, u64 bytes, const char *when)
{
	expect_pages(fd, bytes / getpagesize(), when);
}

TEST_F_TIMEOUT(guestmem_hugetlb_input, size_is_as_asked_and_whole_blocks_are_reserved, 240)
{
	TEST_ASSERT_EQ(file_stat(self->fd).st_size, self->size);
	TEST_ASSERT_EQ(file_stat(self->fd).st_blksize, self->unit);
	expect_allocated(self->fd, 0, "at creation");
	expect_pool(self->unit, &self->before, 0, NR_BLOCKS, "at creation");
}

/* What is allocated and punched is a block, or what the file has of the last one. */
TEST_F_TIMEOUT(guestmem_hugetlb_input, last_block_goes_up_to_the_end_of_the_file, 240)
{
	u64 unit = self->unit, rest = self->size - unit;

	TEST_ASSERT(!allocate_bytes(self->fd, unit, rest), "errno %d", errno);
	expect_allocated(self->fd, unit, "with the last block there");
	TEST_ASSERT(!allocate_bytes(self->fd, 0, self->size), "errno %d", errno);
	expect_allocated(self->fd, 2 * unit, "with both blocks there");

	TEST_ASSERT(!punch_bytes(self->fd, unit, rest), "errno %d", errno);
	expect_allocated(self->fd, unit, "with a hole in the place of the last block");
	TEST_ASSERT(!punch_bytes(self->fd, 0, self->size), "errno %d", errno);
	expect_allocated(self->fd, 0, "with all punched out");
	TEST_ASSERT_EQ(file_stat(self->fd).st_size, self->size);
}

/* A hole may end beyond the file, as long as it ends with a block. */
TEST_F_TIMEOUT(guestmem_hugetlb_input, hole_may_reach_beyond_the_end, 240)
{
	u64 unit = self->unit;

	allocate_blocks(self->fd, unit, 0, 1);
	punch_blocks(self->fd, unit, 2, 1);
	punch_blocks(self->fd, unit, 1000, 3);
	expect_allocated(self->fd, unit, "after holes behind the end");
	punch_blocks(self->fd, unit, 0, 4);
	expect_allocated(self->fd, 0, "after a hole over all and more");
}

TEST_F_TIMEOUT(guestmem_hugetlb_input, ranges_that_are_no_blocks_are_refused, 240)
{
	u64 page = getpagesize(), unit = self->unit;
	const u64 bad[][2] = {
		{ page, unit - page },
		{ page, unit },
		{ unit - page, page },
		{ 0, page },
		{ 0, unit - page },
		{ 0, unit + page },
		{ unit / 2, unit / 2 },
		{ 1, unit },
		{ 0, unit - 1 },
		{ self->size - page, page },
	};
	int i;

	allocate_blocks(self->fd, unit, 0, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		/* All of the file, if that is what is left of two blocks. */
		if (bad[i][0] + bad[i][1] == self->size && !(bad[i][0] % unit))
			continue;
		/* One page of the last block, which then begins with it. */
		if (bad[i][0] % unit == 0 && bad[i][1] % unit == 0)
			continue;
		expect_failure(allocate_bytes(self->fd, bad[i][0], bad[i][1]), EINVAL,
			       "fallocate() of no block");
		expect_failure(punch_bytes(self->fd, bad[i][0], bad[i][1]), EINVAL,
			       "a hole that is no block");
	}
	expect_allocated(self->fd, unit, "after ranges that were refused");
}

TEST_F_TIMEOUT(guestmem_hugetlb_input, nothing_is_allocated_beyond_the_end, 240)
{
	expect_failure(allocate_bytes(self->fd, 2 * self->unit, self->unit), EINVAL,
		       "fallocate() behind the end");
	expect_failure(allocate_bytes(self->fd, self->unit, 2 * self->unit), EINVAL,
		       "fallocate() across the end");
	expect_allocated(self->fd, 0, "after what was refused");
}

/* What the file does not reach to is there all the same, to be punched but not asked for. */
TEST_F_TIMEOUT(guestmem_hugetlb_input, last_block_in_full, 240)
{
	u64 unit = self->unit;
	int want = variant->less ? EINVAL : 0;

	expect_failure(allocate_bytes(self->fd, unit, unit), want, "all of the last block");
	expect_allocated(self->fd, want ? 0 : unit, "after all of the last block");
	expect_failure(allocate_bytes(self->fd, 0, 2 * unit), want, "all of both blocks");
	expect_allocated(self->fd, want ? 0 : 2 * unit, "after all of both blocks");

	TEST_ASSERT(!allocate_bytes(self->fd, 0, self->size), "errno %d", errno);
	TEST_ASSERT(!punch_bytes(self->fd, unit, unit), "errno %d", errno);
	expect_allocated(self->fd, unit, "with all of the last block punched out");
	expect_pool(unit, &self->before, 1, 1, "with all of the last block punched out");
	TEST_ASSERT_EQ(file_stat(self->fd).st_size, self->size);
}

TEST_F_TIMEOUT(guestmem_hugetlb_input, cannot_be_read_written_or_resized, 240)
{
	char byte = 0;

	expect_failure(read(self->fd, &byte, 1), EINVAL, "read()");
	expect_failure(write(self->fd, &byte, 1), EINVAL, "write()");
	expect_failure(ftruncate(self->fd, self->size - self->unit), EINVAL,
		       "ftruncate() to less");
	expect_failure(ftruncate(self->fd, self->size + self->unit), EINVAL,
		       "ftruncate() to more");
	expect_failure(fallocate(self->fd, 0, 0, self->unit), EOPNOTSUPP,
		       "fallocate() that may grow the file");
	TEST_ASSERT_EQ(file_stat(self->fd).st_size, self->size);
}

/* Nothing of it is ever shared; the mapping is there to be told of policies. */
TEST_F_TIMEOUT(guestmem_hugetlb_input, can_be_mapped_but_not_touched, 240)
{
	char *mem = map_file(self->fd, self->size);

	TEST_EXPECT_SIGBUS((void)READ_ONCE(*mem));
	allocate_blocks(self->fd, self->unit, 0, 1);
	TEST_EXPECT_SIGBUS((void)READ_ONCE(*mem));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(mem[self->unit - 1], 1));
	kvm_munmap(mem, self->size);
	expect_allocated(self->fd, self->unit, "after faults that failed");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);

	return test_harness_run(argc, argv);
}
