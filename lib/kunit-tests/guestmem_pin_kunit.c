// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unexpected references: what they refuse, and what they must not
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>
#include <linux/swap.h>

#include "../../mm/internal.h"
#include "guestmem_test_lib.h"

/* Refused at @pinned, with nothing done in any block. */
static void expect_refusal(struct kunit *test, enum guestmem_target target,
			   pgoff_t start, pgoff_t pinned)
{
	pgoff_t first = round_down(pinned, gmt_folio_pages(test));
	pgoff_t pages = gmt(test)->allocator->pages;
	pgoff_t err_index = 77;

	gmt_oppose(test, target);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, target, start, pages, &err_index),
			-EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, max(first, start));
	gmt_expect_judged(test, target, start, pages);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

static void pin_refuses_private(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;

	gmt_allocate_all(test);
	for (pgoff_t index = 1; index < pages; index++) {
		struct folio *folio = gmt_get(test, index);

		folio_get(folio);
		expect_refusal(test, GUESTMEM_PRIVATE, 1, index);
		folio_put(folio);
	}

	gmt_oppose(test, GUESTMEM_PRIVATE);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 1, pages, NULL), 0);
	gmt_expect_done(test, GUESTMEM_PRIVATE, 1, pages);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_pages_rounded(test));
}

/* An allocator that has blocks does not give away what someone still uses. */
static void pin_refuses_hole(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);
	pgoff_t pages = gmt(test)->allocator->pages;
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, pages - 1);
	folio_get(folio);
	expect_refusal(test, GUESTMEM_ABSENT, 0, pages - 1);
	folio_put(folio);

	KUNIT_EXPECT_EQ(test, gmt_punch(test, unit, pages), 0);
}

static void lowest_pin_is_reported(struct kunit *test)
{
	pgoff_t last = gmt(test)->allocator->pages - 1;
	struct folio *high, *low;

	gmt_allocate_all(test);
	high = gmt_get(test, last);
	low = gmt_get(test, last - gmt_folio_pages(test));
	folio_get(high);
	folio_get(low);
	expect_refusal(test, GUESTMEM_PRIVATE, 0, last - gmt_folio_pages(test));
	folio_put(low);
	expect_refusal(test, GUESTMEM_PRIVATE, 0, last);
	folio_put(high);
}

/* The start of a request may lie inside of a folio. */
static void refusal_is_inside_the_request(struct kunit *test)
{
	pgoff_t inside = gmt_folio_pages(test) / 2;
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, 0);
	folio_get(folio);
	expect_refusal(test, GUESTMEM_PRIVATE, inside, inside);
	folio_put(folio);
}

static void pin_outside_does_not_matter(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *before, *after;

	gmt_allocate_all(test);
	before = gmt_get(test, 0);
	after = gmt_get(test, 2 * unit);
	folio_get(before);
	folio_get(after);

	gmt_oppose(test, GUESTMEM_PRIVATE);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, unit, 2 * unit,
					 NULL), 0);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, unit, 2 * unit), 0);
	folio_put(before);
	folio_put(after);
}

/* Such a page is private, and stays so: nothing is asked of it. */
static void pin_of_a_page_that_stays_does_not_matter(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, unit);
	folio_get(folio);
	gmt_oppose(test, GUESTMEM_PRIVATE);
	folio_put(folio);
	KUNIT_ASSERT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, unit, 2 * unit,
					 NULL), 0);
	folio_get(folio);
	gmt_log_clear(test);

	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, pages, NULL), 0);
	gmt_expect_done(test, GUESTMEM_PRIVATE, 0, pages);
	folio_put(folio);
}

/* A page of the same folio changes, further on than where the folio begins. */
static void refusal_names_a_page_that_changes(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	pgoff_t unit = gmt_folio_pages(test);
	pgoff_t changes = 2 * unit - 1;
	pgoff_t err_index = 77;
	struct folio *folio;

	gmt_allocate_all(test);
	gmt_oppose(test, GUESTMEM_SHARED);
	folio = gmt_get(test, unit);
	folio_get(folio);
	KUNIT_ASSERT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, changes, pages, NULL),
			0);
	gmt_log_clear(test);

	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, pages, &err_index),
			-EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, changes);
	gmt_expect_judged(test, GUESTMEM_PRIVATE, 0, pages);
	folio_put(folio);
}

/* Sharing gives the host more than it had: who holds a page may keep it. */
static void pin_does_not_refuse_shared(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, 0);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, pages, NULL), 0);
	gmt_expect_done(test, GUESTMEM_SHARED, 0, pages);
	folio_put(folio);
}

/* References that come up while a change is under way. */
static void pin_last_page(struct guestmem_change *c, const char *phase)
{
	struct folio **pinned = mock.data;

	if (*pinned || strcmp(phase, "commit"))
		return;

	*pinned = filemap_get_folio(c->gi->mapping, c->end - 1);
	mock_expect(!IS_ERR(*pinned), "nothing to pin");
}

static void late_pin_stops_before_its_block(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct folio *pinned = NULL;
	pgoff_t err_index = 77;
	unsigned int steps;

	gmt_allocate_all(test);
	gmt_oppose(test, GUESTMEM_PRIVATE);
	steps = gmt_nr_steps(test, GUESTMEM_PRIVATE, 0, pages);
	if (steps < 2)
		return;

	mock.data = &pinned;
	mock.on_phase = pin_last_page;
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, pages, &err_index),
			-EAGAIN);
	mock.on_phase = NULL;
	KUNIT_EXPECT_EQ(test, err_index, pinned->index);
	gmt_expect_refused(test, GUESTMEM_PRIVATE, 0, pages, steps - 1);
	folio_put(pinned);

	/* Whoever repeats the same range comes to the end. */
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, pages, NULL), 0);
}

/*
 * References on their way out
 */

/* Someone who holds a page for a while. */
struct holder {
	struct folio *folio;
	unsigned int ms;
	struct gmt_thread thread;
};

static void hold_for_a_while(void *arg)
{
	struct holder *holder = arg;

	msleep(holder->ms);
	folio_put(holder->folio);
}

static int share_while_held(struct kunit *test, void (*hold)(void *arg))
{
	struct holder holder = { .ms = 30, .thread.fn = hold };
	int err;

	gmt_log_clear(test);
	lru_add_drain_all();
	holder.folio = gmt_get(test, 1);
	folio_get(holder.folio);
	holder.thread.arg = &holder;
	gmt_start(test, &holder.thread);
	err = gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, gmt(test)->allocator->pages, NULL);
	gmt_join(test, &holder.thread);
	return err;
}

/* On a busy machine the wait may be over before the holder has its turn, but not each time. */
static void expect_shared_after_hold(struct kunit *test, void (*hold)(void *arg))
{
	int err, tries = 10;

	do {
		err = share_while_held(test, hold);
	} while (err == -EAGAIN && --tries);
	KUNIT_EXPECT_EQ(test, err, 0);
	gmt_expect_done(test, GUESTMEM_SHARED, 0, gmt(test)->allocator->pages);
}

/* An allocator that cannot share a page in use waits for whoever is about to go. */
static void shared_waits_for_a_passing_reference(struct kunit *test)
{
	gmt_allocate_all(test);
	mock.patient = true;
	expect_shared_after_hold(test, hold_for_a_while);
}

static void shared_does_not_wait_for_ever(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	unsigned long begun = jiffies;
	pgoff_t err_index = 77;
	struct folio *folio;

	gmt_allocate_all(test);
	mock.patient = true;
	folio = gmt_get(test, 1);
	folio_get(folio);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 1, pages, &err_index),
			-EAGAIN);
	KUNIT_EXPECT_GE(test, jiffies_to_msecs(jiffies - begun), 100);
	KUNIT_EXPECT_EQ(test, err_index, 1);
	gmt_expect_judged(test, GUESTMEM_SHARED, 1, pages);
	folio_put(folio);
}

static void interrupt_after_a_while(void *arg)
{
	struct task_struct *task = arg;

	msleep(20);
	set_tsk_thread_flag(task, TIF_SIGPENDING);
}

/* How long a change with a reference in its way takes that a signal is to stop. */
static unsigned int wait_with_signals(struct kunit *test)
{
	struct gmt_thread thread = { .fn = interrupt_after_a_while, .arg = current };
	pgoff_t pages = gmt(test)->allocator->pages;
	unsigned long begun = jiffies;
	int err;

	/* A signal that was there before, and one that comes. */
	gmt_signal();
	err = gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, pages, NULL);
	gmt_signal_clear();
	KUNIT_EXPECT_EQ(test, err, -EAGAIN);

	gmt_start(test, &thread);
	err = gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0, pages, NULL);
	gmt_join(test, &thread);
	gmt_signal_clear();
	KUNIT_EXPECT_EQ(test, err, -EAGAIN);
	return jiffies_to_msecs(jiffies - begun);
}

/* On a busy machine it may take long all the same, but not each time. */
static void signal_ends_the_wait(struct kunit *test)
{
	struct folio *folio;
	int tries = 10;

	gmt_allocate_all(test);
	mock.patient = true;
	folio = gmt_get(test, 1);
	folio_get(folio);
	while (wait_with_signals(test) >= 100 && --tries)
		;
	KUNIT_EXPECT_NE(test, tries, 0);
	folio_put(folio);
}

static void call_for_another(struct guestmem_change *c, const char *phase)
{
	set_tsk_need_resched(current);
}

/* Whoever gives way while looking for pins has to go on right behind. */
static void gives_way_and_misses_none(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *folio;

	gmt_allocate_all(test);
	folio = gmt_get(test, unit);
	folio_get(folio);
	gmt_oppose(test, GUESTMEM_PRIVATE);
	mock.on_phase = call_for_another;
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, unit - 1, unit + 1,
					 NULL), -EAGAIN);
	gmt_expect_judged(test, GUESTMEM_PRIVATE, unit - 1, unit + 1);
	mock.on_phase = NULL;
	folio_put(folio);
}

/*
 * The LRU's batches
 */

/* A folio that was just allocated is still in a batch, which holds it. */
static void batch_is_no_pin(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;

	gmt_oppose(test, GUESTMEM_PRIVATE);
	lru_add_drain_all();
	gmt_allocate_all(test);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, pages, NULL), 0);
	gmt_expect_done(test, GUESTMEM_PRIVATE, 0, pages);
}

struct remote {
	struct guestmem_inode *gi;
	int err;
};

static void allocate_remotely(void *arg)
{
	struct remote *remote = arg;

	remote->err = guestmem_allocate(remote->gi, 0, 1);
}

static int other_cpu(void)
{
	int cpu;

	for_each_online_cpu(cpu)
		if (cpu != raw_smp_processor_id())
			return cpu;
	return -1;
}

static void batch_of_another_cpu_is_no_pin(struct kunit *test)
{
	static const struct gmt_allocator page4k = { .pages = 1 };
	struct remote remote = {};
	struct gmt_thread thread = { .fn = allocate_remotely, .arg = &remote };

	if (other_cpu() < 0)
		kunit_skip(test, "there is only one CPU");

	remote.gi = gmt_open(&page4k, page4k.pages, true);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, remote.gi);
	gmt(test)->gi = remote.gi;
	lru_add_drain_all();
	thread.cpu = other_cpu() + 1;
	gmt_start(test, &thread);
	if (!gmt_join(test, &thread))
		return;

	KUNIT_EXPECT_EQ(test, remote.err, 0);
	KUNIT_EXPECT_EQ(test, gmt_change(remote.gi, GUESTMEM_PRIVATE, 0, 1, NULL), 0);
}

static void hold_and_leave_in_a_batch(void *arg)
{
	struct holder *holder = arg;

	msleep(holder->ms);
	if (mock_expect(folio_isolate_lru(holder->folio), "not on the LRU"))
		folio_putback_lru(holder->folio);
	folio_put(holder->folio);
}

/* One that was filled while the change waited, after it had drained them all. */
static void late_batch_is_no_pin(struct kunit *test)
{
	/* On the LRU, and so in no batch: the others never are. */
	gmt_allocate_all(test);
	if (gmt(test)->allocator->charged)
		return;

	mock.patient = true;
	expect_shared_after_hold(test, hold_and_leave_in_a_batch);
}

static struct kunit_case pin_cases[] = {
	KUNIT_CASE_PARAM(pin_refuses_private, gmt_all_gen_params),
	KUNIT_CASE_PARAM(pin_refuses_hole, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(lowest_pin_is_reported, gmt_all_gen_params),
	KUNIT_CASE_PARAM(refusal_is_inside_the_request, gmt_all_gen_params),
	KUNIT_CASE_PARAM(pin_outside_does_not_matter, gmt_all_gen_params),
	KUNIT_CASE_PARAM(pin_of_a_page_that_stays_does_not_matter, gmt_all_gen_params),
	KUNIT_CASE_PARAM(refusal_names_a_page_that_changes, gmt_all_gen_params),
	KUNIT_CASE_PARAM(pin_does_not_refuse_shared, gmt_all_gen_params),
	KUNIT_CASE_PARAM(late_pin_stops_before_its_block, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(shared_waits_for_a_passing_reference, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(shared_does_not_wait_for_ever, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(signal_ends_the_wait, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(gives_way_and_misses_none, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(batch_is_no_pin, gmt_whole_gen_params),
	KUNIT_CASE(batch_of_another_cpu_is_no_pin),
	KUNIT_CASE_PARAM(late_batch_is_no_pin, gmt_mock_gen_params),
	{}
};

static struct kunit_suite pin_suite = {
	.name = "guestmem_pin",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = pin_cases,
};

kunit_test_suite(pin_suite);
