/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guestmem_convert_*_test programs have in common: converting pages of
 * a file in place, and looking at the result.
 */
#ifndef SELFTEST_KVM_GUESTMEM_CONVERT_H
#define SELFTEST_KVM_GUESTMEM_CONVERT_H

#include "guestmem_util.h"

/* Whatever error_offset holds before a call that must not write it. */
#define NO_OFFSET	0x5eed5eed5eedull

static inline int set_attributes(int fd, struct kvm_memory_attributes2 *attrs)
{
	return ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, attrs);
}

static inline struct kvm_memory_attributes2 page_attributes(u64 first, u64 nr, bool private)
{
	return (struct kvm_memory_attributes2) {
		.offset = first * getpagesize(),
		.size = nr * getpagesize(),
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
		.error_offset = NO_OFFSET,
	};
}

/* Returns 0 or the errno. */
static inline int try_convert(int fd, u64 first, u64 nr, bool private)
{
	struct kvm_memory_attributes2 attrs = page_attributes(first, nr, private);

	return set_attributes(fd, &attrs) ? errno : 0;
}

static inline void convert(int fd, u64 first, u64 nr, bool private)
{
	int err = try_convert(fd, first, nr, private);

	TEST_ASSERT(!err, "%lu pages from %lu to %s: %s (%d)", nr, first,
		    private ? "private" : "shared", strerror(err), err);
}

static inline void make_private(int fd, u64 first, u64 nr)
{
	convert(fd, first, nr, true);
}

static inline void make_shared(int fd, u64 first, u64 nr)
{
	convert(fd, first, nr, false);
}

/* The page where the conversion was refused, counted from the start of the file. */
static inline void expect_refused_at(int fd, u64 first, u64 nr, bool private, int err,
				     u64 page)
{
	struct kvm_memory_attributes2 attrs = page_attributes(first, nr, private);
	int got = set_attributes(fd, &attrs) ? errno : 0;

	TEST_ASSERT(got == err, "%lu pages from %lu to %s: %s (%d), expected %s",
		    nr, first, private ? "private" : "shared", strerror(got), got,
		    strerror(err));
	TEST_ASSERT(attrs.error_offset == page * getpagesize(),
		    "refused at offset 0x%llx, expected page %lu",
		    attrs.error_offset, page);
}

/* A file of debugfs' directory of @fd; a negative number if there is none. */
static inline int open_debugfs(int fd, const char *name)
{
	char path[96];

	guestmem_debugfs_path(fd, name, path, sizeof(path));
	return open(path, O_RDONLY);
}

static inline void read_from_start(int file, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = pread(file, text + len, size - 1 - len, len)) > 0)
		len += n;
	TEST_ASSERT(!n, __KVM_SYSCALL_ERROR("pread()", (int)n));
	text[len] = '\0';
}

static inline void read_debugfs(int fd, const char *name, char *text, size_t size)
{
	int file = open_debugfs(fd, name);

	TEST_ASSERT(file >= 0, "debugfs does not show the file: errno %d", errno);
	read_from_start(file, text, size);
	kvm_close(file);
}

/* What debugfs has to show for a file whose pages have these states. */
static inline void print_states(const bool *private, u64 nr_pages, char *text, size_t size)
{
	u64 start, end;
	size_t len = 0;

	for (start = 0; start < nr_pages; start = end) {
		for (end = start + 1; end < nr_pages; end++)
			if (private[end] != private[start])
				break;
		len += snprintf(text + len, size - len, "%lu %lu %s\n", start, end,
				private[start] ? "private" : "shared");
		TEST_ASSERT(len < size, "no room for the states");
	}
}

static inline void expect_states_shown(int file, const bool *private, u64 nr_pages,
				       const char *when)
{
	char want[SZ_4K], got[SZ_4K] = {};
	ssize_t len;

	print_states(private, nr_pages, want, sizeof(want));
	/* All that there is, in one go: it is less than a page. */
	len = pread(file, got, sizeof(got) - 1, 0);
	TEST_ASSERT(len == strlen(want) && !strcmp(got, want),
		    "%s: states are\n%sexpected\n%s", when, got, want);
}

static inline void expect_states(int fd, const bool *private, u64 nr_pages, const char *when)
{
	int file = open_debugfs(fd, "states");

	TEST_ASSERT(file >= 0, "debugfs does not show the file: errno %d", errno);
	expect_states_shown(file, private, nr_pages, when);
	kvm_close(file);
}

#define PAGEMAP	"/proc/self/pagemap"

static inline bool pagemap_available(void)
{
	return !access(PAGEMAP, R_OK);
}

/* Does this process map a page at @mem? */
static inline bool host_maps(const void *mem)
{
	unsigned long page = (unsigned long)mem / getpagesize();
	int fd = open(PAGEMAP, O_RDONLY);
	u64 entry;

	TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR("open()", fd));
	TEST_ASSERT(pread(fd, &entry, sizeof(entry), page * sizeof(entry)) == sizeof(entry),
		    "cannot read the page map");
	kvm_close(fd);
	return entry >> 63;
}

/* A private-memory VM with one vCPU in guest_main(), on one file. */
struct convert_bed {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	size_t size;
	void *mem;
	int fd;
};

static inline struct convert_bed create_convert_bed(u64 nr_pages, u64 flags)
{
	struct convert_bed bed = { .size = nr_pages * getpagesize() };

	bed.vm = create_vm_for(KVM_X86_SW_PROTECTED_VM, bed.size, guest_main, &bed.vcpu);
	bed.fd = vm_create_guest_memfd(bed.vm, bed.size, flags);
	bind_file(bed.vm, GUESTMEM_GPA, bed.size, bed.fd, 0);
	virt_map(bed.vm, GUESTMEM_GPA, GUESTMEM_GPA, nr_pages);
	if (flags & GUEST_MEMFD_FLAG_MMAP)
		bed.mem = map_file(bed.fd, bed.size);
	return bed;
}

static inline void free_convert_bed(struct convert_bed *bed)
{
	if (bed->mem)
		kvm_munmap(bed->mem, bed->size);
	kvm_close(bed->fd);
	kvm_vm_free(bed->vm);
}

static inline void *host_page(struct convert_bed *bed, u64 page)
{
	return bed->mem + page * getpagesize();
}

static inline void guest_fills(struct convert_bed *bed, u64 first, u64 nr, u64 seed)
{
	u64 page = getpagesize();

	guest_do(bed->vcpu, GUEST_FILL, GUESTMEM_GPA + first * page, nr * page, seed);
}

static inline void guest_checks(struct convert_bed *bed, u64 first, u64 nr, u64 seed)
{
	u64 page = getpagesize();

	guest_do(bed->vcpu, GUEST_CHECK, GUESTMEM_GPA + first * page, nr * page, seed);
}

static inline void host_fills(struct convert_bed *bed, u64 first, u64 nr, u64 seed)
{
	pattern_fill(host_page(bed, first), nr * getpagesize(), seed);
}

static inline void host_checks(struct convert_bed *bed, u64 first, u64 nr, u64 seed,
			       const char *what)
{
	expect_pattern(host_page(bed, first), nr * getpagesize(), seed, what);
}

static inline void expect_host_refused(void *mem)
{
	TEST_EXPECT_SIGBUS(READ_ONCE(*(char *)mem));
	TEST_EXPECT_SIGBUS(WRITE_ONCE(*(char *)mem, 1));
}

static inline bool convert_available(void)
{
	return converts_in_place() && vm_type_available(KVM_X86_SW_PROTECTED_VM);
}

static inline void require_convert(void)
{
	__TEST_REQUIRE(convert_available(),
		       "kvm.gmem_in_place_conversion is off, or KVM lacks VMs with private memory");
	__TEST_REQUIRE(!access("/sys/kernel/debug/guestmem", X_OK),
		       "debugfs does not show the files of guestmem");
}

#endif /* SELFTEST_KVM_GUESTMEM_CONVERT_H */
