/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A client and an allocator to test guestmem with.
 *
 * Both write down what the core asks of them, and at every call check that the
 * core keeps to its side of the contract.  A breach is counted, and fails the
 * test that runs.
 */
#ifndef _GUESTMEM_MOCK_H
#define _GUESTMEM_MOCK_H

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/guestmem.h>
#include <linux/seq_buf.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>

/* «event:start-end » for each event, in the order they came. */
struct mock_log {
	/* Held while an event is added. */
	spinlock_t lock;
	struct seq_buf text;
	/* For a test of more events than fit. */
	bool off;
	char buffer[2048];
};

void mock_log_add(struct mock_log *log, const char *event, pgoff_t start,
		  pgoff_t end);
void mock_log_clear(struct mock_log *log);
const char *mock_log_text(struct mock_log *log);

/* What @what says did not hold: the core, or a test, broke the contract. */
bool mock_expect(bool ok, const char *what);
void mock_expect_locked(struct guestmem_inode *gi, const char *what);
void mock_expect_exclusive(struct guestmem_inode *gi, const char *what);
unsigned int mock_breaches(void);

/* The core's, for tests: all deferred work is done when it returns. */
void guestmem_flush_poison(void);

/*
 * The client
 */

/* Pages at the start of a file whose states the client keeps an eye on. */
#define MOCK_WATCHED	128

/**
 * struct mock_watch - what the client has seen of a step since it began
 * @change: what the step belongs to; NULL before begin and after end.
 * @private: pages that were private when it began.
 * @made_shared: pages that make_shared was called for.
 */
struct mock_watch {
	struct guestmem_change *change;
	DECLARE_BITMAP(private, MOCK_WATCHED);
	DECLARE_BITMAP(made_shared, MOCK_WATCHED);
};

/**
 * struct mock_inode - a file of the client
 * @mem: its memory.
 * @phases: prepare, freeze, begin, shared, commit, end, cancel of its changes,
 *	and what was invalidated outside of changes.  begin, shared and end are
 *	the client's, the others the mock allocator's.
 * @folios: reclaim (the client's) and free (the mock allocator's).
 * @on_fault: called in a host fault, with the folio locked and no other lock.
 * @on_begin: called in invalidate_begin.
 * @data: for the above.
 * @watch: between begin and end.
 * @vfs_inode: the inode.
 */
struct mock_inode {
	struct guestmem_inode mem;
	struct mock_log phases;
	struct mock_log folios;
	void (*on_fault)(struct mock_inode *inode);
	void (*on_begin)(struct guestmem_change *c);
	void *data;
	struct mock_watch watch;
	struct inode vfs_inode;
};

static inline struct mock_inode *mock_inode(struct guestmem_inode *gi)
{
	return container_of(gi, struct mock_inode, mem);
}

int mock_client_start(void);
void mock_client_stop(void);
struct guestmem_inode *mock_open(const struct guestmem_inode_args *args);
void mock_close(struct guestmem_inode *gi);
struct file *mock_file(struct guestmem_inode *gi);
unsigned int mock_client_inodes(void);
unsigned long mock_reclaimed(void);

/*
 * The allocator
 */

/*
 * Three of them: the second charges its folios itself and keeps them off the LRU, the
 * third splits them.
 */
#define MOCK_SELECTOR		BIT_ULL(30)
#define MOCK_SELECTOR_CHARGED	BIT_ULL(29)
#define MOCK_SELECTOR_PIECES	BIT_ULL(26)

/* Ops that may fail. */
enum mock_op {
	MOCK_SETUP,
	MOCK_ALLOC,
	MOCK_PREPARE,
	MOCK_FREEZE,
	MOCK_OPS
};

/**
 * struct mock_allocator - state of the mock allocator, and what to make it do
 * @fail_op: which op fails,
 * @fail_call: in which call of it, counted from 0,
 * @fail_err: and how; 0 for not at all.
 * @calls: how often each op was called.
 * @on_alloc: called in alloc_folio before a folio is allocated.
 * @on_free: called in free_folio.
 * @on_phase: called at the start of every phase of a change.
 * @patient: a reference refuses a change to GUESTMEM_SHARED as well, if it stays.
 * @data: for the above.
 * @inodes: set up and not torn down.
 * @plans: prepared, and neither committed to the end nor cancelled; of the one that
 *	splits, what it has reserved.
 * @flushes: how often struct pages were flushed.
 * @pages: handed out and not given back, by pfn; the value is the file.
 */
struct mock_allocator {
	enum mock_op fail_op;
	int fail_call;
	int fail_err;
	atomic_t calls[MOCK_OPS];

	void (*on_alloc)(struct guestmem_inode *gi, pgoff_t index);
	void (*on_free)(struct guestmem_inode *gi, struct folio *folio);
	void (*on_phase)(struct guestmem_change *c, const char *phase);
	bool patient;
	void *data;

	atomic_t inodes;
	atomic_t plans;
	unsigned int flushes;
	struct xarray pages;
};

extern struct mock_allocator mock;

int mock_register(void);
void mock_unregister(void);
const struct guestmem_allocator_operations *mock_ops(void);
void mock_fail(enum mock_op op, int call, int err);
struct folio *mock_new_folio(struct guestmem_inode *gi, unsigned int order);
unsigned int mock_nr_pages(void);

#endif /* _GUESTMEM_MOCK_H */
