// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the suites of guestmem share
 */
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/initrd.h>
#include <linux/kthread.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "guestmem_test_lib.h"

/*
 * The allocators
 */

/*
 * name, selector, unit_log2, pages, then block, punch, map, folio order, charged, mock,
 * pool, whole
 */
static const struct gmt_allocator gmt_allocators[] = {
	{ "page4k", 0, 0, 17, 0, 0, 0, 0, false, false },
	{ "mock 0", MOCK_SELECTOR, PAGE_SHIFT + 0, 17, 0, 0, 0, 0, false, true },
	{ "mock 3", MOCK_SELECTOR, PAGE_SHIFT + 3, 27, 3, 3, 2, 3, false, true },
	{ "mock 5 over 2", MOCK_SELECTOR, PAGE_SHIFT + 5, 71, 5, 2, 2, 2, false, true },
	{ "mock 0 charged", MOCK_SELECTOR_CHARGED, PAGE_SHIFT + 0, 17, 0, 0, 0, 0, true, true },
	{ "mock 3 charged", MOCK_SELECTOR_CHARGED, PAGE_SHIFT + 3, 27, 3, 3, 2, 3, true, true },
	{ "mock 5 over 2 charged", MOCK_SELECTOR_CHARGED, PAGE_SHIFT + 5, 71,
	  5, 2, 2, 2, true, true },
	{ "sample", BIT_ULL(24), 0, 17, 0, 0, 0, 0, true, false, true },
	{ "hugetlb 2M", BIT_ULL(3), 21, 3 * 512 + 3, 9, 9, 9, 9, true, false, true, true },
};

KUNIT_ARRAY_PARAM_DESC(gmt_array, gmt_allocators, name);

/* Huge pages have to be there. */
static bool gmt_has_pages(const struct gmt_allocator *allocator)
{
	struct guestmem_inode *gi = gmt_open(allocator, allocator->pages, false);

	if (IS_ERR(gi))
		return false;

	mock_close(gi);
	return true;
}

/* The mock is registered by each test, others when their module is loaded. */
static bool gmt_available(const struct gmt_allocator *allocator)
{
	if (allocator->mock || !allocator->selector)
		return true;

	return guestmem_selectors() & allocator->selector &&
	       (!allocator->whole || gmt_has_pages(allocator));
}

const void *gmt_whole_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator;

	do {
		allocator = gmt_array_gen_params(test, prev, desc);
		prev = allocator;
	} while (allocator && !gmt_available(allocator));

	return allocator;
}

const void *gmt_all_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator;

	do {
		allocator = gmt_whole_gen_params(test, prev, desc);
		prev = allocator;
	} while (allocator && allocator->whole);

	return allocator;
}

const void *gmt_mock_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator;

	do {
		allocator = gmt_array_gen_params(test, prev, desc);
		prev = allocator;
	} while (allocator && !allocator->mock);

	return allocator;
}

/*
 * The fixture
 */

int gmt_suite_init(struct kunit_suite *suite)
{
	/* It fills the page cache as well. */
	wait_for_initramfs();
	return mock_client_start();
}

void gmt_suite_exit(struct kunit_suite *suite)
{
	mock_client_stop();
}

struct guestmem_inode *gmt_open(const struct gmt_allocator *allocator,
				pgoff_t pages, bool shared)
{
	const struct guestmem_inode_args args = {
		.selector = allocator->selector,
		.unit_log2 = allocator->unit_log2,
		.size = (loff_t)pages << PAGE_SHIFT,
		.init_shared = shared,
		.mappable = !allocator->whole,
		.convertible = true,
	};

	return mock_open(&args);
}

int gmt_init(struct kunit *test)
{
	struct gmt *fixture;
	int err;

	fixture = kunit_kzalloc(test, sizeof(*fixture), GFP_KERNEL);
	if (!fixture)
		return -ENOMEM;

	err = mock_register();
	if (err)
		return err;

	mock_breaches();
	fixture->file_pages = gmt_counted(NR_FILE_PAGES);
	test->priv = fixture;
	return 0;
}

/* A test without a parameter opens what it needs. */
int gmt_init_file(struct kunit *test)
{
	const struct gmt_allocator *allocator = test->param_value;
	int err;

	err = gmt_init(test);
	if (err || !allocator)
		return err;

	gmt(test)->allocator = allocator;
	gmt(test)->gi = gmt_open(allocator, allocator->pages, false);
	if (IS_ERR(gmt(test)->gi))
		return PTR_ERR(gmt(test)->gi);

	gmt_log_clear(test);
	return 0;
}

/* The file of the fixture goes; its gi is NULL from here on. */
void gmt_close(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;

	gmt(test)->gi = NULL;
	if (IS_ERR_OR_NULL(gi))
		return;

	KUNIT_EXPECT_FALSE_MSG(test, rwsem_is_locked(&gi->mapping->invalidate_lock),
			       "invalidate_lock is still held");
	mock_close(gi);
}

void gmt_reopen_shared(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;

	gmt_close(test);
	gmt(test)->gi = gmt_open(allocator, allocator->pages, true);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	gmt_log_clear(test);
}

void gmt_exit(struct kunit *test)
{
	if (!test->priv)
		return;

	guestmem_flush_poison();
	gmt_close(test);
	guestmem_custody_flush();
	mock_unregister();

	KUNIT_EXPECT_EQ(test, mock_breaches(), 0);
	KUNIT_EXPECT_EQ_MSG(test, mock_client_inodes(), 0, "files were not evicted");
	KUNIT_EXPECT_EQ_MSG(test, atomic_read(&mock.inodes), 0, "inode_teardown was not called");
	KUNIT_EXPECT_EQ_MSG(test, atomic_read(&mock.plans), 0, "a plan was not given back");
	KUNIT_EXPECT_EQ_MSG(test, mock_nr_pages(), 0, "free_folio was not called");
	KUNIT_EXPECT_EQ_MSG(test, guestmem_selectors() & (MOCK_SELECTOR | MOCK_SELECTOR_CHARGED |
						    MOCK_SELECTOR_PIECES),
			    0, "an allocator is still in use");
	KUNIT_EXPECT_EQ_MSG(test, gmt_counted(NR_FILE_PAGES), gmt(test)->file_pages,
			    "NR_FILE_PAGES");
}

/*
 * The core, under the lock it wants
 */

/* As guestmem_get_folio(). */
struct folio *gmt_get_locked(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio *folio;

	filemap_invalidate_lock_shared(gi->mapping);
	folio = guestmem_get_folio(gi, index);
	filemap_invalidate_unlock_shared(gi->mapping);
	return folio;
}

/* Zeroed; unlocked and without a reference: the page cache keeps it. */
struct folio *gmt_get(struct kunit *test, pgoff_t index)
{
	struct folio *folio = gmt_get_locked(gmt(test)->gi, index);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	guestmem_zero_folio(folio);
	folio_unlock(folio);
	folio_put(folio);
	return folio;
}

int gmt_map_order(struct kunit *test, pgoff_t index)
{
	struct guestmem_inode *gi = gmt(test)->gi;
	struct folio *folio;
	int order;

	guard(rwsem_read)(&gi->mapping->invalidate_lock);
	folio = guestmem_get_folio(gi, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	order = guestmem_map_order(gi, folio, index);
	folio_unlock(folio);
	folio_put(folio);
	return order;
}

void gmt_allocate_all(struct kunit *test)
{
	struct guestmem_inode *gi = gmt(test)->gi;

	KUNIT_ASSERT_EQ(test, guestmem_allocate(gi, 0, gmt(test)->allocator->pages), 0);
}

/* @err_index is what it was if the change did not set it. */
int gmt_change(struct guestmem_inode *gi, enum guestmem_target target,
	       pgoff_t start, pgoff_t end, pgoff_t *err_index)
{
	struct guestmem_change change = {
		.gi = gi,
		.target = target,
		.start = start,
		.end = end,
		.err_index = err_index ? *err_index : 0,
		/* Not the caller's to set. */
		.step = { .start = 0x5555, .end = 0xaaaa },
		.plan = (void *)0x5555,
	};
	int err;

	err = guestmem_change(&change);
	if (err_index)
		*err_index = change.err_index;
	return err;
}

int gmt_punch(struct kunit *test, pgoff_t start, pgoff_t end)
{
	return gmt_change(gmt(test)->gi, GUESTMEM_ABSENT, start, end, NULL);
}

/* All pages have the other state than the target of the change to come. */
void gmt_oppose(struct kunit *test, enum guestmem_target target)
{
	enum guestmem_target other = target == GUESTMEM_PRIVATE ? GUESTMEM_SHARED :
								  GUESTMEM_PRIVATE;

	KUNIT_ASSERT_EQ(test, gmt_change(gmt(test)->gi, other, 0, gmt(test)->allocator->pages,
					 NULL), 0);
	gmt_log_clear(test);
}

/* Bit after bit of @pattern, again and again: the page is shared. */
void gmt_share_by(struct kunit *test, u8 pattern)
{
	struct guestmem_inode *gi = gmt(test)->gi;

	gmt_oppose(test, GUESTMEM_SHARED);
	for (pgoff_t index = 0; index < gmt(test)->allocator->pages; index++) {
		if (!(pattern & BIT(index % 8)))
			continue;

		KUNIT_ASSERT_EQ(test, gmt_change(gi, GUESTMEM_SHARED, index, index + 1, NULL), 0);
		/* It does not hold all of them. */
		mock_log_clear(&mock_inode(gi)->phases);
	}
	gmt_log_clear(test);
}

/*
 * What is there
 */

bool gmt_present(struct guestmem_inode *gi, pgoff_t index)
{
	return xa_load(&gi->mapping->i_pages, index);
}

pgoff_t gmt_folio_pages(struct kunit *test)
{
	return 1UL << gmt(test)->allocator->folio_order;
}

/* Pages that the file has when all of it is allocated. */
pgoff_t gmt_pages_rounded(struct kunit *test)
{
	return round_up(gmt(test)->allocator->pages, gmt_folio_pages(test));
}

void gmt_fill(struct folio *folio, u8 byte)
{
	for (long i = 0; i < folio_nr_pages(folio); i++) {
		void *page = kmap_local_folio(folio, i * PAGE_SIZE);

		memset(page, byte, PAGE_SIZE);
		kunmap_local(page);
	}
}

bool gmt_filled(struct folio *folio, u8 byte)
{
	bool filled = true;

	for (long i = 0; filled && i < folio_nr_pages(folio); i++) {
		void *page = kmap_local_folio(folio, i * PAGE_SIZE);

		filled = !memchr_inv(page, byte, PAGE_SIZE);
		kunmap_local(page);
	}
	return filled;
}

/* What the CPUs have counted and not yet passed on. */
static long gmt_pending(pg_data_t *node, enum node_stat_item item)
{
	long pages = 0;
#ifdef CONFIG_SMP
	int cpu;

	for_each_online_cpu(cpu)
		pages += per_cpu_ptr(node->per_cpu_nodestats, cpu)
				->vm_node_stat_diff[item];
#endif
	return pages;
}

static long gmt_count(enum node_stat_item item)
{
	long pages = 0;
	pg_data_t *node;

	for_each_online_pgdat(node)
		pages += atomic_long_read(&node->vm_stat[item]) + gmt_pending(node, item);
	return pages;
}

/* Exact, unlike global_node_page_state(): but a look misses what a CPU just passes on. */
long gmt_counted(enum node_stat_item item)
{
	long before, pages = gmt_count(item);

	do {
		before = pages;
		pages = gmt_count(item);
	} while (pages != before);
	return pages;
}

/*
 * Signals and threads
 */

void gmt_signal(void)
{
	set_thread_flag(TIF_SIGPENDING);
}

/* A signal that kills. */
void gmt_kill(void)
{
	sigaddset(&current->pending.signal, SIGKILL);
	gmt_signal();
}

void gmt_signal_clear(void)
{
	sigdelset(&current->pending.signal, SIGKILL);
	clear_thread_flag(TIF_SIGPENDING);
}

static int gmt_thread_fn(void *data)
{
	struct gmt_thread *thread = data;

	WRITE_ONCE(thread->started, true);
	thread->fn(thread->arg);
	complete(&thread->done);
	return 0;
}

void gmt_start(struct kunit *test, struct gmt_thread *thread)
{
	init_completion(&thread->done);
	thread->started = false;
	thread->task = kthread_create(gmt_thread_fn, thread, "guestmem-test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, thread->task);
	get_task_struct(thread->task);
	if (thread->cpu)
		kthread_bind(thread->task, thread->cpu - 1);
	wake_up_process(thread->task);
}

/* Waits until the thread sleeps for a lock, or is done; true for the former. */
bool gmt_blocked(struct gmt_thread *thread)
{
	unsigned long timeout = jiffies + GMT_TIMEOUT;

	while (time_before(jiffies, timeout)) {
		if (completion_done(&thread->done))
			return false;
		if (READ_ONCE(thread->started) &&
		    READ_ONCE(thread->task->__state) == TASK_UNINTERRUPTIBLE)
			return true;
		schedule_timeout_uninterruptible(1);
	}
	return false;
}

/* A thread that only passes by may sleep for a moment, too. */
bool gmt_stays_blocked(struct gmt_thread *thread)
{
	if (!gmt_blocked(thread))
		return false;

	msleep(50);
	return !completion_done(&thread->done);
}

/* False, and a failure of the test, if the thread does not come to its end. */
bool gmt_join(struct kunit *test, struct gmt_thread *thread)
{
	bool done = wait_for_completion_timeout(&thread->done, GMT_TIMEOUT);

	KUNIT_EXPECT_TRUE_MSG(test, done, "a thread hangs");
	if (done)
		kthread_stop_put(thread->task);
	return done;
}
