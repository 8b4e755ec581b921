// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steps of a random walk: each is done to a file, and to a model of it that says
 * what has to come of it
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "guestmem_model.h"

/* Every page is compared after so many steps. */
#define FULL_CHECK	64

static bool model_expect(struct model *m, bool ok, const char *what)
{
	if (!ok && !m->failed)
		KUNIT_FAIL(m->test, "step %lu: %s", m->step, what);
	m->failed |= !ok;
	return ok;
}

static struct guestmem_inode *file(struct model *m)
{
	return gmt(m->test)->gi;
}

static pgoff_t nr_pages(struct model *m)
{
	return gmt(m->test)->allocator->pages;
}

u32 model_random(struct model *m, u32 limit)
{
	return prandom_u32_state(&m->rnd) % limit;
}

static struct guestmem_range random_range(struct model *m)
{
	struct guestmem_range range = { .start = model_random(m, nr_pages(m)) };

	/* Short ones more often than long ones. */
	range.end = range.start + 1 + model_random(m, 1 + model_random(m, nr_pages(m)));
	range.end = min(range.end, nr_pages(m));
	return range;
}

/* Of whole folios, the last of which may reach beyond the end of the file. */
static struct guestmem_range whole_folios(struct model *m, struct guestmem_range range)
{
	pgoff_t unit = gmt_folio_pages(m->test);

	return (struct guestmem_range) {
		round_down(range.start, unit), round_up(range.end, unit),
	};
}

static pgoff_t nr_present(struct model *m, struct guestmem_range range)
{
	pgoff_t nr = 0;

	for (pgoff_t index = range.start; index < range.end; index++)
		nr += test_bit(index, m->present);
	return nr;
}

static struct pin *pin_of(struct model *m, pgoff_t index)
{
	index = round_down(index, gmt_folio_pages(m->test));
	for (int i = 0; i < MODEL_PINS; i++)
		if (m->pins[i].folio && m->pins[i].attached && m->pins[i].index == index)
			return &m->pins[i];
	return NULL;
}

/*
 * Memory
 */

static void model_add(struct model *m, struct guestmem_range range)
{
	range = whole_folios(m, range);
	bitmap_set(m->present, range.start, range.end - range.start);
}

/* What is held lives on without its file. */
static void model_remove(struct model *m, struct guestmem_range range)
{
	for (int i = 0; i < MODEL_PINS; i++) {
		struct pin *pin = &m->pins[i];

		if (!pin->attached || pin->index < range.start || pin->index >= range.end)
			continue;
		pin->attached = false;
		pin->tag = m->tags[pin->index];
	}
	bitmap_clear(m->present, range.start, range.end - range.start);
	memset(&m->tags[range.start], 0, range.end - range.start);
}

static u8 *map_page(struct folio *folio, pgoff_t index)
{
	return kmap_local_folio(folio, offset_in_folio(folio, index << PAGE_SHIFT));
}

/* The first and the last byte: nobody mixes pages up inside. */
static bool page_holds(struct folio *folio, pgoff_t index, u8 tag)
{
	u8 *page = map_page(folio, index);
	bool holds = page[0] == tag && page[PAGE_SIZE - 1] == tag;

	kunmap_local(page);
	return holds;
}

enum outcome model_allocate(struct model *m)
{
	struct guestmem_range range = random_range(m);
	struct guestmem_range folios = whole_folios(m, range);
	bool full = nr_present(m, folios) == folios.end - folios.start;

	model_expect(m, !guestmem_allocate(file(m), range.start, range.end), "no memory");
	model_add(m, range);
	return full ? NOTHING : DONE;
}

/* Locked, with a reference, cleared if it was new. */
static struct folio *get(struct model *m, pgoff_t index)
{
	struct folio *folio = gmt_get_locked(file(m), index);

	if (!model_expect(m, !IS_ERR(folio), "no folio"))
		return NULL;

	guestmem_zero_folio(folio);
	model_add(m, (struct guestmem_range) { index, index + 1 });
	return folio;
}

enum outcome model_read(struct model *m)
{
	pgoff_t index = model_random(m, nr_pages(m));
	struct folio *folio = get(m, index);

	if (!folio)
		return NOTHING;

	model_expect(m, page_holds(folio, index, m->tags[index]), "contents are lost");
	folio_unlock(folio);
	folio_put(folio);
	return m->tags[index] ? DONE : NOTHING;
}

enum outcome model_write(struct model *m)
{
	pgoff_t index = model_random(m, nr_pages(m));
	u8 tag = 1 + model_random(m, 255);
	struct folio *folio = get(m, index);
	u8 *page;

	if (!folio)
		return NOTHING;

	page = map_page(folio, index);
	page[0] = tag;
	page[PAGE_SIZE - 1] = tag;
	kunmap_local(page);
	folio_unlock(folio);
	folio_put(folio);
	m->tags[index] = tag;
	return DONE;
}

enum outcome model_punch(struct model *m)
{
	struct guestmem_range range = whole_folios(m, random_range(m));
	bool held = false, any;
	int err;

	/* A third or so of the file, or nothing would be left for the others. */
	range.end = min(range.end, whole_folios(m, (struct guestmem_range) {
			range.start, range.start + nr_pages(m) / 3 }).end);
	any = nr_present(m, range);
	for (pgoff_t index = range.start; index < range.end; index++)
		held |= gmt(m->test)->allocator->mock && pin_of(m, index);

	/* With a signal nobody waits for who will not go. */
	if (held)
		gmt_signal();
	err = guestmem_punch_hole(file(m), range.start, range.end);
	gmt_signal_clear();

	model_expect(m, err == (held ? -EAGAIN : 0), "punch");
	if (held)
		return REFUSED;

	model_remove(m, range);
	return any ? DONE : NOTHING;
}

/*
 * Conversion
 */

static bool alters(struct model *m, enum guestmem_target target, pgoff_t index)
{
	return test_bit(index, m->shared) == (target == GUESTMEM_PRIVATE);
}

/* The first page that changes, and is held if that is asked for; else the end. */
static pgoff_t first_altered(struct model *m, enum guestmem_target target,
			     struct guestmem_range range, bool held)
{
	while (range.start < range.end &&
	       (!alters(m, target, range.start) || (held && !pin_of(m, range.start))))
		range.start++;
	return range.start;
}

/* Where a signal stops the change: behind the first block of it that changes. */
static pgoff_t first_stop(struct model *m, enum guestmem_target target,
			  struct guestmem_range range)
{
	u8 order = gmt(m->test)->allocator->block_order;
	pgoff_t first = first_altered(m, target, range, false);

	return order ? min(range.end, round_up(first + 1, 1UL << order)) : range.end;
}

static enum outcome expect_refused(struct model *m, enum guestmem_target target,
				   struct guestmem_range range, pgoff_t held)
{
	pgoff_t err_index = ULONG_MAX;
	int err;

	gmt_signal();
	err = gmt_change(file(m), target, range.start, range.end, &err_index);
	gmt_signal_clear();
	model_expect(m, err == -EAGAIN, "a page in use becomes private");
	model_expect(m, err_index == held, "another page than the first one is named");
	return REFUSED;
}

static enum outcome expect_converted(struct model *m, enum guestmem_target target,
				     struct guestmem_range range)
{
	bool interrupt = !model_random(m, 4);
	bool any = first_altered(m, target, range, false) < range.end;
	pgoff_t end = interrupt ? first_stop(m, target, range) : range.end;
	bool stopped = first_altered(m, target, (struct guestmem_range) { end, range.end },
				     false) < range.end;
	int err;

	if (interrupt)
		gmt_signal();
	err = gmt_change(file(m), target, range.start, range.end, NULL);
	gmt_signal_clear();
	model_expect(m, err == (stopped ? -EINTR : 0), "conversion");

	if (target == GUESTMEM_SHARED)
		bitmap_set(m->shared, range.start, end - range.start);
	else
		bitmap_clear(m->shared, range.start, end - range.start);
	return stopped ? STOPPED : any ? DONE : NOTHING;
}

enum outcome model_share(struct model *m)
{
	return expect_converted(m, GUESTMEM_SHARED, random_range(m));
}

enum outcome model_unshare(struct model *m)
{
	struct guestmem_range range = random_range(m);
	pgoff_t held = first_altered(m, GUESTMEM_PRIVATE, range, true);

	if (held < range.end)
		return expect_refused(m, GUESTMEM_PRIVATE, range, held);

	return expect_converted(m, GUESTMEM_PRIVATE, range);
}

/*
 * Others who hold pages, and the end of the file
 */

enum outcome model_pin(struct model *m)
{
	struct pin *pin = &m->pins[model_random(m, MODEL_PINS)];
	struct folio *folio;

	if (pin->folio)
		return NOTHING;

	folio = get(m, model_random(m, nr_pages(m)));
	if (!folio)
		return NOTHING;

	*pin = (struct pin) { .folio = folio, .index = folio->index, .attached = true };
	folio_unlock(folio);
	return DONE;
}

static void drop(struct model *m, struct pin *pin)
{
	if (!pin->attached && pin->tag)
		model_expect(m, page_holds(pin->folio, 0, pin->tag),
			     "a page in use lost its contents");
	folio_put(pin->folio);
	*pin = (struct pin) {};
}

enum outcome model_unpin(struct model *m)
{
	struct pin *pin = &m->pins[model_random(m, MODEL_PINS)];

	if (!pin->folio)
		return NOTHING;

	drop(m, pin);
	return DONE;
}

enum outcome model_reopen(struct model *m)
{
	const struct gmt_allocator *allocator = gmt(m->test)->allocator;
	bool shared = model_random(m, 2);

	gmt_close(m->test);
	gmt(m->test)->gi = gmt_open(allocator, allocator->pages, shared);
	model_remove(m, (struct guestmem_range) { 0, GMT_FEW_PAGES });
	bitmap_zero(m->shared, GMT_FEW_PAGES);
	if (shared)
		bitmap_set(m->shared, 0, allocator->pages);
	model_expect(m, !IS_ERR(file(m)), "a file cannot be opened");
	return DONE;
}

/*
 * Comparison
 */

static void compare_page(struct model *m, pgoff_t index)
{
	struct folio *folio = xa_load(&file(m)->mapping->i_pages, index);

	model_expect(m, guestmem_is_private(file(m), index) != test_bit(index, m->shared),
		     "another state");
	if (!model_expect(m, !folio == !test_bit(index, m->present), "memory came or went"))
		return;

	if (folio && m->tags[index])
		model_expect(m, page_holds(folio, index, m->tags[index]), "other contents");
}

void model_end(struct model *m)
{
	for (int i = 0; i < MODEL_PINS; i++)
		if (m->pins[i].folio)
			drop(m, &m->pins[i]);
}

void model_compare(struct model *m)
{
	model_expect(m, file(m)->mapping->nrpages == bitmap_weight(m->present, GMT_FEW_PAGES),
		     "more or less memory");
	compare_page(m, model_random(m, nr_pages(m)));

	for (pgoff_t index = 0; m->step % FULL_CHECK == 0 && index < nr_pages(m); index++)
		compare_page(m, index);
}
