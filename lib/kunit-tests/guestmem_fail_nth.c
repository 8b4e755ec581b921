// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the n-th allocation of a task fail
 *
 * The counter is the task's own, so that nobody else suffers.  But what it
 * counts are only allocations that failslab and fail_page_alloc look at, and
 * those are none of ours until their switches are set: they live in debugfs,
 * whose inodes point to them.
 */
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/sched.h>

#include "guestmem_fail_nth.h"

static const char * const kind_names[] = { "slab", "page" };

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

/* Found once: a path is looked up for longer than what is made to fail takes. */
static void *knob_pointers[ARRAY_SIZE(knobs)];
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

static unsigned long knob_read(int i)
{
	switch (knobs[i].width) {
	case WIDTH_BOOL:
		return *(bool *)knob_pointers[i];
	case WIDTH_U32:
		return *(u32 *)knob_pointers[i];
	default:
		return *(unsigned long *)knob_pointers[i];
	}
}

static void knob_write(int i, unsigned long value)
{
	switch (knobs[i].width) {
	case WIDTH_BOOL:
		*(bool *)knob_pointers[i] = value;
		break;
	case WIDTH_U32:
		*(u32 *)knob_pointers[i] = value;
		break;
	default:
		*(unsigned long *)knob_pointers[i] = value;
	}
}

int fail_nth_suite_init(struct kunit_suite *suite)
{
	for (int i = 0; i < ARRAY_SIZE(knobs); i++) {
		knob_pointers[i] = knob_pointer(&knobs[i]);
		if (!knob_pointers[i])
			return -ENOENT;
		knobs_saved[i] = knob_read(i);
	}

	return gmt_suite_init(suite);
}

static void turn_knobs(enum alloc_kind kind)
{
	for (int i = 0; i < ARRAY_SIZE(knobs); i++)
		knob_write(i, knobs[i].value[kind]);
}

static void restore_knobs(void)
{
	for (int i = 0; i < ARRAY_SIZE(knobs); i++)
		knob_write(i, knobs_saved[i]);
}

/*
 * The loop
 */

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

/* Each n fails alone.  Where there are many, not each is the first of all that fail. */
static unsigned int step(enum spell spell, unsigned int nth)
{
	return spell == SPELL_FOR_EVER && nth > FEW ? GMT_STRIDE : 1;
}

/* How often it was made to fail. */
static unsigned int fail_every_allocation(struct kunit *test, const char *name,
					  const struct operation *op, enum alloc_kind kind,
					  enum spell spell)
{
	unsigned int nth, failures = 0, refused = 0;
	bool injected = true;
	int err = 0;

	for (nth = 1; injected && nth < MANY; nth += step(spell, nth)) {
		if (op->prepare)
			op->prepare(test);

		injected = run_with_failure(test, op, kind, spell, nth, &err);
		failures += injected;
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
	kunit_info(test, "%s: %s, %s: %u failures injected, %u refused\n",
		   name, kind_names[kind], spell_names[spell], failures, refused);
	return failures;
}

/* Once and for ever; how often in all. */
unsigned int fail_in_every_way(struct kunit *test, const char *name,
			       const struct operation *op, enum alloc_kind kind)
{
	unsigned int injected = 0;

	for (enum spell spell = 0; spell < SPELLS; spell++)
		injected += fail_every_allocation(test, name, op, kind, spell);
	return injected;
}

/* What @run says of allocation @nth, which there has to be, and which alone fails. */
int run_with_failure_of(struct kunit *test, int (*run)(struct kunit *test), enum alloc_kind kind,
			unsigned int nth)
{
	const struct operation op = { .run = run };
	int err;

	KUNIT_EXPECT_TRUE(test, run_with_failure(test, &op, kind, SPELL_ONCE, nth, &err));
	return err;
}

/* What is left of MANY when @run is done: one less for each allocation. */
unsigned int allocations_left(struct kunit *test, int (*run)(struct kunit *test),
			      enum alloc_kind kind)
{
	unsigned int left;
	int err;

	turn_knobs(kind);
	current->fail_nth = MANY;
	err = run(test);
	left = current->fail_nth;
	current->fail_nth = 0;
	restore_knobs();

	KUNIT_EXPECT_EQ(test, err, 0);
	return left;
}
