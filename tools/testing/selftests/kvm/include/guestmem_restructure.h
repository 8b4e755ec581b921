/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file of huge pages that the host maps where they are shared, and a guest on it.
 */
#ifndef SELFTEST_KVM_GUESTMEM_RESTRUCTURE_H
#define SELFTEST_KVM_GUESTMEM_RESTRUCTURE_H

#include "guestmem_convert.h"
#include "guestmem_hugetlb.h"

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

static inline void start_bed(struct restructure *r, u8 log2, u64 flags)
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

static inline void forget_file(struct restructure *r)
{
	if (r->mem)
		kvm_munmap(r->mem, r->bed.size);
	r->mem = NULL;
	if (r->bed.fd >= 0)
		kvm_close(r->bed.fd);
	r->bed.fd = -1;
}

static inline void forget_vm(struct restructure *r)
{
	if (r->bed.vm)
		kvm_vm_free(r->bed.vm);
	r->bed.vm = NULL;
}

/* In the background, if someone held a page for a moment. */
static inline void expect_blocks_back(struct restructure *r, const char *when)
{
	expect_pool_back(r->bed.unit, &r->before, when);
}

static inline void guest_near(struct restructure *r, enum guest_op op, u64 first, u64 nr, u64 seed)
{
	guest_strides(r->bed.vcpu, op, GUESTMEM_GPA + (r->near + first) * SZ_4K, SZ_4K, nr,
		      seed);
}

static inline u64 blocks_there(struct restructure *r)
{
	return file_stat(r->bed.fd).st_blocks / (r->bed.unit / 512);
}

static inline void guest_far(struct restructure *r, enum guest_op op)
{
	guest_strides(r->bed.vcpu, op, GUESTMEM_GPA + sizeof(u64), block_stride(&r->bed),
		      PIECE, FAR_SEED);
}

static inline void guest_second(struct restructure *r, enum guest_op op)
{
	guest_strides(r->bed.vcpu, op, GUESTMEM_GPA + r->bed.unit, block_stride(&r->bed),
		      PIECE, FAR_SEED);
}

static inline void guest_writes(struct restructure *r)
{
	guest_near(r, GUEST_FILL, 0, PIECE, NEAR_SEED);
	guest_far(r, GUEST_FILL);
}

static inline void guest_finds(struct restructure *r)
{
	guest_near(r, GUEST_CHECK, 0, PIECE, NEAR_SEED);
	guest_far(r, GUEST_CHECK);
}

static inline u64 *near_word(struct restructure *r, u64 page)
{
	return r->mem + (r->near + page) * (SZ_4K / sizeof(u64));
}

static inline void host_finds(struct restructure *r, u64 first, u64 nr, u64 seed)
{
	u64 i;

	for (i = 0; i < nr; i++)
		TEST_ASSERT_EQ(READ_ONCE(*near_word(r, first + i)), pattern_word(seed, i));
}

static inline void host_is_refused(struct restructure *r, u64 page)
{
	TEST_EXPECT_SIGBUS(READ_ONCE(*near_word(r, page)));
}

static inline void share(struct restructure *r, u64 page, u64 nr)
{
	make_shared(r->bed.fd, r->near + page, nr);
}

static inline void take_back(struct restructure *r, u64 page, u64 nr)
{
	make_private(r->bed.fd, r->near + page, nr);
}

/* So many pieces of the first block are single pages; if there is a second, it is whole. */
static inline void __expect_split(struct restructure *r, u64 pieces, int line)
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

static inline struct mappings read_mappings(struct restructure *r)
{
	return (struct mappings) {
		.small = vm_get_stat(r->bed.vm, pages_4k),
		.medium = vm_get_stat(r->bed.vm, pages_2m),
		.large = vm_get_stat(r->bed.vm, pages_1g),
	};
}

static inline void __expect_mappings(struct restructure *r, const struct mappings *before,
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

#endif /* SELFTEST_KVM_GUESTMEM_RESTRUCTURE_H */
