// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a guest_memfd, each compared with what a flat array of
 * pages says: states, allocation, contents, and which conversions are refused.
 *
 * The seed of a failed run, given by -s, brings the same run again.
 */
#include <sys/uio.h>

#include "guestmem_convert.h"

#define NR_PAGES	24
#define NR_STEPS	100000
#define NR_HOLDERS	4
#define FULL_CHECK	256
#define TAG_OFFSET	8

enum op {
	OP_ALLOCATE,
	OP_TO_PRIVATE,
	OP_TO_SHARED,
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

/* How often each is drawn; a file that is bound to a slot costs the most by far. */
static const struct {
	const char *name;
	u32 weight;
} ops[NR_OPS] = {
	[OP_ALLOCATE]	 = { "allocate", 50 },
	[OP_TO_PRIVATE]	 = { "to private", 60 },
	[OP_TO_SHARED]	 = { "to shared", 70 },
	[OP_PUNCH]	 = { "punch hole", 30 },
	[OP_HOST_READ]	 = { "host reads", 50 },
	[OP_HOST_WRITE]	 = { "host writes", 60 },
	[OP_GUEST_READ]	 = { "guest reads", 50 },
	[OP_GUEST_WRITE] = { "guest writes", 60 },
	[OP_PIN]	 = { "pin", 30 },
	[OP_UNPIN]	 = { "unpin", 40 },
	[OP_REOPEN]	 = { "new file", 1 },
};

struct histogram {
	u64 tried;
	u64 effective;
	u64 refused;
};

struct model_page {
	bool private;
	bool allocated;
	u64 tag;
	/* Bits of holders that hold the page that is in the file now. */
	u32 holders;
};

struct model {
	struct convert_bed bed;
	struct model_page pages[NR_PAGES];
	struct histogram histogram[NR_OPS];
	int pipes[NR_HOLDERS][2];
	bool holding[NR_HOLDERS];
	int states;
	u64 last_tag;
	u64 step;
	/* What the step is about, for messages. */
	enum op op;
	u64 first;
	u64 nr;
};

#define MODEL_ASSERT(m, cond, fmt, ...)						\
do {										\
	const struct model *__m = (m);						\
										\
	TEST_ASSERT(cond, "step %lu, %s, %lu pages from %lu: " fmt, __m->step,	\
		    ops[__m->op].name, __m->nr, __m->first, ##__VA_ARGS__);	\
} while (0)

/* In the guest: reads the tag of a page, or writes it if it is not 0. */
struct tag_command {
	u64 page;
	u64 tag;
};

static struct tag_command tag_command;

static void guest_tags(void)
{
	for (;;) {
		u64 page = READ_ONCE(tag_command.page);
		u64 *word = (u64 *)(GUESTMEM_GPA + page * MIN_PAGE_SIZE + TAG_OFFSET);
		u64 tag = READ_ONCE(tag_command.tag);

		if (tag)
			WRITE_ONCE(*word, tag);
		WRITE_ONCE(tag_command.tag, READ_ONCE(*word));
		GUEST_DONE();
	}
}

static u64 guest_tag(struct model *m, u64 page, u64 tag)
{
	struct tag_command *command = addr_gva2hva(m->bed.vm, (gva_t)&tag_command);

	command->page = page;
	WRITE_ONCE(command->tag, tag);
	vcpu_run(m->bed.vcpu);
	expect_guest_done(m->bed.vcpu);
	return READ_ONCE(command->tag);
}

static u64 *host_tag(struct model *m, u64 page)
{
	return host_page(&m->bed, page) + TAG_OFFSET;
}

static u32 random_below(u32 n)
{
	return kvm_random_u32_in_range(&kvm_rng, 0, n - 1);
}

static u64 new_tag(struct model *m)
{
	return ++m->last_tag;
}

static void open_file(struct model *m, bool shared)
{
	struct convert_bed *bed = &m->bed;

	bed->fd = vm_create_guest_memfd(bed->vm, bed->size,
					GUEST_MEMFD_FLAG_MMAP | (shared ? GUESTMEM_SHARED : 0));
	bind_file(bed->vm, GUESTMEM_GPA, bed->size, bed->fd, 0);
	bed->mem = map_file(bed->fd, bed->size);
	m->states = open_debugfs(bed->fd, "states");
	TEST_ASSERT(m->states >= 0, "debugfs does not show the file: errno %d", errno);

	memset(m->pages, 0, sizeof(m->pages));
	for (u64 page = 0; page < NR_PAGES; page++)
		m->pages[page].private = !shared;
}

static void close_file(struct model *m)
{
	struct convert_bed *bed = &m->bed;

	kvm_close(m->states);
	kvm_munmap(bed->mem, bed->size);
	kvm_close(bed->fd);
	unbind_file(bed->vm, GUESTMEM_GPA);
}

static void check_states(struct model *m)
{
	bool states[NR_PAGES];
	char when[64];

	for (u64 page = 0; page < NR_PAGES; page++)
		states[page] = m->pages[page].private;
	snprintf(when, sizeof(when), "step %lu, %s", m->step, ops[m->op].name);
	expect_states_shown(m->states, states, NR_PAGES, when);
}

static void check_allocation(struct model *m)
{
	u64 nr = 0;

	for (u64 page = 0; page < NR_PAGES; page++)
		nr += m->pages[page].allocated;
	MODEL_ASSERT(m, file_stat(m->bed.fd).st_blocks == nr * getpagesize() / 512,
		     "st_blocks is %lu, expected %lu pages", file_stat(m->bed.fd).st_blocks, nr);
}

static u64 read_tag(struct model *m, u64 page)
{
	return m->pages[page].private ? guest_tag(m, page, 0) : READ_ONCE(*host_tag(m, page));
}

/* Each by the one who may see it; what is not there is left so. */
static void check_contents(struct model *m)
{
	for (u64 page = 0; page < NR_PAGES; page++) {
		u64 tag;

		if (!m->pages[page].allocated)
			continue;
		tag = read_tag(m, page);
		MODEL_ASSERT(m, tag == m->pages[page].tag, "page %lu holds 0x%lx, expected 0x%lx",
			     page, tag, m->pages[page].tag);
	}
}

/* Each operation returns true if it has changed something. */

static bool do_allocate(struct model *m)
{
	bool changed = false;

	allocate_pages(m->bed.fd, m->first, m->nr);
	for (u64 page = m->first; page < m->first + m->nr; page++) {
		changed |= !m->pages[page].allocated;
		m->pages[page].allocated = true;
	}
	return changed;
}

/* The first page that must not become private; the end of the range if there is none. */
static u64 first_held(struct model *m)
{
	u64 page;

	for (page = m->first; page < m->first + m->nr; page++)
		if (!m->pages[page].private && m->pages[page].holders)
			break;
	return page;
}

static bool do_convert(struct model *m, bool private)
{
	u64 held = private ? first_held(m) : m->first + m->nr;
	bool changed = false;

	if (held < m->first + m->nr) {
		expect_refused_at(m->bed.fd, m->first, m->nr, true, EAGAIN, held);
		m->histogram[m->op].refused++;
		return false;
	}

	convert(m->bed.fd, m->first, m->nr, private);
	for (u64 page = m->first; page < m->first + m->nr; page++) {
		changed |= m->pages[page].private != private;
		m->pages[page].private = private;
	}
	return changed;
}

static bool do_punch(struct model *m)
{
	bool changed = false;

	punch_pages(m->bed.fd, m->first, m->nr);
	for (u64 page = m->first; page < m->first + m->nr; page++) {
		changed |= m->pages[page].allocated;
		m->pages[page].allocated = false;
		m->pages[page].holders = 0;
		m->pages[page].tag = 0;
	}
	return changed;
}

static void expect_tag(struct model *m, u64 tag)
{
	MODEL_ASSERT(m, tag == m->pages[m->first].tag, "read 0x%lx, expected 0x%lx", tag,
		     m->pages[m->first].tag);
}

static bool do_host(struct model *m, bool write)
{
	struct model_page *page = &m->pages[m->first];
	u64 *word = host_tag(m, m->first);
	bool changed = write || !page->allocated;

	if (page->private) {
		TEST_EXPECT_SIGBUS(READ_ONCE(*word));
		m->histogram[m->op].refused++;
		return false;
	}

	if (write) {
		page->tag = new_tag(m);
		WRITE_ONCE(*word, page->tag);
	}
	page->allocated = true;
	expect_tag(m, READ_ONCE(*word));
	return changed;
}

static bool do_guest(struct model *m, bool write)
{
	struct model_page *page = &m->pages[m->first];
	bool changed = write || !page->allocated;

	if (write)
		page->tag = new_tag(m);
	page->allocated = true;
	expect_tag(m, guest_tag(m, m->first, write ? page->tag : 0));
	return changed;
}

static int find_holder(struct model *m, bool holding)
{
	for (int i = 0; i < NR_HOLDERS; i++)
		if (m->holding[i] == holding)
			return i;
	return -1;
}

static bool do_pin(struct model *m)
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
	page->allocated = true;
	page->holders |= BIT(i);
	m->holding[i] = true;
	return true;
}

static bool do_unpin(struct model *m)
{
	int i = find_holder(m, true);
	char buf[SZ_4K];

	if (i < 0)
		return false;

	MODEL_ASSERT(m, read(m->pipes[i][0], buf, sizeof(buf)) == sizeof(buf), "read() failed");
	for (u64 page = 0; page < NR_PAGES; page++)
		m->pages[page].holders &= ~BIT(i);
	m->holding[i] = false;
	return true;
}

static bool do_reopen(struct model *m)
{
	close_file(m);
	open_file(m, random_below(2));
	return true;
}

static bool do_op(struct model *m)
{
	switch (m->op) {
	case OP_ALLOCATE:
		return do_allocate(m);
	case OP_TO_PRIVATE:
	case OP_TO_SHARED:
		return do_convert(m, m->op == OP_TO_PRIVATE);
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

static enum op random_op(void)
{
	u32 total = 0, draw, i;

	for (i = 0; i < NR_OPS; i++)
		total += ops[i].weight;
	draw = random_below(total);
	for (i = 0; draw >= ops[i].weight; i++)
		draw -= ops[i].weight;
	return i;
}

/* Short ranges leave holes and borders behind, long ones sweep them away. */
static void random_range(struct model *m)
{
	m->first = random_below(NR_PAGES);
	m->nr = 1 + random_below(random_below(8) ? 4 : NR_PAGES);
	m->nr = min(m->nr, NR_PAGES - m->first);
}

static void do_step(struct model *m)
{
	m->op = random_op();
	random_range(m);
	m->histogram[m->op].tried++;
	m->histogram[m->op].effective += do_op(m);
	check_states(m);
	check_allocation(m);
	if (!(m->step % FULL_CHECK))
		check_contents(m);
}

static void print_histogram(struct model *m)
{
	pr_info("# %-14s%10s%10s%10s\n", "operation", "tried", "effective", "refused");
	for (int i = 0; i < NR_OPS; i++)
		pr_info("# %-14s%10lu%10lu%10lu\n", ops[i].name, m->histogram[i].tried,
			m->histogram[i].effective, m->histogram[i].refused);
}

/* A run that changes nothing proves nothing. */
static void expect_floors(struct model *m)
{
	for (int i = 0; i < NR_OPS; i++)
		TEST_ASSERT(m->histogram[i].effective &&
			    m->histogram[i].effective * 20 >= m->histogram[i].tried,
			    "%s: %lu of %lu had an effect, less than one in 20", ops[i].name,
			    m->histogram[i].effective, m->histogram[i].tried);
	TEST_ASSERT(m->histogram[OP_TO_PRIVATE].refused, "no conversion was refused");
}

static void create_model(struct model *m)
{
	struct convert_bed *bed = &m->bed;

	bed->size = NR_PAGES * MIN_PAGE_SIZE;
	bed->vm = create_vm_for(KVM_X86_SW_PROTECTED_VM, bed->size, guest_tags, &bed->vcpu);
	virt_map(bed->vm, GUESTMEM_GPA, GUESTMEM_GPA, NR_PAGES);
	for (int i = 0; i < NR_HOLDERS; i++)
		TEST_ASSERT(!pipe(m->pipes[i]), __KVM_SYSCALL_ERROR("pipe()", -1));
	open_file(m, false);
}

static void free_model(struct model *m)
{
	for (int i = 0; i < NR_HOLDERS; i++) {
		kvm_close(m->pipes[i][0]);
		kvm_close(m->pipes[i][1]);
	}
	close_file(m);
	kvm_vm_free(m->bed.vm);
}

static void print_help(const char *name)
{
	printf("%s [-s seed] [-n steps]\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	u32 steps = NR_STEPS, seed = kvm_random_u32(&kvm_rng);
	struct model m = {};
	int opt;

	while ((opt = getopt(argc, argv, "s:n:")) != -1) {
		if (opt == 's')
			seed = strtoul(optarg, NULL, 0);
		else if (opt == 'n')
			steps = atoi_positive("steps", optarg);
		else
			print_help(argv[0]);
	}

	require_convert();

	pr_info("# seed 0x%x, %u steps\n", seed, steps);
	kvm_rng = new_kvm_random_state(seed);
	create_model(&m);
	for (m.step = 0; m.step < steps; m.step++)
		do_step(&m);
	print_histogram(&m);
	expect_floors(&m);
	free_model(&m);
	return 0;
}
