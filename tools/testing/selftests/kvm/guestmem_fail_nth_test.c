// SPDX-License-Identifier: GPL-2.0-only
/*
 * A conversion that runs out of memory: each of its allocations is made to fail
 * once, and what debugfs shows of the file must be the same as before.
 */
#include "guestmem_convert.h"
#include "kvm_test_harness.h"

#define NR_PAGES	32
#define MAX_NTH		100
#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define DEBUGFS		"/sys/kernel/debug/"

/* What is told of a file; the pfns are those of its pages. */
struct shown {
	char states[SZ_4K];
	char layout[SZ_4K];
	char pfns[SZ_4K];
	u64 mapped;
};

/* What came of the failures of one kind of allocation. */
struct injected {
	u64 nr;
	u64 refused;
};

static bool try_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) == strlen(value);
	kvm_close(fd);
	return ok;
}

/*
 * By default neither kind fails where the caller may sleep, which is all there
 * is here, and each failure would print a stack trace.
 */
static bool aim(const char *kind, bool fail)
{
	char path[96];
	bool ok;

	snprintf(path, sizeof(path), DEBUGFS "%s/verbose", kind);
	ok = try_write(path, "0");
	snprintf(path, sizeof(path), DEBUGFS "%s/ignore-gfp-wait", kind);
	return ok && try_write(path, fail ? "N" : "Y");
}

static bool aim_at(bool slab, bool pages)
{
	/* Single pages and highmem are passed over, too. */
	return aim("failslab", slab) && aim("fail_page_alloc", pages) &&
	       try_write(DEBUGFS "fail_page_alloc/min-order", pages ? "0" : "1") &&
	       try_write(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", pages ? "N" : "Y");
}

static void set_nth(int fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	TEST_ASSERT_EQ(pwrite(fd, text, len, 0), len);
}

/* Reads 0 once the nth allocation has failed. */
static bool nth_has_failed(int fd)
{
	char text[16] = {};

	TEST_ASSERT(pread(fd, text, sizeof(text) - 1, 0) > 0, "cannot read " FAIL_NTH);
	set_nth(fd, 0);
	return !atoi(text);
}

static struct shown show(struct convert_bed *bed)
{
	struct shown shown;

	read_debugfs(bed->fd, "states", shown.states, sizeof(shown.states));
	read_debugfs(bed->fd, "layout", shown.layout, sizeof(shown.layout));
	read_debugfs(bed->fd, "pfns", shown.pfns, sizeof(shown.pfns));
	shown.mapped = vm_get_stat(bed->vm, pages_4k);
	return shown;
}

static void expect_same(const struct shown *a, const struct shown *b, int nth)
{
	TEST_ASSERT(!strcmp(a->states, b->states), "allocation %d failed: states\n%s->\n%s",
		    nth, a->states, b->states);
	TEST_ASSERT(!strcmp(a->layout, b->layout), "allocation %d failed: layout\n%s->\n%s",
		    nth, a->layout, b->layout);
	TEST_ASSERT(!strcmp(a->pfns, b->pfns), "allocation %d failed: pfns\n%s->\n%s",
		    nth, a->pfns, b->pfns);
	TEST_ASSERT(a->mapped == b->mapped, "allocation %d failed: the guest lost %lu pages",
		    nth, a->mapped - b->mapped);
}

FIXTURE(guestmem_fail_nth) {
	struct convert_bed bed;
	int nth;
};

FIXTURE_VARIANT(guestmem_fail_nth) {
	bool private;
};

FIXTURE_VARIANT_ADD(guestmem_fail_nth, to_private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(guestmem_fail_nth, to_shared) {
	.private = false,
};

FIXTURE_SETUP(guestmem_fail_nth)
{
	self->nth = open(FAIL_NTH, O_RDWR);
	if (self->nth < 0 || !aim_at(false, false))
		SKIP(return, "the kernel lacks CONFIG_FAILSLAB or CONFIG_FAIL_PAGE_ALLOC");

	self->bed = create_convert_bed(NR_PAGES, variant->private ? GUESTMEM_SHARED :
								    GUEST_MEMFD_FLAG_MMAP);
	guest_fills(&self->bed, 0, NR_PAGES, 1);
}

FIXTURE_TEARDOWN(guestmem_fail_nth)
{
	set_nth(self->nth, 0);
	aim_at(false, false);
	kvm_close(self->nth);
	free_convert_bed(&self->bed);
}

/*
 * Returns whether an allocation failed.  One that does not matter to the caller,
 * of a debugging feature, does not stop the conversion: then it is undone.
 */
static bool fail_one(struct convert_bed *bed, int nth_fd, int nth, bool private,
		     struct injected *injected)
{
	struct kvm_memory_attributes2 attrs = page_attributes(8, 8, private);
	struct shown before = show(bed), after;
	int err;

	set_nth(nth_fd, nth);
	err = set_attributes(bed->fd, &attrs) ? errno : 0;
	if (!nth_has_failed(nth_fd)) {
		TEST_ASSERT(!err, "nothing failed, but the conversion did: %s", strerror(err));
		return false;
	}

	injected->nr++;
	after = show(bed);
	if (!err) {
		convert(bed->fd, 8, 8, !private);
		return true;
	}

	injected->refused++;
	TEST_ASSERT(err == ENOMEM, "allocation %d failed: %s (%d)", nth, strerror(err), err);
	TEST_ASSERT(attrs.error_offset == 8 * getpagesize(),
		    "error_offset is 0x%llx, expected the start of the range",
		    attrs.error_offset);
	expect_same(&before, &after, nth);
	return true;
}

static struct injected fail_each(struct convert_bed *bed, int nth_fd, bool private)
{
	struct injected injected = {};
	int nth = 1;

	while (fail_one(bed, nth_fd, nth, private, &injected)) {
		nth++;
		TEST_ASSERT(nth < MAX_NTH, "a conversion of 8 pages allocates without end");
	}
	/* The last one went through. */
	convert(bed->fd, 8, 8, !private);
	guest_checks(bed, 0, NR_PAGES, 1);
	return injected;
}

TEST_F_TIMEOUT(guestmem_fail_nth, each_slab_allocation, 120)
{
	struct injected injected;

	TEST_ASSERT(aim_at(true, false), "cannot aim at slab allocations");
	injected = fail_each(&self->bed, self->nth, variant->private);
	pr_info("# %lu slab allocations failed, %lu of them stopped the conversion\n",
		injected.nr, injected.refused);
	TEST_ASSERT(injected.refused >= 1, "%lu failures injected, and no conversion stopped",
		    injected.nr);
}

/* There need not be any: what a conversion allocates comes from a slab that has room. */
TEST_F_TIMEOUT(guestmem_fail_nth, each_allocation_of_any_kind, 120)
{
	struct injected injected;

	TEST_ASSERT(aim_at(true, true), "cannot aim at allocations");
	injected = fail_each(&self->bed, self->nth, variant->private);
	pr_info("# %lu allocations failed, %lu of them stopped the conversion\n",
		injected.nr, injected.refused);
	TEST_ASSERT(injected.refused >= 1, "%lu failures injected, and no conversion stopped",
		    injected.nr);
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
