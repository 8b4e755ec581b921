// SPDX-License-Identifier: GPL-2.0-only
/*
 * Custody: a folio that is pinned when its file goes finds its way back
 *
 * No file here, and a pool that only counts.
 */
#include <linux/completion.h>
#include <linux/folio_batch.h>
#include <linux/hrtimer.h>
#include <linux/memcontrol.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "../../mm/internal.h"
#include "guestmem_test_lib.h"

/**
 * struct fake_pool - where folios come back to
 * @custody: what is tested.
 * @released: how many came back.
 * @breaches: how many of them were not fit for use.
 * @last: the last one that came back, kept if @keep.
 * @keep: keep it, to be looked at.
 */
struct fake_pool {
	struct guestmem_custody custody;
	unsigned int released;
	unsigned int breaches;
	struct folio *last;
	bool keep;
};

static bool fit_for_use(struct folio *folio)
{
	return folio_ref_count(folio) == 1 && !folio->private && !folio->mapping &&
	       !page_has_type(&folio->page) && !folio_memcg(folio) &&
	       !(folio->flags.f & PAGE_FLAGS_CHECK_AT_PREP & ~BIT(PG_head));
}

/* One at a time, in a worker. */
static void fake_release(struct guestmem_custody *custody, struct folio *folio)
{
	struct fake_pool *pool = container_of(custody, struct fake_pool, custody);

	might_sleep();
	if (!in_task() || !fit_for_use(folio))
		pool->breaches++;

	pool->last = folio;
	if (!pool->keep)
		folio_put(folio);
	pool->released++;
}

static struct fake_pool *fake_pool(struct kunit *test)
{
	return test->priv;
}

static int custody_init(struct kunit *test)
{
	struct fake_pool *pool;

	pool = kunit_kzalloc(test, sizeof(*pool), GFP_KERNEL);
	if (!pool)
		return -ENOMEM;

	pool->custody.release = fake_release;
	test->priv = pool;
	return 0;
}

static void custody_exit(struct kunit *test)
{
	guestmem_custody_flush();
	KUNIT_EXPECT_EQ_MSG(test, fake_pool(test)->breaches, 0,
			    "a folio came back that is not fit for use");
}

static struct folio *fake_folio(struct kunit *test, unsigned int order)
{
	struct folio *folio = folio_alloc(GFP_KERNEL, order);

	KUNIT_ASSERT_NOT_NULL(test, folio);
	return folio;
}

/* Its file is gone, and someone holds the one reference to it. */
static struct folio *pinned_folio(struct kunit *test)
{
	struct folio *folio = fake_folio(test, 0);

	folio_get(folio);
	guestmem_custody_take(&fake_pool(test)->custody, folio);
	folio_put(folio);
	return folio;
}

static void expect_released(struct kunit *test, unsigned int nr)
{
	guestmem_custody_flush();
	KUNIT_EXPECT_EQ(test, fake_pool(test)->released, nr);
}

/*
 * Where the last reference is dropped
 */

static void comes_back_without_a_pin(struct kunit *test)
{
	struct folio *folio = fake_folio(test, 0);

	guestmem_custody_take(&fake_pool(test)->custody, folio);
	folio_put(folio);
	expect_released(test, 1);
	KUNIT_EXPECT_PTR_EQ(test, fake_pool(test)->last, folio);
}

static void stays_while_it_is_pinned(struct kunit *test)
{
	struct folio *folio = pinned_folio(test);

	folio_get(folio);
	expect_released(test, 0);
	folio_put(folio);
	expect_released(test, 0);
	folio_put(folio);
	expect_released(test, 1);
}

/**
 * struct timed_put - a last reference that an interrupt drops
 * @timer: the interrupt.
 * @folio: what it drops.
 * @hard: it came as a hard interrupt.
 * @soft: it came as a soft one.
 * @done: it came.
 */
struct timed_put {
	struct hrtimer timer;
	struct folio *folio;
	bool hard;
	bool soft;
	struct completion done;
};

static enum hrtimer_restart put_from_timer(struct hrtimer *timer)
{
	struct timed_put *put = container_of(timer, struct timed_put, timer);

	put->hard = in_hardirq();
	put->soft = in_serving_softirq();
	folio_put(put->folio);
	complete(&put->done);
	return HRTIMER_NORESTART;
}

static void run_timed_put(struct kunit *test, struct timed_put *put, enum hrtimer_mode mode)
{
	put->folio = pinned_folio(test);
	init_completion(&put->done);
	hrtimer_setup_on_stack(&put->timer, put_from_timer, CLOCK_MONOTONIC, mode);
	hrtimer_start(&put->timer, ms_to_ktime(1), mode);
	wait_for_completion(&put->done);
	hrtimer_cancel(&put->timer);
	destroy_hrtimer_on_stack(&put->timer);
	expect_released(test, 1);
}

static void comes_back_from_softirq(struct kunit *test)
{
	struct timed_put put;

	run_timed_put(test, &put, HRTIMER_MODE_REL_SOFT);
	KUNIT_EXPECT_TRUE(test, put.soft);
}

static void comes_back_from_hardirq(struct kunit *test)
{
	struct timed_put put;

	run_timed_put(test, &put, HRTIMER_MODE_REL_HARD);
	KUNIT_EXPECT_TRUE(test, put.hard);
}

/* Folios that are buddy's are in the batch as well, and on the LRU some of them. */
static void comes_back_out_of_a_batch(struct kunit *test)
{
	struct folio_batch batch;
	unsigned int pinned = 0;

	folio_batch_init(&batch);
	do {
		struct folio *folio = fake_folio(test, 0);

		KUNIT_ASSERT_EQ(test, mem_cgroup_charge(folio, NULL, GFP_KERNEL), 0);
		if (pinned % 2)
			folio_add_lru(folio);
		folio_batch_add(&batch, folio);
		pinned++;
	} while (folio_batch_add(&batch, pinned_folio(test)) > 1);

	lru_add_drain_all();
	folios_put(&batch);
	expect_released(test, pinned);
}

/*
 * Someone took it off the LRU, to have it reclaimed say, while its file had it, and puts
 * it back when that is gone.
 */
static struct folio *isolated_folio(struct kunit *test)
{
	struct folio *folio = fake_folio(test, 0);

	KUNIT_ASSERT_EQ(test, mem_cgroup_charge(folio, NULL, GFP_KERNEL), 0);
	folio_add_lru(folio);
	lru_add_drain_all();
	KUNIT_ASSERT_TRUE(test, folio_isolate_lru(folio));
	guestmem_custody_take(&fake_pool(test)->custody, folio);
	folio_put(folio);
	return folio;
}

static void comes_back_from_its_way_to_the_lru(struct kunit *test)
{
	folio_putback_lru(isolated_folio(test));
	lru_add_drain_all();
	expect_released(test, 1);
}

static void is_not_evictable(struct kunit *test)
{
	struct folio *folio = isolated_folio(test);

	folio_get(folio);
	folio_putback_lru(folio);
	lru_add_drain_all();
	KUNIT_EXPECT_TRUE(test, folio_test_lru(folio));
	KUNIT_EXPECT_TRUE(test, folio_test_unevictable(folio));
	folio_put(folio);
	expect_released(test, 1);
}

/* Where to move it.  The pin goes just then: who moves it has all that is left. */
static struct folio *alloc_target(struct folio *src, unsigned long private)
{
	if (folio_ref_count(src) > 1)
		folio_put(src);
	return folio_alloc(GFP_KERNEL, 0);
}

/* To another node, say, by whoever took it off the LRU. */
static void does_not_move(struct kunit *test)
{
	struct folio *folio;
	LIST_HEAD(isolated);

	if (!IS_ENABLED(CONFIG_MIGRATION))
		kunit_skip(test, "CONFIG_MIGRATION is off");

	folio = isolated_folio(test);
	folio_get(folio);
	node_stat_mod_folio(folio, NR_ISOLATED_ANON + folio_is_file_lru(folio), 1);
	list_add(&folio->lru, &isolated);
	/* Not in sync: that has a second try, where a single reference is as good as none. */
	KUNIT_EXPECT_GT(test, migrate_pages(&isolated, alloc_target, NULL, 0, MIGRATE_ASYNC,
					    MR_SYSCALL, NULL), 0);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	KUNIT_EXPECT_PTR_EQ(test, folio->private, &fake_pool(test)->custody);
	putback_movable_pages(&isolated);
	lru_add_drain_all();
	expect_released(test, 1);
}

/*
 * Many
 */

#define MANY		1000
#define MANY_THREADS	4

/**
 * struct many_puts - a part of many references, dropped by a thread
 * @thread: who.
 * @folios: what.
 */
struct many_puts {
	struct gmt_thread thread;
	struct folio **folios;
};

static void put_many(void *arg)
{
	struct many_puts *puts = arg;

	for (int i = 0; i < MANY; i++)
		folio_put(puts->folios[i]);
}

static void many_come_back_at_once(struct kunit *test)
{
	struct many_puts *puts;

	puts = kunit_kcalloc(test, MANY_THREADS, sizeof(*puts), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, puts);
	for (int i = 0; i < MANY_THREADS; i++) {
		puts[i].thread.fn = put_many;
		puts[i].thread.arg = &puts[i];
		puts[i].folios = kunit_kcalloc(test, MANY, sizeof(*puts[i].folios), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, puts[i].folios);
		for (int j = 0; j < MANY; j++)
			puts[i].folios[j] = pinned_folio(test);
	}

	for (int i = 0; i < MANY_THREADS; i++)
		gmt_start(test, &puts[i].thread);
	for (int i = 0; i < MANY_THREADS; i++)
		gmt_join(test, &puts[i].thread);
	expect_released(test, MANY_THREADS * MANY);
}

static void goes_round_and_round(struct kunit *test)
{
	struct fake_pool *pool = fake_pool(test);
	struct folio *folio = fake_folio(test, 0);

	pool->keep = true;
	for (unsigned int i = 1; i <= 100; i++) {
		guestmem_custody_take(&pool->custody, folio);
		folio_put(folio);
		expect_released(test, i);
		KUNIT_EXPECT_PTR_EQ(test, pool->last, folio);
	}
	folio_put(folio);
}

/*
 * As what it comes back: fake_release() looks at each
 */

static void comes_back_without_flags(struct kunit *test)
{
	struct folio *folio = pinned_folio(test);

	folio_set_referenced(folio);
	folio_set_dirty(folio);
	folio_mark_uptodate(folio);
	folio_set_workingset(folio);
	folio_set_active(folio);
	folio_put(folio);
	expect_released(test, 1);
}

static unsigned long mlocked_pages(struct folio *folio)
{
	return zone_page_state_snapshot(folio_zone(folio), NR_MLOCK);
}

static void mlock_ends_with_the_last_pin(struct kunit *test)
{
	struct folio *folio = pinned_folio(test);
	unsigned long mlocked = mlocked_pages(folio);

	folio_set_mlocked(folio);
	zone_stat_mod_folio(folio, NR_MLOCK, 1);
	folio_put(folio);
	expect_released(test, 1);
	KUNIT_EXPECT_EQ(test, mlocked_pages(folio), mlocked);
}

static void comes_back_uncharged(struct kunit *test)
{
	struct folio *folio = pinned_folio(test);

	KUNIT_ASSERT_EQ(test, mem_cgroup_charge(folio, NULL, GFP_KERNEL), 0);
	folio_put(folio);
	expect_released(test, 1);
}

static void large_folio_stays_one(struct kunit *test)
{
	struct fake_pool *pool = fake_pool(test);
	struct folio *folio = fake_folio(test, 3);

	pool->keep = true;
	guestmem_custody_take(&pool->custody, folio);
	folio_put(folio);
	expect_released(test, 1);
	KUNIT_EXPECT_PTR_EQ(test, pool->last, folio);
	KUNIT_EXPECT_EQ(test, folio_order(folio), 3);
	folio_put(folio);
}

static void poison_is_not_forgotten(struct kunit *test)
{
	struct fake_pool *pool = fake_pool(test);
	struct folio *folio;

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "CONFIG_MEMORY_FAILURE is off");

	folio = pinned_folio(test);
	pool->keep = true;
	SetPageHWPoison(folio_page(folio, 0));
	folio_put(folio);
	expect_released(test, 1);
	KUNIT_EXPECT_TRUE(test, folio_test_hwpoison(folio));

	ClearPageHWPoison(folio_page(folio, 0));
	folio_put(folio);
}

/* Though it may be on the LRU again, where whoever had isolated it has put it. */
static void memory_failure_keeps_no_reference(struct kunit *test)
{
	struct folio *folio;
	unsigned long pfn;

	if (!IS_ENABLED(CONFIG_MEMORY_FAILURE))
		kunit_skip(test, "CONFIG_MEMORY_FAILURE is off");

	folio = isolated_folio(test);
	pfn = folio_pfn(folio);
	folio_get(folio);
	folio_putback_lru(folio);
	lru_add_drain_all();
	KUNIT_EXPECT_TRUE(test, folio_test_lru(folio));
	KUNIT_EXPECT_NE(test, memory_failure(pfn, MF_SW_SIMULATED), 0);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(pfn_to_page(pfn)));
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);

	ClearPageHWPoison(pfn_to_page(pfn));
	num_poisoned_pages_sub(pfn, 1);
	folio_put(folio);
	expect_released(test, 1);
}

/*
 * The module
 */

#ifdef CONFIG_MODULE_UNLOAD
static void every_folio_pins_the_module(struct kunit *test)
{
	struct fake_pool *pool = fake_pool(test);
	struct folio *first, *second;
	struct module *module;

	/* No more than its counter is looked at. */
	module = kunit_kzalloc(test, sizeof(*module), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, module);
	atomic_set(&module->refcnt, 1);
	pool->custody.owner = module;

	first = pinned_folio(test);
	second = pinned_folio(test);
	KUNIT_EXPECT_EQ(test, module_refcount(module), 2);
	folio_put(second);
	expect_released(test, 1);
	KUNIT_EXPECT_EQ(test, module_refcount(module), 1);
	folio_put(first);
	expect_released(test, 2);
	KUNIT_EXPECT_EQ(test, module_refcount(module), 0);
}
#else
static void every_folio_pins_the_module(struct kunit *test)
{
	kunit_skip(test, "modules cannot be unloaded");
}
#endif

static struct kunit_case custody_cases[] = {
	KUNIT_CASE(comes_back_without_a_pin),
	KUNIT_CASE(stays_while_it_is_pinned),
	KUNIT_CASE(comes_back_from_softirq),
	KUNIT_CASE(comes_back_from_hardirq),
	KUNIT_CASE(comes_back_out_of_a_batch),
	KUNIT_CASE(comes_back_from_its_way_to_the_lru),
	KUNIT_CASE(is_not_evictable),
	KUNIT_CASE(does_not_move),
	KUNIT_CASE(many_come_back_at_once),
	KUNIT_CASE(goes_round_and_round),
	KUNIT_CASE(comes_back_without_flags),
	KUNIT_CASE(mlock_ends_with_the_last_pin),
	KUNIT_CASE(comes_back_uncharged),
	KUNIT_CASE(large_folio_stays_one),
	KUNIT_CASE(poison_is_not_forgotten),
	KUNIT_CASE(memory_failure_keeps_no_reference),
	KUNIT_CASE(every_folio_pins_the_module),
	{}
};

static struct kunit_suite custody_suite = {
	.name = "guestmem_custody",
	.init = custody_init,
	.exit = custody_exit,
	.test_cases = custody_cases,
};

kunit_test_suite(custody_suite);
