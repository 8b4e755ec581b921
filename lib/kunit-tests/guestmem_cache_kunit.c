// SPDX-License-Identifier: GPL-2.0-only
/*
 * Entries of the page cache that are split and stored again, in the sizes of real
 * huge pages: all of them lead to something that is not looked at, so no memory of
 * that size is needed
 */
#include <linux/pagemap.h>

#include "guestmem_fail_nth.h"
#include "../../mm/guestmem/internal.h"

/* Orders that an entry of order @block is split into, one after the other. */
struct ladder {
	const char *name;
	pgoff_t at;
	unsigned int block;
	unsigned int piece;
};

static const struct ladder ladders[] = {
	{ "18 to 9 to 0",		0,		18, 9 },
	{ "18 to 9 to 0, behind",	5UL << 18,	18, 9 },
	{ "18 to 0",			1UL << 18,	18, 0 },
	{ "9 to 4 to 0",		3UL << 9,	9,  4 },
	{ "9 to 0",			0,		9,  0 },
};

KUNIT_ARRAY_PARAM_DESC(ladder, ladders, name);

/* Those that do not allocate for each of 262,144 pages. */
static const void *small_gen_params(struct kunit *test, const void *prev, char *desc)
{
	const struct ladder *next = prev;

	do {
		next = ladder_gen_params(test, next, desc);
	} while (next && next->block > 9 && !next->piece);

	return next;
}

/**
 * struct cache - what a test works on
 * @mapping: has the entry, and one before and behind it.
 * @folio: dummy that all of the entry leads to.
 * @neighbour: dummy of the others.
 */
struct cache {
	struct address_space mapping;
	u64 folio;
	u64 neighbour;
};

static struct cache *cache(struct kunit *test)
{
	return test->priv;
}

static const struct ladder *ladder(struct kunit *test)
{
	return test->param_value;
}

static pgoff_t block_end(struct kunit *test)
{
	return ladder(test)->at + (1UL << ladder(test)->block);
}

/* Somewhere in the middle, where no piece begins or ends. */
static pgoff_t middle(struct kunit *test)
{
	return ladder(test)->at + (1UL << ladder(test)->block) / 2 + 3;
}

static int store(struct kunit *test, void *entry, pgoff_t index, unsigned int order, gfp_t gfp)
{
	XA_STATE(xas, &cache(test)->mapping.i_pages, 0);
	int err;

	do {
		err = guestmem_cache_store_one(&xas, entry, index, order);
	} while (gfp && xas_nomem(&xas, gfp));

	return gfp ? xas_error(&xas) : err;
}

static int cache_init(struct kunit *test)
{
	struct cache *new = kunit_kzalloc(test, sizeof(*new), GFP_KERNEL);
	int err;

	if (!new)
		return -ENOMEM;

	test->priv = new;
	xa_init_flags(&new->mapping.i_pages, XA_FLAGS_LOCK_IRQ);
	err = store(test, &new->folio, ladder(test)->at, ladder(test)->block, GFP_KERNEL);
	if (!err)
		err = store(test, &new->neighbour, block_end(test), 0, GFP_KERNEL);
	if (!err && ladder(test)->at)
		err = store(test, &new->neighbour, ladder(test)->at - 1, 0, GFP_KERNEL);
	return err;
}

static void cache_exit(struct kunit *test)
{
	if (test->priv)
		xa_destroy(&cache(test)->mapping.i_pages);
}

/* Of the piece that @index is in if it is to be split, else of all others. */
static unsigned int order_at(struct kunit *test, pgoff_t index, pgoff_t single)
{
	unsigned int piece = ladder(test)->piece;

	return round_down(index, 1UL << piece) == round_down(single, 1UL << piece) ? 0 : piece;
}

static void expect_neighbours(struct kunit *test)
{
	struct xarray *pages = &cache(test)->mapping.i_pages;

	KUNIT_EXPECT_PTR_EQ(test, xa_load(pages, block_end(test)), &cache(test)->neighbour);
	if (ladder(test)->at)
		KUNIT_EXPECT_PTR_EQ(test, xa_load(pages, ladder(test)->at - 1),
				    &cache(test)->neighbour);
}

/* Whoever looks a page up finds the same as ever, whatever the size of the entry. */
static void expect_entries(struct kunit *test, pgoff_t single)
{
	struct address_space *mapping = &cache(test)->mapping;
	pgoff_t index = ladder(test)->at, at = index;
	unsigned int order;
	void *folio;

	while (index < block_end(test) && test->status == KUNIT_SUCCESS) {
		folio = guestmem_cache_find(mapping, &at, block_end(test), &order);
		KUNIT_ASSERT_PTR_EQ(test, folio, &cache(test)->folio);
		KUNIT_EXPECT_EQ(test, at, index);
		KUNIT_EXPECT_EQ_MSG(test, order, order_at(test, index, single), "at %lu", index);
		index += 1UL << order;
		at = index;
		cond_resched();
	}
	expect_neighbours(test);
}

static void expect_whole(struct kunit *test)
{
	pgoff_t index = ladder(test)->at;
	unsigned int order;
	void *folio;

	folio = guestmem_cache_find(&cache(test)->mapping, &index, block_end(test), &order);
	KUNIT_EXPECT_PTR_EQ(test, folio, &cache(test)->folio);
	KUNIT_EXPECT_EQ(test, order, ladder(test)->block);
	KUNIT_EXPECT_EQ(test, index, ladder(test)->at);
	expect_neighbours(test);
}

static int split_entry(struct kunit *test)
{
	struct folio *folio = (struct folio *)&cache(test)->folio;
	struct address_space *mapping = &cache(test)->mapping;
	const struct ladder *l = ladder(test);
	int err;

	err = guestmem_cache_split(mapping, folio, l->at, l->block, l->piece);
	if (err || !l->piece)
		return err;

	return guestmem_cache_split(mapping, folio, round_down(middle(test), 1UL << l->piece),
				    l->piece, 0);
}

/* Takes no memory: the tree has all the nodes that are wanted, and more. */
static void merge_entries(struct kunit *test)
{
	const struct ladder *l = ladder(test);

	if (l->piece) {
		KUNIT_EXPECT_EQ(test, store(test, &cache(test)->folio,
					    round_down(middle(test), 1UL << l->piece),
					    l->piece, 0), 0);
		expect_entries(test, ULONG_MAX);
	}
	KUNIT_EXPECT_EQ(test, store(test, &cache(test)->folio, l->at, l->block, 0), 0);
	expect_whole(test);
}

static void splits_and_merges(struct kunit *test)
{
	expect_whole(test);
	KUNIT_ASSERT_EQ(test, split_entry(test), 0);
	expect_entries(test, ladder(test)->piece ? middle(test) : ladder(test)->at);
	merge_entries(test);
}

/* Nodes that one store has changed or freed, interrupts off; and the most so far. */
static struct {
	struct xa_state *xas;
	pgoff_t index;
	unsigned int order;
	unsigned int nodes;
	unsigned int most;
} burst;

static void count_burst(struct xa_node *node)
{
	unsigned int order = burst.xas->xa_shift + burst.xas->xa_sibs;

	if (burst.index != burst.xas->xa_index || burst.order != order)
		burst.nodes = 0;
	burst.index = burst.xas->xa_index;
	burst.order = order;
	burst.most = max(burst.most, ++burst.nodes);
}

/* Whatever it has been split into: a level of nodes after the other. */
static void restores_in_steps(struct kunit *test)
{
	struct folio *folio = (struct folio *)&cache(test)->folio;
	struct address_space *mapping = &cache(test)->mapping;
	const struct ladder *l = ladder(test);
	XA_STATE(xas, &mapping->i_pages, 0);

	KUNIT_ASSERT_EQ(test, guestmem_cache_split(mapping, folio, l->at, l->block, 0), 0);
	memset(&burst, 0, sizeof(burst));
	burst.xas = &xas;
	xas_set_update(&xas, count_burst);
	guestmem_cache_restore(&xas, folio, l->at, l->block, l->piece);
	expect_whole(test);
	KUNIT_EXPECT_GE(test, burst.most, 1);
	KUNIT_EXPECT_LE(test, burst.most, 2 * XA_CHUNK_SIZE);
}

/* Half of it may be split by then; nobody can tell, and one store puts it right. */
static void check_failed(struct kunit *test)
{
	struct xarray *pages = &cache(test)->mapping.i_pages;
	pgoff_t index;

	for (index = ladder(test)->at; index < block_end(test); index += 61)
		KUNIT_EXPECT_PTR_EQ(test, xa_load(pages, index), &cache(test)->folio);
	KUNIT_EXPECT_EQ(test, store(test, &cache(test)->folio, ladder(test)->at,
				    ladder(test)->block, 0), 0);
	expect_whole(test);
}

static void splits_or_stays(struct kunit *test)
{
	static const struct operation op = {
		.run = split_entry,
		.check_failed = check_failed,
		.undo = merge_entries,
	};

	KUNIT_EXPECT_GT(test, fail_in_every_way(test, "split", &op, KIND_SLAB), 0);
}

static struct kunit_case cache_cases[] = {
	KUNIT_CASE_PARAM(splits_and_merges, ladder_gen_params),
	KUNIT_CASE_PARAM(splits_or_stays, small_gen_params),
	KUNIT_CASE_PARAM(restores_in_steps, small_gen_params),
	{}
};

static struct kunit_suite cache_suite = {
	.name = "guestmem_cache",
	.suite_init = fail_nth_suite_init,
	.suite_exit = gmt_suite_exit,
	.init = cache_init,
	.exit = cache_exit,
	.test_cases = cache_cases,
};

kunit_test_suite(cache_suite);
