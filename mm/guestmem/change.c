// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem change: bringing a range of a file to another state
 *
 *	prepare		the whole range; may fail, the only phase that allocates
 *	per step:
 *	  freeze	may fail, changes nothing
 *	  ---- point of no return of the step ----
 *	  invalidate	the guests lose the pages that change
 *	  make shared	so does the architecture
 *	  commit	cannot fail
 *	  store		the new state, neither
 *
 * Guests hold no references, so freezing does not need them unmapped; and a
 * private page unmapped for a change that then fails would be lost to a TDX
 * guest.  Hence the client is only called when nothing can fail any more.
 */
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/kvm_types.h>
#include <linux/pagemap.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/swap.h>
#include <linux/xarray.h>

#include <trace/events/guestmem.h>

#include "../internal.h"
#include "internal.h"

/* The next step: from the first page at or after @pos that changes; empty if none does. */
static void guestmem_next_step(struct guestmem_change *c, pgoff_t pos)
{
	u8 order = c->gi->geo.block_order;

	c->step.start = guestmem_next_run(c, pos, c->end).start;
	c->step.end = c->end;
	if (order && c->step.start < c->end)
		c->step.end = min(c->end, round_up(c->step.start + 1, 1UL << order));
}

static void guestmem_make_shared(struct guestmem_change *c)
{
	struct guestmem_range run;

	if (c->target != GUESTMEM_SHARED)
		return;

	guestmem_for_each_run(run, c, c->step)
		c->gi->client->make_shared(c->gi, run.start, run.end);
}

static int guestmem_change_step(struct guestmem_change *c)
{
	struct guestmem_inode *gi = c->gi;
	int err;

	err = gi->ops->change_freeze(c);
	if (err)
		return err;

	trace_guestmem_change_frozen(c, c->step);
	gi->client->invalidate_begin(c);
	trace_guestmem_change_unmapped(c, c->step);
	guestmem_make_shared(c);
	c->merged = (struct guestmem_range) {};
	gi->ops->change_commit(c);
	guestmem_attributes_store(c);
	if (c->merged.start < c->merged.end)
		gi->client->merged(c);
	gi->client->invalidate_end(c);
	trace_guestmem_change_committed(c, c->step);
	return 0;
}

static int guestmem_change_steps(struct guestmem_change *c)
{
	int err;

	for (guestmem_next_step(c, c->start); c->step.start < c->step.end;
	     guestmem_next_step(c, c->step.end)) {
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

static int guestmem_change_reserved(struct guestmem_change *c)
{
	struct guestmem_inode *gi = c->gi;
	int err;

	c->plan = NULL;
	err = gi->ops->change_prepare(c);
	if (err)
		return err;

	err = guestmem_change_steps(c);
	if (err)
		gi->ops->change_cancel(c);
	return err;
}

static int guestmem_change_locked(struct guestmem_change *c)
{
	int err;

	if (!guestmem_change_trim(c))
		return 0;

	/*
	 * At once is cheaper than folio by folio, and shows who else holds one.
	 * What is private already, the host has not mapped.
	 */
	if (c->target != GUESTMEM_SHARED)
		unmap_mapping_pages(c->gi->mapping, c->start, c->end - c->start, false);

	err = guestmem_attributes_reserve(c);
	if (err)
		return err;

	err = guestmem_change_reserved(c);
	guestmem_attributes_release(c);
	return err;
}

/**
 * guestmem_change() - bring a range to another state
 * @c: what to change; the [IN] fields are set.
 *
 * Takes invalidate_lock exclusively.  May sleep and allocate.  Pages that have
 * the state already are left alone.  On an allocator without blocks the whole
 * request is atomic; else each block is, and only a signal, references that come up
 * between two blocks, or a page that goes bad meanwhile stop a request half-way.  To
 * finish it, the caller repeats the same range.
 *
 * Return: 0, also if nothing had to change; -ENOMEM or -EOPNOTSUPP if something
 * cannot be reserved; -EAGAIN if a page has unexpected references, -EHWPOISON if a
 * poisoned page is in the way; @c->err_index says where.  -EINTR between two
 * blocks; -EINVAL, with a warning, for an empty range.  A failure of change_prepare,
 * which judges the whole range, has changed nothing but host mappings.
 * GUESTMEM_ABSENT does not fail on the 4K allocator.
 */
int guestmem_change(struct guestmem_change *c)
{
	const struct guestmem_range asked = { c->start, c->end };
	struct address_space *mapping = c->gi->mapping;
	int err;

	if (WARN_ON_ONCE(c->start >= c->end))
		return -EINVAL;

	trace_guestmem_change_begin(c, asked);
	filemap_invalidate_lock(mapping);
	err = guestmem_change_locked(c);
	filemap_invalidate_unlock(mapping);
	trace_guestmem_change_end(c, asked, err);
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

/*
 * A reference may be on its way out: of a fault that found its page mapped by
 * another, or of someone who walks all pages of the machine.  Going to shared,
 * the host can hold nothing else, so it is worth waiting for.  Going to private
 * a pin is an answer, and the caller has to know soon.
 */
unsigned long guestmem_patience(const struct guestmem_change *c)
{
	return msecs_to_jiffies(c->target == GUESTMEM_SHARED ? 100 : 10) + 1;
}

/* Lets go of the folio lock in between: whoever holds the reference may want it. */
static bool guestmem_wait_unpinned(struct guestmem_change *c, struct folio *folio,
				   enum lru_cache_drained *drained)
{
	unsigned long deadline = jiffies + guestmem_patience(c);
	bool unpinned = guestmem_folio_unpinned(folio, drained);

	while (!unpinned && time_before(jiffies, deadline) && !signal_pending(current)) {
		fsleep(50);
		unpinned = guestmem_folio_unpinned(folio, drained);
	}
	if (unpinned)
		return true;

	/* Others may have filled batches since they were drained. */
	*drained = LRU_CACHE_NOT_DRAINED;
	return guestmem_folio_unpinned(folio, drained);
}

/*
 * The first folio of @range that anything but the page cache refers to, as a mapping
 * and a fault that is under way do, or that has a bad page.  All others are good as
 * they are, and need not be locked to see that: with invalidate_lock held nobody adds
 * or removes a folio, and nobody finds one.
 */
static struct folio *guestmem_next_doubtful(struct guestmem_change *c,
					    struct guestmem_range range)
{
	XA_STATE(xas, &c->gi->mapping->i_pages, range.start);
	struct folio *folio;

	guard(rcu)();
	xas_for_each(&xas, folio, range.end - 1) {
		if (folio_ref_count(folio) != folio_nr_pages(folio) ||
		    folio_contain_hwpoisoned_page(folio))
			return folio;

		/* xas_pause() would go on a folio's size behind where the range starts. */
		if (need_resched()) {
			xas_set(&xas, folio_next_index(folio));
			cond_resched_rcu();
		}
	}

	return NULL;
}

/*
 * Memory failure keeps a reference to most of what it found for good: there is nothing
 * to wait for, and nothing in the way of throwing the folio away.
 */
static int guestmem_expect_folio_unpinned(struct guestmem_change *c,
					  struct folio *folio,
					  enum lru_cache_drained *drained)
{
	if (folio_contain_hwpoisoned_page(folio))
		return c->target == GUESTMEM_ABSENT ? 0 : -EHWPOISON;

	return guestmem_wait_unpinned(c, folio, drained) ? 0 : -EAGAIN;
}

static int guestmem_run_unpinned(struct guestmem_change *c, struct guestmem_range run,
				 enum lru_cache_drained *drained)
{
	struct folio *folio;
	int err;

	while ((folio = guestmem_next_doubtful(c, run))) {
		folio_get(folio);
		err = guestmem_expect_folio_unpinned(c, folio, drained);
		if (err) {
			c->err_index = max(folio->index, run.start);
			trace_guestmem_refused(c, folio);
		}
		run.start = folio_next_index(folio);
		folio_put(folio);
		if (err)
			return err;
	}

	return 0;
}

/**
 * guestmem_expect_unpinned() - refuse a range that someone holds pages of
 * @c: change that the range is part of.
 * @range: pages to look at; all of the change, or one step.  Those that do not
 *	change are passed over.
 *
 * For change_prepare, and for change_freeze of an allocator whose folios stay as
 * they are.  Those need not be kept frozen: with invalidate_lock held and no
 * mapping left, nobody can find a page to pin.  Waits for references that may
 * be about to go: 100 ms for a change to GUESTMEM_SHARED, 10 ms for others, not at
 * all once a signal is pending.  invalidate_lock is held exclusively.  May
 * sleep.
 *
 * Return: 0; -EAGAIN for unexpected references, or -EHWPOISON for a folio with a
 * poisoned page unless it is to be thrown away, with @c->err_index at the first page
 * that is in the way.  Changes nothing but host mappings.
 */
int guestmem_expect_unpinned(struct guestmem_change *c, struct guestmem_range range)
{
	enum lru_cache_drained drained = LRU_CACHE_NOT_DRAINED;
	struct guestmem_range run;
	int err;

	lockdep_assert_held_write(&c->gi->mapping->invalidate_lock);

	guestmem_for_each_run(run, c, range) {
		err = guestmem_run_unpinned(c, run, &drained);
		if (err)
			return err;
	}

	return 0;
}
EXPORT_SYMBOL_GPL(guestmem_expect_unpinned);
