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
#include <linux/vmstat.h>

#include "guestmem_test_lib.h"

#define HUGETLB_SELECTOR	BIT_ULL(3)

struct pool_size {
	const char *name;
	u8 log2;
};

static const struct pool_size pool_sizes[] = {
	{ "2M", 21 },
	{ "1G", 30 },
};

KUNIT_ARRAY_PARAM_DESC(pool_size, pool_sizes, name);

/* What the pool is like. */
struct pool {
	unsigned long total;
	unsigned long free;
	unsigned long reserved;
	unsigned long surplus;
};

struct bed {
	struct hstate *h;
	struct pool before;
	unsigned long overcommit;
	pgoff_t block;
	u8 log2;
};

static struct bed *bed(struct kunit *test)
{
	return gmt(test)->data;
}

static struct pool look(struct hstate *h)
{
	guard(spinlock_irq)(&hugetlb_lock);
	return (struct pool) {
		.total = h->nr_huge_pages,
		.free = h->free_huge_pages,
		.reserved = h->resv_huge_pages,
		.surplus = h->surplus_huge_pages,
	};
}

static unsigned long available(struct kunit *test)
{
	struct pool pool = look(bed(test)->h);

	return pool.free - pool.reserved;
}

/* Compared to before the test; nothing here makes the pool larger or smaller. */
static void expect_pool(struct kunit *test, long taken, long reserved)
{
	struct pool now = look(bed(test)->h), before = bed(test)->before;

	KUNIT_EXPECT_EQ(test, now.total, before.total);
	KUNIT_EXPECT_EQ(test, now.surplus, before.surplus);
	KUNIT_EXPECT_EQ(test, now.free, before.free - taken);
	KUNIT_EXPECT_EQ(test, now.reserved, before.reserved + reserved);
}

/* Someone has to notice first that the last page is back. */
static void expect_pool_soon(struct kunit *test, long taken, long reserved)
{
	unsigned long deadline = jiffies + GMT_TIMEOUT;

	while (look(bed(test)->h).reserved != bed(test)->before.reserved + reserved &&
	       time_before(jiffies, deadline))
		schedule_timeout_uninterruptible(1);
	expect_pool(test, taken, reserved);
}

static int hugetlb_test_init(struct kunit *test)
{
	const struct pool_size *size = test->param_value;
	struct hstate *h = size_to_hstate(1UL << size->log2);
	struct bed *new;
	int err;

	if (!h || look(h).free < 2)
		kunit_skip(test, "needs two free pages of %s", size->name);

	err = gmt_init(test);
	if (err)
		return err;

	new = kunit_kzalloc(test, sizeof(*new), GFP_KERNEL);
	if (!new)
		return -ENOMEM;

	new->h = h;
	new->before = look(h);
	new->overcommit = h->nr_overcommit_huge_pages;
	new->block = pages_per_huge_page(h);
	new->log2 = size->log2;
	gmt(test)->data = new;
	return 0;
}

static void hugetlb_test_exit(struct kunit *test)
{
	gmt_exit(test);
	if (!test->priv)
		return;

	bed(test)->h->nr_overcommit_huge_pages = bed(test)->overcommit;
	expect_pool_soon(test, 0, 0);
}

static struct guestmem_inode *open_as(struct kunit *test, pgoff_t pages,
				      struct guestmem_inode_args args)
{
	args.selector = HUGETLB_SELECTOR;
	args.size = (loff_t)pages << PAGE_SHIFT;
	if (!args.unit_log2)
		args.unit_log2 = bed(test)->log2;
	return mock_open(&args);
}

static struct guestmem_inode *open_pages(struct kunit *test, pgoff_t pages)
{
	return open_as(test, pages, (struct guestmem_inode_args) {});
}

/* The file of the fixture. */
static void open_blocks(struct kunit *test, unsigned long blocks)
{
	gmt(test)->gi = open_pages(test, blocks * bed(test)->block);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
}

static void expect_refused(struct kunit *test, struct guestmem_inode *gi, int err)
{
	KUNIT_EXPECT_PTR_EQ(test, gi, ERR_PTR(err));
	expect_pool(test, 0, 0);
}

/*
 * Creation
 */

static void reserves_whole_file(struct kunit *test)
{
	open_blocks(test, 2);
	expect_pool(test, 0, 2);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->geo.block_order, bed(test)->log2 - PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->geo.max_map_order, bed(test)->log2 - PAGE_SHIFT);
	gmt_close(test);
	expect_pool(test, 0, 0);
}

static void rounds_odd_sizes_up(struct kunit *test)
{
	pgoff_t block = bed(test)->block;

	for (pgoff_t pages = block - 1; pages <= block + 1; pages++) {
		gmt(test)->gi = open_pages(test, pages);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
		expect_pool(test, 0, pages > block ? 2 : 1);
		KUNIT_EXPECT_EQ(test, i_size_read(gmt(test)->gi->mapping->host),
				pages << PAGE_SHIFT);
		gmt_close(test);
	}
}

static void reserves_no_more_than_is_free(struct kunit *test)
{
	unsigned long blocks = available(test);

	expect_refused(test, open_pages(test, (blocks + 1) * bed(test)->block), -ENOMEM);

	open_blocks(test, blocks);
	expect_pool(test, 0, blocks);
	KUNIT_EXPECT_PTR_EQ_MSG(test, open_pages(test, 1), ERR_PTR(-ENOMEM),
				"what is reserved is given out twice");
}

static void never_makes_the_pool_grow(struct kunit *test)
{
	bed(test)->h->nr_overcommit_huge_pages = bed(test)->before.total + 8;
	expect_refused(test, open_pages(test, (available(test) + 1) * bed(test)->block),
		       -ENOMEM);
}

static void refuses_sizes_that_overflow(struct kunit *test)
{
	expect_refused(test, open_pages(test, LLONG_MAX >> PAGE_SHIFT), -ENOMEM);
}

static void refuses_units_the_host_lacks(struct kunit *test)
{
	static const u8 units[] = { 1, 12, 22, 63, 64, 255 };

	for (int i = 0; i < ARRAY_SIZE(units); i++)
		expect_refused(test, open_as(test, bed(test)->block,
					     (struct guestmem_inode_args) {
						.unit_log2 = units[i] }), -EINVAL);
}

static void refuses_what_would_all_be_in_pieces(struct kunit *test)
{
	expect_refused(test, open_as(test, bed(test)->block, (struct guestmem_inode_args) {
			.init_shared = true, .mappable = true }), -EINVAL);
}

/*
 * Pages
 */

static void takes_pages_from_its_reservation(struct kunit *test)
{
	struct guestmem_inode *gi;
	struct folio *folio;

	open_blocks(test, 2);
	gi = gmt(test)->gi;
	folio = gmt_get(test, bed(test)->block + 3);
	expect_pool(test, 1, 1);
	KUNIT_EXPECT_TRUE(test, folio_test_hugetlb(folio));
	KUNIT_EXPECT_EQ(test, folio->index, bed(test)->block);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, bed(test)->block);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, bed(test)->block), folio);

	KUNIT_EXPECT_EQ(test, gmt_punch(test, bed(test)->block, 2 * bed(test)->block), 0);
	expect_pool(test, 0, 2);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 0);
}

static unsigned long hugetlb_pages(void)
{
	unsigned long pages = 0;
	int node;

	for_each_online_node(node)
		pages += node_page_state(NODE_DATA(node), NR_HUGETLB);
	return pages;
}

/* gmt_exit() looks at NR_FILE_PAGES, which is not to move at all. */
static void counts_pages_once(struct kunit *test)
{
	unsigned long before = hugetlb_pages();
	long file_pages = gmt_file_pages();

	open_blocks(test, 1);
	gmt_get(test, 0);
	KUNIT_EXPECT_EQ(test, gmt_file_pages(), file_pages);
	KUNIT_EXPECT_EQ(test, hugetlb_pages() - before, bed(test)->block);
	gmt_close(test);
	KUNIT_EXPECT_EQ(test, hugetlb_pages(), before);
}

/* Private mappings of HugeTLB leave their pages marked as up to date. */
static void clears_what_others_left(struct kunit *test)
{
	struct hstate *h = bed(test)->h;
	struct folio *folio, *old;

	old = alloc_hugetlb_folio_nodemask(h, numa_node_id(), NULL, GFP_KERNEL, true);
	KUNIT_ASSERT_NOT_NULL(test, old);
	*(u8 *)folio_address(old) = 0xa5;
	folio_mark_uptodate(old);
	folio_put(old);

	/* Free pages are taken from the front of the list, where it is now. */
	open_blocks(test, 1);
	folio = gmt_get(test, 0);
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

	open_blocks(test, 1);
	for (int i = 0; i < 3; i++) {
		folio = gmt_get(test, 0);
		KUNIT_EXPECT_EQ(test, *first_byte(folio, 0), 0);
		KUNIT_EXPECT_EQ(test, *first_byte(folio, bed(test)->block - 1), 0);
		*first_byte(folio, 0) = 0xa5;
		*first_byte(folio, bed(test)->block - 1) = 0xa5;
		KUNIT_ASSERT_EQ(test, gmt_punch(test, 0, bed(test)->block), 0);
	}
}

static void page_outlives_its_file(struct kunit *test)
{
	struct folio *folio;

	open_blocks(test, 1);
	folio = gmt_get(test, 0);
	folio_get(folio);
	gmt_close(test);
	expect_pool(test, 1, 0);
	folio_put(folio);
	expect_pool_soon(test, 0, 0);
}

/* It leaves a hole in the file, and no hole in the file's reservation. */
static void page_outlives_its_hole(struct kunit *test)
{
	struct folio *folio;

	open_blocks(test, 1);
	folio = gmt_get(test, 0);
	folio_get(folio);
	filemap_invalidate_lock(gmt(test)->gi->mapping);
	truncate_inode_pages(gmt(test)->gi->mapping, 0);
	filemap_invalidate_unlock(gmt(test)->gi->mapping);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get_locked(gmt(test)->gi, 0), ERR_PTR(-ENOSPC));

	folio_put(folio);
	expect_pool(test, 0, 1);
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

/* The guests lose the bad page, get it no more, and have the rest page by page. */
static void poison_spares_the_neighbours(struct kunit *test)
{
	const pgoff_t bad = 3, worse = 17;
	unsigned long pfn;
	struct folio *folio;

	open_blocks(test, 1);
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
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bed(test)->block - 1), 0);

	gmt_close(test);
	/* Kept by whoever found it bad: the pool never sees it as good. */
	expect_pool_soon(test, 1, 0);
	KUNIT_EXPECT_EQ(test, unpoison_memory(pfn), 0);
}

/* The pool has another page: the file is as large as it was. */
static void poisoned_block_is_replaced(struct kunit *test)
{
	unsigned long pfn;
	struct folio *folio;
	pgoff_t err_index;

	open_blocks(test, 1);
	folio = gmt_get(test, 0);
	pfn = folio_pfn(folio);
	KUNIT_EXPECT_EQ(test, memory_failure(pfn, MF_SW_SIMULATED), -EBUSY);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, bed(test)->block,
					 &err_index), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, bed(test)->block), 0);
	expect_pool(test, 1, 1);
	KUNIT_EXPECT_PTR_NE(test, gmt_get(test, 0), folio);
	expect_pool(test, 2, 0);
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
	pgoff_t block = bed(test)->block, err_index;
	struct folio *folio;

	open_blocks(test, 2);
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
	pgoff_t block = bed(test)->block, err_index;
	struct folio *folio;

	open_blocks(test, 2);
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
	pgoff_t block = bed(test)->block, err_index;

	gmt(test)->gi = open_pages(test, block + 1);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	gmt_get(test, block);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_SHARED, block, block + 1, &err_index), 0);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_ABSENT, block, block + 1, &err_index), 0);
	expect_pool(test, 0, 2);
}

static void held_block_is_not_punched(struct kunit *test)
{
	pgoff_t block = bed(test)->block, err_index;
	struct folio *folio;

	open_blocks(test, 2);
	gmt_get(test, 0);
	folio = gmt_get(test, block);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_ABSENT, 0, 2 * block, &err_index), -EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, block);
	expect_pool(test, 2, 0);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, change(test, GUESTMEM_ABSENT, 0, 2 * block, &err_index), 0);
	expect_pool(test, 0, 2);
}

static struct kunit_case hugetlb_cases[] = {
	KUNIT_CASE_PARAM(reserves_whole_file, pool_size_gen_params),
	KUNIT_CASE_PARAM(rounds_odd_sizes_up, pool_size_gen_params),
	KUNIT_CASE_PARAM(reserves_no_more_than_is_free, pool_size_gen_params),
	KUNIT_CASE_PARAM(never_makes_the_pool_grow, pool_size_gen_params),
	KUNIT_CASE_PARAM(refuses_sizes_that_overflow, pool_size_gen_params),
	KUNIT_CASE_PARAM(refuses_units_the_host_lacks, pool_size_gen_params),
	KUNIT_CASE_PARAM(refuses_what_would_all_be_in_pieces, pool_size_gen_params),
	KUNIT_CASE_PARAM(takes_pages_from_its_reservation, pool_size_gen_params),
	KUNIT_CASE_PARAM(counts_pages_once, pool_size_gen_params),
	KUNIT_CASE_PARAM(clears_pages_that_were_used_before, pool_size_gen_params),
	KUNIT_CASE_PARAM(clears_what_others_left, pool_size_gen_params),
	KUNIT_CASE_PARAM(page_outlives_its_file, pool_size_gen_params),
	KUNIT_CASE_PARAM(page_outlives_its_hole, pool_size_gen_params),
#ifdef CONFIG_MEMORY_FAILURE
	KUNIT_CASE_PARAM(poison_spares_the_neighbours, pool_size_gen_params),
	KUNIT_CASE_PARAM(poisoned_block_is_replaced, pool_size_gen_params),
#endif
	KUNIT_CASE_PARAM(changes_whole_blocks, pool_size_gen_params),
	KUNIT_CASE_PARAM(changes_part_of_a_block, pool_size_gen_params),
	KUNIT_CASE_PARAM(last_block_ends_with_the_file, pool_size_gen_params),
	KUNIT_CASE_PARAM(held_block_is_not_punched, pool_size_gen_params),
	{}
};

static struct kunit_suite hugetlb_suite = {
	.name = "guestmem_hugetlb",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = hugetlb_test_init,
	.exit = hugetlb_test_exit,
	.test_cases = hugetlb_cases,
};

kunit_test_suite(hugetlb_suite);
