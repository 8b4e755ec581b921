// SPDX-License-Identifier: GPL-2.0-only
/*
 * How large the folios of a file that splits them have to be, and what is in them
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "guestmem_layout.h"

/* Two blocks and a bit. */
static const struct gmt_allocator layout_allocators[] = {
	{ "3 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 3, 19, 3, 3, 3, 3, true, true },
	{ "5 to 2 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 5, 71, 5, 5, 5, 5, true, true },
	{ "9 to 4 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 9, 1029, 9, 9, 9, 9, true, true },
};

KUNIT_ARRAY_PARAM_DESC(layout_array, layout_allocators, name);

const void *layout_gen_params(struct kunit *test, const void *prev, char *desc)
{
	return layout_array_gen_params(test, prev, desc);
}

int layout_init(struct kunit *test)
{
	int err = gmt_init_file(test);

	if (err)
		return err;

	gmt(test)->data = kunit_kzalloc(test, sizeof(struct layout), GFP_KERNEL);
	layout_log_off(test);
	return gmt(test)->data ? 0 : -ENOMEM;
}

void layout_log_off(struct kunit *test)
{
	mock_inode(gmt(test)->gi)->phases.off = true;
	mock_inode(gmt(test)->gi)->folios.off = true;
}

pgoff_t layout_pages(struct kunit *test)
{
	return gmt(test)->allocator->pages;
}

pgoff_t layout_block(struct kunit *test)
{
	return 1UL << gmt(test)->allocator->block_order;
}

/* A block comes as a whole. */
static void layout_add(struct kunit *test, pgoff_t index)
{
	bitmap_set(layout(test)->present, round_down(index, layout_block(test)),
		   layout_block(test));
}

/* Locked, with a reference. */
struct folio *layout_get(struct kunit *test, pgoff_t index)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	struct folio *folio;

	folio = gmt_get_locked(gi, index);
	if (folio == ERR_PTR(-EAGAIN)) {
		KUNIT_EXPECT_EQ(test, guestmem_allocate_mixed(gi, index), 0);
		folio = gmt_get_locked(gi, index);
	}
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	layout_add(test, index);
	return folio;
}

void layout_allocate(struct kunit *test, pgoff_t index)
{
	struct folio *folio = layout_get(test, index);

	folio_unlock(folio);
	folio_put(folio);
}

void layout_write(struct kunit *test, pgoff_t index, u8 tag)
{
	struct folio *folio = layout_get(test, index);

	guestmem_zero_folio(folio);
	memset(page_address(folio_file_page(folio, index)), tag, PAGE_SIZE);
	layout(test)->tags[index] = tag;
	folio_unlock(folio);
	folio_put(folio);
}

void layout_change(struct kunit *test, enum guestmem_target target, pgoff_t start, pgoff_t end)
{
	pgoff_t whole;

	if (target != GUESTMEM_ABSENT) {
		KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, target, start, end, NULL), 0);
		return;
	}

	KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gmt(test)->gi, start, end), 0);
	whole = round_up(end, layout_block(test));
	bitmap_clear(layout(test)->present, start, whole - start);
	memset(&layout(test)->tags[start], 0, end - start);
}

/*
 * Comparison
 */

static bool all_private(struct kunit *test, pgoff_t start, unsigned int order)
{
	pgoff_t end = min(start + (1UL << order), layout_pages(test));

	for (pgoff_t index = start; index < end; index++)
		if (!guestmem_is_private(gmt(test)->gi, index))
			return false;
	return true;
}

static unsigned int largest_order(struct kunit *test, pgoff_t index)
{
	const struct guestmem_geometry *geo = &gmt(test)->gi->geo;
	const u8 orders[] = { geo->block_order, geo->piece_order };

	for (int i = 0; i < ARRAY_SIZE(orders); i++)
		if (all_private(test, round_down(index, 1UL << orders[i]), orders[i]))
			return orders[i];
	return 0;
}

static void expect_folio(struct kunit *test, struct folio *folio, pgoff_t index)
{
	unsigned int order = folio_order(folio);

	KUNIT_EXPECT_EQ(test, folio->index, round_down(index, 1UL << order));
	KUNIT_EXPECT_PTR_EQ(test, folio->mapping, gmt(test)->gi->mapping);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1 << order);
	KUNIT_EXPECT_EQ(test, folio_test_lru(folio), !order);
	KUNIT_EXPECT_EQ(test, folio_test_unevictable(folio), !order);
	KUNIT_EXPECT_FALSE(test, folio_test_locked(folio) || folio_mapped(folio));
}

static void expect_contents(struct kunit *test, struct folio *folio, pgoff_t index)
{
	u8 tag = index < layout_pages(test) ? layout(test)->tags[index] : 0;
	u8 *page = page_address(folio_file_page(folio, index));

	KUNIT_EXPECT_PTR_EQ(test, page_folio(virt_to_page(page)), folio);
	if (folio_test_uptodate(folio))
		KUNIT_EXPECT_TRUE(test, page[0] == tag && page[PAGE_SIZE - 1] == tag);
	else
		KUNIT_EXPECT_EQ(test, tag, 0);
}

static void expect_page(struct kunit *test, pgoff_t index, bool slack)
{
	pgoff_t found = index;
	struct folio *folio;
	unsigned int order;

	folio = guestmem_cache_find(gmt(test)->gi->mapping, &found, index + 1, &order);
	KUNIT_EXPECT_EQ(test, !!folio, test_bit(index, layout(test)->present));
	if (!folio)
		return;

	KUNIT_EXPECT_EQ(test, order, folio_order(folio));
	if (slack)
		KUNIT_EXPECT_LE(test, order, largest_order(test, index));
	else
		KUNIT_EXPECT_EQ(test, order, largest_order(test, index));
	expect_folio(test, folio, index);
	expect_contents(test, folio, index);
}

void layout_expect(struct kunit *test, bool slack)
{
	pgoff_t end = round_up(layout_pages(test), layout_block(test));

	for (pgoff_t index = 0; index < end && test->status == KUNIT_SUCCESS; index++)
		expect_page(test, index, slack);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages,
			bitmap_weight(layout(test)->present, end));
}
