// SPDX-License-Identifier: GPL-2.0-only
/*
 * Huge pages are split and merged while the rest of the kernel moves memory about:
 * compaction, a pool that is made larger and smaller, memory that is to go offline; and
 * while somebody who has the same CPU looks at their pages.
 */
#include <linux/perf_event.h>
#include <sys/wait.h>

#include "guestmem_convert.h"
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define PIECE		512
#define NR_ROUNDS	5000
#define NR_SMALL	2
#define MEMORY		"/sys/devices/system/memory"
#define COMPACT		"/proc/sys/vm/compact_memory"

struct beside {
	struct huge_bed bed;
	struct pool before;
	pthread_t thread;
	void *mem;
	/* Of the memory that is to go offline. */
	u64 pfn;
	u64 refused;
	u64 done;
	bool stop;
};

/* What goes on beside it: NULL, or why this kernel cannot do it; one round of it; and where. */
struct disturbance {
	const char *(*why_not)(void);
	void (*once)(struct beside *b);
	bool one_cpu;
};

static const char *why_no_compaction(void)
{
	return access(COMPACT, W_OK) ? "no " COMPACT : NULL;
}

static void compact(struct beside *b)
{
	TEST_ASSERT(!write_text(COMPACT, "1"), "cannot write to " COMPACT);
}

static const char *always(void)
{
	return NULL;
}

/* The pages that come and go are those that nobody uses; the file is of the same size. */
static void resize(struct beside *b)
{
	pool_write(SZ_2M, "nr", b->before.nr + 2);
	pool_write(SZ_2M, "nr", b->before.nr);
}

/* Of pages that nobody gets hold of while they change, and that have to change all the same. */
static void look(struct beside *b)
{
	unsigned char present[PIECE];

	TEST_ASSERT(!mincore(b->mem, PIECE * SZ_4K, present), __KVM_SYSCALL_ERROR("mincore()", -1));
}

/* Whoever maps a file is then asked for the build id in it. */
static const char *why_no_build_ids(void)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.mmap = true,
		.build_id = true,
	};

	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0) < 0 ?
	       "no perf events that tell build ids" : NULL;
}

static void map_once_more(struct beside *b)
{
	kvm_munmap(map_file(b->bed.fd, SZ_4K), SZ_4K);
}

static const char *why_no_offline(void)
{
	return access(MEMORY "/block_size_bytes", R_OK) ? "memory does not go offline" : NULL;
}

static u64 memory_block_size(void)
{
	FILE *f = fopen(MEMORY "/block_size_bytes", "r");
	u64 size = 0;

	TEST_ASSERT(f && fscanf(f, "%lx", &size) == 1 && size, "no size of a memory block");
	fclose(f);
	return size;
}

/* The kernel tries until a signal comes: pages of a guest do not move. */
static void try_offline(struct beside *b)
{
	char path[96], state[16];
	int status;
	pid_t pid;
	FILE *f;

	snprintf(path, sizeof(path), MEMORY "/memory%lu/state",
		 b->pfn * SZ_4K / memory_block_size());
	pid = fork();
	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid) {
		alarm(1);
		_exit(!write_text(path, "offline"));
	}

	TEST_ASSERT(waitpid(pid, &status, 0) == pid, __KVM_SYSCALL_ERROR("waitpid()", -1));
	TEST_ASSERT(WIFSIGNALED(status) ? WTERMSIG(status) == SIGALRM : !WEXITSTATUS(status),
		    "memory in use went offline, or worse: status 0x%x", status);
	f = fopen(path, "r");
	TEST_ASSERT(f && fscanf(f, "%15s", state) == 1, "%s holds nothing", path);
	fclose(f);
	TEST_ASSERT(!strcmp(state, "online"), "memory of a file is %s", state);
}

FIXTURE(guestmem_restructure_beside) {
	struct beside b;
};

FIXTURE_VARIANT(guestmem_restructure_beside) {
	u8 log2;
	struct disturbance disturbance;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, compaction_2M) {
	.log2 = LOG2_2M,
	.disturbance = { why_no_compaction, compact },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, compaction_1G) {
	.log2 = LOG2_1G,
	.disturbance = { why_no_compaction, compact },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, resize_2M) {
	.log2 = LOG2_2M,
	.disturbance = { always, resize },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, offline_2M) {
	.log2 = LOG2_2M,
	.disturbance = { why_no_offline, try_offline },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, offline_1G) {
	.log2 = LOG2_1G,
	.disturbance = { why_no_offline, try_offline },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, mincore_2M) {
	.log2 = LOG2_2M,
	.disturbance = { always, look, true },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, mincore_1G) {
	.log2 = LOG2_1G,
	.disturbance = { always, look, true },
};

FIXTURE_VARIANT_ADD(guestmem_restructure_beside, build_id_1G) {
	.log2 = LOG2_1G,
	.disturbance = { why_no_build_ids, map_once_more, true },
};

struct helper {
	struct beside *b;
	void (*once)(struct beside *b);
};

static void *disturb(void *arg)
{
	struct helper *helper = arg;

	do {
		helper->once(helper->b);
		helper->b->done++;
	} while (!READ_ONCE(helper->b->stop));
	return NULL;
}

/* Someone may look at a page just then. */
static void convert_soon(struct beside *b, u64 page, bool private)
{
	int ms, err;

	for (ms = 0; ms < PATIENCE_MS; ms++) {
		err = try_convert(b->bed.fd, page, 1, private);
		if (err != EAGAIN)
			break;
		b->refused++;
		usleep(1000);
	}
	TEST_ASSERT(!err, "page %lu to %s: %s (%d)", page, private ? "private" : "shared",
		    strerror(err), err);
}

static u64 random_page(struct beside *b)
{
	u64 blocks = b->bed.size / b->bed.unit;
	u64 block = kvm_random_u32_in_range(&kvm_rng, 0, blocks - 1);

	return block * (b->bed.unit / SZ_4K) + kvm_random_u32_in_range(&kvm_rng, 0, PIECE - 1);
}

/* Out of the block and into it again, with what the host has written. */
static void flip(struct beside *b, u64 page, u64 seed)
{
	u64 *word = b->mem + page * SZ_4K;

	convert_soon(b, page, false);
	WRITE_ONCE(*word, pattern_word(seed, 0));
	convert_soon(b, page, true);
	check_strides(&b->bed, page * SZ_4K, SZ_4K, 1, seed);
}

FIXTURE_SETUP(guestmem_restructure_beside)
{
	u64 unit = 1ull << variant->log2, nr = unit == SZ_1G ? 1 : NR_SMALL;
	const char *why = variant->disturbance.why_not() ?: why_no_pool(unit, nr);
	struct beside *b = &self->b;

	if (why)
		SKIP(return, "%s", why);

	b->before = read_pool(unit);
	b->bed = __create_huge_bed(KVM_X86_SW_PROTECTED_VM, variant->log2, nr * unit,
				   GUEST_MEMFD_FLAG_MMAP);
	bind_huge_bed(&b->bed);
	b->mem = map_file(b->bed.fd, b->bed.size);
	allocate_blocks(b->bed.fd, unit, 0, nr);
	b->pfn = shown_pfn(b->bed.fd, 0);
	TEST_ASSERT(b->pfn, "debugfs does not tell the file's pages");
}

FIXTURE_TEARDOWN(guestmem_restructure_beside)
{
	struct beside *b = &self->b;

	kvm_munmap(b->mem, b->bed.size);
	free_huge_bed(&b->bed);
	expect_pool_back(b->bed.unit, &b->before, "after the file was closed");
}

TEST_F_TIMEOUT(guestmem_restructure_beside, pages_flip_and_keep_their_contents, 900)
{
	struct beside *b = &self->b;
	struct helper helper = { b, variant->disturbance.once };
	u64 i, nr = part_of(NR_ROUNDS), blocks = b->bed.size / b->bed.unit;

	if (variant->disturbance.one_cpu)
		pin_self_to_any_cpu();
	kvm_pthread_create(&b->thread, NULL, disturb, &helper);
	for (i = 0; i < nr || !READ_ONCE(b->done); i++)
		flip(b, random_page(b), i + 1);
	WRITE_ONCE(b->stop, true);
	kvm_pthread_join(b->thread, NULL);
	pr_info("# %lu flips, %lu times refused, %lu rounds beside them\n", i, b->refused, b->done);

	/* What was put off meanwhile. */
	for (i = 0; i < blocks; i++)
		flip(b, i * (b->bed.unit / SZ_4K), nr + 1);
	expect_folios(b->bed.fd, variant->log2 - 12, blocks);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
