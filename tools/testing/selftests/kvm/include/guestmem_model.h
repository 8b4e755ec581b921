/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random operations on a guest_memfd, each compared with what a flat array of pages
 * says: states, allocation, contents, and which conversions and holes are refused.
 * A program says what file it is, how often each operation is drawn, and for which
 * pages; the seed of a failed run brings the same run again.
 */
#ifndef SELFTEST_KVM_GUESTMEM_MODEL_H
#define SELFTEST_KVM_GUESTMEM_MODEL_H

#include <sys/uio.h>

#include "guestmem_convert.h"

#define MODEL_HOLDERS	4
#define TAG_OFFSET	8
#define NO_PAGE		(~0ull)

enum op {
	OP_ALLOCATE,
	OP_TO_PRIVATE,
	OP_TO_SHARED,
	OP_FLIP,
	OP_MERGE,
	OP_PUNCH,
	OP_HOST_READ,
	OP_HOST_WRITE,
	OP_GUEST_READ,
	OP_GUEST_WRITE,
	OP_PIN,
	OP_UNPIN,
	OP_REOPEN,
	NR_OPS,
};

static const char *const op_names[NR_OPS] = {
	[OP_ALLOCATE]	 = "allocate",
	[OP_TO_PRIVATE]	 = "to private",
	[OP_TO_SHARED]	 = "to shared",
	[OP_FLIP]	 = "flip a page",
	[OP_MERGE]	 = "all private",
	[OP_PUNCH]	 = "punch hole",
	[OP_HOST_READ]	 = "host reads",
	[OP_HOST_WRITE]	 = "host writes",
	[OP_GUEST_READ]	 = "guest reads",
	[OP_GUEST_WRITE] = "guest writes",
	[OP_PIN]	 = "pin",
	[OP_UNPIN]	 = "unpin",
	[OP_REOPEN]	 = "new file",
};

struct histogram {
	u64 tried;
	u64 effective;
	u64 refused;
};

struct model_page {
	bool private;
	bool allocated;
	/* Bits of holders that hold the page that is in the file now. */
	u8 holders;
	u64 tag;
};

struct model;

/**
 * struct model_kind - what a file is like, and what is done to it
 * @name: for messages.
 * @nr_pages: size of the file.
 * @block: pages that are allocated at once and freed at once.
 * @hole_waits: a hole is refused while someone holds a page in it.
 * @starts_shared: a new file may be all shared, at random.
 * @weights: how often each operation is drawn.
 * @open: a new file, mappable, all of it shared or all of it private.
 * @draw: the pages that the next operation is about.
 * @changed: a page has changed its state; may be NULL.
 */
struct model_kind {
	const char *name;
	u64 nr_pages;
	u64 block;
	bool hole_waits;
	bool starts_shared;
	u32 weights[NR_OPS];
	int (*open)(struct model *m, bool shared);
	void (*draw)(struct model *m);
	void (*changed)(struct model *m, u64 page);
};

struct model {
	const struct model_kind *kind;
	struct convert_bed bed;
	struct model_page *pages;
	struct histogram histogram[NR_OPS];
	int pipes[MODEL_HOLDERS][2];
	/* What each holder holds, or held before it was punched out. */
	u64 holds[MODEL_HOLDERS];
	u64 nr_allocated;
	/* Blocks that were allocated, all told. */
	u64 nr_allocations;
	gpa_t gpa;
	u32 slot;
	int states;
	u64 last_tag;
	u64 step;
	/* What the step is about, for messages. */
	enum op op;
	u64 first;
	u64 nr;
	void *data;
};

#define MODEL_ASSERT(m, cond, fmt, ...)						\
do {										\
	const struct model *__m = (m);						\
										\
	TEST_ASSERT(cond, "%s, step %lu, %s, %lu pages from %lu: " fmt,		\
		    __m->kind->name, __m->step, op_names[__m->op], __m->nr,	\
		    __m->first, ##__VA_ARGS__);					\
} while (0)

/* In the guest: reads the tag at an address, or writes it if it is not 0. */
struct tag_command {
	u64 gva;
	u64 tag;
};

static struct tag_command tag_command;

static inline void guest_tags(void)
{
	for (;;) {
		u64 *word = (u64 *)READ_ONCE(tag_command.gva);
		u64 tag = READ_ONCE(tag_command.tag);

		if (tag)
			WRITE_ONCE(*word, tag);
		WRITE_ONCE(tag_command.tag, READ_ONCE(*word));
		GUEST_DONE();
	}
}

static inline u64 guest_tag(struct model *m, u64 page, u64 tag)
{
	struct tag_command *command = addr_gva2hva(m->bed.vm, (gva_t)&tag_command);

	command->gva = m->gpa + page * MIN_PAGE_SIZE + TAG_OFFSET;
	WRITE_ONCE(command->tag, tag);
	vcpu_run(m->bed.vcpu);
	expect_guest_done(m->bed.vcpu);
	return READ_ONCE(command->tag);
}

static inline u64 *host_tag(struct model *m, u64 page)
{
	return host_page(&m->bed, page) + TAG_OFFSET;
}

static inline u32 random_below(u32 n)
{
	return kvm_random_u32_in_range(&kvm_rng, 0, n - 1);
}

static inline u64 new_tag(struct model *m)
{
	return ++m->last_tag;
}

static inline void let_go(struct model *m, int i)
{
	char buf[SZ_4K];

	MODEL_ASSERT(m, read(m->pipes[i][0], buf, sizeof(buf)) == sizeof(buf), "read() failed");
	m->pages[m->holds[i]].holders &= ~BIT(i);
	m->holds[i] = NO_PAGE;
}

static inline void let_all_go(struct model *m)
{
	int i;

	for (i = 0; i < MODEL_HOLDERS; i++)
		if (m->holds[i] != NO_PAGE)
			let_go(m, i);
}

static inline void open_file(struct model *m, bool shared)
{
	struct convert_bed *bed = &m->bed;
	u64 page;

	bed->fd = m->kind->open(m, shared);
	vm_set_user_memory_region2(bed->vm, m->slot, KVM_MEM_GUEST_MEMFD, m->gpa, bed->size,
				   NULL, bed->fd, 0);
	bed->mem = map_file(bed->fd, bed->size);
	m->states = open_debugfs(bed->fd, "states");
	TEST_ASSERT(m->states >= 0, "debugfs does not show the file: errno %d", errno);

	memset(m->pages, 0, m->kind->nr_pages * sizeof(*m->pages));
	m->nr_allocated = 0;
	for (page = 0; page < m->kind->nr_pages; page++)
		m->pages[page].private = !shared;
}

static inline void close_file(struct model *m)
{
	struct convert_bed *bed = &m->bed;

	kvm_close(m->states);
	kvm_munmap(bed->mem, bed->size);
	kvm_close(bed->fd);
	vm_set_user_memory_region2(bed->vm, m->slot, KVM_MEM_GUEST_MEMFD, m->gpa, 0, NULL,
				   -1, 0);
}

/* @m->kind, @m->gpa, @m->slot and a VM with one vCPU in guest_tags() are there. */
static inline void start_model(struct model *m)
{
	int i;

	m->bed.size = m->kind->nr_pages * MIN_PAGE_SIZE;
	m->pages = calloc(m->kind->nr_pages, sizeof(*m->pages));
	TEST_ASSERT(m->pages, "no memory for %lu pages", m->kind->nr_pages);
	for (i = 0; i < MODEL_HOLDERS; i++) {
		TEST_ASSERT(!pipe(m->pipes[i]), __KVM_SYSCALL_ERROR("pipe()", -1));
		m->holds[i] = NO_PAGE;
	}
	open_file(m, false);
}

static inline void end_model(struct model *m)
{
	int i;

	for (i = 0; i < MODEL_HOLDERS; i++) {
		kvm_close(m->pipes[i][0]);
		kvm_close(m->pipes[i][1]);
	}
	close_file(m);
	free(m->pages);
}

static inline void check_states(struct model *m)
{
	bool *states = malloc(m->kind->nr_pages);
	char when[64];
	u64 page;

	TEST_ASSERT(states, "no memory for the states");
	for (page = 0; page < m->kind->nr_pages; page++)
		states[page] = m->pages[page].private;
	snprintf(when, sizeof(when), "%s, step %lu, %s", m->kind->name, m->step,
		 op_names[m->op]);
	expect_states_shown(m->states, states, m->kind->nr_pages, when);
	free(states);
}

static inline void check_allocation(struct model *m)
{
	u64 blocks = file_stat(m->bed.fd).st_blocks;

	MODEL_ASSERT(m, blocks == m->nr_allocated * getpagesize() / 512,
		     "st_blocks is %lu, expected %lu pages", blocks, m->nr_allocated);
}

static inline u64 read_tag(struct model *m, u64 page)
{
	return m->pages[page].private ? guest_tag(m, page, 0) : READ_ONCE(*host_tag(m, page));
}

/* What was written, each by the one who may see it. */
static inline void check_contents(struct model *m)
{
	u64 page, tag;

	for (page = 0; page < m->kind->nr_pages; page++) {
		if (!m->pages[page].tag)
			continue;
		tag = read_tag(m, page);
		MODEL_ASSERT(m, tag == m->pages[page].tag, "page %lu holds 0x%lx, expected 0x%lx",
			     page, tag, m->pages[page].tag);
	}
}

/* The block that @page is in is allocated; returns true if it was not before. */
static inline bool model_allocate(struct model *m, u64 page)
{
	u64 first = page - page % m->kind->block, i;

	if (m->pages[page].allocated)
		return false;

	for (i = first; i < first + m->kind->block; i++)
		m->pages[i].allocated = true;
	m->nr_allocated += m->kind->block;
	m->nr_allocations++;
	return true;
}

static inline bool model_free(struct model *m, u64 page)
{
	u64 first = page - page % m->kind->block, i;

	if (!m->pages[page].allocated)
		return false;

	for (i = first; i < first + m->kind->block; i++)
		m->pages[i] = (struct model_page) { .private = m->pages[i].private };
	m->nr_allocated -= m->kind->block;
	return true;
}

static inline void to_blocks(struct model *m)
{
	u64 end = round_up(m->first + m->nr, m->kind->block);

	m->first = round_down(m->first, m->kind->block);
	m->nr = end - m->first;
}

/* Each operation returns true if it has changed something, or read what was written. */

static inline bool do_allocate(struct model *m)
{
	bool changed = false;
	u64 page;

	to_blocks(m);
	allocate_pages(m->bed.fd, m->first, m->nr);
	for (page = m->first; page < m->first + m->nr; page++)
		changed |= model_allocate(m, page);
	return changed;
}

/* The first page in the range that someone holds; the end of it if there is none. */
static inline u64 first_held(struct model *m)
{
	u64 page;

	for (page = m->first; page < m->first + m->nr; page++)
		if (!m->pages[page].private && m->pages[page].holders)
			break;
	return page;
}

static inline bool do_convert(struct model *m, bool private)
{
	u64 end = m->first + m->nr, held = private ? first_held(m) : end, page;
	bool changed = false;

	if (held < end) {
		expect_refused_at(m->bed.fd, m->first, m->nr, true, EAGAIN, held);
		m->histogram[m->op].refused++;
		return false;
	}

	convert(m->bed.fd, m->first, m->nr, private);
	for (page = m->first; page < end; page++) {
		if (m->pages[page].private == private)
			continue;
		m->pages[page].private = private;
		if (m->kind->changed)
			m->kind->changed(m, page);
		changed = true;
	}
	return changed;
}

static inline bool do_flip(struct model *m)
{
	m->nr = 1;
	return do_convert(m, !m->pages[m->first].private);
}

/* Nothing is in the way. */
static inline bool do_merge(struct model *m)
{
	let_all_go(m);
	m->first = 0;
	m->nr = m->kind->nr_pages;
	return do_convert(m, true);
}

static inline bool do_punch(struct model *m)
{
	bool changed = false;
	int ret;
	u64 page;

	to_blocks(m);
	if (m->kind->hole_waits && first_held(m) < m->first + m->nr) {
		ret = fallocate(m->bed.fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
				m->first * getpagesize(), m->nr * getpagesize());
		MODEL_ASSERT(m, ret == -1 && errno == EAGAIN, "got %d errno %d", ret, errno);
		m->histogram[m->op].refused++;
		return false;
	}

	punch_pages(m->bed.fd, m->first, m->nr);
	for (page = m->first; page < m->first + m->nr; page += m->kind->block)
		changed |= model_free(m, page);
	return changed;
}

static inline void expect_tag(struct model *m, u64 tag)
{
	MODEL_ASSERT(m, tag == m->pages[m->first].tag, "read 0x%lx, expected 0x%lx", tag,
		     m->pages[m->first].tag);
}

static inline bool do_host(struct model *m, bool write)
{
	struct model_page *page = &m->pages[m->first];
	u64 *word = host_tag(m, m->first);
	bool allocated;

	if (page->private) {
		TEST_EXPECT_SIGBUS(READ_ONCE(*word));
		m->histogram[m->op].refused++;
		return false;
	}

	allocated = model_allocate(m, m->first);
	if (write) {
		page->tag = new_tag(m);
		WRITE_ONCE(*word, page->tag);
	}
	expect_tag(m, READ_ONCE(*word));
	return page->tag || allocated;
}

static inline bool do_guest(struct model *m, bool write)
{
	struct model_page *page = &m->pages[m->first];
	bool allocated = model_allocate(m, m->first);

	if (write)
		page->tag = new_tag(m);
	expect_tag(m, guest_tag(m, m->first, write ? page->tag : 0));
	return page->tag || allocated;
}

static inline int find_holder(struct model *m, bool holding)
{
	bool holds;
	int i;

	for (i = 0; i < MODEL_HOLDERS; i++) {
		holds = m->holds[i] != NO_PAGE;
		if (holds == holding)
			return i;
	}
	return -1;
}

static inline bool do_pin(struct model *m)
{
	struct model_page *page = &m->pages[m->first];
	struct iovec iov = { host_page(&m->bed, m->first), getpagesize() };
	int i = find_holder(m, false);
	ssize_t ret;

	if (i < 0)
		return false;

	ret = vmsplice(m->pipes[i][1], &iov, 1, 0);
	if (page->private) {
		MODEL_ASSERT(m, ret < 0 && errno == EFAULT, "got %zd errno %d, expected EFAULT",
			     ret, errno);
		m->histogram[m->op].refused++;
		return false;
	}

	MODEL_ASSERT(m, ret == getpagesize(), "got %zd errno %d", ret, errno);
	model_allocate(m, m->first);
	page->holders |= BIT(i);
	m->holds[i] = m->first;
	return true;
}

static inline bool do_unpin(struct model *m)
{
	int i = find_holder(m, true);

	if (i < 0)
		return false;

	let_go(m, i);
	return true;
}

static inline bool do_reopen(struct model *m)
{
	close_file(m);
	open_file(m, m->kind->starts_shared && random_below(2));
	return true;
}

static inline bool do_op(struct model *m)
{
	switch (m->op) {
	case OP_ALLOCATE:
		return do_allocate(m);
	case OP_TO_PRIVATE:
	case OP_TO_SHARED:
		return do_convert(m, m->op == OP_TO_PRIVATE);
	case OP_FLIP:
		return do_flip(m);
	case OP_MERGE:
		return do_merge(m);
	case OP_PUNCH:
		return do_punch(m);
	case OP_HOST_READ:
	case OP_HOST_WRITE:
		return do_host(m, m->op == OP_HOST_WRITE);
	case OP_GUEST_READ:
	case OP_GUEST_WRITE:
		return do_guest(m, m->op == OP_GUEST_WRITE);
	case OP_PIN:
		return do_pin(m);
	case OP_UNPIN:
		return do_unpin(m);
	case OP_REOPEN:
		return do_reopen(m);
	default:
		TEST_FAIL("no such operation");
	}
}

static inline enum op random_op(const u32 *weights)
{
	u32 total = 0, draw, i;

	for (i = 0; i < NR_OPS; i++)
		total += weights[i];
	draw = random_below(total);
	for (i = 0; draw >= weights[i]; i++)
		draw -= weights[i];
	return i;
}

static inline void do_step(struct model *m, u64 step)
{
	m->step = step;
	m->op = random_op(m->kind->weights);
	m->kind->draw(m);
	m->histogram[m->op].tried++;
	m->histogram[m->op].effective += do_op(m);
	check_allocation(m);
}

static inline void print_histogram(struct model *m)
{
	int i;

	pr_info("# %-14s%10s%10s%10s\n", m->kind->name, "tried", "effective", "refused");
	for (i = 0; i < NR_OPS; i++)
		if (m->kind->weights[i])
			pr_info("# %-14s%10lu%10lu%10lu\n", op_names[i], m->histogram[i].tried,
				m->histogram[i].effective, m->histogram[i].refused);
}

#define MANY_TRIES	1000

/* A run that changes nothing proves nothing: one step of many in 20 at least does. */
static inline void expect_floors(struct model *m)
{
	struct histogram *h;
	int i;

	for (i = 0; i < NR_OPS; i++) {
		h = &m->histogram[i];
		TEST_ASSERT(h->tried < MANY_TRIES || h->effective * 20 >= h->tried,
			    "%s: %lu of %lu had an effect", op_names[i], h->effective, h->tried);
	}
	h = &m->histogram[OP_TO_PRIVATE];
	TEST_ASSERT(h->tried < MANY_TRIES || h->refused, "no conversion was refused");
}

/* What a program is told: a seed, and how many steps. */
struct model_options {
	u32 seed;
	u32 steps;
};

static inline struct model_options model_options(int argc, char *argv[], u32 steps)
{
	struct model_options options = { kvm_random_u32(&kvm_rng), steps };
	int opt;

	while ((opt = getopt(argc, argv, "s:n:")) != -1) {
		if (opt == 's') {
			options.seed = strtoul(optarg, NULL, 0);
		} else if (opt == 'n') {
			options.steps = atoi_positive("steps", optarg);
		} else {
			printf("%s [-s seed] [-n steps]\n", argv[0]);
			exit(KSFT_FAIL);
		}
	}

	pr_info("# seed 0x%x, %u steps\n", options.seed, options.steps);
	kvm_rng = new_kvm_random_state(options.seed);
	return options;
}

#endif /* SELFTEST_KVM_GUESTMEM_MODEL_H */
