// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks in pieces that refuse a change when a part of what it changes is frozen, and
 * blocks that refuse to be split when they have just been allocated
 */
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/string.h>

#include "guestmem_layout.h"

/* Four pieces, of which the first is split; a block of order 3 has none. */
static const void *pieces_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *next = prev;

	do {
		next = layout_mock_gen_params(test, next, desc);
	} while (next && next->block_order <= 3);

	return next;
}

static pgoff_t piece(struct kunit *test)
{
	return 1UL << gmt(test)->gi->geo.piece_order;
}

static void hold_last(struct guestmem_change *c, const char *phase)
{
	if (!strcmp(phase, "freeze"))
		folio_get(mock.data);
}

static void hold_last_and_signal(struct guestmem_change *c, const char *phase)
{
	hold_last(c, phase);
	if (!strcmp(phase, "freeze"))
		gmt_signal();
}

static void poison_last(struct guestmem_change *c, const char *phase)
{
	if (!strcmp(phase, "freeze"))
		folio_set_hwpoison(mock.data);
}

/* The last of three pieces refuses; the others have been frozen by then. */
static struct folio *expect_refused(struct kunit *test,
				    void (*on_phase)(struct guestmem_change *c, const char *phase),
				    int err)
{
	pgoff_t unit = piece(test), err_index = ULONG_MAX;

	for (pgoff_t index = 0; index < 4 * unit; index += unit)
		layout_write(test, index, 1 + index);
	layout_change(test, GUESTMEM_SHARED, 0, 1);
	mock.data = gmt_get(test, 3 * unit);
	mock.on_phase = on_phase;
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, unit, 4 * unit,
					 &err_index), err);
	mock.on_phase = NULL;
	KUNIT_EXPECT_EQ(test, err_index, 3 * unit);
	return mock.data;
}

/* And once it is free, nothing is in the way. */
static void expect_as_before(struct kunit *test)
{
	pgoff_t unit = piece(test);

	layout_expect(test, false);
	layout_change(test, GUESTMEM_SHARED, unit, 4 * unit);
	layout_expect(test, false);
}

static void held_piece_thaws_the_others(struct kunit *test)
{
	folio_put(expect_refused(test, hold_last, -EAGAIN));
	expect_as_before(test);
}

static void bad_piece_thaws_the_others(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "CONFIG_MEMORY_FAILURE is off");

	folio_clear_hwpoison(expect_refused(test, poison_last, -EHWPOISON));
	expect_as_before(test);
}

/* Nobody waits for as long as a folio may be held. */
static void signal_thaws_the_others(struct kunit *test)
{
	struct folio *folio = expect_refused(test, hold_last_and_signal, -EAGAIN);

	gmt_signal_clear();
	folio_put(folio);
	expect_as_before(test);
}

/* The same block: there may be no other.  Unless the task is killed. */
static void held_new_block_is_tried_again(struct kunit *test)
{
	int allocated;

	layout_change(test, GUESTMEM_SHARED, 1, 2);
	mock_fail(MOCK_FREEZE, 0, -EAGAIN);
	gmt_kill();
	KUNIT_EXPECT_EQ(test, guestmem_allocate_mixed(gmt(test)->gi, 0), -EINTR);
	gmt_signal_clear();
	layout_expect(test, false);

	mock_fail(MOCK_FREEZE, 0, -EAGAIN);
	allocated = atomic_read(&mock.calls[MOCK_ALLOC]);
	gmt_signal();
	KUNIT_EXPECT_EQ(test, guestmem_allocate_mixed(gmt(test)->gi, 0), 0);
	gmt_signal_clear();
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.calls[MOCK_ALLOC]), allocated + 1);
	layout_allocate(test, 0);
	layout_write(test, 0, 1);
	layout_expect(test, false);
}

static struct kunit_case refused_cases[] = {
	KUNIT_CASE_PARAM(held_piece_thaws_the_others, pieces_gen_params),
	KUNIT_CASE_PARAM(bad_piece_thaws_the_others, pieces_gen_params),
	KUNIT_CASE_PARAM(signal_thaws_the_others, pieces_gen_params),
	KUNIT_CASE_PARAM(held_new_block_is_tried_again, layout_mock_gen_params),
	{}
};

static struct kunit_suite refused_suite = {
	.name = "guestmem_refused",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = layout_init,
	.exit = gmt_exit,
	.test_cases = refused_cases,
};

kunit_test_suite(refused_suite);
