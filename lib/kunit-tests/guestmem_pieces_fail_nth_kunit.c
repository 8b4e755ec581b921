// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks that are split and merged while every allocation fails in turn
 */
#include <linux/fault-inject.h>
#include <linux/mm.h>

#include "guestmem_fail_nth.h"
#include "guestmem_layout.h"

static pgoff_t refused_at;

/* A page in the middle, alone in its piece, of a block that holds something. */
static pgoff_t shared_page(struct kunit *test)
{
	return layout_block(test) / 2 + 1;
}

static void fill(struct kunit *test)
{
	layout_write(test, 0, 1);
	layout_write(test, shared_page(test), 2);
}

static int change(struct kunit *test, enum guestmem_target target, pgoff_t index)
{
	refused_at = ULONG_MAX;
	return gmt_change(gmt(test)->gi, target, index, index + 1, &refused_at);
}

static int run_split(struct kunit *test)
{
	return change(test, GUESTMEM_SHARED, shared_page(test));
}

static int run_merge(struct kunit *test)
{
	return change(test, GUESTMEM_PRIVATE, shared_page(test));
}

static void undo_split(struct kunit *test)
{
	layout_expect(test, false);
	KUNIT_EXPECT_EQ(test, run_merge(test), 0);
}

static void undo_merge(struct kunit *test)
{
	layout_expect(test, false);
	KUNIT_EXPECT_EQ(test, run_split(test), 0);
}

static void check_unchanged(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, refused_at, shared_page(test));
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
	layout_expect(test, false);
}

/* A stub of the mock's, or a page of struct pages, for each folio that comes of it. */
static void split_block(struct kunit *test)
{
	static const struct operation op = {
		.run = run_split,
		.check_failed = check_unchanged,
		.undo = undo_split,
	};

	fill(test);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "split", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "split", &op, KIND_PAGE);
	layout_expect(test, false);
}

static void merge_block(struct kunit *test)
{
	static const struct operation op = {
		.run = run_merge,
		.check_failed = check_unchanged,
		.undo = undo_merge,
	};

	fill(test);
	KUNIT_EXPECT_EQ(test, run_split(test), 0);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "merge", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "merge", &op, KIND_PAGE);
}

/* Of a block that has to be split as soon as it is there. */
static int run_allocate(struct kunit *test)
{
	refused_at = shared_page(test);
	return guestmem_allocate_mixed(gmt(test)->gi, 0);
}

static void undo_allocate(struct kunit *test)
{
	layout_allocate(test, 0);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
}

static void allocate_block(struct kunit *test)
{
	static const struct operation op = {
		.run = run_allocate,
		.check_failed = check_unchanged,
		.undo = undo_allocate,
	};

	KUNIT_ASSERT_EQ(test, run_split(test), 0);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "allocate", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "allocate", &op, KIND_PAGE);
}

static unsigned int whole, in_pieces, files_in_pieces;

static void count_freed(struct guestmem_inode *gi, struct folio *folio)
{
	if (folio_order(folio) == gi->geo.block_order)
		whole++;
	else
		in_pieces++;
}

/* The only block that is left is split: the tree is as low as its pages allow. */
static void open_split(struct kunit *test)
{
	pgoff_t block = layout_block(test);

	layout_reopen(test);
	fill(test);
	layout_write(test, block, 3);
	KUNIT_EXPECT_EQ(test, run_split(test), 0);
	layout_change(test, GUESTMEM_ABSENT, block, 2 * block);
}

static int run_close(struct kunit *test)
{
	whole = 0;
	in_pieces = 0;
	mock.on_free = count_freed;
	gmt_close(test);
	mock.on_free = NULL;
	files_in_pieces += !!in_pieces;
	return 0;
}

/* Nothing can refuse it: what does not come as a block comes in pieces. */
static void check_closed(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), 0);
	if (gmt(test)->allocator->mock)
		KUNIT_EXPECT_EQ(test, whole, !in_pieces);
}

static void close_file(struct kunit *test)
{
	static const struct operation op = {
		.prepare = open_split,
		.run = run_close,
		.check_failed = check_closed,
		.undo = check_closed,
	};

	files_in_pieces = 0;
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "close", &op, KIND_SLAB), 0);
	KUNIT_EXPECT_EQ(test, in_pieces, 0);
	/* A node is missing where a block is as large as a level. */
	if (gmt(test)->allocator->mock)
		KUNIT_EXPECT_EQ(test, files_in_pieces, layout_block(test) == XA_CHUNK_SIZE);
}

/* Allocations left when the guests lose the pages. */
static unsigned int left_at_begin;

static void count_at_begin(struct guestmem_change *c)
{
	left_at_begin = current->fail_nth;
}

static void nothing_allocates_after_freeze(struct kunit *test)
{
	static int (* const runs[])(struct kunit *test) = { run_split, run_merge };

	fill(test);
	mock_inode(gmt(test)->gi)->on_begin = count_at_begin;
	for (int kind = 0; kind < KINDS; kind++)
		for (int i = 0; i < ARRAY_SIZE(runs); i++) {
			left_at_begin = 0;
			KUNIT_EXPECT_EQ(test, allocations_left(test, runs[i], kind), left_at_begin);
			KUNIT_EXPECT_NE(test, left_at_begin, 0);
		}
}

static struct kunit_case pieces_fail_nth_cases[] = {
	KUNIT_CASE_PARAM(split_block, layout_small_gen_params),
	KUNIT_CASE_PARAM(merge_block, layout_small_gen_params),
	KUNIT_CASE_PARAM(allocate_block, layout_small_gen_params),
	KUNIT_CASE_PARAM(close_file, layout_small_gen_params),
	KUNIT_CASE_PARAM(nothing_allocates_after_freeze, layout_gen_params),
	{}
};

static struct kunit_suite pieces_fail_nth_suite = {
	.name = "guestmem_pieces_fail_nth",
	.suite_init = fail_nth_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = layout_init,
	.exit = gmt_exit,
	.test_cases = pieces_fail_nth_cases,
};

kunit_test_suite(pieces_fail_nth_suite);
