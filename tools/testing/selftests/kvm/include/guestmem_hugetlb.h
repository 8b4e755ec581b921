/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guestmem_hugetlb_*_test programs have in common: pools and what they
 * count, files of huge pages, and a guest that touches them in strides.
 */
#ifndef SELFTEST_KVM_GUESTMEM_HUGETLB_H
#define SELFTEST_KVM_GUESTMEM_HUGETLB_H

#include "guestmem_util.h"
#include "processor.h"

#define LOG2_2M	21
#define LOG2_1G	30

/* What sysfs says of one size of huge pages. */
struct pool {
	u64 nr;
	u64 free;
	u64 resv;
	u64 surplus;
};

static inline void pool_path(u64 unit, const char *what, char *path, size_t size)
{
	snprintf(path, size, "/sys/kernel/mm/hugepages/hugepages-%lukB/%s_hugepages",
		 unit / SZ_1K, what);
}

static inline u64 read_number(const char *path)
{
	u64 number;
	FILE *f;

	f = fopen(path, "r");
	TEST_ASSERT(f, "cannot open %s, errno %d", path, errno);
	TEST_ASSERT(fscanf(f, "%lu", &number) == 1, "%s holds no number", path);
	fclose(f);
	return number;
}

/* 0, or a negative errno. */
static inline int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t len = strlen(text);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != len)
		err = -errno;
	kvm_close(fd);
	return err;
}

static inline int write_number(const char *path, u64 number)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", number);
	return write_text(path, text);
}

static inline u64 pool_read(u64 unit, const char *what)
{
	char path[128];

	pool_path(unit, what, path, sizeof(path));
	return read_number(path);
}

static inline void pool_write(u64 unit, const char *what, u64 number)
{
	char path[128];
	int err;

	pool_path(unit, what, path, sizeof(path));
	err = write_number(path, number);
	TEST_ASSERT(!err, "cannot write %lu to %s, error %d", number, path, err);
}

static inline struct pool read_pool(u64 unit)
{
	return (struct pool) {
		.nr = pool_read(unit, "nr"),
		.free = pool_read(unit, "free"),
		.resv = pool_read(unit, "resv"),
		.surplus = pool_read(unit, "surplus"),
	};
}

/* Pages that nobody has and nobody has reserved. */
static inline u64 pool_available(u64 unit)
{
	struct pool pool = read_pool(unit);

	return pool.free - pool.resv;
}

/* The pool is @before with @taken pages in use and @resv more reserved. */
static inline void expect_pool(u64 unit, const struct pool *before, long taken,
			       long resv, const char *when)
{
	struct pool now = read_pool(unit);

	TEST_ASSERT(now.nr == before->nr && now.surplus == before->surplus,
		    "%s: the pool went from %lu pages (%lu surplus) to %lu (%lu)",
		    when, before->nr, before->surplus, now.nr, now.surplus);
	TEST_ASSERT(now.free == before->free - taken,
		    "%s: %lu pages are free, expected %lu", when, now.free,
		    before->free - taken);
	TEST_ASSERT(now.resv == before->resv + resv,
		    "%s: %lu pages are reserved, expected %lu", when, now.resv,
		    before->resv + resv);
}

/* Blocks that come back in the background take less, unless the machine is busy. */
#define PATIENCE_MS	20000

static inline void expect_pool_back(u64 unit, const struct pool *before, const char *when)
{
	int ms;

	for (ms = 0; ms < PATIENCE_MS && pool_read(unit, "free") < before->free; ms++)
		usleep(1000);
	expect_pool(unit, before, 0, 0, when);
}

/* NULL, or why a test that needs @nr pages of this size cannot run. */
static inline const char *why_no_pool(u64 unit, u64 nr)
{
	static char why[96];
	char path[128];

	pool_path(unit, "nr", path, sizeof(path));
	if (access(path, R_OK))
		snprintf(why, sizeof(why), "no huge pages of %lu kB", unit / SZ_1K);
	else if (pool_available(unit) < nr)
		snprintf(why, sizeof(why), "needs %lu free huge pages of %lu kB", nr,
			 unit / SZ_1K);
	else
		return NULL;

	return why;
}

static inline int __create_huge_file(struct kvm_vm *vm, u64 size, u64 flags,
				     u8 size_log2)
{
	struct kvm_create_guest_memfd args = {
		.size = size,
		.flags = flags | GUEST_MEMFD_FLAG_HUGETLB,
		.page_size_log2 = size_log2,
	};

	return __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
}

static inline int create_huge_file(struct kvm_vm *vm, u64 size, u64 flags,
				   u8 size_log2)
{
	int fd = __create_huge_file(vm, size, flags, size_log2);

	TEST_ASSERT(fd >= 0, "no file of 0x%lx bytes with pages of 2^%u, flags 0x%lx: errno %d",
		    size, size_log2, flags, errno);
	return fd;
}

/* With its mapping, unless that was done before. */
static inline void close_huge_file(int *fd, void *mem, u64 size)
{
	if (*fd < 0)
		return;
	kvm_munmap(mem, size);
	kvm_close(*fd);
	*fd = -1;
}

/* To be called right after the system call; errno is still that call's. */
static inline void expect_failure(long ret, int want, const char *what)
{
	int got = ret < 0 ? errno : 0;

	/* The library turns a failure with EACCES into a skip. */
	errno = 0;
	TEST_ASSERT(got == want, "%s: got %s (%d), expected %s (%d)", what,
		    got ? strerror(got) : "success", got, strerror(want), want);
}

static inline void expect_no_huge_file(struct kvm_vm *vm, u64 size, u64 flags,
				       u8 size_log2, int want, const char *what)
{
	expect_failure(__create_huge_file(vm, size, flags, size_log2), want, what);
}

static inline int allocate_bytes(int fd, u64 offset, u64 size)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, size);
}

static inline int punch_bytes(int fd, u64 offset, u64 size)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size);
}

static inline void allocate_blocks(int fd, u64 unit, u64 first, u64 nr)
{
	TEST_ASSERT(!allocate_bytes(fd, first * unit, nr * unit),
		    "fallocate() of %lu blocks from %lu: errno %d", nr, first, errno);
}

static inline void punch_blocks(int fd, u64 unit, u64 first, u64 nr)
{
	TEST_ASSERT(!punch_bytes(fd, first * unit, nr * unit),
		    "a hole of %lu blocks from %lu: errno %d", nr, first, errno);
}

/* The pfn of a page of a file as debugfs shows it; 0 if the page is absent. */
static inline u64 shown_pfn(int fd, u64 want)
{
	u64 index, order, pfn, found = 0;
	char path[64];
	FILE *f;

	guestmem_debugfs_path(fd, "pfns", path, sizeof(path));
	f = fopen(path, "r");
	TEST_ASSERT(f, "cannot open %s, errno %d", path, errno);
	while (!found && fscanf(f, "%lu %lu %lx", &index, &order, &pfn) == 3) {
		if (want >= index && want < index + (1ull << order))
			found = pfn + want - index;
	}
	fclose(f);
	return found;
}

/* How many folios of an order a file has, as debugfs shows it. */
static inline u64 shown_folios(int fd, unsigned int order)
{
	char path[64], key[24], value[24];

	guestmem_debugfs_path(fd, "layout", path, sizeof(path));
	snprintf(key, sizeof(key), "folios-order-%u", order);
	return read_shown(path, key, value, sizeof(value)) ? strtoul(value, NULL, 0) : 0;
}

static inline void __expect_folios(int fd, unsigned int order, u64 want, int line)
{
	u64 got = shown_folios(fd, order);

	TEST_ASSERT(got == want, "line %d: %lu folios of order %u, expected %lu", line, got,
		    order, want);
}

#define expect_folios(fd, order, want)	__expect_folios(fd, order, want, __LINE__)

/* What the guest does: words that lie @stride bytes apart, each with its number. */
struct guest_stride {
	u64 op;
	u64 gva;
	u64 stride;
	u64 nr;
	u64 seed;
};

static struct guest_stride guest_stride;

static inline void guest_stride_one(const struct guest_stride *s, u64 i)
{
	u64 *word = (u64 *)(s->gva + i * s->stride);
	u64 want = pattern_word(s->seed, i);

	if (s->op == GUEST_FILL)
		WRITE_ONCE(*word, want);
	else
		__GUEST_ASSERT(READ_ONCE(*word) == want,
			       "guest reads 0x%lx at 0x%lx, expected 0x%lx",
			       *word, (u64)word, want);
}

static inline void guest_stride_main(void)
{
	struct guest_stride s;
	u64 i;

	for (;;) {
		s = guest_stride;
		for (i = 0; i < s.nr; i++)
			guest_stride_one(&s, i);
		GUEST_DONE();
	}
}

static inline void guest_stride_set(struct kvm_vm *vm, enum guest_op op, gva_t gva,
				    u64 stride, u64 nr, u64 seed)
{
	guest_stride = (struct guest_stride) {
		.op = op,
		.gva = gva,
		.stride = stride,
		.nr = nr,
		.seed = seed,
	};
	sync_global_to_guest(vm, guest_stride);
}

static inline void guest_strides(struct kvm_vcpu *vcpu, enum guest_op op, gva_t gva,
				 u64 stride, u64 nr, u64 seed)
{
	guest_stride_set(vcpu->vm, op, gva, stride, nr, seed);
	vcpu_run(vcpu);
	expect_guest_done(vcpu);
}

/* A VM, with one file of huge pages where the guest sees GUESTMEM_GPA. */
struct huge_bed {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 unit;
	u64 size;
	u64 flags;
	int fd;
};

/* As much virtual as guest memory, in steps of 2 MiB so that it does not take all day. */
static inline void map_huge_bed(struct huge_bed *bed)
{
	virt_map_level(bed->vm, GUESTMEM_GPA, GUESTMEM_GPA,
		       round_up(bed->size, SZ_2M), PG_LEVEL_2M);
}

static inline struct huge_bed __create_huge_bed(unsigned long type, u8 size_log2,
						u64 size, u64 flags)
{
	struct huge_bed bed = {
		.unit = 1ull << size_log2,
		.size = size,
		.flags = flags,
	};

	bed.vm = create_vm_for(type, SZ_16M, guest_stride_main, &bed.vcpu);
	bed.fd = create_huge_file(bed.vm, size, bed.flags, size_log2);
	return bed;
}

/* The file is of the kind that the VM type can do with. */
static inline struct huge_bed create_huge_bed(unsigned long type, u8 size_log2,
					      u64 size)
{
	return __create_huge_bed(type, size_log2, size,
				 type == VM_TYPE_DEFAULT ? GUEST_MEMFD_FLAG_MMAP : 0);
}

static inline void bind_huge_bed(struct huge_bed *bed)
{
	bind_file(bed->vm, GUESTMEM_GPA, bed->size, bed->fd, 0);
	map_huge_bed(bed);
}

static inline struct huge_bed create_bound_bed(unsigned long type, u8 size_log2,
					       u64 size)
{
	struct huge_bed bed = create_huge_bed(type, size_log2, size);

	bind_huge_bed(&bed);
	return bed;
}

static inline void free_huge_bed(struct huge_bed *bed)
{
	if (bed->fd >= 0)
		kvm_close(bed->fd);
	kvm_vm_free(bed->vm);
}

/* As many words of a block, whatever its size: touching each page of 1G takes long. */
static inline u64 block_stride(const struct huge_bed *bed)
{
	return bed->unit / 512;
}

static inline void fill_strides(struct huge_bed *bed, u64 offset, u64 stride, u64 nr,
				u64 seed)
{
	guest_strides(bed->vcpu, GUEST_FILL, GUESTMEM_GPA + offset, stride, nr, seed);
}

static inline void check_strides(struct huge_bed *bed, u64 offset, u64 stride, u64 nr,
				 u64 seed)
{
	guest_strides(bed->vcpu, GUEST_CHECK, GUESTMEM_GPA + offset, stride, nr, seed);
}

#endif /* SELFTEST_KVM_GUESTMEM_HUGETLB_H */
