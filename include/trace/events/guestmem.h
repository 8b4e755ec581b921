/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM guestmem

#if !defined(_TRACE_GUESTMEM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_GUESTMEM_H

#include <linux/guestmem.h>
#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(guestmem_folio,
	TP_PROTO(struct guestmem_inode *gi, struct folio *folio),

	TP_ARGS(gi, folio),

	TP_STRUCT__entry(
		__string(allocator, gi->ops->name)
		__field(u64, ino)
		__field(unsigned long, index)
		__field(unsigned long, pfn)
		__field(unsigned int, order)
	),

	TP_fast_assign(
		__assign_str(allocator);
		__entry->ino = gi->mapping->host->i_ino;
		__entry->index = folio->index;
		__entry->pfn = folio_pfn(folio);
		__entry->order = folio_order(folio);
	),

	TP_printk("ino=%llu allocator=%s index=%lu order=%u pfn=0x%lx",
		  __entry->ino, __get_str(allocator), __entry->index,
		  __entry->order, __entry->pfn)
);

/* A folio has entered the page cache of its file. */
DEFINE_EVENT(guestmem_folio, guestmem_alloc,
	TP_PROTO(struct guestmem_inode *gi, struct folio *folio),
	TP_ARGS(gi, folio)
);

/* A folio is about to leave the page cache of its file. */
DEFINE_EVENT(guestmem_folio, guestmem_free,
	TP_PROTO(struct guestmem_inode *gi, struct folio *folio),
	TP_ARGS(gi, folio)
);

#endif /* _TRACE_GUESTMEM_H */

#include <trace/define_trace.h>
