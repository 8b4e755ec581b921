// SPDX-License-Identifier: GPL-2.0-only
/* What a page of 4 KiB costs on the default allocator. */
#include <linux/kvm.h>
#include <stdio.h>

#include "bench.h"

enum { PAGES = 2048 };

static void nothing(void)
{
}

static void set_private(int private)
{
	machine_set_private(private, 0, PAGES * PAGE);
}

static void allocate(void)
{
	file_allocate(machine.file, 0, PAGES * PAGE);
}

static void punch(void)
{
	file_punch(machine.file, 0, PAGES * PAGE);
}

/* The whole file is memory of a guest, and all of it is private. */
static void setup_private(void)
{
	machine_create(KVM_X86_SW_PROTECTED_VM, 0, PAGES);
	machine_bind();
	set_private(1);
}

static void setup_guest(void)
{
	setup_private();
	machine_add_vcpu();
}

/* A guest's mappings go when the state changes; the pages of the file stay. */
static void unmap_guest(void)
{
	set_private(0);
	set_private(1);
}

static void setup_guest_with_pages(void)
{
	setup_guest();
	machine_touch_all();
}

static void setup_shared(void)
{
	machine_create(KVM_X86_DEFAULT_VM,
		       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED, PAGES);
	machine_map_shared(machine.file);
}

static void touch_shared(void)
{
	for (size_t i = 0; i < PAGES; i++)
		machine.shared[i * PAGE] = 1;
}

static const struct bench benches[] = {
	/* Pages that are not there get allocated. */
	{
		.name		= "page4k.fallocate",
		.setup		= setup_private,
		.prepare	= nothing,
		.run		= allocate,
		.finish		= punch,
		.count		= PAGES,
		.change		= { .file_pages = PAGES },
	},
	/* Pages that nobody maps are freed. */
	{
		.name		= "page4k.punch_hole",
		.setup		= setup_private,
		.prepare	= allocate,
		.run		= punch,
		.finish		= nothing,
		.count		= PAGES,
		.from		= { .file_pages = PAGES },
		.change		= { .file_pages = -PAGES },
	},
	/* A guest's first touch: each page is allocated, cleared and mapped. */
	{
		.name		= "page4k.guest_fault",
		.setup		= setup_guest,
		.prepare	= nothing,
		.run		= machine_touch_all,
		.finish		= punch,
		.count		= PAGES,
		.from		= { .guest_4k = OWN_PAGES },
		.change		= { .file_pages = PAGES, .guest_4k = PAGES },
	},
	/* A guest's touch of pages that are there, cleared: each is only mapped. */
	{
		.name		= "page4k.guest_map",
		.setup		= setup_guest_with_pages,
		.prepare	= unmap_guest,
		.run		= machine_touch_all,
		.finish		= nothing,
		.count		= PAGES,
		.from		= { .file_pages = PAGES, .guest_4k = OWN_PAGES },
		.change		= { .guest_4k = PAGES },
	},
	/* The host's first touch: each page is allocated, cleared and mapped. */
	{
		.name		= "page4k.host_fault",
		.setup		= setup_shared,
		.prepare	= nothing,
		.run		= touch_shared,
		.finish		= punch,
		.count		= PAGES,
		.change		= { .file_pages = PAGES, .host_pages = PAGES,
				    .host_faults = PAGES },
	},
};

int main(void)
{
	for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++)
		bench_run(&benches[i]);
	return 0;
}
