// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem attributes: which pages of a file are private, which are shared
 *
 * A file has a default state.  Ranges of pages with the other state, the flipped
 * ones, are nodes of a tree, sorted and disjoint; none borders on the next, so
 * that there is one node for every two borders, however large the file:
 *
 *	default   |----------|           |----------------|     |------
 *	flipped              |===========|                |=====|
 *	                     start       end
 *
 * Setting a range to one state takes at most one node that was not there: where
 * it flips pages that touch no flipped range, or cuts a piece out of the middle
 * of one.  That is still so where a range is set bit by bit from its start, step
 * after step of a change: the first bit uses the node, and each later one only
 * moves the border that the one before has made.  So one spare node is all that
 * a change reserves, however many steps it has.  (A maple tree, which would
 * otherwise be the thing to use, sizes its reserve for one store into the tree
 * as it is then.)
 *
 * Whoever changes the tree holds invalidate_lock exclusively.  Readers need no
 * lock: faults read under spinlocks.  Each write section of the sequence lock
 * moves one border at the most, so readers never spin for long.
 */
#include <linux/export.h>
#include <linux/rbtree.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "internal.h"

struct guestmem_flip {
	struct rb_node rb;
	pgoff_t start;
	pgoff_t end;
	struct rcu_head rcu;
};

static struct guestmem_flip *guestmem_flip(struct rb_node *rb)
{
	return rb_entry_safe(rb, struct guestmem_flip, rb);
}

/* The first flipped range that ends behind @index. */
static struct guestmem_flip *guestmem_flip_after(const struct guestmem_inode *gi,
						 pgoff_t index)
{
	struct rb_node *rb = rcu_dereference_raw(gi->flipped.rb_node);
	struct guestmem_flip *found = NULL;

	while (rb) {
		struct guestmem_flip *flip = guestmem_flip(rb);

		if (READ_ONCE(flip->end) > index) {
			found = flip;
			rb = rcu_dereference_raw(rb->rb_left);
		} else {
			rb = rcu_dereference_raw(rb->rb_right);
		}
	}

	return found;
}

static struct guestmem_flip *guestmem_flip_next(struct guestmem_flip *flip)
{
	return guestmem_flip(rb_next(&flip->rb));
}

static bool guestmem_is_flipped(const struct guestmem_inode *gi, pgoff_t index)
{
	struct guestmem_flip *flip;
	unsigned int seq;
	bool flipped;

	guard(rcu)();
	do {
		seq = read_seqbegin(&gi->flipped_lock);
		flip = guestmem_flip_after(gi, index);
		flipped = flip && READ_ONCE(flip->start) <= index;
	} while (read_seqretry(&gi->flipped_lock, seq));

	return flipped;
}

/**
 * guestmem_is_private() - may only the guest touch a page?
 * @gi: file.
 * @index: page; allocated or not.
 *
 * Does not sleep; not for interrupts, which a writer does not keep out.  With
 * invalidate_lock held the answer stays true; without it, the
 * caller must have another way to notice a change (KVM: mmu_invalidate_seq).
 *
 * Return: true if the page is private, false if the host may map it.
 */
bool guestmem_is_private(const struct guestmem_inode *gi, pgoff_t index)
{
	if (RB_EMPTY_ROOT(&gi->flipped))
		return !gi->init_shared;

	return guestmem_is_flipped(gi, index) == gi->init_shared;
}
EXPORT_SYMBOL_GPL(guestmem_is_private);

/* Is the state that the change brings about the flipped one? */
static bool guestmem_flips(const struct guestmem_change *c)
{
	return (c->target == GUESTMEM_SHARED) != c->gi->init_shared;
}

/* Is it flipped pages that the change leaves alone? */
static bool guestmem_leaves_flipped(const struct guestmem_change *c)
{
	return guestmem_flips(c) != c->fresh;
}

/* All pages around @index that have the same state; returns if it is the flipped one. */
static bool guestmem_run_around(struct guestmem_inode *gi, pgoff_t index,
				struct guestmem_range *run)
{
	struct guestmem_flip *flip = guestmem_flip_after(gi, index);
	struct guestmem_flip *before;

	if (flip && flip->start <= index) {
		*run = (struct guestmem_range) { flip->start, flip->end };
		return true;
	}

	before = guestmem_flip(flip ? rb_prev(&flip->rb) : rb_last(&gi->flipped));
	run->start = before ? before->end : 0;
	run->end = flip ? flip->start : ULONG_MAX;
	return false;
}

/**
 * guestmem_next_run() - the first run of pages that a change alters
 * @c: change.
 * @start: first page to look at.
 * @end: first page not to look at.
 *
 * See guestmem_for_each_run().  invalidate_lock is held.  Does not sleep.
 *
 * Return: the run, cut to [@start, @end); empty if there is none.
 */
struct guestmem_range guestmem_next_run(const struct guestmem_change *c, pgoff_t start,
					pgoff_t end)
{
	struct guestmem_range run = { start, end };

	lockdep_assert_held(&c->gi->mapping->invalidate_lock);

	if (c->target == GUESTMEM_ABSENT || start >= end)
		return run;

	/* What has the state already ends where the other state begins. */
	if (guestmem_run_around(c->gi, start, &run) == guestmem_leaves_flipped(c)) {
		start = run.end;
		if (start < end)
			guestmem_run_around(c->gi, start, &run);
	}

	return (struct guestmem_range) { min(start, end), min(run.end, end) };
}
EXPORT_SYMBOL_GPL(guestmem_next_run);

/* The first shared pages of [@start, @end), which is inside the file; may be empty. */
struct guestmem_range guestmem_shared_run(struct guestmem_inode *gi, pgoff_t start,
					  pgoff_t end)
{
	/* What would change if all of it were made private. */
	const struct guestmem_change c = { .gi = gi, .target = GUESTMEM_PRIVATE };

	return guestmem_next_run(&c, start, end);
}

/*
 * The largest order up to @order of an aligned range around @index whose pages all have
 * one state: what is mapped at once has, also where folios are not split for it.
 */
int guestmem_uniform_order(struct guestmem_inode *gi, pgoff_t index, int order)
{
	struct guestmem_range run;

	lockdep_assert_held(&gi->mapping->invalidate_lock);

	if (order <= 0 || RB_EMPTY_ROOT(&gi->flipped))
		return order;

	guestmem_run_around(gi, index, &run);
	while (order && (round_down(index, 1UL << order) < run.start ||
			 round_down(index, 1UL << order) + (1UL << order) > run.end))
		order--;
	return order;
}

/* The pages of the file around @index that have the same state. */
struct guestmem_range guestmem_state_run(struct guestmem_inode *gi, pgoff_t index)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT;
	struct guestmem_range run;

	lockdep_assert_held(&gi->mapping->invalidate_lock);

	guestmem_run_around(gi, index, &run);
	run.end = min(run.end, size);
	return run;
}

/*
 * Cut off what has the state already at both ends of a change.  Returns false if
 * nothing is left.
 */
bool guestmem_change_trim(struct guestmem_change *c)
{
	struct guestmem_range run;

	if (c->target == GUESTMEM_ABSENT)
		return true;

	c->start = guestmem_next_run(c, c->start, c->end).start;
	if (c->start == c->end)
		return false;

	if (guestmem_run_around(c->gi, c->end - 1, &run) == guestmem_flips(c))
		c->end = run.start;
	return true;
}

int guestmem_attributes_reserve(struct guestmem_change *c)
{
	c->spare = NULL;
	if (c->target == GUESTMEM_ABSENT)
		return 0;

	c->spare = kmalloc_obj(*c->spare, GUESTMEM_GFP_RESERVE);
	if (c->spare)
		return 0;

	c->err_index = c->start;
	return -ENOMEM;
}

/* Gives back what was reserved and not used. */
void guestmem_attributes_release(struct guestmem_change *c)
{
	kfree(c->spare);
	c->spare = NULL;
}

/* A new flipped range, in a write section. */
static void guestmem_flip_add(struct guestmem_change *c, pgoff_t start, pgoff_t end)
{
	struct rb_node **link = &c->gi->flipped.rb_node;
	struct guestmem_flip *flip = c->spare;
	struct rb_node *parent = NULL;

	c->spare = NULL;
	flip->start = start;
	flip->end = end;

	while (*link) {
		parent = *link;
		link = guestmem_flip(parent)->start < start ?
			&parent->rb_right : &parent->rb_left;
	}
	rb_link_node_rcu(&flip->rb, parent, link);
	rb_insert_color(&flip->rb, &c->gi->flipped);
}

/* In a write section.  Readers may still be looking at it. */
static void guestmem_flip_remove(struct guestmem_inode *gi, struct guestmem_flip *flip)
{
	rb_erase(&flip->rb, &gi->flipped);
	kfree_rcu(flip, rcu);
}

/*
 * Make @flip end at @end.  The ranges it comes to touch become part of it, one
 * by one: no page behind @end ever changes its state, not for a moment.
 */
static void guestmem_flip_extend(struct guestmem_inode *gi, struct guestmem_flip *flip,
				 pgoff_t end)
{
	struct guestmem_flip *next = guestmem_flip_next(flip);

	while (next && next->start <= end) {
		write_seqlock(&gi->flipped_lock);
		WRITE_ONCE(flip->end, max(next->end, flip->end));
		guestmem_flip_remove(gi, next);
		write_sequnlock(&gi->flipped_lock);
		cond_resched();
		next = guestmem_flip_next(flip);
	}

	write_seqlock(&gi->flipped_lock);
	WRITE_ONCE(flip->end, max(end, flip->end));
	write_sequnlock(&gi->flipped_lock);
}

static void guestmem_flip_range(struct guestmem_change *c, pgoff_t start, pgoff_t end)
{
	struct guestmem_inode *gi = c->gi;
	struct guestmem_flip *flip;

	/* One that ends right before @start is to go on. */
	flip = guestmem_flip_after(gi, start ? start - 1 : 0);
	if (flip && flip->start <= start) {
		guestmem_flip_extend(gi, flip, end);
		return;
	}

	write_seqlock(&gi->flipped_lock);
	if (flip && flip->start <= end)
		WRITE_ONCE(flip->start, start);
	else
		guestmem_flip_add(c, start, end);
	write_sequnlock(&gi->flipped_lock);

	flip = guestmem_flip_after(gi, start);
	guestmem_flip_extend(gi, flip, end);
}

/* Take [start, end) out of the first range that reaches into it; false if none does. */
static bool guestmem_unflip_one(struct guestmem_change *c, pgoff_t start, pgoff_t end)
{
	struct guestmem_flip *flip = guestmem_flip_after(c->gi, start);
	pgoff_t flip_end;

	if (!flip || flip->start >= end)
		return false;

	flip_end = flip->end;
	if (flip->start >= start) {
		if (flip_end > end)
			WRITE_ONCE(flip->start, end);
		else
			guestmem_flip_remove(c->gi, flip);
	} else {
		WRITE_ONCE(flip->end, start);
		if (flip_end > end)
			guestmem_flip_add(c, end, flip_end);
	}

	return true;
}

static void guestmem_unflip_range(struct guestmem_change *c, pgoff_t start, pgoff_t end)
{
	bool more;

	do {
		write_seqlock(&c->gi->flipped_lock);
		more = guestmem_unflip_one(c, start, end);
		write_sequnlock(&c->gi->flipped_lock);
		cond_resched();
	} while (more);
}

/*
 * Store the new state of the pages up to the end of the step.  Starting over at
 * the start of the change keeps what was stored a single range: that is why one
 * spare node is enough.
 */
void guestmem_attributes_store(struct guestmem_change *c)
{
	lockdep_assert_held_write(&c->gi->mapping->invalidate_lock);

	if (c->target == GUESTMEM_ABSENT)
		return;

	if (guestmem_flips(c))
		guestmem_flip_range(c, c->start, c->step.end);
	else
		guestmem_unflip_range(c, c->start, c->step.end);
}

void guestmem_attributes_init(struct guestmem_inode *gi)
{
	gi->flipped = RB_ROOT;
	seqlock_init(&gi->flipped_lock);
}

/* Nobody looks any more. */
void guestmem_attributes_destroy(struct guestmem_inode *gi)
{
	struct guestmem_flip *flip, *next;

	rbtree_postorder_for_each_entry_safe(flip, next, &gi->flipped, rb) {
		kfree(flip);
		cond_resched();
	}
	gi->flipped = RB_ROOT;
}
