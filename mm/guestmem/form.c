// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem form: what a folio of a file with geo.split can be, and become
 *
 * A size and a place make a form.  No step skips a size, sizes change only where
 * nobody has a reference, and what has left its file does not come back:
 *
 *	in the file	whole		piece		single
 *			  |		  | \		   | \
 *	frozen		whole  <->	piece  <->	single |
 *					    |		     |
 *	parked				  piece		  single
 *					    |		     |
 *	gathered	whole  <--	  piece  <--	  single
 *
 * Plain lines go both ways, but for those from the file to parked.  Where there is no
 * size between a block and a page, a single page is a piece.
 *
 * On its way from and to the file, frozen, a single page has no type and is on the LRU;
 * larger folios never are.
 */
#include <linux/bug.h>
#include <linux/mm.h>

#include "internal.h"

enum guestmem_size {
	GUESTMEM_WHOLE,
	GUESTMEM_PIECE,
	GUESTMEM_SINGLE,
	NR_GUESTMEM_SIZES,
};

enum guestmem_place {
	GUESTMEM_IN_FILE,
	GUESTMEM_FROZEN,
	GUESTMEM_PARKED,
	GUESTMEM_GATHERED,
};

#define FORM(place, size)	((place) * NR_GUESTMEM_SIZES + (size))
#define TO(place, size)		BIT(FORM(GUESTMEM_##place, GUESTMEM_##size))

static const u16 guestmem_next_forms[] = {
	[FORM(GUESTMEM_IN_FILE, GUESTMEM_WHOLE)]   = TO(FROZEN, WHOLE),
	[FORM(GUESTMEM_IN_FILE, GUESTMEM_PIECE)]   = TO(FROZEN, PIECE) | TO(PARKED, PIECE),
	[FORM(GUESTMEM_IN_FILE, GUESTMEM_SINGLE)]  = TO(FROZEN, SINGLE) | TO(PARKED, SINGLE),

	[FORM(GUESTMEM_FROZEN, GUESTMEM_WHOLE)]	   = TO(IN_FILE, WHOLE) | TO(FROZEN, PIECE),
	[FORM(GUESTMEM_FROZEN, GUESTMEM_PIECE)]	   = TO(IN_FILE, PIECE) | TO(FROZEN, WHOLE) |
						     TO(FROZEN, SINGLE),
	[FORM(GUESTMEM_FROZEN, GUESTMEM_SINGLE)]   = TO(IN_FILE, SINGLE) | TO(FROZEN, PIECE),

	[FORM(GUESTMEM_PARKED, GUESTMEM_PIECE)]	   = TO(GATHERED, PIECE),
	[FORM(GUESTMEM_PARKED, GUESTMEM_SINGLE)]   = TO(GATHERED, SINGLE),

	[FORM(GUESTMEM_GATHERED, GUESTMEM_PIECE)]  = TO(PARKED, PIECE) | TO(GATHERED, WHOLE),
	[FORM(GUESTMEM_GATHERED, GUESTMEM_SINGLE)] = TO(PARKED, SINGLE) | TO(GATHERED, PIECE),
};

/* NR_GUESTMEM_SIZES if @geo has no such folios. */
static enum guestmem_size guestmem_size(const struct guestmem_geometry *geo, unsigned int order)
{
	if (order == geo->block_order)
		return GUESTMEM_WHOLE;
	if (order == geo->piece_order)
		return GUESTMEM_PIECE;

	return order ? NR_GUESTMEM_SIZES : GUESTMEM_SINGLE;
}

static enum guestmem_place guestmem_place(struct folio *folio)
{
	if (folio_ref_count(folio))
		return folio->mapping ? GUESTMEM_IN_FILE : GUESTMEM_PARKED;

	return folio->mapping ? GUESTMEM_FROZEN : GUESTMEM_GATHERED;
}

static int guestmem_form_at(const struct guestmem_geometry *geo, struct folio *folio,
			    enum guestmem_place place)
{
	enum guestmem_size size = guestmem_size(geo, folio_order(folio));

	return size == NR_GUESTMEM_SIZES ? -EDOM : FORM(place, size);
}

/* For guestmem_check_form(); negative if there is no such form. */
int guestmem_form(const struct guestmem_geometry *geo, struct folio *folio)
{
	return guestmem_form_at(geo, folio, guestmem_place(folio));
}

/* What the form of @folio, which has just left its file, has been. */
int guestmem_form_in_file(const struct guestmem_geometry *geo, struct folio *folio)
{
	return guestmem_form_at(geo, folio, GUESTMEM_IN_FILE);
}

static bool guestmem_form_follows(int was, int is)
{
	if (was < 0 || is < 0 || was >= ARRAY_SIZE(guestmem_next_forms))
		return false;

	return guestmem_next_forms[was] & BIT(is);
}

/* @folio, or what it was part of or made of, had the form @was until now. */
bool guestmem_check_form(const struct guestmem_geometry *geo, struct folio *folio, int was)
{
	return !WARN_ON(!guestmem_form_follows(was, guestmem_form(geo, folio)));
}

/* As above, for each folio of the @nr pages from @first on, up to one that is wrong. */
void guestmem_check_forms(const struct guestmem_geometry *geo, struct folio *first,
			  unsigned long nr, int was)
{
	struct folio *folio;

	for (unsigned long i = 0; i < nr; i += folio_nr_pages(folio)) {
		folio = page_folio(folio_page(first, i));
		if (!guestmem_check_form(geo, folio, was))
			return;
	}
}

/* @folio of a file is frozen, but not changed yet, or changed, but not thawed yet. */
bool guestmem_check_frozen(struct folio *folio)
{
	bool lru = folio_test_lru(folio);

	if (folio_test_large(folio))
		return !WARN_ON(lru);

	return !WARN_ON(!lru || page_has_type(&folio->page));
}
