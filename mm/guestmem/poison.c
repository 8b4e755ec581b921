// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem poison: telling the guests that a page has gone bad
 *
 * memory_failure() calls with the folio locked, while every change of a file
 * takes invalidate_lock first and folio locks inside it.  Waiting for
 * invalidate_lock here could therefore deadlock: it is tried, and if it is
 * taken, a work item does the same later.
 *
 * The work item holds the inode and the client's module.  Both are taken by
 * whoever finds nothing remembered, and dropped by the work item: dropping the
 * last reference to the inode under a folio lock of it would deadlock too.
 *
 * memory_failure() also has to find a folio where it looks for one.  While folios are
 * split or merged, they have no references to be had, and a page may go from one folio
 * to another between two looks at it.  So it waits until none are, and none begins to be
 * until it has marked the page.
 */
#include <linux/export.h>
#include <linux/kvm_types.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/percpu-rwsem.h>
#include <linux/workqueue.h>

#include "../internal.h"
#include "internal.h"

static struct workqueue_struct *guestmem_poison_wq;

static int __init guestmem_poison_wq_init(void)
{
	guestmem_poison_wq = alloc_workqueue("guestmem_poison", WQ_UNBOUND, 0);
	if (!guestmem_poison_wq)
		panic("guestmem: no workqueue for poison");

	return 0;
}
core_initcall(guestmem_poison_wq_init);

/*
 * Inside invalidate_lock and mf_mutex, outside folio locks.  Whoever reshapes may have
 * mmap_lock, so memory_failure() must not wait for that meanwhile.
 */
DEFINE_STATIC_PERCPU_RWSEM(guestmem_reshape);

/* From before the first folio is frozen until the last one is thawed. */
void guestmem_reshape_begin(void)
{
	percpu_down_read(&guestmem_reshape);
}

void guestmem_reshape_end(void)
{
	percpu_up_read(&guestmem_reshape);
}

/*
 * For memory_failure(), until it has marked the page.  It may then wait for long for a
 * reference to its folio: behind memory that goes offline, say, which itself waits for
 * changes to come to their end.
 */
void guestmem_reshape_stop(void)
{
	percpu_down_write(&guestmem_reshape);
}

void guestmem_reshape_resume(void)
{
	percpu_up_write(&guestmem_reshape);
}

static void guestmem_invalidate(struct guestmem_inode *gi, struct guestmem_range bad)
{
	struct guestmem_change c = {
		.gi = gi,
		.target = GUESTMEM_ABSENT,
		.start = bad.start,
		.end = bad.end,
		.step = bad,
	};

	lockdep_assert_held(&gi->mapping->invalidate_lock);

	/* Guests have to lose the pages whatever their state is, as for a hole. */
	gi->client->invalidate_begin(&c);
	gi->client->invalidate_end(&c);
}

/* Ask the allocator for its verdict, and which pages of the folio it is about. */
static int guestmem_judge_folio(struct guestmem_inode *gi, struct folio *folio,
				struct guestmem_range *bad)
{
	*bad = (struct guestmem_range) { folio->index, folio_next_index(folio) };
	return gi->ops->error_folio(gi, folio, bad);
}

static bool guestmem_poison_hold(struct guestmem_inode *gi)
{
	if (!try_module_get(gi->client->owner))
		return false;

	if (igrab(gi->mapping->host))
		return true;

	module_put(gi->client->owner);
	return false;
}

static void guestmem_poison_release(struct guestmem_inode *gi)
{
	struct module *owner = gi->client->owner;

	iput(gi->mapping->host);
	module_put(owner);
}

static void guestmem_poison_defer(struct guestmem_inode *gi, struct folio *folio)
{
	guard(spinlock)(&gi->poison_lock);
	if (gi->poison_start == gi->poison_end) {
		/* A file on its way out has no guest left to tell. */
		if (!guestmem_poison_hold(gi))
			return;

		gi->poison_start = folio->index;
		gi->poison_end = folio_next_index(folio);
		queue_work(guestmem_poison_wq, &gi->poison_work);
		return;
	}

	gi->poison_start = min(gi->poison_start, folio->index);
	gi->poison_end = max(gi->poison_end, folio_next_index(folio));
}

static struct guestmem_range guestmem_poison_recall(struct guestmem_inode *gi)
{
	struct guestmem_range range;

	guard(spinlock)(&gi->poison_lock);
	range.start = gi->poison_start;
	range.end = gi->poison_end;
	gi->poison_start = 0;
	gi->poison_end = 0;
	return range;
}

/*
 * Healthy folios between two bad ones are left alone: a private page unmapped
 * for nothing is lost to a TDX guest.
 */
static void guestmem_invalidate_poisoned(struct guestmem_inode *gi,
					 struct folio *folio)
{
	struct guestmem_range bad = {};

	if (!folio_contain_hwpoisoned_page(folio))
		return;

	folio_lock(folio);
	guestmem_judge_folio(gi, folio, &bad);
	folio_unlock(folio);
	if (bad.start < bad.end)
		guestmem_invalidate(gi, bad);
}

/*
 * With the lock held folios stay where they are.  A reference to one, kept while waiting
 * for the lock, would be in the way of the very change that has it.
 */
static bool guestmem_poison_next(struct guestmem_inode *gi, struct guestmem_range *range)
{
	struct folio *folio = NULL;
	unsigned int order;

	filemap_invalidate_lock_shared(gi->mapping);
	if (range->start < range->end)
		folio = guestmem_cache_find(gi->mapping, &range->start, range->end, &order);
	if (folio) {
		guestmem_invalidate_poisoned(gi, folio);
		range->start = folio_next_index(folio);
	}
	filemap_invalidate_unlock_shared(gi->mapping);
	return folio;
}

static void guestmem_poison_work(struct work_struct *work)
{
	struct guestmem_inode *gi = container_of(work, struct guestmem_inode,
						 poison_work);
	struct guestmem_range range = guestmem_poison_recall(gi);

	while (guestmem_poison_next(gi, &range))
		cond_resched();

	guestmem_poison_release(gi);
}

void guestmem_poison_init(struct guestmem_inode *gi)
{
	spin_lock_init(&gi->poison_lock);
	INIT_WORK(&gi->poison_work, guestmem_poison_work);
}

/**
 * guestmem_error_folio() - a page of a folio has become poisoned
 * @gi: file.
 * @folio: locked folio with the poisoned page.
 *
 * For the client's error_remove_folio.  Unmaps the bad pages from the guests, now
 * or soon, and leaves it in the page cache, where the next access finds it.
 * Does not wait for invalidate_lock.  May sleep.
 *
 * Return: enum mf_result of the allocator.
 */
int guestmem_error_folio(struct guestmem_inode *gi, struct folio *folio)
{
	struct guestmem_range bad;
	int ret;

	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(folio), folio);

	ret = guestmem_judge_folio(gi, folio, &bad);

	if (!filemap_invalidate_trylock_shared(gi->mapping)) {
		guestmem_poison_defer(gi, folio);
		return ret;
	}

	if (bad.start < bad.end)
		guestmem_invalidate(gi, bad);
	filemap_invalidate_unlock_shared(gi->mapping);
	return ret;
}
EXPORT_SYMBOL_FOR_KVM(guestmem_error_folio);

#if IS_ENABLED(CONFIG_GUESTMEM_KUNIT_TEST)
/* Tests want to see the end of it. */
void guestmem_flush_poison(void)
{
	flush_workqueue(guestmem_poison_wq);
}
#endif
