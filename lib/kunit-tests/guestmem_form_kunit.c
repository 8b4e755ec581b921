// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forms of folios: all steps from one to another that there are, and no others
 */
#include <linux/mm.h>

#include "../../mm/guestmem/internal.h"
#include "../../mm/internal.h"
#include "guestmem_test_lib.h"

struct form {
	const char *name;
	unsigned int order;
	bool in_cache;
	bool frozen;
};

static const struct form forms[] = {
	{ "whole",		4, true,  false },
	{ "piece",		2, true,  false },
	{ "single",		0, true,  false },
	{ "frozen whole",	4, true,  true },
	{ "frozen piece",	2, true,  true },
	{ "frozen single",	0, true,  true },
	{ "parked whole",	4, false, false },
	{ "parked piece",	2, false, false },
	{ "parked single",	0, false, false },
	{ "gathered whole",	4, false, true },
	{ "gathered piece",	2, false, true },
	{ "gathered single",	0, false, true },
	{ "size of nobody",	3, true,  true },
};

static const char *const steps[][2] = {
	/* freeze, thaw */
	{ "whole",		"frozen whole" },
	{ "frozen whole",	"whole" },
	{ "piece",		"frozen piece" },
	{ "frozen piece",	"piece" },
	{ "single",		"frozen single" },
	{ "frozen single",	"single" },
	{ "parked piece",	"gathered piece" },
	{ "gathered piece",	"parked piece" },
	{ "parked single",	"gathered single" },
	{ "gathered single",	"parked single" },
	/* split */
	{ "frozen whole",	"frozen piece" },
	{ "frozen piece",	"frozen single" },
	/* merge */
	{ "frozen single",	"frozen piece" },
	{ "frozen piece",	"frozen whole" },
	{ "gathered single",	"gathered piece" },
	{ "gathered piece",	"gathered whole" },
	/* the file goes */
	{ "piece",		"parked piece" },
	{ "single",		"parked single" },
};

static bool form_follows(const struct form *was, const struct form *is)
{
	for (int i = 0; i < ARRAY_SIZE(steps); i++)
		if (!strcmp(was->name, steps[i][0]) && !strcmp(is->name, steps[i][1]))
			return true;

	return false;
}

static struct folio *form_folio(struct kunit *test, const struct form *form)
{
	static struct address_space mapping;
	struct folio *folio = folio_alloc(GFP_KERNEL, form->order);

	KUNIT_ASSERT_NOT_NULL(test, folio);
	folio->mapping = form->in_cache ? &mapping : NULL;
	if (form->frozen)
		folio_ref_freeze(folio, 1);
	return folio;
}

static void form_free(struct folio *folio)
{
	if (!folio_ref_count(folio))
		folio_ref_unfreeze(folio, 1);
	folio->mapping = NULL;
	folio_put(folio);
}

static int form_warnings(struct kunit *test, const struct guestmem_geometry *geo,
			 const struct form *was, const struct form *is)
{
	struct folio *before = form_folio(test, was), *after = form_folio(test, is);
	int warnings = 0;

	kunit_warning_suppress(test) {
		guestmem_check_form(geo, after, guestmem_form(geo, before));
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	form_free(before);
	form_free(after);
	return warnings;
}

static void only_these_steps_are_legal(struct kunit *test)
{
	const struct guestmem_geometry geo = { .block_order = 4, .piece_order = 2 };
	int legal = 0;

	for (int i = 0; i < ARRAY_SIZE(forms); i++) {
		for (int j = 0; j < ARRAY_SIZE(forms); j++) {
			bool follows = form_follows(&forms[i], &forms[j]);

			legal += follows;
			KUNIT_EXPECT_EQ_MSG(test, form_warnings(test, &geo, &forms[i], &forms[j]),
					    !follows, "%s -> %s", forms[i].name, forms[j].name);
		}
	}
	KUNIT_EXPECT_EQ(test, legal, ARRAY_SIZE(steps));
}

/* Where there is no size in between, pages are the pieces of a block. */
static void a_block_may_have_no_pieces(struct kunit *test)
{
	const struct guestmem_geometry geo = { .block_order = 4 };
	static const struct form whole = { "frozen whole", 4, true, true };
	static const struct form single = { "frozen single", 0, true, true };
	static const struct form piece = { "frozen piece", 2, true, true };

	KUNIT_EXPECT_EQ(test, form_warnings(test, &geo, &whole, &single), 0);
	KUNIT_EXPECT_EQ(test, form_warnings(test, &geo, &single, &whole), 0);
	KUNIT_EXPECT_EQ(test, form_warnings(test, &geo, &whole, &piece), 1);
}

static void every_piece_is_looked_at(struct kunit *test)
{
	const struct guestmem_geometry geo = { .block_order = 4, .piece_order = 2 };
	static const struct form whole = { "frozen whole", 4, true, true };
	struct folio *folio = form_folio(test, &whole);
	int form = guestmem_form(&geo, folio);

	guestmem_split_folio(folio, 2);
	guestmem_check_forms(&geo, folio, 16, form);
	folio_ref_unfreeze(page_folio(folio_page(folio, 12)), 1);
	kunit_warning_suppress(test) {
		guestmem_check_forms(&geo, folio, 16, form);
		KUNIT_EXPECT_EQ(test, KUNIT_SUPPRESSED_WARNING_COUNT(), 1);
	}
	for (int i = 0; i < 16; i += 4)
		form_free(page_folio(folio_page(folio, i)));
}

static int frozen_warnings(struct kunit *test, struct folio *folio)
{
	int warnings = 0;

	kunit_warning_suppress(test) {
		guestmem_check_frozen(folio);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	return warnings;
}

/* Single pages without a type, and nothing else. */
static void only_single_pages_are_on_the_lru(struct kunit *test)
{
	struct folio *single = folio_alloc(GFP_KERNEL, 0), *large = folio_alloc(GFP_KERNEL, 2);

	KUNIT_ASSERT_NOT_NULL(test, single);
	KUNIT_ASSERT_NOT_NULL(test, large);

	KUNIT_EXPECT_EQ(test, frozen_warnings(test, single), 1);
	folio_set_lru(single);
	KUNIT_EXPECT_EQ(test, frozen_warnings(test, single), 0);
	__folio_set_guestmem(single);
	KUNIT_EXPECT_EQ(test, frozen_warnings(test, single), 1);
	__folio_clear_guestmem(single);
	folio_clear_lru(single);

	KUNIT_EXPECT_EQ(test, frozen_warnings(test, large), 0);
	folio_set_lru(large);
	KUNIT_EXPECT_EQ(test, frozen_warnings(test, large), 1);
	folio_clear_lru(large);

	folio_put(single);
	folio_put(large);
}

static struct kunit_case form_cases[] = {
	KUNIT_CASE(only_these_steps_are_legal),
	KUNIT_CASE(a_block_may_have_no_pieces),
	KUNIT_CASE(every_piece_is_looked_at),
	KUNIT_CASE(only_single_pages_are_on_the_lru),
	{}
};

static struct kunit_suite form_suite = {
	.name = "guestmem_form",
	.test_cases = form_cases,
};

kunit_test_suite(form_suite);
