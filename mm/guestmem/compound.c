// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem compound: struct pages of a folio that changes its size
 *
 * All of this is done to folios whose reference counts are frozen: whoever comes
 * across one of their pages cannot get hold of it.
 */
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/sched/mm.h>
#include <linux/vm_event_item.h>
#include <linux/vmstat.h>

#include "../internal.h"
#include "internal.h"

/* What the memory holds stays with each part of it. */
#define GUESTMEM_PIECE_FLAGS	(BIT(PG_uptodate) | BIT(PG_dirty))

/* As buddy hands it out, but for the poison of a single page. */
static void guestmem_reset_page(struct page *page)
{
	page->flags.f &= ~PAGE_FLAGS_CHECK_AT_PREP;
	page->private = 0;
#ifdef CONFIG_MEMCG
	page->memcg_data = 0;
#endif
	atomic_set(&page->_mapcount, -1);
}

/* Page @i of @whole becomes the first page of a folio. */
static void guestmem_split_off(struct folio *whole, unsigned long i, unsigned long flags,
			       unsigned int order)
{
	struct page *page = folio_page(whole, i);
	struct folio *piece = (struct folio *)page;

	guestmem_reset_page(page);
	page->flags.f |= flags;
	page->mapping = whole->mapping;
	piece->index = whole->index + i;
	clear_compound_head(page);
	INIT_LIST_HEAD(&piece->lru);
	if (order)
		prep_compound_page(page, order);
}

/**
 * guestmem_split_folio() - turn a compound folio into smaller ones
 * @folio: locked folio, its reference count frozen, its struct pages writable.
 * @to: order of the folios it becomes.
 *
 * For a split of struct guestmem_pieces_operations.  The folios are frozen, the
 * first one is locked.  They have mapping, index, and the flags that say what
 * the memory holds; but no charge and no page type, unless the first one had: it
 * keeps both.  A page type is to be cleared before a split to order 0.
 * Takes time for each page, and may sleep between two folios.
 */
void guestmem_split_folio(struct folio *folio, unsigned int to)
{
	unsigned long flags = folio->flags.f & GUESTMEM_PIECE_FLAGS;
	unsigned long nr = folio_nr_pages(folio), step = 1UL << to;

	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio), folio);

	/* Pages 1 to 3 keep for the folio what a page of its own must not have. */
	for (unsigned long i = step; i < nr; i += step) {
		guestmem_split_off(folio, i, flags, to);
		cond_resched();
	}

	if (to) {
		prep_compound_page(&folio->page, to);
	} else {
		__folio_clear_head(folio);
		INIT_LIST_HEAD(&folio->lru);
	}
}

/**
 * guestmem_merge_folios() - make one compound folio of all that follow it
 * @folio: first of the folios; like all of them locked, frozen and off the LRU.
 * @to: order of the folio they become.
 *
 * For a merge of struct guestmem_pieces_operations: the reverse of
 * guestmem_split_folio().  The flags are those of the first folio.  Takes time for
 * each page, and may sleep.
 */
void guestmem_merge_folios(struct folio *folio, unsigned int to)
{
	VM_WARN_ON_ONCE_FOLIO(folio_ref_count(folio), folio);

	__folio_set_head(folio);
	for (unsigned long i = 1; i < 1UL << to; i++) {
		guestmem_reset_page(folio_page(folio, i));
		prep_compound_tail(folio_page(folio, i), &folio->page, to);
		cond_resched();
	}

	prep_compound_head(&folio->page, to);
}

/* Where truncation and munlock met, the flag stays behind. */
void guestmem_folio_munlock(struct folio *folio)
{
	long nr = folio_nr_pages(folio);

	if (!folio_test_clear_mlocked(folio))
		return;

	zone_stat_mod_folio(folio, NR_MLOCK, -nr);
	count_vm_events(UNEVICTABLE_PGCLEARED, nr);
}

/* The root is charged without a limit, so that cannot fail. */
static void guestmem_charge_root(struct folio *folio)
{
	struct mem_cgroup *old = set_active_memcg(root_mem_cgroup);

	mem_cgroup_charge(folio, NULL, GFP_NOWAIT);
	set_active_memcg(old);
}

/*
 * A page that the host may map is on the unevictable LRU, where mlock() and
 * memory_failure() want to see it.  Its block is charged to someone; on the LRU, it
 * has to be to somebody, too: the root.  There is no list to be on, so nothing
 * but the size of it is at stake.
 */
void guestmem_lru_add(struct folio *folio)
{
	struct lruvec *lruvec;

	guestmem_charge_root(folio);
	lruvec_stat_mod_folio(folio, NR_FILE_PAGES, folio_nr_pages(folio));
	folio_set_unevictable(folio);
	folio->mlock_count = 0;

	lruvec = folio_lruvec_lock_irq(folio);
	folio_set_lru(folio);
	lruvec_add_folio(lruvec, folio);
	lruvec_unlock_irq(lruvec);
}

/* Whoever has taken it off for the moment puts it on again: not for good, then. */
void guestmem_lru_isolate(struct folio *folio)
{
	struct lruvec *lruvec;

	if (!folio_test_clear_lru(folio))
		return;

	lruvec = folio_lruvec_lock_irq(folio);
	lruvec_del_folio(lruvec, folio);
	lruvec_unlock_irq(lruvec);
}

/* Frozen: no batch holds it. */
void guestmem_lru_remove(struct folio *folio)
{
	guestmem_lru_isolate(folio);
	folio_clear_unevictable(folio);
	guestmem_folio_munlock(folio);
	lruvec_stat_mod_folio(folio, NR_FILE_PAGES, -folio_nr_pages(folio));
	mem_cgroup_uncharge(folio);
}
