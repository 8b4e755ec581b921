// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB allocator: pages of HugeTLB's pools, of any size the host has
 *
 * A block is one HugeTLB page, whole.  It is never mapped by the host: struct
 * pages of an optimised page are read-only, and a typed folio has no map count.
 * What the host is to map would have to be split first.
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
	/* Every page of such a file would have to be split at once. */
	return hugepages_supported() && !(args->init_shared && args->mappable);
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

	f->mappable = args->mappable;
	gi->priv = f;
	gi->geo.block_order = huge_page_order(h);
	gi->geo.punch_order = huge_page_order(h);
	gi->geo.max_map_order = huge_page_order(h);
	return 0;
}

static void ghugetlb_inode_teardown(struct guestmem_inode *gi)
{
	ghugetlb_unreserve(ghugetlb_file(gi));
}

static void ghugetlb_truncate(struct guestmem_inode *gi)
{
	truncate_inode_pages(gi->mapping, 0);
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
	ghugetlb_give_back(ghugetlb_file(gi), folio);
}

/* Around a poisoned page, what is not it is mapped page by page. */
static int ghugetlb_map_order(struct guestmem_inode *gi, struct folio *folio,
			      pgoff_t index)
{
	if (!folio_test_hwpoison(folio))
		return folio_order(folio);

	return hugetlb_raw_hwpoison(folio_file_page(folio, index)) ? -EHWPOISON : 0;
}

static int ghugetlb_error_folio(struct guestmem_inode *gi, struct folio *folio,
				struct guestmem_range *bad)
{
	unsigned long start = 0, end = folio_nr_pages(folio);

	hugetlb_raw_hwpoison_span(folio, &start, &end);
	bad->start = folio->index + start;
	bad->end = folio->index + end;
	return MF_DELAYED;
}

/*
 * Changes: of whole blocks only
 */

static bool ghugetlb_whole_blocks(const struct guestmem_change *c)
{
	pgoff_t mask = (1UL << c->gi->geo.block_order) - 1;
	pgoff_t size = i_size_read(c->gi->mapping->host) >> PAGE_SHIFT;

	if (c->start & mask)
		return false;

	return !(c->end & mask) || c->end == size;
}

static int ghugetlb_change_prepare(struct guestmem_change *c)
{
	/* What the host may map would have to be in pieces. */
	if (c->target == GUESTMEM_SHARED && ghugetlb_file(c->gi)->mappable)
		goto refuse;
	if (!ghugetlb_whole_blocks(c))
		goto refuse;

	return guestmem_expect_unpinned(c, (struct guestmem_range) { c->start, c->end });

refuse:
	c->err_index = c->start;
	return -EOPNOTSUPP;
}

static int ghugetlb_change_freeze(struct guestmem_change *c)
{
	return guestmem_expect_unpinned(c, c->step);
}

/* The last block may reach beyond the end of the file, and goes as a whole. */
static void ghugetlb_change_commit(struct guestmem_change *c)
{
	struct guestmem_range block = guestmem_step_block(c);

	if (c->target == GUESTMEM_ABSENT)
		truncate_inode_pages_range(c->gi->mapping,
					   (loff_t)block.start << PAGE_SHIFT,
					   ((loff_t)block.end << PAGE_SHIFT) - 1);
}

static void ghugetlb_change_cancel(struct guestmem_change *c)
{
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
