// SPDX-License-Identifier: GPL-2.0-only
/*
 * Converting pages of a guest_memfd in place: which pages change, what the host
 * may touch, and that contents stay.
 */
#include <sys/wait.h>

#include "guestmem_convert.h"
#include "guestmem_signal.h"
#include "kvm_test_harness.h"

#define NR_PAGES	32
#define NR_TOUCHED	64
#define HUGE_SIZE	BIT_ULL(40)

FIXTURE(guestmem_convert) {
	struct convert_bed bed;
	bool states[NR_PAGES];
};

FIXTURE_VARIANT(guestmem_convert) {
	u64 flags;
	bool private;
};

FIXTURE_VARIANT_ADD(guestmem_convert, starts_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
	.private = true,
};

FIXTURE_VARIANT_ADD(guestmem_convert, starts_shared) {
	.flags = GUESTMEM_SHARED,
	.private = false,
};

FIXTURE_SETUP(guestmem_convert)
{
	self->bed = create_convert_bed(NR_PAGES, variant->flags);
	memset(self->states, variant->private, NR_PAGES);
}

FIXTURE_TEARDOWN(guestmem_convert)
{
	free_convert_bed(&self->bed);
}

/* Converts, and expects exactly these pages to have changed. */
static void convert_and_check(struct convert_bed *bed, bool *states, u64 first, u64 nr,
			      bool private)
{
	char when[64];

	snprintf(when, sizeof(when), "%lu pages from %lu made %s", nr, first,
		 private ? "private" : "shared");
	convert(bed->fd, first, nr, private);
	memset(states + first, private, nr);
	expect_states(bed->fd, states, NR_PAGES, when);
}

TEST_F(guestmem_convert, pages_start_as_the_file_was_created)
{
	expect_states(self->bed.fd, self->states, NR_PAGES, "at creation");
	expect_pages(self->bed.fd, 0, "at creation");
}

/* Pairs of pages and numbers of pages, in an order that makes ranges split, grow and merge. */
static const u64 borders[][2] = {
	{ 0, 1 },			/* the first page */
	{ NR_PAGES - 1, 1 },		/* the last page */
	{ 10, 4 },			/* in the middle */
	{ 14, 2 },			/* right behind a range */
	{ 8, 2 },			/* right before one */
	{ 20, 4 },			/* a range apart */
	{ 16, 4 },			/* joins two */
	{ 9, 3 },			/* inside of one: nothing changes */
	{ 6, 10 },			/* begins before one, ends in it */
	{ 22, 6 },			/* begins in one, ends behind it */
	{ 1, 5 },			/* joins the first page to the rest */
	{ 0, NR_PAGES },		/* all of the file */
};

static void convert_all_borders(struct convert_bed *bed, bool *states, bool private)
{
	for (int i = 0; i < ARRAY_SIZE(borders); i++)
		convert_and_check(bed, states, borders[i][0], borders[i][1], private);
}

TEST_F(guestmem_convert, exactly_the_asked_range_changes)
{
	convert_all_borders(&self->bed, self->states, !variant->private);
	convert_all_borders(&self->bed, self->states, variant->private);
	expect_pages(self->bed.fd, 0, "after converting holes");
}

/* Each border of each range, in both directions, on pages that are all there. */
TEST_F(guestmem_convert, allocated_pages_change_as_holes_do)
{
	allocate_pages(self->bed.fd, 0, NR_PAGES);
	convert_all_borders(&self->bed, self->states, !variant->private);
	convert_all_borders(&self->bed, self->states, variant->private);
	expect_pages(self->bed.fd, NR_PAGES, "after converting them to and fro");
}

/* Cutting pieces out of the middle of a range, from both ends, page by page. */
TEST_F(guestmem_convert, every_second_page_and_back)
{
	struct convert_bed *bed = &self->bed;
	u64 page;

	for (page = 1; page < NR_PAGES; page += 2)
		convert_and_check(bed, self->states, page, 1, !variant->private);
	for (page = 0; page < NR_PAGES; page += 2)
		convert_and_check(bed, self->states, page, 1, !variant->private);
	for (page = NR_PAGES; page--;)
		convert_and_check(bed, self->states, page, 1, variant->private);
}

TEST_F(guestmem_convert, states_survive_a_hole_and_are_those_of_new_pages)
{
	struct convert_bed *bed = &self->bed;

	convert_and_check(bed, self->states, 4, 8, !variant->private);
	allocate_pages(bed->fd, 0, NR_PAGES);
	punch_pages(bed->fd, 0, NR_PAGES);
	expect_states(bed->fd, self->states, NR_PAGES, "after a hole");

	convert_and_check(bed, self->states, 8, 8, !variant->private);
	allocate_pages(bed->fd, 0, NR_PAGES);
	expect_states(bed->fd, self->states, NR_PAGES, "after a hole was filled");
}

/* The page is where the caller says; the memory slots are not asked. */
TEST_F(guestmem_convert, needs_no_memslot_and_no_running_vm)
{
	struct convert_bed *bed = &self->bed;

	unbind_file(bed->vm, GUESTMEM_GPA);
	convert_and_check(bed, self->states, 3, 5, !variant->private);
	bind_file(bed->vm, GUESTMEM_GPA, bed->size, bed->fd, 0);
	convert_and_check(bed, self->states, 5, 5, !variant->private);
}

TEST_F_TIMEOUT(guestmem_convert, contents_survive_both_directions, 120)
{
	struct convert_bed *bed = &self->bed;

	make_private(bed->fd, 0, NR_PAGES);
	guest_fills(bed, 0, 4, 1);
	guest_fills(bed, 4, 8, 2);
	guest_fills(bed, 12, NR_PAGES - 12, 3);
	make_shared(bed->fd, 4, 8);
	host_checks(bed, 4, 8, 2, "what the guest wrote while it was private");
	guest_checks(bed, 4, 8, 2);

	host_fills(bed, 4, 8, 4);
	make_private(bed->fd, 4, 8);
	guest_checks(bed, 0, 4, 1);
	guest_checks(bed, 4, 8, 4);
	guest_checks(bed, 12, NR_PAGES - 12, 3);
	expect_pages(bed->fd, NR_PAGES, "after converting there and back");
}

/* Single pages change all at once, whatever waits. */
TEST_F_TIMEOUT(guestmem_convert, signal_stops_nothing, 120)
{
	struct convert_bed *bed = &self->bed;

	guest_fills(bed, 0, NR_PAGES, 8);
	TEST_ASSERT_EQ(convert_with_signal(bed->fd, 0, NR_PAGES, !variant->private), 0);
	memset(self->states, !variant->private, NR_PAGES);
	expect_states(bed->fd, self->states, NR_PAGES, "with a signal pending");
	guest_checks(bed, 0, NR_PAGES, 8);
}

TEST_F_TIMEOUT(guestmem_convert, image_loaded_while_shared_is_there_when_private, 120)
{
	struct convert_bed *bed = &self->bed;

	make_shared(bed->fd, 0, NR_PAGES);
	host_fills(bed, 0, NR_PAGES, 3);
	make_private(bed->fd, 0, NR_PAGES);
	guest_checks(bed, 0, NR_PAGES, 3);
}

TEST_F_TIMEOUT(guestmem_convert, page_of_either_state_is_zero_at_first, 120)
{
	struct convert_bed *bed = &self->bed;

	dirty_free_memory(SZ_2M);
	convert(bed->fd, 0, NR_PAGES / 2, !variant->private);
	allocate_pages(bed->fd, 8, 16);
	guest_checks(bed, 0, NR_PAGES, 0);
	make_shared(bed->fd, 0, NR_PAGES);
	host_checks(bed, 0, NR_PAGES, 0, "what the guest found empty");
}

/* Allocated while private, and nobody looked: what the host sees must be zeroed. */
TEST_F(guestmem_convert, memory_allocated_while_private_is_zero_when_shared)
{
	struct convert_bed *bed = &self->bed;

	dirty_free_memory(SZ_2M);
	make_private(bed->fd, 0, NR_PAGES);
	allocate_pages(bed->fd, 0, NR_PAGES);
	make_shared(bed->fd, 0, NR_PAGES);
	host_checks(bed, 0, NR_PAGES, 0, "memory allocated while private");
}

TEST_F(guestmem_convert, host_loses_pages_that_become_private)
{
	struct convert_bed *bed = &self->bed;

	if (!pagemap_available())
		SKIP(return, "the kernel lacks CONFIG_PROC_PAGE_MONITOR");

	make_shared(bed->fd, 0, NR_PAGES);
	host_fills(bed, 0, NR_PAGES, 4);
	make_private(bed->fd, 8, 8);
	for (u64 page = 0; page < NR_PAGES; page++)
		TEST_ASSERT(host_maps(host_page(bed, page)) == (page < 8 || page >= 16),
			    "page %lu is %smapped", page,
			    host_maps(host_page(bed, page)) ? "" : "not ");

	expect_host_refused(host_page(bed, 8));
	expect_host_refused(host_page(bed, 15));
	host_checks(bed, 0, 8, 4, "pages before the range");
	TEST_ASSERT(!host_maps(host_page(bed, 8)), "a refused access left a mapping");

	make_shared(bed->fd, 8, 8);
	host_checks(bed, 0, NR_PAGES, 4, "all pages, shared again");
}

TEST_F(guestmem_convert, host_is_refused_holes_that_are_private)
{
	struct convert_bed *bed = &self->bed;

	make_private(bed->fd, 5, 1);
	expect_host_refused(host_page(bed, 5));
	expect_pages(bed->fd, 0, "after the host was refused");
	make_shared(bed->fd, 5, 1);
	host_checks(bed, 5, 1, 0, "page that was refused before");
}

/* Runs in a child, whose mapping and page tables are copies of the parent's. */
static int child_is_refused(struct convert_bed *bed, int ready, int go)
{
	char c = READ_ONCE(*(char *)host_page(bed, 0));

	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 1;
	expect_host_refused(host_page(bed, 0));
	expect_host_refused(host_page(bed, 1));
	host_checks(bed, 2, 1, 5, "shared page, in the child");
	return 0;
}

TEST_F_TIMEOUT(guestmem_convert, child_loses_what_it_inherited, 60)
{
	struct convert_bed *bed = &self->bed;
	int ready[2], go[2], status;
	char c = 0;
	pid_t pid;

	make_shared(bed->fd, 0, NR_PAGES);
	host_fills(bed, 0, 2, 5);
	host_fills(bed, 2, 1, 5);
	TEST_ASSERT(!pipe(ready) && !pipe(go), __KVM_SYSCALL_ERROR("pipe()", -1));
	pid = fork();
	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid)
		_exit(child_is_refused(bed, ready[1], go[0]));

	TEST_ASSERT_EQ(read(ready[0], &c, 1), 1);
	make_private(bed->fd, 0, 2);
	TEST_ASSERT_EQ(write(go[1], &c, 1), 1);
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status),
		    "child got at a private page, or lost a shared one: status 0x%x", status);
	guest_checks(bed, 0, 1, 5);
}

TEST_F(guestmem_convert, what_is_so_already_is_not_touched)
{
	struct convert_bed *bed = &self->bed;
	u64 mapped;

	if (!pagemap_available())
		SKIP(return, "the kernel lacks CONFIG_PROC_PAGE_MONITOR");

	make_shared(bed->fd, 0, 8);
	make_private(bed->fd, 8, 8);
	host_fills(bed, 0, 8, 6);
	guest_fills(bed, 8, 8, 6);
	mapped = vm_get_stat(bed->vm, pages_4k);

	make_shared(bed->fd, 0, 8);
	make_private(bed->fd, 8, 8);
	TEST_ASSERT(host_maps(host_page(bed, 0)), "shared page made shared: the host lost it");
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), mapped);

	/* Only the second half of what is asked for has to change. */
	make_private(bed->fd, 8, 8);
	make_shared(bed->fd, 4, 8);
	TEST_ASSERT(host_maps(host_page(bed, 4)), "shared page of a mixed range: the host lost it");
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), mapped - 4);
}

TEST_F(guestmem_convert, guest_loses_exactly_what_changes)
{
	struct convert_bed *bed = &self->bed;
	u64 mapped;

	make_private(bed->fd, 0, 16);
	make_shared(bed->fd, 16, 16);
	guest_fills(bed, 0, NR_PAGES, 7);
	guest_checks(bed, 0, NR_PAGES, 7);
	mapped = vm_get_stat(bed->vm, pages_4k);

	make_shared(bed->fd, 2, 3);
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), mapped - 3);
	make_private(bed->fd, 16, 1);
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), mapped - 4);
	guest_checks(bed, 0, 16, 7);
	TEST_ASSERT_EQ(vm_get_stat(bed->vm, pages_4k), mapped - 1);
}

/* No fault on a shared page may map its private neighbours along with it. */
static void expect_no_private_page_mapped(struct convert_bed *bed, bool write)
{
	u64 page;

	kvm_madvise(bed->mem, bed->size, MADV_DONTNEED);
	for (page = 0; page < NR_TOUCHED; page += 2) {
		if (write)
			WRITE_ONCE(*(char *)host_page(bed, page), 1);
		else
			READ_ONCE(*(char *)host_page(bed, page));
	}
	for (page = 0; page < NR_TOUCHED; page++)
		TEST_ASSERT(host_maps(host_page(bed, page)) == !(page % 2),
			    "page %lu, %s, is %smapped after %s faults", page,
			    page % 2 ? "private" : "shared",
			    page % 2 ? "" : "not ", write ? "write" : "read");
}

TEST(guestmem_convert_faults_leave_private_neighbours_unmapped)
{
	struct convert_bed bed;

	if (!pagemap_available())
		SKIP(return, "the kernel lacks CONFIG_PROC_PAGE_MONITOR");

	bed = create_convert_bed(NR_TOUCHED, GUESTMEM_SHARED);
	allocate_pages(bed.fd, 0, NR_TOUCHED);
	for (u64 page = 1; page < NR_TOUCHED; page += 2)
		make_private(bed.fd, page, 1);
	expect_no_private_page_mapped(&bed, false);
	expect_no_private_page_mapped(&bed, true);
	free_convert_bed(&bed);
}

/* As many nodes as there are borders, however many pages: this ends soon, in little memory. */
TEST(guestmem_convert_a_large_file_costs_no_more_than_a_small_one)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	u64 nr = HUGE_SIZE / getpagesize();
	int fd = vm_create_guest_memfd(vm, HUGE_SIZE, 0);
	char states[SZ_4K], want[128];

	make_shared(fd, 0, nr);
	make_private(fd, nr / 2, 1);
	read_debugfs(fd, "states", states, sizeof(states));
	snprintf(want, sizeof(want), "0 %lu shared\n%lu %lu private\n%lu %lu shared\n",
		 nr / 2, nr / 2, nr / 2 + 1, nr / 2 + 1, nr);
	TEST_ASSERT(!strcmp(states, want), "states are\n%sexpected\n%s", states, want);
	make_private(fd, 0, nr);
	kvm_close(fd);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
