// SPDX-License-Identifier: GPL-2.0-only
/*
 * page4k: single pages from the buddy allocator
 *
 * The default allocator of guest_memfd.  Nothing is reserved, so nothing has to
 * be given back; a page has no parts, so a change of state leaves it as it is.
 */
#include <linux/gfp.h>
#include <linux/guestmem.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

static int page4k_inode_setup(struct guestmem_inode *gi,
			      const struct guestmem_inode_args *args)
{
	return args->unit_log2 ? -EINVAL : 0;
}

static void page4k_inode_teardown(struct guestmem_inode *gi)
{
}

static struct folio *page4k_alloc_folio(struct guestmem_inode *gi, pgoff_t index,
					struct mempolicy *policy)
{
	struct folio *folio;

	folio = filemap_alloc_folio(mapping_gfp_mask(gi->mapping), 0, policy);
	return folio ?: ERR_PTR(-ENOMEM);
}

static void page4k_free_folio(struct guestmem_inode *gi, struct folio *folio)
{
}

static int page4k_map_order(struct guestmem_inode *gi, struct folio *folio,
			    pgoff_t index)
{
	return folio_test_hwpoison(folio) ? -EHWPOISON : 0;
}

static int page4k_change_prepare(struct guestmem_change *c)
{
	return 0;
}

/*
 * Only a page that the host holds must not become private: sharing gives the
 * host more than it had, and a punched page lives on until its holders drop it.
 */
static int page4k_change_freeze(struct guestmem_change *c)
{
	return c->target == GUESTMEM_PRIVATE ?
		guestmem_expect_unpinned(c, c->step) : 0;
}

static void page4k_change_commit(struct guestmem_change *c)
{
	if (c->target == GUESTMEM_ABSENT)
		truncate_inode_pages_range(c->gi->mapping,
					   (loff_t)c->step.start << PAGE_SHIFT,
					   ((loff_t)c->step.end << PAGE_SHIFT) - 1);
}

static void page4k_change_cancel(struct guestmem_change *c)
{
}

static void page4k_truncate(struct guestmem_inode *gi)
{
	truncate_inode_pages(gi->mapping, 0);
}

/*
 * The page stays where it is: what happens to a guest that touches it is up to
 * user space, which learns of it by -EHWPOISON.
 */
static int page4k_error_folio(struct guestmem_inode *gi, struct folio *folio,
			      struct guestmem_range *bad)
{
	return MF_DELAYED;
}

static const struct guestmem_allocator_operations page4k_ops = {
	.name		= "page4k",
	.geo		= { .insert = GUESTMEM_INSERT_LRU },
	.inode_setup	= page4k_inode_setup,
	.inode_teardown	= page4k_inode_teardown,
	.alloc_folio	= page4k_alloc_folio,
	.free_folio	= page4k_free_folio,
	.map_order	= page4k_map_order,
	.change_prepare	= page4k_change_prepare,
	.change_freeze	= page4k_change_freeze,
	.change_commit	= page4k_change_commit,
	.change_cancel	= page4k_change_cancel,
	.truncate	= page4k_truncate,
	.error_folio	= page4k_error_folio,
};

static int __init page4k_init(void)
{
	return guestmem_register(&page4k_ops);
}
subsys_initcall(page4k_init);
