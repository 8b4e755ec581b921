// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to share some pages of a page of 1 GiB and to take them back, on
 * either of two kernels, which leave the block in
 *
 *	pieces	of 2 MiB, and single pages only where one of them is shared
 *	whole	single pages, all of it
 *
 * The guest has touched each piece before, and does so again while pages are shared.
 */
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"

#define PIECE		(2UL << 20)
#define BLOCK		(1UL << 30)

enum { PIECES = 512, PIECE_PAGES = 512 };

/* Requests of so many bytes each, evenly across the block; none reaches into two pieces. */
static const struct sharing {
	const char *name;
	const char *back;
	size_t requests;
	size_t size;
} sharings[] = {
	{ "share1",		"merge1",		1,	PAGE },
	{ "share16",		"merge16",		16,	PAGE },
	{ "scattered512",	"merge_scattered512",	PIECES,	PAGE },
	{ "adjacent512",	"merge_adjacent512",	1,	PIECE },
};

static int whole;

static size_t single_pages(const struct sharing *s)
{
	return whole ? MOST_PAGES : s->requests * PIECE_PAGES;
}

static size_t request_offset(const struct sharing *s, size_t i)
{
	return i * (BLOCK / s->requests);
}

/* What it took. */
static uint64_t convert(const struct sharing *s, uint64_t attributes)
{
	uint64_t start = instructions();

	for (size_t i = 0; i < s->requests; i++) {
		struct kvm_memory_attributes2 args = {
			.offset = request_offset(s, i),
			.size = s->size,
			.attributes = attributes,
		};

		do_ioctl(machine.file, KVM_SET_MEMORY_ATTRIBUTES2, &args);
	}
	return instructions() - start;
}

static void guest_touch(void)
{
	machine_touch(PIECE);
}

static void host_touch(const struct sharing *s)
{
	for (size_t i = 0; i < s->requests; i++)
		for (size_t offset = 0; offset < s->size; offset += PAGE)
			machine.shared[request_offset(s, i) + offset] = 1;
}

/* One page of HugeTLB's, one mapping of the guest, none of the host. */
static void expect_one_page(const char *when)
{
	struct state state = state_before();

	if (state.file_pages || state.huge_pages != MOST_PAGES || state.guest_1g != 1 ||
	    state.host_pages)
		die("%s: %ld single pages, %ld in huge pages, %ld mappings of 1G, %ld of the host",
		    when, state.file_pages, state.huge_pages, state.guest_1g,
		    state.host_pages);
}

/* Only pages that the host maps count as pages of a file. */
static void expect_pieces(const struct sharing *s, struct state state)
{
	size_t shared = s->requests * s->size / PAGE;

	if (state.file_pages != (long)single_pages(s) || state.host_pages != (long)shared)
		die("%s: %ld single pages, expected %zu; the host maps %ld, expected %zu",
		    s->name, state.file_pages, single_pages(s), state.host_pages, shared);
}

static void report(const char *name, const char *what, uint64_t count)
{
	printf("@figure restructure.%s.%s 1 %lu\n", name, what, count);
}

struct result {
	uint64_t share;
	uint64_t merge;
	struct overhead overhead;
	struct state state;
};

static void report_result(const struct sharing *s, const struct result *result)
{
	report(s->name, "instructions", result->share);
	report(s->name, "vmemmap_pages", result->overhead.vmemmap_pages);
	report(s->name, "slab_pages", result->overhead.slab_pages);
	report(s->name, "mappings_kept", result->state.guest_2m);
	report(s->back, "instructions", result->merge);
}

static struct overhead overhead_since(struct overhead before)
{
	struct overhead now = state_overhead();

	return (struct overhead) {
		.vmemmap_pages = now.vmemmap_pages - before.vmemmap_pages,
		.slab_pages = now.slab_pages - before.slab_pages,
	};
}

static void share(const struct sharing *s, struct result *result)
{
	struct overhead before;

	settle();
	state_shrink_nodes();
	before = state_overhead();
	result->share = convert(s, 0);
	result->overhead = overhead_since(before);
	host_touch(s);
	guest_touch();
	result->state = state_before();
	expect_pieces(s, result->state);
}

static void take_back(const struct sharing *s, struct result *result)
{
	struct overhead before, since;

	settle();
	before = state_overhead();
	result->merge = convert(s, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	since = overhead_since(before);
	if (since.vmemmap_pages + result->overhead.vmemmap_pages)
		die("%s: %ld pages of struct pages were taken, %ld given back", s->back,
		    result->overhead.vmemmap_pages, -since.vmemmap_pages);
	guest_touch();
	expect_one_page(s->back);
}

static void setup(void)
{
	machine_create_huge(GUEST_MEMFD_FLAG_HUGETLB | GUEST_MEMFD_FLAG_MMAP, 30, MOST_PAGES);
	machine_map_shared_aligned(machine.file);
	machine_bind();
	machine_add_vcpu();
}

static void measure(const struct sharing *s)
{
	struct result result;

	setup();
	guest_touch();
	expect_one_page(s->name);
	for (int round = 0; round <= ROUNDS; round++) {
		share(s, &result);
		take_back(s, &result);
		if (round)
			report_result(s, &result);
	}
	machine_destroy();
}

int main(int argc, char **argv)
{
	whole = argc > 1 && !strcmp(argv[1], "whole");
	for (size_t i = 0; i < sizeof(sharings) / sizeof(sharings[0]); i++)
		measure(&sharings[i]);
	return 0;
}
