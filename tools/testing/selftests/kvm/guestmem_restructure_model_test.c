// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on a page of 1G and, in another process, on pages of 2M, which are
 * split and merged by them, compared with a model; what they are split into as well.
 */
#include "guestmem_hugetlb.h"
#include "guestmem_model.h"

#include <sys/wait.h>

#define PIECE		512
#define LARGE_PAGES	(SZ_1G / SZ_4K)
#define NR_SMALL	8
#define SMALL_PAGES	(NR_SMALL * PIECE)

#define NR_STEPS	200000
#define CHECK_LAYOUT	8
#define CHECK_STATES	512
#define FULL_CHECK	8192

/* Of 120,000 steps with the page of 1G; what fewer come to depends on the seed. */
#define NR_LARGE_STEPS		(NR_STEPS * 3 / 5)
#define FLOOR_CROSSED		2000
#define FLOOR_FLIPPED		50000
#define FLOOR_ALLOCATED		30

/* Where most of it happens in the page of 1G. */
#define HOT_PIECE	7
#define HOT_PAGES	32

struct pieces {
	u32 shared[LARGE_PAGES / PIECE];
	u64 crossed;
	u64 flipped;
};

static u64 shared_in_block(struct model *m, u64 block)
{
	u64 i, nr = m->kind->block / PIECE, shared = 0;
	struct pieces *pieces = m->data;

	for (i = block * nr; i < (block + 1) * nr; i++)
		shared += pieces->shared[i];
	return shared;
}

static void page_changed(struct model *m, u64 page)
{
	struct pieces *pieces = m->data;
	bool private = m->pages[page].private;
	u32 *shared = &pieces->shared[page / PIECE];
	u64 others = shared_in_block(m, page / m->kind->block) - private;

	*shared += private ? -1 : 1;
	if (!m->pages[page].allocated)
		return;

	pieces->crossed += !others;
	pieces->flipped += m->op == OP_FLIP && *shared > !private;
}

static void wait_for_pool(u64 unit, u64 nr)
{
	int ms;

	for (ms = 0; ms < 60000 && pool_available(unit) < nr; ms++)
		usleep(1000);
	TEST_ASSERT(pool_available(unit) >= nr, "pages of %lu kB do not come back", unit / SZ_1K);
}

/* Pages that are held have been parked when the last file went, and come back now. */
static int open_pieces(struct model *m, bool shared)
{
	u64 unit = m->kind->block * SZ_4K, i;
	struct pieces *pieces = m->data;

	let_all_go(m);
	wait_for_pool(unit, m->kind->nr_pages / m->kind->block);
	for (i = 0; i < m->kind->nr_pages / PIECE; i++)
		pieces->shared[i] = shared ? PIECE : 0;
	return create_huge_file(m->bed.vm, m->bed.size,
				GUEST_MEMFD_FLAG_MMAP | (shared ? GUESTMEM_SHARED : 0),
				unit == SZ_1G ? LOG2_1G : LOG2_2M);
}

static u64 edge_of(u64 piece)
{
	static const u64 edges[] = { 0, 1, PIECE - 2, PIECE - 1 };

	return piece * PIECE + edges[random_below(ARRAY_SIZE(edges))];
}

static void draw_length(struct model *m, u32 many)
{
	m->nr = 1 + random_below(random_below(64) ? 4 : many);
	m->nr = min(m->nr, m->kind->nr_pages - m->first);
}

static void draw_large(struct model *m)
{
	static const u64 others[] = { 0, HOT_PIECE, HOT_PIECE + 1, LARGE_PAGES / PIECE - 1 };
	u32 where = random_below(64);

	if (where < 60)
		m->first = HOT_PIECE * PIECE + random_below(HOT_PAGES);
	else if (where < 63)
		m->first = edge_of(others[random_below(ARRAY_SIZE(others))]);
	else
		m->first = random_below(LARGE_PAGES);
	draw_length(m, 2 * PIECE);
}

static void draw_small(struct model *m)
{
	u64 block = random_below(NR_SMALL);

	m->first = random_below(2) ? edge_of(block) : block * PIECE + random_below(HOT_PAGES);
	draw_length(m, 3 * PIECE);
}

/* Clearing 1G takes its time. */
static const struct model_kind large_page = {
	.name = "1G page",
	.nr_pages = LARGE_PAGES,
	.block = LARGE_PAGES,
	.hole_waits = true,
	.weights = {
		[OP_TO_PRIVATE]	 = 200,
		[OP_TO_SHARED]	 = 100,
		[OP_FLIP]	 = 7000,
		[OP_MERGE]	 = 100,
		[OP_PUNCH]	 = 5,
		[OP_HOST_READ]	 = 400,
		[OP_HOST_WRITE]	 = 500,
		[OP_GUEST_READ]	 = 400,
		[OP_GUEST_WRITE] = 500,
		[OP_PIN]	 = 120,
		[OP_UNPIN]	 = 200,
		[OP_REOPEN]	 = 3,
	},
	.open = open_pieces,
	.draw = draw_large,
	.changed = page_changed,
};

static const struct model_kind small_pages = {
	.name = "2M pages",
	.nr_pages = SMALL_PAGES,
	.block = PIECE,
	.hole_waits = true,
	.starts_shared = true,
	.weights = {
		[OP_ALLOCATE]	 = 40,
		[OP_TO_PRIVATE]	 = 40,
		[OP_TO_SHARED]	 = 30,
		[OP_FLIP]	 = 300,
		[OP_MERGE]	 = 5,
		[OP_PUNCH]	 = 20,
		[OP_HOST_READ]	 = 50,
		[OP_HOST_WRITE]	 = 60,
		[OP_GUEST_READ]	 = 50,
		[OP_GUEST_WRITE] = 60,
		[OP_PIN]	 = 20,
		[OP_UNPIN]	 = 30,
		[OP_REOPEN]	 = 1,
	},
	.open = open_pieces,
	.draw = draw_small,
	.changed = page_changed,
};

/* What a piece, or the block it is in, is shown as. */
static char symbol_of(struct model *m, u64 piece, u64 *next)
{
	u64 nr = m->kind->block / PIECE, block = piece / nr;
	struct pieces *pieces = m->data;
	bool allocated = m->pages[block * m->kind->block].allocated;

	if (!allocated || !shared_in_block(m, block)) {
		*next = (block + 1) * nr;
		return allocated ? '#' : '.';
	}

	*next = piece + 1;
	return pieces->shared[piece] ? ':' : '=';
}

/* Whole where nothing is shared, else large where nothing of the piece is. */
static void print_layout(struct model *m, char *text, size_t size)
{
	u64 piece, next, nr = 0, len = 0;
	char symbol, last = 0;

	for (piece = 0; piece < m->kind->nr_pages / PIECE; piece = next) {
		symbol = symbol_of(m, piece, &next);
		if (nr && symbol != last) {
			len += snprintf(text + len, size - len, "%lu%c ", nr, last);
			TEST_ASSERT(len < size, "no room for the layout");
			nr = 0;
		}
		last = symbol;
		nr++;
	}
	snprintf(text + len, size - len, "%lu%c", nr, last);
}

static void check_layout(struct model *m)
{
	char want[SZ_4K], got[SZ_4K];

	print_layout(m, want, sizeof(want));
	TEST_ASSERT(read_fdinfo(m->bed.fd, "guestmem-layout", got, sizeof(got)),
		    "fdinfo has no layout");
	MODEL_ASSERT(m, !strcmp(got, want), "layout is %s, expected %s", got, want);
}

static void step_and_check(struct model *m, u64 step)
{
	do_step(m, step);
	if (m->op == OP_MERGE || !(step % CHECK_LAYOUT))
		check_layout(m);
	if (!(step % CHECK_STATES))
		check_states(m);
	if (!(step % FULL_CHECK))
		check_contents(m);
}

static void run_model(struct model *m, u32 steps)
{
	u64 step;

	m->bed.vm = create_vm_for(KVM_X86_SW_PROTECTED_VM, SZ_16M, guest_tags, &m->bed.vcpu);
	virt_map_level(m->bed.vm, m->gpa, m->gpa, m->kind->nr_pages * SZ_4K, PG_LEVEL_2M);
	start_model(m);
	for (step = 0; step < steps; step++)
		step_and_check(m, step);
	check_contents(m);
	print_histogram(m);
	expect_floors(m);
	end_model(m);
	kvm_vm_free(m->bed.vm);
}

static void expect_at_least(const char *what, u64 got, u64 floor, u32 steps)
{
	pr_info("# %lu %s, at least %lu in a full run\n", got, what, floor);
	TEST_ASSERT(got >= floor || steps < NR_LARGE_STEPS, "only %lu %s", got, what);
}

static void run_large(u32 steps)
{
	struct pieces pieces = {};
	struct model m = {
		.kind = &large_page,
		.gpa = GUESTMEM_GPA,
		.slot = GUESTMEM_SLOT,
		.data = &pieces,
	};

	run_model(&m, steps);
	expect_at_least("times 1G <-> 2M", pieces.crossed, FLOOR_CROSSED, steps);
	expect_at_least("pages flipped in a split piece", pieces.flipped, FLOOR_FLIPPED, steps);
	expect_at_least("pages of 1G allocated", m.nr_allocations, FLOOR_ALLOCATED, steps);
}

static void run_small(u32 steps)
{
	struct pieces pieces = {};
	struct model m = {
		.kind = &small_pages,
		.gpa = GUESTMEM_GPA,
		.slot = GUESTMEM_SLOT,
		.data = &pieces,
	};

	run_model(&m, steps);
}

int main(int argc, char *argv[])
{
	struct model_options options;
	const char *why;
	int status;
	pid_t pid;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();
	why = why_no_pool(SZ_1G, 1) ?: why_no_pool(SZ_2M, NR_SMALL);
	__TEST_REQUIRE(!why, "%s", why);

	options = model_options(argc, argv, part_of(NR_STEPS));
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid) {
		run_small(options.steps - options.steps * 3 / 5);
		return 0;
	}

	run_large(options.steps * 3 / 5);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, __KVM_SYSCALL_ERROR("waitpid()", -1));
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "pages of 2M: status 0x%x",
		    status);
	return 0;
}
