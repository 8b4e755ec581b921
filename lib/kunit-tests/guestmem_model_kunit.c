// SPDX-License-Identifier: GPL-2.0-only
/*
 * A long random walk, beside a model
 *
 * The seed is printed.  To walk the same way again:
 *
 *	guestmem_model_kunit.seed=SEED guestmem_model_kunit.steps=STEPS
 */
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/sched.h>

#include "guestmem_model.h"

static unsigned long seed;
module_param(seed, ulong, 0);

/* Of each allocator: a million in all, where it takes a minute and not an hour. */
static unsigned int steps = IS_ENABLED(CONFIG_UML) ? 170000 : 3000;
module_param(steps, uint, 0);

static const struct kind {
	const char *name;
	unsigned int weight;
	enum outcome (*run)(struct model *m);
} kinds[] = {
	{ "allocate", 8, model_allocate },
	{ "read", 18, model_read },
	{ "write", 14, model_write },
	{ "to shared", 21, model_share },
	{ "to private", 21, model_unshare },
	{ "punch", 5, model_punch },
	{ "pin", 5, model_pin },
	{ "unpin", 7, model_unpin },
	{ "reopen", 1, model_reopen },
};

#define WEIGHTS	100

static unsigned int random_kind(struct model *m)
{
	unsigned int at = model_random(m, WEIGHTS), kind = 0;

	while (at >= kinds[kind].weight)
		at -= kinds[kind++].weight;
	return kind;
}

/* A walk on which nothing happens has shown nothing.  A short one has its whims. */
static void expect_busy(struct kunit *test, unsigned int kind,
			const unsigned int outcomes[OUTCOMES])
{
	unsigned int tried = outcomes[NOTHING] + outcomes[DONE] + outcomes[REFUSED] +
			     outcomes[STOPPED];

	kunit_info(test, "%-10s %7u done %7u nothing to do %6u refused %6u stopped\n",
		   kinds[kind].name, outcomes[DONE], outcomes[NOTHING], outcomes[REFUSED],
		   outcomes[STOPPED]);
	KUNIT_EXPECT_GE_MSG(test, outcomes[DONE] * 50, tried, "%s: less than 2 %% have an effect",
			    kinds[kind].name);
	KUNIT_EXPECT_GE_MSG(test, tried * WEIGHTS * 3, steps * kinds[kind].weight,
			    "%s is too rare", kinds[kind].name);
}

static void walk(struct kunit *test, struct model *m, unsigned int (*outcomes)[OUTCOMES])
{
	for (m->step = 0; m->step < steps && !m->failed; m->step++) {
		unsigned int kind = random_kind(m);

		outcomes[kind][kinds[kind].run(m)]++;
		if (IS_ERR(gmt(test)->gi))
			return;

		model_compare(m);
		mock_log_clear(&mock_inode(gmt(test)->gi)->phases);
		mock_log_clear(&mock_inode(gmt(test)->gi)->folios);
		cond_resched();
	}
}

static void agrees_with_the_model(struct kunit *test)
{
	unsigned int outcomes[ARRAY_SIZE(kinds)][OUTCOMES] = {};
	unsigned long this_seed = seed ?: get_random_u32();
	struct model *m;

	m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m);
	m->test = test;
	prandom_seed_state(&m->rnd, this_seed);
	kunit_info(test, "seed %lu, %u steps\n", this_seed, steps);

	walk(test, m, outcomes);
	model_end(m);
	for (int kind = 0; kind < ARRAY_SIZE(kinds); kind++)
		expect_busy(test, kind, outcomes[kind]);
}

static struct kunit_case model_cases[] = {
	KUNIT_CASE_PARAM_ATTR(agrees_with_the_model, gmt_all_gen_params,
			      { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite model_suite = {
	.name = "guestmem_model",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = model_cases,
};

kunit_test_suite(model_suite);
