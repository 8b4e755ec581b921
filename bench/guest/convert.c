// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to convert memory between private and shared, by either of two
 * ways that bring the same pages to the same states:
 *
 *	in-place	one file, whose pages stay where they are
 *	two-files	a page of one file is freed, one of the other allocated,
 *			as it is done where there is nothing better
 *
 * To shared: the guest has written to each page and has it mapped, and at the
 * end, inside the count, the host writes one byte to each.  To private: the host
 * has written to each page and has it mapped, and at the end memory for the
 * private pages is there.
 */
#define _GNU_SOURCE
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

enum { KIB = 1024, MIB = 1024 * KIB };

struct way {
	const char *name;
	void (*create)(size_t pages);
	void (*to_shared)(size_t offset, size_t size);
	void (*to_private)(size_t offset, size_t size);
	void (*destroy)(void);
};

static void nothing(void)
{
}

/* In place: the attributes are the file's. */

static void in_place_create(size_t pages)
{
	machine_create(KVM_X86_SW_PROTECTED_VM, GUEST_MEMFD_FLAG_MMAP, pages);
	machine_map_shared(machine.file);
	machine_bind();
}

static void in_place_convert(size_t offset, size_t size, uint64_t attributes)
{
	struct kvm_memory_attributes2 args = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
	};

	do_ioctl(machine.file, KVM_SET_MEMORY_ATTRIBUTES2, &args);
}

static void in_place_to_shared(size_t offset, size_t size)
{
	in_place_convert(offset, size, 0);
}

static void in_place_to_private(size_t offset, size_t size)
{
	in_place_convert(offset, size, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

/* Two files: the attributes are the VM's. */

static int shared_file;

static void two_files_create(size_t pages)
{
	machine_create(KVM_X86_SW_PROTECTED_VM, 0, pages);
	shared_file = memfd_create("shared", MFD_CLOEXEC);
	if (shared_file < 0 || ftruncate(shared_file, pages * PAGE))
		die("memfd: %m");
	machine_map_shared(shared_file);
	machine_bind();
	machine_set_private(1, 0, pages * PAGE);
}

static void two_files_to_shared(size_t offset, size_t size)
{
	machine_set_private(0, offset, size);
	file_punch(machine.file, offset, size);
}

static void two_files_to_private(size_t offset, size_t size)
{
	machine_set_private(1, offset, size);
	file_punch(shared_file, offset, size);
	file_allocate(machine.file, offset, size);
}

static void two_files_destroy(void)
{
	close(shared_file);
}

static const struct way ways[] = {
	{
		.name		= "in-place",
		.create		= in_place_create,
		.to_shared	= in_place_to_shared,
		.to_private	= in_place_to_private,
		.destroy	= nothing,
	},
	{
		.name		= "two-files",
		.create		= two_files_create,
		.to_shared	= two_files_to_shared,
		.to_private	= two_files_to_private,
		.destroy	= two_files_destroy,
	},
};

static const struct way *way;

/* What a round is made of: requests for so many bytes each, so far apart. */
static struct job {
	size_t requests;
	size_t size;
	size_t stride;
	int prefault;
} job;

static size_t job_span(void)
{
	return job.requests * job.stride;
}

static size_t job_pages(void)
{
	return job.requests * job.size / PAGE;
}

static void setup(void)
{
	way->create(job_span() / PAGE);
	machine_add_vcpu();
}

static void host_touch(size_t offset, size_t size)
{
	for (size_t end = offset + size; offset < end; offset += PAGE)
		machine.shared[offset] = 1;
}

static void all_private(void)
{
	way->to_private(0, job_span());
}

static void all_shared(void)
{
	way->to_shared(0, job_span());
	host_touch(0, job_span());
}

static void run_to_shared(void)
{
	for (size_t offset = 0; offset < job_span(); offset += job.stride) {
		way->to_shared(offset, job.size);
		host_touch(offset, job.size);
		if (job.prefault)
			machine_prefault(offset, job.size);
	}
}

static void run_to_private(void)
{
	for (size_t offset = 0; offset < job_span(); offset += job.stride) {
		way->to_private(offset, job.size);
		if (job.prefault)
			machine_prefault(offset, job.size);
	}
}

static void measure_to_shared(const char *name)
{
	long all = job_span() / PAGE, pages = job_pages();
	const struct bench bench = {
		.name		= name,
		.setup		= setup,
		.prepare	= machine_touch_all,
		.run		= run_to_shared,
		.finish		= all_private,
		.count		= job.requests,
		.from		= { .file_pages = all, .guest_4k = all + OWN_PAGES },
		.change		= { .guest_4k = job.prefault ? 0 : -pages,
				    .host_pages = pages, .host_faults = pages },
	};

	bench_run(&bench);
	way->destroy();
}

static void measure_to_private(const char *name)
{
	long pages = job_pages();
	const struct bench bench = {
		.name		= name,
		.setup		= setup,
		.prepare	= all_shared,
		.run		= run_to_private,
		.finish		= nothing,
		.count		= job.requests,
		.from		= { .file_pages = pages, .host_pages = pages },
		.change		= { .guest_4k = job.prefault ? pages : 0,
				    .host_pages = -pages },
	};

	bench_run(&bench);
	way->destroy();
}

/* Small ranges follow on each other until they are as much as a large one. */
static void measure_size(size_t size, int prefault)
{
	const char *suffix = prefault ? ".prefault" : "";
	char range[16], name[64];

	job = (struct job) {
		.requests = size < 2 * MIB ? 2 * MIB / size : 1,
		.size = size,
		.stride = size,
		.prefault = prefault,
	};
	if (size < MIB)
		snprintf(range, sizeof(range), "%zuk", size / KIB);
	else
		snprintf(range, sizeof(range), "%zum", size / MIB);

	snprintf(name, sizeof(name), "convert.%s.to_shared%s", range, suffix);
	measure_to_shared(name);
	snprintf(name, sizeof(name), "convert.%s.to_private%s", range, suffix);
	measure_to_private(name);
}

/* Every other page of 64 MiB becomes shared, one by one. */
static void measure_checkerboard(void)
{
	job = (struct job) {
		.requests = 64 * MIB / (2 * PAGE),
		.size = PAGE,
		.stride = 2 * PAGE,
	};
	measure_to_shared("convert.checkerboard");
}

static void choose_way(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (!strcmp(ways[i].name, name))
			way = &ways[i];
	}
	if (!way)
		die("there is no way to convert called %s", name);
}

int main(int argc, char **argv)
{
	choose_way(argc > 1 ? argv[1] : "");
	for (size_t size = 4 * KIB; size <= 64 * MIB; size *= 4)
		measure_size(size, 0);
	measure_size(2 * MIB, 0);
	measure_size(2 * MIB, 1);
	measure_checkerboard();
	return 0;
}
