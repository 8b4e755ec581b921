// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to put 1 GiB behind a guest as the guest touches it, by either of
 * two ways that end in the same pages and the same mappings of the guest:
 *
 *	guest_memfd	whose pages the guest gets from the file
 *	memfd		whose pages the guest gets through the host's mapping
 *
 * Clearing a huge page takes far longer than all else, and is counted apart.
 */
#define _GNU_SOURCE
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define GIB	(1UL << 30)

static const struct kind {
	const char *name;
	unsigned int log2;
} kinds[] = {
	{ "hugetlb-1g", 30 },
	{ "hugetlb-2m", 21 },
	{ "page4k", 12 },
};

static const struct kind *kind;

static int is_huge(void)
{
	return kind->log2 > 12;
}

static size_t unit(void)
{
	return 1UL << kind->log2;
}

static long units(void)
{
	return GIB / unit();
}

struct way {
	const char *name;
	const char *clears;	/* function that clears a huge page */
	int mapped;		/* by the host */
	void (*setup)(void);
};

static void guest_memfd_setup(void)
{
	if (is_huge())
		machine_create_huge(GUEST_MEMFD_FLAG_HUGETLB, kind->log2, GIB / PAGE);
	else
		machine_create(KVM_X86_SW_PROTECTED_VM, 0, GIB / PAGE);
	machine_bind();
	machine_set_private(1, 0, GIB);
	machine_add_vcpu();
}

static int open_memfd(void)
{
	unsigned int huge = MFD_HUGETLB | kind->log2 << MFD_HUGE_SHIFT;
	int file = memfd_create("memory", MFD_CLOEXEC | (is_huge() ? huge : 0));

	if (file < 0 || ftruncate(file, GIB))
		die("memfd: %m");
	return file;
}

static void memfd_setup(void)
{
	machine_create_around(open_memfd(), GIB / PAGE);
	machine_map_shared(machine.file);
	machine_bind_shared();
	machine_add_vcpu();
}

static const struct way ways[] = {
	{
		.name	= "guest_memfd",
		.clears	= "guestmem_zero_folio",
		.setup	= guest_memfd_setup,
	},
	{
		.name	= "memfd",
		.clears	= "folio_zero_user",
		.mapped	= 1,
		.setup	= memfd_setup,
	},
};

static const struct way *way;

static void touch_each_unit(void)
{
	machine_touch(unit());
}

static uint64_t faults_before;

static void count_faults(void)
{
	faults_before = state_guest_faults();
}

/* Of a guest that has touched every page of 4 KiB; the first also maps its own pages. */
static void report_faults(void)
{
	machine_touch_all();
	if (faults_before)
		printf("@figure %s.stage2_faults 1 %lu\n", kind->name,
		       state_guest_faults() - faults_before);
}

static void punch(void)
{
	file_punch(machine.file, 0, GIB);
}

static void report_faults_and_punch(void)
{
	report_faults();
	punch();
}

static struct state populated(void)
{
	long pages = GIB / PAGE;

	return (struct state) {
		.file_pages = is_huge() ? 0 : pages,
		.huge_pages = is_huge() ? pages : 0,
		.guest_4k = kind->log2 == 12 ? units() : 0,
		.guest_2m = kind->log2 == 21 ? units() : 0,
		.guest_1g = kind->log2 == 30 ? units() : 0,
		.host_pages = way->mapped ? pages : 0,
		.host_faults = way->mapped ? units() : 0,
	};
}

/* For each page; huge ones without what clearing them takes. */
static void measure(void)
{
	char name[64], clearing[64];
	const struct bench bench = {
		.name		= name,
		.setup		= way->setup,
		.prepare	= count_faults,
		.run		= touch_each_unit,
		.finish		= report_faults_and_punch,
		.count		= units(),
		.apart		= is_huge() ? clearing : NULL,
		.from		= { .guest_4k = OWN_PAGES },
		.change		= populated(),
	};

	snprintf(name, sizeof(name), "%s.populate", kind->name);
	snprintf(clearing, sizeof(clearing), "%s.clearing", kind->name);
	if (is_huge())
		probe_begin(way->clears);
	bench_run(&bench);
	if (is_huge())
		probe_end();
}

static void choose_way(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (!strcmp(ways[i].name, name))
			way = &ways[i];
	}
	if (!way)
		die("there is no way to populate called %s", name);
}

int main(int argc, char **argv)
{
	choose_way(argc > 1 ? argv[1] : "");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		kind = &kinds[i];
		measure();
	}
	return 0;
}
