/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the HugeTLB allocator share with each other.
 */
#ifndef _MM_GUESTMEM_HUGETLB_H
#define _MM_GUESTMEM_HUGETLB_H

#include <linux/guestmem.h>
#include <linux/workqueue.h>

struct hstate;
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
 * @mappable: the host may map what is shared.
 * @leftovers: waits for pages that are still in use when the file is gone.
 */
struct ghugetlb_file {
	struct hstate *h;
	struct hugepage_subpool *spool;
	unsigned long blocks;
	struct hugetlb_cgroup *rsvd;
	bool mappable;
	struct delayed_work leftovers;
};

/* pool.c */
struct ghugetlb_file *ghugetlb_reserve(struct hstate *h, loff_t size);
void ghugetlb_unreserve(struct ghugetlb_file *f);
struct folio *ghugetlb_take(struct ghugetlb_file *f, unsigned long block,
			    struct mempolicy *policy);
void ghugetlb_give_back(struct ghugetlb_file *f, struct folio *folio);

#endif /* _MM_GUESTMEM_HUGETLB_H */
