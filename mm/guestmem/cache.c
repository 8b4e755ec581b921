// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem cache: the page cache of a file whose folios change their size
 *
 * An entry is first split into smaller ones that all lead to the same folio,
 * which may fail and leaves the file as it was for whoever looks a page up.
 * Storing the folios that the pieces become, or the whole folio again, then
 * finds every node of the tree in place.
 */
#include <linux/dax.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/xarray.h>

#include "../internal.h"
#include "internal.h"

/* Entries that are stored without giving way, interrupts off. */
#define GUESTMEM_CACHE_BATCH	512

/*
 * The smallest order that an entry of order @from can be split into at a time: it
 * takes one level of nodes that is not there.
 */
static unsigned int guestmem_cache_rung(unsigned int from, unsigned int to)
{
	const unsigned int shift = XA_CHUNK_SHIFT;
	unsigned int level = from / shift;

	return max(to, level ? (level - 1) * shift : 0);
}

static int guestmem_cache_split_one(struct address_space *mapping, struct folio *folio,
				    pgoff_t index, unsigned int from, unsigned int to)
{
	XA_STATE_ORDER(xas, &mapping->i_pages, index, to);

	mapping_set_update(&xas, mapping);
	xas_split_alloc(&xas, folio, from, GUESTMEM_GFP_RESERVE);
	if (xas_error(&xas))
		return xas_error(&xas);

	xas_lock_irq(&xas);
	xas_split(&xas, folio, from);
	xas_unlock_irq(&xas);
	return 0;
}

static int guestmem_cache_split_rung(struct address_space *mapping, struct folio *folio,
				     struct guestmem_range range, unsigned int from,
				     unsigned int to)
{
	int err;

	for (pgoff_t index = range.start; index < range.end; index += 1UL << from) {
		err = guestmem_cache_split_one(mapping, folio, index, from, to);
		if (err)
			return err;
		cond_resched();
	}

	return 0;
}

/*
 * Split the entry of order @from at @index into entries of order @to, all of them
 * @folio.  -ENOMEM leaves entries of any order from @to to @from there, which storing
 * the folio once more sets right.
 */
int guestmem_cache_split(struct address_space *mapping, struct folio *folio,
			 pgoff_t index, unsigned int from, unsigned int to)
{
	const struct guestmem_range range = { index, index + (1UL << from) };
	unsigned int rung;
	int err = 0;

	for (; !err && from > to; from = rung) {
		rung = guestmem_cache_rung(from, to);
		err = guestmem_cache_split_rung(mapping, folio, range, from, rung);
	}

	return err;
}

/* The first folio in [*@index, @end), and the order of its entry; or NULL. */
struct folio *guestmem_cache_find(struct address_space *mapping, pgoff_t *index,
				  pgoff_t end, unsigned int *order)
{
	XA_STATE(xas, &mapping->i_pages, *index);
	struct folio *folio;

	guard(rcu)();
	do {
		folio = xas_find(&xas, end - 1);
	} while (xas_retry(&xas, folio));

	if (folio) {
		*order = xas_get_order(&xas);
		*index = xas.xa_index;
	}
	return folio;
}

/* Needs no memory where the entries that are there are as small, or @xas has a node. */
int guestmem_cache_store_one(struct xa_state *xas, struct folio *folio, pgoff_t index,
			     unsigned int order)
{
	xas_set_order(xas, index, order);
	xas_lock_irq(xas);
	xas_store(xas, folio);
	xas_unlock_irq(xas);
	return xas_error(xas);
}

/*
 * Make the smaller entries that are left of that of order @order at @index one again.
 * Needs no memory.  By way of entries of order @piece, if there are any in between: the
 * nodes of all single pages of 1G are too many to be freed at once, interrupts off.
 */
void guestmem_cache_restore(struct xa_state *xas, struct folio *folio, pgoff_t index,
			    unsigned int order, unsigned int piece)
{
	struct address_space *mapping = container_of(xas->xa, struct address_space, i_pages);
	pgoff_t at = index, end = index + (1UL << order);
	unsigned int found;

	while (piece && at < end && guestmem_cache_find(mapping, &at, end, &found)) {
		if (found < piece)
			guestmem_cache_store_one(xas, folio, at, piece);
		at = round_down(at, 1UL << piece) + (1UL << max(found, piece));
		cond_resched();
	}

	guestmem_cache_store_one(xas, folio, index, order);
}

/* Entries that are smaller than the folio stay so: it will be split once more. */
static unsigned long guestmem_cache_replace(struct xa_state *xas, struct folio *folio,
					    pgoff_t index)
{
	unsigned int order;

	/* Not xas_set(): the order stored last would end the walk above a small entry. */
	xas_set_order(xas, index, 0);
	xas_load(xas);
	order = min_t(unsigned int, xas_get_order(xas), folio_order(folio));
	xas_set_order(xas, index, order);
	xas_store(xas, folio);
	return 1UL << order;
}

/* Store the folios that the @nr pages of @folio have become. */
void guestmem_cache_store(struct address_space *mapping, struct folio *folio,
			  unsigned long nr)
{
	XA_STATE(xas, &mapping->i_pages, 0);
	unsigned int batch = 0;
	unsigned long i = 0;

	mapping_set_update(&xas, mapping);
	xas_lock_irq(&xas);
	while (i < nr) {
		i += guestmem_cache_replace(&xas, page_folio(folio_page(folio, i)),
					    folio->index + i);
		if (++batch % GUESTMEM_CACHE_BATCH)
			continue;

		xas_unlock_irq(&xas);
		cond_resched();
		xas_lock_irq(&xas);
	}
	xas_unlock_irq(&xas);
	GUESTMEM_WARN_ON(xas_error(&xas));
}
