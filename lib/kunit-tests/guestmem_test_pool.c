// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pools of HugeTLB: what tests of their pages share
 */
#include <linux/cgroup.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/mm.h>

#include "guestmem_test_pool.h"

#define HUGETLB_SELECTOR	BIT_ULL(3)

struct hpool_size {
	const char *name;
	u8 log2;
};

static const struct hpool_size hpool_sizes[] = {
	{ "2M", 21 },
	{ "1G", 30 },
};

KUNIT_ARRAY_PARAM_DESC(hpool_size, hpool_sizes, name);

const void *hpool_gen_params(struct kunit *test, const void *prev, char *desc)
{
	return hpool_size_gen_params(test, prev, desc);
}

static unsigned long hpool_charged(struct hstate *h)
{
#ifdef CONFIG_CGROUP_HUGETLB
	struct hugetlb_cgroup *h_cg;

	guard(rcu)();
	h_cg = container_of(task_css(current, hugetlb_cgrp_id), struct hugetlb_cgroup, css);
	return page_counter_read(&h_cg->hugepage[hstate_index(h)]);
#else
	return 0;
#endif
}

struct hpool hpool_look(struct hstate *h)
{
	guard(spinlock_irq)(&hugetlb_lock);
	return (struct hpool) {
		.total = h->nr_huge_pages,
		.free = h->free_huge_pages,
		.reserved = h->resv_huge_pages,
		.surplus = h->surplus_huge_pages,
		.charged = hpool_charged(h),
	};
}

unsigned long hpool_available(struct kunit *test)
{
	struct hpool pool = hpool_look(hpool_bed(test)->h);

	return pool.free - pool.reserved;
}

void hpool_expect(struct kunit *test, long taken, long reserved)
{
	struct hpool now = hpool_look(hpool_bed(test)->h);
	struct hpool before = hpool_bed(test)->before;
	long block = hpool_bed(test)->block;

	KUNIT_EXPECT_EQ(test, now.total, before.total);
	KUNIT_EXPECT_EQ(test, now.surplus, before.surplus);
	KUNIT_EXPECT_EQ(test, now.free, before.free - taken);
	KUNIT_EXPECT_EQ(test, now.reserved, before.reserved + reserved);
	if (IS_ENABLED(CONFIG_CGROUP_HUGETLB))
		KUNIT_EXPECT_EQ(test, now.charged, before.charged + taken * block);
}

/* Someone has to notice first that the last page is back. */
void hpool_expect_soon(struct kunit *test, long taken, long reserved)
{
	unsigned long want = hpool_bed(test)->before.reserved + reserved;
	unsigned long deadline = jiffies + GMT_TIMEOUT;

	while (hpool_look(hpool_bed(test)->h).reserved != want &&
	       time_before(jiffies, deadline))
		schedule_timeout_uninterruptible(1);
	hpool_expect(test, taken, reserved);
}

int hpool_init(struct kunit *test)
{
	const struct hpool_size *size = test->param_value;
	struct hstate *h = size_to_hstate(1UL << size->log2);
	struct hpool_bed *new;
	int err;

	if (!h || hpool_look(h).free < 2)
		kunit_skip(test, "needs two free pages of %s", size->name);

	err = gmt_init(test);
	if (err)
		return err;

	new = kunit_kzalloc(test, sizeof(*new), GFP_KERNEL);
	if (!new)
		return -ENOMEM;

	new->h = h;
	new->before = hpool_look(h);
	new->overcommit = h->nr_overcommit_huge_pages;
	new->block = pages_per_huge_page(h);
	new->log2 = size->log2;
	gmt(test)->data = new;
	return 0;
}

void hpool_exit(struct kunit *test)
{
	gmt_exit(test);
	if (!test->priv)
		return;

	hpool_bed(test)->h->nr_overcommit_huge_pages = hpool_bed(test)->overcommit;
	hpool_expect_soon(test, 0, 0);
}

struct guestmem_inode *hpool_open_as(struct kunit *test, pgoff_t pages,
				     struct guestmem_inode_args args)
{
	args.selector = HUGETLB_SELECTOR;
	args.size = (loff_t)pages << PAGE_SHIFT;
	if (!args.unit_log2)
		args.unit_log2 = hpool_bed(test)->log2;
	return mock_open(&args);
}

struct guestmem_inode *hpool_open(struct kunit *test, pgoff_t pages)
{
	return hpool_open_as(test, pages, (struct guestmem_inode_args) {});
}

void hpool_open_blocks(struct kunit *test, unsigned long blocks)
{
	gmt(test)->gi = hpool_open(test, blocks * hpool_bed(test)->block);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
}
