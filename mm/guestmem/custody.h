/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * guestmem custody: what the rest of mm has to know of it
 *
 * A folio with a type of its own goes the way that its type asks for when its last
 * reference has gone, and is on no list until then.
 */
#ifndef _MM_GUESTMEM_CUSTODY_H
#define _MM_GUESTMEM_CUSTODY_H

#include <linux/build_bug.h>
#include <linux/hugetlb.h>
#include <linux/page-flags.h>
#include <linux/page_ref.h>

#ifdef CONFIG_GUESTMEM

/* The folio is in custody: folio->private says whose. */
#define PGTY_guestmem	0xf9
static_assert(PGTY_guestmem > PGTY_large_kmalloc &&
	      PGTY_guestmem < PGTY_mapcount_underflow);
FOLIO_TYPE_OPS(guestmem, guestmem)

void guestmem_custody_freed(struct folio *folio);

/* Is the folio not for buddy when its last reference has gone?  Rarely: one look. */
static inline bool folio_has_custom_free(const struct folio *folio)
{
	return page_has_type(&folio->page) &&
	       (folio_test_hugetlb(folio) || folio_test_guestmem(folio));
}

static inline void folio_custom_free(struct folio *folio)
{
	if (folio_test_hugetlb(folio))
		free_huge_folio(folio);
	else
		guestmem_custody_freed(folio);
}

/* For the LRU: of a folio whose mapping has been found gone.  The type was there before. */
static inline bool folio_in_custody(const struct folio *folio)
{
	/* Pairs with guestmem_custody_take(). */
	smp_rmb();
	return folio_test_guestmem(folio);
}

/* Takes the last reference of a folio that is buddy's then; leaves it else. */
static inline bool folio_freeze_dead(struct folio *folio)
{
	if (!folio_ref_freeze(folio, 1))
		return false;
	if (!folio_test_guestmem(folio))
		return true;

	folio_ref_unfreeze(folio, 1);
	return false;
}

#else

static inline bool folio_has_custom_free(const struct folio *folio)
{
	return folio_test_hugetlb(folio);
}

static inline void folio_custom_free(struct folio *folio)
{
	free_huge_folio(folio);
}

static inline bool folio_in_custody(const struct folio *folio)
{
	return false;
}

static inline bool folio_freeze_dead(struct folio *folio)
{
	return folio_ref_freeze(folio, 1);
}

#endif /* CONFIG_GUESTMEM */

#endif /* _MM_GUESTMEM_CUSTODY_H */
