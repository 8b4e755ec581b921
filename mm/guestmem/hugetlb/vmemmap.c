// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB allocator: struct pages of an optimized page that is split
 *
 * All struct pages of an optimized HugeTLB page but the first page full of them are one
 * page, read-only, shared by all of the same order.  Split into pieces that are
 * HugeTLB pages themselves, each piece gets a page for its head and shares the tails of
 * its own order; split into single pages, it gets all of them back:
 *
 *	1G	| head |           order 18, read-only          |
 *	2M each	| head | order 9, read-only | head | order 9, read-only | ...
 *	4K	| a page for every 64 of them                   |
 *
 * So sharing one page of 1G costs 511 pages for the heads and 7 for the single pages,
 * of the 4095 that are saved.
 *
 * Every page that is mapped holds from the start what whoever looks expects to see: a
 * head that is frozen, or the tail that was there before.  Nothing is written to it
 * before the translations are flushed.
 *
 * What was writable once stays so when it is shared again.  Whoever walks over pfns may
 * have read a reference count just before it was frozen, and tries to raise it now: that
 * must find 0 and not a fault, however long it has taken.  The price is that a stray
 * write to a tail is not caught there, as it is not for pages from early boot.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/pgtable.h>
#include <linux/vmstat.h>

#include <asm/tlbflush.h>

#include "../../internal.h"
#include "../internal.h"
#include "hugetlb.h"

/* Struct pages in one page of them. */
#define STRUCTS		(PAGE_SIZE / sizeof(struct page))

static unsigned long ghugetlb_vmemmap_pages(unsigned int order)
{
	return (1UL << order) / STRUCTS;
}

static unsigned long ghugetlb_vmemmap_cost(unsigned int from, unsigned int to)
{
	return to ? (1UL << (from - to)) - 1 : ghugetlb_vmemmap_pages(from) - 1;
}

static int ghugetlb_vmemmap_alloc(struct guestmem_pieces *p, int nid, unsigned long nr)
{
	struct page *page;

	while (nr--) {
		page = alloc_pages_node(nid, GUESTMEM_GFP_RESERVE, 0);
		if (!page)
			return -ENOMEM;

		memmap_pages_add(1);
		list_add(&page->lru, &p->reserved);
	}

	return 0;
}

/* For a split of an aligned range of order @from; -ENOMEM leaves some on @p->reserved. */
int ghugetlb_vmemmap_reserve(struct guestmem_pieces *p, struct folio *folio,
			     unsigned int from, unsigned int to)
{
	if (!folio_test_hugetlb_vmemmap_optimized(folio))
		return 0;

	/* Of both sizes, before anybody can find a head where a tail will be. */
	if (!hugetlb_vmemmap_tail(from, folio_zone(folio)) ||
	    (to && !hugetlb_vmemmap_tail(to, folio_zone(folio))))
		return -ENOMEM;

	return ghugetlb_vmemmap_alloc(p, folio_nid(folio), ghugetlb_vmemmap_cost(from, to));
}

void ghugetlb_vmemmap_free(struct list_head *pages)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, pages, lru) {
		list_del(&page->lru);
		memmap_pages_add(-1);
		__free_page(page);
	}
}

static struct page *ghugetlb_vmemmap_take(struct guestmem_pieces *p)
{
	struct page *page = list_first_entry(&p->reserved, struct page, lru);

	list_del(&page->lru);
	return page;
}

static pte_t *ghugetlb_vmemmap_pte(const void *structs)
{
	return virt_to_kpte((unsigned long)structs);
}

/* An optimized page has page tables down to single pages for them: no memory needed. */
static void ghugetlb_vmemmap_map(void *structs, struct page *page, pgprot_t prot)
{
	/* Whoever looks by way of the new entry finds the page filled. */
	smp_wmb();
	set_pte_at(&init_mm, (unsigned long)structs, ghugetlb_vmemmap_pte(structs),
		   mk_pte(page, prot));
}

/* As good as another look at @tail, which nobody changes. */
static void ghugetlb_vmemmap_unshare(struct guestmem_pieces *p, void *structs,
				     struct page *tail)
{
	struct page *page = ghugetlb_vmemmap_take(p);

	copy_page(page_address(page), page_address(tail));
	ghugetlb_vmemmap_map(structs, page, PAGE_KERNEL);
}

/* A head for page @i of @folio: frozen and of HugeTLB's type, as that of @folio is. */
static void ghugetlb_vmemmap_add_head(struct guestmem_pieces *p, struct folio *folio,
				      unsigned long i, unsigned int order,
				      struct page *tail)
{
	struct page *page = ghugetlb_vmemmap_take(p);
	struct folio *head = page_address(page);

	copy_page(head, page_address(tail));
	head->page = folio->page;
	head->index = folio->index + i;
	prep_compound_head(&head->page, order);
	ghugetlb_vmemmap_map(folio_page(folio, i), page, PAGE_KERNEL);
}

static void ghugetlb_vmemmap_share_one(void *structs, struct page *tail)
{
	bool written = pte_write(ptep_get(ghugetlb_vmemmap_pte(structs)));

	ghugetlb_vmemmap_map(structs, tail, written ? PAGE_KERNEL : PAGE_KERNEL_RO);
}

static void ghugetlb_vmemmap_share(struct page *head, unsigned int order, struct page *tail)
{
	for (unsigned long i = STRUCTS; i < 1UL << order; i += STRUCTS)
		ghugetlb_vmemmap_share_one(head + i, tail);
}

static void ghugetlb_vmemmap_open_heads(struct guestmem_pieces *p, struct folio *folio,
					unsigned int order)
{
	struct page *tail = hugetlb_vmemmap_tail(order, folio_zone(folio));

	for (unsigned long i = 0; i < folio_nr_pages(folio); i += 1UL << order) {
		if (i)
			ghugetlb_vmemmap_add_head(p, folio, i, order, tail);
		ghugetlb_vmemmap_share(folio_page(folio, i), order, tail);
		cond_resched();
	}
}

/* @first is, or is about to be, the head of a page of order @from. */
static void ghugetlb_vmemmap_open_tails(struct guestmem_pieces *p, struct page *first,
					unsigned int from)
{
	struct page *tail = hugetlb_vmemmap_tail(from, page_zone(first));

	for (unsigned long i = STRUCTS; i < 1UL << from; i += STRUCTS)
		ghugetlb_vmemmap_unshare(p, first + i, tail);
}

/* Followed by a flush. */
void ghugetlb_vmemmap_open(struct guestmem_pieces *p, struct folio *folio,
			   unsigned long first, unsigned int from, unsigned int to)
{
	if (!folio_test_hugetlb_vmemmap_optimized(folio))
		return;

	p->stale = true;
	if (to)
		ghugetlb_vmemmap_open_heads(p, folio, to);
	else
		ghugetlb_vmemmap_open_tails(p, folio_page(folio, first), from);
}

/* The struct pages that are not shared: the first page full of them. */
static void ghugetlb_vmemmap_prep(struct folio *folio, unsigned int order)
{
	for (unsigned long i = 1; i < STRUCTS; i++)
		prep_compound_tail(folio_page(folio, i), &folio->page, order);
	prep_compound_head(&folio->page, order);
}

/* Opened and flushed before: what is left to do is at the first piece, and lists. */
void ghugetlb_vmemmap_split(struct folio *folio, unsigned int to)
{
	unsigned long nr = folio_nr_pages(folio);

	for (unsigned long i = 1UL << to; i < nr; i += 1UL << to)
		INIT_LIST_HEAD(&page_folio(folio_page(folio, i))->_deferred_list);
	ghugetlb_vmemmap_prep(folio, to);
}

/* Share @structs again; what they were in is freed after the flush. */
static void ghugetlb_vmemmap_drop(struct guestmem_pieces *p, void *structs, struct page *tail)
{
	struct page *page = pte_page(ptep_get(ghugetlb_vmemmap_pte(structs)));

	ghugetlb_vmemmap_share_one(structs, tail);
	list_add(&page->lru, &p->dropped);
}

/* Whoever looks at it as a HugeTLB page has this lock, and has to be done with it. */
static void ghugetlb_vmemmap_drop_head(struct guestmem_pieces *p, void *structs,
				       struct page *tail)
{
	guard(spinlock_irq)(&hugetlb_lock);
	ghugetlb_vmemmap_drop(p, structs, tail);
}

/* Pieces of HugeTLB's type become @folio, of order @to. */
void ghugetlb_vmemmap_merge(struct guestmem_pieces *p, struct folio *folio, unsigned int to)
{
	struct page *tail = hugetlb_vmemmap_tail(to, folio_zone(folio));
	unsigned int from = folio_order(folio);

	p->stale = true;
	for (unsigned long i = 0; i < 1UL << to; i += 1UL << from) {
		if (i)
			ghugetlb_vmemmap_drop_head(p, folio_page(folio, i), tail);
		ghugetlb_vmemmap_share(folio_page(folio, i), from, tail);
		cond_resched();
	}
	ghugetlb_vmemmap_prep(folio, to);
}

/* @folio has been made of single pages, and is of HugeTLB's type by now. */
void ghugetlb_vmemmap_close(struct guestmem_pieces *p, struct folio *folio)
{
	struct page *tail = hugetlb_vmemmap_tail(folio_order(folio), folio_zone(folio));

	p->stale = true;
	for (unsigned long i = STRUCTS; i < folio_nr_pages(folio); i += STRUCTS)
		ghugetlb_vmemmap_drop(p, folio_page(folio, i), tail);
}

void ghugetlb_vmemmap_flush(struct guestmem_pieces *p)
{
	if (!p->stale)
		return;

	flush_tlb_all();
	p->stale = false;
	ghugetlb_vmemmap_free(&p->dropped);
}
