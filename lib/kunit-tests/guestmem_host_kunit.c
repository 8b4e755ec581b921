// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host mappings: a page that becomes private, or goes, is mapped by nobody
 */
#include <linux/file.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "guestmem_test_lib.h"

/* What the host may map are single pages, whatever a file has besides. */
static const void *single_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct gmt_allocator *allocator;

	do {
		allocator = gmt_all_gen_params(test, prev, desc);
		prev = allocator;
	} while (allocator && allocator->folio_order);

	return allocator;
}

/* An address space with the file of the fixture in it. */
struct host {
	struct mm_struct *mm;
	unsigned long addr;
};

static unsigned long host_mmap(struct mm_struct *mm, struct file *file)
{
	unsigned long addr;

	kthread_use_mm(mm);
	addr = vm_mmap(file, 0, i_size_read(file_inode(file)),
		       PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	kthread_unuse_mm(mm);
	return addr;
}

static struct mm_struct *host_mm(void)
{
	struct mm_struct *mm = mm_alloc();

	if (mm) {
		mm->task_size = TASK_SIZE;
		arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	}
	return mm;
}

static int host_start(struct host *host, struct guestmem_inode *gi)
{
	struct file *file;

	host->mm = host_mm();
	if (!host->mm)
		return -ENOMEM;

	file = mock_file(gi);
	if (IS_ERR(file))
		return PTR_ERR(file);

	host->addr = host_mmap(host->mm, file);
	fput(file);
	return IS_ERR_VALUE(host->addr) ? host->addr : 0;
}

static int host_init(struct kunit *test)
{
	struct host *host;
	int err = gmt_init_file(test);

	if (err)
		return err;

	host = kunit_kzalloc(test, sizeof(*host), GFP_KERNEL);
	if (!host)
		return -ENOMEM;

	gmt(test)->data = host;
	gmt_reopen_shared(test);
	return host_start(host, gmt(test)->gi);
}

static void host_exit(struct kunit *test)
{
	struct host *host = test->priv ? gmt(test)->data : NULL;

	if (host && host->mm)
		mmput(host->mm);
	/* A kernel thread's last fput() is somebody else's work. */
	flush_delayed_fput();
	gmt_exit(test);
}

static int host_fault(struct host *host, pgoff_t index, unsigned int flags)
{
	unsigned long addr = host->addr + (index << PAGE_SHIFT);
	int err;

	mmap_read_lock(host->mm);
	err = fixup_user_fault(host->mm, addr, flags, NULL);
	mmap_read_unlock(host->mm);
	return err;
}

/* A fault on a page, as a write to it would cause. */
static int host_touch(struct host *host, pgoff_t index)
{
	return host_fault(host, index, FAULT_FLAG_WRITE);
}

static struct folio *map_page(struct kunit *test, pgoff_t index)
{
	struct folio *folio;

	KUNIT_ASSERT_EQ(test, host_touch(gmt(test)->data, index), 0);
	folio = gmt_get(test, index);
	KUNIT_EXPECT_TRUE(test, folio_mapped(folio));
	return folio;
}

static void host_sees_zeroes_then_the_page(struct kunit *test)
{
	struct folio *folio = map_page(test, 3);

	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0));
	gmt_fill(folio, 0x42);
	KUNIT_EXPECT_PTR_EQ(test, map_page(test, 3), folio);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x42));
}

static void private_file_has_no_host_mapping(struct kunit *test)
{
	const struct gmt_allocator *allocator = gmt(test)->allocator;
	struct host *host = gmt(test)->data;

	mmput(host->mm);
	flush_delayed_fput();
	gmt_close(test);
	gmt(test)->gi = gmt_open(allocator, allocator->pages, false);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, gmt(test)->gi);
	KUNIT_ASSERT_EQ(test, host_start(host, gmt(test)->gi), 0);

	KUNIT_EXPECT_EQ(test, host_touch(host, 0), -EFAULT);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

static void private_unmaps_the_range_and_no_more(struct kunit *test)
{
	pgoff_t unit = gmt_folio_pages(test);
	struct folio *before = map_page(test, 0);
	struct folio *folio = map_page(test, unit);
	struct folio *after = map_page(test, 2 * unit);

	gmt_fill(folio, 0x42);
	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, unit, 2 * unit,
					 NULL), 0);
	KUNIT_EXPECT_FALSE(test, folio_mapped(folio));
	KUNIT_EXPECT_TRUE(test, folio_mapped(before));
	KUNIT_EXPECT_TRUE(test, folio_mapped(after));
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x42));
}

static int make(struct kunit *test, enum guestmem_target target, pgoff_t start, pgoff_t end)
{
	return gmt_change(gmt(test)->gi, target, start, end, NULL);
}

/* What the guest or the host has written is there for the other to read. */
static void host_gets_page_back_with_its_contents(struct kunit *test)
{
	struct folio *folio = map_page(test, 3);

	gmt_fill(folio, 0x42);
	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_PRIVATE, 3, 4), 0);
	KUNIT_EXPECT_EQ(test, host_touch(gmt(test)->data, 3), -EFAULT);
	gmt_fill(folio, 0x43);
	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_SHARED, 3, 4), 0);
	KUNIT_EXPECT_FALSE_MSG(test, folio_mapped(folio), "mapped without a fault");
	KUNIT_EXPECT_PTR_EQ(test, map_page(test, 3), folio);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0x43));
}

static void host_is_refused_private_pages_only(struct kunit *test)
{
	static const u8 patterns[] = { 0x00, 0xff, 0x55, 0x99 };

	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		gmt_share_by(test, patterns[i]);
		for (pgoff_t index = 0; index < gmt(test)->allocator->pages; index++)
			KUNIT_EXPECT_EQ_MSG(test, host_touch(gmt(test)->data, index),
					    patterns[i] & BIT(index % 8) ? 0 : -EFAULT,
					    "page %lu", index);
	}
}

/* What is there around it is private, and must not come with it. */
static void host_reads_one_page_only(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;

	for (pgoff_t index = 0; index < pages; index++)
		gmt_get(test, index);
	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_PRIVATE, 0, pages), 0);
	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_SHARED, 3, 4), 0);
	KUNIT_EXPECT_EQ(test, host_fault(gmt(test)->data, 3, 0), 0);
	for (pgoff_t index = 0; index < pages; index++)
		KUNIT_EXPECT_EQ_MSG(test, folio_mapped(gmt_get(test, index)), index == 3,
				    "page %lu", index);
}

/* A hole that is private stays refused: a fault there would allocate. */
static void host_is_refused_private_holes(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;

	map_page(test, 1);
	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_PRIVATE, 0, pages), 0);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, pages), 0);
	KUNIT_EXPECT_EQ(test, host_touch(gmt(test)->data, 1), -EFAULT);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);
}

/* Its mapping is gone, its state is not: the host comes back by a fault. */
static void host_comes_back_after_a_refusal(struct kunit *test)
{
	pgoff_t pages = gmt(test)->allocator->pages;
	struct folio *folio = map_page(test, 1);

	folio_get(folio);
	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_PRIVATE, 0, pages), -EAGAIN);
	folio_put(folio);
	gmt_expect_states(test, GUESTMEM_ABSENT, 0, 0);
	KUNIT_EXPECT_PTR_EQ(test, map_page(test, 1), folio);
}

static void shared_stays_mapped(struct kunit *test)
{
	struct folio *folio = map_page(test, 1);

	KUNIT_EXPECT_EQ(test, make(test, GUESTMEM_PRIVATE, 2, 5), 0);

	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_SHARED, 0,
					 gmt(test)->allocator->pages, NULL), 0);
	KUNIT_EXPECT_TRUE(test, folio_mapped(folio));
}

static void hole_is_unmapped(struct kunit *test)
{
	struct folio *folio = map_page(test, 1);

	gmt_fill(folio, 0x42);
	KUNIT_EXPECT_EQ(test, gmt_punch(test, 0, gmt(test)->allocator->pages), 0);
	KUNIT_EXPECT_EQ(test, gmt(test)->gi->mapping->nrpages, 0);

	folio = map_page(test, 1);
	KUNIT_EXPECT_TRUE(test, gmt_filled(folio, 0));
}

/* A page that the host has pinned is refused, though its mapping is gone. */
static void pinned_by_host_refuses_private(struct kunit *test)
{
	struct host *host = gmt(test)->data;
	pgoff_t index = gmt(test)->allocator->pages - 1;
	pgoff_t err_index = 77;
	struct page *page;
	long nr;

	mmap_read_lock(host->mm);
	nr = pin_user_pages_remote(host->mm, host->addr + (index << PAGE_SHIFT), 1,
				   FOLL_WRITE, &page, NULL);
	mmap_read_unlock(host->mm);
	KUNIT_ASSERT_EQ(test, nr, 1);

	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, index + 1,
					 &err_index), -EAGAIN);
	KUNIT_EXPECT_EQ(test, err_index, round_down(index, gmt_folio_pages(test)));
	unpin_user_page(page);

	KUNIT_EXPECT_EQ(test, gmt_change(gmt(test)->gi, GUESTMEM_PRIVATE, 0, index + 1,
					 NULL), 0);
	KUNIT_EXPECT_FALSE(test, folio_mapped(page_folio(page)));
}

/*
 * A fault that began before the change maps its page after the range was
 * unmapped: it holds the folio lock, and no other.
 */

struct in_flight {
	struct guestmem_inode *gi;
	struct host *host;
	pgoff_t pages;
	struct completion arrived;
	struct completion proceed;
	int fault_err;
	int change_err;
};

static void fault_waits(struct mock_inode *mi)
{
	struct in_flight *flight = mi->data;

	complete(&flight->arrived);
	wait_for_completion(&flight->proceed);
}

static void fault_in_flight(void *arg)
{
	struct in_flight *flight = arg;

	flight->fault_err = host_touch(flight->host, 2);
}

static void change_to_private(void *arg)
{
	struct in_flight *flight = arg;

	flight->change_err = gmt_change(flight->gi, GUESTMEM_PRIVATE, 0, flight->pages, NULL);
}

static void fault_in_flight_is_undone(struct kunit *test)
{
	struct in_flight flight = {
		.gi = gmt(test)->gi,
		.host = gmt(test)->data,
		.pages = gmt(test)->allocator->pages,
	};
	struct gmt_thread fault = { .fn = fault_in_flight, .arg = &flight };
	struct gmt_thread change = { .fn = change_to_private, .arg = &flight };

	init_completion(&flight.arrived);
	init_completion(&flight.proceed);
	mock_inode(flight.gi)->data = &flight;
	mock_inode(flight.gi)->on_fault = fault_waits;

	gmt_start(test, &fault);
	wait_for_completion(&flight.arrived);
	gmt_start(test, &change);
	KUNIT_EXPECT_TRUE_MSG(test, gmt_blocked(&change), "the fault was not waited for");
	complete_all(&flight.proceed);
	gmt_join(test, &fault);
	gmt_join(test, &change);

	KUNIT_EXPECT_EQ(test, flight.fault_err, 0);
	KUNIT_EXPECT_EQ(test, flight.change_err, 0);
	KUNIT_EXPECT_FALSE_MSG(test, folio_mapped(gmt_get(test, 2)),
			       "the host maps a private page");
}

static struct kunit_case host_cases[] = {
	KUNIT_CASE_PARAM(host_sees_zeroes_then_the_page, single_gen_params),
	KUNIT_CASE_PARAM(private_file_has_no_host_mapping, single_gen_params),
	KUNIT_CASE_PARAM(private_unmaps_the_range_and_no_more, single_gen_params),
	KUNIT_CASE_PARAM(host_gets_page_back_with_its_contents, single_gen_params),
	KUNIT_CASE_PARAM(host_is_refused_private_pages_only, single_gen_params),
	KUNIT_CASE_PARAM(host_reads_one_page_only, single_gen_params),
	KUNIT_CASE_PARAM(host_is_refused_private_holes, single_gen_params),
	KUNIT_CASE_PARAM(host_comes_back_after_a_refusal, single_gen_params),
	KUNIT_CASE_PARAM(shared_stays_mapped, single_gen_params),
	KUNIT_CASE_PARAM(hole_is_unmapped, single_gen_params),
	KUNIT_CASE_PARAM(pinned_by_host_refuses_private, single_gen_params),
	KUNIT_CASE_PARAM(fault_in_flight_is_undone, single_gen_params),
	{}
};

static struct kunit_suite host_suite = {
	.name = "guestmem_host",
	.suite_init = gmt_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = host_init,
	.exit = host_exit,
	.test_cases = host_cases,
};

kunit_test_suite(host_suite);
