/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the HugeTLB allocator share with each other.
 */
#ifndef _MM_GUESTMEM_HUGETLB_H
#define _MM_GUESTMEM_HUGETLB_H

#include <linux/guestmem.h>
#include <linux/hugetlb.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

struct hugepage_subpool;
struct hugetlb_cgroup;

/* kvm_abi.c: the flag of the user ABI. */
extern const u64 ghugetlb_selector;

/**
 * struct ghugetlb_file - what the allocator keeps of a file
 * @h: size of its pages, and the pool they come from.
 * @spool: holds the reservation: as many pages as there are blocks.
 * @blocks: size of the file, rounded up.
 * @rsvd: cgroup that the reservation is charged to.
 * @split: blocks that are in pieces, or will be, by their place in the file.
 * @leftovers: waits for pages that are still in use when the file is gone.
 */
struct ghugetlb_file {
	struct hstate *h;
	struct hugepage_subpool *spool;
	unsigned long blocks;
	struct hugetlb_cgroup *rsvd;
	struct xarray split;
	struct delayed_work leftovers;
};

/* pool.c */
struct ghugetlb_file *ghugetlb_reserve(struct hstate *h, loff_t size);
void ghugetlb_unreserve(struct ghugetlb_file *f);
struct folio *ghugetlb_take(struct ghugetlb_file *f, unsigned long block,
			    struct mempolicy *policy);
void ghugetlb_give_back(struct ghugetlb_file *f, struct folio *folio);

void ghugetlb_replace(struct ghugetlb_file *f, struct folio *folio);

/* pieces.c */
extern const struct guestmem_pieces_operations ghugetlb_pieces_ops;
void ghugetlb_blocks_release(struct ghugetlb_file *f, pgoff_t start, pgoff_t end);
bool ghugetlb_park(struct ghugetlb_file *f, struct folio *folio);
void ghugetlb_blocks_left(struct ghugetlb_file *f, pgoff_t start, pgoff_t end);

/* A piece is a HugeTLB page as well, so it needs a size that HugeTLB has. */
static inline unsigned int ghugetlb_piece_order(struct hstate *h)
{
	if (IS_ENABLED(CONFIG_GUESTMEM_SPLIT_WHOLE) || huge_page_order(h) <= PMD_ORDER ||
	    !size_to_hstate(PMD_SIZE))
		return 0;

	return PMD_ORDER;
}

/* vmemmap.c */
#ifdef CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP
int ghugetlb_vmemmap_reserve(struct guestmem_pieces *p, struct folio *folio,
			     unsigned int from, unsigned int to);
void ghugetlb_vmemmap_free(struct list_head *pages);
void ghugetlb_vmemmap_open(struct guestmem_pieces *p, struct folio *folio,
			   unsigned long first, unsigned int from, unsigned int to);
void ghugetlb_vmemmap_split(struct folio *folio, unsigned int to);
void ghugetlb_vmemmap_merge(struct guestmem_pieces *p, struct folio *folio, unsigned int to);
void ghugetlb_vmemmap_close(struct guestmem_pieces *p, struct folio *folio);
void ghugetlb_vmemmap_flush(struct guestmem_pieces *p);
#else
static inline int ghugetlb_vmemmap_reserve(struct guestmem_pieces *p, struct folio *folio,
					   unsigned int from, unsigned int to)
{
	return 0;
}

static inline void ghugetlb_vmemmap_free(struct list_head *pages) {}
static inline void ghugetlb_vmemmap_open(struct guestmem_pieces *p, struct folio *folio,
					 unsigned long first, unsigned int from,
					 unsigned int to) {}
static inline void ghugetlb_vmemmap_split(struct folio *folio, unsigned int to) {}
static inline void ghugetlb_vmemmap_merge(struct guestmem_pieces *p, struct folio *folio,
					  unsigned int to) {}
static inline void ghugetlb_vmemmap_close(struct guestmem_pieces *p, struct folio *folio) {}
static inline void ghugetlb_vmemmap_flush(struct guestmem_pieces *p) {}
#endif

#endif /* _MM_GUESTMEM_HUGETLB_H */
