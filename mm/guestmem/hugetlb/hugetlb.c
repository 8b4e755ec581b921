// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB allocator: pages of HugeTLB's pools, of any size the host has
 *
 * A block is one HugeTLB page, as long as all of it is private.  Such a page is never
 * mapped by the host: struct pages of an optimized page are read-only, and a folio
 * of HugeTLB's type has no map count.  What the host may map is split: pieces.c.
 */
#include <linux/hugetlb.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "../../internal.h"
#include "hugetlb.h"

static struct ghugetlb_file *ghugetlb_file(struct guestmem_inode *gi)
{
	return gi->priv;
}

/*
 * Life of a file
 */

static bool ghugetlb_args_valid(const struct guestmem_inode_args *args)
{
	/* All of such a file would be in single pages, for good. */
	bool torn = args->init_shared && args->mappable && !args->convertible;

	return hugepages_supported() && !torn;
}

static int ghugetlb_inode_setup(struct guestmem_inode *gi,
				const struct guestmem_inode_args *args)
{
	struct ghugetlb_file *f;
	struct hstate *h;

	if (!ghugetlb_args_valid(args))
		return -EINVAL;

	h = hstate_sizelog(args->unit_log2);
	if (!h)
		return -EINVAL;

	f = ghugetlb_reserve(h, args->size);
	if (IS_ERR(f))
		return PTR_ERR(f);

	gi->priv = f;
	gi->geo.block_order = huge_page_order(h);
	gi->geo.punch_order = huge_page_order(h);
	gi->geo.max_map_order = huge_page_order(h);
	gi->geo.split = args->mappable && args->convertible;
	gi->geo.piece_order = gi->geo.split ? ghugetlb_piece_order(h) : 0;
	return 0;
}

static void ghugetlb_inode_teardown(struct guestmem_inode *gi)
{
	ghugetlb_unreserve(ghugetlb_file(gi));
}

/* Blocks leave as a whole where nobody is in the way, else in pieces. */
static void ghugetlb_remove(struct guestmem_inode *gi, struct guestmem_range range)
{
	truncate_inode_pages_range(gi->mapping, (loff_t)range.start << PAGE_SHIFT,
				   ((loff_t)range.end << PAGE_SHIFT) - 1);
	if (gi->geo.split)
		ghugetlb_blocks_left(ghugetlb_file(gi), range.start, range.end);
}

static void ghugetlb_truncate(struct guestmem_inode *gi)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT;
	const struct guestmem_range all = { 0, round_up(size, 1UL << gi->geo.block_order) };

	if (gi->geo.split)
		guestmem_pieces_gather(gi, all, &ghugetlb_pieces_ops);
	ghugetlb_remove(gi, all);
}

/*
 * Folios
 */

static struct folio *ghugetlb_alloc_folio(struct guestmem_inode *gi, pgoff_t index,
					  struct mempolicy *policy)
{
	return ghugetlb_take(ghugetlb_file(gi), index >> gi->geo.block_order,
			     policy);
}

static void ghugetlb_free_folio(struct guestmem_inode *gi, struct folio *folio)
{
	if (!gi->geo.split || !ghugetlb_park(ghugetlb_file(gi), folio))
		ghugetlb_give_back(ghugetlb_file(gi), folio);
}

/* Around a poisoned page, what is not it is mapped page by page. */
static int ghugetlb_map_order(struct guestmem_inode *gi, struct folio *folio,
			      pgoff_t index)
{
	if (!folio_test_hwpoison(folio))
		return folio_order(folio);

	if (!folio_test_hugetlb(folio))
		return -EHWPOISON;

	return hugetlb_raw_hwpoison(folio_file_page(folio, index)) ? -EHWPOISON : 0;
}

static int ghugetlb_error_folio(struct guestmem_inode *gi, struct folio *folio,
				struct guestmem_range *bad)
{
	unsigned long start = 0, end = folio_nr_pages(folio);

	if (!folio_test_hugetlb(folio))
		return MF_DELAYED;

	hugetlb_raw_hwpoison_span(folio, &start, &end);
	bad->start = folio->index + start;
	bad->end = folio->index + end;
	return MF_DELAYED;
}

/*
 * Changes
 */

static int ghugetlb_change_prepare(struct guestmem_change *c)
{
	int err;

	if (!c->gi->geo.split)
		return guestmem_expect_unpinned(c, (struct guestmem_range) { c->start, c->end });

	err = guestmem_pieces_prepare(c, &ghugetlb_pieces_ops);
	if (err)
		ghugetlb_blocks_release(ghugetlb_file(c->gi), c->start, c->end);
	return err;
}

static int ghugetlb_change_freeze(struct guestmem_change *c)
{
	if (!c->gi->geo.split)
		return guestmem_expect_unpinned(c, c->step);

	return guestmem_pieces_freeze(c);
}

/* The last block may reach beyond the end of the file, and goes as a whole. */
static void ghugetlb_change_commit(struct guestmem_change *c)
{
	if (c->gi->geo.split)
		guestmem_pieces_commit(c);
	if (c->target == GUESTMEM_ABSENT)
		ghugetlb_remove(c->gi, guestmem_step_block(c));
}

static void ghugetlb_change_cancel(struct guestmem_change *c)
{
	if (!c->gi->geo.split)
		return;

	guestmem_pieces_cancel(c);
	ghugetlb_blocks_release(ghugetlb_file(c->gi), c->step.start, c->end);
}

static struct guestmem_allocator_operations ghugetlb_ops = {
	.name		= "hugetlb",
	.geo		= { .insert = GUESTMEM_INSERT_CHARGED },
	.inode_setup	= ghugetlb_inode_setup,
	.inode_teardown	= ghugetlb_inode_teardown,
	.alloc_folio	= ghugetlb_alloc_folio,
	.free_folio	= ghugetlb_free_folio,
	.map_order	= ghugetlb_map_order,
	.change_prepare	= ghugetlb_change_prepare,
	.change_freeze	= ghugetlb_change_freeze,
	.change_commit	= ghugetlb_change_commit,
	.change_cancel	= ghugetlb_change_cancel,
	.truncate	= ghugetlb_truncate,
	.error_folio	= ghugetlb_error_folio,
};

static int __init ghugetlb_init(void)
{
	ghugetlb_ops.selector = ghugetlb_selector;
	return guestmem_register(&ghugetlb_ops);
}
subsys_initcall(ghugetlb_init);
