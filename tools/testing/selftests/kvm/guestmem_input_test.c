// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bad input to a guest_memfd: each call is refused with the errno user space
 * relies on, changes nothing, and leaves the file usable.
 */
#include <sys/uio.h>

#include "guestmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	8
#define NR_ALLOCATED	4
#define SEED		0x5e

#define KEEP	FALLOC_FL_KEEP_SIZE
#define PUNCH	(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* A file in a known state, which no bad input may change. */
struct victim {
	struct kvm_vm *vm;
	struct stat before;
	void *content;
	size_t size;
	char *mem;
	int fd;
};

static struct victim create_victim(u64 flags)
{
	struct victim v = { .size = NR_PAGES * getpagesize() };

	v.vm = vm_create_barebones();
	v.fd = vm_create_guest_memfd(v.vm, v.size, flags);

	allocate_pages(v.fd, 0, NR_ALLOCATED);
	if (flags & GUEST_MEMFD_FLAG_MMAP)
		v.mem = map_file(v.fd, 2 * v.size);
	if (flags == GUESTMEM_SHARED) {
		v.content = v.mem;
		pattern_fill(v.content, NR_ALLOCATED * getpagesize(), SEED);
	}
	v.before = file_stat(v.fd);
	return v;
}

/* Whatever was tried, the file does what it is for. */
static void free_victim(struct victim *v)
{
	allocate_pages(v->fd, 0, NR_PAGES);
	punch_pages(v->fd, 0, NR_PAGES);

	if (v->mem)
		kvm_munmap(v->mem, 2 * v->size);
	kvm_close(v->fd);
	kvm_vm_free(v->vm);
}

static void expect_unchanged(const struct victim *v, const char *what)
{
	struct stat now = file_stat(v->fd);

	TEST_ASSERT(now.st_size == v->before.st_size,
		    "%s: failed, yet st_size went from %lu to %lu", what,
		    v->before.st_size, now.st_size);
	TEST_ASSERT(now.st_blocks == v->before.st_blocks,
		    "%s: failed, yet st_blocks went from %lu to %lu", what,
		    v->before.st_blocks, now.st_blocks);
	if (v->content)
		expect_pattern(v->content, NR_ALLOCATED * getpagesize(), SEED, what);
}

/* To be called right after the system call; errno is still that call's. */
static void expect_errno(long ret, int want, const char *what)
{
	int got = ret < 0 ? errno : 0;

	/* The library turns a failure with EACCES into a skip. */
	errno = 0;
	TEST_ASSERT(got == want, "%s: got %s (%d), expected %s (%d)", what,
		    got ? strerror(got) : "success", got, strerror(want), want);
}

#define EXPECT_REFUSED(want, call)			\
do {							\
	expect_errno(call, want, #call);		\
	expect_unchanged(v, #call);			\
} while (0)

static int lowest_free_fd(void)
{
	int fd = kvm_dup(0);

	kvm_close(fd);
	return fd;
}

static void expect_create_refused(struct kvm_vm *vm, u64 size, u64 flags)
{
	int free_fd = lowest_free_fd();
	int fd = __vm_create_guest_memfd(vm, size, flags);

	TEST_ASSERT(fd < 0 && errno == EINVAL,
		    "size 0x%lx flags 0x%lx: got %d errno %d, expected EINVAL",
		    size, flags, fd, errno);
	TEST_ASSERT(lowest_free_fd() == free_fd,
		    "size 0x%lx flags 0x%lx: refused, but kept fd %d", size,
		    flags, free_fd);
}

FIXTURE(guestmem_input) {
	struct victim victim;
};

FIXTURE_VARIANT(guestmem_input) {
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_input, plain) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(guestmem_input, mmap) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(guestmem_input, shared) {
	.flags = GUESTMEM_SHARED,
};

FIXTURE_SETUP(guestmem_input)
{
	self->victim = create_victim(variant->flags);
}

FIXTURE_TEARDOWN(guestmem_input)
{
	free_victim(&self->victim);
}

TEST_F(guestmem_input, create_with_bad_size)
{
	struct victim *v = &self->victim;
	u64 page = getpagesize();
	u64 sizes[] = {
		0, 1, page - 1, page + 1, -1ull, -page, 1ull << 63,
		(1ull << 63) - 1,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		expect_create_refused(v->vm, sizes[i], variant->flags);
}

TEST_F(guestmem_input, create_with_unknown_flag)
{
	struct victim *v = &self->victim;

	expect_create_refused(v->vm, getpagesize(), 1ull << 2);
	expect_create_refused(v->vm, getpagesize(), 1ull << 31);
	expect_create_refused(v->vm, getpagesize(), 1ull << 63);
	expect_create_refused(v->vm, getpagesize(), -1ull);
	expect_create_refused(v->vm, getpagesize(), variant->flags | 1ull << 63);
}

struct bad_fallocate {
	const char *what;
	int mode;
	off_t offset;
	off_t len;
	int err;
};

static void expect_all_refused(const struct victim *v,
			       const struct bad_fallocate *bad, int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		expect_errno(fallocate(v->fd, bad[i].mode, bad[i].offset,
				       bad[i].len), bad[i].err, bad[i].what);
		expect_unchanged(v, bad[i].what);
	}
}

TEST_F(guestmem_input, fallocate_unaligned)
{
	struct victim *v = &self->victim;
	off_t page = getpagesize();
	struct bad_fallocate bad[] = {
		{ "allocate, offset unaligned", KEEP, 1, page, EINVAL },
		{ "allocate, offset + len aligned", KEEP, 1, page - 1, EINVAL },
		{ "allocate, len unaligned", KEEP, 0, page + 1, EINVAL },
		{ "allocate, len below a page", KEEP, page, 1, EINVAL },
		{ "punch, offset unaligned", PUNCH, 1, page, EINVAL },
		{ "punch, offset + len aligned", PUNCH, 1, page - 1, EINVAL },
		{ "punch, len unaligned", PUNCH, 0, page + 1, EINVAL },
		{ "punch, len below a page", PUNCH, page, 1, EINVAL },
	};

	expect_all_refused(v, bad, ARRAY_SIZE(bad));
}

TEST_F(guestmem_input, fallocate_out_of_range)
{
	struct victim *v = &self->victim;
	off_t page = getpagesize();
	off_t end = v->size;
	off_t max = (1ull << 63) - page;
	struct bad_fallocate bad[] = {
		{ "allocate at the end", KEEP, end, page, EINVAL },
		{ "allocate behind the end", KEEP, end + page, page, EINVAL },
		{ "allocate across the end", KEEP, end - page, 2 * page, EINVAL },
		{ "allocate far too much", KEEP, 0, max, EINVAL },
		{ "allocate, negative offset", KEEP, -page, page, EINVAL },
		{ "allocate, negative len", KEEP, page, -page, EINVAL },
		{ "allocate, no len", KEEP, 0, 0, EINVAL },
		{ "allocate, end overflows", KEEP, max, page, EFBIG },
		{ "punch, negative offset", PUNCH, -page, page, EINVAL },
		{ "punch, negative len", PUNCH, page, -page, EINVAL },
		{ "punch, no len", PUNCH, 0, 0, EINVAL },
		{ "punch, end overflows", PUNCH, max, page, EFBIG },
	};

	expect_all_refused(v, bad, ARRAY_SIZE(bad));
}

TEST_F(guestmem_input, fallocate_unknown_mode)
{
	struct victim *v = &self->victim;
	off_t page = getpagesize();
	struct bad_fallocate bad[] = {
		{ "allocate without KEEP_SIZE", 0, 0, page, EOPNOTSUPP },
		{ "punch without KEEP_SIZE", FALLOC_FL_PUNCH_HOLE, 0, page, EOPNOTSUPP },
		{ "zero range", FALLOC_FL_ZERO_RANGE, 0, page, EOPNOTSUPP },
		{ "zero range, KEEP_SIZE", FALLOC_FL_ZERO_RANGE | KEEP, 0, page, EOPNOTSUPP },
		{ "collapse range", FALLOC_FL_COLLAPSE_RANGE, 0, page, EOPNOTSUPP },
		{ "insert range", FALLOC_FL_INSERT_RANGE, 0, page, EOPNOTSUPP },
		{ "unshare range", FALLOC_FL_UNSHARE_RANGE | KEEP, 0, page, EOPNOTSUPP },
		{ "no such mode", 1 << 30 | KEEP, 0, page, EOPNOTSUPP },
	};

	expect_all_refused(v, bad, ARRAY_SIZE(bad));
}

/* Not an error: a VMM may round its holes up. */
TEST_F(guestmem_input, hole_past_the_end_does_nothing)
{
	struct victim *v = &self->victim;

	punch_pages(v->fd, NR_PAGES, 1);
	punch_pages(v->fd, 1000 * NR_PAGES, NR_PAGES);
	expect_unchanged(v, "punch past the end");
}

TEST_F(guestmem_input, truncate)
{
	struct victim *v = &self->victim;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", v->fd);

	EXPECT_REFUSED(EINVAL, ftruncate(v->fd, 0));
	EXPECT_REFUSED(EINVAL, ftruncate(v->fd, v->size / 2));
	EXPECT_REFUSED(EINVAL, ftruncate(v->fd, v->size));
	EXPECT_REFUSED(EINVAL, ftruncate(v->fd, v->size * 2));
	EXPECT_REFUSED(EINVAL, ftruncate(v->fd, -1));
	EXPECT_REFUSED(EINVAL, truncate(path, 0));
}

TEST_F(guestmem_input, read_and_write)
{
	struct victim *v = &self->victim;
	char buf[64] = {};
	struct iovec iov = { buf, sizeof(buf) };

	EXPECT_REFUSED(EINVAL, read(v->fd, buf, sizeof(buf)));
	EXPECT_REFUSED(EINVAL, readv(v->fd, &iov, 1));
	EXPECT_REFUSED(EINVAL, write(v->fd, buf, sizeof(buf)));
	EXPECT_REFUSED(EINVAL, writev(v->fd, &iov, 1));
}

/* A file that cannot be read or written has no position either. */
TEST_F(guestmem_input, seek)
{
	struct victim *v = &self->victim;
	char buf[64] = {};

	EXPECT_REFUSED(ESPIPE, lseek(v->fd, 0, SEEK_SET));
	EXPECT_REFUSED(ESPIPE, pread(v->fd, buf, sizeof(buf), 0));
	EXPECT_REFUSED(ESPIPE, pwrite(v->fd, buf, sizeof(buf), 0));
}

/* The second name of the file would have no VM behind it. */
TEST_F(guestmem_input, open_through_proc)
{
	struct victim *v = &self->victim;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", v->fd);
	EXPECT_REFUSED(ENXIO, open(path, O_RDWR));
}

TEST_F(guestmem_input, ioctl)
{
	struct victim *v = &self->victim;

	EXPECT_REFUSED(ENOTTY, ioctl(v->fd, KVM_GET_API_VERSION, 0));
	EXPECT_REFUSED(ENOTTY, ioctl(v->fd, KVM_CHECK_EXTENSION,
				     KVM_CAP_GUEST_MEMFD));
}

static int try_mmap(int fd, int prot, int flags)
{
	void *mem = mmap(NULL, getpagesize(), prot, flags, fd, 0);

	if (mem == MAP_FAILED)
		return -1;
	kvm_munmap(mem, getpagesize());
	return 0;
}

FIXTURE(guestmem_unmappable) {
	struct victim victim;
};

FIXTURE_SETUP(guestmem_unmappable)
{
	self->victim = create_victim(0);
}

FIXTURE_TEARDOWN(guestmem_unmappable)
{
	free_victim(&self->victim);
}

TEST_F(guestmem_unmappable, mmap)
{
	struct victim *v = &self->victim;

	EXPECT_REFUSED(ENODEV, try_mmap(v->fd, PROT_READ, MAP_SHARED));
	EXPECT_REFUSED(ENODEV, try_mmap(v->fd, PROT_NONE, MAP_SHARED));
	EXPECT_REFUSED(ENODEV, try_mmap(v->fd, PROT_READ, MAP_PRIVATE));
}

FIXTURE(guestmem_mappable) {
	struct victim victim;
};

FIXTURE_VARIANT(guestmem_mappable) {
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_mappable, mmap) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(guestmem_mappable, shared) {
	.flags = GUESTMEM_SHARED,
};

FIXTURE_SETUP(guestmem_mappable)
{
	self->victim = create_victim(variant->flags);
}

FIXTURE_TEARDOWN(guestmem_mappable)
{
	free_victim(&self->victim);
}

TEST_F(guestmem_mappable, mmap_private)
{
	struct victim *v = &self->victim;

	EXPECT_REFUSED(EINVAL, try_mmap(v->fd, PROT_READ, MAP_PRIVATE));
	EXPECT_REFUSED(EINVAL, try_mmap(v->fd, PROT_READ | PROT_WRITE, MAP_PRIVATE));
}

TEST_F(guestmem_mappable, executable)
{
	struct victim *v = &self->victim;

	EXPECT_REFUSED(EPERM, try_mmap(v->fd, PROT_READ | PROT_EXEC, MAP_SHARED));
	EXPECT_REFUSED(EACCES, mprotect(v->mem, v->size, PROT_READ | PROT_EXEC));
}

TEST_F(guestmem_mappable, host_fault_past_the_end)
{
	struct victim *v = &self->victim;

	TEST_EXPECT_SIGBUS(READ_ONCE(v->mem[v->size]));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(v->mem[2 * v->size - 1], 1));
	expect_unchanged(v, "host fault past the end");
}

/* MMAP without INIT_SHARED: there is a mapping but nothing to see in it. */
FIXTURE(guestmem_mapped_private) {
	struct victim victim;
};

FIXTURE_SETUP(guestmem_mapped_private)
{
	self->victim = create_victim(GUEST_MEMFD_FLAG_MMAP);
}

FIXTURE_TEARDOWN(guestmem_mapped_private)
{
	free_victim(&self->victim);
}

TEST_F(guestmem_mapped_private, host_fault)
{
	struct victim *v = &self->victim;

	TEST_EXPECT_SIGBUS(READ_ONCE(v->mem[0]));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(v->mem[0], 1));
	TEST_EXPECT_SIGBUS(READ_ONCE(v->mem[v->size - 1]));
	expect_unchanged(v, "host fault on private memory");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
