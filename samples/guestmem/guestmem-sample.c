// SPDX-License-Identifier: GPL-2.0-only
/*
 * An allocator of guest_memfd memory in a module
 *
 * Sets memory aside when it is loaded and serves files with single pages of it.
 * Nothing is reserved for a file: an empty pool is -ENOSPC.  A page that is still
 * pinned when it leaves its file comes back later, through custody, and keeps the
 * module loaded until then.
 *
 *	insmod guestmem-sample.ko pages=4096
 *	cat /sys/module/guestmem_sample/parameters/free
 */
#include <linux/gfp.h>
#include <linux/guestmem.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/spinlock.h>

/* Bits 24 to 30 are for modules. */
#define SAMPLE_SELECTOR	BIT_ULL(24)
#define SAMPLE_ORDER	4

static unsigned int sample_pages = 1024;
module_param_named(pages, sample_pages, uint, 0444);
MODULE_PARM_DESC(pages, "Number of pages to set aside");

static unsigned int sample_free;
module_param_named(free, sample_free, uint, 0444);
MODULE_PARM_DESC(free, "Number of free pages, to be read");

static LIST_HEAD(sample_pool);
static DEFINE_SPINLOCK(sample_lock); /* protects the pool and its count */

/*
 * The pool
 */

static void sample_put(struct page *page)
{
	guard(spinlock)(&sample_lock);
	list_add(&page->lru, &sample_pool);
	sample_free++;
}

static struct page *sample_get(void)
{
	struct page *page;

	guard(spinlock)(&sample_lock);
	page = list_first_entry_or_null(&sample_pool, struct page, lru);
	if (page) {
		list_del(&page->lru);
		sample_free--;
	}

	return page;
}

/* Memory goes bad in the pool, too.  Freeing such a page takes it out of use. */
static struct page *sample_get_healthy(void)
{
	struct page *page;

	while ((page = sample_get()) && PageHWPoison(page))
		__free_page(page);

	return page;
}

static void sample_drain(void)
{
	struct page *page;

	while ((page = sample_get()))
		__free_page(page);
}

static int sample_fill(void)
{
	struct page *page;

	while (sample_free < sample_pages) {
		page = alloc_pages(GFP_KERNEL, SAMPLE_ORDER);
		if (!page)
			return -ENOMEM;

		split_page(page, SAMPLE_ORDER);
		for (int i = 0; i < 1 << SAMPLE_ORDER; i++)
			sample_put(page + i);
		cond_resched();
	}

	return 0;
}

/* The last reference to a page that has left its file is gone. */
static void sample_release(struct guestmem_custody *custody, struct folio *folio)
{
	if (folio_test_hwpoison(folio))
		folio_put(folio);
	else
		sample_put(folio_page(folio, 0));
}

static struct guestmem_custody sample_custody = {
	.owner		= THIS_MODULE,
	.release	= sample_release,
};

/*
 * The operations
 */

static int sample_inode_setup(struct guestmem_inode *gi,
			      const struct guestmem_inode_args *args)
{
	return args->unit_log2 ? -EINVAL : 0;
}

static void sample_inode_teardown(struct guestmem_inode *gi)
{
}

static struct folio *sample_alloc_folio(struct guestmem_inode *gi, pgoff_t index,
					struct mempolicy *policy)
{
	struct page *page = sample_get_healthy();

	/* What was given back a moment ago may still be on its way. */
	if (!page) {
		guestmem_custody_flush();
		page = sample_get_healthy();
	}

	if (!page)
		return ERR_PTR(-ENOSPC);

	if (guestmem_charge_folio(gi, page_folio(page))) {
		sample_put(page);
		return ERR_PTR(-ENOMEM);
	}

	return page_folio(page);
}

static void sample_free_folio(struct guestmem_inode *gi, struct folio *folio)
{
	guestmem_custody_take(&sample_custody, folio);
}

static int sample_map_order(struct guestmem_inode *gi, struct folio *folio,
			    pgoff_t index)
{
	return folio_test_hwpoison(folio) ? -EHWPOISON : 0;
}

static int sample_change_prepare(struct guestmem_change *c)
{
	return 0;
}

/* What the host holds must not become private; the rest is always possible. */
static int sample_change_freeze(struct guestmem_change *c)
{
	return c->target == GUESTMEM_PRIVATE ?
		guestmem_expect_unpinned(c, c->step) : 0;
}

static void sample_change_commit(struct guestmem_change *c)
{
	if (c->target == GUESTMEM_ABSENT)
		truncate_inode_pages_range(c->gi->mapping,
					   (loff_t)c->step.start << PAGE_SHIFT,
					   ((loff_t)c->step.end << PAGE_SHIFT) - 1);
}

static void sample_change_cancel(struct guestmem_change *c)
{
}

static void sample_truncate(struct guestmem_inode *gi)
{
	truncate_inode_pages(gi->mapping, 0);
}

static int sample_error_folio(struct guestmem_inode *gi, struct folio *folio,
			      struct guestmem_range *bad)
{
	return MF_DELAYED;
}

static const struct guestmem_allocator_operations sample_ops = {
	.name		= "sample",
	.owner		= THIS_MODULE,
	.selector	= SAMPLE_SELECTOR,
	/* Single pages, off the LRU: custody asks for that. */
	.geo		= { .insert = GUESTMEM_INSERT_CHARGED },
	.inode_setup	= sample_inode_setup,
	.inode_teardown	= sample_inode_teardown,
	.alloc_folio	= sample_alloc_folio,
	.free_folio	= sample_free_folio,
	.map_order	= sample_map_order,
	.change_prepare	= sample_change_prepare,
	.change_freeze	= sample_change_freeze,
	.change_commit	= sample_change_commit,
	.change_cancel	= sample_change_cancel,
	.truncate	= sample_truncate,
	.error_folio	= sample_error_folio,
};

/*
 * The module
 */

static int __init sample_init(void)
{
	int err;

	/* Whatever the command line said. */
	sample_free = 0;
	err = sample_fill();
	if (!err)
		err = guestmem_register(&sample_ops);
	if (err)
		sample_drain();
	return err;
}

/* No file and no page in custody is left: both pin the module. */
static void __exit sample_exit(void)
{
	guestmem_unregister(&sample_ops);
	sample_drain();
}

module_init(sample_init);
module_exit(sample_exit);
MODULE_DESCRIPTION("Sample allocator of guest_memfd memory");
MODULE_LICENSE("GPL");
