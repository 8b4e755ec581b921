// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem change: bringing a range of a file to another state
 *
 *	prepare		the whole range; may fail, the only phase that allocates
 *	per step:
 *	  freeze	may fail, changes nothing
 *	  ---- point of no return of the step ----
 *	  invalidate	the guests lose the range
 *	  commit	cannot fail
 *
 * Guests hold no references, so freezing does not need them unmapped; and a
 * private page unmapped for a change that then fails would be lost to a TDX
 * guest.  Hence the client is only called when nothing can fail any more.
 */
#include <linux/export.h>
#include <linux/folio_batch.h>
#include <linux/kvm_types.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/swap.h>

#include "../internal.h"
#include "internal.h"

/* The first step, or the one after @c->step; empty when there is none left. */
static void guestmem_next_step(struct guestmem_change *c)
{
	u8 order = c->gi->geo.block_order;

	c->step.start = c->step.end;
	c->step.end = c->end;
	if (order && c->step.start < c->end)
		c->step.end = min(c->end, round_up(c->step.start + 1, 1UL << order));
}

static int guestmem_change_step(struct guestmem_change *c)
{
	struct guestmem_inode *gi = c->gi;
	int err;

	err = gi->ops->change_freeze(c);
	if (err)
		return err;

	gi->client->invalidate_begin(gi, c->step.start, c->step.end);
	gi->ops->change_commit(c);
	gi->client->invalidate_end(gi, c->step.start, c->step.end);
	return 0;
}

static int guestmem_change_steps(struct guestmem_change *c)
{
	int err;

	for (guestmem_next_step(c); c->step.start < c->step.end; guestmem_next_step(c)) {
		/* Half of a request may be done; half of a step may not. */
		if (c->step.start > c->start && signal_pending(current))
			return -EINTR;

		err = guestmem_change_step(c);
		if (err)
			return err;
		cond_resched();
	}

	return 0;
}

static int guestmem_change_locked(struct guestmem_change *c)
{
	struct guestmem_inode *gi = c->gi;
	int err;

	/* At once is cheaper than folio by folio, and shows who else holds one. */
	if (c->target != GUESTMEM_SHARED)
		unmap_mapping_pages(gi->mapping, c->start, c->end - c->start, false);

	c->plan = NULL;
	err = gi->ops->change_prepare(c);
	if (err)
		return err;

	c->step.end = c->start;
	err = guestmem_change_steps(c);
	if (err)
		gi->ops->change_cancel(c);
	return err;
}

/**
 * guestmem_change() - bring a range to another state
 * @c: what to change; the [IN] fields are set.
 *
 * Takes invalidate_lock exclusively.  May sleep and allocate.  On an allocator
 * without blocks the whole request is atomic; else each block is, and only a
 * signal or references that come up between two blocks stop a request half-way.
 * To finish it, the caller repeats the same range.
 *
 * Return: 0; -ENOMEM or -EOPNOTSUPP if something cannot be reserved; -EAGAIN if
 * a page has unexpected references, -EHWPOISON if a poisoned page is in the way;
 * @c->err_index says where.  -EINTR between two blocks; -EINVAL, with a warning,
 * for an empty range.  A failure of change_prepare, which judges the whole range,
 * has changed nothing but host mappings.  GUESTMEM_ABSENT does not fail on the 4K
 * allocator.
 */
int guestmem_change(struct guestmem_change *c)
{
	struct address_space *mapping = c->gi->mapping;
	int err;

	if (WARN_ON_ONCE(c->start >= c->end))
		return -EINVAL;

	filemap_invalidate_lock(mapping);
	err = guestmem_change_locked(c);
	filemap_invalidate_unlock(mapping);
	return err;
}
EXPORT_SYMBOL_FOR_KVM(guestmem_change);

/* A hole is punched in parts of this many pages, so that others get a turn. */
#define GUESTMEM_HOLE_PAGES	(SZ_64M >> PAGE_SHIFT)

/**
 * guestmem_punch_hole() - free the memory behind a range
 * @gi: file.
 * @start: first page, a multiple of the file's granularity.
 * @end: first page after the range; also a multiple of it, or the end of the
 *	file, which stands for all of the last unit.
 *
 * Takes invalidate_lock exclusively, and on an allocator without blocks, which
 * refuses no hole, lets go of it now and then: faults wait for it.  May sleep
 * and allocate.
 *
 * Return: as guestmem_change() for GUESTMEM_ABSENT.
 */
int guestmem_punch_hole(struct guestmem_inode *gi, pgoff_t start, pgoff_t end)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT;
	struct guestmem_change c = {
		.gi = gi,
		.target = GUESTMEM_ABSENT,
		.end = start,
	};
	int err = 0;

	/* There is nothing behind the end of the file. */
	end = min(end, round_up(size, 1UL << gi->geo.punch_order));
	while (!err && c.end < end) {
		c.start = c.end;
		c.end = gi->geo.block_order ? end :
			min(end, c.start + GUESTMEM_HOLE_PAGES);
		err = guestmem_change(&c);
	}

	return err;
}
EXPORT_SYMBOL_FOR_KVM(guestmem_punch_hole);

/*
 * A host fault that began before the change may have mapped the page after the
 * range was unmapped, and let go of the folio lock only now.  Unmapping mlocked
 * pages fills a batch of this CPU.
 */
static bool guestmem_folio_unpinned(struct folio *folio,
				    enum lru_cache_drained *drained)
{
	bool unpinned;

	folio_lock(folio);
	if (folio_mapped(folio)) {
		unmap_mapping_folio(folio);
		*drained = LRU_CACHE_NOT_DRAINED;
	}

	lru_cache_drain_for_folio(folio, 1, drained);
	unpinned = folio_ref_count(folio) == folio_expected_ref_count(folio) + 1;
	folio_unlock(folio);
	return unpinned;
}

static int guestmem_batch_unpinned(struct guestmem_change *c,
				   struct guestmem_range range,
				   struct folio_batch *batch,
				   enum lru_cache_drained *drained)
{
	for (unsigned int i = 0; i < folio_batch_count(batch); i++) {
		struct folio *folio = batch->folios[i];

		if (guestmem_folio_unpinned(folio, drained))
			continue;

		c->err_index = max(folio->index, range.start);
		return -EAGAIN;
	}

	return 0;
}

/**
 * guestmem_expect_unpinned() - refuse a range that someone holds pages of
 * @c: change that the range is part of.
 * @range: pages to look at; all of the change, or one step.
 *
 * For change_prepare, and for change_freeze of an allocator whose folios stay as
 * they are.  Those need not be kept frozen: with invalidate_lock held and no
 * mapping left, nobody can find a page to pin.  invalidate_lock is held
 * exclusively.  May sleep.
 *
 * Return: 0; -EAGAIN with @c->err_index at the first page with unexpected
 * references.  Changes nothing but host mappings.
 */
int guestmem_expect_unpinned(struct guestmem_change *c, struct guestmem_range range)
{
	enum lru_cache_drained drained = LRU_CACHE_NOT_DRAINED;
	pgoff_t index = range.start;
	struct folio_batch batch;
	int err = 0;

	lockdep_assert_held_write(&c->gi->mapping->invalidate_lock);

	folio_batch_init(&batch);
	while (!err && filemap_get_folios(c->gi->mapping, &index,
					  range.end - 1, &batch)) {
		err = guestmem_batch_unpinned(c, range, &batch, &drained);
		folio_batch_release(&batch);
		cond_resched();
	}

	return err;
}
EXPORT_SYMBOL_GPL(guestmem_expect_unpinned);
