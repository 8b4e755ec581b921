// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two-phase change: which phase comes when, and what a failure leaves
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>

#include "guestmem_test_lib.h"

static const enum guestmem_target targets[] = {
	GUESTMEM_PRIVATE, GUESTMEM_SHARED, GUESTMEM_ABSENT,
};

/* Of eight pages each: none shared, all, every other, halves, islands. */
static const u8 patterns[] = { 0x00, 0xff, 0x55, 0xf0, 0x7e, 0x99 };

/* Ranges of a file in all positions to the borders of its blocks. */
static pgoff_t range_end(struct kunit *test, pgoff_t start, unsigned int blocks)
{
	pgoff_t end = start + blocks * (1UL << gmt(test)->allocator->block_order) + 1;

	return min(end, gmt(test)->allocator->pages);
}

static void expect_change(struct kunit *test, enum guestmem_target target,
			  pgoff_t start, pgoff_t end)
{
	gmt_log_clear(test);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, target, start, end, NULL), 0);
	gmt_expect_done(test, target, start, end);
}

/*
 * The good case
 */

static void phases_of_whole_file(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(targets); i++) {
		gmt_allocate_all(test);
		gmt_oppose(test, targets[i]);
		expect_change(test, targets[i], 0, gmt(test)->allocator->pages);
	}
}

static void phases_of_empty_file(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(targets); i++) {
		gmt_oppose(test, targets[i]);
		expect_change(test, targets[i], 0, gmt(test)->allocator->pages);
	}
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

static void phases_of_any_range(struct kunit *test)
{
	gmt_allocate_all(test);
	for (pgoff_t start = 0; start < gmt(test)->allocator->pages; start++)
		for (unsigned int blocks = 0; blocks < 3; blocks++) {
			expect_change(test, GUESTMEM_SHARED, start,
				      range_end(test, start, blocks));
			expect_change(test, GUESTMEM_PRIVATE, start,
				      range_end(test, start, blocks));
		}
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

/* What has the state already is in no step, or in no run of one. */
static void phases_of_mixed_range(struct kunit *test)
{
	static const enum guestmem_target both[] = { GUESTMEM_PRIVATE, GUESTMEM_SHARED };
	pgoff_t pages = gmt(test)->allocator->pages;

	gmt_allocate_all(test);
	for (int i = 0; i < ARRAY_SIZE(patterns) * ARRAY_SIZE(both); i++)
		for (pgoff_t start = 0; start < pages; start += 5 * GMT_STRIDE)
			for (unsigned int blocks = 0; blocks < 3; blocks++) {
				gmt_share_by(test, patterns[i / 2]);
				expect_change(test, both[i % 2], start,
					      range_end(test, start, blocks));
			}
}

/* Not even with something to reserve, or with someone who holds its pages. */
static void same_state_is_not_touched(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct guestmem_inode *gi = gmt(test)->gi;
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, 2);
	folio_get(folio);
	mock_fail(MOCK_PREPARE, 0, -ENOMEM);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_PRIVATE, 0, pages, NULL), 0);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_PRIVATE, 1, 3, NULL), 0);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), "");

	mock_fail(MOCK_PREPARE, 0, 0);
	gmt_oppose(test, GUESTMEM_PRIVATE);
	mock_fail(MOCK_PREPARE, 0, -ENOMEM);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_SHARED, 0, pages, NULL), 0);
	KUNIT_EXPECT_EQ(test, gmt_change(gi, GUESTMEM_SHARED, 2, pages, NULL), 0);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), "");
	folio_put(folio);
}

static void note_block(struct guestmem_change *c)
{
	struct guestmem_range *block = mock_inode(c->gi)->data;

	*block = guestmem_step_block(c);
}

/* A fault under way may have seen all of it as one folio, and has to come again. */
static void step_is_in_its_whole_block(struct kunit *test)
{
	pgoff_t unit = 1UL << gmt(test)->allocator->block_order;
	struct mock_inode *mi = mock_inode(gmt(test)->gi);
	struct guestmem_range block = {};

	mi->data = &block;
	mi->on_begin = note_block;
	for (pgoff_t index = 0; index < gmt(test)->allocator->pages; index++) {
		expect_change(test, GUESTMEM_SHARED, index, index + 1);
		KUNIT_EXPECT_EQ(test, block.start, round_down(index, unit));
		KUNIT_EXPECT_EQ(test, block.end, round_up(index + 1, unit));
	}
	mi->on_begin = NULL;
}

/*
 * States of holes
 */

static void hole_keeps_its_state(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;

	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		gmt_allocate_all(test);
		gmt_share_by(test, patterns[i]);
		KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gmt(test)->gi, 0, pages), 0);
		gmt_expect_states(test, GUESTMEM_ABSENT, 0, 0);
	}
}

static void hole_changes_its_state(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;

	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		gmt_share_by(test, patterns[i]);
		expect_change(test, GUESTMEM_SHARED, 1, pages - 1);
		expect_change(test, GUESTMEM_PRIVATE, 2, pages);
	}
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

static void allocation_keeps_the_state(struct kunit *test)
{
	gmt_share_by(test, 0x35);
	gmt_allocate_all(test);
	gmt_expect_states(test, GUESTMEM_ABSENT, 0, 0);
}

/* To another state, not to another content. */
static void change_keeps_folios(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, 1);
	gmt_fill(folio, 0x3c);

	expect_change(test, GUESTMEM_SHARED, 0, pages);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x3c));
	expect_change(test, GUESTMEM_PRIVATE, 0, pages);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
	KUNIT_EXPECT_PTR_EQ(test, gmt_get(test, 1), folio);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x3c));
}

static void change_refuses_empty_range(struct kunit *test)
{
	int err = 0;

	kunit_warning_suppress(test)
		err = gmt_change(gmt(test)->gi, GUESTMEM_ABSENT, 3, 3, NULL);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);
	kunit_warning_suppress(test)
		err = gmt_change(gmt(test)->gi, GUESTMEM_ABSENT, 4, 3, NULL);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), "");
}

/* Every folio leaves by the client first: it may have to take it back. */
static void hole_is_reclaimed_before_it_is_freed(struct kunit *test)
{
	struct mock_inode *mi = mock_inode(gmt(test)->gi);
	pgoff_t unit = gmt_folio_pages(test);
	char want[64];

	gmt_allocate_all(test);
	KUNIT_ASSERT_EQ(test, gmt_punch(test, unit, 2 * unit), 0);
	snprintf(want, sizeof(want), "reclaim:%lu-%lu free:%lu-%lu ",
		 unit, 2 * unit, unit, 2 * unit);
	KUNIT_EXPECT_STREQ(test, mock_log_text(&mi->folios), want);
}

/*
 * Failures
 */

static void expect_untouched(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
	KUNIT_EXPECT_STREQ(test, mock_log_text(&mock_inode(gmt(test)->gi)->folios), "");
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
	gmt_expect_states(test, GUESTMEM_ABSENT, 0, 0);
}

/* Neither the client nor another phase hears of it. */
static void prepare_failure_changes_nothing(struct kunit *test)
{
	static const int errors[] = { -ENOMEM, -EOPNOTSUPP };
	struct mock_inode *mi = mock_inode(gmt(test)->gi);
	pgoff_t pages = gmt(test)->allocator->pages;
	char want[64];

	gmt_allocate_all(test);
	snprintf(want, sizeof(want), "prepare:1-%lu ", pages);

	for (int i = 0; i < ARRAY_SIZE(targets) * ARRAY_SIZE(errors); i++) {
		int want_err = errors[i % ARRAY_SIZE(errors)];
		pgoff_t err_index = 77;

		gmt_oppose(test, targets[i / ARRAY_SIZE(errors)]);
		mock_fail(MOCK_PREPARE, 0, want_err);
		KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, targets[i / ARRAY_SIZE(errors)],
						 1, pages, &err_index), want_err);
		KUNIT_EXPECT_EQ(test, err_index, 1);
		KUNIT_EXPECT_STREQ(test, mock_log_text(&mi->phases), want);
		expect_untouched(test);
	}
}

static void expect_refusal_in_step(struct kunit *test, enum guestmem_target target,
				   unsigned int step, int want)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	pgoff_t err_index = 77;

	gmt_oppose(test, target);
	mock_fail(MOCK_FREEZE, step, want);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, target, 1, pages, &err_index), want);
	gmt_expect_refused(test, target, 1, pages, step);
	KUNIT_EXPECT_EQ(test, err_index,
			step ? step << gmt(test)->allocator->block_order : 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
}

/* The steps before it are done, the others are cancelled all at once. */
static void freeze_failure_in_every_step(struct kunit *test)
{
	unsigned int steps = gmt_nr_steps(test, GUESTMEM_SHARED, 1,
					  gmt(test)->allocator->pages);

	gmt_allocate_all(test);
	for (unsigned int step = 0; step < steps; step++) {
		expect_refusal_in_step(test, GUESTMEM_SHARED, step, -EAGAIN);
		expect_refusal_in_step(test, GUESTMEM_PRIVATE, step, -EHWPOISON);
	}
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

/* Half a request may be done, half a block may not. */
static void refused_hole_leaves_its_block_whole(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;
	pgoff_t block = 1UL << allocator->block_order;
	struct guestmem_inode *gi = gmt(test)->gi;

	if (gmt_nr_steps(test, GUESTMEM_ABSENT, 0, allocator->pages) < 2)
		return;

	gmt_allocate_all(test);
	mock_fail(MOCK_FREEZE, 1, -EAGAIN);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, allocator->pages), -EAGAIN);
	for (pgoff_t index = 0; index < allocator->pages; index++)
		KUNIT_EXPECT_EQ_MSG(test, gmt_present(gi, index), index >= block,
				    "index %lu", index);

	/* Whoever repeats the same range comes to the end. */
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, allocator->pages), 0);
	KUNIT_EXPECT_EQ(test, gi->mapping->nrpages, 0);
}

/*
 * Signals
 */

static void signal_in_commit(struct guestmem_change *c, const char *phase)
{
	if (!strcmp(phase, "commit"))
		gmt_signal();
}

/* One step: a signal comes too early or too late to stop it. */
static void signal_does_not_stop_a_step(struct kunit *test)
{
	pgoff_t end = min(1UL << gmt(test)->allocator->block_order,
			  gmt(test)->allocator->pages);

	gmt_allocate_all(test);
	for (int i = 0; i < ARRAY_SIZE(targets); i++) {
		gmt_oppose(test, targets[i]);
		mock.on_phase = signal_in_commit;
		gmt_signal();
		expect_change(test, targets[i], 0, end);
		gmt_signal_clear();
		mock.on_phase = NULL;
	}
}

static void signal_stops_between_blocks(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	bool blocks = gmt_nr_steps(test, GUESTMEM_SHARED, 1, pages) > 1;
	int err;

	gmt_allocate_all(test);
	mock.on_phase = signal_in_commit;
	err = gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 1, pages, NULL);
	gmt_signal_clear();

	KUNIT_EXPECT_EQ(test, err, blocks ? -EINTR : 0);
	gmt_expect_stopped(test, GUESTMEM_SHARED, 1, pages, blocks ? 1 : UINT_MAX);

	/* Whoever repeats the same range comes to the end. */
	mock.on_phase = NULL;
	expect_change(test, GUESTMEM_SHARED, 1, pages);
}

static void signal_before_a_change_lets_one_block_pass(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	bool blocks = gmt_nr_steps(test, GUESTMEM_ABSENT, 0, pages) > 1;
	int err;

	gmt_signal();
	err = gmt_change(gmt(test)->gi, GUESTMEM_ABSENT, 0, pages, NULL);
	gmt_signal_clear();

	KUNIT_EXPECT_EQ(test, err, blocks ? -EINTR : 0);
	gmt_expect_stopped(test, GUESTMEM_ABSENT, 0, pages, blocks ? 1 : UINT_MAX);
}

static struct kunit_case change_cases[] = {
	KUNIT_CASE_PARAM(phases_of_whole_file, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(phases_of_empty_file, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(phases_of_any_range, gmt_all_gen_params),
	KUNIT_CASE_PARAM(phases_of_mixed_range, gmt_all_gen_params),
	KUNIT_CASE_PARAM(same_state_is_not_touched, gmt_all_gen_params),
	KUNIT_CASE_PARAM(step_is_in_its_whole_block, gmt_all_gen_params),
	KUNIT_CASE_PARAM(hole_keeps_its_state, gmt_all_gen_params),
	KUNIT_CASE_PARAM(hole_changes_its_state, gmt_all_gen_params),
	KUNIT_CASE_PARAM(allocation_keeps_the_state, gmt_all_gen_params),
	KUNIT_CASE_PARAM(change_keeps_folios, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(change_refuses_empty_range, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(hole_is_reclaimed_before_it_is_freed, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(prepare_failure_changes_nothing, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(freeze_failure_in_every_step, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(refused_hole_leaves_its_block_whole, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(signal_does_not_stop_a_step, gmt_whole_gen_params),
	KUNIT_CASE_PARAM(signal_stops_between_blocks, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(signal_before_a_change_lets_one_block_pass, gmt_whole_gen_params),
	{}
};

static struct kunit_suite change_suite = {
	.name = "guestmem_change",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = change_cases,
};

kunit_test_suite(change_suite);
