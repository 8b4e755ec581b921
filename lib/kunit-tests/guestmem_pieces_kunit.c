// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB pages in pieces: what they cost, what is left of it afterwards, and what
 * becomes of pieces that someone holds when their file goes
 */
#include <linux/delay.h>
#include <linux/hugetlb.h>
#include <linux/hugetlb_cgroup.h>
#include <linux/irq_work.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/string.h>

#include "../../mm/internal.h"
#include "../../mm/page_alloc.h"
#include "guestmem_layout.h"

/* Of the pool, to be like that after each test: all pages are back, and none is reserved. */
static long free_before, reserved_before;

static const void *pool_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator = prev;

	do {
		allocator = layout_gen_params(test, allocator, desc);
	} while (allocator && allocator->mock);

	return allocator;
}

static struct hstate *pool(struct kunit *test)
{
	return size_to_hstate(1UL << gmt(test)->allocator->unit_log2);
}

static long nr_free(struct kunit *test)
{
	guard(spinlock_irq)(&hugetlb_lock);
	return pool(test)->free_huge_pages;
}

static bool wait_for_free(struct kunit *test, long nr)
{
	unsigned long deadline = jiffies + GMT_TIMEOUT;

	while (nr_free(test) != nr && time_before(jiffies, deadline))
		schedule_timeout_uninterruptible(1);
	return nr_free(test) == nr;
}

static bool wait_for_reserved(struct kunit *test, long nr)
{
	unsigned long deadline = jiffies + GMT_TIMEOUT;

	while (pool(test)->resv_huge_pages != nr && time_before(jiffies, deadline))
		schedule_timeout_uninterruptible(1);
	return pool(test)->resv_huge_pages == nr;
}

#define STRUCTS	(PAGE_SIZE / sizeof(struct page))

/* What holds a page full of struct pages. */
static struct page *holder_of(struct page *structs)
{
	return pte_page(ptep_get(virt_to_kpte((unsigned long)structs)));
}

/*
 * Pages full of struct pages that belong to the block alone.  Where the last one does
 * not, all others of the same order share it.
 */
static unsigned long own_vmemmap(struct kunit *test)
{
	struct page *head = &gmt_get(test, 0)->page, *last = NULL;
	unsigned long nr = 0;

	if (folio_test_large(gmt_get(test, layout_block(test) - 1)))
		last = holder_of(head + layout_block(test) - 1);
	for (unsigned long i = 0; i < layout_block(test); i += STRUCTS)
		nr += holder_of(head + i) != last;

	return nr;
}

static bool optimized(struct kunit *test)
{
	return folio_test_hugetlb_vmemmap_optimized(gmt_get(test, 0));
}

/* 511 heads, and 7 for 512 single pages; all that is saved stays so but for them. */
static void sharing_costs_little_vmemmap(struct kunit *test)
{
	unsigned long pieces = layout_block(test) >> PMD_ORDER, whole;

	layout_allocate(test, 0);
	if (!optimized(test))
		kunit_skip(test, "struct pages are not optimized");

	whole = own_vmemmap(test);
	KUNIT_EXPECT_EQ(test, whole, 1);
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	KUNIT_EXPECT_EQ(test, own_vmemmap(test) - whole, pieces - 1 + 7);
	layout_change(test, GUESTMEM_SHARED, 6, 7);
	KUNIT_EXPECT_EQ(test, own_vmemmap(test) - whole, pieces - 1 + 7);
	layout_change(test, GUESTMEM_PRIVATE, 5, 7);
	KUNIT_EXPECT_EQ(test, own_vmemmap(test), whole);
}

/*
 * Someone has read a reference count before it was frozen, and does what is left of a
 * folio_try_get() when the page is part of a large one again.
 */
static void late_reference_finds_nothing(struct kunit *test)
{
	struct page *head, *late[3];

	layout_allocate(test, 0);
	head = &gmt_get(test, 0)->page;
	/* A single page, the first of a piece, and one that was part of a piece only. */
	late[0] = head + 2 * STRUCTS;
	late[1] = head + layout_block(test) - (1UL << PMD_ORDER);
	late[2] = head + layout_block(test) - 2;
	for (int round = 0; round < 2; round++) {
		layout_change(test, GUESTMEM_SHARED, 5, 6);
		layout_change(test, GUESTMEM_PRIVATE, 5, 6);
		for (int i = 0; i < 2; i++) {
			if (late[i] == head)
				continue;
			KUNIT_EXPECT_EQ(test, atomic_cmpxchg(&late[i]->_refcount, 1, 2), 0);
		}
		KUNIT_EXPECT_EQ(test, page_ref_count(late[2]), 0);
	}
}

/*
 * Struct pages before and after
 */

/* Of each piece, what was its head and some of what were its tails. */
#define NR_SAMPLES	8

/* Of the first piece, all that are not shared: all, or those in the first page of them. */
static unsigned int nr_of_first(struct kunit *test)
{
	return optimized(test) ? STRUCTS : 1U << PMD_ORDER;
}

static unsigned int nr_structs(struct kunit *test)
{
	return nr_of_first(test) + ((layout_block(test) >> PMD_ORDER) - 1) * NR_SAMPLES;
}

/* Which page of the block struct page @i of the copy is that of. */
static pgoff_t nth_struct(struct kunit *test, unsigned int i)
{
	unsigned int first = nr_of_first(test);

	if (i < first)
		return i;

	i -= first;
	return ((1 + i / NR_SAMPLES) << PMD_ORDER) + i % NR_SAMPLES;
}

/*
 * What may differ: the place on HugeTLB's list, a list that is none, and what a tail
 * page keeps of the time when it was a page of its own and nobody looks at.
 */
static void mask_struct(struct page *page, pgoff_t i)
{
	struct folio *folio = (struct folio *)page;

	if (!i)
		memset(&folio->lru, 0, sizeof(folio->lru));
	else if (i == 2)
		memset(&page->compound_info + 1, 0, sizeof(struct list_head));
	else if (i > 3)
		folio->lru.prev = NULL;
	if (i == 2 || i > 3)
		folio->index = 0;
}

static struct page *copy_structs(struct kunit *test)
{
	struct page *head = &gmt_get(test, 0)->page, *copy;

	copy = kunit_kcalloc(test, nr_structs(test), sizeof(*copy), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, copy);
	for (unsigned int i = 0; i < nr_structs(test); i++) {
		memcpy(&copy[i], head + nth_struct(test, i), sizeof(*copy));
		mask_struct(&copy[i], nth_struct(test, i));
	}
	return copy;
}

static void expect_structs_back(struct kunit *test, const struct page *before, pgoff_t start,
				pgoff_t end)
{
	struct page *after;

	layout_change(test, GUESTMEM_SHARED, start, end);
	layout_change(test, GUESTMEM_PRIVATE, start, end);
	after = copy_structs(test);
	for (unsigned int i = 0; i < nr_structs(test) && test->status == KUNIT_SUCCESS; i++)
		KUNIT_EXPECT_MEMEQ_MSG(test, &before[i], &after[i], sizeof(*before),
				       "struct page %lu after %lu to %lu",
				       nth_struct(test, i), start, end);
	kunit_kfree(test, after);
}

/* Near the beginning, in the middle, where pieces meet, at the end, and a lot. */
static void struct_pages_come_back(struct kunit *test)
{
	pgoff_t block = layout_block(test), half = block / 2;
	struct page *before;

	layout_write(test, 0, 1);
	before = copy_structs(test);
	expect_structs_back(test, before, 5, 6);
	expect_structs_back(test, before, half - 1, half + 1);
	expect_structs_back(test, before, block - 1, block);
	expect_structs_back(test, before, 0, min(block, 4UL << PMD_ORDER));
}

static void block_is_on_its_list_again(struct kunit *test)
{
	struct folio *folio, *listed;
	bool found = false;

	layout_allocate(test, 0);
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	layout_change(test, GUESTMEM_PRIVATE, 5, 6);
	folio = gmt_get(test, 0);
	scoped_guard(spinlock_irq, &hugetlb_lock)
		list_for_each_entry(listed, &pool(test)->hugepage_activelist, lru)
			found |= listed == folio;
	KUNIT_EXPECT_TRUE(test, found);
	KUNIT_EXPECT_TRUE(test, folio_test_hugetlb_migratable(folio));
}

/* Large pieces are HugeTLB's, single pages are not. */
static void pieces_have_their_type(struct kunit *test)
{
	struct folio *folio;
	unsigned int order;

	layout_allocate(test, 0);
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	for (pgoff_t index = 0; index < layout_block(test); index = folio_next_index(folio)) {
		folio = guestmem_cache_find(gmt(test)->gi->mapping, &index, layout_block(test),
					    &order);
		KUNIT_ASSERT_NOT_NULL(test, folio);
		KUNIT_EXPECT_EQ(test, folio_test_hugetlb(folio), order > 0);
		if (order)
			KUNIT_EXPECT_TRUE(test, list_empty(&folio->lru));
	}
}

/* Those that the host maps are a file's, all others HugeTLB's. */
static void every_page_is_counted_once(struct kunit *test)
{
	long file_pages = gmt_counted(NR_FILE_PAGES), huge = gmt_counted(NR_HUGETLB);
	long single = 1L << min_t(unsigned int, PMD_ORDER, gmt(test)->allocator->block_order);

	layout_allocate(test, 0);
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_FILE_PAGES) - file_pages, single);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_HUGETLB) - huge, layout_block(test) - single);
	layout_change(test, GUESTMEM_PRIVATE, 5, 6);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_FILE_PAGES), file_pages);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_HUGETLB) - huge, layout_block(test));
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	gmt_close(test);
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_FILE_PAGES), file_pages);
	KUNIT_EXPECT_EQ(test, gmt_counted(NR_HUGETLB), huge);
}

/*
 * Pieces in use
 */

/* A page of a block that is in pieces. */
static struct folio *share_and_hold(struct kunit *test, pgoff_t index)
{
	struct folio *folio;

	layout_write(test, index, 9);
	layout_change(test, GUESTMEM_SHARED, index, index + 1);
	folio = gmt_get(test, index);
	KUNIT_ASSERT_EQ(test, folio_order(folio), 0);
	folio_get(folio);
	return folio;
}

static void held_page_keeps_its_block(struct kunit *test)
{
	long before = nr_free(test);
	struct folio *folio;

	folio = share_and_hold(test, 5);
	gmt_close(test);
	KUNIT_EXPECT_EQ(test, *(u8 *)page_address(&folio->page), 9);
	KUNIT_EXPECT_EQ(test, nr_free(test), before - 1);
	folio_put(folio);
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, before));
}

static void last_of_many_brings_the_block_back(struct kunit *test)
{
	struct folio *held[3] = {};
	long before = nr_free(test);

	for (int i = 0; i < ARRAY_SIZE(held); i++)
		held[i] = share_and_hold(test, i * layout_block(test) / 3);
	gmt_close(test);
	for (int i = 0; i < ARRAY_SIZE(held); i++) {
		guestmem_custody_flush();
		KUNIT_EXPECT_EQ(test, nr_free(test), before - 1);
		folio_put(held[i]);
	}
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, before));
}

/* As good as new: the next file has it whole, and can split it. */
static void block_that_came_back_is_whole(struct kunit *test)
{
	long before = nr_free(test);
	struct folio *folio;

	folio = share_and_hold(test, 5);
	gmt_close(test);
	folio_put(folio);
	KUNIT_ASSERT_TRUE(test, wait_for_free(test, before));

	layout_reopen(test);
	layout_allocate(test, 0);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	layout_expect(test, false);
}

static void put_from_interrupt(struct irq_work *work);
static struct folio *held_for_interrupt;
static DEFINE_IRQ_WORK(interrupt, put_from_interrupt);

static void put_from_interrupt(struct irq_work *work)
{
	folio_put(held_for_interrupt);
}

static void comes_back_from_any_context(struct kunit *test)
{
	long before = nr_free(test);

	held_for_interrupt = share_and_hold(test, 5);
	gmt_close(test);
	irq_work_queue(&interrupt);
	irq_work_sync(&interrupt);
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, before));
}

static void held_page_refuses_a_hole(struct kunit *test)
{
	long before = nr_free(test);
	struct folio *folio;

	folio = share_and_hold(test, 5);
	KUNIT_EXPECT_EQ(test, guestmem_punch_hole(gmt(test)->gi, 0, layout_block(test)), -EAGAIN);
	folio_put(folio);
	layout_expect(test, false);
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	KUNIT_EXPECT_EQ(test, nr_free(test), before);
}

/* Who is charged is written down elsewhere meanwhile. */
static void charge_comes_back(struct kunit *test)
{
	struct hugetlb_cgroup *h_cg;

	layout_allocate(test, 0);
	h_cg = hugetlb_cgroup_from_folio(gmt_get(test, 0));
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	layout_change(test, GUESTMEM_PRIVATE, 5, 6);
	KUNIT_EXPECT_PTR_EQ(test, hugetlb_cgroup_from_folio(gmt_get(test, 0)), h_cg);
}

#ifdef CONFIG_CGROUP_HUGETLB
/* A cgroup whose parent is the root. */
static struct hugetlb_cgroup *new_cgroup(struct kunit *test, int nid)
{
	struct hugetlb_cgroup *h_cg;

	h_cg = kunit_kzalloc(test, struct_size(h_cg, nodeinfo, nr_node_ids), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, h_cg);
	h_cg->nodeinfo[nid] = kunit_kzalloc(test, sizeof(*h_cg->nodeinfo[nid]), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, h_cg->nodeinfo[nid]);
	page_counter_init(&h_cg->hugepage[hstate_index(pool(test))], NULL, false);
	return h_cg;
}

/* What would be if it had been charged to @to from the beginning; who was. */
static struct hugetlb_cgroup *charge_to(struct kunit *test, struct folio *folio,
					struct hugetlb_cgroup *to)
{
	int idx = hstate_index(pool(test)), nid = folio_nid(folio);
	struct hugetlb_cgroup *from;

	guard(spinlock_irq)(&hugetlb_lock);
	from = hugetlb_cgroup_from_folio(folio);
	page_counter_cancel(&from->hugepage[idx], folio_nr_pages(folio));
	page_counter_charge(&to->hugepage[idx], folio_nr_pages(folio));
	from->nodeinfo[nid]->usage[idx] -= folio_nr_pages(folio);
	to->nodeinfo[nid]->usage[idx] += folio_nr_pages(folio);
	set_hugetlb_cgroup(folio, to);
	return from;
}

/* A cgroup goes, and waits until it is charged for nothing. */
static void charge_of_pieces_goes_to_the_parent(struct kunit *test)
{
	struct hugetlb_cgroup *root, *h_cg;
	struct folio *folio;

	layout_allocate(test, 0);
	folio = gmt_get(test, 0);
	h_cg = new_cgroup(test, folio_nid(folio));
	root = charge_to(test, folio, h_cg);
	layout_change(test, GUESTMEM_SHARED, 5, 6);

	scoped_guard(spinlock_irq, &hugetlb_lock)
		guestmem_hugetlb_reparent(pool(test), h_cg);
	KUNIT_EXPECT_EQ(test, page_counter_read(&h_cg->hugepage[hstate_index(pool(test))]), 0);
	layout_change(test, GUESTMEM_PRIVATE, 5, 6);
	KUNIT_EXPECT_PTR_EQ(test, hugetlb_cgroup_from_folio(gmt_get(test, 0)), root);
}
#endif

/*
 * Poison
 */

#ifdef CONFIG_MEMORY_FAILURE
/* Those with pieces that are larger than a page. */
static const void *large_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator = prev;

	do {
		allocator = pool_gen_params(test, allocator, desc);
	} while (allocator && allocator->block_order == PMD_ORDER);

	return allocator;
}

/**
 * struct poisoner - memory_failure() beside the test
 * @thread: who calls it.
 * @test: what it is for.
 * @pfn: the page.
 * @waited: it did not get on before the step was done.
 */
static struct poisoner {
	struct gmt_thread thread;
	struct kunit *test;
	unsigned long pfn;
	bool waited;
} poisoner;

static void poison(void *arg)
{
	memory_failure(poisoner.pfn, MF_SW_SIMULATED);
}

/* Guests are told of the bad page the same way, and that may come before the test goes on. */
static void poison_while_frozen(struct guestmem_change *c)
{
	if (poisoner.thread.task)
		return;

	gmt_start(poisoner.test, &poisoner.thread);
	poisoner.waited = gmt_stays_blocked(&poisoner.thread);
}

/* The page goes bad when nothing can fail any more, and nobody can get hold of it. */
static void share_and_poison(struct kunit *test, unsigned long pfn)
{
	poisoner = (struct poisoner) { .thread.fn = poison, .test = test, .pfn = pfn };
	mock_inode(gmt(test)->gi)->on_begin = poison_while_frozen;
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	mock_inode(gmt(test)->gi)->on_begin = NULL;
	gmt_join(test, &poisoner.thread);
	KUNIT_EXPECT_TRUE(test, poisoner.waited);
}

/* A bad page keeps its block from being merged, and from the pool. */
static unsigned long poison_piece(struct kunit *test, pgoff_t bad, bool frozen)
{
	unsigned long pfn;

	layout_write(test, 0, 1);
	pfn = folio_pfn(gmt_get(test, 0)) + bad;
	if (frozen) {
		share_and_poison(test, pfn);
	} else {
		layout_change(test, GUESTMEM_SHARED, 5, 6);
		memory_failure(pfn, MF_SW_SIMULATED);
	}
	/* The change may have had the lock when the guests were to be told. */
	guestmem_flush_poison();
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bad), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bad + 1), 0);
	KUNIT_EXPECT_FALSE(test, folio_test_hwpoison(gmt_get(test, 5)));
	layout_change(test, GUESTMEM_PRIVATE, 5, 6);
	KUNIT_EXPECT_LT(test, folio_order(gmt_get(test, 5)), gmt(test)->allocator->block_order);
	gmt_close(test);
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before - 1);
	return pfn;
}

static void expect_unpoisoned(struct kunit *test, unsigned long pfn)
{
	KUNIT_EXPECT_EQ(test, unpoison_memory(pfn), 0);
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
}

/* The page goes bad when the change can fail no more, and before anything is frozen. */
static void poison_before_commit(struct guestmem_change *c)
{
	if (poisoner.thread.task)
		return;

	gmt_start(poisoner.test, &poisoner.thread);
	gmt_join(poisoner.test, &poisoner.thread);
}

static void expect_told(struct kunit *test, pgoff_t bad)
{
	char want[64];

	snprintf(want, sizeof(want), "begin:%lu-%lu end:%lu-%lu ", bad, bad + 1, bad, bad + 1);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(gmt_log(test), want), "%s is not in: %s", want,
				  gmt_log(test));
}

/* Page 5, to be taken back; returns the pfn of page @bad, ready to go bad then. */
static unsigned long share_before_poison(struct kunit *test, pgoff_t bad)
{
	unsigned long pfn;

	layout_write(test, 0, 1);
	pfn = folio_pfn(gmt_get(test, 0)) + bad;
	layout_change(test, GUESTMEM_SHARED, 5, 6);
	poisoner = (struct poisoner) { .thread.fn = poison, .test = test, .pfn = pfn };
	mock_inode(gmt(test)->gi)->phases.off = false;
	return pfn;
}

/*
 * What is judged is judged: the page is private, and bad.  It stays by itself, all others are
 * merged, and the guests are told as soon as the change lets go of the file.
 */
static unsigned long poison_in_a_merge(struct kunit *test, pgoff_t bad, unsigned int order)
{
	unsigned long pfn = share_before_poison(test, bad);

	mock_inode(gmt(test)->gi)->on_begin = poison_before_commit;
	layout_change(test, GUESTMEM_PRIVATE, 5, 6);
	guestmem_flush_poison();
	mock_inode(gmt(test)->gi)->on_begin = NULL;
	KUNIT_EXPECT_TRUE(test, guestmem_is_private(gmt(test)->gi, 5));
	KUNIT_EXPECT_EQ(test, folio_order(gmt_get(test, 5)), order);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bad), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, bad + 1), 0);
	expect_told(test, bad);
	gmt_close(test);
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before - 1);
	return pfn;
}

static void poison_of_a_page_that_is_taken_back(struct kunit *test)
{
	expect_unpoisoned(test, poison_in_a_merge(test, 5, 0));
}

static void take_page_back(void *arg)
{
	layout_change(poisoner.test, GUESTMEM_PRIVATE, 5, 6);
}

/*
 * The other way round: the block is being merged when the page goes bad.  memory_failure()
 * waits for that, and finds one whole page.
 */
static void poison_behind_a_merge(struct kunit *test)
{
	struct gmt_thread merger = { .fn = take_page_back };
	unsigned long pfn = share_before_poison(test, 7);
	struct folio *folio;

	guestmem_reshape_stop();
	gmt_start(test, &merger);
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&merger));
	gmt_start(test, &poisoner.thread);
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&poisoner.thread));
	guestmem_reshape_resume();
	gmt_join(test, &merger);
	gmt_join(test, &poisoner.thread);
	guestmem_flush_poison();

	folio = gmt_get(test, 7);
	KUNIT_EXPECT_EQ(test, folio_order(folio), gmt(test)->allocator->block_order);
	KUNIT_EXPECT_EQ(test, folio_pfn(folio), pfn - 7);
	KUNIT_EXPECT_TRUE(test, folio_test_hwpoison(folio));
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 7), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, gmt_map_order(test, 8), 0);
	expect_told(test, 7);
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before - 1);
	expect_unpoisoned(test, pfn - 7);
}

/*
 * memory_failure() may wait for as long as memory takes to go offline, and that may wait for
 * guests to let go of theirs.
 */
static void report_that_waits_holds_up_no_change(struct kunit *test)
{
	struct gmt_thread merger = { .fn = take_page_back };
	unsigned long deadline = jiffies + GMT_TIMEOUT;
	struct page *page = alloc_page(GFP_KERNEL);
	bool done;

	KUNIT_ASSERT_NOT_NULL(test, page);
	share_before_poison(test, 7);
	poisoner.pfn = page_to_pfn(page);

	zone_pcp_disable(page_zone(page));
	gmt_start(test, &poisoner.thread);
	while (!PageHWPoison(page) && time_before(jiffies, deadline))
		schedule_timeout_uninterruptible(1);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(page));
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&poisoner.thread));
	gmt_start(test, &merger);
	done = gmt_join(test, &merger);
	zone_pcp_enable(page_zone(page));
	if (!done)
		gmt_join(test, &merger);
	gmt_join(test, &poisoner.thread);
	layout_expect(test, false);

	ClearPageHWPoison(page);
	num_poisoned_pages_sub(page_to_pfn(page), 1);
	__free_page(page);
}

static void poison_of_a_single_page(struct kunit *test)
{
	expect_unpoisoned(test, poison_piece(test, 7, false));
}

static void poison_of_a_page_that_becomes_single(struct kunit *test)
{
	expect_unpoisoned(test, poison_piece(test, 7, true));
}

/* Which of the pieces would be the bad one is not known for sure: all of it stays whole. */
static void poisoned_block_is_not_split(struct kunit *test)
{
	pgoff_t err_index = ULONG_MAX;
	unsigned long pfn;

	layout_write(test, 0, 1);
	pfn = folio_pfn(gmt_get(test, 0));
	memory_failure(pfn, MF_SW_SIMULATED);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 5, 6, &err_index),
			-EHWPOISON);
	KUNIT_EXPECT_EQ(test, err_index, 5);
	KUNIT_EXPECT_EQ(test, folio_order(gmt_get(test, 5)), gmt(test)->allocator->block_order);
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	expect_unpoisoned(test, pfn);
}

/* The worker has looked at the block by now, several times. */
static void expect_kept(struct kunit *test)
{
	guestmem_custody_flush();
	msleep(100);
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before - 1);
}

/* Nobody has a reference of memory_failure()'s to give back: those are the block's. */
static void expect_single_back(struct kunit *test, unsigned long pfn)
{
	KUNIT_EXPECT_EQ(test, unpoison_memory(pfn), -EBUSY);
	ClearPageHWPoison(pfn_to_page(pfn));
	num_poisoned_pages_sub(pfn, 1);
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
}

/* Nobody has a reference to keep the block from the pool then. */
static void poison_of_a_parked_page(struct kunit *test)
{
	struct folio *folio;
	unsigned long pfn;

	folio = share_and_hold(test, 5);
	pfn = folio_pfn(folio);
	gmt_close(test);
	memory_failure(pfn, MF_SW_SIMULATED);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(pfn_to_page(pfn)));
	folio_put(folio);
	expect_kept(test);
	expect_single_back(test, pfn);
}

/*
 * Both want the block at the same time: memory_failure(), which has been waiting for some
 * other step, and the workers that bring it home.  Who came first is heard first.
 */
static void poison_before_homecoming(struct kunit *test)
{
	struct folio *folio = share_and_hold(test, 5);
	unsigned long pfn = folio_pfn(folio) + 2;

	gmt_close(test);
	guestmem_custody_flush();
	poisoner = (struct poisoner) { .thread.fn = poison, .test = test, .pfn = pfn };
	guestmem_reshape_stop();
	gmt_start(test, &poisoner.thread);
	KUNIT_EXPECT_TRUE(test, gmt_stays_blocked(&poisoner.thread));
	folio_put(folio);
	msleep(100);
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before - 1);
	KUNIT_EXPECT_FALSE(test, PageHWPoison(pfn_to_page(pfn)));
	guestmem_reshape_resume();
	gmt_join(test, &poisoner.thread);
	KUNIT_EXPECT_TRUE(test, PageHWPoison(pfn_to_page(pfn)));
	expect_kept(test);
	expect_single_back(test, pfn);
}

/*
 * unpoison_memory() refuses a page that has another reference, that of its block.  The
 * bad page is the first one of the piece: struct pages of others are read-only.
 */
static void take_verdict_back(struct folio *piece)
{
	bool optimized = folio_test_hugetlb_vmemmap_optimized(piece);

	folio_clear_hugetlb_vmemmap_optimized(piece);
	folio_clear_hugetlb_hwpoison(piece);
	if (optimized)
		folio_set_hugetlb_vmemmap_optimized(piece);
	ClearPageHWPoison(&piece->page);
	num_poisoned_pages_sub(folio_pfn(piece), 1);
	folio_put(piece);
}

static pgoff_t last_piece(struct kunit *test)
{
	return layout_block(test) - (1UL << PMD_ORDER);
}

static void poison_of_a_piece(struct kunit *test)
{
	take_verdict_back(pfn_folio(poison_piece(test, last_piece(test), false)));
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
}

/* What was around page 5 is a piece again, and the block is not whole. */
static void poison_of_a_piece_that_would_be_merged(struct kunit *test)
{
	take_verdict_back(pfn_folio(poison_in_a_merge(test, last_piece(test), PMD_ORDER)));
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
}

static void poison_of_a_page_that_comes_into_a_piece(struct kunit *test)
{
	take_verdict_back(pfn_folio(poison_piece(test, last_piece(test), true)));
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
}

/*
 * The first page of a large piece that has left its file.  To memory_failure() it is a page
 * of HugeTLB on its way somewhere: it is marked, and no reference is taken.
 */
static void poison_parked(struct kunit *test, struct folio *piece)
{
	KUNIT_ASSERT_EQ(test, folio_order(piece), PMD_ORDER);
	KUNIT_ASSERT_NULL(test, piece->mapping);
	KUNIT_EXPECT_EQ(test, memory_failure(folio_pfn(piece), MF_SW_SIMULATED), -EBUSY);
	KUNIT_EXPECT_TRUE(test, folio_test_hwpoison(piece));
	KUNIT_EXPECT_EQ(test, unpoison_memory(folio_pfn(piece)), -EBUSY);
}

/* With the reference that memory_failure() has not taken; the worker does not look meanwhile. */
static void expect_piece_back(struct kunit *test, struct folio *piece)
{
	guestmem_reshape_stop();
	folio_get(piece);
	guestmem_reshape_resume();
	take_verdict_back(piece);
	KUNIT_EXPECT_TRUE(test, wait_for_free(test, free_before));
}

static void poison_of_a_parked_piece(struct kunit *test)
{
	struct folio *folio = share_and_hold(test, 5);
	struct folio *piece = gmt_get(test, last_piece(test));

	gmt_close(test);
	poison_parked(test, piece);
	folio_put(folio);
	expect_kept(test);
	expect_piece_back(test, piece);
}

/* A reference that comes up when a hole can be refused no more: its block is parked. */
static struct folio *to_hold;

static void hold(struct guestmem_change *c)
{
	folio_get(to_hold);
}

static struct folio *punch_and_hold(struct kunit *test, pgoff_t index)
{
	layout_write(test, index, 9);
	layout_change(test, GUESTMEM_SHARED, index, index + 1);
	to_hold = gmt_get(test, index);
	mock_inode(gmt(test)->gi)->on_begin = hold;
	layout_change(test, GUESTMEM_ABSENT, 0, layout_block(test));
	mock_inode(gmt(test)->gi)->on_begin = NULL;
	layout_change(test, GUESTMEM_PRIVATE, index, index + 1);
	return to_hold;
}

/* The file waits for its block until that is known to be bad, and then has another one. */
static void bad_parked_block_is_replaced(struct kunit *test)
{
	long blocks = DIV_ROUND_UP(layout_pages(test), layout_block(test));
	struct folio *folio, *piece;
	unsigned long first;

	folio = punch_and_hold(test, 5);
	first = folio_pfn(folio) - 5;
	piece = pfn_folio(first + last_piece(test));
	KUNIT_EXPECT_PTR_EQ(test, gmt_get_locked(gmt(test)->gi, 0), ERR_PTR(-ENOSPC));

	poison_parked(test, piece);
	folio_put(folio);
	KUNIT_EXPECT_TRUE(test, wait_for_reserved(test, reserved_before + blocks));
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before - 1);
	layout_allocate(test, 0);
	KUNIT_EXPECT_NE(test, folio_pfn(gmt_get(test, 0)), first);
	gmt_close(test);
	expect_kept(test);
	expect_piece_back(test, piece);
}
#endif

static int pieces_init(struct kunit *test)
{
	const struct gmt_allocator *allocator = test->param_value;
	struct hstate *h = size_to_hstate(1UL << allocator->unit_log2);

	scoped_guard(spinlock_irq, &hugetlb_lock) {
		free_before = h->free_huge_pages;
		reserved_before = h->resv_huge_pages;
	}
	return layout_init(test);
}

static void pieces_exit(struct kunit *test)
{
	gmt_exit(test);
	KUNIT_EXPECT_TRUE(test, wait_for_reserved(test, reserved_before));
	KUNIT_EXPECT_EQ(test, nr_free(test), free_before);
}

static struct kunit_case pieces_cases[] = {
	KUNIT_CASE_PARAM(sharing_costs_little_vmemmap, pool_gen_params),
	KUNIT_CASE_PARAM(late_reference_finds_nothing, pool_gen_params),
	KUNIT_CASE_PARAM(struct_pages_come_back, pool_gen_params),
	KUNIT_CASE_PARAM(block_is_on_its_list_again, pool_gen_params),
	KUNIT_CASE_PARAM(pieces_have_their_type, pool_gen_params),
	KUNIT_CASE_PARAM(every_page_is_counted_once, pool_gen_params),
	KUNIT_CASE_PARAM(held_page_keeps_its_block, pool_gen_params),
	KUNIT_CASE_PARAM(last_of_many_brings_the_block_back, pool_gen_params),
	KUNIT_CASE_PARAM(block_that_came_back_is_whole, pool_gen_params),
	KUNIT_CASE_PARAM(comes_back_from_any_context, pool_gen_params),
	KUNIT_CASE_PARAM(held_page_refuses_a_hole, pool_gen_params),
	KUNIT_CASE_PARAM(charge_comes_back, pool_gen_params),
#ifdef CONFIG_CGROUP_HUGETLB
	KUNIT_CASE_PARAM(charge_of_pieces_goes_to_the_parent, pool_gen_params),
#endif
#ifdef CONFIG_MEMORY_FAILURE
	KUNIT_CASE_PARAM(poison_of_a_single_page, pool_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_page_that_becomes_single, pool_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_page_that_is_taken_back, pool_gen_params),
	KUNIT_CASE_PARAM(poison_behind_a_merge, pool_gen_params),
	KUNIT_CASE_PARAM(report_that_waits_holds_up_no_change, pool_gen_params),
	KUNIT_CASE_PARAM(poisoned_block_is_not_split, pool_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_parked_page, pool_gen_params),
	KUNIT_CASE_PARAM(poison_before_homecoming, pool_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_piece, large_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_piece_that_would_be_merged, large_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_page_that_comes_into_a_piece, large_gen_params),
	KUNIT_CASE_PARAM(poison_of_a_parked_piece, large_gen_params),
	KUNIT_CASE_PARAM(bad_parked_block_is_replaced, large_gen_params),
#endif
	{}
};

static struct kunit_suite pieces_suite = {
	.name = "guestmem_pieces",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = pieces_init,
	.exit = pieces_exit,
	.test_cases = pieces_cases,
};

kunit_test_suite(pieces_suite);
