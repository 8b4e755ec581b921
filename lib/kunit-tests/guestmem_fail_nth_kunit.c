// SPDX-License-Identifier: GPL-2.0-only
/*
 * The n-th allocation fails, for every n: just that one, or it and all that
 * follow.  The latter is what gets through to a caller that has a second try.
 *
 * The counter is the task's own, so that nobody else suffers.  But what it
 * counts are only allocations that failslab and fail_page_alloc look at, and
 * those are none of ours until their switches are set: they live in debugfs,
 * whose inodes point to them.
 */
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "guestmem_test_lib.h"

enum alloc_kind {
	KIND_SLAB,
	KIND_PAGE,
	KINDS
};

static const char * const kind_names[] = { "slab", "page" };

enum spell {
	SPELL_ONCE,
	SPELL_FOR_EVER,
	SPELLS
};

static const char * const spell_names[] = { "once", "for ever" };

/*
 * The switches
 */

enum width {
	WIDTH_BOOL,
	WIDTH_U32,
	WIDTH_ULONG,
};

static const struct knob {
	const char *dir;
	const char *file;
	enum width width;
	/* For each kind: what makes exactly the allocations of the kind fail. */
	unsigned long value[KINDS];
} knobs[] = {
	{ "failslab", "ignore-gfp-wait", WIDTH_BOOL, { false, true } },
	/* No cache is marked: that switches it off. */
	{ "failslab", "cache-filter", WIDTH_BOOL, { false, true } },
	{ "failslab", "verbose", WIDTH_ULONG, { 0, 0 } },
	{ "failslab", "task-filter", WIDTH_BOOL, { true, true } },
	{ "failslab", "times", WIDTH_U32, { -1, -1 } },
	{ "failslab", "probability", WIDTH_ULONG, { 100, 100 } },
	{ "fail_page_alloc", "ignore-gfp-wait", WIDTH_BOOL, { true, false } },
	{ "fail_page_alloc", "ignore-gfp-highmem", WIDTH_BOOL, { true, false } },
	{ "fail_page_alloc", "min-order", WIDTH_U32, { 255, 0 } },
	{ "fail_page_alloc", "verbose", WIDTH_ULONG, { 0, 0 } },
	{ "fail_page_alloc", "task-filter", WIDTH_BOOL, { true, true } },
	{ "fail_page_alloc", "times", WIDTH_U32, { -1, -1 } },
	{ "fail_page_alloc", "probability", WIDTH_ULONG, { 100, 100 } },
};

static unsigned long knobs_saved[ARRAY_SIZE(knobs)];

static void *knob_pointer(const struct knob *knob)
{
	struct dentry *dir = debugfs_lookup(knob->dir, NULL);
	struct dentry *file = NULL;
	void *pointer = NULL;

	if (!IS_ERR_OR_NULL(dir))
		file = debugfs_lookup(knob->file, dir);
	if (!IS_ERR_OR_NULL(file))
		pointer = d_inode(file)->i_private;

	/* Both stay: nobody removes them. */
	dput(file);
	dput(dir);
	return pointer;
}

static unsigned long knob_read(const struct knob *knob)
{
	void *pointer = knob_pointer(knob);

	switch (knob->width) {
	case WIDTH_BOOL:
		return *(bool *)pointer;
	case WIDTH_U32:
		return *(u32 *)pointer;
	default:
		return *(unsigned long *)pointer;
	}
}

static void knob_write(const struct knob *knob, unsigned long value)
{
	void *pointer = knob_pointer(knob);

	switch (knob->width) {
	case WIDTH_BOOL:
		*(bool *)pointer = value;
		break;
	case WIDTH_U32:
		*(u32 *)pointer = value;
		break;
	default:
		*(unsigned long *)pointer = value;
	}
}

static int fail_nth_suite_init(struct kunit_suite *suite)
{
	for (int i = 0; i < ARRAY_SIZE(knobs); i++) {
		if (!knob_pointer(&knobs[i]))
			return -ENOENT;
		knobs_saved[i] = knob_read(&knobs[i]);
	}

	return gmt_suite_init(suite);
}

static void turn_knobs(enum alloc_kind kind)
{
	for (int i = 0; i < ARRAY_SIZE(knobs); i++)
		knob_write(&knobs[i], knobs[i].value[kind]);
}

static void restore_knobs(void)
{
	for (int i = 0; i < ARRAY_SIZE(knobs); i++)
		knob_write(&knobs[i], knobs_saved[i]);
}

/*
 * The loop
 */

/* More allocations than anything here makes. */
#define MANY	10000

/**
 * struct operation - something that allocates
 * @prepare: brings about the state that @run starts from; may be NULL.
 * @run: allocates, with failures.
 * @check_failed: the state is what it was before @run.
 * @undo: of what @run did when it succeeded.
 */
struct operation {
	void (*prepare)(struct kunit *test);
	int (*run)(struct kunit *test);
	void (*check_failed)(struct kunit *test);
	void (*undo)(struct kunit *test);
};

/*
 * Runs with a failure in allocation @nth; false if there were not as many.  When
 * the count is down to 0, the task's other mark decides about those that follow.
 */
static bool run_with_failure(struct kunit *test, const struct operation *op,
			     enum alloc_kind kind, enum spell spell,
			     unsigned int nth, int *err)
{
	bool injected;

	turn_knobs(kind);
	current->make_it_fail = spell == SPELL_FOR_EVER;
	current->fail_nth = nth;
	*err = op->run(test);
	injected = !current->fail_nth;
	current->fail_nth = 0;
	current->make_it_fail = 0;
	restore_knobs();
	return injected;
}

/* How often it was made to fail. */
static unsigned int fail_every_allocation(struct kunit *test, const char *name,
					  const struct operation *op, enum alloc_kind kind,
					  enum spell spell)
{
	unsigned int nth, refused = 0;
	bool injected = true;
	int err = 0;

	for (nth = 1; injected && nth < MANY; nth++) {
		if (op->prepare)
			op->prepare(test);

		injected = run_with_failure(test, op, kind, spell, nth, &err);
		if (!err) {
			op->undo(test);
			continue;
		}

		KUNIT_EXPECT_TRUE_MSG(test, injected, "fails without a failure: %d", err);
		KUNIT_EXPECT_EQ_MSG(test, err, -ENOMEM, "%s %u", kind_names[kind], nth);
		op->check_failed(test);
		refused++;
	}

	/* The last round had nothing left to fail. */
	KUNIT_EXPECT_FALSE(test, injected);
	KUNIT_EXPECT_EQ(test, err, 0);
	nth -= 2;
	kunit_info(test, "%s: %s, %s: %u failures injected, %u refused\n",
		   name, kind_names[kind], spell_names[spell], nth, refused);
	return nth;
}

/* Once and for ever; how often in all. */
static unsigned int fail_in_every_way(struct kunit *test, const char *name,
				      const struct operation *op, enum alloc_kind kind)
{
	unsigned int injected = 0;

	for (enum spell spell = 0; spell < SPELLS; spell++)
		injected += fail_every_allocation(test, name, op, kind, spell);
	return injected;
}

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
	KUNIT_EXPECT_EQ(test, mock_nr_folios(), 0);
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

	open_large_file(test);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "get_folio", &op, KIND_SLAB), 0);
	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "get_folio", &op, KIND_PAGE), 0);
}

/*
 * Changes
 */

static void fill_file(struct kunit *test)
{
	gmt_allocate_all(test);
	gmt_log_clear(test);
}

static int run_punch(struct kunit *test)
{
	return gmt_punch(test, 0, gmt(test)->allocator->pages);
}

static int run_private(struct kunit *test)
{
	return gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, gmt(test)->allocator->pages,
			  NULL);
}

static void check_full(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
	KUNIT_EXPECT_NULL_MSG(test, strstr(gmt_log(test), "begin"),
			      "the guest lost pages for nothing");
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.plans), 0);
}

static void check_punched(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

static void check_private(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

static void expect_change_failures(struct kunit *test, const char *name,
				   const struct operation *op)
{
	unsigned int slab = fail_in_every_way(test, name, op, KIND_SLAB);

	/* The 4K allocator reserves nothing, the mock its plan. */
	if (gmt(test)->allocator->mock)
		KUNIT_EXPECT_GT(test, slab, 0);
	else
		KUNIT_EXPECT_EQ(test, slab, 0);
	KUNIT_EXPECT_EQ(test, fail_in_every_way(test, name, op, KIND_PAGE), 0);
}

static void punch(struct kunit *test)
{
	static const struct operation op = {
		.prepare = fill_file,
		.run = run_punch,
		.check_failed = check_full,
		.undo = check_punched,
	};

	expect_change_failures(test, "punch", &op);
}

static void change_to_private(struct kunit *test)
{
	static const struct operation op = {
		.prepare = fill_file,
		.run = run_private,
		.check_failed = check_full,
		.undo = check_private,
	};

	expect_change_failures(test, "private", &op);
}

/* Allocations that the task has left until one fails, at the first freeze. */
static unsigned int left_at_freeze;

static void count_at_freeze(struct guestmem_change *c, const char *phase)
{
	if (!left_at_freeze && !strcmp(phase, "freeze"))
		left_at_freeze = current->fail_nth;
}

static unsigned int allocations_after_freeze(struct kunit *test, enum alloc_kind kind)
{
	unsigned int left;
	int err;

	fill_file(test);
	left_at_freeze = gmt(test)->allocator->mock ? 0 : MANY;
	mock.on_phase = count_at_freeze;

	turn_knobs(kind);
	current->fail_nth = MANY;
	err = run_punch(test);
	left = current->fail_nth;
	current->fail_nth = 0;
	restore_knobs();
	mock.on_phase = NULL;

	KUNIT_EXPECT_EQ(test, err, 0);
	return left_at_freeze - left;
}

/* Past the point of no return nothing may fail, so nothing may allocate. */
static void nothing_allocates_after_freeze(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, allocations_after_freeze(test, KIND_SLAB), 0);
	KUNIT_EXPECT_EQ(test, allocations_after_freeze(test, KIND_PAGE), 0);
}

static struct kunit_case fail_nth_cases[] = {
	KUNIT_CASE_PARAM(setup, gmt_all_gen_params),
	KUNIT_CASE_PARAM(get_folio, gmt_all_gen_params),
	KUNIT_CASE_PARAM(punch, gmt_all_gen_params),
	KUNIT_CASE_PARAM(change_to_private, gmt_all_gen_params),
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
