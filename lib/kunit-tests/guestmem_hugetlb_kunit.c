// SPDX-License-Identifier: GPL-2.0-only
/*
 * The HugeTLB allocator, against the pools of the machine it runs on
 *
 * Boot with pages of each size in them, e.g. hugepagesz=2M hugepages=16
 * hugepagesz=1G hugepages=2.  Every test has to leave them as they were.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/preempt.h>
#include <linux/vmstat.h>

#include "guestmem_test_pool.h"

static void expect_refused(struct kunit *test, struct guestmem_inode *gi, int err)
{
	KUNIT_EXPECT_PTR_EQ(test, gi, ERR_PTR(err));
	hpool_expect(test, 0, 0);
}

/*
 * Creation
 */

static void reserves_whole_file(struct kunit *test)
{
	hpool_open_blocks(test, 2);
	hpool_expect(test, 0, 2);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->geo.block_order, hpool_bed(test)->log2 - PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->geo.max_map_order, hpool_bed(test)->log2 - PAGE_SHIFT);
	gmt_close(test);
	hpool_expect(test, 0, 0);
}

static void rounds_odd_sizes_up(struct kunit *test)
{
	pgoff_t block = hpool_bed(test)->block;

	for (pgoff_t pages = block - 1; pages <= block + 1; pages++) {
		gmt(test)->gi = hpool_open(test, pages);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
		hpool_expect(test, 0, pages > block ? 2 : 1);
		KUNIT_EXPECT_EQ(test, i_size_read(gmt(test)->gi->mapping->host),
				pages << PAGE_SHIFT);
		gmt_close(test);
	}
}

static void reserves_no_more_than_is_free(struct kunit *test)
{
	unsigned long blocks = hpool_available(test);

	expect_refused(test, hpool_open(test, (blocks + 1) * hpool_bed(test)->block), -ENOMEM);

	hpool_open_blocks(test, blocks);
	hpool_expect(test, 0, blocks);
	KUNIT_EXPECT_PTR_EQ_MSG(test, hpool_open(test, 1), ERR_PTR(-ENOMEM),
				"what is reserved is given out twice");
}

static void never_makes_the_pool_grow(struct kunit *test)
{
	hpool_bed(test)->h->nr_overcommit_huge_pages = hpool_bed(test)->before.total + 8;
	expect_refused(test, hpool_open(test, (hpool_available(test) + 1) * hpool_bed(test)->block),
		       -ENOMEM);
}

static void refuses_sizes_that_overflow(struct kunit *test)
{
	expect_refused(test, hpool_open(test, LLONG_MAX >> PAGE_SHIFT), -ENOMEM);
}

static void refuses_units_the_host_lacks(struct kunit *test)
{
	static const u8 units[] = { 1, 12, 22, 63, 64, 255 };

	for (int i = 0; i < ARRAY_SIZE(units); i++) {
		struct guestmem_inode_args args = { .unit_log2 = units[i] };

		expect_refused(test, hpool_open_as(test, hpool_bed(test)->block, args), -EINVAL);
	}
}

static void refuses_what_would_all_be_in_pieces(struct kunit *test)
{
	struct guestmem_inode_args args = { .init_shared = true, .mappable = true };

	expect_refused(test, hpool_open_as(test, hpool_bed(test)->block, args), -EINVAL);
}

/*
 * Pages
 */

static void takes_pages_from_its_reservation(struct kunit *test)
{
	pgoff_t block = hpool_bed(test)->block;
	struct guestmem_inode *gi;
	struct folio *folio;

	hpool_open_blocks(test, 2);
	gi = gmt(test)->gi;
	folio = gmt_get(test, block + 3);
	hpool_expect(test, 1, 1);
	KUNIT_EXPECT_TRUE(test, folio_test_hugetlb(folio));
	KUNIT_EXPECT_EQ(test, folio->index, block);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, block);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, block), folio);

	KUNIT_EXPECT_EQ(test, gmt_punch(test, block, 2 * block), 0);
	hpool_expect(test, 0, 2);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 0);
}

/* gmt_exit() looks at NR_FILE_PAGES, which is not to move at all. */
static void counts_pages_once(struct kunit *test)
{
	long before = gmt_counted(NR_HUGETLB);
	long file_pages = gmt_counted(NR_FILE_PAGES);

	hpool_open_blocks(test, 1);
	gmt_get(test, 0);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_FILE_PAGES), file_pages);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_HUGETLB) - before, hpool_bed(test)->block);
	gmt_close(test);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_HUGETLB), before);
}

/* Private mappings of HugeTLB leave their pages marked as up to date. */
static void clears_what_others_left(struct kunit *test)
{
	struct hstate *h = hpool_bed(test)->h;
	struct folio *folio, *old;

	hpool_open_blocks(test, 1);
	/* Both are taken from the pool of this CPU's node. */
	migrate_disable();
	old = alloc_hugetlb_folio_nodemask(h, numa_node_id(), NULL, GFP_KERNEL, true);
	KUNIT_ASSERT_NOT_NULL(test, old);
	*(u8 *)folio_address(old) = 0xa5;
	folio_mark_uptodate(old);
	folio_put(old);

	/* Free pages are taken from the front of the list, where it is now. */
	folio = gmt_get(test, 0);
	migrate_enable();
	KUNIT_EXPECT_PTR_EQ(test, folio, old);
	KUNIT_EXPECT_EQ(test, *(u8 *)folio_address(folio), 0);
}

static u8 *first_byte(struct folio *folio, pgoff_t page)
{
	return (u8 *)page_address(folio_page(folio, page));
}

static void clears_pages_that_were_used_before(struct kunit *test)
{
	struct folio *folio;

	hpool_open_blocks(test, 1);
	for (int i = 0; i < 3; i++) {
		folio = gmt_get(test, 0);
		KUNIT_EXPECT_EQ(test, *first_byte(folio, 0), 0);
		KUNIT_EXPECT_EQ(test, *first_byte(folio, hpool_bed(test)->block - 1), 0);
		*first_byte(folio, 0) = 0xa5;
		*first_byte(folio, hpool_bed(test)->block - 1) = 0xa5;
		KUNIT_ASSERT_EQ(test, gmt_punch(test, 0, hpool_bed(test)->block), 0);
	}
}

static void page_outlives_its_file(struct kunit *test)
{
	struct folio *folio;

	hpool_open_blocks(test, 1);
	folio = gmt_get(test, 0);
	folio_get(folio);
	gmt_close(test);
	hpool_expect(test, 1, 0);
	folio_put(folio);
	hpool_expect_soon(test, 0, 0);
}

/* It leaves a hole in the file, and no hole in the file's reservation. */
static void page_outlives_its_hole(struct kunit *test)
{
	struct folio *folio;

	hpool_open_blocks(test, 1);
	folio = gmt_get(test, 0);
	folio_get(folio);
	filemap_invalidate_lock(gmt(test)->gi->mapping);
	truncate_inode_pages(gmt(test)->gi->mapping, 0);
	filemap_invalidate_unlock(gmt(test)->gi->mapping);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get_locked(gmt(test)->gi, 0), ERR_PTR(-ENOSPC));

	folio_put(folio);
	hpool_expect(test, 0, 1);
	gmt_get(test, 0);
}

/*
 * Poison
 */

#ifdef CONFIG_MEMORY_FAILURE
static void expect_told(struct kunit *test, pgoff_t start, pgoff_t end)
{
	char want[64];

	snprintf(want, sizeof(want), "begin:%lu-%lu end:%lu-%lu ", start, end, start, end);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), want);
	gmt_log_clear(test);
}

/* Clearing it would touch the bad page, too. */
static void poisoned_block_is_not_filled(struct kunit *test)
{
	struct folio *folio;
	unsigned long pfn;

	hpool_open_blocks(test, 1);
	folio = gmt_get_locked(gmt(test)->gi, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	pfn = folio_pfn(folio);
	folio_unlock(folio);
	folio_put(folio);
	memory_failure(pfn + 3, MF_SW_SIMULATED);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 3), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 4), -EHWPOISON);
	gmt_close(test);
	hpool_expect_soon(test, 1, 0);
	KUNIT_EXPECT_EQ(test, unpoison_memory(pfn), 0);
}

/* The guests lose the bad page, get it no more, and have the rest page by page. */
static void poison_spares_the_neighbours(struct kunit *test)
{
	const pgoff_t bad = 3, worse = 17;
	unsigned long pfn;
	struct folio *folio;

	hpool_open_blocks(test, 1);
	folio = gmt_get(test, 0);
	pfn = folio_pfn(folio);
	gmt_log_clear(test);
	/* As for any page of a page cache that keeps it. */
	KUNIT_EXPECT_EQ(test, memory_failure(pfn + bad, MF_SW_SIMULATED), -EBUSY);
	expect_told(test, bad, bad + 1);
	KUNIT_EXPECT_EQ(test, memory_failure(pfn + worse, MF_SW_SIMULATED), -EHWPOISON);
	expect_told(test, bad, worse + 1);

	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bad), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, worse), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bad - 1), 0);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, hpool_bed(test)->block - 1), 0);

	gmt_close(test);
	/* Kept by whoever found it bad: the pool never sees it as good. */
	hpool_expect_soon(test, 1, 0);
	KUNIT_EXPECT_EQ(test, unpoison_memory(pfn), 0);
}

/* The pool has another page: the file is as large as it was. */
static void poisoned_block_is_replaced(struct kunit *test)
{
	unsigned long pfn;
	struct folio *folio;
	pgoff_t err_index;

	hpool_open_blocks(test, 1);
	folio = gmt_get(test, 0);
	pfn = folio_pfn(folio);
	KUNIT_EXPECT_EQ(test, memory_failure(pfn, MF_SW_SIMULATED), -EBUSY);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, hpool_bed(test)->block,
					 &err_index), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, hpool_bed(test)->block), 0);
	hpool_expect(test, 1, 1);
	KUNIT_EXPECT_PTR_NE(test, gmt_get(test, 0), folio);
	hpool_expect(test, 2, 0);
	KUNIT_EXPECT_EQ(test, unpoison_memory(pfn), 0);
}
#endif

/*
 * Changes
 */

static int change(struct kunit *test, enum guestmem_target target, pgoff_t start,
		  pgoff_t end, pgoff_t *err_index)
{
	*err_index = -1;
	return gmt_change(gmt(test)->gi, target, start, end, err_index);
}

static void changes_whole_blocks(struct kunit *test)
{
	pgoff_t block = hpool_bed(test)->block, err_index;
	struct folio *folio;

	hpool_open_blocks(test, 2);
	folio = gmt_get(test, 0);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_SHARED, 0, block, &err_index), 0);
	KUNIT_EXPECT_FALSE(test, guestmem_is_private(gmt(test)->gi, block - 1));
	KUNIT_EXPECT_TRUE(test, guestmem_is_private(gmt(test)->gi, block));
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_PRIVATE, 0, 2 * block, &err_index), 0);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 0), folio);
}

/* Of a page that the host cannot map anyway: it stays whole, and guests map parts of it. */
static void changes_part_of_a_block(struct kunit *test)
{
	pgoff_t block = hpool_bed(test)->block, err_index;
	struct folio *folio;

	hpool_open_blocks(test, 2);
	folio = gmt_get(test, 0);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_SHARED, 1, block + 1, &err_index), 0);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 1), folio);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 0), 0);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 1), 0);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 2), 1);
	KUNIT_EXPECT_EQ(test, 1UL << (gmt_map_order(test, block - 1) + 1), block);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_PRIVATE, 0, 2 * block, &err_index), 0);
	KUNIT_EXPECT_EQ(test, 1UL << gmt_map_order(test, 2), block);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 0), folio);
}

static void last_block_ends_with_the_file(struct kunit *test)
{
	pgoff_t block = hpool_bed(test)->block, err_index;

	gmt(test)->gi = hpool_open(test, block + 1);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	gmt_get(test, block);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_SHARED, block, block + 1, &err_index), 0);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_ABSENT, block, block + 1, &err_index), 0);
	hpool_expect(test, 0, 2);
}

static void held_block_is_not_punched(struct kunit *test)
{
	pgoff_t block = hpool_bed(test)->block, err_index;
	struct folio *folio;

	hpool_open_blocks(test, 2);
	gmt_get(test, 0);
	folio = gmt_get(test, block);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_ABSENT, 0, 2 * block, &err_index), -EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, block);
	hpool_expect(test, 2, 0);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_ABSENT, 0, 2 * block, &err_index), 0);
	hpool_expect(test, 0, 2);
}

static struct kunit_case hugetlb_cases[] = {
	KUNIT_CASE_PARAM(reserves_whole_file, hpool_gen_params),
	KUNIT_CASE_PARAM(rounds_odd_sizes_up, hpool_gen_params),
	KUNIT_CASE_PARAM(reserves_no_more_than_is_free, hpool_gen_params),
	KUNIT_CASE_PARAM(never_makes_the_pool_grow, hpool_gen_params),
	KUNIT_CASE_PARAM(refuses_sizes_that_overflow, hpool_gen_params),
	KUNIT_CASE_PARAM(refuses_units_the_host_lacks, hpool_gen_params),
	KUNIT_CASE_PARAM(refuses_what_would_all_be_in_pieces, hpool_gen_params),
	KUNIT_CASE_PARAM(takes_pages_from_its_reservation, hpool_gen_params),
	KUNIT_CASE_PARAM(counts_pages_once, hpool_gen_params),
	KUNIT_CASE_PARAM(clears_pages_that_were_used_before, hpool_gen_params),
	KUNIT_CASE_PARAM(clears_what_others_left, hpool_gen_params),
	KUNIT_CASE_PARAM(page_outlives_its_file, hpool_gen_params),
	KUNIT_CASE_PARAM(page_outlives_its_hole, hpool_gen_params),
#ifdef CONFIG_MEMORY_FAILURE
	KUNIT_CASE_PARAM(poisoned_block_is_not_filled, hpool_gen_params),
	KUNIT_CASE_PARAM(poison_spares_the_neighbours, hpool_gen_params),
	KUNIT_CASE_PARAM(poisoned_block_is_replaced, hpool_gen_params),
#endif
	KUNIT_CASE_PARAM(changes_whole_blocks, hpool_gen_params),
	KUNIT_CASE_PARAM(changes_part_of_a_block, hpool_gen_params),
	KUNIT_CASE_PARAM(last_block_ends_with_the_file, hpool_gen_params),
	KUNIT_CASE_PARAM(held_block_is_not_punched, hpool_gen_params),
	{}
};

static struct kunit_suite hugetlb_suite = {
	.name = "guestmem_hugetlb",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = hpool_init,
	.exit = hpool_exit,
	.test_cases = hugetlb_cases,
};

kunit_test_suite(hugetlb_suite);
