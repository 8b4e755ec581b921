// SPDX-License-Identifier: GPL-2.0-only
/*
 * What splitting, merging and parking of huge pages reports, and that a page of
 * either size is split and merged without an allocation where nothing may fail.
 */
#include "guestmem_convert.h"
#include "guestmem_holder.h"
#include "guestmem_hugetlb.h"
#include "guestmem_trace.h"
#include "kvm_test_harness.h"

#define SHARED_PAGE	7
#define NR_ROUNDS	10

struct folio_event {
	const char *name;
	u64 order;
};

FIXTURE(guestmem_restructure_trace) {
	struct holder holder;
	struct pool before;
	struct kvm_vm *vm;
	u64 unit;
	u64 *mem;
	int fd;
};

FIXTURE_VARIANT(guestmem_restructure_trace) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_trace, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_trace, 1G) {
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_restructure_trace)
{
	const char *why = why_no_pool(1ull << variant->log2, 1);

	self->holder = (struct holder)HOLDER_VMSPLICE;
	why = why ?: self->holder.open(&self->holder);
	if (!why && !events_available())
		why = "the kernel lacks the guestmem tracepoints, or tracefs";
	if (why)
		SKIP(return, "%s", why);

	self->unit = 1ull << variant->log2;
	self->before = read_pool(self->unit);
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->fd = create_huge_file(self->vm, self->unit, GUEST_MEMFD_FLAG_MMAP,
				    variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 1);
	self->mem = map_file(self->fd, self->unit);
	create_instance();
}

FIXTURE_TEARDOWN(guestmem_restructure_trace)
{
	remove_instance();
	close_huge_file(&self->fd, self->mem, self->unit);
	holder_close(&self->holder);
	expect_pool_back(self->unit, &self->before, "in the end");
	kvm_vm_free(self->vm);
}

/* Those of a folio of order 18 where there are none are left out. */
static void expect_folio_events(int fd, u8 log2, const struct folio_event *want, int nr)
{
	unsigned long ino = file_stat(fd).st_ino, got_ino, order;
	FILE *trace = open_trace();
	char line[512], name[32];
	const char *fields;
	int i = 0;

	while (fgets(line, sizeof(line), trace)) {
		fields = event_of(line, name, sizeof(name));
		if (!fields || (strcmp(name, "guestmem_split") && strcmp(name, "guestmem_merge")))
			continue;

		TEST_ASSERT(sscanf(fields, "ino=%lu allocator=hugetlb index=%*u order=%lu pfn=",
				   &got_ino, &order) == 2 && got_ino == ino, "strange: %s", line);
		while (i < nr && want[i].order + 12 > log2)
			i++;
		TEST_ASSERT(i < nr && !strcmp(name, want[i].name) && order == want[i].order,
			    "event %d is unexpected: %s", i, line);
		i++;
	}
	fclose(trace);
	while (i < nr && want[i].order + 12 > log2)
		i++;
	TEST_ASSERT(i == nr, "event %d of %d did not come", i, nr);
}

TEST_F_TIMEOUT(guestmem_restructure_trace, splits_and_merges_are_told, 240)
{
	static const struct folio_event want[] = {
		{ "guestmem_split", 18 },
		{ "guestmem_split", 9 },
		{ "guestmem_merge", 9 },
		{ "guestmem_merge", 18 },
		{ "guestmem_split", 18 },
		{ "guestmem_split", 9 },
	};

	make_shared(self->fd, SHARED_PAGE, 1);
	/* Nothing to split. */
	make_shared(self->fd, SHARED_PAGE + 1, 1);
	/* Nothing to merge. */
	make_private(self->fd, SHARED_PAGE, 1);
	make_private(self->fd, SHARED_PAGE + 1, 1);
	make_shared(self->fd, SHARED_PAGE, 1);
	expect_folio_events(self->fd, variant->log2, want, ARRAY_SIZE(want));
}

/* Returns how often it was told of this block. */
static int count_block_events(const char *want_name, u64 want_pfn, u64 want_order)
{
	FILE *trace = open_trace();
	char line[512], name[32];
	const char *fields;
	u64 pfn, order;
	int nr = 0;

	while (fgets(line, sizeof(line), trace)) {
		fields = event_of(line, name, sizeof(name));
		nr += fields && !strcmp(name, want_name) &&
		      sscanf(fields, "pfn=0x%lx order=%lu", &pfn, &order) == 2 &&
		      pfn == want_pfn && order == want_order;
	}
	fclose(trace);
	return nr;
}

TEST_F_TIMEOUT(guestmem_restructure_trace, parked_block_is_told_until_it_is_back, 240)
{
	u64 pfn = shown_pfn(self->fd, 0), order = variant->log2 - 12;

	make_shared(self->fd, SHARED_PAGE, 1);
	self->holder.hold(&self->holder, self->mem + SHARED_PAGE * SZ_4K / sizeof(*self->mem),
			  SZ_4K);
	close_huge_file(&self->fd, self->mem, self->unit);
	TEST_ASSERT_EQ(count_block_events("guestmem_park", pfn, order), 1);
	TEST_ASSERT_EQ(count_block_events("guestmem_unpark", pfn, order), 0);

	self->holder.release(&self->holder);
	expect_pool_back(self->unit, &self->before, "with the page let go");
	TEST_ASSERT_EQ(count_block_events("guestmem_unpark", pfn, order), 1);
}

/* Struct pages, nodes of the page cache, what is charged: all of it before. */
TEST_F_TIMEOUT(guestmem_restructure_trace, nothing_is_allocated_after_the_freeze, 240)
{
	enable_allocation_events();
	for (int i = 0; i < NR_ROUNDS; i++) {
		make_shared(self->fd, SHARED_PAGE, 1);
		make_shared(self->fd, SHARED_PAGE + 2, 500);
		make_private(self->fd, SHARED_PAGE + 2, 1);
		make_private(self->fd, 0, self->unit / SZ_4K);
	}
	expect_no_allocation_inside(4, NR_ROUNDS);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
