// SPDX-License-Identifier: GPL-2.0-only
/* What a page of 4 KiB costs on the default allocator. */
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bench.h"

enum { PAGES = 2048 };

static void nothing(void)
{
}

/* The whole file is memory of a guest, and all of it is private. */
static void setup_private(void)
{
	machine_create(KVM_X86_SW_PROTECTED_VM, 0, PAGES);
	machine_bind();
	machine_set_private(1);
}

static void setup_guest(void)
{
	setup_private();
	machine_add_vcpu();
}

/* A guest's mappings go when the state changes; the pages of the file stay. */
static void unmap_guest(void)
{
	machine_set_private(0);
	machine_set_private(1);
}

static void setup_guest_with_pages(void)
{
	setup_guest();
	machine_touch_all();
}

static volatile char *shared;

static void setup_shared(void)
{
	machine_create(KVM_X86_DEFAULT_VM,
		       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED, PAGES);
	shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      machine.file, 0);
	if (shared == MAP_FAILED)
		die("mmap of guest_memfd: %m");
}

static void touch_shared(void)
{
	for (size_t i = 0; i < PAGES; i++)
		shared[i * PAGE] = 1;
}

static const struct bench benches[] = {
	/* Pages that are not there get allocated. */
	{
		.name		= "page4k.fallocate",
		.setup		= setup_private,
		.prepare	= nothing,
		.run		= file_allocate,
		.finish		= file_punch,
		.change		= { .file_pages = PAGES },
	},
	/* Pages that nobody maps are freed. */
	{
		.name		= "page4k.punch_hole",
		.setup		= setup_private,
		.prepare	= file_allocate,
		.run		= file_punch,
		.finish		= nothing,
		.change		= { .file_pages = -PAGES },
	},
	/* A guest's first touch: each page is allocated, cleared and mapped. */
	{
		.name		= "page4k.guest_fault",
		.setup		= setup_guest,
		.prepare	= nothing,
		.run		= machine_touch_all,
		.finish		= file_punch,
		.change		= { .file_pages = PAGES, .guest_4k = PAGES },
	},
	/* A guest's touch of pages that are there, cleared: each is only mapped. */
	{
		.name		= "page4k.guest_map",
		.setup		= setup_guest_with_pages,
		.prepare	= unmap_guest,
		.run		= machine_touch_all,
		.finish		= nothing,
		.change		= { .guest_4k = PAGES },
	},
	/* The host's first touch: each page is allocated, cleared and mapped. */
	{
		.name		= "page4k.host_fault",
		.setup		= setup_shared,
		.prepare	= nothing,
		.run		= touch_shared,
		.finish		= file_punch,
		.change		= { .file_pages = PAGES, .host_faults = PAGES },
	},
};

int main(void)
{
	for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++)
		bench_run(&benches[i]);
	return 0;
}
