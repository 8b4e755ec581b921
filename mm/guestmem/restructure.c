// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem restructure: folios as large as the states of their pages allow
 *
 * What the host may map is a folio of its own: a page table of the host maps what
 * it maps with reference and map count, and that of a private neighbour must not be
 * among them.  All else stays large.  A block is split in two steps, so that a
 * shared page costs the pieces around it and not all of its block:
 *
 *	|                       block                       |   private
 *	|   piece   |   piece   | | | | | | | |   piece   |     one page shared
 *
 * For a change to shared:
 *
 *	prepare	the page cache gets the entries of the pieces, all still leading
 *		to the folio that there is; struct pages are reserved
 *	freeze	the folios that will be split
 *	commit	split, store, thaw
 *
 * From freeze to commit memory_failure() is kept away, see poison.c.
 *
 * For a change to private, commit merges what can be merged.  A piece that someone
 * looks at just then stays what it is, which is allowed: order is a ceiling.  It gets
 * its next chance when pages of it change again, when a change leaves all of its block
 * private, or when the block is freed.
 */
#include <linux/dax.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/pagemap.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include <trace/events/guestmem.h>

#include "../internal.h"
#include "internal.h"

static struct guestmem_range guestmem_block_of(struct guestmem_inode *gi, pgoff_t index)
{
	pgoff_t unit = 1UL << gi->geo.block_order;

	return (struct guestmem_range) { round_down(index, unit), round_down(index, unit) + unit };
}

static struct guestmem_range guestmem_folio_range(struct folio *folio)
{
	return (struct guestmem_range) { folio->index, folio_next_index(folio) };
}

/* What a folio of order @order is split into first. */
static unsigned int guestmem_next_order(struct guestmem_inode *gi, unsigned int order)
{
	return order > gi->geo.piece_order ? gi->geo.piece_order : 0;
}

/*
 * Prepare
 */

static int guestmem_reserve_entry(struct guestmem_pieces *p, struct folio *folio,
				  pgoff_t index, unsigned int order)
{
	unsigned int to = guestmem_next_order(p->gi, order);
	int err;

	err = p->ops->reserve(p, folio, order, to);
	if (err)
		return err;

	return guestmem_cache_split(p->gi->mapping, folio, round_down(index, 1UL << order),
				    order, to);
}

/* Looks at a place again until there is a single page at it. */
static int guestmem_reserve_run(struct guestmem_change *c, struct guestmem_range run)
{
	struct guestmem_pieces *p = c->plan;
	pgoff_t index = run.start;
	struct folio *folio;
	unsigned int order;
	int err;

	while (index < run.end &&
	       (folio = guestmem_cache_find(p->gi->mapping, &index, run.end, &order))) {
		if (!order) {
			index++;
			cond_resched();
			continue;
		}

		err = guestmem_reserve_entry(p, folio, index, order);
		if (err) {
			c->err_index = index;
			return err;
		}
	}

	return 0;
}

/* Make the folios in [start, end), and around it, have one entry each again. */
static void guestmem_restore_entries(struct guestmem_change *c, struct guestmem_range range)
{
	pgoff_t index = guestmem_block_of(c->gi, range.start).start;
	pgoff_t end = guestmem_block_of(c->gi, range.end - 1).end;
	struct address_space *mapping = c->gi->mapping;
	struct guestmem_pieces *p = c->plan;
	struct folio *folio;
	unsigned int order;

	while (index < end && (folio = guestmem_cache_find(mapping, &index, end, &order))) {
		if (order < folio_order(folio))
			guestmem_cache_restore(&p->spare, folio, folio->index,
					       folio_order(folio),
					       guestmem_next_order(c->gi, folio_order(folio)));
		index = folio_next_index(folio);
		cond_resched();
	}
}

static int guestmem_reserve_split(struct guestmem_change *c)
{
	const struct guestmem_range range = { c->start, c->end };
	struct guestmem_range run;
	int err;

	guestmem_for_each_run(run, c, range) {
		err = guestmem_reserve_run(c, run);
		if (err) {
			guestmem_restore_entries(c, range);
			return err;
		}
	}

	return 0;
}

/*
 * Once a block is the only one left and it has pieces, the tree has shrunk to their
 * level, and the entry of the whole block does not fit in.
 */
static int guestmem_reserve_node(struct guestmem_pieces *p)
{
	xas_set_err(&p->spare, -ENOMEM);
	return xas_nomem(&p->spare, GUESTMEM_GFP_RESERVE) ? 0 : -ENOMEM;
}

static int guestmem_reserve_merge(struct guestmem_change *c)
{
	int err = guestmem_reserve_node(c->plan);

	if (err)
		c->err_index = c->start;
	return err;
}

static void guestmem_pieces_init(struct guestmem_pieces *p, struct guestmem_inode *gi,
				 const struct guestmem_pieces_operations *ops)
{
	*p = (struct guestmem_pieces) {
		.gi = gi,
		.ops = ops,
		.spare = __XA_STATE(&gi->mapping->i_pages, 0, 0, 0),
	};
	mapping_set_update(&p->spare, gi->mapping);
	INIT_LIST_HEAD(&p->reserved);
	INIT_LIST_HEAD(&p->dropped);
}

static void guestmem_pieces_release(struct guestmem_pieces *p)
{
	p->ops->release(p);
	xas_destroy(&p->spare);
}

static void guestmem_pieces_free(struct guestmem_change *c)
{
	guestmem_pieces_release(c->plan);
	kfree(c->plan);
	c->plan = NULL;
}

static int guestmem_pieces_alloc(struct guestmem_change *c,
				 const struct guestmem_pieces_operations *ops)
{
	struct guestmem_pieces *p = kmalloc_obj(*p, GUESTMEM_GFP_RESERVE);

	if (!p) {
		c->err_index = c->start;
		return -ENOMEM;
	}

	guestmem_pieces_init(p, c->gi, ops);
	c->plan = p;
	return 0;
}

/**
 * guestmem_pieces_prepare() - change_prepare for a file with geo.split
 * @c: change.
 * @ops: how the allocator's folios change their size.
 *
 * See change_prepare for locks and what a failure leaves.  May sleep and allocate;
 * nodes of the page cache are charged to the caller.
 *
 * Return: 0; -EAGAIN or -EHWPOISON as guestmem_expect_unpinned(); -ENOMEM with
 * @c->err_index at the place that could not be prepared.
 */
int guestmem_pieces_prepare(struct guestmem_change *c,
			    const struct guestmem_pieces_operations *ops)
{
	int err;

	err = guestmem_expect_unpinned(c, (struct guestmem_range) { c->start, c->end });
	if (err)
		return err;

	err = guestmem_pieces_alloc(c, ops);
	if (err)
		return err;

	err = c->target == GUESTMEM_SHARED ? guestmem_reserve_split(c) :
					     guestmem_reserve_merge(c);
	if (err)
		guestmem_pieces_free(c);
	return err;
}

/**
 * guestmem_pieces_cancel() - change_cancel for a file with geo.split
 * @c: change that guestmem_pieces_prepare() has prepared.
 */
void guestmem_pieces_cancel(struct guestmem_change *c)
{
	if (c->target == GUESTMEM_SHARED)
		guestmem_restore_entries(c, (struct guestmem_range) { c->step.start, c->end });
	guestmem_pieces_free(c);
}

/*
 * Freeze
 */

/* Leaves it locked if it is frozen: nobody can wait for the lock. */
static bool guestmem_try_freeze(struct guestmem_inode *gi, struct folio *folio)
{
	int form;

	if (!folio_trylock(folio))
		return false;

	form = guestmem_form(&gi->geo, folio);
	if (folio_ref_freeze(folio, folio_nr_pages(folio))) {
		guestmem_check_form(&gi->geo, folio, form);
		guestmem_check_frozen(folio);
		return true;
	}

	folio_unlock(folio);
	return false;
}

static void guestmem_thaw(struct guestmem_inode *gi, struct folio *folio)
{
	int form = guestmem_form(&gi->geo, folio);

	guestmem_check_frozen(folio);
	folio_ref_unfreeze(folio, folio_nr_pages(folio));
	guestmem_check_form(&gi->geo, folio, form);
	folio_unlock(folio);
}

/* Whoever has a reference to a folio that only guests map will let go of it. */
static bool guestmem_wait_freeze(struct guestmem_change *c, struct folio *folio)
{
	unsigned long deadline = jiffies + guestmem_patience(c);

	while (!guestmem_try_freeze(c->gi, folio)) {
		if (time_after(jiffies, deadline) || signal_pending(current))
			return false;
		lru_add_drain();
		fsleep(50);
	}

	return true;
}

static int guestmem_freeze_folio(struct guestmem_change *c, struct folio *folio)
{
	if (folio_contain_hwpoisoned_page(folio))
		return -EHWPOISON;

	return guestmem_wait_freeze(c, folio) ? 0 : -EAGAIN;
}

/* Does the step change a page of @range? */
static bool guestmem_step_changes(struct guestmem_change *c, struct guestmem_range range)
{
	struct guestmem_range run;

	run = guestmem_next_run(c, max(range.start, c->step.start),
				min(range.end, c->step.end));
	return run.start < run.end;
}

/* The first large folio that reaches into [*@index, @end); *@index moves there. */
static struct folio *guestmem_next_large(struct guestmem_inode *gi, pgoff_t *index, pgoff_t end)
{
	XA_STATE(xas, &gi->mapping->i_pages, *index);
	struct folio *folio;

	guard(rcu)();
	xas_for_each(&xas, folio, end - 1) {
		if (xas_retry(&xas, folio))
			continue;

		*index = xas.xa_index;
		if (folio_test_large(folio))
			return folio;

		if (need_resched()) {
			xas_set(&xas, *index + 1);
			cond_resched_rcu();
		}
	}

	return NULL;
}

/* The first folio from *@index on that the step makes too large. */
static struct folio *guestmem_next_split(struct guestmem_change *c, pgoff_t *index)
{
	struct folio *folio;

	while (*index < c->step.end &&
	       (folio = guestmem_next_large(c->gi, index, c->step.end))) {
		if (guestmem_step_changes(c, guestmem_folio_range(folio)))
			return folio;
		*index = folio_next_index(folio);
	}

	return NULL;
}

static void guestmem_thaw_before(struct guestmem_change *c, struct folio *end)
{
	pgoff_t index = c->step.start;
	struct folio *folio;

	while ((folio = guestmem_next_split(c, &index)) != end) {
		index = folio_next_index(folio);
		guestmem_thaw(c->gi, folio);
	}
}

static int guestmem_freeze_step(struct guestmem_change *c)
{
	pgoff_t index = c->step.start;
	struct folio *folio;
	int err;

	while ((folio = guestmem_next_split(c, &index))) {
		err = guestmem_freeze_folio(c, folio);
		if (err) {
			c->err_index = max(folio->index, c->step.start);
			guestmem_thaw_before(c, folio);
			return err;
		}
		index = folio_next_index(folio);
	}

	return 0;
}

/**
 * guestmem_pieces_freeze() - change_freeze for a file with geo.split
 * @c: change that guestmem_pieces_prepare() has prepared.
 *
 * Return: 0; -EAGAIN or -EHWPOISON with @c->err_index set, and nothing is frozen.
 */
int guestmem_pieces_freeze(struct guestmem_change *c)
{
	int err;

	if (c->target != GUESTMEM_SHARED)
		return guestmem_expect_unpinned(c, c->step);

	guestmem_reshape_begin();
	err = guestmem_freeze_step(c);
	if (err)
		guestmem_reshape_end();
	return err;
}

/*
 * Commit: to shared
 */

/*
 * What the step splits further stays frozen.  The first folio has been locked since
 * before the split, and goes last: whoever looks up another place finds a piece there.
 */
static void guestmem_thaw_pieces(struct guestmem_change *c, struct folio *first,
				 unsigned int from, unsigned int to)
{
	unsigned long i = 1UL << from;
	struct folio *piece;

	while (i) {
		i -= 1UL << to;
		piece = page_folio(folio_page(first, i));
		if (i)
			__folio_set_locked(piece);
		if (!to || !guestmem_step_changes(c, guestmem_folio_range(piece)))
			guestmem_thaw(c->gi, piece);
	}
}

static void guestmem_split_one(struct guestmem_change *c, struct folio *folio, unsigned int to)
{
	struct guestmem_pieces *p = c->plan;
	int form = guestmem_form(&c->gi->geo, folio);
	unsigned int from = folio_order(folio);

	trace_guestmem_split(c->gi, folio);
	p->ops->split(p, folio, to);
	guestmem_check_forms(&c->gi->geo, folio, 1UL << from, form);
	for (unsigned long i = 0; !to && i < 1UL << from; i++)
		guestmem_lru_add(page_folio(folio_page(folio, i)));
	guestmem_cache_store(c->gi->mapping, folio, 1UL << from);
	guestmem_thaw_pieces(c, folio, from, to);
}

/* Of the folios that the step makes too large, those of an order above @to. */
static void guestmem_split_level(struct guestmem_change *c, unsigned int to)
{
	pgoff_t next, index = c->step.start;
	struct folio *folio;

	while ((folio = guestmem_next_split(c, &index))) {
		next = folio_next_index(folio);
		if (folio_order(folio) > to)
			guestmem_split_one(c, folio, to);
		index = next;
		cond_resched();
	}
}

/* Pieces that do not exist yet, and will not be pieces for long. */
static void guestmem_open_pieces(struct guestmem_change *c, struct folio *folio,
				 unsigned int order)
{
	unsigned long nr = folio_nr_pages(folio), unit = 1UL << order;
	struct guestmem_pieces *p = c->plan;
	struct guestmem_range piece;

	for (unsigned long i = 0; i < nr; i += unit) {
		piece.start = folio->index + i;
		piece.end = piece.start + unit;
		if (!guestmem_step_changes(c, piece))
			continue;

		p->ops->open(p, folio, i, order, 0);
		cond_resched();
	}
}

static void guestmem_open_folio(struct guestmem_change *c, struct folio *folio)
{
	unsigned int order = folio_order(folio), to = guestmem_next_order(c->gi, order);
	struct guestmem_pieces *p = c->plan;

	p->ops->open(p, folio, 0, order, to);
	if (to)
		guestmem_open_pieces(c, folio, to);
}

/* All levels at once: struct pages are flushed once for all of the step. */
static void guestmem_open_step(struct guestmem_change *c)
{
	struct guestmem_pieces *p = c->plan;
	pgoff_t index = c->step.start;
	struct folio *folio;

	while ((folio = guestmem_next_split(c, &index))) {
		guestmem_open_folio(c, folio);
		index = folio_next_index(folio);
		cond_resched();
	}

	p->ops->flush(p);
}

static void guestmem_split_step(struct guestmem_change *c)
{
	guestmem_open_step(c);
	if (c->gi->geo.piece_order)
		guestmem_split_level(c, c->gi->geo.piece_order);
	guestmem_split_level(c, 0);
}

/*
 * Commit: to private
 */

/* A file that is evicted needs no lock, and nobody asks for a page of it. */
static bool guestmem_any_shared(struct guestmem_inode *gi, pgoff_t start, pgoff_t end)
{
	struct guestmem_range run;

	if (start >= end)
		return false;

	run = guestmem_shared_run(gi, start, end);
	return run.start < run.end;
}

/* Will all pages of @range be private when those of @becomes are? */
static bool guestmem_may_merge(struct guestmem_inode *gi, struct guestmem_range range,
			       struct guestmem_range becomes)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT;
	pgoff_t end = min(range.end, size);

	return !guestmem_any_shared(gi, range.start, min(end, becomes.start)) &&
	       !guestmem_any_shared(gi, max(range.start, becomes.end), end);
}

static void guestmem_thaw_range(struct guestmem_inode *gi, struct guestmem_range range,
				unsigned int order)
{
	for (pgoff_t index = range.start; index < range.end; index += 1UL << order)
		guestmem_thaw(gi, xa_load(&gi->mapping->i_pages, index));
}

/* Folios of @order, all there are in @range, and none with a bad page. */
static bool guestmem_freeze_range(struct guestmem_inode *gi, struct guestmem_range range,
				  unsigned int order)
{
	struct folio *folio;

	for (pgoff_t index = range.start; index < range.end; index += 1UL << order) {
		folio = xa_load(&gi->mapping->i_pages, index);
		if (folio && folio_order(folio) == order &&
		    !folio_contain_hwpoisoned_page(folio) && guestmem_try_freeze(gi, folio))
			continue;

		range.end = index;
		guestmem_thaw_range(gi, range, order);
		return false;
	}

	return true;
}

static bool guestmem_any_filled(struct folio *first, unsigned int from, unsigned int to)
{
	for (unsigned long i = 0; i < 1UL << to; i += 1UL << from)
		if (folio_test_uptodate(page_folio(folio_page(first, i))))
			return true;

	return false;
}

/* One flag will speak for all of it: what was never filled is cleared now. */
static void guestmem_fill_rest(struct folio *first, unsigned int from, unsigned int to)
{
	if (!guestmem_any_filled(first, from, to))
		return;

	for (unsigned long i = 0; i < 1UL << to; i += 1UL << from)
		guestmem_zero_folio(page_folio(folio_page(first, i)));
}

static bool guestmem_merge(struct guestmem_pieces *p, struct guestmem_range range,
			   unsigned int from, unsigned int to)
{
	struct guestmem_inode *gi = p->gi;
	struct folio *first;
	int form;

	if (!guestmem_freeze_range(gi, range, from))
		return false;

	first = xa_load(&gi->mapping->i_pages, range.start);
	form = guestmem_form(&gi->geo, first);
	if (guestmem_cache_store_one(&p->spare, first, range.start, to)) {
		guestmem_thaw_range(gi, range, from);
		return false;
	}

	if (!p->going)
		guestmem_fill_rest(first, from, to);
	for (unsigned long i = 0; !from && i < 1UL << to; i++)
		guestmem_lru_remove(page_folio(folio_page(first, i)));
	p->ops->merge(p, first, to);
	guestmem_check_form(&gi->geo, first, form);
	guestmem_thaw(gi, first);
	trace_guestmem_merge(gi, first);
	return true;
}

static struct guestmem_range guestmem_merge_pieces(struct guestmem_pieces *p,
						   struct guestmem_range becomes)
{
	unsigned int order = p->gi->geo.piece_order;
	struct guestmem_range merged = {};
	pgoff_t unit = 1UL << order;

	for (pgoff_t index = round_down(becomes.start, unit); index < becomes.end; index += unit) {
		const struct guestmem_range piece = { index, index + unit };

		if (!guestmem_may_merge(p->gi, piece, becomes) ||
		    !guestmem_merge(p, piece, 0, order))
			continue;

		if (merged.start == merged.end)
			merged.start = piece.start;
		merged.end = piece.end;
		cond_resched();
	}

	return merged;
}

/* Merge what can be once the pages @becomes, all in one block, are private. */
static struct guestmem_range guestmem_merge_block(struct guestmem_pieces *p,
						  struct guestmem_range becomes)
{
	struct guestmem_range block = guestmem_block_of(p->gi, becomes.start);
	const struct guestmem_geometry *geo = &p->gi->geo;
	bool whole = guestmem_may_merge(p->gi, block, becomes);
	struct guestmem_range merged = {};

	guestmem_reshape_begin();
	/* With the block, also pieces that stayed what they were when they changed. */
	if (geo->piece_order)
		merged = guestmem_merge_pieces(p, whole ? block : becomes);
	if (whole && guestmem_merge(p, block, geo->piece_order, geo->block_order))
		merged = block;
	if (merged.start < merged.end)
		p->ops->flush(p);
	guestmem_reshape_end();
	return merged;
}

static bool guestmem_block_in_pieces(struct guestmem_inode *gi, struct guestmem_range block)
{
	pgoff_t index = block.start;
	unsigned int order;

	return guestmem_cache_find(gi->mapping, &index, block.end, &order) &&
	       order < gi->geo.block_order;
}

/*
 * A CPU's batch of pages for the LRU may have one of it, and keep that until the CPU has
 * more of them.  All are looked through once.
 */
static void guestmem_gather_block(struct guestmem_pieces *p, struct guestmem_range block,
				  bool *drained)
{
	guestmem_merge_block(p, block);
	if (*drained || !guestmem_block_in_pieces(p->gi, block))
		return;

	lru_add_drain_all();
	*drained = true;
	guestmem_merge_block(p, block);
}

static void guestmem_gather_blocks(struct guestmem_pieces *p, struct guestmem_range range)
{
	pgoff_t unit = 1UL << p->gi->geo.block_order;
	bool drained = false;
	unsigned int order;

	for (pgoff_t index = range.start; index < range.end; index += unit) {
		if (!guestmem_cache_find(p->gi->mapping, &index, range.end, &order))
			return;

		index = round_down(index, unit);
		guestmem_gather_block(p, guestmem_block_of(p->gi, index), &drained);
		cond_resched();
	}
}

/**
 * guestmem_pieces_gather() - make blocks whole that are about to be freed
 * @gi: file, with invalidate_lock held exclusively, or being evicted.
 * @range: blocks.
 * @ops: how the allocator's folios change their size.
 *
 * Blocks with a piece that is poisoned, or that someone still holds, stay in pieces.
 * May sleep and allocate, cannot fail.
 */
void guestmem_pieces_gather(struct guestmem_inode *gi, struct guestmem_range range,
			    const struct guestmem_pieces_operations *ops)
{
	struct guestmem_pieces p;

	guestmem_pieces_init(&p, gi, ops);
	p.going = true;
	/* One block may then stay in pieces. */
	(void)guestmem_reserve_node(&p);
	guestmem_gather_blocks(&p, range);
	guestmem_pieces_release(&p);
}

static bool guestmem_any_bad(struct guestmem_inode *gi, struct guestmem_range block)
{
	pgoff_t index = block.start;
	struct folio *folio;
	unsigned int order;

	while ((folio = guestmem_cache_find(gi->mapping, &index, block.end, &order))) {
		if (folio_contain_hwpoisoned_page(folio))
			return true;

		index = folio_next_index(folio);
		cond_resched();
	}

	return false;
}

/*
 * A hole that is touched again finds nothing in its pool while its block is in pieces.
 * Nothing was in use a moment ago, so whoever looks at a good page now will be gone soon.
 */
static void guestmem_gather_hole(struct guestmem_change *c)
{
	unsigned long deadline = jiffies + guestmem_patience(c);
	struct guestmem_range block = guestmem_step_block(c);

	guestmem_merge_block(c->plan, block);
	if (!guestmem_block_in_pieces(c->gi, block) || guestmem_any_bad(c->gi, block))
		return;

	while (guestmem_block_in_pieces(c->gi, block) &&
	       !time_after(jiffies, deadline) && !signal_pending(current)) {
		lru_add_drain();
		fsleep(50);
		guestmem_merge_block(c->plan, block);
	}
}

/**
 * guestmem_pieces_commit() - change_commit for a file with geo.split
 * @c: change that guestmem_pieces_freeze() has frozen a step of.
 *
 * For GUESTMEM_ABSENT, the caller removes the block from the page cache afterwards.
 */
void guestmem_pieces_commit(struct guestmem_change *c)
{
	struct guestmem_pieces *p = c->plan;

	switch (c->target) {
	case GUESTMEM_SHARED:
		guestmem_split_step(c);
		guestmem_reshape_end();
		break;
	case GUESTMEM_PRIVATE:
		c->merged = guestmem_merge_block(p, c->step);
		break;
	case GUESTMEM_ABSENT:
		p->going = true;
		guestmem_gather_hole(c);
		break;
	}

	if (c->step.end == c->end)
		guestmem_pieces_free(c);
}
