// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem show: what fdinfo and debugfs say of a file
 */
#include <linux/export.h>
#include <linux/kvm_types.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>

#include "internal.h"

static const char *guestmem_state_name(struct guestmem_inode *gi)
{
	if (!RB_EMPTY_ROOT(&gi->flipped))
		return "mixed";

	return gi->init_shared ? "shared" : "private";
}

/* Of a block with nothing in it, one that is a folio, a folio in it, and a single page. */
enum { LAYOUT_ABSENT, LAYOUT_WHOLE, LAYOUT_PIECE, LAYOUT_SINGLE };
static const char guestmem_layout_symbols[] = ".#=:";

/* What is at *@index, which moves behind it: all single pages of a piece count once. */
static unsigned int guestmem_layout_next(struct guestmem_inode *gi, pgoff_t *index)
{
	const struct guestmem_geometry *geo = &gi->geo;
	unsigned int order, kind = LAYOUT_PIECE;
	pgoff_t at = *index;

	if (!guestmem_cache_find(gi->mapping, &at, at + 1, &order)) {
		order = geo->block_order;
		kind = LAYOUT_ABSENT;
	} else if (order == geo->block_order) {
		kind = LAYOUT_WHOLE;
	} else if (!order) {
		order = geo->piece_order ?: geo->block_order;
		kind = LAYOUT_SINGLE;
	}

	*index = round_down(at, 1UL << order) + (1UL << order);
	return kind;
}

/* In the order of the file, how many of each there are in a row. */
static void guestmem_show_layout(struct guestmem_inode *gi, struct seq_file *m)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT, index = 0;
	unsigned int kind, last = LAYOUT_ABSENT;
	unsigned long nr = 0;

	seq_puts(m, "guestmem-layout:\t");
	while (index < size) {
		kind = guestmem_layout_next(gi, &index);
		if (nr && kind != last) {
			seq_printf(m, "%lu%c ", nr, guestmem_layout_symbols[last]);
			nr = 0;
		}
		last = kind;
		nr++;
		cond_resched();
	}
	seq_printf(m, "%lu%c\n", nr, guestmem_layout_symbols[last]);
}

/**
 * guestmem_show() - describe a file's memory
 * @gi: file.
 * @m: where to.
 *
 * One line for each property, «guestmem-NAME:\tVALUE».  For the client's
 * show_fdinfo, and part of debugfs.  May sleep.
 */
void guestmem_show(struct guestmem_inode *gi, struct seq_file *m)
{
	seq_printf(m, "guestmem-allocator:\t%s\n", gi->ops->name);
	seq_printf(m, "guestmem-block-order:\t%u\n", gi->geo.block_order);
	seq_printf(m, "guestmem-punch-order:\t%u\n", gi->geo.punch_order);
	seq_printf(m, "guestmem-max-map-order:\t%u\n", gi->geo.max_map_order);
	seq_printf(m, "guestmem-state:\t%s\n", guestmem_state_name(gi));
	seq_printf(m, "guestmem-pages:\t%lu\n", gi->mapping->nrpages);
	if (gi->geo.split)
		guestmem_show_layout(gi, m);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_show);
