// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios that are split where pages are shared, and merged where none is any more
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/swap.h>
#include <linux/workqueue.h>

#include "../../mm/internal.h"
#include "guestmem_layout.h"

/* Every position, but every so many in the large blocks; an odd number. */
static pgoff_t stride(struct kunit *test)
{
	return layout_pages(test) / (64 / GMT_STRIDE) | 1;
}

static void tag_all(struct kunit *test)
{
	for (pgoff_t index = 0; index < layout_pages(test); index += stride(test) / 8 + 1)
		layout_write(test, index, 1 + index % 255);
}

static void splits_around_any_page(struct kunit *test)
{
	tag_all(test);
	layout_expect(test, false);
	for (pgoff_t index = 0; index < layout_pages(test); index += stride(test)) {
		layout_change(test, GUESTMEM_SHARED, index, index + 1);
		layout_expect(test, false);
		layout_change(test, GUESTMEM_PRIVATE, index, index + 1);
		layout_expect(test, false);
	}
}

/* Ranges that begin and end at each border there is, and beside it. */
static void splits_any_range(struct kunit *test)
{
	pgoff_t block = layout_block(test);
	const pgoff_t at[] = { 0, 1, block / 2, block - 1, block, block + 1, 2 * block,
			       layout_pages(test) };

	tag_all(test);
	for (int start = 0; start < ARRAY_SIZE(at); start++) {
		for (int end = start + 1; end < ARRAY_SIZE(at); end++) {
			layout_change(test, GUESTMEM_SHARED, at[start], at[end]);
			layout_expect(test, false);
			layout_change(test, GUESTMEM_PRIVATE, at[start], at[end]);
			layout_expect(test, false);
		}
	}
}

/* A piece becomes one folio again although its neighbour is still shared. */
static void merges_in_part(struct kunit *test)
{
	tag_all(test);
	layout_change(test, GUESTMEM_SHARED, 0, layout_pages(test));
	layout_expect(test, false);
	for (pgoff_t index = 0; index < layout_pages(test); index += stride(test)) {
		pgoff_t end = min(index + stride(test), layout_pages(test));

		layout_change(test, GUESTMEM_PRIVATE, index, end);
		layout_expect(test, false);
	}
}

/* What has never been filled must not be taken for filled, nor the reverse. */
static void clears_what_was_never_filled(struct kunit *test)
{
	layout_change(test, GUESTMEM_SHARED, 1, 3);
	layout_write(test, 1, 7);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_PRIVATE, 0, layout_pages(test));
	layout_expect(test, false);
	layout_write(test, 2, 9);
	layout_expect(test, false);
}

static void leaves_unfilled_what_is_all_unfilled(struct kunit *test)
{
	struct folio *folio;

	layout_allocate(test, 0);
	layout_change(test, GUESTMEM_SHARED, 1, 2);
	layout_change(test, GUESTMEM_PRIVATE, 1, 2);
	layout_expect(test, false);
	folio = layout_get(test, 0);
	KUNIT_EXPECT_FALSE(test, folio_test_uptodate(folio));
	folio_unlock(folio);
	folio_put(folio);
}

static unsigned int freed_whole, cleared;

/* The mock hands out pages full of rubbish. */
static void look_at_freed(struct guestmem_inode *gi, struct folio *folio)
{
	const u8 *third = folio_address(folio) + 2 * PAGE_SIZE;

	freed_whole += folio_order(folio) == gi->geo.block_order;
	cleared += !*third;
}

/* A block of 1G that is closed would take its time. */
static void clears_nothing_that_goes(struct kunit *test)
{
	freed_whole = 0;
	cleared = 0;
	mock.on_free = look_at_freed;
	for (int close = 0; close < 2; close++) {
		layout_change(test, GUESTMEM_SHARED, 1, 3);
		layout_write(test, 1, 7);
		if (close)
			gmt_close(test);
		else
			layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	}
	mock.on_free = NULL;
	KUNIT_EXPECT_EQ(test, freed_whole, 2);
	KUNIT_EXPECT_EQ(test, cleared, 0);
}

static void expect_flushes(struct kunit *test, enum guestmem_target target, pgoff_t start,
			   pgoff_t end, unsigned int want)
{
	unsigned int before = mock.flushes;

	layout_change(test, target, start, end);
	KUNIT_EXPECT_EQ(test, mock.flushes - before, want);
}

/* Of all CPUs: once for a step, whatever it splits or merges. */
static void flushes_once_in_a_step(struct kunit *test)
{
	pgoff_t block = layout_block(test);

	layout_allocate(test, 0);
	layout_allocate(test, block);
	expect_flushes(test, GUESTMEM_SHARED, 1, 2, 1);
	expect_flushes(test, GUESTMEM_PRIVATE, 1, 2, 1);
	expect_flushes(test, GUESTMEM_SHARED, 0, block, 1);
	expect_flushes(test, GUESTMEM_PRIVATE, 0, block, 1);
	expect_flushes(test, GUESTMEM_SHARED, block - 1, block + 1, 2);
	expect_flushes(test, GUESTMEM_PRIVATE, block - 1, block + 1, 2);
}

/**
 * struct late_change - a change that memory_failure() keeps waiting
 * @thread: who makes it.
 * @test: the one it is for.
 * @target: what of the second page; GUESTMEM_ABSENT: close the file.
 */
struct late_change {
	struct gmt_thread thread;
	struct kunit *test;
	enum guestmem_target target;
};

static void change_late(void *arg)
{
	struct late_change *late = arg;

	if (late->target == GUESTMEM_ABSENT)
		gmt_close(late->test);
	else
		layout_change(late->test, late->target, 1, 2);
}

static void expect_waiting(struct kunit *test, enum guestmem_target target)
{
	struct late_change late = {
		.thread = { .fn = change_late, .arg = &late },
		.test = test,
		.target = target,
	};
	struct folio *folio = gmt_get(test, 1);
	unsigned int order = folio_order(folio);

	guestmem_reshape_stop();
	gmt_start(test, &late.thread);
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&late.thread));
	KUNIT_EXPECT_EQ(test, folio_order(folio), order);
	KUNIT_EXPECT_NE(test, folio_ref_count(folio), 0);
	guestmem_reshape_resume();
	gmt_join(test, &late.thread);
}

/* It has to find a folio where it looks for one. */
static void memory_failure_comes_first(struct kunit *test)
{
	layout_allocate(test, 0);
	expect_waiting(test, GUESTMEM_SHARED);
	layout_expect(test, false);
	expect_waiting(test, GUESTMEM_PRIVATE);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_SHARED, 1, 2);
	expect_waiting(test, GUESTMEM_ABSENT);
}

/**
 * struct late_report - memory_failure() that a change keeps waiting
 * @thread: who looks for the page.
 * @page: the page.
 * @order: of the folio that is found.
 * @references: to it.
 */
struct late_report {
	struct gmt_thread thread;
	struct page *page;
	unsigned int order;
	int references;
};

static void report_late(void *arg)
{
	struct late_report *late = arg;
	struct folio *folio;

	guestmem_reshape_stop();
	folio = page_folio(late->page);
	late->order = folio_order(folio);
	late->references = folio_ref_count(folio);
	guestmem_reshape_resume();
}

/* Both wait for someone else, the change came first: then it is the first to get on. */
static void expect_behind(struct kunit *test, enum guestmem_target target, unsigned int order)
{
	struct late_change change = {
		.thread = { .fn = change_late, .arg = &change },
		.test = test,
		.target = target,
	};
	struct late_report report = {
		.thread = { .fn = report_late, .arg = &report },
		.page = folio_file_page(gmt_get(test, 1), 1),
	};

	guestmem_reshape_stop();
	gmt_start(test, &change.thread);
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&change.thread));
	gmt_start(test, &report.thread);
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&report.thread));
	guestmem_reshape_resume();
	gmt_join(test, &change.thread);
	gmt_join(test, &report.thread);
	KUNIT_EXPECT_EQ(test, report.order, order);
	KUNIT_EXPECT_NE(test, report.references, 0);
}

/* A folio without references would be one that it can do nothing about. */
static void memory_failure_finds_what_has_become_of_it(struct kunit *test)
{
	layout_allocate(test, 0);
	expect_behind(test, GUESTMEM_SHARED, 0);
	layout_expect(test, false);
	expect_behind(test, GUESTMEM_PRIVATE, gmt(test)->allocator->block_order);
	layout_expect(test, false);
}

/* Takes [@start, @end) back; @merged is what becomes of it, empty for nothing. */
static void expect_merged_told(struct kunit *test, pgoff_t start, pgoff_t end,
			       struct guestmem_range merged)
{
	char want[320], told[64] = "";

	mock_log_clear(&mock_inode(gmt(test)->gi)->phases);
	layout_change(test, GUESTMEM_PRIVATE, start, end);
	if (merged.start < merged.end)
		snprintf(told, sizeof(told), "merged:%lu-%lu ", merged.start, merged.end);
	snprintf(want, sizeof(want),
		 "prepare:%lu-%lu freeze:%lu-%lu begin:%lu-%lu commit:%lu-%lu %send:%lu-%lu ",
		 start, end, start, end, start, end, start, end, told, start, end);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), want);
}

/* With the state stored and the guests held back: what they do about it is up to them. */
static void client_hears_of_what_is_merged(struct kunit *test)
{
	pgoff_t block = layout_block(test), piece = 1UL << gmt(test)->gi->geo.piece_order;
	const struct guestmem_range nothing = {};

	layout_allocate(test, 0);
	layout_change(test, GUESTMEM_SHARED, 1, 3);
	mock_inode(gmt(test)->gi)->phases.off = false;
	expect_merged_told(test, 1, 2, nothing);
	expect_merged_told(test, 2, 3, (struct guestmem_range) { 0, block });

	layout_change(test, GUESTMEM_SHARED, 1, 2);
	layout_change(test, GUESTMEM_SHARED, block - 1, block);
	expect_merged_told(test, 1, 2, piece > 1 ? (struct guestmem_range) { 0, piece } : nothing);
	expect_merged_told(test, block - 1, block, (struct guestmem_range) { 0, block });
}

/*
 * A guest that loses what is unmapped keeps the smaller mappings it has, for good: they
 * must lead to the same pages, whatever folios those are part of.
 */
static void pages_stay_where_they_are(struct kunit *test)
{
	pgoff_t block = layout_block(test);
	unsigned long first;

	layout_write(test, 0, 1);
	first = folio_pfn(gmt_get(test, 0));
	for (int round = 0; round < 2; round++) {
		layout_change(test, GUESTMEM_SHARED, 1, 2);
		layout_change(test, GUESTMEM_SHARED, block - 1, block);
		layout_change(test, GUESTMEM_PRIVATE, 0, block);
		for (pgoff_t index = 0; index < block; index += stride(test))
			KUNIT_EXPECT_EQ(test, first + index,
					page_to_pfn(folio_file_page(gmt_get(test, index), index)));
	}
}

static void expect_shown(struct kunit *test, const char *want)
{
	struct seq_file m = { .size = PAGE_SIZE };

	m.buf = kunit_kzalloc(test, m.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	guestmem_show(gmt(test)->gi, &m);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(m.buf, want), "%s is not in:\n%s", want, m.buf);
}

/* Two blocks and a bit, of eight pieces of four pages. */
static void layout_is_shown(struct kunit *test)
{
	if (gmt(test)->allocator->block_order != 5)
		return;

	expect_shown(test, "guestmem-layout:\t3.\n");
	layout_allocate(test, 0);
	layout_allocate(test, 2 * layout_block(test));
	expect_shown(test, "guestmem-layout:\t1# 1. 1#\n");
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	expect_shown(test, "guestmem-layout:\t1= 1: 6= 1. 1#\n");
}

/*
 * Blocks that are split as soon as they are there
 */

static void allocates_in_pieces(struct kunit *test)
{
	pgoff_t last = layout_pages(test) - 1;

	layout_change(test, GUESTMEM_SHARED, 1, 2);
	layout_change(test, GUESTMEM_SHARED, layout_block(test) - 1, layout_block(test));
	layout_change(test, GUESTMEM_SHARED, last, last + 1);
	layout_write(test, 0, 3);
	layout_write(test, 1, 4);
	layout_write(test, last, 5);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_PRIVATE, 0, last + 1);
	layout_expect(test, false);
}

static void fallocates_in_pieces(struct kunit *test)
{
	pgoff_t pages = layout_pages(test);

	layout_change(test, GUESTMEM_SHARED, 1, 2);
	KUNIT_EXPECT_EQ(test, guestmem_allocate(gmt(test)->gi, 0, pages), 0);
	bitmap_set(layout(test)->present, 0, round_up(pages, layout_block(test)));
	layout_expect(test, false);
}

static void file_that_begins_shared(struct kunit *test)
{
	gmt_reopen_shared(test);
	layout_log_off(test);
	tag_all(test);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_PRIVATE, 0, layout_block(test) / 2);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_PRIVATE, layout_block(test) / 2, layout_pages(test));
	layout_expect(test, false);
}

/* Nothing is left of a block that could not be split. */
static void failure_allocates_nothing(struct kunit *test)
{
	layout_change(test, GUESTMEM_SHARED, 1, 2);
	mock_fail(MOCK_PREPARE, 0, -ENOMEM);
	KUNIT_EXPECT_EQ(test, guestmem_allocate_mixed(gmt(test)->gi, 0), -ENOMEM);
	layout_expect(test, false);
	mock_fail(MOCK_FREEZE, 0, -EHWPOISON);
	KUNIT_EXPECT_EQ(test, guestmem_allocate_mixed(gmt(test)->gi, 0), -EHWPOISON);
	layout_expect(test, false);
	mock_fail(MOCK_FREEZE, 1, -EHWPOISON);
	layout_write(test, 0, 1);
	layout_expect(test, false);
}

/*
 * Others who hold folios
 */

/* Refused, and nothing is in pieces. */
static void reference_refuses_split(struct kunit *test)
{
	struct folio *folio;
	pgoff_t err_index = 77;

	tag_all(test);
	folio = gmt_get(test, 1);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 1, 2, &err_index),
			-EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, 1);
	folio_put(folio);
	layout_expect(test, false);
}

/* One of the second block comes up after the first one was split. */
static void take_second_block(struct guestmem_change *c, const char *phase)
{
	struct folio *folio = mock.data;

	if (!strcmp(phase, "freeze") && c->step.start == folio->index)
		folio_get(folio);
}

static void reference_stops_before_its_block(struct kunit *test)
{
	pgoff_t block = layout_block(test);
	struct folio *folio;
	pgoff_t err_index = 77;

	tag_all(test);
	folio = gmt_get(test, block);
	mock.data = folio;
	mock.on_phase = take_second_block;
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, block - 1, block + 1,
					 &err_index), -EAGAIN);
	mock.on_phase = NULL;
	KUNIT_EXPECT_EQ(test, err_index, block);
	folio_put(folio);
	KUNIT_EXPECT_FALSE(test, guestmem_is_private(gmt(test)->gi, block - 1));
	layout_expect(test, false);
}

/* It keeps its block in pieces, and refuses nothing. */
static void reference_to_neighbour_puts_merge_off(struct kunit *test)
{
	struct folio *folio;

	tag_all(test);
	layout_change(test, GUESTMEM_SHARED, 0, 2);
	layout_change(test, GUESTMEM_PRIVATE, 0, 1);
	folio = gmt_get(test, 0);
	KUNIT_ASSERT_EQ(test, folio_order(folio), 0);
	folio_get(folio);
	layout_change(test, GUESTMEM_PRIVATE, 1, 2);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, folio_order(folio), 0);
	layout_expect(test, true);

	layout_change(test, GUESTMEM_SHARED, 0, 1);
	layout_change(test, GUESTMEM_PRIVATE, 0, 1);
	layout_expect(test, false);
}

/* Though no page of it changes: it is all that keeps the block in pieces. */
static void piece_put_off_is_merged_with_its_block(struct kunit *test)
{
	pgoff_t piece = 1UL << gmt(test)->gi->geo.piece_order;
	struct folio *folio;

	tag_all(test);
	layout_change(test, GUESTMEM_SHARED, 0, 1);
	layout_change(test, GUESTMEM_SHARED, piece, piece + 1);
	folio = gmt_get(test, 1);
	folio_get(folio);
	layout_change(test, GUESTMEM_PRIVATE, 0, 1);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, folio_order(folio), 0);
	layout_expect(test, true);

	layout_change(test, GUESTMEM_PRIVATE, piece, piece + 1);
	layout_expect(test, false);
}

static unsigned int whole_freed;

static void count_freed(struct guestmem_inode *gi, struct folio *folio)
{
	whole_freed += folio_order(folio) == gi->geo.block_order;
}

/* Good and bad are private by then, and stay apart. */
static void poisoned_page_is_not_merged(struct kunit *test)
{
	struct folio *folio;

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "CONFIG_MEMORY_FAILURE is off");

	tag_all(test);
	layout_change(test, GUESTMEM_SHARED, 0, 2);
	layout_change(test, GUESTMEM_PRIVATE, 0, 1);
	folio = gmt_get(test, 0);
	folio_set_hwpoison(folio);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 1, 2, NULL), 0);
	layout_expect(test, true);
	KUNIT_EXPECT_EQ(test, folio_order(gmt_get(test, 1)), 0);
	folio_clear_hwpoison(folio);

	layout_change(test, GUESTMEM_SHARED, 0, 1);
	layout_change(test, GUESTMEM_PRIVATE, 0, 1);
	layout_expect(test, false);
}

/* A block goes whole with its file, unless a page of it is in use. */
static void goes_whole_or_in_pieces(struct kunit *test)
{
	pgoff_t block = layout_block(test);
	struct folio *folio;

	for (pgoff_t index = 1; index < layout_pages(test); index += block)
		layout_write(test, index, 2);
	layout_change(test, GUESTMEM_SHARED, 1, 2);
	layout_change(test, GUESTMEM_SHARED, block + 1, block + 2);
	folio = gmt_get(test, 1);
	folio_get(folio);
	mock.on_free = count_freed;
	whole_freed = 0;
	gmt_close(test);
	mock.on_free = NULL;
	KUNIT_EXPECT_EQ(test, whole_freed, 2);
	KUNIT_EXPECT_EQ(test, *(u8 *)folio_address(folio), 2);
	folio_put(folio);
}

struct passer_by {
	struct work_struct leaves;
	struct folio *folio;
};

static void leave_soon(struct work_struct *work)
{
	struct passer_by *passer = container_of(work, struct passer_by, leaves);

	usleep_range(500, 1000);
	folio_put(passer->folio);
}

static void pass_by_at_commit(struct guestmem_change *c, const char *phase)
{
	struct passer_by *passer = mock.data;

	if (strcmp(phase, "commit"))
		return;

	folio_get(passer->folio);
	schedule_work(&passer->leaves);
}

static void punch_while_one_passes(struct kunit *test)
{
	struct passer_by passer;

	layout_write(test, 1, 2);
	layout_change(test, GUESTMEM_SHARED, 1, 2);
	lru_add_drain_all();
	passer.folio = gmt_get(test, 1);
	INIT_WORK_ONSTACK(&passer.leaves, leave_soon);
	mock.data = &passer;
	mock.on_phase = pass_by_at_commit;
	whole_freed = 0;
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	mock.on_phase = NULL;
	flush_work(&passer.leaves);
	destroy_work_on_stack(&passer.leaves);
}

/* What is punched out can be had again at once, though someone looks at a page of it. */
static void hole_waits_for_a_passing_reference(struct kunit *test)
{
	int tries = 10;

	/* On a busy machine the wait may be over before that one has had a turn. */
	mock.on_free = count_freed;
	do {
		punch_while_one_passes(test);
	} while (!whole_freed && --tries);
	mock.on_free = NULL;
	KUNIT_EXPECT_EQ(test, whole_freed, 1);
	layout_expect(test, false);
}

/* Someone had taken it off the LRU, and it has not got there again. */
static void goes_whole_out_of_a_batch(struct kunit *test)
{
	struct folio *folio;

	layout_write(test, 1, 2);
	layout_change(test, GUESTMEM_SHARED, 1, 2);
	folio = gmt_get(test, 1);
	KUNIT_ASSERT_TRUE(test, folio_isolate_lru(folio));
	folio_putback_lru(folio);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 2);
	mock.on_free = count_freed;
	whole_freed = 0;
	gmt_close(test);
	mock.on_free = NULL;
	KUNIT_EXPECT_EQ(test, whole_freed, 1);
}

/*
 * All of it
 */

static void random_step(struct kunit *test, struct rnd_state *rnd)
{
	pgoff_t pages = layout_pages(test), block = layout_block(test);
	pgoff_t start = prandom_u32_state(rnd) % pages;
	pgoff_t end = min(pages, start + 1 + prandom_u32_state(rnd) % (block + 2));

	switch (prandom_u32_state(rnd) % 8) {
	case 0:
		start = round_down(start, block);
		layout_change(test, GUESTMEM_ABSENT, start, min(pages, start + block));
		break;
	case 1:
		layout_write(test, start, 1 + prandom_u32_state(rnd) % 255);
		break;
	case 2: case 3:
		layout_change(test, GUESTMEM_SHARED, start, start + 1);
		break;
	case 4:
		layout_change(test, GUESTMEM_SHARED, start, end);
		break;
	default:
		layout_change(test, GUESTMEM_PRIVATE, start, end);
	}
}

static void random_steps(struct kunit *test)
{
	unsigned int steps = 20 + 20000 / GMT_STRIDE / layout_block(test);
	struct rnd_state rnd;
	u32 seed = get_random_u32();

	kunit_info(test, "seed %u\n", seed);
	prandom_seed_state(&rnd, seed);
	for (unsigned int step = 0; step < steps && test->status == KUNIT_SUCCESS; step++) {
		random_step(test, &rnd);
		layout_expect(test, false);
		cond_resched();
	}
}

/* Beside each other, and far apart. */
static void splits_around_some_pages(struct kunit *test)
{
	pgoff_t pages = layout_pages(test);
	const struct guestmem_range ranges[] = {
		{ 0, 1 }, { 1, 3 }, { pages / 2 - 1, pages / 2 + 1 }, { pages - 1, pages },
	};

	tag_all(test);
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		layout_change(test, GUESTMEM_SHARED, ranges[i].start, ranges[i].end);
		layout_write(test, ranges[i].start, 77 + i);
		layout_expect(test, false);
	}
	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		layout_change(test, GUESTMEM_PRIVATE, ranges[i].start, ranges[i].end);
		layout_expect(test, false);
	}
}

static struct kunit_case restructure_cases[] = {
	KUNIT_CASE_PARAM(splits_around_any_page, layout_gen_params),
	KUNIT_CASE_PARAM(splits_any_range, layout_small_gen_params),
	KUNIT_CASE_PARAM(splits_around_some_pages, layout_gen_params),
	KUNIT_CASE_PARAM(merges_in_part, layout_small_gen_params),
	KUNIT_CASE_PARAM(clears_what_was_never_filled, layout_gen_params),
	KUNIT_CASE_PARAM(leaves_unfilled_what_is_all_unfilled, layout_gen_params),
	KUNIT_CASE_PARAM(clears_nothing_that_goes, layout_mock_gen_params),
	KUNIT_CASE_PARAM(flushes_once_in_a_step, layout_mock_gen_params),
	KUNIT_CASE_PARAM(memory_failure_comes_first, layout_gen_params),
	KUNIT_CASE_PARAM(memory_failure_finds_what_has_become_of_it, layout_gen_params),
	KUNIT_CASE_PARAM(client_hears_of_what_is_merged, layout_mock_gen_params),
	KUNIT_CASE_PARAM(pages_stay_where_they_are, layout_gen_params),
	KUNIT_CASE_PARAM(layout_is_shown, layout_mock_gen_params),
	KUNIT_CASE_PARAM(goes_whole_or_in_pieces, layout_mock_gen_params),
	KUNIT_CASE_PARAM(goes_whole_out_of_a_batch, layout_mock_gen_params),
	KUNIT_CASE_PARAM(hole_waits_for_a_passing_reference, layout_mock_gen_params),
	KUNIT_CASE_PARAM(allocates_in_pieces, layout_gen_params),
	KUNIT_CASE_PARAM(fallocates_in_pieces, layout_gen_params),
	KUNIT_CASE_PARAM(file_that_begins_shared, layout_small_gen_params),
	KUNIT_CASE_PARAM(failure_allocates_nothing, layout_mock_gen_params),
	KUNIT_CASE_PARAM(reference_refuses_split, layout_gen_params),
	KUNIT_CASE_PARAM(reference_stops_before_its_block, layout_mock_gen_params),
	KUNIT_CASE_PARAM(reference_to_neighbour_puts_merge_off, layout_gen_params),
	KUNIT_CASE_PARAM(piece_put_off_is_merged_with_its_block, layout_gen_params),
	KUNIT_CASE_PARAM(poisoned_page_is_not_merged, layout_mock_gen_params),
	KUNIT_CASE_PARAM_ATTR(random_steps, layout_small_gen_params, { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite restructure_suite = {
	.name = "guestmem_restructure",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = layout_init,
	.exit = gmt_exit,
	.test_cases = restructure_cases,
};

kunit_test_suite(restructure_suite);
