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

/* A folio is about to be split into smaller ones. */
DEFINE_EVENT(guestmem_folio, guestmem_split,
	TP_PROTO(struct guestmem_inode *gi, struct folio *folio),
	TP_ARGS(gi, folio)
);

/* A folio has been made of smaller ones. */
DEFINE_EVENT(guestmem_folio, guestmem_merge,
	TP_PROTO(struct guestmem_inode *gi, struct folio *folio),
	TP_ARGS(gi, folio)
);

#define guestmem_show_target(target)					\
	__print_symbolic(target,					\
			 { GUESTMEM_PRIVATE, "private" },		\
			 { GUESTMEM_SHARED, "shared" },			\
			 { GUESTMEM_ABSENT, "absent" })

TRACE_DEFINE_ENUM(GUESTMEM_PRIVATE);
TRACE_DEFINE_ENUM(GUESTMEM_SHARED);
TRACE_DEFINE_ENUM(GUESTMEM_ABSENT);

DECLARE_EVENT_CLASS(guestmem_change,
	TP_PROTO(struct guestmem_change *c, struct guestmem_range range),

	TP_ARGS(c, range),

	TP_STRUCT__entry(
		__field(u64, ino)
		__field(int, target)
		__field(unsigned long, start)
		__field(unsigned long, end)
	),

	TP_fast_assign(
		__entry->ino = c->gi->mapping->host->i_ino;
		__entry->target = c->target;
		__entry->start = range.start;
		__entry->end = range.end;
	),

	TP_printk("ino=%llu target=%s range=%lu-%lu", __entry->ino,
		  guestmem_show_target(__entry->target), __entry->start, __entry->end)
);

/* A change is asked for. */
DEFINE_EVENT(guestmem_change, guestmem_change_begin,
	TP_PROTO(struct guestmem_change *c, struct guestmem_range range),
	TP_ARGS(c, range)
);

/* A step can not fail any more. */
DEFINE_EVENT(guestmem_change, guestmem_change_frozen,
	TP_PROTO(struct guestmem_change *c, struct guestmem_range range),
	TP_ARGS(c, range)
);

/* No guest maps the pages of a step that change. */
DEFINE_EVENT(guestmem_change, guestmem_change_unmapped,
	TP_PROTO(struct guestmem_change *c, struct guestmem_range range),
	TP_ARGS(c, range)
);

/* A step is done, and guests may map it again. */
DEFINE_EVENT(guestmem_change, guestmem_change_committed,
	TP_PROTO(struct guestmem_change *c, struct guestmem_range range),
	TP_ARGS(c, range)
);

/* A change has come to its end, good or bad. */
TRACE_EVENT(guestmem_change_end,
	TP_PROTO(struct guestmem_change *c, struct guestmem_range range, int err),

	TP_ARGS(c, range, err),

	TP_STRUCT__entry(
		__field(u64, ino)
		__field(int, target)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(int, err)
	),

	TP_fast_assign(
		__entry->ino = c->gi->mapping->host->i_ino;
		__entry->target = c->target;
		__entry->start = range.start;
		__entry->end = range.end;
		__entry->err = err;
	),

	TP_printk("ino=%llu target=%s range=%lu-%lu result=%d", __entry->ino,
		  guestmem_show_target(__entry->target), __entry->start,
		  __entry->end, __entry->err)
);

DECLARE_EVENT_CLASS(guestmem_block,
	TP_PROTO(unsigned long pfn, unsigned int order),

	TP_ARGS(pfn, order),

	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__field(unsigned int, order)
	),

	TP_fast_assign(
		__entry->pfn = pfn;
		__entry->order = order;
	),

	TP_printk("pfn=0x%lx order=%u", __entry->pfn, __entry->order)
);

/* A block has left its file in pieces, some of which may still be in use. */
DEFINE_EVENT(guestmem_block, guestmem_park,
	TP_PROTO(unsigned long pfn, unsigned int order),
	TP_ARGS(pfn, order)
);

/* All of them are back, and the block goes to where it came from. */
DEFINE_EVENT(guestmem_block, guestmem_unpark,
	TP_PROTO(unsigned long pfn, unsigned int order),
	TP_ARGS(pfn, order)
);

/* A folio has more references than page cache and mappings account for, or a bad page. */
TRACE_EVENT(guestmem_refused,
	TP_PROTO(struct guestmem_change *c, struct folio *folio),

	TP_ARGS(c, folio),

	TP_STRUCT__entry(
		__field(u64, ino)
		__field(int, target)
		__field(unsigned long, index)
		__field(unsigned long, pfn)
		__field(int, refs)
		__field(int, expected)
	),

	TP_fast_assign(
		__entry->ino = c->gi->mapping->host->i_ino;
		__entry->target = c->target;
		__entry->index = c->err_index;
		__entry->pfn = folio_pfn(folio);
		/* One is the walker's. */
		__entry->refs = folio_ref_count(folio) - 1;
		__entry->expected = folio_expected_ref_count(folio);
	),

	TP_printk("ino=%llu target=%s index=%lu pfn=0x%lx refs=%d expected=%d",
		  __entry->ino, guestmem_show_target(__entry->target),
		  __entry->index, __entry->pfn, __entry->refs, __entry->expected)
);

#endif /* _TRACE_GUESTMEM_H */

#include <trace/define_trace.h>
