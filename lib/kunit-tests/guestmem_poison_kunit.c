// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page goes bad: who hears of it, and when
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>

#include "guestmem_test_lib.h"

/*
 * Only some architectures mark bad pages.  Elsewhere one parameter is enough to
 * say so.
 */
static const void *marking_gen_params(struct kunit *test, const void *prev, char *desc)
{
	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE) && prev)
		return NULL;

	return gmt_all_gen_params(test, prev, desc);
}

static void need_marks(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "CONFIG_MEMORY_FAILURE is off");
}

/* As memory_failure() does it. */
static void mark(struct folio *folio, pgoff_t index)
{
	SetPageHWPoison(folio_file_page(folio, index));
	if (folio_test_large(folio))
		folio_set_has_hwpoisoned(folio);
}

/* The page is in good health after all. */
static void unmark(struct folio *folio, pgoff_t index)
{
	ClearPageHWPoison(folio_file_page(folio, index));
	if (folio_test_large(folio))
		folio_clear_has_hwpoisoned(folio);
}

/* Its first page, of a folio that no file has any more. */
static void unmark_gone(struct folio *folio)
{
	ClearPageHWPoison(folio_page(folio, 0));
	if (folio_test_large(folio))
		folio_clear_has_hwpoisoned(folio);
}

static int report_locked(struct folio *folio)
{
	return folio->mapping->a_ops->error_remove_folio(folio->mapping, folio);
}

static int report(struct folio *folio)
{
	int ret;

	folio_lock(folio);
	ret = report_locked(folio);
	folio_unlock(folio);
	return ret;
}

static void expect_told(struct kunit *test, const char *want)
{
	KUNIT_EXPECT_STREQ(test, gmt_log(test), want);
}

static int references(struct kunit *test)
{
	return atomic_read(&gmt(test)->gi->mapping->host->i_count);
}

/*
 * Nobody is in the way
 */

static void tells_at_once(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *folio;
	char want[64];

	gmt_allocate_all(test);
	folio = gmt_get(test, unit);
	KUNIT_EXPECT_EQ(test, report(folio), MF_DELAYED);

	snprintf(want, sizeof(want), "begin:%lu-%lu end:%lu-%lu ",
		 unit, 2 * unit, unit, 2 * unit);
	expect_told(test, want);
	KUNIT_EXPECT_EQ(test, references(test), 1);
	KUNIT_EXPECT_PTR_EQ_MSG(test, gmt_get(test, unit), folio,
				"the next access has to find it");
}

static void map_order_refuses_poisoned_page(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct folio *folio;
	int order;

	need_marks(test);
	for (pgoff_t index = 0; index < pages; index++) {
		folio = gmt_get(test, index);
		mark(folio, index);
		order = gmt_map_order(test, index);
		unmark(folio, index);
		KUNIT_EXPECT_EQ(test, order, -EHWPOISON);
	}
}

/* Not every report leaves a reference behind. */
static void poisoned_page_that_nobody_holds_is_not_made_private(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages, err_index = ULONG_MAX;
	struct guestmem_inode *gi = gmt(test)->gi;
	struct folio *folio;

	need_marks(test);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_SHARED, 0, pages, NULL), 0);
	folio = gmt_get(test, 1);
	mark(folio, 1);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_PRIVATE, 0, pages, &err_index),
			-EHWPOISON);
	KUNIT_EXPECT_EQ(test, err_index, folio->index);
	unmark(folio, 1);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_PRIVATE, 0, pages, NULL), 0);
}

/*
 * Somebody holds invalidate_lock
 */

struct reporter {
	struct folio *folio;
	bool locked;
	int ret;
	struct gmt_thread thread;
};

static void report_folio(void *arg)
{
	struct reporter *reporter = arg;

	reporter->ret = reporter->locked ? report_locked(reporter->folio) :
					   report(reporter->folio);
}

/* From another thread: should it wait for the lock, the test must not. */
static bool report_from_thread(struct kunit *test, struct folio *folio, bool locked)
{
	struct reporter *reporter;

	/* Outlives the test, should the thread hang. */
	reporter = kzalloc_obj(*reporter);
	KUNIT_ASSERT_NOT_NULL(test, reporter);
	reporter->folio = folio;
	reporter->locked = locked;
	reporter->thread.fn = report_folio;
	reporter->thread.arg = reporter;
	gmt_start(test, &reporter->thread);
	if (gmt_blocked(&reporter->thread)) {
		KUNIT_FAIL(test, "memory_failure() waits for invalidate_lock");
		return false;
	}

	gmt_join(test, &reporter->thread);
	KUNIT_EXPECT_EQ(test, reporter->ret, MF_DELAYED);
	kfree(reporter);
	return true;
}

static bool report_beside(struct kunit *test, struct folio *folio)
{
	return report_from_thread(test, folio, false);
}

static void tells_only_of_poisoned_folios_later(struct kunit *test)
{
	struct address_space *mapping = gmt(test)->gi->mapping;
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *first, *last;
	char in_order[96], as_reported[96];
	const char *log;

	need_marks(test);
	gmt_allocate_all(test);
	first = gmt_get(test, 0);
	last = gmt_get(test, 2 * unit);
	mark(first, unit - 1);
	mark(last, 2 * unit);

	filemap_invalidate_lock(mapping);
	if (report_beside(test, last) && report_beside(test, first))
		expect_told(test, "");
	filemap_invalidate_unlock(mapping);
	guestmem_flush_poison();

	snprintf(in_order, sizeof(in_order), "begin:0-%lu end:0-%lu begin:%lu-%lu end:%lu-%lu ",
		 unit, unit, 2 * unit, 3 * unit, 2 * unit, 3 * unit);
	/* The work item may have begun, and waited, before the second report. */
	snprintf(as_reported, sizeof(as_reported),
		 "begin:%lu-%lu end:%lu-%lu begin:0-%lu end:0-%lu ",
		 2 * unit, 3 * unit, 2 * unit, 3 * unit, unit, unit);
	log = gmt_log(test);
	KUNIT_EXPECT_TRUE_MSG(test, !strcmp(log, in_order) || !strcmp(log, as_reported),
			      "told: %s", log);
	KUNIT_EXPECT_EQ(test, references(test), 1);
	unmark(first, unit - 1);
	unmark(last, 2 * unit);
}

/* Several reports, one work item: one reference, two if it has begun already. */
static void waits_in_the_background(struct kunit *test)
{
	struct address_space *mapping = gmt(test)->gi->mapping;
	struct folio *folio;

	need_marks(test);
	folio = gmt_get(test, 0);
	mark(folio, 0);
	filemap_invalidate_lock(mapping);
	for (int i = 0; i < 3; i++)
		if (!report_beside(test, folio))
			break;
	expect_told(test, "");
	KUNIT_EXPECT_GE(test, references(test), 2);
	KUNIT_EXPECT_LE(test, references(test), 3);
	filemap_invalidate_unlock(mapping);

	guestmem_flush_poison();
	unmark(folio, 0);
	KUNIT_EXPECT_EQ_MSG(test, references(test), 1, "the file is never closed");
}

/* A second report, after the first was worked off, is not forgotten. */
static void tells_of_later_reports(struct kunit *test)
{
	struct address_space *mapping = gmt(test)->gi->mapping;
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *folio;
	char want[96];

	need_marks(test);
	gmt_allocate_all(test);
	for (pgoff_t index = 2 * unit; index > 0; index -= unit) {
		folio = gmt_get(test, index);
		gmt_log_clear(test);
		mark(folio, index);
		filemap_invalidate_lock(mapping);
		report_beside(test, folio);
		filemap_invalidate_unlock(mapping);
		guestmem_flush_poison();
		unmark(folio, index);

		snprintf(want, sizeof(want), "begin:%lu-%lu end:%lu-%lu ",
			 index, index + unit, index, index + unit);
		expect_told(test, want);
	}
}

/* Punched before its turn came: no guest maps it, and nobody is bothered. */
static void tells_nothing_of_what_is_gone(struct kunit *test)
{
	struct address_space *mapping = gmt(test)->gi->mapping;
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *folio;

	need_marks(test);
	gmt_allocate_all(test);
	folio = gmt_get(test, unit);
	folio_get(folio);
	mark(folio, unit);

	filemap_invalidate_lock(mapping);
	report_beside(test, folio);
	truncate_inode_pages_range(mapping, unit * PAGE_SIZE, 2 * unit * PAGE_SIZE - 1);
	filemap_invalidate_unlock(mapping);
	guestmem_flush_poison();

	expect_told(test, "");
	unmark_gone(folio);
	folio_put(folio);
}

static void keeps_file_until_it_has_told(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	struct folio *folio;

	need_marks(test);
	folio = gmt_get(test, 0);
	folio_get(folio);
	mark(folio, 0);
	filemap_invalidate_lock(gi->mapping);
	report_beside(test, folio);
	gmt(test)->gi = NULL;
	mock_close(gi);
	KUNIT_EXPECT_EQ_MSG(test, mock_client_inodes(), 1, "gone before the guest was told");

	/* Who waits for the lock may free the file before it is quite unlocked. */
	scoped_guard(rcu)
		filemap_invalidate_unlock(gi->mapping);
	guestmem_flush_poison();
	KUNIT_EXPECT_EQ(test, mock_client_inodes(), 0);
	unmark_gone(folio);
	folio_put(folio);
}

/* Another thread could be holding invalidate_lock; this one says that it does. */
static void report_while_evicted(struct guestmem_inode *gi, struct folio *folio)
{
	struct rw_semaphore *lock = &gi->mapping->invalidate_lock;

	if (!mock_expect(down_write_trylock(lock), "invalidate_lock at eviction"))
		return;

	guestmem_error_folio(gi, folio);
	mock_expect(gi->poison_start == gi->poison_end, "work for a file that is gone");
	up_write(lock);
	mock.on_free = NULL;
}

/* Healthy, all of them, by the time that their turn comes: nobody is bothered. */
static void reports_share_one_work_item(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *folios[3];

	gmt_allocate_all(test);
	for (int i = 0; i < ARRAY_SIZE(folios); i++) {
		folios[i] = gmt_get(test, (2 + i) % 3 * unit);
		folio_lock(folios[i]);
	}

	KUNIT_ASSERT_TRUE(test, down_write_trylock(&gi->mapping->invalidate_lock));
	for (int i = 0; i < ARRAY_SIZE(folios); i++)
		report_locked(folios[i]);
	KUNIT_EXPECT_LE_MSG(test, references(test), 3, "a reference for each of them");
	up_write(&gi->mapping->invalidate_lock);

	for (int i = 0; i < ARRAY_SIZE(folios); i++)
		folio_unlock(folios[i]);
	guestmem_flush_poison();
	expect_told(test, "");
	KUNIT_EXPECT_EQ_MSG(test, references(test), 1, "the file is never closed");
}

/* It has no guest left, and the last reference to it has been dropped. */
static void does_not_keep_a_file_on_its_way_out(struct kunit *test)
{
	gmt_get(test, 0);
	mock.on_free = report_while_evicted;
	gmt_close(test);
	KUNIT_EXPECT_NULL_MSG(test, mock.on_free, "nothing was reported");
	KUNIT_EXPECT_EQ(test, mock_client_inodes(), 0);
}

/*
 * memory_failure() has a folio lock and wants invalidate_lock; a change has
 * invalidate_lock and wants the folio's.
 */

struct changer {
	struct guestmem_inode *gi;
	pgoff_t end;
	int err;
	struct gmt_thread thread;
};

static void punch_start(void *arg)
{
	struct changer *changer = arg;

	changer->err = gmt_change(changer->gi, GUESTMEM_ABSENT, 0, changer->end, NULL);
}

static void does_not_deadlock_with_change(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);
	struct changer changer = {
		.gi = gmt(test)->gi,
		.end = unit,
		.thread = { .fn = punch_start, .arg = &changer },
	};
	struct folio *folio = gmt_get(test, 0);

	folio_lock(folio);
	gmt_start(test, &changer.thread);
	KUNIT_EXPECT_TRUE(test, gmt_blocked(&changer.thread));
	report_from_thread(test, folio, true);
	folio_unlock(folio);

	gmt_join(test, &changer.thread);
	guestmem_flush_poison();
	KUNIT_EXPECT_EQ(test, changer.err, 0);
	KUNIT_EXPECT_FALSE(test, gmt_present(changer.gi, 0));
	KUNIT_EXPECT_EQ_MSG(test, references(test), 1, "the file is never closed");
	gmt_expect_done(test, GUESTMEM_ABSENT, 0, unit);
}

static struct kunit_case poison_cases[] = {
	KUNIT_CASE_PARAM(tells_at_once, gmt_all_gen_params),
	KUNIT_CASE_PARAM(map_order_refuses_poisoned_page, marking_gen_params),
	KUNIT_CASE_PARAM(poisoned_page_that_nobody_holds_is_not_made_private, marking_gen_params),
	KUNIT_CASE_PARAM(tells_only_of_poisoned_folios_later, marking_gen_params),
	KUNIT_CASE_PARAM(waits_in_the_background, marking_gen_params),
	KUNIT_CASE_PARAM(tells_of_later_reports, marking_gen_params),
	KUNIT_CASE_PARAM(tells_nothing_of_what_is_gone, marking_gen_params),
	KUNIT_CASE_PARAM(keeps_file_until_it_has_told, marking_gen_params),
	KUNIT_CASE_PARAM(reports_share_one_work_item, gmt_all_gen_params),
	KUNIT_CASE_PARAM(does_not_keep_a_file_on_its_way_out, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(does_not_deadlock_with_change, gmt_all_gen_params),
	{}
};

static struct kunit_suite poison_suite = {
	.name = "guestmem_poison",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = poison_cases,
};

kunit_test_suite(poison_suite);
