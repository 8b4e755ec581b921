// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem debugfs: guestmem/<inode number>/ of every file
 *
 *	layout	what fdinfo says, and the number of folios of each order
 *	pfns	index, order and first pfn of every folio; for hwpoison-inject
 *	states	first page, page after the last, and state of each run of pages
 *
 * The page cache is read under RCU and no folio is touched, so what is shown
 * may be a moment old.  Removal waits for readers.
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/pagemap.h>
#include <linux/rcupdate_wait.h>
#include <linux/seq_file.h>
#include <linux/xarray.h>

#include "internal.h"

static struct dentry *guestmem_debugfs_root;

static void guestmem_count_orders(struct guestmem_inode *gi,
				  unsigned long nr[GUESTMEM_MAX_ORDER + 1])
{
	XA_STATE(xas, &gi->mapping->i_pages, 0);
	void *entry;

	rcu_read_lock();
	xas_for_each(&xas, entry, ULONG_MAX) {
		if (xas_retry(&xas, entry))
			continue;
		nr[xas_get_order(&xas)]++;

		if (need_resched()) {
			xas_pause(&xas);
			cond_resched_rcu();
		}
	}
	rcu_read_unlock();
}

static int layout_show(struct seq_file *m, void *v)
{
	unsigned long nr[GUESTMEM_MAX_ORDER + 1] = {};
	struct guestmem_inode *gi = m->private;

	guestmem_show(gi, m);
	guestmem_count_orders(gi, nr);
	for (unsigned int order = 0; order < ARRAY_SIZE(nr); order++)
		if (nr[order])
			seq_printf(m, "folios-order-%u:\t%lu\n", order, nr[order]);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(layout);

/* The first folio at or after *@index; moves *@index to its start. */
static struct folio *pfns_find(struct guestmem_inode *gi, loff_t *index,
			       unsigned int *order)
{
	XA_STATE(xas, &gi->mapping->i_pages, *index);
	struct folio *folio;

	guard(rcu)();
	do {
		folio = xas_find(&xas, ULONG_MAX);
	} while (xas_retry(&xas, folio));

	*order = folio ? xas_get_order(&xas) : 0;
	*index = round_down(xas.xa_index, 1UL << *order);
	return folio;
}

static void *pfns_start(struct seq_file *m, loff_t *pos)
{
	unsigned int order;

	return pfns_find(m->private, pos, &order) ? pos : NULL;
}

static void *pfns_next(struct seq_file *m, void *v, loff_t *pos)
{
	unsigned int order;

	pfns_find(m->private, pos, &order);
	*pos += 1UL << order;
	return pfns_start(m, pos);
}

static void pfns_stop(struct seq_file *m, void *v)
{
}

static int pfns_show(struct seq_file *m, void *v)
{
	loff_t index = *(loff_t *)v;
	unsigned int order;
	struct folio *folio;

	folio = pfns_find(m->private, &index, &order);
	if (folio && index == *(loff_t *)v)
		seq_printf(m, "%lld %u 0x%lx\n", index, order, folio_pfn(folio));

	return 0;
}

static const struct seq_operations pfns_sops = {
	.start	= pfns_start,
	.next	= pfns_next,
	.stop	= pfns_stop,
	.show	= pfns_show,
};
DEFINE_SEQ_ATTRIBUTE(pfns);

/* By position, not by cursor: a run that vanishes meanwhile is no harm. */
static void *states_start(struct seq_file *m, loff_t *pos)
{
	struct guestmem_inode *gi = m->private;

	filemap_invalidate_lock_shared(gi->mapping);
	return *pos < i_size_read(gi->mapping->host) >> PAGE_SHIFT ? pos : NULL;
}

static void *states_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct guestmem_inode *gi = m->private;

	*pos = guestmem_state_run(gi, *pos).end;
	return *pos < i_size_read(gi->mapping->host) >> PAGE_SHIFT ? pos : NULL;
}

static void states_stop(struct seq_file *m, void *v)
{
	struct guestmem_inode *gi = m->private;

	filemap_invalidate_unlock_shared(gi->mapping);
}

static int states_show(struct seq_file *m, void *v)
{
	struct guestmem_inode *gi = m->private;
	pgoff_t start = *(loff_t *)v;

	seq_printf(m, "%lu %lu %s\n", start, guestmem_state_run(gi, start).end,
		   guestmem_is_private(gi, start) ? "private" : "shared");
	return 0;
}

static const struct seq_operations states_sops = {
	.start	= states_start,
	.next	= states_next,
	.stop	= states_stop,
	.show	= states_show,
};
DEFINE_SEQ_ATTRIBUTE(states);

void guestmem_debugfs_add(struct guestmem_inode *gi)
{
	char name[24];

	snprintf(name, sizeof(name), "%llu", gi->mapping->host->i_ino);
	gi->debugfs = debugfs_create_dir(name, guestmem_debugfs_root);
	debugfs_create_file("layout", 0400, gi->debugfs, gi, &layout_fops);
	debugfs_create_file("pfns", 0400, gi->debugfs, gi, &pfns_fops);
	debugfs_create_file("states", 0400, gi->debugfs, gi, &states_fops);
}

void guestmem_debugfs_remove(struct guestmem_inode *gi)
{
	debugfs_remove(gi->debugfs);
}

static int __init guestmem_debugfs_init(void)
{
	guestmem_debugfs_root = debugfs_create_dir("guestmem", NULL);
	return 0;
}
postcore_initcall(guestmem_debugfs_init);
