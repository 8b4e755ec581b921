// SPDX-License-Identifier: GPL-2.0-only
/*
 * How large the folios of a file that splits them have to be, and what is in them
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "guestmem_layout.h"

#define LAYOUT_HUGETLB	BIT_ULL(3)
#define LAYOUT_SMALL	2048

/* Two blocks and a bit; a single one where it is very large. */
static const struct gmt_allocator layout_allocators[] = {
	{ "3 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 3, 19, 3, 3, 3, 3, true, true },
	{ "5 to 2 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 5, 71, 5, 5, 5, 5, true, true },
	/* A block of the order of a level of the tree. */
	{ "6 to 3 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 6, 131, 6, 6, 6, 6, true, true },
	{ "9 to 4 to 0", MOCK_SELECTOR_PIECES, PAGE_SHIFT + 9, 1029, 9, 9, 9, 9, true, true },
	{ "hugetlb 2M", LAYOUT_HUGETLB, 21, 1029, 9, 9, 9, 9, true },
	{ "hugetlb 1G", LAYOUT_HUGETLB, 30, 1 << 18, 18, 18, 18, 18, true },
};

KUNIT_ARRAY_PARAM_DESC(layout_array, layout_allocators, name);

/* Is there a pool, with enough pages in it? */
static bool layout_available(const struct gmt_allocator *allocator)
{
	struct guestmem_inode *gi;

	if (allocator->mock)
		return true;
	if (!(guestmem_selectors() & allocator->selector))
		return false;

	gi = gmt_open(allocator, allocator->pages, false);
	if (IS_ERR(gi))
		return false;

	mock_close(gi);
	return true;
}

const void *layout_mock_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator = layout_array_gen_params(test, prev, desc);

	return allocator && allocator->mock ? allocator : NULL;
}

const void *layout_small_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator = layout_gen_params(test, prev, desc);

	return allocator && allocator->pages <= LAYOUT_SMALL ? allocator : NULL;
}

const void *layout_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator;

	do {
		allocator = layout_array_gen_params(test, prev, desc);
		prev = allocator;
	} while (allocator && !layout_available(allocator));

	return allocator;
}

int layout_init(struct kunit *test)
{
	struct layout *layout;
	pgoff_t pages;
	int err;

	err = gmt_init_file(test);
	if (err || !test->param_value)
		return err;

	layout = kunit_kzalloc(test, sizeof(*layout), GFP_KERNEL);
	if (!layout)
		return -ENOMEM;

	gmt(test)->data = layout;
	layout_log_off(test);
	pages = round_up(layout_pages(test), layout_block(test));
	layout->present = kunit_kcalloc(test, BITS_TO_LONGS(pages), sizeof(long), GFP_KERNEL);
	layout->tags = kunit_kzalloc(test, pages, GFP_KERNEL);
	return layout->present && layout->tags ? 0 : -ENOMEM;
}

void layout_log_off(struct kunit *test)
{
	mock_inode(gmt(test)->gi)->phases.off = true;
	mock_inode(gmt(test)->gi)->folios.off = true;
}

void layout_reopen(struct kunit *test)
{
	pgoff_t pages = round_up(layout_pages(test), layout_block(test));

	gmt_close(test);
	gmt(test)->gi = gmt_open(gmt(test)->allocator, layout_pages(test), false);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	bitmap_zero(layout(test)->present, pages);
	memset(layout(test)->tags, 0, pages);
	layout_log_off(test);
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
	struct guestmem_inode *gi = gmt(test)->gi;
	struct guestmem_range run;

	filemap_invalidate_lock_shared(gi->mapping);
	run = guestmem_shared_run(gi, start, end);
	filemap_invalidate_unlock_shared(gi->mapping);
	return run.start >= run.end;
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
	u8 *page = page_address(folio_file_page(folio, index));
	u8 tag = layout(test)->tags[index];

	KUNIT_EXPECT_PTR_EQ(test, page_folio(virt_to_page(page)), folio);
	if (folio_test_uptodate(folio))
		KUNIT_EXPECT_TRUE(test, page[0] == tag && page[PAGE_SIZE - 1] == tag);
	else
		KUNIT_EXPECT_EQ(test, tag, 0);
}

/* The first and the last page, and all that something was written to. */
static void expect_all_contents(struct kunit *test, struct folio *folio)
{
	u8 *tags = layout(test)->tags, *tag = tags + folio->index;
	u8 *end = tags + folio_next_index(folio);

	expect_contents(test, folio, folio->index);
	expect_contents(test, folio, folio_next_index(folio) - 1);
	while ((tag = memchr_inv(tag, 0, end - tag))) {
		expect_contents(test, folio, tag - tags);
		if (++tag == end)
			break;
	}
}

static void expect_entry(struct kunit *test, struct folio *folio, pgoff_t index,
			 unsigned int order, bool slack)
{
	KUNIT_EXPECT_TRUE(test, test_bit(index, layout(test)->present));
	KUNIT_EXPECT_EQ(test, order, folio_order(folio));
	if (slack)
		KUNIT_EXPECT_LE(test, order, largest_order(test, index));
	else
		KUNIT_EXPECT_EQ(test, order, largest_order(test, index));
	expect_folio(test, folio, index);
	expect_all_contents(test, folio);
}

void layout_expect(struct kunit *test, bool slack)
{
	pgoff_t end = round_up(layout_pages(test), layout_block(test)), index = 0;
	struct address_space *mapping = gmt(test)->gi->mapping;
	struct folio *folio;
	unsigned int order;

	while (index < end && test->status == KUNIT_SUCCESS &&
	       (folio = guestmem_cache_find(mapping, &index, end, &order))) {
		expect_entry(test, folio, index, order, slack);
		index = folio_next_index(folio);
	}
	KUNIT_EXPECT_EQ(test, mapping->nrpages, bitmap_weight(layout(test)->present, end));
}
