// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem inode: the life of one file's memory
 *
 * Setup and eviction, lookup and allocation of folios, accounting.
 */
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/kvm_types.h>
#include <linux/memcontrol.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/stat.h>

#define CREATE_TRACE_POINTS
#include <trace/events/guestmem.h>

#include "internal.h"

/*
 * Two faults in one absent block must not both take a page from a pool that
 * holds just one for them.  Hashed, as the mutexes of HugeTLB faults are.
 */
#define GUESTMEM_BLOCK_MUTEX_BITS	6
static struct mutex guestmem_block_mutexes[1 << GUESTMEM_BLOCK_MUTEX_BITS];

static int __init guestmem_init_block_mutexes(void)
{
	for (int i = 0; i < ARRAY_SIZE(guestmem_block_mutexes); i++)
		mutex_init(&guestmem_block_mutexes[i]);
	return 0;
}
core_initcall(guestmem_init_block_mutexes);

static struct mutex *guestmem_block_mutex(struct guestmem_inode *gi, pgoff_t index)
{
	unsigned long key = (unsigned long)gi ^ (index >> gi->geo.block_order);

	return &guestmem_block_mutexes[hash_long(key, GUESTMEM_BLOCK_MUTEX_BITS)];
}

/**
 * guestmem_inode_init() - make a fresh inode safe to evict
 * @gi: file that is not set up yet.
 *
 * For the client's alloc_inode.  Any context.
 */
void guestmem_inode_init(struct guestmem_inode *gi)
{
	memset(gi, 0, sizeof(*gi));
	mpol_shared_policy_init(&gi->policy, NULL);
	guestmem_attributes_init(gi);
	guestmem_poison_init(gi);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_inode_init);

static void guestmem_setup_mapping(struct guestmem_inode *gi)
{
	struct address_space *mapping = gi->mapping;

	mapping_set_gfp_mask(mapping, GFP_HIGHUSER);
	mapping_set_inaccessible(mapping);
	/* Nobody but the owner may split or drop a folio of the file. */
	mapping_set_release_always(mapping);

	if (gi->geo.insert == GUESTMEM_INSERT_LRU)
		mapping_set_folio_order_range(mapping, 0, gi->geo.block_order);
}

static int guestmem_setup_allocator(struct guestmem_inode *gi,
				    const struct guestmem_inode_args *args)
{
	int err;

	gi->geo = gi->ops->geo;
	err = gi->ops->inode_setup(gi, args);
	if (err)
		return err;

	if (WARN_ON_ONCE(!guestmem_geometry_valid(&gi->geo))) {
		gi->ops->inode_teardown(gi);
		return -EDOM;
	}

	return 0;
}

/**
 * guestmem_inode_setup() - give a new file its allocator
 * @gi: file, initialised by guestmem_inode_init().
 * @args: what the file is to be.
 *
 * Finds the allocator, pins its module and lets it reserve what it needs.  No
 * lock held, may sleep and allocate.
 *
 * Return: 0; -EINVAL if no allocator serves the selector, or the size or the
 * unit does not suit it; -ENOMEM if it cannot reserve the file's memory; any
 * other errno of the allocator's inode_setup; -EDOM, with a warning, if that
 * leaves a geometry that contradicts itself.  After a failure nothing is held,
 * and the file can only be evicted.
 */
int guestmem_inode_setup(struct guestmem_inode *gi,
			 const struct guestmem_inode_args *args)
{
	int err;

	gi->ops = guestmem_allocator_get(args->selector);
	if (!gi->ops)
		return -EINVAL;

	gi->client = args->client;
	gi->mapping = args->inode->i_mapping;
	gi->init_shared = args->init_shared;

	err = guestmem_setup_allocator(gi, args);
	if (err)
		goto err_put;

	guestmem_setup_mapping(gi);
	guestmem_debugfs_add(gi);
	return 0;

err_put:
	guestmem_allocator_put(gi->ops);
	gi->ops = NULL;
	return err;
}
EXPORT_SYMBOL_FOR_KVM(guestmem_inode_setup);

/**
 * guestmem_inode_evict() - end the life of a file's memory
 * @gi: file, set up or not.
 *
 * For the client's evict_inode, before clear_inode().  Frees every folio,
 * gives back every reservation and lets go of the allocator's module.  No lock
 * held, may sleep, cannot fail.
 */
void guestmem_inode_evict(struct guestmem_inode *gi)
{
	const struct guestmem_allocator_operations *ops = gi->ops;

	mpol_free_shared_policy(&gi->policy);

	/* An inode whose setup failed is evicted as well. */
	if (!ops)
		return;

	guestmem_debugfs_remove(gi);
	ops->truncate(gi);
	GUESTMEM_WARN_ON(gi->mapping->nrpages);
	truncate_inode_pages_final(gi->mapping);
	ops->inode_teardown(gi);
	guestmem_attributes_destroy(gi);
	gi->ops = NULL;
	guestmem_allocator_put(ops);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_inode_evict);

/**
 * guestmem_charge_folio() - charge a folio to the memcg of the caller
 * @gi: file.
 * @folio: folio that nobody else has a reference to.
 *
 * For an alloc_folio with GUESTMEM_INSERT_CHARGED.  The charge ends with the last
 * reference, also of a folio in custody.  May sleep.
 *
 * Return: 0; -ENOMEM if the memcg's limit does not allow it.
 */
int guestmem_charge_folio(struct guestmem_inode *gi, struct folio *folio)
{
	return mem_cgroup_charge(folio, NULL, mapping_gfp_mask(gi->mapping));
}
EXPORT_SYMBOL_GPL(guestmem_charge_folio);

static int guestmem_insert_charged(struct address_space *mapping,
				   struct folio *folio, pgoff_t index, gfp_t gfp)
{
	int err;

	/* Whoever walks a pool's pages may have found it already. */
	folio_lock(folio);
	err = __filemap_add_folio(mapping, folio, index, gfp, NULL);
	if (err)
		folio_unlock(folio);
	return err;
}

/* On success the folio is locked, and the page cache has its own references. */
static int guestmem_insert(struct guestmem_inode *gi, struct folio *folio,
			   pgoff_t index)
{
	struct address_space *mapping = gi->mapping;
	gfp_t gfp = mapping_gfp_mask(mapping);

	if (WARN_ON_ONCE(folio_order(folio) > gi->geo.block_order))
		return -EIO;

	/* It would not be cleared, and the guest see what was in it. */
	if (WARN_ON_ONCE(folio_test_uptodate(folio)))
		return -EIO;

	GUESTMEM_WARN_ON(folio->mapping);

	index = round_down(index, folio_nr_pages(folio));
	if (gi->geo.insert == GUESTMEM_INSERT_CHARGED)
		return guestmem_insert_charged(mapping, folio, index, gfp);

	return filemap_add_folio(mapping, folio, index, gfp);
}

static struct folio *guestmem_add_folio(struct guestmem_inode *gi, pgoff_t index)
{
	struct mempolicy *policy;
	struct folio *folio;
	int err;

	policy = mpol_shared_policy_lookup(&gi->policy, index);
	folio = gi->ops->alloc_folio(gi, index, policy);
	mpol_cond_put(policy);
	if (IS_ERR(folio))
		return folio;

	err = guestmem_insert(gi, folio, index);
	if (err) {
		gi->ops->free_folio(gi, folio);
		folio_put(folio);
		return ERR_PTR(err);
	}

	trace_guestmem_alloc(gi, folio);
	return folio;
}

/*
 * Whoever lost the race for @index finds the winner's folio there: nobody removes
 * one while invalidate_lock is held.  If there is none, the folio reached into a
 * place that was taken, and would do so again.
 */
static struct folio *guestmem_add_or_get_folio(struct guestmem_inode *gi,
					       pgoff_t index)
{
	struct folio *folio;

	folio = guestmem_add_folio(gi, index);
	if (folio != ERR_PTR(-EEXIST))
		return folio;

	folio = filemap_lock_folio(gi->mapping, index);
	return WARN_ON_ONCE(folio == ERR_PTR(-ENOENT)) ? ERR_PTR(-EIO) : folio;
}

/* The block of @index, as far as the file reaches. */
static struct guestmem_range guestmem_block_pages(struct guestmem_inode *gi, pgoff_t index)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT;
	pgoff_t start = round_down(index, 1UL << gi->geo.block_order);

	return (struct guestmem_range) { start, min(size, start + (1UL << gi->geo.block_order)) };
}

/* Would the block have to be split as soon as it is there? */
static bool guestmem_block_mixed(struct guestmem_inode *gi, pgoff_t index)
{
	struct guestmem_range block = guestmem_block_pages(gi, index);
	struct guestmem_range run;

	if (!gi->geo.split)
		return false;

	run = guestmem_shared_run(gi, block.start, block.end);
	return run.start < run.end;
}

static struct folio *guestmem_add_block(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio *folio;

	guard(mutex)(guestmem_block_mutex(gi, index));
	folio = filemap_lock_folio(gi->mapping, index);
	if (folio != ERR_PTR(-ENOENT))
		return folio;

	if (guestmem_block_mixed(gi, index))
		return ERR_PTR(-EAGAIN);

	return guestmem_add_or_get_folio(gi, index);
}

/* Through the phases of a change, in which no page changes its state. */
static int guestmem_split_fresh(struct guestmem_inode *gi, struct guestmem_range block)
{
	struct guestmem_change c = {
		.gi = gi,
		.target = GUESTMEM_SHARED,
		.start = block.start,
		.end = block.end,
		.step = block,
		.fresh = true,
	};
	int err;

	err = gi->ops->change_prepare(&c);
	if (err)
		return err;

	err = gi->ops->change_freeze(&c);
	if (err)
		gi->ops->change_cancel(&c);
	else
		gi->ops->change_commit(&c);
	return err;
}

static int guestmem_allocate_mixed_locked(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio *folio;
	pgoff_t end;
	int err;

	if (xa_load(&gi->mapping->i_pages, index))
		return 0;

	folio = guestmem_add_folio(gi, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	index = folio->index;
	end = folio_next_index(folio);
	folio_unlock(folio);
	folio_put(folio);

	/* Given back while someone looks at it, it would be missing from its pool. */
	while ((err = guestmem_split_fresh(gi, guestmem_block_pages(gi, index))) == -EAGAIN &&
	       !fatal_signal_pending(current))
		fsleep(50);
	if (err)
		truncate_inode_pages_range(gi->mapping, (loff_t)index << PAGE_SHIFT,
					   ((loff_t)end << PAGE_SHIFT) - 1);
	return err;
}

/**
 * guestmem_allocate_mixed() - put a block behind a page, split as its states ask for
 * @gi: file.
 * @index: page, inside the file.
 *
 * For a caller that got -EAGAIN from guestmem_get_folio(), and will try again.  Takes
 * invalidate_lock exclusively: until the block is split nobody may find it.  May
 * sleep and allocate.
 *
 * Return: 0; -EINTR if the caller is killed before the last reference that someone else
 * had to the new block went; else as guestmem_get_folio().  A failure leaves no trace.
 */
int guestmem_allocate_mixed(struct guestmem_inode *gi, pgoff_t index)
{
	int err;

	filemap_invalidate_lock(gi->mapping);
	err = guestmem_allocate_mixed_locked(gi, index);
	filemap_invalidate_unlock(gi->mapping);
	return err == -EAGAIN ? -EINTR : err;
}
EXPORT_SYMBOL_FOR_KVM(guestmem_allocate_mixed);

/**
 * guestmem_get_folio() - the folio that holds a page, allocated if absent
 * @gi: file.
 * @index: page, inside the file.
 *
 * invalidate_lock is held, shared or exclusively.  May sleep and allocate.
 *
 * Return: the folio, locked, with a reference for the caller, possibly not up
 * to date; or ERR_PTR: -EAGAIN if guestmem_allocate_mixed() has to be called
 * first; -ENOMEM (also a memcg limit), -ENOSPC, -EHWPOISON, as the
 * allocator's alloc_folio; -EIO, with a warning, if the allocator broke its
 * contract.  A failure leaves no trace.
 */
struct folio *guestmem_get_folio(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio *folio;

	lockdep_assert_held(&gi->mapping->invalidate_lock);

	/* The common case, without looking up the NUMA policy. */
	folio = filemap_lock_folio(gi->mapping, index);
	if (!IS_ERR(folio))
		return folio;

	/* Losing a race for a single page of buddy's costs nothing: no need to queue. */
	if (!gi->geo.block_order && gi->geo.insert == GUESTMEM_INSERT_LRU)
		return guestmem_add_or_get_folio(gi, index);

	return guestmem_add_block(gi, index);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_get_folio);

/**
 * guestmem_folio_filled() - a folio has its first contents
 * @folio: folio that nobody else can change yet.
 *
 * Marks it up to date, and dirty: there is no other copy of it, which is what
 * memory_failure() wants to know.  Does not sleep.
 */
void guestmem_folio_filled(struct folio *folio)
{
	folio_set_dirty(folio);
	folio_mark_uptodate(folio);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_folio_filled);

/**
 * guestmem_zero_folio() - clear a folio before anyone sees it
 * @folio: locked folio of a file.
 *
 * Does nothing for a folio that is up to date: memory is cleared once in its
 * life.  Sleeps for large folios.
 */
void guestmem_zero_folio(struct folio *folio)
{
	unsigned long nr = folio_nr_pages(folio), n;

	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(folio), folio);

	if (folio_test_uptodate(folio))
		return;

	/* As much at once as others would not mind waiting for. */
	for (unsigned long i = 0; i < nr; i += n) {
		n = min(nr - i, PROCESS_PAGES_NON_PREEMPT_BATCH);
		/* Mappings of a file agree with its offsets in what caches tell apart. */
		clear_user_highpages(folio_page(folio, i), (folio->index + i) << PAGE_SHIFT, n);
		if (nr > 1)
			cond_resched();
	}
	guestmem_folio_filled(folio);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_zero_folio);

/**
 * guestmem_map_order() - how much may be mapped at once around a page
 * @gi: file.
 * @folio: locked folio that holds @index.
 * @index: page.
 *
 * invalidate_lock is held, shared or exclusively.  Does not sleep.
 *
 * Return: order of the naturally aligned range (in the file) that may be
 * mapped, all of it in one state; -EHWPOISON if the page is poisoned, or if another
 * page of a folio is that has never been filled; -EIO, with a warning, if the allocator
 * wants to map more than the folio.
 */
int guestmem_map_order(struct guestmem_inode *gi, struct folio *folio,
		       pgoff_t index)
{
	int order = gi->ops->map_order(gi, folio, index);

	/* It would be cleared as a whole, and nothing is lost with it. */
	if (!folio_test_uptodate(folio) && folio_contain_hwpoisoned_page(folio))
		return -EHWPOISON;

	/* KVM would give the guest what lies behind the folio. */
	if (WARN_ON_ONCE(order > (int)folio_order(folio)))
		return -EIO;

	return guestmem_uniform_order(gi, index, min_t(int, order, gi->geo.max_map_order));
}
EXPORT_SYMBOL_FOR_KVM(guestmem_map_order);

/* Goes on until the range is full, or someone waits for invalidate_lock. */
static int guestmem_allocate_locked(struct guestmem_inode *gi, pgoff_t *index,
				    pgoff_t end)
{
	struct folio *folio;

	do {
		if (signal_pending(current))
			return -EINTR;

		folio = guestmem_get_folio(gi, *index);
		if (IS_ERR(folio))
			return PTR_ERR(folio);

		*index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	} while (*index < end && !rwsem_is_contended(&gi->mapping->invalidate_lock));

	return 0;
}

/**
 * guestmem_allocate() - put memory behind a range
 * @gi: file.
 * @start: first page.
 * @end: first page after the range, inside the file.
 *
 * Takes invalidate_lock shared, and lets go of it when someone waits: behind a
 * writer that waits, every fault would wait as well.  May sleep and allocate.
 *
 * Return: 0; -EINTR if a signal came; else as guestmem_get_folio().  What was
 * allocated before a failure stays.
 */
int guestmem_allocate(struct guestmem_inode *gi, pgoff_t start, pgoff_t end)
{
	pgoff_t index = start;
	int err = 0;

	while (!err && index < end) {
		filemap_invalidate_lock_shared(gi->mapping);
		err = guestmem_allocate_locked(gi, &index, end);
		filemap_invalidate_unlock_shared(gi->mapping);
		if (err == -EAGAIN)
			err = guestmem_allocate_mixed(gi, index);
	}

	return err;
}
EXPORT_SYMBOL_FOR_KVM(guestmem_allocate);

/**
 * guestmem_free_folio() - a folio is about to leave the page cache
 * @gi: file.
 * @folio: locked folio that nobody maps.
 *
 * For the client's invalidate_folio, which truncation calls for every folio of
 * a mapping with AS_RELEASE_ALWAYS, and for an allocator that removes folios in
 * another way: each has to pass here once.  May sleep, cannot fail.
 */
void guestmem_free_folio(struct guestmem_inode *gi, struct folio *folio)
{
	trace_guestmem_free(gi, folio);
	gi->client->reclaim(gi, folio);
	gi->ops->free_folio(gi, folio);
}
EXPORT_SYMBOL_GPL(guestmem_free_folio);

/**
 * guestmem_stat() - what fstat() says of a file's memory
 * @gi: file.
 * @stat: filled in by generic_fillattr() before.
 *
 * st_blksize is the unit of allocation, st_blocks what is allocated.  Does not
 * sleep.
 */
void guestmem_stat(struct guestmem_inode *gi, struct kstat *stat)
{
	/* st_blksize is a power of two of 32 bits; st_blocks counts 512 bytes. */
	stat->blksize = min_t(u64, (u64)PAGE_SIZE << gi->geo.block_order, BIT(31));
	stat->blocks = (u64)gi->mapping->nrpages << (PAGE_SHIFT - 9);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_stat);
