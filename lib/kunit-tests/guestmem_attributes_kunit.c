// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages are private: the ranges of a file, against a bit for each page
 *
 * «Flipped» is a page that has not the state that the file was created with.
 */
#include <linux/completion.h>
#include <linux/hrtimer.h>
#include <linux/pagemap.h>
#include <linux/prandom.h>
#include <linux/rbtree.h>
#include <linux/seqlock.h>
#include <linux/sizes.h>

#include "../../mm/guestmem/internal.h"
#include "guestmem_test_lib.h"

#define PAGES	28

/* The 4K allocator makes one step of a change, the mock one of each eight pages. */
static const struct gmt_allocator whole = { .name = "page4k", .pages = PAGES };
static const struct gmt_allocator stepped = {
	.name = "mock 3", .selector = MOCK_SELECTOR, .unit_log2 = PAGE_SHIFT + 3,
	.pages = PAGES, .block_order = 3, .punch_order = 3, .folio_order = 3, .mock = true,
};

static const struct file_kind {
	const char *name;
	const struct gmt_allocator *allocator;
	bool init_shared;
} file_kinds[] = {
	{ "private, at once", &whole, false },
	{ "shared, at once", &whole, true },
	{ "private, in steps", &stepped, false },
	{ "shared, in steps", &stepped, true },
};

KUNIT_ARRAY_PARAM_DESC(file_kind, file_kinds, name);

/* A step for each block of a huge file takes too long. */
static const void *at_once_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct file_kind *kind;

	do {
		kind = file_kind_gen_params(test, prev, desc);
		prev = kind;
	} while (kind && kind->allocator->block_order);

	return kind;
}

static bool init_shared(struct kunit *test)
{
	return ((const struct file_kind *)test->param_value)->init_shared;
}

static void reopen(struct kunit *test, pgoff_t pages)
{
	gmt_close(test);
	gmt(test)->gi = gmt_open(gmt(test)->allocator, pages, init_shared(test));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
}

static int attributes_init(struct kunit *test)
{
	const struct file_kind *kind = test->param_value;
	int err = gmt_init(test);

	if (err)
		return err;

	gmt(test)->allocator = kind->allocator;
	gmt(test)->gi = gmt_open(kind->allocator, PAGES, kind->init_shared);
	return PTR_ERR_OR_ZERO(gmt(test)->gi);
}

/*
 * The second hand: a bit for each page that is flipped
 */

static bool flipped(struct kunit *test, pgoff_t index)
{
	return guestmem_is_private(gmt(test)->gi, index) == init_shared(test);
}

static enum guestmem_target target_of(struct kunit *test, bool flip)
{
	return flip == init_shared(test) ? GUESTMEM_PRIVATE : GUESTMEM_SHARED;
}

static u32 range_bits(pgoff_t start, pgoff_t end)
{
	return GENMASK(end - 1, start);
}

static unsigned int nr_nodes(struct kunit *test)
{
	unsigned int nr = 0;

	for (struct rb_node *rb = rb_first(&gmt(test)->gi->flipped); rb; rb = rb_next(rb))
		nr++;
	return nr;
}

/* A run of ones begins wherever there is none before it. */
static unsigned int nr_runs(u32 bits)
{
	return hweight32(bits & ~(bits << 1));
}

static int set(struct kunit *test, bool flip, pgoff_t start, pgoff_t end)
{
	mock_log_clear(&mock_inode(gmt(test)->gi)->phases);
	return gmt_change(gmt(test)->gi, target_of(test, flip), start, end, NULL);
}

static void expect_flipped(struct kunit *test, u32 bits)
{
	u32 seen = 0;

	for (pgoff_t index = 0; index < PAGES; index++)
		seen |= flipped(test, index) << index;
	KUNIT_EXPECT_EQ_MSG(test, seen, bits, "%07x in place of %07x", seen, bits);
	KUNIT_EXPECT_EQ_MSG(test, nr_nodes(test), nr_runs(bits), "for %07x", bits);
	KUNIT_EXPECT_FALSE(test, flipped(test, PAGES));
}

/* Run after run, from the state that nothing is flipped in. */
static void flip_bits(struct kunit *test, u32 bits)
{
	KUNIT_ASSERT_EQ(test, set(test, false, 0, PAGES), 0);
	for (pgoff_t index = 0; index < PAGES; index++)
		if (bits & BIT(index))
			KUNIT_ASSERT_EQ(test, set(test, true, index, index + 1), 0);
}

/* Some touch the ends of the file, some do not. */
static const u32 patterns[] = {
	0x0000000, 0xfffffff, 0x00f0f00, 0x0f0f0f0, 0xf00000f, 0x5555555, 0xaaaaaaa,
	0x0180018, 0x7fffffe, 0x8000001, 0x00ff3c1,
};

/*
 * Ranges
 */

static void new_file_has_its_default_state(struct kunit *test)
{
	static const pgoff_t far[] = { PAGES, SZ_1G, ULONG_MAX };

	expect_flipped(test, 0);
	for (int i = 0; i < ARRAY_SIZE(far); i++)
		KUNIT_EXPECT_EQ(test, guestmem_is_private(gmt(test)->gi, far[i]),
				!init_shared(test));
}

/* The ranges that there are: [8, 12), [16, 20), [24, 26). */
static void flips_range_in_every_position(struct kunit *test)
{
	const u32 before = 0x30f0f00;

	for (pgoff_t start = 0; start < PAGES; start += GMT_STRIDE)
		for (pgoff_t end = start + 1; end <= PAGES; end++) {
			flip_bits(test, before);
			KUNIT_EXPECT_EQ(test, set(test, true, start, end), 0);
			expect_flipped(test, before | range_bits(start, end));
		}
}

static void flips_back_range_in_every_position(struct kunit *test)
{
	const u32 before = 0x30f0f00;

	for (pgoff_t start = 0; start < PAGES; start += GMT_STRIDE)
		for (pgoff_t end = start + 1; end <= PAGES; end++) {
			flip_bits(test, before);
			KUNIT_EXPECT_EQ(test, set(test, false, start, end), 0);
			expect_flipped(test, before & ~range_bits(start, end));
		}
}

static void neighbours_become_one_range(struct kunit *test)
{
	static const struct {
		pgoff_t start;
		pgoff_t end;
		u32 bits;
	} sets[] = {
		{ 8, 12, 0x0000f00 },	/* alone */
		{ 12, 14, 0x0003f00 },	/* after it */
		{ 6, 8, 0x0003fc0 },	/* before it */
		{ 16, 20, 0x00f3fc0 },	/* a second one */
		{ 14, 16, 0x00fffc0 },	/* between them */
		{ 1, 27, 0x7fffffe },	/* over all of them */
	};

	for (int i = 0; i < ARRAY_SIZE(sets); i++) {
		KUNIT_EXPECT_EQ(test, set(test, true, sets[i].start, sets[i].end), 0);
		expect_flipped(test, sets[i].bits);
	}
}

static void nothing_is_left_of_what_is_flipped_back(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		flip_bits(test, patterns[i]);
		expect_flipped(test, patterns[i]);
		KUNIT_EXPECT_EQ(test, set(test, false, 0, PAGES), 0);
		expect_flipped(test, 0);
	}
}

/*
 * What a change alters
 */

/* The first page from @start on that is altered, or is not. */
static pgoff_t find(u32 altered, pgoff_t start, pgoff_t end, bool want)
{
	while (start < end && !(altered & BIT(start)) == want)
		start++;
	return start;
}

static void expect_run(struct kunit *test, bool flip, u32 altered, pgoff_t start, pgoff_t end)
{
	struct guestmem_change c = { .gi = gmt(test)->gi, .target = target_of(test, flip) };
	struct guestmem_range want, run;

	want.start = find(altered, start, end, true);
	want.end = find(altered, want.start, end, false);
	run = guestmem_next_run(&c, start, end);
	KUNIT_EXPECT_TRUE_MSG(test, run.start == want.start && run.end == want.end,
			      "%07x: %lu-%lu of %lu-%lu", altered, run.start, run.end,
			      start, end);
}

static void expect_trim(struct kunit *test, bool flip, u32 altered, pgoff_t start, pgoff_t end)
{
	struct guestmem_change c = {
		.gi = gmt(test)->gi, .target = target_of(test, flip),
		.start = start, .end = end,
	};
	u32 bits = altered & range_bits(start, end);

	KUNIT_EXPECT_EQ(test, guestmem_change_trim(&c), !!bits);
	if (bits)
		KUNIT_EXPECT_TRUE_MSG(test, c.start == __ffs(bits) && c.end == fls(bits),
				      "%07x: %lu-%lu of %lu-%lu", altered, c.start, c.end,
				      start, end);
}

static void for_all_ranges(struct kunit *test,
			   void (*expect)(struct kunit *test, bool flip, u32 altered,
					  pgoff_t start, pgoff_t end))
{
	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		flip_bits(test, patterns[i]);
		filemap_invalidate_lock(gmt(test)->gi->mapping);
		for (pgoff_t start = 0; start < PAGES; start += GMT_STRIDE)
			for (pgoff_t end = start + 1; end <= PAGES; end++) {
				expect(test, true, ~patterns[i], start, end);
				expect(test, false, patterns[i], start, end);
			}
		filemap_invalidate_unlock(gmt(test)->gi->mapping);
	}
}

static void next_run_finds_what_is_altered(struct kunit *test)
{
	for_all_ranges(test, expect_run);
}

static void trim_leaves_what_is_altered(struct kunit *test)
{
	for_all_ranges(test, expect_trim);
}

/* There is no state to compare with. */
static void hole_alters_all_of_its_range(struct kunit *test)
{
	struct guestmem_change c = {
		.gi = gmt(test)->gi, .target = GUESTMEM_ABSENT, .start = 3, .end = 20,
	};
	struct guestmem_range run;

	flip_bits(test, 0x5555555);
	filemap_invalidate_lock(gmt(test)->gi->mapping);
	run = guestmem_next_run(&c, 3, 20);
	KUNIT_EXPECT_TRUE(test, guestmem_change_trim(&c));
	filemap_invalidate_unlock(gmt(test)->gi->mapping);

	KUNIT_EXPECT_EQ(test, run.start, 3);
	KUNIT_EXPECT_EQ(test, run.end, 20);
	KUNIT_EXPECT_EQ(test, c.start, 3);
	KUNIT_EXPECT_EQ(test, c.end, 20);
}

static void state_run_ends_at_borders(struct kunit *test)
{
	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		flip_bits(test, patterns[i]);
		filemap_invalidate_lock(gmt(test)->gi->mapping);
		for (pgoff_t index = 0; index < PAGES; index++) {
			bool one = patterns[i] & BIT(index);
			struct guestmem_range run = guestmem_state_run(gmt(test)->gi, index);

			KUNIT_EXPECT_EQ(test, run.end, find(patterns[i], index, PAGES, !one));
			KUNIT_EXPECT_LE(test, run.start, index);
			KUNIT_EXPECT_EQ(test, find(patterns[i], run.start, PAGES, !one), run.end);
			KUNIT_EXPECT_TRUE(test, !run.start || one ==
					  !(patterns[i] & BIT(run.start - 1)));
		}
		filemap_invalidate_unlock(gmt(test)->gi->mapping);
	}
}

/*
 * Costs
 */

/* Whatever there was, however many steps, and also if it is stopped half-way. */
static void change_adds_one_node_at_most(struct kunit *test)
{
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 0x5eed);
	for (int i = 0; i < 2000 / GMT_STRIDE; i++) {
		pgoff_t start = prandom_u32_state(&rnd) % PAGES;
		pgoff_t end = start + 1 + prandom_u32_state(&rnd) % (PAGES - start);
		u32 bits = prandom_u32_state(&rnd) & prandom_u32_state(&rnd) & 0xfffffff;
		bool stop = i % 4 == 3;
		int err;

		flip_bits(test, bits);
		if (stop)
			gmt_signal();
		err = set(test, i % 2, start, end);
		gmt_signal_clear();
		KUNIT_EXPECT_TRUE(test, !err || (stop && err == -EINTR));
		KUNIT_EXPECT_LE(test, nr_nodes(test), nr_runs(bits) + 1);
	}
}

#define TIB_PAGES	(SZ_1T >> PAGE_SHIFT)
#define ISLANDS		1000

/* By number of borders, not of pages; and without memory behind it. */
static void huge_file_costs_nodes_by_borders(struct kunit *test)
{
	reopen(test, TIB_PAGES);
	mock_inode(gmt(test)->gi)->phases.off = true;
	KUNIT_EXPECT_EQ(test, set(test, true, 0, TIB_PAGES), 0);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 1);
	KUNIT_EXPECT_TRUE(test, flipped(test, TIB_PAGES - 1));
	KUNIT_EXPECT_EQ(test, set(test, false, 0, TIB_PAGES), 0);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 0);

	for (unsigned long i = 0; i < ISLANDS; i++)
		KUNIT_EXPECT_EQ(test, set(test, true, i * (TIB_PAGES / ISLANDS) + 5,
					  i * (TIB_PAGES / ISLANDS) + 7), 0);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), ISLANDS);
	KUNIT_EXPECT_EQ(test, set(test, false, 6, TIB_PAGES - 1), 0);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 1);
	KUNIT_EXPECT_EQ(test, set(test, true, 0, TIB_PAGES), 0);
	KUNIT_EXPECT_EQ(test, nr_nodes(test), 1);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

/*
 * Readers
 */

/* Pages that no change is about, and the state that they have all the time. */
static const struct {
	pgoff_t index;
	bool flip;
} constant[] = {
	{ 0, false }, { 3, true }, { 5, true }, { 9, true }, { 11, true }, { 12, false },
	{ 15, false }, { 20, true }, { 22, false }, { PAGES - 1, false },
};

struct reader {
	struct kunit *test;
	bool stop;
	unsigned long rounds;
	unsigned long wrong;
};

static void read_constant_pages(void *arg)
{
	struct reader *reader = arg;

	while (!READ_ONCE(reader->stop)) {
		for (int i = 0; i < ARRAY_SIZE(constant); i++)
			reader->wrong += flipped(reader->test, constant[i].index) !=
					 constant[i].flip;
		reader->rounds++;
		cond_resched();
	}
}

/* Ranges grow together, fall apart, come and go: 6-9 between two, 12 and 21 beside one. */
static void readers_see_no_change_of_other_pages(struct kunit *test)
{
	static const struct guestmem_range changes[] = {
		{ 6, 9 }, { 13, 15 }, { 16, 20 }, { 21, 22 },
	};
	struct reader reader = { .test = test };
	struct gmt_thread thread = { .fn = read_constant_pages, .arg = &reader };

	flip_bits(test, BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(10) | BIT(11) | BIT(20));
	gmt_start(test, &thread);
	for (int round = 0; round < 5000 / GMT_STRIDE; round++) {
		const struct guestmem_range *range = &changes[round % ARRAY_SIZE(changes)];

		KUNIT_EXPECT_EQ(test, set(test, round / ARRAY_SIZE(changes) % 2 == 0,
					  range->start, range->end), 0);
		cond_resched();
		if (round % 250 == 0)
			schedule_timeout_uninterruptible(1);
	}
	WRITE_ONCE(reader.stop, true);
	gmt_join(test, &thread);
	KUNIT_EXPECT_GT(test, reader.rounds, 0);
	KUNIT_EXPECT_EQ(test, reader.wrong, 0);
}

/* The same with a single CPU: a border is half-way when the reader comes, until a timer fires. */
struct half_moved {
	seqcount_t *seq;
	struct hrtimer timer;
	struct completion moved;
};

static seqcount_t *sequence(struct kunit *test)
{
	return &gmt(test)->gi->flipped_lock.seqcount.seqcount;
}

static enum hrtimer_restart finish_move(struct hrtimer *timer)
{
	struct half_moved *half = container_of(timer, struct half_moved, timer);

	do_raw_write_seqcount_end(half->seq);
	complete(&half->moved);
	return HRTIMER_NORESTART;
}

static void reader_waits_for_half_a_move(struct kunit *test)
{
	struct half_moved half = { .seq = sequence(test) };
	bool waited;

	flip_bits(test, BIT(3));
	init_completion(&half.moved);
	hrtimer_setup_on_stack(&half.timer, finish_move, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	do_raw_write_seqcount_begin(half.seq);
	hrtimer_start(&half.timer, ms_to_ktime(5), HRTIMER_MODE_REL_HARD);
	KUNIT_EXPECT_TRUE(test, flipped(test, 3));
	waited = completion_done(&half.moved);
	wait_for_completion(&half.moved);
	hrtimer_cancel(&half.timer);
	destroy_hrtimer_on_stack(&half.timer);
	KUNIT_EXPECT_TRUE_MSG(test, waited, "what is half-way was taken for the answer");
}

/* And whoever began before has to look again. */
static void every_change_is_seen_by_readers(struct kunit *test)
{
	static const struct {
		bool flip;
		pgoff_t start;
		pgoff_t end;
	} sets[] = {
		{ true, 8, 16 },	/* a new range */
		{ true, 16, 20 },	/* goes on */
		{ false, 10, 12 },	/* in two */
		{ false, 8, 9 },	/* from the start */
		{ false, 19, 20 },	/* from the end */
		{ true, 10, 12 },	/* one again */
		{ false, 9, 19 },	/* gone */
	};

	for (int i = 0; i < ARRAY_SIZE(sets); i++) {
		unsigned int before = raw_read_seqcount(sequence(test));

		KUNIT_EXPECT_EQ(test, set(test, sets[i].flip, sets[i].start, sets[i].end), 0);
		KUNIT_EXPECT_NE_MSG(test, raw_read_seqcount(sequence(test)), before, "set %d", i);
	}
	expect_flipped(test, 0);
}

static struct kunit_case attributes_cases[] = {
	KUNIT_CASE_PARAM(new_file_has_its_default_state, file_kind_gen_params),
	KUNIT_CASE_PARAM(flips_range_in_every_position, file_kind_gen_params),
	KUNIT_CASE_PARAM(flips_back_range_in_every_position, file_kind_gen_params),
	KUNIT_CASE_PARAM(neighbours_become_one_range, file_kind_gen_params),
	KUNIT_CASE_PARAM(nothing_is_left_of_what_is_flipped_back, file_kind_gen_params),
	KUNIT_CASE_PARAM(next_run_finds_what_is_altered, file_kind_gen_params),
	KUNIT_CASE_PARAM(trim_leaves_what_is_altered, file_kind_gen_params),
	KUNIT_CASE_PARAM(hole_alters_all_of_its_range, file_kind_gen_params),
	KUNIT_CASE_PARAM(state_run_ends_at_borders, file_kind_gen_params),
	KUNIT_CASE_PARAM(change_adds_one_node_at_most, file_kind_gen_params),
	KUNIT_CASE_PARAM(huge_file_costs_nodes_by_borders, at_once_gen_params),
	KUNIT_CASE_PARAM(readers_see_no_change_of_other_pages, file_kind_gen_params),
	KUNIT_CASE_PARAM(reader_waits_for_half_a_move, file_kind_gen_params),
	KUNIT_CASE_PARAM(every_change_is_seen_by_readers, file_kind_gen_params),
	{}
};

static struct kunit_suite attributes_suite = {
	.name = "guestmem_attributes",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = attributes_init,
	.exit = gmt_exit,
	.test_cases = attributes_cases,
};

kunit_test_suite(attributes_suite);
