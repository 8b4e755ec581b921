// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files, folios and accounting: what holds for every allocator
 */
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/stat.h>
#include <linux/swap.h>

#include "guestmem_test_lib.h"

/*
 * Setup and eviction
 */

static void setup_sets_geometry(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;
	const struct guestmem_inode *gi = gmt(test)->gi;

	KUNIT_EXPECT_EQ(test, gi->geo.block_order, allocator->block_order);
	KUNIT_EXPECT_EQ(test, gi->geo.punch_order, allocator->punch_order);
	KUNIT_EXPECT_EQ(test, gi->geo.max_map_order, allocator->map_order);
	KUNIT_EXPECT_EQ(test, gi->geo.insert == GUESTMEM_INSERT_CHARGED, allocator->charged);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 0);
	KUNIT_EXPECT_TRUE(test, guestmem_is_private(gi, 0));
}

static void setup_guards_mapping(struct kunit *test)
{
	const struct address_space *mapping = gmt(test)->gi->mapping;

	KUNIT_EXPECT_TRUE_MSG(test, mapping_inaccessible(mapping), "migration may move folios");
	KUNIT_EXPECT_TRUE_MSG(test, mapping_release_always(mapping), "reclaim may drop folios");
	KUNIT_EXPECT_TRUE_MSG(test, mapping_unevictable(mapping), "reclaim may look at folios");
}

/* Clean, mapped by nobody, and yet not to be dropped. */
static void nobody_drops_folios(struct kunit *test)
{
	struct address_space *mapping = gmt(test)->gi->mapping;
	unsigned long nr;

	KUNIT_EXPECT_EQ(test, guestmem_allocate(gmt(test)->gi, 0, gmt(test)->allocator->pages), 0);
	nr = mapping->nrpages;
	KUNIT_EXPECT_NE(test, nr, 0);
	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, invalidate_mapping_pages(mapping, 0, -1), 0);
	KUNIT_EXPECT_EQ(test, mapping->nrpages, nr);
}

static void setup_refuses_unknown_unit(struct kunit *test)
{
	struct gmt_allocator odd = *gmt(test)->allocator;
	struct guestmem_inode *gi;

	odd.unit_log2 = 63;
	gi = gmt_open(&odd, odd.pages, false);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gi), -EINVAL);
	if (!IS_ERR(gi))
		mock_close(gi);
}

static void setup_failure_leaves_nothing(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;
	struct guestmem_inode *gi;

	gmt_close(test);
	mock_fail(MOCK_SETUP, 0, -ENOSPC);
	gi = gmt_open(allocator, allocator->pages, false);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(gi), -ENOSPC);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.inodes), 0);
	KUNIT_EXPECT_EQ(test, mock_client_inodes(), 0);
}

/* Every reference that the core and the page cache took is dropped. */
static void evict_drops_references(struct kunit *test)
{
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, 0);
	folio_get(folio);

	gmt_close(test);
	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	KUNIT_EXPECT_PTR_EQ(test, folio->mapping, NULL);
	folio_put(folio);
}

static void evict_reclaims_every_folio(struct kunit *test)
{
	gmt_allocate_all(test);
	mock_reclaimed();
	gmt_close(test);
	KUNIT_EXPECT_EQ(test, mock_reclaimed(), gmt_pages_rounded(test));
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), 0);
}

/* Closing a file never fails, and never takes a page from who still holds it. */
static void evict_leaves_pinned_folio_alone(struct kunit *test)
{
	struct folio *folio = gmt_get(test, 1);

	gmt_fill(folio, 0x5a);
	folio_get(folio);
	gmt_close(test);

	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x5a));
	folio_put(folio);
}

/*
 * Lookup and allocation
 */

static void get_finds_same_folio(struct kunit *test)
{
	struct folio *folio = gmt_get(test, 3);

	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 3), folio);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, folio_nr_pages(folio));

	lru_add_drain_all();
	KUNIT_EXPECT_EQ_MSG(test, folio_ref_count(folio), folio_nr_pages(folio),
			    "a lookup keeps a reference");
}

static void get_returns_locked_folio_with_reference(struct kunit *test)
{
	struct folio *folio = gmt_get_locked(gmt(test)->gi, 2);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	lru_add_drain_all();
	KUNIT_EXPECT_TRUE(test, folio_test_locked(folio));
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(folio));
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), folio_nr_pages(folio) + 1);
	folio_unlock(folio);
	folio_put(folio);
}

/* Backwards, so that no folio is found by chance where the last one ended. */
static void folios_are_aligned_and_cover_file(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;

	for (pgoff_t index = allocator->pages; index-- > 0; ) {
		struct folio *folio = gmt_get(test, index);

		KUNIT_EXPECT_EQ(test, folio_order(folio), allocator->folio_order);
		KUNIT_EXPECT_LE(test, folio_order(folio), allocator->block_order);
		KUNIT_EXPECT_EQ(test, folio->index,
				round_down(index, folio_nr_pages(folio)));
		KUNIT_EXPECT_TRUE(test, folio_contains(folio, index));
	}
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

static void allocate_fills_range_and_no_more(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t unit = gmt_folio_pages(test);
	pgoff_t start = unit + unit / 2;
	pgoff_t end = 3 * unit - unit / 2;

	KUNIT_EXPECT_EQ(test, guestmem_allocate(gi, start, end), 0);

	start = round_down(start, unit);
	end = round_up(end, unit);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, end - start);
	for (pgoff_t index = 0; index < gmt_pages_rounded(test); index++)
		KUNIT_EXPECT_EQ_MSG(test, gmt_present(gi, index),
				    index >= start && index < end, "index %lu", index);
}

static void allocate_keeps_what_is_there(struct kunit *test)
{
	struct folio *folio = gmt_get(test, 0);

	gmt_fill(folio, 0x11);
	gmt_allocate_all(test);
	gmt_allocate_all(test);

	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 0), folio);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x11));
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

static void allocate_stops_for_signal(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	int err;

	gmt_signal();
	err = guestmem_allocate(gi, 0, gmt(test)->allocator->pages);
	gmt_signal_clear();

	KUNIT_EXPECT_EQ(test, err, -EINTR);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 0);
}

static void allocate_passes_error_on(struct kunit *test)
{
	static const int errors[] = { -ENOMEM, -ENOSPC, -EHWPOISON };
	struct guestmem_inode *gi = gmt(test)->gi;
	struct folio *folio;

	for (int i = 0; i < ARRAY_SIZE(errors); i++) {
		mock_fail(MOCK_ALLOC, 0, errors[i]);
		folio = gmt_get_locked(gi, 1);
		KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(folio), errors[i]);
		KUNIT_EXPECT_TRUE(test, xa_empty(&gi->mapping->i_pages));
	}

	/* Whoever comes next is not affected. */
	gmt_get(test, 1);
}

/* What was allocated before a failure stays. */
static void allocate_stops_at_error(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t unit = gmt_folio_pages(test);

	mock_fail(MOCK_ALLOC, 2, -ENOSPC);
	KUNIT_EXPECT_EQ(test, guestmem_allocate(gi, 0, gmt(test)->allocator->pages), -ENOSPC);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 2 * unit);
	KUNIT_EXPECT_TRUE(test, gmt_present(gi, 2 * unit - 1));
	KUNIT_EXPECT_FALSE(test, gmt_present(gi, 2 * unit));
}

/*
 * Contents
 */

static void zeroes_all_of_a_folio(struct kunit *test)
{
	struct folio *folio = gmt_get(test, 5);

	KUNIT_EXPECT_TRUE(test, folio_test_uptodate(folio));
	KUNIT_EXPECT_TRUE_MSG(test, folio_test_dirty(folio), "somebody may think there is a copy");
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0));
}

static void zeroes_once(struct kunit *test)
{
	struct folio *folio = gmt_get(test, 5);

	gmt_fill(folio, 0x77);
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 5), folio);
	KUNIT_EXPECT_TRUE_MSG(test, gmt_filled(folio, 0x77), "cleared a second time");
}

static void zeroes_again_after_punch(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);

	gmt_fill(gmt_get(test, unit), 0x77);
	KUNIT_ASSERT_EQ(test, gmt_punch(test, unit, 2 * unit), 0);
	KUNIT_EXPECT_TRUE_MSG(test, gmt_filled(gmt_get(test, unit), 0),
			      "a guest sees what was there before");
}

/*
 * Holes
 */

static void punch_takes_everything(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;

	gmt_allocate_all(test);
	mock_reclaimed();
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, gmt(test)->allocator->pages), 0);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 0);
	KUNIT_EXPECT_EQ(test, mock_reclaimed(), gmt_pages_rounded(test));
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), 0);
}

static void punch_hole_in_hole(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, gmt(test)->allocator->pages), 0);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

/* One unit after the other, each with neighbours whose contents stay. */
static void punch_takes_unit_and_no_more(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t unit = gmt_folio_pages(test);
	pgoff_t pages = gmt(test)->allocator->pages;

	for (pgoff_t hole = 0; hole < pages; hole += unit) {
		for (pgoff_t index = 0; index < pages; index += unit)
			gmt_fill(gmt_get(test, index), index / unit + 1);

		KUNIT_ASSERT_EQ(test, gmt_punch(test, hole, min(hole + unit, pages)), 0);
		KUNIT_EXPECT_FALSE(test, gmt_present(gi, hole));
		KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, gmt_pages_rounded(test) - unit);
		for (pgoff_t index = 0; index < pages; index += unit)
			if (index != hole)
				KUNIT_EXPECT_TRUE(test, gmt_filled(gmt_get(test, index),
								   index / unit + 1));
	}
}

static void punch_hole_reaches_the_end(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t unit = gmt_folio_pages(test);
	pgoff_t pages = gmt(test)->allocator->pages;
	/* The end itself, the end of the last unit, and far beyond. */
	pgoff_t ends[] = { pages, round_up(pages, unit), pages + 100 * unit };

	for (int i = 0; i < ARRAY_SIZE(ends); i++) {
		gmt_allocate_all(test);
		KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gi, unit, ends[i]), 0);
		KUNIT_EXPECT_EQ_MSG(test, gi->mapping->nrpages, unit, "end %lu", ends[i]);
		gmt_log_clear(test);
	}
}

static void punch_hole_behind_the_end_is_nothing(struct kunit *test)
{
	pgoff_t end = gmt_pages_rounded(test);
	pgoff_t unit = gmt_folio_pages(test);

	gmt_allocate_all(test);
	KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gmt(test)->gi, end, end + unit), 0);
	KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gmt(test)->gi, 9 * end, 10 * end), 0);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, end);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), "");
}

/* A file's end need not be the end of a unit. */
static bool fits(struct kunit *test, loff_t start, loff_t end)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;
	loff_t unit = PAGE_SIZE << allocator->punch_order;

	return start % unit == 0 &&
	       (end % unit == 0 || end == (loff_t)allocator->pages * PAGE_SIZE);
}

static void range_aligned_knows_granularity(struct kunit *test)
{
	loff_t size = (loff_t)gmt(test)->allocator->pages * PAGE_SIZE;
	loff_t step = PAGE_SIZE / 2;

	for (loff_t start = 0; start < size; start += step)
		for (loff_t end = start + step; end <= size + PAGE_SIZE; end += step)
			KUNIT_EXPECT_EQ_MSG(test,
					    guestmem_range_aligned(gmt(test)->gi, start,
								   end - start),
					    fits(test, start, end),
					    "bytes %lld to %lld", start, end);
}

/*
 * Mapping
 */

static void map_order_is_clamped(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;

	for (pgoff_t index = 0; index < allocator->pages; index++) {
		KUNIT_EXPECT_EQ(test, gmt_map_order(test, index),
				min(allocator->map_order, allocator->folio_order));
	}
}

/* A guest that maps a private page must not get a shared one along with it. */
static void map_order_stays_in_one_state(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;
	int whole = min(allocator->map_order, allocator->folio_order);

	KUNIT_ASSERT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 1, 2, NULL), 0);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 0), 0);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 1), 0);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 2), min(1, whole));
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 8), whole);
}

/*
 * Accounting
 */

static void stat_says_what_is_allocated(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t unit = gmt_folio_pages(test);
	struct kstat stat = {};

	guestmem_stat(gi, &stat);
	KUNIT_EXPECT_EQ(test, stat.blksize, PAGE_SIZE << gmt(test)->allocator->block_order);
	KUNIT_EXPECT_EQ(test, stat.blocks, 0);

	gmt_get(test, 0);
	guestmem_stat(gi, &stat);
	KUNIT_EXPECT_EQ(test, stat.blocks, unit * PAGE_SIZE / 512);

	gmt_allocate_all(test);
	guestmem_stat(gi, &stat);
	KUNIT_EXPECT_EQ(test, stat.blocks, gmt_pages_rounded(test) * PAGE_SIZE / 512);

	KUNIT_ASSERT_EQ(test, gmt_punch(test, 0, unit), 0);
	guestmem_stat(gi, &stat);
	KUNIT_EXPECT_EQ(test, stat.blocks, (gmt_pages_rounded(test) - unit) * PAGE_SIZE / 512);
}

static void counts_file_pages(struct kunit *test)
{
	long before = gmt(test)->file_pages;

	gmt_allocate_all(test);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_FILE_PAGES), before + gmt_pages_rounded(test));
	KUNIT_ASSERT_EQ(test, gmt_punch(test, 0, gmt(test)->allocator->pages), 0);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_FILE_PAGES), before);
}

static void folios_are_on_the_right_lru(struct kunit *test)
{
	struct folio *folio = gmt_get(test, 0);

	lru_add_drain_all();
	KUNIT_EXPECT_EQ(test, folio_test_lru(folio), !gmt(test)->allocator->charged);
	KUNIT_EXPECT_EQ(test, folio_test_unevictable(folio), !gmt(test)->allocator->charged);
}

static void folios_are_charged(struct kunit *test)
{
	if (mem_cgroup_disabled())
		kunit_skip(test, "memory cgroups are off");

	KUNIT_EXPECT_TRUE(test, folio_memcg_charged(gmt_get(test, 0)));
}

static void show_names_allocator_and_state(struct kunit *test)
{
	char *buffer = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	struct seq_file m = { .buf = buffer, .size = PAGE_SIZE };
	struct guestmem_inode *gi = gmt(test)->gi;
	char pages[40];

	KUNIT_ASSERT_NOT_NULL(test, buffer);
	gmt_allocate_all(test);
	guestmem_show(gi, &m);

	snprintf(pages, sizeof(pages), "guestmem-pages:\t%lu\n", gi->mapping->nrpages);
	KUNIT_EXPECT_NOT_NULL(test, strstr(buffer, gi->ops->name));
	KUNIT_EXPECT_NOT_NULL(test, strstr(buffer, "guestmem-state:\tprivate\n"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(buffer, pages));
}

static struct kunit_case core_cases[] = {
	KUNIT_CASE_PARAM(setup_sets_geometry, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(setup_guards_mapping, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(nobody_drops_folios, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(setup_refuses_unknown_unit, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(setup_failure_leaves_nothing, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(evict_drops_references, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(evict_reclaims_every_folio, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(evict_leaves_pinned_folio_alone, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(get_finds_same_folio, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(get_returns_locked_folio_with_reference, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(folios_are_aligned_and_cover_file, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(allocate_fills_range_and_no_more, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(allocate_keeps_what_is_there, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(allocate_stops_for_signal, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(allocate_passes_error_on, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(allocate_stops_at_error, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(zeroes_all_of_a_folio, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(zeroes_once, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(zeroes_again_after_punch, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(punch_takes_everything, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(punch_hole_in_hole, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(punch_takes_unit_and_no_more, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(punch_hole_reaches_the_end, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(punch_hole_behind_the_end_is_nothing, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(range_aligned_knows_granularity, gmt_all_gen_params),
	KUNIT_CASE_PARAM(map_order_is_clamped, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(map_order_stays_in_one_state, gmt_all_gen_params),
	KUNIT_CASE_PARAM(stat_says_what_is_allocated, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(counts_file_pages, gmt_all_gen_params),
	KUNIT_CASE_PARAM(folios_are_on_the_right_lru, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(folios_are_charged, gmt_all_gen_params),
	KUNIT_CASE_PARAM(show_names_allocator_and_state, gmt_whole_gen_params),
	{}
};

static struct kunit_suite core_suite = {
	.name = "guestmem_core",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = core_cases,
};

kunit_test_suite(core_suite);
