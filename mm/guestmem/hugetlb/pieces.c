// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB allocator: pages that are in pieces
 *
 *	whole	HugeTLB's type, on HugeTLB's list of pages in use, charged
 *	piece	HugeTLB's type, of a smaller size, on no list, charged to nobody
 *	single	no type, on the LRU; the one kind that the host maps
 *	parked	a piece or a single page that has left its file, and waits for the
 *		others of its block: a piece with references of its block, a single
 *		page in custody, and with references of its block once it is back
 *
 *	whole <-> piece <-> single	a change, everything frozen
 *	piece, single -> parked		the file goes, or a hole is punched
 *	parked -> whole			the last reference has gone: back to the pool
 *
 * Struct pages of pieces are optimized like those of any HugeTLB page, hence the type:
 * memory_failure() would write to those of an untyped page.  What HugeTLB and the
 * cgroups know of the whole page is in a copy of its head meanwhile.
 */
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include <trace/events/guestmem.h>

#include "../../hugetlb_internal.h"
#include "../../internal.h"
#include "../internal.h"
#include "hugetlb.h"

/**
 * struct ghugetlb_block - a block that is in pieces, or will be
 * @h: size of it.
 * @f: file; NULL if that does not wait for the block.
 * @folio: the whole of it; NULL as long as it is not split.
 * @saved: its head as it was: charges and reservation.
 * @split: in ghugetlb_split, under hugetlb_lock.
 * @custody: of single pages that are parked.
 * @away: single pages that have not come back yet, and one while pieces are still
 *	in the file.
 * @delay: until the next try to put it together.
 * @home: puts it together.
 */
struct ghugetlb_block {
	struct hstate *h;
	struct ghugetlb_file *f;
	struct folio *folio;
	struct folio saved;
	struct list_head split;
	struct guestmem_custody custody;
	atomic_long_t away;
	unsigned long delay;
	struct delayed_work home;
};

/* All blocks in pieces: a cgroup that goes has to find what is charged to it. */
static LIST_HEAD(ghugetlb_split);

/*
 * What a block has of each of its parked pages.  One would be taken by unpoison_memory()
 * for that of memory_failure(), which has none of a page that it finds parked: then the
 * last one would go, a page of the block to buddy or a piece of it to a pool of that size.
 */
#define GHUGETLB_PARKED_REFS	2

/* The longest time between two looks whether all of a block is back. */
#define GHUGETLB_HOME_DELAY	(8UL * HZ)

#ifdef CONFIG_CGROUP_HUGETLB
/* For hugetlb_cgroup_css_offline(). */
void guestmem_hugetlb_reparent(struct hstate *h, struct hugetlb_cgroup *h_cg)
{
	struct ghugetlb_block *block;

	lockdep_assert_held(&hugetlb_lock);

	list_for_each_entry(block, &ghugetlb_split, split)
		if (block->h == h)
			hugetlb_cgroup_move_parent(hstate_index(h), h_cg, &block->saved);
}
#endif

static struct ghugetlb_block *ghugetlb_find_block(struct ghugetlb_file *f, pgoff_t index)
{
	return xa_load(&f->split, index >> huge_page_order(f->h));
}

/*
 * Blocks before and after
 */

static void ghugetlb_home_work(struct work_struct *work);
static void ghugetlb_custody_release(struct guestmem_custody *custody, struct folio *folio);

static int ghugetlb_block_reserve(struct ghugetlb_file *f, pgoff_t index)
{
	struct ghugetlb_block *block;
	int err;

	if (ghugetlb_find_block(f, index))
		return 0;

	block = kzalloc_obj(*block, GUESTMEM_GFP_RESERVE);
	if (!block)
		return -ENOMEM;

	block->f = f;
	block->h = f->h;
	block->custody.release = ghugetlb_custody_release;
	block->custody.references = GHUGETLB_PARKED_REFS;
	atomic_long_set(&block->away, 1);
	INIT_DELAYED_WORK(&block->home, ghugetlb_home_work);
	err = xa_err(xa_store(&f->split, index >> huge_page_order(f->h), block,
			      GUESTMEM_GFP_RESERVE));
	if (err)
		kfree(block);
	return err;
}

/* Forget the blocks of [start, end) that were reserved and not split. */
void ghugetlb_blocks_release(struct ghugetlb_file *f, pgoff_t start, pgoff_t end)
{
	unsigned int order = huge_page_order(f->h);
	struct ghugetlb_block *block;
	unsigned long i;

	xa_for_each_range(&f->split, i, block, start >> order, (end - 1) >> order) {
		if (block->folio)
			continue;
		xa_erase(&f->split, i);
		kfree(block);
	}
}

static void ghugetlb_set_memcg(struct folio *folio, const struct folio *from)
{
#ifdef CONFIG_MEMCG
	folio->memcg_data = from ? from->memcg_data : 0;
#endif
}

/* What is charged, and for whom, stays with the block; the pieces are nobody's. */
static void ghugetlb_block_begin(struct ghugetlb_block *block, struct folio *folio)
{
	guard(spinlock_irq)(&hugetlb_lock);
	list_del_init(&folio->lru);
	block->folio = folio;
	block->saved = *folio;
	list_add(&block->split, &ghugetlb_split);
	ghugetlb_set_memcg(folio, NULL);
}

static void ghugetlb_block_end(struct ghugetlb_block *block)
{
	struct folio *folio = block->folio, *saved = &block->saved;

	guard(spinlock_irq)(&hugetlb_lock);
	list_del(&block->split);
	folio->private = saved->private;
	ghugetlb_set_memcg(folio, saved);
	hugetlb_set_folio_subpool(folio, hugetlb_folio_subpool(saved));
	set_hugetlb_cgroup(folio, hugetlb_cgroup_from_folio(saved));
	set_hugetlb_cgroup_rsvd(folio, hugetlb_cgroup_from_folio_rsvd(saved));
	list_add(&folio->lru, &block->h->hugepage_activelist);
}

static bool ghugetlb_block_optimized(struct ghugetlb_block *block)
{
	return folio_test_hugetlb_vmemmap_optimized(&block->saved);
}

/*
 * Split and merge
 */

static struct ghugetlb_file *ghugetlb_file_of(struct guestmem_pieces *p)
{
	return p->gi->priv;
}

static int ghugetlb_reserve_split(struct guestmem_pieces *p, struct folio *folio,
				  unsigned int from, unsigned int to)
{
	int err;

	if (from == p->gi->geo.block_order) {
		err = ghugetlb_block_reserve(ghugetlb_file_of(p), folio->index);
		if (err)
			return err;
	}

	return ghugetlb_vmemmap_reserve(p, folio, from, to);
}

static void ghugetlb_release_split(struct guestmem_pieces *p)
{
	ghugetlb_vmemmap_free(&p->reserved);
}

/* Of HugeTLB's type, and found by memory_failure(). */
static void ghugetlb_type_piece(struct ghugetlb_block *block, struct folio *piece)
{
	guard(spinlock_irq)(&hugetlb_lock);
	piece->private = NULL;
	/* Its head may be a copy of that of the block. */
	ghugetlb_set_memcg(piece, NULL);
	init_new_hugetlb_folio(piece);
	folio_set_hugetlb_migratable(piece);
	if (ghugetlb_block_optimized(block))
		folio_set_hugetlb_vmemmap_optimized(piece);
}

/* Single pages are counted as pages of a file, and only as that. */
static void ghugetlb_count(struct ghugetlb_block *block, long nr)
{
	lruvec_stat_mod_folio(&block->saved, NR_HUGETLB, nr);
}

/* It may have been on a list of those who tried to move it. */
static void ghugetlb_untype_piece(struct folio *piece)
{
	guard(spinlock_irq)(&hugetlb_lock);
	list_del_init(&piece->lru);
	__folio_clear_hugetlb(piece);
	piece->private = NULL;
}

static void ghugetlb_split_typed(struct ghugetlb_block *block, struct folio *folio,
				 unsigned int to)
{
	unsigned long nr = folio_nr_pages(folio);

	if (ghugetlb_block_optimized(block))
		ghugetlb_vmemmap_split(folio, to);
	else
		guestmem_split_folio(folio, to);

	for (unsigned long i = 0; i < nr; i += 1UL << to)
		ghugetlb_type_piece(block, page_folio(folio_page(folio, i)));
}

static void ghugetlb_split_pieces(struct guestmem_pieces *p, struct folio *folio,
				  unsigned int to)
{
	struct ghugetlb_block *block = ghugetlb_find_block(ghugetlb_file_of(p), folio->index);

	if (folio_order(folio) == p->gi->geo.block_order)
		ghugetlb_block_begin(block, folio);

	if (to) {
		ghugetlb_split_typed(block, folio, to);
		return;
	}

	ghugetlb_count(block, -folio_nr_pages(folio));
	ghugetlb_untype_piece(folio);
	guestmem_split_folio(folio, 0);
}

/* Single pages become a page of HugeTLB's. */
static void ghugetlb_merge_single(struct guestmem_pieces *p, struct ghugetlb_block *block,
				  struct folio *folio, unsigned int to)
{
	guestmem_merge_folios(folio, to);
	ghugetlb_type_piece(block, folio);
	ghugetlb_count(block, folio_nr_pages(folio));
	if (ghugetlb_block_optimized(block))
		ghugetlb_vmemmap_close(p, folio);
}

/*
 * Memory that is to go offline is searched for HugeTLB pages without references, which
 * have to have a size.  That of an optimized page always is one of HugeTLB's.
 */
static void ghugetlb_unlist_pieces(struct ghugetlb_block *block, struct folio *folio,
				   unsigned int to)
{
	unsigned long step = folio_nr_pages(folio);
	struct folio *piece;

	guard(spinlock_irq)(&hugetlb_lock);
	for (unsigned long i = 0; i < 1UL << to; i += step) {
		piece = page_folio(folio_page(folio, i));
		list_del_init(&piece->lru);
		if (!ghugetlb_block_optimized(block))
			__folio_clear_hugetlb(piece);
	}
}

static void ghugetlb_merge_typed(struct guestmem_pieces *p, struct ghugetlb_block *block,
				 struct folio *folio, unsigned int to)
{
	ghugetlb_unlist_pieces(block, folio, to);
	if (ghugetlb_block_optimized(block)) {
		ghugetlb_vmemmap_merge(p, folio, to);
		return;
	}

	guestmem_merge_folios(folio, to);
	ghugetlb_type_piece(block, folio);
}

static void ghugetlb_merge_any(struct guestmem_pieces *p, struct ghugetlb_block *block,
			       struct folio *folio, unsigned int to)
{
	if (folio_test_large(folio))
		ghugetlb_merge_typed(p, block, folio, to);
	else
		ghugetlb_merge_single(p, block, folio, to);
	GUESTMEM_WARN_ON(!folio_test_hugetlb(folio));
}

static void ghugetlb_merge_pieces(struct guestmem_pieces *p, struct folio *folio,
				  unsigned int to)
{
	struct ghugetlb_file *f = ghugetlb_file_of(p);
	struct ghugetlb_block *block = ghugetlb_find_block(f, folio->index);

	ghugetlb_merge_any(p, block, folio, to);
	if (to != p->gi->geo.block_order)
		return;

	ghugetlb_block_end(block);
	xa_erase(&f->split, folio->index >> to);
	kfree(block);
}

const struct guestmem_pieces_operations ghugetlb_pieces_ops = {
	.reserve	= ghugetlb_reserve_split,
	.release	= ghugetlb_release_split,
	.open		= ghugetlb_vmemmap_open,
	.split		= ghugetlb_split_pieces,
	.merge		= ghugetlb_merge_pieces,
	.flush		= ghugetlb_vmemmap_flush,
};

/*
 * Parked
 */

static struct guestmem_geometry ghugetlb_geometry(struct hstate *h)
{
	return (struct guestmem_geometry) {
		.block_order = huge_page_order(h),
		.piece_order = ghugetlb_piece_order(h),
	};
}

/*
 * A piece or a single page leaves the file while others of its block may be in use.
 * Returns false for a page that is whole.
 */
bool ghugetlb_park(struct ghugetlb_file *f, struct folio *folio)
{
	struct ghugetlb_block *block = ghugetlb_find_block(f, folio->index);

	if (!block || !block->folio)
		return false;

	folio_clear_dirty(folio);
	folio_clear_uptodate(folio);
	if (folio_test_large(folio)) {
		guard(spinlock_irq)(&hugetlb_lock);
		folio_clear_hugetlb_migratable(folio);
		folio_ref_add(folio, GHUGETLB_PARKED_REFS);
		return true;
	}

	guestmem_lru_isolate(folio);
	atomic_long_inc(&block->away);
	guestmem_custody_take(&block->custody, folio);
	return true;
}

static void ghugetlb_block_back(struct ghugetlb_block *block)
{
	if (atomic_long_dec_and_test(&block->away))
		queue_delayed_work(system_dfl_wq, &block->home, 0);
}

/* The page is back, with references that are the block's now. */
static void ghugetlb_custody_release(struct guestmem_custody *custody, struct folio *folio)
{
	struct ghugetlb_block *block = container_of(custody, struct ghugetlb_block, custody);
	const struct guestmem_geometry geo = ghugetlb_geometry(block->h);

	guestmem_check_form(&geo, folio, guestmem_form_in_file(&geo, folio));
	ghugetlb_block_back(block);
}

static struct folio *ghugetlb_piece(struct ghugetlb_block *block, unsigned long i)
{
	return page_folio(folio_page(block->folio, i));
}

static void ghugetlb_thaw_parked(struct ghugetlb_block *block, unsigned long nr)
{
	struct folio *piece;

	for (unsigned long i = 0; i < nr; i += folio_nr_pages(piece)) {
		piece = ghugetlb_piece(block, i);
		folio_ref_unfreeze(piece, GHUGETLB_PARKED_REFS);
		cond_resched();
	}
}

/* All references but those of the block are gone, or about to go. */
static bool ghugetlb_freeze_parked(struct ghugetlb_block *block)
{
	const struct guestmem_geometry geo = ghugetlb_geometry(block->h);
	unsigned long nr = pages_per_huge_page(block->h);
	struct folio *piece;
	int form;

	for (unsigned long i = 0; i < nr; i += folio_nr_pages(piece)) {
		piece = ghugetlb_piece(block, i);
		form = guestmem_form(&geo, piece);
		if (!folio_ref_freeze(piece, GHUGETLB_PARKED_REFS)) {
			ghugetlb_thaw_parked(block, i);
			return false;
		}
		guestmem_check_form(&geo, piece, form);
		cond_resched();
	}

	return true;
}

static void ghugetlb_gather(struct guestmem_pieces *p, struct ghugetlb_block *block,
			    struct folio *first, unsigned int to)
{
	const struct guestmem_geometry geo = ghugetlb_geometry(block->h);
	int form = guestmem_form(&geo, first);

	ghugetlb_merge_any(p, block, first, to);
	guestmem_check_form(&geo, first, form);
}

static void ghugetlb_merge_parked(struct ghugetlb_block *block)
{
	const struct guestmem_geometry geo = ghugetlb_geometry(block->h);
	unsigned int order = geo.block_order, piece = geo.piece_order;
	struct guestmem_pieces p = {};
	struct folio *first;

	INIT_LIST_HEAD(&p.dropped);
	for (unsigned long i = 0; piece && i < 1UL << order; i += 1UL << piece) {
		first = ghugetlb_piece(block, i);
		if (!folio_test_large(first))
			ghugetlb_gather(&p, block, first, piece);
		cond_resched();
	}
	ghugetlb_gather(&p, block, block->folio, order);
	ghugetlb_vmemmap_flush(&p);
}

static bool ghugetlb_block_poisoned(struct ghugetlb_block *block)
{
	unsigned long nr = pages_per_huge_page(block->h);
	struct folio *piece;

	for (unsigned long i = 0; i < nr; i += folio_nr_pages(piece)) {
		piece = ghugetlb_piece(block, i);
		if (folio_test_hwpoison(piece))
			return true;
		cond_resched();
	}

	return false;
}

/*
 * A block with a bad piece is not whole again, unless somebody takes the verdict back.
 * It stays charged, as a bad page of HugeTLB's does; another one takes its place in the
 * reservation.
 */
static void ghugetlb_block_replace(struct ghugetlb_block *block)
{
	if (block->f)
		ghugetlb_replace(block->f, &block->saved);
	block->f = NULL;
}

/*
 * Memory failure keeps a reference to most of what it finds, but not to all of it.  A bad
 * page is not frozen: unpoison_memory() may be waiting to look at it.
 */
static bool ghugetlb_block_is_home(struct ghugetlb_block *block)
{
	if (!ghugetlb_block_poisoned(block))
		return ghugetlb_freeze_parked(block);

	ghugetlb_block_replace(block);
	return false;
}

/* Everything is back: one page again, and free. */
static void ghugetlb_block_free(struct ghugetlb_block *block)
{
	struct folio *folio = block->folio;

	ghugetlb_merge_parked(block);
	ghugetlb_block_end(block);
	trace_guestmem_unpark(folio_pfn(folio), folio_order(folio));
	ghugetlb_give_back(block->f, folio);
	free_huge_folio(folio);
}

/*
 * memory_failure() finds it parked or free.  In between, with no reference and in no pool, it
 * would be marked and given to the pool all the same, and count as free there for ever.
 */
static bool ghugetlb_block_comes_home(struct ghugetlb_block *block)
{
	bool home;

	guestmem_reshape_begin();
	home = ghugetlb_block_is_home(block);
	if (home)
		ghugetlb_block_free(block);
	guestmem_reshape_end();
	return home;
}

static void ghugetlb_home_work(struct work_struct *work)
{
	struct ghugetlb_block *block = container_of(to_delayed_work(work),
						    struct ghugetlb_block, home);

	if (!ghugetlb_block_comes_home(block)) {
		block->delay = clamp(2 * block->delay, 1UL, GHUGETLB_HOME_DELAY);
		queue_delayed_work(system_dfl_wq, &block->home, block->delay);
		return;
	}

	kfree(block);
}

/* Large ones only: custody looks after the others. */
static void ghugetlb_check_parked(struct ghugetlb_block *block)
{
	const struct guestmem_geometry geo = ghugetlb_geometry(block->h);
	unsigned long nr = pages_per_huge_page(block->h);
	struct folio *piece;

	if (!IS_ENABLED(CONFIG_GUESTMEM_DEBUG))
		return;

	for (unsigned long i = 0; i < nr; i += folio_nr_pages(piece)) {
		piece = ghugetlb_piece(block, i);
		if (folio_test_large(piece))
			guestmem_check_form(&geo, piece, guestmem_form_in_file(&geo, piece));
		cond_resched();
	}
}

/* The blocks of [start, end) have left the page cache, some of them in pieces. */
void ghugetlb_blocks_left(struct ghugetlb_file *f, pgoff_t start, pgoff_t end)
{
	unsigned int order = huge_page_order(f->h);
	struct ghugetlb_block *block;
	unsigned long i;

	xa_for_each_range(&f->split, i, block, start >> order, (end - 1) >> order) {
		xa_erase(&f->split, i);
		trace_guestmem_park(folio_pfn(block->folio), order);
		ghugetlb_check_parked(block);
		if (ghugetlb_block_poisoned(block))
			ghugetlb_block_replace(block);
		ghugetlb_block_back(block);
	}
}
