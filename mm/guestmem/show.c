// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem show: what fdinfo and debugfs say of a file
 */
#include <linux/export.h>
#include <linux/kvm_types.h>
#include <linux/seq_file.h>

#include "internal.h"

static const char *guestmem_state_name(struct guestmem_inode *gi)
{
	if (!RB_EMPTY_ROOT(&gi->flipped))
		return "mixed";

	return gi->init_shared ? "shared" : "private";
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
}
EXPORT_SYMBOL_FOR_KVM(guestmem_show);
