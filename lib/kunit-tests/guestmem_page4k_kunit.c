// SPDX-License-Identifier: GPL-2.0-only
/*
 * What sets the 4K allocator apart: it is the default, it has no blocks, and
 * its holes take no notice of who still holds a page
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>
#include <linux/stat.h>
#include <linux/swap.h>

#include "guestmem_test_lib.h"

#define PAGES	40

static const struct gmt_allocator page4k = {
	.name = "page4k",
	.pages = PAGES,
};

static int page4k_init(struct kunit *test)
{
	int err = gmt_init(test);

	if (err)
		return err;

	gmt(test)->allocator = &page4k;
	gmt(test)->gi = gmt_open(&page4k, PAGES, false);
	return PTR_ERR_OR_ZERO(gmt(test)->gi);
}

static void is_the_default(struct kunit *test)
{
	KUNIT_EXPECT_STREQ(test, gmt(test)->gi->ops->name, "page4k");
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->ops->selector, 0);
}

/* Not even the size of its pages: who asks for one means another allocator. */
static void has_no_units(struct kunit *test)
{
	for (unsigned int unit = 1; unit < 64; unit++) {
		struct gmt_allocator odd = { .unit_log2 = unit };
		struct guestmem_inode *gi = gmt_open(&odd, PAGES, false);

		KUNIT_EXPECT_EQ_MSG(test, PTR_ERR_OR_ZERO(gi), -EINVAL, "unit %u", unit);
		if (!IS_ERR(gi))
			mock_close(gi);
	}
}

static void serves_a_huge_file(struct kunit *test)
{
	pgoff_t last = BIT(34) - 1;
	struct kstat stat = {};

	gmt_close(test);
	gmt(test)->gi = gmt_open(&page4k, last + 1, false);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);

	gmt_get(test, last);
	gmt_get(test, 0);
	guestmem_stat(gmt(test)->gi, &stat);
	KUNIT_EXPECT_EQ(test, stat.blocks, 2 * PAGE_SIZE / 512);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 1, last + 1), 0);
	KUNIT_EXPECT_TRUE(test, gmt_present(gmt(test)->gi, 0));
	KUNIT_EXPECT_FALSE(test, gmt_present(gmt(test)->gi, last));
}

/* The page lives on with its holder, and the file gets a new one. */
static void hole_ignores_pins(struct kunit *test)
{
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, 7);
	gmt_fill(folio, 0x66);
	folio_get(folio);

	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, PAGES), 0);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
	KUNIT_EXPECT_PTR_NE(test, gmt_get(test, 7), folio);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x66));
	KUNIT_EXPECT_TRUE(test, gmt_filled(gmt_get(test, 7), 0));

	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	folio_put(folio);
}

/* More than a batch of page cache lookups holds, and nothing of it is done. */
static void refusal_is_for_the_whole_request(struct kunit *test)
{
	pgoff_t err_index = 77;
	struct folio *folio;

	gmt_allocate_all(test);
	gmt_oppose(test, GUESTMEM_PRIVATE);
	folio = gmt_get(test, PAGES - 1);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, PAGES, &err_index),
			-EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, PAGES - 1);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), "");
	folio_put(folio);
}

/* Faults wait for a hole, so a large one lets go of the lock now and then. */
static void large_hole_is_punched_in_parts(struct kunit *test)
{
	pgoff_t part = SZ_64M / PAGE_SIZE;
	char want[160];
	int n;

	gmt_close(test);
	gmt(test)->gi = gmt_open(&page4k, 2 * part, false);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	for (pgoff_t index = 0; index < 2 * part; index += part / 2)
		gmt_get(test, index);

	KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gmt(test)->gi, 1, part + 2), 0);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 2);
	n = snprintf(want, sizeof(want), "begin:1-%lu end:1-%lu ", part + 1, part + 1);
	snprintf(want + n, sizeof(want) - n, "begin:%lu-%lu end:%lu-%lu ",
		 part + 1, part + 2, part + 1, part + 2);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), want);
}

static struct kunit_case page4k_cases[] = {
	KUNIT_CASE(is_the_default),
	KUNIT_CASE(has_no_units),
	KUNIT_CASE(serves_a_huge_file),
	KUNIT_CASE(hole_ignores_pins),
	KUNIT_CASE(refusal_is_for_the_whole_request),
	KUNIT_CASE(large_hole_is_punched_in_parts),
	{}
};

static struct kunit_suite page4k_suite = {
	.name = "guestmem_page4k",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = page4k_init,
	.exit = gmt_exit,
	.test_cases = page4k_cases,
};

kunit_test_suite(page4k_suite);
