// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB allocator: reservation, and pages out of the pool
 *
 * A file reserves all of its pages when it is created: in the pool, without
 * making it grow, and with the cgroup's limit on reservations.  The reservation
 * lives in a subpool whose smallest and largest size are that of the file, so
 * HugeTLB's free path gives a page back to the file, not to everybody, while the
 * file lives.  Usage is charged when a page is taken.
 *
 * Two rules of cgroups are HugeTLB's: usage is charged before a page is taken, and
 * the memcg after it, for it is the page that is charged.
 */
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "../../internal.h"
#include "hugetlb.h"

static unsigned long ghugetlb_pages(const struct ghugetlb_file *f)
{
	return f->blocks * pages_per_huge_page(f->h);
}

/* Only what is free and nobody else has reserved: the pool never grows for it. */
static bool ghugetlb_reserve_free(struct hstate *h, unsigned long blocks)
{
	guard(spinlock_irq)(&hugetlb_lock);
	if (h->free_huge_pages < h->resv_huge_pages + blocks)
		return false;

	h->resv_huge_pages += blocks;
	return true;
}

static int ghugetlb_reserve_pool(struct ghugetlb_file *f)
{
	/* A smallest size given here would be reserved here, with surplus pages. */
	f->spool = hugepage_new_subpool(f->h, f->blocks, -1);
	if (!f->spool)
		return -ENOMEM;

	if (!ghugetlb_reserve_free(f->h, f->blocks)) {
		hugepage_put_subpool(f->spool);
		return -ENOMEM;
	}

	f->spool->min_hpages = f->blocks;
	f->spool->rsv_hpages = f->blocks;
	return 0;
}

static int ghugetlb_reserve_charged(struct ghugetlb_file *f)
{
	int idx = hstate_index(f->h);
	int err;

	if (f->blocks > LONG_MAX >> huge_page_order(f->h))
		return -ENOMEM;

	err = hugetlb_cgroup_charge_cgroup_rsvd(idx, ghugetlb_pages(f), &f->rsvd);
	if (err)
		return err;

	err = ghugetlb_reserve_pool(f);
	if (err)
		hugetlb_cgroup_uncharge_cgroup_rsvd(idx, ghugetlb_pages(f), f->rsvd);
	return err;
}

/*
 * What the file has reserved and does not use.  Pages that come back later go to the
 * pool alone.  The charge is one for all, and stays until then.
 */
static void ghugetlb_unreserve_unused(struct ghugetlb_file *f)
{
	long unused;

	scoped_guard(spinlock_irq, &f->spool->lock) {
		unused = f->spool->rsv_hpages;
		f->spool->rsv_hpages = 0;
		f->spool->min_hpages = 0;
	}

	hugetlb_acct_memory(f->h, -unused);
}

static void ghugetlb_release(struct ghugetlb_file *f)
{
	ghugetlb_unreserve_unused(f);
	hugepage_put_subpool(f->spool);
	hugetlb_cgroup_uncharge_cgroup_rsvd(hstate_index(f->h), ghugetlb_pages(f),
					    f->rsvd);
	xa_destroy(&f->split);
	kfree(f);
}

#define GHUGETLB_LEFTOVERS_DELAY	(HZ / 10)

/*
 * Pages still in use give themselves back on the last put, from any context.  The
 * subpool does not: giving it up may sleep.  So its end is waited for.
 */
static void ghugetlb_leftovers_work(struct work_struct *work)
{
	struct ghugetlb_file *f = container_of(to_delayed_work(work),
					       struct ghugetlb_file, leftovers);
	bool used;

	scoped_guard(spinlock_irq, &f->spool->lock)
		used = f->spool->used_hpages;

	if (used)
		queue_delayed_work(system_dfl_wq, &f->leftovers,
				   GHUGETLB_LEFTOVERS_DELAY);
	else
		ghugetlb_release(f);
}

/* A file with all of its pages reserved; or ERR_PTR(-ENOMEM), and nothing is. */
struct ghugetlb_file *ghugetlb_reserve(struct hstate *h, loff_t size)
{
	struct ghugetlb_file *f;
	int err;

	f = kzalloc_obj(*f, GFP_KERNEL_ACCOUNT);
	if (!f)
		return ERR_PTR(-ENOMEM);

	f->h = h;
	f->blocks = round_up((u64)size, huge_page_size(h)) >> huge_page_shift(h);
	xa_init(&f->split);
	INIT_DELAYED_WORK(&f->leftovers, ghugetlb_leftovers_work);
	err = ghugetlb_reserve_charged(f);
	if (err) {
		kfree(f);
		return ERR_PTR(err);
	}

	return f;
}

/*
 * The file is gone, and with it what it has reserved in the pool; frees @f, now or when
 * the last of its pages has come back.
 */
void ghugetlb_unreserve(struct ghugetlb_file *f)
{
	ghugetlb_unreserve_unused(f);
	ghugetlb_leftovers_work(&f->leftovers.work);
}

/*
 * A page leaves the file.  From here on memory_failure() lets go of it again;
 * returns true if it has found the page before.
 */
static bool ghugetlb_leave(struct folio *folio)
{
	guard(spinlock_irq)(&hugetlb_lock);
	folio_clear_hugetlb_migratable(folio);
	return folio_test_hwpoison(folio);
}

/*
 * A poisoned page is not to be had again.  Another one takes its place in the
 * reservation if the pool has one to spare; else the file has one page less from
 * now on.
 */
void ghugetlb_replace(struct ghugetlb_file *f, struct folio *folio)
{
	bool replaced = ghugetlb_reserve_free(f->h, 1);

	hugetlb_set_folio_subpool(folio, NULL);

	guard(spinlock_irq)(&f->spool->lock);
	f->spool->used_hpages--;
	if (replaced) {
		f->spool->rsv_hpages++;
	} else if (f->spool->min_hpages) {
		f->spool->max_hpages--;
		f->spool->min_hpages--;
	}
}

/*
 * The last put gives the page back to the reservation of file @f, if it is good; to the
 * pool alone if there is no such file any more.
 */
void ghugetlb_give_back(struct ghugetlb_file *f, struct folio *folio)
{
	/* The next user of the page must not take it for one that has been cleared. */
	folio_clear_dirty(folio);
	folio_clear_uptodate(folio);

	if (ghugetlb_leave(folio) && f)
		ghugetlb_replace(f, folio);
}

#ifdef CONFIG_NUMA
static struct folio *ghugetlb_dequeue_policy(struct hstate *h, unsigned long block,
					     struct mempolicy *policy)
{
	gfp_t gfp = htlb_alloc_mask(h);
	int nid = numa_node_id();
	nodemask_t *nodes;
	struct folio *folio;

	policy = policy ?: get_task_policy(current);
	nodes = policy_nodemask(gfp, policy, block, &nid);
	folio = alloc_hugetlb_folio_reserve(h, nid, nodes, gfp);
	/* The nodes of this policy are a wish. */
	if (!folio && policy->mode == MPOL_PREFERRED_MANY)
		folio = alloc_hugetlb_folio_reserve(h, nid, NULL, gfp);

	return folio;
}
#else
static struct folio *ghugetlb_dequeue_policy(struct hstate *h, unsigned long block,
					     struct mempolicy *policy)
{
	return alloc_hugetlb_folio_reserve(h, numa_node_id(), NULL, htlb_alloc_mask(h));
}
#endif

/*
 * PF_MEMALLOC_PIN leaves out pages that could not be pinned for long, as a device
 * that is passed through wants to do with what the guest shares.
 */
static struct folio *ghugetlb_dequeue(struct hstate *h, unsigned long block,
				      struct mempolicy *policy)
{
	unsigned int flags = memalloc_pin_save();
	struct folio *folio;

	folio = ghugetlb_dequeue_policy(h, block, policy);
	memalloc_pin_restore(flags);
	return folio;
}

/* The memcg first, then the count: it is kept for each memcg. */
static int ghugetlb_charge_memcg(struct folio *folio)
{
	long nr = folio_nr_pages(folio);
	int err;

	lruvec_stat_mod_folio(folio, NR_HUGETLB, -nr);
	err = mem_cgroup_charge_hugetlb(folio, current->mm, GFP_KERNEL);
	lruvec_stat_mod_folio(folio, NR_HUGETLB, nr);
	return err;
}

static struct folio *ghugetlb_take_charged(struct ghugetlb_file *f,
					   unsigned long block,
					   struct mempolicy *policy,
					   struct hugetlb_cgroup *cgroup)
{
	struct folio *folio;

	folio = ghugetlb_dequeue(f->h, block, policy);
	if (!folio)
		return ERR_PTR(-ENOSPC);

	/* Private mappings of HugeTLB leave these set: the next user knows better. */
	folio_clear_uptodate(folio);
	folio_clear_dirty(folio);

	/* From here on, the last put gives everything back. */
	hugetlb_set_folio_subpool(folio, f->spool);
	scoped_guard(spinlock_irq, &hugetlb_lock)
		hugetlb_cgroup_commit_charge(hstate_index(f->h),
					     pages_per_huge_page(f->h), cgroup, folio);

	if (ghugetlb_charge_memcg(folio)) {
		folio_put(folio);
		return ERR_PTR(-ENOMEM);
	}

	/* Else memory_failure() takes it for one that is on its way somewhere. */
	folio_set_hugetlb_migratable(folio);
	return folio;
}

/*
 * A page of the file's reservation, with usage charged; or ERR_PTR: -ENOMEM if a
 * cgroup's limit does not allow it, -ENOSPC if the reservation cannot be met: the
 * policy's nodes have nothing, or a page that was punched out is still in use.
 */
struct folio *ghugetlb_take(struct ghugetlb_file *f, unsigned long block,
			    struct mempolicy *policy)
{
	int idx = hstate_index(f->h), nr = pages_per_huge_page(f->h);
	struct hugetlb_cgroup *cgroup;
	struct folio *folio;

	if (hugetlb_cgroup_charge_cgroup(idx, nr, &cgroup))
		return ERR_PTR(-ENOMEM);

	if (hugepage_subpool_get_pages(f->spool, 1)) {
		hugetlb_cgroup_uncharge_cgroup(idx, nr, cgroup);
		return ERR_PTR(-ENOSPC);
	}

	folio = ghugetlb_take_charged(f, block, policy, cgroup);
	if (folio == ERR_PTR(-ENOSPC)) {
		hugepage_subpool_put_pages(f->spool, 1);
		hugetlb_cgroup_uncharge_cgroup(idx, nr, cgroup);
	}

	return folio;
}
