// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several threads in one file: one folio, nothing lost, no passing failures
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>
#include <linux/swap.h>

#include "guestmem_test_lib.h"

/* A thread that wants a page. */
struct getter {
	struct guestmem_inode *gi;
	pgoff_t index;
	struct folio *folio;
	struct gmt_thread thread;
};

static void get_page_of(void *arg)
{
	struct getter *getter = arg;

	getter->folio = gmt_get_locked(getter->gi, getter->index);
	if (IS_ERR(getter->folio))
		return;

	guestmem_zero_folio(getter->folio);
	folio_unlock(getter->folio);
	folio_put(getter->folio);
}

static void start_getter(struct kunit *test, struct getter *getter, pgoff_t index)
{
	getter->gi = gmt(test)->gi;
	getter->index = index;
	getter->thread.fn = get_page_of;
	getter->thread.arg = getter;
	gmt_start(test, &getter->thread);
}

/*
 * The first thread is stopped inside alloc_folio while the second one comes.
 */

struct gate {
	atomic_t entered;
	struct completion inside;
	struct completion open;
};

static void first_waits(struct guestmem_inode *gi, pgoff_t index)
{
	struct gate *gate = mock.data;

	if (atomic_inc_return(&gate->entered) > 1)
		return;

	complete(&gate->inside);
	wait_for_completion(&gate->open);
}

/* Runs both, and tells whether the second had to wait for the first. */
static bool second_waits(struct kunit *test, struct getter *first, struct getter *second,
			 pgoff_t first_index, pgoff_t second_index)
{
	struct gate gate = {};
	bool waits;

	init_completion(&gate.inside);
	init_completion(&gate.open);
	mock.data = &gate;
	mock.on_alloc = first_waits;

	start_getter(test, first, first_index);
	wait_for_completion(&gate.inside);
	start_getter(test, second, second_index);
	waits = gmt_blocked(&second->thread);
	complete(&gate.open);
	gmt_join(test, &first->thread);
	gmt_join(test, &second->thread);
	mock.on_alloc = NULL;
	return waits;
}

static void two_threads_for_one_page(struct kunit *test)
{
	/* A pool may hold just one page for the two of them. */
	bool queue = gmt(test)->allocator->block_order || gmt(test)->allocator->charged;
	struct getter first = {}, second = {};

	KUNIT_EXPECT_EQ(test, second_waits(test, &first, &second, 1, 1), queue);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, first.folio);
	KUNIT_EXPECT_PTR_EQ(test, first.folio, second.folio);
	KUNIT_EXPECT_EQ(test, atomic_read(&mock.calls[MOCK_ALLOC]), queue ? 1 : 2);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), gmt_folio_pages(test));
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_folio_pages(test));
}

/* The last folio of the block, so not the same one if it has several. */
static void two_threads_for_one_block(struct kunit *test)
{
	pgoff_t last = (1UL << gmt(test)->allocator->block_order) - 1;
	bool same = last < gmt_folio_pages(test);
	struct getter first = {}, second = {};

	if (!last)
		return;

	KUNIT_EXPECT_TRUE(test, second_waits(test, &first, &second, 0, last));
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, first.folio);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, second.folio);
	KUNIT_EXPECT_EQ(test, first.folio == second.folio, same);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(),
			(same ? 1 : 2) * gmt_folio_pages(test));
}

/* The first thread fails, and the second does not suffer for it. */
static void failure_is_not_shared(struct kunit *test)
{
	struct getter first = {}, second = {};

	mock_fail(MOCK_ALLOC, 0, -ENOMEM);
	start_getter(test, &first, 1);
	start_getter(test, &second, 1);
	gmt_join(test, &first.thread);
	gmt_join(test, &second.thread);

	/* Whoever came first. */
	KUNIT_EXPECT_EQ(test, IS_ERR(first.folio) + IS_ERR(second.folio), 1);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), gmt_folio_pages(test));
}

/*
 * Insertion finds that the place is taken.
 */

static int insert_rival(struct guestmem_inode *gi, struct folio *folio, pgoff_t index)
{
	int err;

	if (gi->geo.insert == GUESTMEM_INSERT_LRU)
		return filemap_add_folio(gi->mapping, folio, index, GFP_KERNEL);

	__folio_set_locked(folio);
	err = __filemap_add_folio(gi->mapping, folio, index, GFP_KERNEL, NULL);
	if (err)
		__folio_clear_locked(folio);
	return err;
}

/* Called where the core believes that there is nothing at @index. */
static void rival_is_faster(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio **rival = mock.data;

	*rival = mock_new_folio(gi, gi->geo.punch_order);
	if (!mock_expect(!IS_ERR(*rival), "no memory for the rival"))
		return;

	index = round_down(index, folio_nr_pages(*rival));
	if (mock_expect(!insert_rival(gi, *rival, index), "the rival does not fit"))
		folio_unlock(*rival);
	folio_put(*rival);
	mock.on_alloc = NULL;
}

/* A reference to it shows whether anybody else has one. */
static void keep_loser(struct guestmem_inode *gi, struct folio *folio)
{
	struct folio **loser = mock.data;

	folio_get(folio);
	*loser = folio;
	mock.on_free = NULL;
}

static void keep_rival_and_loser(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio **rival_and_loser = mock.data;

	rival_is_faster(gi, index);
	mock.data = &rival_and_loser[1];
	mock.on_free = keep_loser;
}

static void loser_gives_its_folio_back(struct kunit *test)
{
	struct folio *rival_and_loser[2] = {};
	struct folio *folio, *loser;

	mock.data = rival_and_loser;
	mock.on_alloc = keep_rival_and_loser;
	folio = gmt_get(test, 3);
	mock.on_free = NULL;
	loser = rival_and_loser[1];

	KUNIT_EXPECT_PTR_EQ(test, folio, rival_and_loser[0]);
	KUNIT_EXPECT_EQ(test, mock_nr_pages(), gmt_folio_pages(test));
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, gmt_folio_pages(test));

	KUNIT_ASSERT_NOT_NULL_MSG(test, loser, "free_folio was not called");
	KUNIT_EXPECT_FALSE(test, folio_test_locked(loser));
	KUNIT_EXPECT_EQ_MSG(test, folio_ref_count(loser), 1, "the loser leaks");
	folio_put(loser);
}

/*
 * A long allocation and a change that waits for invalidate_lock
 */

static void takes_its_time(struct guestmem_inode *gi, pgoff_t index)
{
	struct completion *begun = mock.data;

	complete(begun);
	/* On a busy machine, others are late to queue. */
	msleep(index ? 20 : 200);
}

struct filler {
	struct guestmem_inode *gi;
	pgoff_t pages;
	int err;
};

static void fill_file(void *arg)
{
	struct filler *filler = arg;

	filler->err = guestmem_allocate(filler->gi, 0, filler->pages);
}

static unsigned long pages_at_prepare;

static void count_at_prepare(struct guestmem_change *c, const char *phase)
{
	if (!strcmp(phase, "prepare"))
		pages_at_prepare = c->gi->mapping->nrpages;
}

static void allocation_lets_others_pass(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(begun);
	struct filler filler = {
		.gi = gmt(test)->gi,
		.pages = gmt(test)->allocator->pages,
	};
	struct gmt_thread thread = { .fn = fill_file, .arg = &filler };

	mock.data = &begun;
	mock.on_alloc = takes_its_time;
	mock.on_phase = count_at_prepare;
	gmt_start(test, &thread);
	wait_for_completion(&begun);
	KUNIT_EXPECT_EQ(test, gmt_change(filler.gi, GUESTMEM_SHARED, 0, 1, NULL), 0);
	gmt_join(test, &thread);

	KUNIT_EXPECT_EQ(test, filler.err, 0);
	KUNIT_EXPECT_EQ(test, filler.gi->mapping->nrpages, gmt_pages_rounded(test));
	KUNIT_EXPECT_LT_MSG(test, pages_at_prepare, gmt_pages_rounded(test),
			    "the change had to wait for all of it");
}

/*
 * Without a gate, as often as not at the same time
 */

#define RACE_ROUNDS	20
#define RACE_PAGES	128

struct runner {
	struct guestmem_inode *gi;
	pgoff_t pages;
	bool backwards;
	bool *go;
	int err;
	struct folio *folios[RACE_PAGES];
	struct gmt_thread thread;
};

static void run_through_file(void *arg)
{
	struct runner *runner = arg;

	while (!READ_ONCE(*runner->go))
		cond_resched();

	for (pgoff_t i = 0; i < runner->pages; i++) {
		struct getter getter = {
			.gi = runner->gi,
			.index = runner->backwards ? runner->pages - 1 - i : i,
		};

		get_page_of(&getter);
		runner->folios[getter.index] = getter.folio;
		runner->err = runner->err ?: PTR_ERR_OR_ZERO(getter.folio);
	}
}

static void race_once(struct kunit *test, struct runner runners[2], bool backwards)
{
	bool go = false;

	for (int i = 0; i < 2; i++) {
		runners[i].gi = gmt(test)->gi;
		runners[i].pages = gmt(test)->allocator->pages;
		runners[i].backwards = backwards && i;
		runners[i].go = &go;
		runners[i].thread.fn = run_through_file;
		runners[i].thread.arg = &runners[i];
		gmt_start(test, &runners[i].thread);
	}
	WRITE_ONCE(go, true);
	for (int i = 0; i < 2; i++)
		gmt_join(test, &runners[i].thread);
}

static void two_threads_run_through_file(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct runner *runners;

	runners = kunit_kcalloc(test, 2, sizeof(*runners), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, runners);
	KUNIT_ASSERT_LE(test, pages, RACE_PAGES);

	for (int round = 0; round < RACE_ROUNDS; round++) {
		race_once(test, runners, round % 2);
		KUNIT_EXPECT_EQ(test, runners[0].err, 0);
		KUNIT_EXPECT_EQ(test, runners[1].err, 0);
		KUNIT_EXPECT_MEMEQ(test, runners[0].folios, runners[1].folios,
				   pages * sizeof(struct folio *));
		KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages,
				gmt_pages_rounded(test));
		/* Batches hold folios, and allocators with blocks look at that. */
		KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, pages), 0);
		gmt_log_clear(test);
	}
}

/* A hole is punched again and again under a thread that allocates. */
static void punch_against_allocation(struct kunit *test)
{
	bool may_refuse = gmt(test)->allocator->mock;
	pgoff_t pages = gmt(test)->allocator->pages;
	struct runner *runner;
	bool go = true;
	int err;

	runner = kunit_kzalloc(test, sizeof(*runner), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, runner);

	for (int round = 0; round < RACE_ROUNDS; round++) {
		*runner = (struct runner) {
			.gi = gmt(test)->gi, .pages = pages, .go = &go,
			.thread = { .fn = run_through_file, .arg = runner },
		};
		gmt_start(test, &runner->thread);
		while (!completion_done(&runner->thread.done)) {
			err = gmt_punch(test, 0, pages);
			/* The other thread holds a folio for a moment. */
			KUNIT_EXPECT_TRUE(test, !err || (may_refuse && err == -EAGAIN));
			gmt_log_clear(test);
			cond_resched();
		}
		gmt_join(test, &runner->thread);
		KUNIT_EXPECT_EQ(test, runner->err, 0);
	}
}

static struct kunit_case race_cases[] = {
	KUNIT_CASE_PARAM(two_threads_for_one_page, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(two_threads_for_one_block, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(failure_is_not_shared, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(loser_gives_its_folio_back, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(allocation_lets_others_pass, gmt_mock_gen_params),
	KUNIT_CASE_PARAM(two_threads_run_through_file, gmt_all_gen_params),
	KUNIT_CASE_PARAM(punch_against_allocation, gmt_all_gen_params),
	{}
};

static struct kunit_suite race_suite = {
	.name = "guestmem_race",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = gmt_init_file,
	.exit = gmt_exit,
	.test_cases = race_cases,
};

kunit_test_suite(race_suite);
