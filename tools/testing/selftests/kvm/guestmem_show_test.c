// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel says about a guest_memfd: fdinfo for its owner, debugfs for
 * root.
 */
#include "guestmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	16
#define DEBUGFS		"/sys/kernel/debug"

struct shown_file {
	struct kvm_vm *vm;
	int fd;
};

static struct shown_file create_shown_file(u64 flags)
{
	struct shown_file file;

	file.vm = vm_create_barebones();
	file.fd = vm_create_guest_memfd(file.vm, NR_PAGES * getpagesize(), flags);
	return file;
}

static void free_shown_file(struct shown_file *file)
{
	close(file->fd);
	kvm_vm_free(file->vm);
}

static void expect_value(const char *path, const char *key, const char *want)
{
	char value[64];

	TEST_ASSERT(read_shown(path, key, value, sizeof(value)),
		    "%s has no line \"%s:\"", path, key);
	TEST_ASSERT(!strcmp(value, want), "%s: %s is \"%s\", expected \"%s\"",
		    path, key, value, want);
}

static void expect_number(const char *path, const char *key, u64 want)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", want);
	expect_value(path, key, text);
}

static void expect_layout(const char *path, const char *state, u64 nr_pages)
{
	expect_value(path, "guestmem-allocator", "page4k");
	expect_value(path, "guestmem-state", state);
	expect_number(path, "guestmem-block-order", 0);
	expect_number(path, "guestmem-punch-order", 0);
	expect_number(path, "guestmem-max-map-order", 0);
	expect_number(path, "guestmem-pages", nr_pages);
}

FIXTURE(guestmem_fdinfo) {
	struct shown_file file;
	char path[64];
};

FIXTURE_VARIANT(guestmem_fdinfo) {
	const char *state;
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_fdinfo, plain) {
	.state = "private",
	.flags = 0,
};

FIXTURE_VARIANT_ADD(guestmem_fdinfo, mmap) {
	.state = "private",
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(guestmem_fdinfo, shared) {
	.state = "shared",
	.flags = GUESTMEM_SHARED,
};

FIXTURE_SETUP(guestmem_fdinfo)
{
	self->file = create_shown_file(variant->flags);
	snprintf(self->path, sizeof(self->path), "/proc/self/fdinfo/%d",
		 self->file.fd);
}

FIXTURE_TEARDOWN(guestmem_fdinfo)
{
	free_shown_file(&self->file);
}

TEST_F(guestmem_fdinfo, allocator_and_state)
{
	expect_layout(self->path, variant->state, 0);
}

TEST_F(guestmem_fdinfo, pages_follow_allocation)
{
	allocate_pages(self->file.fd, 0, 5);
	expect_layout(self->path, variant->state, 5);

	punch_pages(self->file.fd, 1, 2);
	expect_layout(self->path, variant->state, 3);
}

FIXTURE(guestmem_debugfs) {
	struct shown_file file;
	char layout[64];
	char pfns[64];
};

FIXTURE_SETUP(guestmem_debugfs)
{
	if (access(DEBUGFS "/kvm", F_OK))
		SKIP(return, "debugfs is not at " DEBUGFS ", or not for us");

	self->file = create_shown_file(GUESTMEM_SHARED);
	guestmem_debugfs_path(self->file.fd, "layout", self->layout,
			      sizeof(self->layout));
	guestmem_debugfs_path(self->file.fd, "pfns", self->pfns,
			      sizeof(self->pfns));
}

FIXTURE_TEARDOWN(guestmem_debugfs)
{
	free_shown_file(&self->file);
}

TEST_F(guestmem_debugfs, layout_says_what_fdinfo_says)
{
	expect_layout(self->layout, "shared", 0);

	allocate_pages(self->file.fd, 0, 5);
	expect_layout(self->layout, "shared", 5);
}

TEST_F(guestmem_debugfs, layout_counts_folios)
{
	char value[32];

	TEST_ASSERT(!read_shown(self->layout, "folios-order-0", value, sizeof(value)),
		    "an empty file has %s folios", value);

	allocate_pages(self->file.fd, 0, NR_PAGES);
	expect_number(self->layout, "folios-order-0", NR_PAGES);

	punch_pages(self->file.fd, 0, 3);
	expect_number(self->layout, "folios-order-0", NR_PAGES - 3);
}

/* Reads one "index order pfn" line per folio; returns how many there were. */
static u64 read_pfns(const char *path, u64 pfns[NR_PAGES])
{
	u64 index, order, pfn, nr = 0;
	FILE *f = fopen(path, "r");

	TEST_ASSERT(f, "cannot open %s, errno %d", path, errno);
	while (fscanf(f, "%lu %lu %lx", &index, &order, &pfn) == 3) {
		TEST_ASSERT(index < NR_PAGES, "%s: index %lu of %u pages", path,
			    index, NR_PAGES);
		TEST_ASSERT(!order, "%s: order %lu in a 4K file", path, order);
		TEST_ASSERT(!pfns[index], "%s: index %lu twice", path, index);
		pfns[index] = pfn;
		nr++;
	}
	fclose(f);
	return nr;
}

TEST_F(guestmem_debugfs, pfns_are_those_the_host_maps)
{
	size_t page = getpagesize();
	u64 pfns[NR_PAGES] = {};
	char *mem;
	u64 i;

	if (access("/proc/self/pagemap", R_OK))
		SKIP(return, "the kernel lacks CONFIG_PROC_PAGE_MONITOR");

	mem = map_file(self->file.fd, NR_PAGES * page);
	memset(mem, 1, NR_PAGES * page);

	TEST_ASSERT_EQ(read_pfns(self->pfns, pfns), NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT(pfns[i] == mapped_pfn(mem + i * page),
			    "page %lu: debugfs says pfn 0x%lx, the host maps 0x%lx",
			    i, pfns[i], mapped_pfn(mem + i * page));
	kvm_munmap(mem, NR_PAGES * page);
}

TEST_F(guestmem_debugfs, holes_have_no_pfn)
{
	u64 pfns[NR_PAGES] = {};

	allocate_pages(self->file.fd, 0, NR_PAGES);
	punch_pages(self->file.fd, 4, 2);

	TEST_ASSERT_EQ(read_pfns(self->pfns, pfns), NR_PAGES - 2);
	TEST_ASSERT(!pfns[4] && !pfns[5], "the hole still has pfns 0x%lx 0x%lx",
		    pfns[4], pfns[5]);
}

TEST_F(guestmem_debugfs, directory_goes_with_the_file)
{
	TEST_ASSERT(!access(self->layout, F_OK), "%s is missing", self->layout);
	kvm_free_fd(self->file.fd);
	TEST_ASSERT(access(self->layout, F_OK), "%s outlives its file", self->layout);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
