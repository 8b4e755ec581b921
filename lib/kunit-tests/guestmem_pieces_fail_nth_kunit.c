// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks that are split and merged while every allocation fails in turn
 */
#include <linux/fault-inject.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mmzone.h>

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

/* A look at all of 1G, after each of many failures, would take too long. */
static bool large(struct kunit *test)
{
	return layout_block(test) > 1UL << PMD_ORDER;
}

/* The order of the entry at @index, which is that of the folio; -1 if there is none. */
static int entry_order(struct kunit *test, pgoff_t index)
{
	pgoff_t at = index;
	unsigned int order;
	struct folio *folio;

	folio = guestmem_cache_find(gmt(test)->gi->mapping, &at, index + 1, &order);
	if (!folio)
		return -1;

	KUNIT_EXPECT_EQ(test, order, folio_order(folio));
	return order;
}

static void expect_orders(struct kunit *test, int shared, int piece)
{
	KUNIT_EXPECT_EQ(test, entry_order(test, shared_page(test)), shared);
	KUNIT_EXPECT_EQ(test, entry_order(test, 0), piece);
	KUNIT_EXPECT_EQ(test, entry_order(test, layout_block(test) - 1), piece);
}

static void expect_split(struct kunit *test)
{
	if (large(test))
		expect_orders(test, 0, PMD_ORDER);
	else
		layout_expect(test, false);
}

static void expect_whole(struct kunit *test)
{
	int order = gmt(test)->allocator->block_order;

	if (large(test))
		expect_orders(test, order, order);
	else
		layout_expect(test, false);
}

static void expect_absent(struct kunit *test)
{
	if (large(test))
		expect_orders(test, -1, -1);
	else
		layout_expect(test, false);
}

static void undo_split(struct kunit *test)
{
	expect_split(test);
	KUNIT_EXPECT_EQ(test, run_merge(test), 0);
}

static void undo_merge(struct kunit *test)
{
	expect_whole(test);
	KUNIT_EXPECT_EQ(test, run_split(test), 0);
}

static void expect_refused(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, refused_at, shared_page(test));
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
}

static void check_whole(struct kunit *test)
{
	expect_refused(test);
	expect_whole(test);
}

static void check_split(struct kunit *test)
{
	expect_refused(test);
	expect_split(test);
}

static void check_absent(struct kunit *test)
{
	expect_refused(test);
	expect_absent(test);
}

/* Of struct pages: one for each head but the first, and those of single pages. */
static unsigned int nr_struct_pages(struct kunit *test)
{
	unsigned int heads = layout_block(test) >> PMD_ORDER;
	struct folio *folio = gmt_get(test, 0);

	if (!folio_test_hugetlb(folio) || !folio_test_hugetlb_vmemmap_optimized(folio))
		return 0;

	return heads - 1 + (sizeof(struct page) << PMD_ORDER >> PAGE_SHIFT) - 1;
}

/* Each of them fails alone, many with all that follow, and others now and then. */
static void fail_in_both_kinds(struct kunit *test, const char *name, const struct operation *op,
			       unsigned int pages)
{
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, name, op, KIND_SLAB), 0);
	KUNIT_EXPECT_GE(test, fail_in_every_way(test, name, op, KIND_PAGE),
			pages + pages / GMT_STRIDE);
}

/* A stub of the mock's, or a page of struct pages, for each folio that comes of it. */
static void split_block(struct kunit *test)
{
	static const struct operation op = {
		.run = run_split,
		.check_failed = check_whole,
		.undo = undo_split,
	};

	fill(test);
	fail_in_both_kinds(test, "split", &op, nr_struct_pages(test));
	layout_expect(test, false);
}

#if defined(CONFIG_GUESTMEM_HUGETLB) && defined(CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP)
/* Those with pieces that share their tails. */
static const void *shared_tails_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator = prev;

	do {
		allocator = layout_gen_params(test, allocator, desc);
	} while (allocator && (allocator->mock || allocator->block_order == PMD_ORDER));

	return allocator;
}

/* What all pieces of a zone share; NULL until the first of its pages is optimized or split. */
static struct page **tails_of_pieces(struct kunit *test)
{
	struct zone *zone = folio_zone(gmt_get(test, 0));

	return &zone->vmemmap_tails[PMD_ORDER - VMEMMAP_TAIL_MIN_ORDER];
}

/**
 * struct hidden_tails - what a zone has, for a test that wants one that has nothing
 * @place: where it is.
 * @old: what was there.
 */
struct hidden_tails {
	struct page **place;
	struct page *old;
};

/* No block is in pieces by now: nobody shares what was made meanwhile. */
static void replace_tails(struct page **place, struct page *tails)
{
	struct page *made = xchg(place, tails);

	if (made)
		__free_page(made);
}

static void restore_tails(void *data)
{
	struct hidden_tails *hidden = data;

	replace_tails(hidden->place, hidden->old);
}

/* Pages that are optimized keep theirs: nobody looks here to have them back. */
static void hide_tails(struct kunit *test)
{
	struct hidden_tails *hidden = kunit_kzalloc(test, sizeof(*hidden), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, hidden);
	hidden->place = tails_of_pieces(test);
	hidden->old = xchg(hidden->place, NULL);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, restore_tails, hidden), 0);
}

/*
 * Of the first allocations, one may be of a slab, which makes do with less: then the next
 * is the second in its turn, and the first has to be asked for again.
 */
#define FIRST_PAGES	4
#define ROUNDS		16

/* Adds to what was refused without tails, or with some. */
static void split_without_page(struct kunit *test, int nth, unsigned int refused_with[2])
{
	struct page **tails = tails_of_pieces(test);

	if (run_with_failure_of(test, run_split, KIND_PAGE, nth)) {
		check_whole(test);
		refused_with[!!*tails]++;
	} else {
		undo_split(test);
	}
	replace_tails(tails, NULL);
}

/*
 * A zone without a page of that size, optimized or in pieces: the tails have to be made, before
 * anything else, and stay when what comes then cannot be had.
 */
static void first_split_of_a_zone(struct kunit *test)
{
	unsigned int refused_with[2] = {};

	fill(test);
	if (!nr_struct_pages(test))
		kunit_skip(test, "struct pages are not optimized");

	hide_tails(test);
	for (int i = 0; i < ROUNDS && !(refused_with[false] && refused_with[true]); i++)
		for (int nth = 1; nth <= FIRST_PAGES; nth++)
			split_without_page(test, nth, refused_with);
	KUNIT_EXPECT_GT(test, refused_with[false], 0);
	KUNIT_EXPECT_GT(test, refused_with[true], 0);

	KUNIT_EXPECT_EQ(test, run_split(test), 0);
	KUNIT_EXPECT_NOT_NULL(test, *tails_of_pieces(test));
	undo_split(test);
	expect_whole(test);
	layout_expect(test, false);
}
#endif

/* Changes that have begun, and how often the first or the second of two blocks refused. */
static unsigned int begun, refused_in[2];

static void count_begun(struct guestmem_change *c)
{
	begun++;
}

static int run_split_two(struct kunit *test)
{
	pgoff_t border = layout_block(test);

	begun = 0;
	refused_at = ULONG_MAX;
	return gmt_change(gmt(test)->gi, GUESTMEM_SHARED, border - 1, border + 1, &refused_at);
}

/* Guests hear nothing of it, and of the block that could be prepared nobody sees that. */
static void check_two(struct kunit *test)
{
	pgoff_t border = layout_block(test);

	KUNIT_EXPECT_EQ(test, begun, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
	KUNIT_EXPECT_TRUE(test, refused_at == border - 1 || refused_at == border);
	refused_in[refused_at == border]++;
	layout_expect(test, false);
}

static void undo_split_two(struct kunit *test)
{
	pgoff_t border = layout_block(test);

	layout_expect(test, false);
	layout_change(test, GUESTMEM_PRIVATE, border - 1, border + 1);
}

static void split_two_blocks(struct kunit *test)
{
	static const struct operation op = {
		.run = run_split_two,
		.check_failed = check_two,
		.undo = undo_split_two,
	};

	layout_write(test, layout_block(test) - 1, 1);
	layout_write(test, layout_block(test), 2);
	mock_inode(gmt(test)->gi)->on_begin = count_begun;
	memset(refused_in, 0, sizeof(refused_in));
	fail_in_both_kinds(test, "split two", &op, 2 * nr_struct_pages(test));
	KUNIT_EXPECT_GT(test, refused_in[0], 0);
	KUNIT_EXPECT_GT(test, refused_in[1], 0);
}

static void merge_block(struct kunit *test)
{
	static const struct operation op = {
		.run = run_merge,
		.check_failed = check_split,
		.undo = undo_merge,
	};

	fill(test);
	KUNIT_EXPECT_EQ(test, run_split(test), 0);
	fail_in_both_kinds(test, "merge", &op, 0);
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
	expect_split(test);
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
}

static void allocate_block(struct kunit *test)
{
	static const struct operation op = {
		.run = run_allocate,
		.check_failed = check_absent,
		.undo = undo_allocate,
	};
	unsigned int pages;

	layout_allocate(test, 0);
	pages = nr_struct_pages(test);
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	KUNIT_ASSERT_EQ(test, run_split(test), 0);
	fail_in_both_kinds(test, "allocate", &op, pages);
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

/* Allocations left when the first folio is frozen; of real pages, when the guests lose them. */
static unsigned int left_at_freeze;

static void count_at_freeze(struct guestmem_change *c, const char *phase)
{
	if (!strcmp(phase, "freeze"))
		left_at_freeze = current->fail_nth;
}

static void count_at_begin(struct guestmem_change *c)
{
	left_at_freeze = current->fail_nth;
}

static int run_punch(struct kunit *test)
{
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	return 0;
}

static unsigned int allocations_after_freeze(struct kunit *test,
					     int (*run)(struct kunit *test),
					     enum alloc_kind kind)
{
	unsigned int left;

	left_at_freeze = 0;
	left = allocations_left(test, run, kind);
	KUNIT_EXPECT_NE(test, left_at_freeze, 0);
	return left_at_freeze - left;
}

static int (* const frozen_runs[])(struct kunit *test) = {
	run_split, run_merge, run_split, run_punch,
};

static void count_after_freeze(struct kunit *test, enum alloc_kind kind, unsigned int *fewest)
{
	for (int i = 0; i < ARRAY_SIZE(frozen_runs); i++)
		fewest[i] = min(fewest[i], allocations_after_freeze(test, frozen_runs[i], kind));
}

/* What is freed by RCU may be noted in memory, if there is any; not each time. */
static void expect_no_allocation(struct kunit *test, enum alloc_kind kind)
{
	unsigned int fewest[ARRAY_SIZE(frozen_runs)];

	memset(fewest, 0xff, sizeof(fewest));
	for (int i = 0; i < FREEZE_ROUNDS && memchr_inv(fewest, 0, sizeof(fewest)); i++) {
		layout_change(test, GUESTMEM_PRIVATE, 0, layout_block(test));
		fill(test);
		count_after_freeze(test, kind, fewest);
	}
	for (int run = 0; run < ARRAY_SIZE(fewest); run++)
		KUNIT_EXPECT_EQ(test, fewest[run], 0);
}

static void nothing_allocates_after_freeze(struct kunit *test)
{
	if (gmt(test)->allocator->mock)
		mock.on_phase = count_at_freeze;
	else
		mock_inode(gmt(test)->gi)->on_begin = count_at_begin;
	for (int kind = 0; kind < KINDS; kind++)
		expect_no_allocation(test, kind);
	mock.on_phase = NULL;
}

static struct kunit_case pieces_fail_nth_cases[] = {
	KUNIT_CASE_PARAM(split_block, layout_gen_params),
#if defined(CONFIG_GUESTMEM_HUGETLB) && defined(CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP)
	KUNIT_CASE_PARAM(first_split_of_a_zone, shared_tails_gen_params),
#endif
	KUNIT_CASE_PARAM(split_two_blocks, layout_small_gen_params),
	KUNIT_CASE_PARAM(merge_block, layout_gen_params),
	KUNIT_CASE_PARAM(allocate_block, layout_gen_params),
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
