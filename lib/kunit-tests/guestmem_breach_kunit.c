// SPDX-License-Identifier: GPL-2.0-only
/*
 * An allocator that breaks the contract: the core says so, and goes on
 */
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "guestmem_test_lib.h"

#define LIAR_SELECTOR	BIT_ULL(28)

/* The mock allocator with one op replaced by one that lies. */
static struct guestmem_allocator_operations liar;

static const struct gmt_allocator liar_allocator = {
	.selector = LIAR_SELECTOR,
	.pages = 16,
};

static int liar_init(struct kunit *test)
{
	liar = *mock_ops();
	liar.name = "liar";
	liar.selector = LIAR_SELECTOR;
	return gmt_init(test);
}

static void liar_exit(struct kunit *test)
{
	gmt_close(test);
	if (guestmem_selectors() & LIAR_SELECTOR)
		guestmem_unregister(&liar);
	gmt_exit(test);
}

static void open_liar(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, guestmem_register(&liar), 0);
	gmt(test)->gi = gmt_open(&liar_allocator, liar_allocator.pages, false);
}

static int sets_bad_geometry(struct guestmem_inode *gi,
			     const struct guestmem_inode_args *args)
{
	int err = mock_ops()->inode_setup(gi, args);

	gi->geo.punch_order = gi->geo.block_order + 1;
	return err;
}

static void geometry_of_setup_is_checked(struct kunit *test)
{
	liar.inode_setup = sets_bad_geometry;
	kunit_warning_suppress(test) {
		open_liar(test);
		KUNIT_EXPECT_EQ(test, KUNIT_SUPPRESSED_WARNING_COUNT(), 1);
	}
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gmt(test)->gi), -EDOM);
	KUNIT_EXPECT_EQ_MSG(test, atomic_read(&mock.inodes), 0, "inode_teardown was not called");
}

static struct folio *allocates_too_much(struct guestmem_inode *gi, pgoff_t index,
					struct mempolicy *policy)
{
	return mock_new_folio(gi, gi->geo.block_order + 1);
}

static void folio_above_block_is_refused(struct kunit *test)
{
	struct folio *folio = NULL;

	liar.alloc_folio = allocates_too_much;
	open_liar(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	kunit_warning_suppress(test)
		folio = gmt_get_locked(gmt(test)->gi, 1);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(folio), -EIO);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), 0);
}

static struct folio *allocates_filled_folio(struct guestmem_inode *gi, pgoff_t index,
					    struct mempolicy *policy)
{
	struct folio *folio = mock_new_folio(gi, gi->geo.block_order);

	if (!IS_ERR(folio))
		folio_mark_uptodate(folio);
	return folio;
}

/* Nobody would clear it any more. */
static void filled_folio_is_refused(struct kunit *test)
{
	struct folio *folio = NULL;

	liar.alloc_folio = allocates_filled_folio;
	open_liar(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	kunit_warning_suppress(test)
		folio = gmt_get_locked(gmt(test)->gi, 1);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(folio), -EIO);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), 0);
}

/* A page, and then the block that the page lies in. */
static struct folio *allocates_more_each_time(struct guestmem_inode *gi, pgoff_t index,
					      struct mempolicy *policy)
{
	return mock_new_folio(gi, gi->mapping->nrpages ? gi->geo.block_order : 0);
}

static void folio_over_another_is_refused(struct kunit *test)
{
	struct folio *folio = NULL;

	liar.alloc_folio = allocates_more_each_time;
	open_liar(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	gmt_get(test, 5);
	kunit_warning_suppress(test)
		folio = gmt_get_locked(gmt(test)->gi, 0);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(folio), -EIO);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 1);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), gmt(test)->gi->mapping->nrpages);
}

static int maps_too_much(struct guestmem_inode *gi, struct folio *folio, pgoff_t index)
{
	return folio_order(folio) + 1;
}

static void map_order_above_folio_is_refused(struct kunit *test)
{
	struct folio *folio;
	int order = 0;

	liar.map_order = maps_too_much;
	open_liar(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	folio = gmt_get_locked(gmt(test)->gi, 1);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	kunit_warning_suppress(test)
		order = guestmem_map_order(gmt(test)->gi, folio, 1);
	folio_unlock(folio);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, order, -EIO);
}

static struct kunit_case breach_cases[] = {
	KUNIT_CASE(geometry_of_setup_is_checked),
	KUNIT_CASE(folio_above_block_is_refused),
	KUNIT_CASE(filled_folio_is_refused),
	KUNIT_CASE(folio_over_another_is_refused),
	KUNIT_CASE(map_order_above_folio_is_refused),
	{}
};

static struct kunit_suite breach_suite = {
	.name = "guestmem_breach",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = liar_init,
	.exit = liar_exit,
	.test_cases = breach_cases,
};

kunit_test_suite(breach_suite);
