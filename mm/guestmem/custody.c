// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem custody: folios that outlive their file
 *
 * A folio that leaves its file may still be pinned, by a pipe, by io_uring, by a
 * device.  One that has to come back to a pool of its allocator is given a page
 * type before the core drops its references, so that the last reference, whoever
 * drops it, leads here:
 *
 *	guestmem_custody_take()		type and owner; the owner's module is pinned
 *	...				pins go, one by one
 *	guestmem_custody_freed()	any context: on the list, wake the worker
 *	guestmem_custody_work()		as good as new; release(); the module may go
 *
 * List and work item are the core's, not the allocator's.  Were they part of the
 * custody, the worker could find a folio on the list and let its module go while
 * the one who put it there is still about to queue the work.
 */
#include <linux/export.h>
#include <linux/llist.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/swap.h>
#include <linux/vm_event_item.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "../internal.h"
#include "custody.h"
#include "internal.h"

static void guestmem_custody_work(struct work_struct *work);

static LLIST_HEAD(guestmem_custody_list);
static DECLARE_WORK(guestmem_custody_item, guestmem_custody_work);
static struct workqueue_struct *guestmem_custody_wq;

static int __init guestmem_custody_init(void)
{
	guestmem_custody_wq = alloc_workqueue("guestmem_custody", WQ_UNBOUND, 0);
	if (!guestmem_custody_wq)
		panic("guestmem: no workqueue for custody");

	return 0;
}
core_initcall(guestmem_custody_init);

/**
 * guestmem_custody_take() - have a folio back when its last reference has gone
 * @custody: whose it is; valid while @custody->owner is loaded.
 * @folio: folio that leaves its file.
 *
 * For an allocator's free_folio.  The caller holds a reference, nobody maps the
 * folio or will map it again, and it is not on the LRU, unless for a moment: its
 * geometry says GUESTMEM_INSERT_CHARGED.  Whoever isolated it before may put it back
 * on the LRU later.  It has no page type, still has its mapping, if it ever had one,
 * and folio->private is free to use.  Pins @custody->owner until the folio has been
 * released.  Does not sleep, cannot fail.
 */
void guestmem_custody_take(struct guestmem_custody *custody, struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(folio_mapped(folio), folio);

	__module_get(custody->owner);
	folio->private = custody;
	/* The type takes the place of the map count. */
	__folio_set_guestmem(folio);
	/* Whoever finds the mapping gone has to see it: folio_in_custody(). */
	smp_wmb();
}
EXPORT_SYMBOL_GPL(guestmem_custody_take);

/*
 * The last reference has gone.  Any context, interrupts included.  The folio may be on
 * the LRU, but on none of its lists: folio_evictable() knows of the type.
 */
void guestmem_custody_freed(struct folio *folio)
{
	llist_add(&folio->page.pcp_llist, &guestmem_custody_list);
	queue_work(guestmem_custody_wq, &guestmem_custody_item);
}

/* As buddy would do it, but for PG_head: the folio stays one. */
static void guestmem_custody_settle(struct guestmem_custody *custody, struct folio *folio)
{
	GUESTMEM_WARN_ON(folio->mapping || folio_test_locked(folio));

	/* It may have been off the LRU only for a moment when it was taken. */
	guestmem_lru_isolate(folio);
	__folio_clear_guestmem(folio);
	folio->private = NULL;
	mem_cgroup_uncharge(folio);
	guestmem_folio_munlock(folio);
	folio->flags.f &= ~PAGE_FLAGS_CHECK_AT_PREP | BIT(PG_head);
	folio_ref_unfreeze(folio, custody->references ?: 1);
}

static void guestmem_custody_release(struct folio *folio)
{
	struct guestmem_custody *custody = folio->private;
	struct module *owner = custody->owner;

	/* Flags are written as a whole: memory_failure() may mark no page meanwhile. */
	guestmem_reshape_begin();
	guestmem_custody_settle(custody, folio);
	guestmem_reshape_end();
	custody->release(custody, folio);
	/* @custody may be gone after this. */
	module_put(owner);
}

static void guestmem_custody_work(struct work_struct *work)
{
	struct page *page, *next;

	llist_for_each_entry_safe(page, next, llist_del_all(&guestmem_custody_list), pcp_llist) {
		guestmem_custody_release(page_folio(page));
		cond_resched();
	}
}

/**
 * guestmem_custody_flush() - wait for folios that are on their way back
 *
 * On return, release has been called for every folio whose last reference was
 * dropped before, or was held by a CPU's batch of folios to mlock or munlock.  For
 * an alloc_folio that finds its pool empty, if release takes no lock that is held
 * around alloc_folio.  Sleeps, and interrupts all CPUs; not for release.
 */
void guestmem_custody_flush(void)
{
	lru_add_drain_all();
	flush_work(&guestmem_custody_item);
}
EXPORT_SYMBOL_GPL(guestmem_custody_flush);
