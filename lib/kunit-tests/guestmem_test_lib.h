/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the suites of guestmem share: the allocators to run against, a file to
 * run on, short ways to do common things, threads.  gmt_ is «guestmem test».
 */
#ifndef _GUESTMEM_TEST_LIB_H
#define _GUESTMEM_TEST_LIB_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/guestmem.h>

#include "guestmem_mock.h"

/**
 * struct gmt_allocator - an allocator, and what a file of it has to be like
 * @name: of the parameter.
 * @selector: for guestmem_inode_args.
 * @unit_log2: for guestmem_inode_args.
 * @pages: size of the file: some blocks and a bit.
 * @block_order: expected geometry.
 * @punch_order: expected geometry.
 * @map_order: expected geometry.
 * @folio_order: order of its folios; the last one may reach beyond the end.
 * @charged: folios are kept off the LRU.
 * @mock: it is the mock allocator.
 * @pool: its folios come from a pool, so to get one no page is allocated.
 * @whole: what changes are whole blocks, and those of many pages: only
 *	gmt_whole_gen_params() has it.
 */
struct gmt_allocator {
	const char *name;
	u64 selector;
	u8 unit_log2;
	pgoff_t pages;
	u8 block_order;
	u8 punch_order;
	u8 map_order;
	u8 folio_order;
	bool charged;
	bool mock;
	bool pool;
	bool whole;
};

/* No allocator's file has more pages; and none where parts of blocks may change. */
#define GMT_PAGES	2048
#define GMT_FEW_PAGES	128

/*
 * Parameters: every allocator that a test may go through page by page, those of
 * huge pages as well, or every kind of the mock.
 */
const void *gmt_all_gen_params(struct kunit *test, const void *prev, char *desc);
const void *gmt_whole_gen_params(struct kunit *test, const void *prev, char *desc);
const void *gmt_mock_gen_params(struct kunit *test, const void *prev, char *desc);

/**
 * struct gmt - what a test has to work with; test->priv
 * @allocator: the parameter of the test, if it is one.
 * @gi: private file of @allocator.
 * @file_pages: NR_FILE_PAGES before the test.
 * @was_private: pages of @gi that were private when its log was cleared.
 * @data: for the suite.
 */
struct gmt {
	const struct gmt_allocator *allocator;
	struct guestmem_inode *gi;
	long file_pages;
	DECLARE_BITMAP(was_private, GMT_PAGES);
	void *data;
};

static inline struct gmt *gmt(struct kunit *test)
{
	return test->priv;
}

/*
 * For struct kunit_suite.  gmt_init_file() also opens a file of the allocator
 * that the test has as its parameter.  gmt_exit() looks whether everything came
 * back.
 */
int gmt_suite_init(struct kunit_suite *suite);
void gmt_suite_exit(struct kunit_suite *suite);
int gmt_init(struct kunit *test);
int gmt_init_file(struct kunit *test);
void gmt_exit(struct kunit *test);

/*
 * Between positions where a test goes through all of them, and what rounds are
 * divided by: an emulated machine with a debug kernel has no time for all, UML has.
 */
#define GMT_STRIDE	(IS_ENABLED(CONFIG_UML) ? 1 : 5)

/* Files beside, or in place of, the one of the fixture. */
struct guestmem_inode *gmt_open(const struct gmt_allocator *allocator,
				pgoff_t pages, bool shared);
void gmt_close(struct kunit *test);
void gmt_reopen_shared(struct kunit *test);

/* The core, under the lock it wants. */
struct folio *gmt_get_locked(struct guestmem_inode *gi, pgoff_t index);
struct folio *gmt_get(struct kunit *test, pgoff_t index);
int gmt_map_order(struct kunit *test, pgoff_t index);
void gmt_allocate_all(struct kunit *test);
int gmt_change(struct guestmem_inode *gi, enum guestmem_target target,
	       pgoff_t start, pgoff_t end, pgoff_t *err_index);
int gmt_punch(struct kunit *test, pgoff_t start, pgoff_t end);
void gmt_oppose(struct kunit *test, enum guestmem_target target);
void gmt_share_by(struct kunit *test, u8 pattern);

/* What is there. */
bool gmt_present(struct guestmem_inode *gi, pgoff_t index);
pgoff_t gmt_folio_pages(struct kunit *test);
pgoff_t gmt_pages_rounded(struct kunit *test);
void gmt_fill(struct folio *folio, u8 byte);
bool gmt_filled(struct folio *folio, u8 byte);
long gmt_counted(enum node_stat_item item);

/* How a change went since the log of the fixture's file was cleared. */
unsigned int gmt_nr_steps(struct kunit *test, enum guestmem_target target, pgoff_t start,
			  pgoff_t end);
void gmt_expect_done(struct kunit *test, enum guestmem_target target, pgoff_t start,
		     pgoff_t end);
void gmt_expect_stopped(struct kunit *test, enum guestmem_target target, pgoff_t start,
			pgoff_t end, unsigned int done);
void gmt_expect_refused(struct kunit *test, enum guestmem_target target, pgoff_t start,
			pgoff_t end, unsigned int done);
void gmt_expect_judged(struct kunit *test, enum guestmem_target target, pgoff_t start,
		       pgoff_t end);
void gmt_expect_states(struct kunit *test, enum guestmem_target target, pgoff_t start,
		       pgoff_t end);
const char *gmt_log(struct kunit *test);
void gmt_log_clear(struct kunit *test);

/* Signals, for a thread that gets none. */
void gmt_signal(void);
void gmt_kill(void);
void gmt_signal_clear(void);

/**
 * struct gmt_thread - something that runs beside the test
 * @fn: what.
 * @arg: for @fn.
 * @cpu: where, counted from 1; 0 for anywhere.
 * @task: internal.
 * @started: internal.
 * @done: internal.
 */
struct gmt_thread {
	void (*fn)(void *arg);
	void *arg;
	unsigned int cpu;
	struct task_struct *task;
	bool started;
	struct completion done;
};

/* Long enough for a debug kernel under emulation. */
#define GMT_TIMEOUT	(60 * HZ)

void gmt_start(struct kunit *test, struct gmt_thread *thread);
bool gmt_blocked(struct gmt_thread *thread);
bool gmt_stays_blocked(struct gmt_thread *thread);
bool gmt_join(struct kunit *test, struct gmt_thread *thread);

#endif /* _GUESTMEM_TEST_LIB_H */
