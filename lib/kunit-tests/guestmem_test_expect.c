// SPDX-License-Identifier: GPL-2.0-only
/*
 * A change, as it is expected to go: a second hand works out, page by page from
 * the states there were, which phases come with which ranges
 */
#include <linux/pagemap.h>
#include <linux/seq_buf.h>

#include "guestmem_test_lib.h"

#define GMT_TEXT	2048

/* What is asked for. */
struct gmt_request {
	enum guestmem_target target;
	pgoff_t start;
	pgoff_t end;
};

static bool gmt_alters(struct kunit *test, const struct gmt_request *rq, pgoff_t index)
{
	if (rq->target == GUESTMEM_ABSENT)
		return true;

	return test_bit(index, gmt(test)->was_private) == (rq->target == GUESTMEM_SHARED);
}

/* The first page at or after @index that is altered, or that is not. */
static pgoff_t gmt_find(struct kunit *test, const struct gmt_request *rq, pgoff_t index,
			pgoff_t end, bool altered)
{
	while (index < end && gmt_alters(test, rq, index) != altered)
		index++;
	return index;
}

/* Without what has the state already at both ends. */
static struct gmt_request gmt_trim(struct kunit *test, enum guestmem_target target,
				   pgoff_t start, pgoff_t end)
{
	struct gmt_request rq = { target, start, end };

	rq.start = gmt_find(test, &rq, start, end, true);
	while (rq.start < rq.end && !gmt_alters(test, &rq, rq.end - 1))
		rq.end--;
	return rq;
}

static struct guestmem_range gmt_step(struct kunit *test, const struct gmt_request *rq,
				      pgoff_t index)
{
	u8 order = gmt(test)->allocator->block_order;
	struct guestmem_range step;

	step.start = gmt_find(test, rq, index, rq->end, true);
	step.end = step.start;
	while (step.end < rq->end &&
	       (!order || step.end == step.start || step.end % (1UL << order)))
		step.end++;
	return step;
}

unsigned int gmt_nr_steps(struct kunit *test, enum guestmem_target target, pgoff_t start,
			  pgoff_t end)
{
	const struct gmt_request rq = gmt_trim(test, target, start, end);
	struct guestmem_range step = gmt_step(test, &rq, rq.start);
	unsigned int nr = 0;

	for (; step.start < step.end; step = gmt_step(test, &rq, step.end))
		nr++;
	return nr;
}

static void gmt_add_phase(struct seq_buf *text, bool logged, const char *phase,
			  struct guestmem_range range)
{
	if (logged)
		seq_buf_printf(text, "%s:%lu-%lu ", phase, range.start, range.end);
}

static void gmt_add_shared(struct kunit *test, struct seq_buf *text,
			   const struct gmt_request *rq, struct guestmem_range step)
{
	struct guestmem_range run = step;

	if (rq->target != GUESTMEM_SHARED)
		return;

	while (run.start < step.end) {
		run.end = gmt_find(test, rq, run.start, step.end, false);
		gmt_add_phase(text, true, "shared", run);
		run.start = gmt_find(test, rq, run.end, step.end, true);
	}
}

static void gmt_add_step(struct kunit *test, struct seq_buf *text,
			 const struct gmt_request *rq, struct guestmem_range step)
{
	bool mock = gmt(test)->allocator->mock;

	gmt_add_phase(text, mock, "freeze", step);
	gmt_add_phase(text, true, "begin", step);
	gmt_add_shared(test, text, rq, step);
	gmt_add_phase(text, mock, "commit", step);
	gmt_add_phase(text, true, "end", step);
}

/* @done steps, and what follows if there are more. */
static void gmt_expect_phases(struct kunit *test, const struct gmt_request *rq,
			      unsigned int done, bool refused)
{
	struct guestmem_range step = gmt_step(test, rq, rq->start);
	char *buffer = kzalloc(GMT_TEXT, GFP_KERNEL);
	bool mock = gmt(test)->allocator->mock;
	struct seq_buf text;

	KUNIT_ASSERT_NOT_NULL(test, buffer);
	seq_buf_init(&text, buffer, GMT_TEXT);

	gmt_add_phase(&text, mock && rq->start < rq->end, "prepare",
		      (struct guestmem_range) { rq->start, rq->end });
	while (step.start < step.end && done--) {
		gmt_add_step(test, &text, rq, step);
		step = gmt_step(test, rq, step.end);
	}
	gmt_add_phase(&text, mock && refused, "freeze", step);
	gmt_add_phase(&text, mock && step.start < step.end, "cancel", step);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), buffer);
	kfree(buffer);

	/* Steps that are not done change nothing. */
	gmt_expect_states(test, rq->target, rq->start, step.start);
}

void gmt_expect_done(struct kunit *test, enum guestmem_target target, pgoff_t start,
		     pgoff_t end)
{
	const struct gmt_request rq = gmt_trim(test, target, start, end);

	gmt_expect_phases(test, &rq, UINT_MAX, false);
}

/* Between two steps. */
void gmt_expect_stopped(struct kunit *test, enum guestmem_target target, pgoff_t start,
			pgoff_t end, unsigned int done)
{
	const struct gmt_request rq = gmt_trim(test, target, start, end);

	gmt_expect_phases(test, &rq, done, false);
}

/* The step after @done ones was tried. */
void gmt_expect_refused(struct kunit *test, enum guestmem_target target, pgoff_t start,
			pgoff_t end, unsigned int done)
{
	const struct gmt_request rq = gmt_trim(test, target, start, end);

	gmt_expect_phases(test, &rq, done, true);
}

/* Before any step was tried. */
void gmt_expect_judged(struct kunit *test, enum guestmem_target target, pgoff_t start,
		       pgoff_t end)
{
	const struct gmt_request rq = gmt_trim(test, target, start, end);
	char want[64] = "";

	if (gmt(test)->allocator->mock)
		snprintf(want, sizeof(want), "prepare:%lu-%lu ", rq.start, rq.end);
	KUNIT_EXPECT_STREQ(test, gmt_log(test), want);
	gmt_expect_states(test, target, start, start);
}

static void gmt_note_private(struct kunit *test, unsigned long *private)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	pgoff_t pages = min(i_size_read(gi->mapping->host) >> PAGE_SHIFT, GMT_PAGES);

	for (pgoff_t index = 0; index < pages; index++)
		__assign_bit(index, private, guestmem_is_private(gi, index));
}

/* Those of [@start, @end) are as the target says, all others as they were. */
void gmt_expect_states(struct kunit *test, enum guestmem_target target, pgoff_t start,
		       pgoff_t end)
{
	DECLARE_BITMAP(want, GMT_PAGES);
	DECLARE_BITMAP(now, GMT_PAGES) = {};

	bitmap_copy(want, gmt(test)->was_private, GMT_PAGES);
	if (target == GUESTMEM_PRIVATE)
		bitmap_set(want, start, end - start);
	else if (target == GUESTMEM_SHARED)
		bitmap_clear(want, start, end - start);

	gmt_note_private(test, now);
	KUNIT_EXPECT_TRUE_MSG(test, bitmap_equal(want, now, GMT_PAGES),
			      "private should be %*pbl, and is %*pbl", GMT_PAGES, want,
			      GMT_PAGES, now);
}

/* Phases of the fixture's file. */
const char *gmt_log(struct kunit *test)
{
	return mock_log_text(&mock_inode(gmt(test)->gi)->phases);
}

/* What is expected from here on starts from the states that there are now. */
void gmt_log_clear(struct kunit *test)
{
	mock_log_clear(&mock_inode(gmt(test)->gi)->phases);
	mock_log_clear(&mock_inode(gmt(test)->gi)->folios);
	bitmap_zero(gmt(test)->was_private, GMT_PAGES);
	gmt_note_private(test, gmt(test)->was_private);
}
