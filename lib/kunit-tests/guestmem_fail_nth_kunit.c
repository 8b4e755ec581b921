// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a failure of each allocation leaves of a file, a folio, a change
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "guestmem_fail_nth.h"

/*
 * Setup
 */

static int run_setup(struct kunit *test)
{
	struct guestmem_inode *gi;

	gi = gmt_open(gmt(test)->allocator, gmt(test)->allocator->pages, false);
	if (IS_ERR(gi))
		return PTR_ERR(gi);

	gmt(test)->data = gi;
	return 0;
}

static void check_no_file(struct kunit *test)
{
	/* But the fixture's. */
	KUNIT_EXPECT_EQ(test, mock_client_inodes(), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.inodes), gmt(test)->allocator->mock);
}

static void undo_setup(struct kunit *test)
{
	mock_close(gmt(test)->data);
	check_no_file(test);
}

static void setup(struct kunit *test)
{
	static const struct operation op = {
		.run = run_setup,
		.check_failed = check_no_file,
		.undo = undo_setup,
	};

	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "setup", &op, KIND_SLAB), 0);
	fail_in_every_way(test, "setup", &op, KIND_PAGE);
}

/*
 * Allocation of a folio, so far out that the page cache needs several nodes
 */

#define FAR_PAGES	BIT(20)
#define FAR_INDEX	(FAR_PAGES - 5)
#define FAR_BLOCK	(FAR_PAGES - 32)

static void open_large_file(struct kunit *test)
{
	gmt_close(test);
	gmt(test)->gi = gmt_open(gmt(test)->allocator, FAR_PAGES, false);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
}

static int run_get(struct kunit *test)
{
	struct folio *folio = gmt_get_locked(gmt(test)->gi, FAR_INDEX);

	if (IS_ERR(folio))
		return PTR_ERR(folio);

	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

/* Nodes may be left: see clear_inode().  Whoever is next in their place uses them. */
static void check_empty(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), 0);
}

static void undo_get(struct kunit *test)
{
	KUNIT_EXPECT_TRUE(test, gmt_present(gmt(test)->gi, FAR_INDEX));
	KUNIT_EXPECT_EQ(test, gmt_punch(test, FAR_BLOCK, FAR_PAGES), 0);
	gmt_log_clear(test);
	check_empty(test);
	KUNIT_EXPECT_TRUE_MSG(test, xa_empty(&gmt(test)->gi->mapping->i_pages),
			      "nodes are left");
}

static void get_folio(struct kunit *test)
{
	static const struct operation op = {
		.run = run_get,
		.check_failed = check_empty,
		.undo = undo_get,
	};
	unsigned int pages;

	open_large_file(test);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "get_folio", &op, KIND_SLAB), 0);
	pages = fail_in_every_way(test, "get_folio", &op, KIND_PAGE);
	/* A slab may be empty, too. */
	if (!gmt(test)->allocator->pool)
		KUNIT_EXPECT_GT(test, pages, 0);
}

/*
 * Changes
 */

static void *folios_before[GMT_FEW_PAGES];

static void note_folios(struct kunit *test)
{
	for (pgoff_t index = 0; index < GMT_FEW_PAGES; index++)
		folios_before[index] = xa_load(&gmt(test)->gi->mapping->i_pages, index);
}

static void expect_same_folios(struct kunit *test)
{
	for (pgoff_t index = 0; index < GMT_FEW_PAGES; index++)
		KUNIT_EXPECT_PTR_EQ(test, xa_load(&gmt(test)->gi->mapping->i_pages, index),
				    folios_before[index]);
}

/* Pages of both states, so that there is something to do for each target. */
static void fill_file(struct kunit *test)
{
	gmt_allocate_all(test);
	gmt_share_by(test, 0xa5);
	note_folios(test);
}

/* The first page that the change is about, and the one that it was refused at. */
static pgoff_t first_page, refused_at;

static int run_change(struct kunit *test, enum guestmem_target target)
{
	/* By the pattern above. */
	first_page = target == GUESTMEM_SHARED ? 1 : 0;
	refused_at = ULONG_MAX;
	return gmt_change(gmt(test)->gi, target, 0, gmt(test)->allocator->pages, &refused_at);
}

static int run_punch(struct kunit *test)
{
	return run_change(test, GUESTMEM_ABSENT);
}

static int run_private(struct kunit *test)
{
	return run_change(test, GUESTMEM_PRIVATE);
}

static int run_shared(struct kunit *test)
{
	return run_change(test, GUESTMEM_SHARED);
}

/* Folios, states, reservations, guests: all as if nobody had asked. */
static void check_unchanged(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, refused_at, first_page);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
	expect_same_folios(test);
	gmt_expect_states(test, GUESTMEM_ABSENT, 0, 0);
	KUNIT_EXPECT_NULL_MSG(test, strstr(gmt_log(test), "begin"),
			      "the guest lost pages for nothing");
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
}

static void check_punched(struct kunit *test)
{
	gmt_expect_done(test, GUESTMEM_ABSENT, 0, gmt(test)->allocator->pages);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

static void check_private(struct kunit *test)
{
	gmt_expect_done(test, GUESTMEM_PRIVATE, 0, gmt(test)->allocator->pages);
	expect_same_folios(test);
}

static void check_shared(struct kunit *test)
{
	gmt_expect_done(test, GUESTMEM_SHARED, 0, gmt(test)->allocator->pages);
	expect_same_folios(test);
}

/* The core reserves what it needs to store @states, the mock its plan. */
static void expect_change_failures(struct kunit *test, const char *name,
				   const struct operation *op, unsigned int states)
{
	unsigned int allocations = states + gmt(test)->allocator->mock;
	unsigned int injected = fail_in_every_way(test, name, op, KIND_SLAB);

	/* Who takes notes of allocations, or of what is freed, can do without. */
	KUNIT_EXPECT_GE(test, injected, allocations * SPELLS);
	/* None, but for a slab that is empty. */
	fail_in_every_way(test, name, op, KIND_PAGE);
}

static void punch(struct kunit *test)
{
	static const struct operation op = {
		.prepare = fill_file,
		.run = run_punch,
		.check_failed = check_unchanged,
		.undo = check_punched,
	};

	expect_change_failures(test, "punch", &op, 0);
}

static void change_to_private(struct kunit *test)
{
	static const struct operation op = {
		.prepare = fill_file,
		.run = run_private,
		.check_failed = check_unchanged,
		.undo = check_private,
	};

	expect_change_failures(test, "private", &op, 1);
}

static void change_to_shared(struct kunit *test)
{
	static const struct operation op = {
		.prepare = fill_file,
		.run = run_shared,
		.check_failed = check_unchanged,
		.undo = check_shared,
	};

	expect_change_failures(test, "shared", &op, 1);
}

/* Allocations that the task has left until one fails, where the first step cannot any more. */
static unsigned int left_at_freeze;

static void count_at_freeze(struct guestmem_change *c, const char *phase)
{
	if (!left_at_freeze && !strcmp(phase, "freeze"))
		left_at_freeze = current->fail_nth;
}

static void count_at_begin(struct guestmem_change *c)
{
	if (!left_at_freeze)
		left_at_freeze = current->fail_nth;
}

static unsigned int allocations_after_freeze(struct kunit *test,
					     int (*run)(struct kunit *test),
					     enum alloc_kind kind)
{
	unsigned int left;

	fill_file(test);
	left_at_freeze = 0;
	mock.on_phase = count_at_freeze;
	mock_inode(gmt(test)->gi)->on_begin = count_at_begin;
	left = allocations_left(test, run, kind);
	mock.on_phase = NULL;

	KUNIT_EXPECT_NE(test, left_at_freeze, 0);
	return left_at_freeze - left;
}

/* What is freed by RCU may be noted in memory, if there is any; not each time. */
static unsigned int fewest_after_freeze(struct kunit *test, int (*run)(struct kunit *test),
					enum alloc_kind kind)
{
	unsigned int fewest = UINT_MAX;

	for (int i = 0; i < FREEZE_ROUNDS && fewest; i++)
		fewest = min(fewest, allocations_after_freeze(test, run, kind));
	return fewest;
}

/* Past the point of no return nothing may fail, so nothing may allocate. */
static void nothing_allocates_after_freeze(struct kunit *test)
{
	static int (* const runs[])(struct kunit *test) = {
		run_private, run_shared, run_punch,
	};

	for (int i = 0; i < ARRAY_SIZE(runs) * KINDS; i++)
		KUNIT_EXPECT_EQ(test, fewest_after_freeze(test, runs[i / KINDS], i % KINDS), 0);
}

static struct kunit_case fail_nth_cases[] = {
	KUNIT_CASE_PARAM(setup, gmt_all_gen_params),
	KUNIT_CASE_PARAM(get_folio, gmt_all_gen_params),
	KUNIT_CASE_PARAM(punch, gmt_all_gen_params),
	KUNIT_CASE_PARAM(change_to_private, gmt_all_gen_params),
	KUNIT_CASE_PARAM(change_to_shared, gmt_all_gen_params),
	KUNIT_CASE_PARAM(nothing_allocates_after_freeze, gmt_all_gen_params),
	{}
};

static struct kunit_suite fail_nth_suite = {
	.name = "guestmem_fail_nth",
	.suite_init = fail_nth_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = fail_nth_cases,
};

kunit_test_suite(fail_nth_suite);
