// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a failure of each allocation leaves of a pool of huge pages
 *
 * Those are there already: pages are only allocated when a slab is empty.
 */
#include <linux/pagemap.h>
#include <linux/sched.h>

#include "guestmem_fail_nth.h"
#include "guestmem_test_pool.h"

/*
 * Setup: the reservation of two pages
 */

static int run_setup(struct kunit *test)
{
	struct guestmem_inode *gi = hpool_open(test, 2 * hpool_bed(test)->block);

	if (IS_ERR(gi))
		return PTR_ERR(gi);

	hpool_bed(test)->data = gi;
	return 0;
}

static void check_no_file(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, mock_client_inodes(), 0);
	hpool_expect(test, 0, 0);
}

static void undo_setup(struct kunit *test)
{
	hpool_expect(test, 0, 2);
	mock_close(hpool_bed(test)->data);
	check_no_file(test);
}

static void setup(struct kunit *test)
{
	static const struct operation op = {
		.run = run_setup,
		.check_failed = check_no_file,
		.undo = undo_setup,
	};

	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "setup", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "setup", &op, KIND_PAGE);
}

/*
 * Allocation: the pool has the page, the page cache has no room for it
 */

static pgoff_t second_block(struct kunit *test)
{
	return hpool_bed(test)->block;
}

static int run_get(struct kunit *test)
{
	struct folio *folio = gmt_get_locked(gmt(test)->gi, second_block(test));

	if (IS_ERR(folio))
		return PTR_ERR(folio);

	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

/* It has come back, and the file can have it again. */
static void check_reserved(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
	hpool_expect(test, 0, 2);
}

static void undo_get(struct kunit *test)
{
	pgoff_t block = second_block(test);

	KUNIT_EXPECT_TRUE(test, gmt_present(gmt(test)->gi, block));
	hpool_expect(test, 1, 1);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, block, 2 * block), 0);
	mock_log_clear(&mock_inode(gmt(test)->gi)->phases);
	check_reserved(test);
}

static void get_folio(struct kunit *test)
{
	static const struct operation op = {
		.run = run_get,
		.check_failed = check_reserved,
		.undo = undo_get,
	};

	hpool_open_blocks(test, 2);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "get_folio", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "get_folio", &op, KIND_PAGE);
}

/*
 * Change: to share the first of two blocks, where the core has to note that
 */

static pgoff_t refused_at;

static void fill_and_make_private(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t pages = 2 * hpool_bed(test)->block;

	KUNIT_ASSERT_EQ(test, guestmem_allocate(gi, 0, pages), 0);
	KUNIT_ASSERT_EQ(test, gmt_change(gi, GUESTMEM_PRIVATE, 0, pages, NULL), 0);
	mock_log_clear(&mock_inode(gi)->phases);
}

static int run_share(struct kunit *test)
{
	refused_at = ULONG_MAX;
	return gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, hpool_bed(test)->block, &refused_at);
}

static void expect_state(struct kunit *test, bool private)
{
	struct guestmem_inode *gi = gmt(test)->gi;

	KUNIT_EXPECT_EQ(test, guestmem_is_private(gi, 0), private);
	KUNIT_EXPECT_EQ(test, guestmem_is_private(gi, hpool_bed(test)->block - 1), private);
	KUNIT_EXPECT_TRUE(test, guestmem_is_private(gi, hpool_bed(test)->block));
	hpool_expect(test, 2, 0);
}

static void check_private(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, refused_at, 0);
	KUNIT_EXPECT_STREQ_MSG(test, gmt_log(test), "", "the guest lost pages for nothing");
	expect_state(test, true);
}

static void check_shared(struct kunit *test)
{
	expect_state(test, false);
}

static void share(struct kunit *test)
{
	static const struct operation op = {
		.prepare = fill_and_make_private,
		.run = run_share,
		.check_failed = check_private,
		.undo = check_shared,
	};

	hpool_open_blocks(test, 2);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "share", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "share", &op, KIND_PAGE);
}

static struct kunit_case hugetlb_fail_nth_cases[] = {
	KUNIT_CASE_PARAM(setup, hpool_gen_params),
	KUNIT_CASE_PARAM(get_folio, hpool_gen_params),
	KUNIT_CASE_PARAM(share, hpool_gen_params),
	{}
};

static struct kunit_suite hugetlb_fail_nth_suite = {
	.name = "guestmem_hugetlb_fail_nth",
	.suite_init = fail_nth_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = hpool_init,
	.exit = hpool_exit,
	.test_cases = hugetlb_fail_nth_cases,
};

kunit_test_suite(hugetlb_fail_nth_suite);
