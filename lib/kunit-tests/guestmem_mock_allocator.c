// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mock allocator: compound pages of odd orders from the buddy allocator
 *
 * Nothing of it is 9 or 18, so that neither can hide in the core.  The unit
 * that is asked for chooses one of:
 *
 *	unit	folios	punch	map	the core has to
 *	2^0	2^0	2^0	2^0	let two threads race for a page
 *	2^3	2^3	2^3	2^2	clamp the order of mappings
 *	2^5	2^2	2^2	2^2	fill a block with several folios
 *
 * A third one, that splits its folios, has as units what is split at once, and what
 * is split in two steps.
 *
 * A change holds one plan from change_prepare to its last step.
 */
#define pr_fmt(fmt) "guestmem mock: " fmt

#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "guestmem_mock.h"

struct mock_ladder {
	u8 unit_order;
	u8 folio_order;
	u8 map_order;
	u8 piece_order;
};

static const struct mock_ladder mock_ladders[] = {
	{ .unit_order = 3, .folio_order = 3, .map_order = 2 },
	{ .unit_order = 0, .folio_order = 0, .map_order = 0 },
	{ .unit_order = 5, .folio_order = 2, .map_order = 2 },
};

static const struct mock_ladder mock_split_ladders[] = {
	{ .unit_order = 3, .folio_order = 3, .map_order = 3 },
	{ .unit_order = 5, .folio_order = 5, .map_order = 5, .piece_order = 2 },
	{ .unit_order = 6, .folio_order = 6, .map_order = 6, .piece_order = 3 },
	{ .unit_order = 9, .folio_order = 9, .map_order = 9, .piece_order = 4 },
};

/* What the allocator keeps of a file. */
struct mock_reservation {
	const struct mock_ladder *ladder;
	/* Blocks that a folio is being allocated for. */
	unsigned long allocating;
};

/* What it keeps of a change. */
struct mock_plan {
	pgoff_t next;
	bool frozen;
};

struct mock_allocator mock = {
	.pages = XARRAY_INIT(mock.pages, XA_FLAGS_LOCK_IRQ),
};

static bool mock_fails(enum mock_op op)
{
	int call = atomic_inc_return(&mock.calls[op]) - 1;

	return mock.fail_err && op == mock.fail_op && call == mock.fail_call;
}

/*
 * Life of a file
 */

static const struct mock_ladder *mock_find_ladder(struct guestmem_inode *gi, u8 unit_log2)
{
	const struct mock_ladder *ladders = gi->geo.split ? mock_split_ladders : mock_ladders;
	int nr = gi->geo.split ? ARRAY_SIZE(mock_split_ladders) : ARRAY_SIZE(mock_ladders);

	if (!unit_log2)
		return &ladders[0];

	for (int i = 0; i < nr; i++)
		if (ladders[i].unit_order + PAGE_SHIFT == unit_log2)
			return &ladders[i];

	return NULL;
}

static int mock_inode_setup(struct guestmem_inode *gi,
			    const struct guestmem_inode_args *args)
{
	const struct mock_ladder *ladder = mock_find_ladder(gi, args->unit_log2);
	struct mock_reservation *reservation;

	if (!ladder)
		return -EINVAL;
	if (mock_fails(MOCK_SETUP))
		return mock.fail_err;

	reservation = kzalloc_obj(*reservation);
	if (!reservation)
		return -ENOMEM;

	reservation->ladder = ladder;
	gi->priv = reservation;
	gi->geo.block_order = ladder->unit_order;
	gi->geo.punch_order = ladder->folio_order;
	gi->geo.max_map_order = ladder->map_order;
	gi->geo.piece_order = ladder->piece_order;
	atomic_inc(&mock.inodes);
	return 0;
}

static void mock_inode_teardown(struct guestmem_inode *gi)
{
	mock_expect(!gi->mapping->nrpages, "inode_teardown before truncate");
	kfree(gi->priv);
	atomic_dec(&mock.inodes);
}

static void mock_truncate(struct guestmem_inode *gi)
{
	truncate_inode_pages(gi->mapping, 0);
}

/*
 * Folios
 */

static struct folio *mock_charge(struct guestmem_inode *gi, struct folio *folio)
{
	int err;

	/* One charge cannot be split. */
	if (gi->ops->geo.insert != GUESTMEM_INSERT_CHARGED || gi->geo.split)
		return folio;

	err = mem_cgroup_charge(folio, NULL, GFP_KERNEL);
	if (!err)
		return folio;

	folio_put(folio);
	return ERR_PTR(err);
}

/* Page by page: it may come back in pieces. */
static int mock_note_pages(struct guestmem_inode *gi, struct folio *folio)
{
	unsigned long pfn = folio_pfn(folio);
	int err;

	for (unsigned long i = 0; i < folio_nr_pages(folio); i++) {
		err = xa_err(xa_store_irq(&mock.pages, pfn + i, gi, GFP_KERNEL));
		if (err) {
			while (i--)
				xa_erase_irq(&mock.pages, pfn + i);
			return err;
		}
	}

	return 0;
}

static void mock_forget_pages(struct guestmem_inode *gi, struct folio *folio)
{
	for (unsigned long i = 0; i < folio_nr_pages(folio); i++)
		mock_expect(xa_erase_irq(&mock.pages, folio_pfn(folio) + i) == gi,
			    "free_folio of a page that the file does not have");
}

/* A folio full of rubbish: who wants it clear has to clear it. */
struct folio *mock_new_folio(struct guestmem_inode *gi, unsigned int order)
{
	struct folio *folio;
	int err;

	folio = folio_alloc(GFP_KERNEL, order);
	if (!folio)
		return ERR_PTR(-ENOMEM);

	folio = mock_charge(gi, folio);
	if (IS_ERR(folio))
		return folio;

	err = mock_note_pages(gi, folio);
	if (err) {
		folio_put(folio);
		return ERR_PTR(err);
	}

	memset(folio_address(folio), 0xa5, folio_size(folio));
	return folio;
}

static struct folio *mock_alloc_folio(struct guestmem_inode *gi, pgoff_t index,
				      struct mempolicy *policy)
{
	struct mock_reservation *reservation = gi->priv;
	unsigned long block = (index >> gi->geo.block_order) % BITS_PER_LONG;
	struct folio *folio;

	mock_expect_locked(gi, "alloc_folio without invalidate_lock");
	if (gi->geo.block_order)
		mock_expect(!test_and_set_bit(block, &reservation->allocating),
			    "alloc_folio twice at a time for one block");

	if (mock_fails(MOCK_ALLOC)) {
		folio = ERR_PTR(mock.fail_err);
	} else {
		if (mock.on_alloc)
			mock.on_alloc(gi, index);
		folio = mock_new_folio(gi, reservation->ladder->folio_order);
	}

	clear_bit(block, &reservation->allocating);
	return folio;
}

static void mock_free_folio(struct guestmem_inode *gi, struct folio *folio)
{
	mock_forget_pages(gi, folio);
	mock_expect(folio_ref_count(folio) > 0, "free_folio of a folio that is gone");
	mock_expect(!folio_mapped(folio), "free_folio of a mapped folio");
	mock_expect(!folio->mapping || folio_test_locked(folio),
		    "free_folio of an unlocked folio");

	if (mock.on_free)
		mock.on_free(gi, folio);
	if (folio->mapping)
		mock_log_add(&mock_inode(gi)->folios, "free", folio->index,
			     folio_next_index(folio));
}

static int mock_map_order(struct guestmem_inode *gi, struct folio *folio,
			  pgoff_t index)
{
	mock_expect(folio_test_locked(folio) && folio_contains(folio, index),
		    "map_order of another folio or without its lock");

	if (PageHWPoison(folio_file_page(folio, index)))
		return -EHWPOISON;

	return folio_order(folio);
}

static int mock_error_folio(struct guestmem_inode *gi, struct folio *folio,
			    struct guestmem_range *bad)
{
	mock_expect(folio_test_locked(folio), "error_folio of an unlocked folio");
	return MF_DELAYED;
}

/*
 * Changes
 */

static void mock_phase(struct guestmem_change *c, const char *phase, pgoff_t start,
		       pgoff_t end)
{
	mock_expect_exclusive(c->gi, "a phase of a change without invalidate_lock");
	mock_log_add(&mock_inode(c->gi)->phases, phase, start, end);
	if (mock.on_phase)
		mock.on_phase(c, phase);
}

/* A hole changes all of its pages, another change those that have the other state. */
static bool mock_changes(const struct guestmem_change *c, pgoff_t index)
{
	return c->target == GUESTMEM_ABSENT ||
	       guestmem_is_private(c->gi, index) == (c->target == GUESTMEM_SHARED);
}

/* Sharing gives the host more than it had; else nobody else may hold a page. */
static int mock_judge(struct guestmem_change *c, struct guestmem_range range)
{
	if (c->target == GUESTMEM_SHARED && !mock.patient)
		return 0;

	return guestmem_expect_unpinned(c, range);
}

static int mock_change_prepare(struct guestmem_change *c)
{
	struct mock_plan *plan;
	int err;

	mock_phase(c, "prepare", c->start, c->end);
	mock_expect(!c->plan, "change_prepare with a plan of someone else");
	mock_expect(mock_changes(c, c->start) && mock_changes(c, c->end - 1),
		    "change_prepare of pages at the ends that do not change");

	c->err_index = c->start;
	if (mock_fails(MOCK_PREPARE))
		return mock.fail_err;

	/* Before the first step is done: a refusal leaves all steps undone. */
	err = mock_judge(c, (struct guestmem_range) { c->start, c->end });
	if (err)
		return err;

	plan = kzalloc_obj(*plan);
	if (!plan)
		return -ENOMEM;

	plan->next = c->start;
	c->plan = plan;
	atomic_inc(&mock.plans);
	return 0;
}

/* Steps come one after the other, and none crosses the border of a block. */
static void mock_check_step(struct guestmem_change *c)
{
	const struct mock_plan *plan = c->plan;
	u8 order = c->gi->geo.block_order;

	mock_expect(!plan->frozen, "two steps at a time");
	mock_expect(c->step.start >= plan->next, "a step that does not follow the one before");
	mock_expect(c->step.start < c->step.end && c->step.end <= c->end,
		    "a step outside of the change");
	mock_expect(mock_changes(c, c->step.start),
		    "a step that begins with a page that does not change, or did before");
	if (order)
		mock_expect(c->step.start >> order == (c->step.end - 1) >> order,
			    "a step in two blocks");
}

static int mock_change_freeze(struct guestmem_change *c)
{
	struct mock_plan *plan = c->plan;
	int err;

	mock_phase(c, "freeze", c->step.start, c->step.end);
	mock_check_step(c);

	if (mock_fails(MOCK_FREEZE)) {
		c->err_index = c->step.start;
		return mock.fail_err;
	}

	err = mock_judge(c, c->step);
	plan->frozen = !err;
	return err;
}

/* The last folio may reach beyond the end of the file, and goes with it. */
static void mock_punch(struct guestmem_change *c)
{
	pgoff_t end = round_up(c->step.end, 1UL << c->gi->geo.punch_order);

	truncate_inode_pages_range(c->gi->mapping, (loff_t)c->step.start << PAGE_SHIFT,
				   ((loff_t)end << PAGE_SHIFT) - 1);
}

static void mock_drop_plan(struct guestmem_change *c)
{
	kfree(c->plan);
	atomic_dec(&mock.plans);
}

static void mock_change_commit(struct guestmem_change *c)
{
	struct mock_plan *plan = c->plan;

	mock_phase(c, "commit", c->step.start, c->step.end);
	mock_expect(mock_inode(c->gi)->watch.change == c,
		    "change_commit of pages that guests may map");
	mock_expect(mock_changes(c, c->step.start), "the state is stored before change_commit");
	mock_expect(plan->frozen, "change_commit without change_freeze");

	if (c->target == GUESTMEM_ABSENT)
		mock_punch(c);

	plan->frozen = false;
	plan->next = c->step.end;
	if (c->step.end == c->end)
		mock_drop_plan(c);
}

static void mock_change_cancel(struct guestmem_change *c)
{
	const struct mock_plan *plan = c->plan;

	mock_phase(c, "cancel", c->step.start, c->step.end);
	mock_expect(!plan->frozen, "change_cancel of a frozen step");
	mock_expect(plan->next < c->end, "change_cancel of a change that is done");
	mock_drop_plan(c);
}

/*
 * Changes of the one that splits
 */

/* What a split costs: one for each folio that comes of it. */
struct mock_stub {
	struct list_head node;
};

static int mock_reserve(struct guestmem_pieces *p, struct folio *folio, unsigned int from,
			unsigned int to)
{
	struct mock_stub *stub;

	for (unsigned long i = 1; i < 1UL << (from - to); i++) {
		stub = kmalloc_obj(*stub);
		if (!stub)
			return -ENOMEM;
		list_add(&stub->node, &p->reserved);
		atomic_inc(&mock.plans);
	}

	return 0;
}

static void mock_take_stub(struct guestmem_pieces *p)
{
	struct mock_stub *stub = list_first_entry_or_null(&p->reserved, struct mock_stub, node);

	if (!mock_expect(stub, "open of a folio that nothing was reserved for"))
		return;

	list_del(&stub->node);
	kfree(stub);
	atomic_dec(&mock.plans);
}

static void mock_release(struct guestmem_pieces *p)
{
	while (!list_empty(&p->reserved))
		mock_take_stub(p);
}

static void mock_expect_frozen(struct folio *folio, const char *what)
{
	mock_expect(!folio_ref_count(folio) && folio_test_locked(folio), what);
}

static void mock_open_folio(struct guestmem_pieces *p, struct folio *folio,
			    unsigned long first, unsigned int from, unsigned int to)
{
	mock_expect_frozen(folio, "open of a folio that is in use");
	mock_expect(first + (1UL << from) <= folio_nr_pages(folio), "open beyond a folio");
	for (unsigned long i = 1; i < 1UL << (from - to); i++)
		mock_take_stub(p);
}

static void mock_split(struct guestmem_pieces *p, struct folio *folio, unsigned int to)
{
	mock_expect_frozen(folio, "split of a folio that is in use");
	if (!to)
		lruvec_stat_mod_folio(folio, NR_FILE_PAGES, -folio_nr_pages(folio));
	guestmem_split_folio(folio, to);
}

static void mock_merge(struct guestmem_pieces *p, struct folio *folio, unsigned int to)
{
	bool counted = folio_test_large(folio);

	for (unsigned long i = 0; i < 1UL << to; i += folio_nr_pages(folio))
		mock_expect_frozen(page_folio(folio_page(folio, i)),
				   "merge of a folio that is in use");
	guestmem_merge_folios(folio, to);
	if (!counted)
		lruvec_stat_mod_folio(folio, NR_FILE_PAGES, folio_nr_pages(folio));
}

static void mock_flush(struct guestmem_pieces *p)
{
	mock.flushes++;
}

static const struct guestmem_pieces_operations mock_pieces_ops = {
	.reserve	= mock_reserve,
	.release	= mock_release,
	.open		= mock_open_folio,
	.split		= mock_split,
	.merge		= mock_merge,
	.flush		= mock_flush,
};

static int mock_pieces_prepare(struct guestmem_change *c)
{
	mock_phase(c, "prepare", c->start, c->end);
	if (mock_fails(MOCK_PREPARE)) {
		c->err_index = c->start;
		return mock.fail_err;
	}

	return guestmem_pieces_prepare(c, &mock_pieces_ops);
}

static int mock_pieces_freeze(struct guestmem_change *c)
{
	mock_phase(c, "freeze", c->step.start, c->step.end);
	if (mock_fails(MOCK_FREEZE)) {
		c->err_index = c->step.start;
		return mock.fail_err;
	}

	return guestmem_pieces_freeze(c);
}

static void mock_pieces_commit(struct guestmem_change *c)
{
	mock_phase(c, "commit", c->step.start, c->step.end);
	guestmem_pieces_commit(c);
	if (c->target == GUESTMEM_ABSENT)
		mock_punch(c);
}

static void mock_pieces_truncate(struct guestmem_inode *gi)
{
	pgoff_t size = i_size_read(gi->mapping->host) >> PAGE_SHIFT;
	const struct guestmem_range all = { 0, round_up(size, 1UL << gi->geo.block_order) };

	guestmem_pieces_gather(gi, all, &mock_pieces_ops);
	mock_truncate(gi);
}

static void mock_pieces_cancel(struct guestmem_change *c)
{
	mock_phase(c, "cancel", c->step.start, c->step.end);
	guestmem_pieces_cancel(c);
}

/*
 * Registration
 */

#define MOCK_ALLOCATOR(_name, _selector, _insert) {	\
	.name		= _name,			\
	.owner		= THIS_MODULE,			\
	.selector	= _selector,			\
	.geo		= {				\
		.block_order	= 3,			\
		.punch_order	= 3,			\
		.max_map_order	= 2,			\
		.insert		= _insert,		\
	},						\
	.inode_setup	= mock_inode_setup,		\
	.inode_teardown	= mock_inode_teardown,		\
	.alloc_folio	= mock_alloc_folio,		\
	.free_folio	= mock_free_folio,		\
	.map_order	= mock_map_order,		\
	.change_prepare	= mock_change_prepare,		\
	.change_freeze	= mock_change_freeze,		\
	.change_commit	= mock_change_commit,		\
	.change_cancel	= mock_change_cancel,		\
	.truncate	= mock_truncate,		\
	.error_folio	= mock_error_folio,		\
}

static const struct guestmem_allocator_operations mock_allocators[] = {
	MOCK_ALLOCATOR("mock", MOCK_SELECTOR, GUESTMEM_INSERT_LRU),
	MOCK_ALLOCATOR("mock-charged", MOCK_SELECTOR_CHARGED, GUESTMEM_INSERT_CHARGED),
};

static const struct guestmem_allocator_operations mock_pieces_allocator = {
	.name		= "mock-pieces",
	.owner		= THIS_MODULE,
	.selector	= MOCK_SELECTOR_PIECES,
	.geo		= {
		.block_order	= 3,
		.punch_order	= 3,
		.max_map_order	= 3,
		.split		= true,
		.insert		= GUESTMEM_INSERT_CHARGED,
	},
	.inode_setup	= mock_inode_setup,
	.inode_teardown	= mock_inode_teardown,
	.alloc_folio	= mock_alloc_folio,
	.free_folio	= mock_free_folio,
	.map_order	= mock_map_order,
	.change_prepare	= mock_pieces_prepare,
	.change_freeze	= mock_pieces_freeze,
	.change_commit	= mock_pieces_commit,
	.change_cancel	= mock_pieces_cancel,
	.truncate	= mock_pieces_truncate,
	.error_folio	= mock_error_folio,
};

/* For tests that register something like it. */
const struct guestmem_allocator_operations *mock_ops(void)
{
	return &mock_allocators[0];
}

/* Forgets what an earlier test wanted to fail. */
int mock_register(void)
{
	int err;

	mock.fail_err = 0;
	memset(mock.calls, 0, sizeof(mock.calls));
	mock.on_alloc = NULL;
	mock.on_free = NULL;
	mock.on_phase = NULL;
	mock.patient = false;
	mock.data = NULL;

	err = guestmem_register(&mock_allocators[0]);
	if (err)
		return err;

	err = guestmem_register(&mock_allocators[1]);
	if (err)
		goto err_first;

	err = guestmem_register(&mock_pieces_allocator);
	if (err)
		goto err_second;

	return 0;

err_second:
	guestmem_unregister(&mock_allocators[1]);
err_first:
	guestmem_unregister(&mock_allocators[0]);
	return err;
}

void mock_unregister(void)
{
	guestmem_unregister(&mock_pieces_allocator);
	guestmem_unregister(&mock_allocators[1]);
	guestmem_unregister(&mock_allocators[0]);
}

void mock_fail(enum mock_op op, int call, int err)
{
	mock.fail_op = op;
	mock.fail_call = call;
	mock.fail_err = err;
	atomic_set(&mock.calls[op], 0);
}

unsigned int mock_nr_pages(void)
{
	unsigned long pfn;
	unsigned int nr = 0;
	void *entry;

	xa_for_each(&mock.pages, pfn, entry)
		nr++;
	return nr;
}
