/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * guestmem custody: what mm/folio.c has to know of it
 *
 * Included by mm/folio.c, which puts a folio with a type of its own on the way
 * that its type asks for.
 */
#ifndef _MM_GUESTMEM_CUSTODY_H
#define _MM_GUESTMEM_CUSTODY_H

#include <linux/build_bug.h>
#include <linux/hugetlb.h>
#include <linux/page-flags.h>

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

#else

static inline bool folio_has_custom_free(const struct folio *folio)
{
	return folio_test_hugetlb(folio);
}

static inline void folio_custom_free(struct folio *folio)
{
	free_huge_folio(folio);
}

#endif /* CONFIG_GUESTMEM */

#endif /* _MM_GUESTMEM_CUSTODY_H */
