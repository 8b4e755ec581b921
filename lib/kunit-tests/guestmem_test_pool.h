/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pools of HugeTLB: what tests of their pages share.  Each test runs once for
 * each size, and has to leave the pool as it was.  hpool_ is «pool of huge pages».
 */
#ifndef _GUESTMEM_TEST_POOL_H
#define _GUESTMEM_TEST_POOL_H

#include <linux/hugetlb.h>

#include "guestmem_test_lib.h"

/* What the pool is like; and, in pages of 4 KiB, what the task's cgroup uses of it. */
struct hpool {
	unsigned long total;
	unsigned long free;
	unsigned long reserved;
	unsigned long surplus;
	unsigned long charged;
};

/**
 * struct hpool_bed - what a test has to work with, besides struct gmt
 * @h: size of the pages, and their pool.
 * @before: the pool before the test.
 * @overcommit: how far it was allowed to grow.
 * @block: pages of 4 KiB in a huge page.
 * @log2: the same in bytes, for guestmem_inode_args.
 * @data: for the suite.
 */
struct hpool_bed {
	struct hstate *h;
	struct hpool before;
	unsigned long overcommit;
	pgoff_t block;
	u8 log2;
	void *data;
};

static inline struct hpool_bed *hpool_bed(struct kunit *test)
{
	return gmt(test)->data;
}

/* Parameters: every size that the tests know.  Those without a pool skip. */
const void *hpool_gen_params(struct kunit *test, const void *prev, char *desc);

/* For struct kunit_suite. */
int hpool_init(struct kunit *test);
void hpool_exit(struct kunit *test);

struct hpool hpool_look(struct hstate *h);
unsigned long hpool_available(struct kunit *test);

/* Compared to before the test; nothing here makes the pool larger or smaller. */
void hpool_expect(struct kunit *test, long taken, long reserved);
void hpool_expect_soon(struct kunit *test, long taken, long reserved);

/* Files; the last one is that of the fixture. */
struct guestmem_inode *hpool_open_as(struct kunit *test, pgoff_t pages,
				     struct guestmem_inode_args args);
struct guestmem_inode *hpool_open(struct kunit *test, pgoff_t pages);
void hpool_open_blocks(struct kunit *test, unsigned long blocks);

#endif /* _GUESTMEM_TEST_POOL_H */
