// SPDX-License-Identifier: GPL-2.0-only
/* Counters that both kernels have: they show that both did the same work. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

static void read_file(const char *path, char *buffer, size_t size)
{
	ssize_t done = 0, n = 0;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		die("%s: %m", path);
	while (done < (ssize_t)size - 1 &&
	       (n = read(fd, buffer + done, size - 1 - done)) > 0)
		done += n;
	if (n < 0)
		die("%s: %m", path);
	buffer[done] = 0;
	close(fd);
}

static char vmstat[32768];

/* @key: between the newline before it and the space behind it. */
static long vmstat_value(const char *key)
{
	const char *found = strstr(vmstat, key);

	if (!found)
		die("/proc/vmstat has no%s", key);
	return atol(found + strlen(key));
}

static void read_vmstat(void)
{
	/* Folds what each CPU has counted for itself. */
	read_file("/proc/sys/vm/stat_refresh", vmstat, sizeof(vmstat));
	read_file("/proc/vmstat", vmstat, sizeof(vmstat));
}

static long file_pages(void)
{
	return vmstat_value("\nnr_file_pages ");
}

static long huge_pages(void)
{
	return vmstat_value("\nnr_hugetlb ");
}

struct overhead state_overhead(void)
{
	read_vmstat();
	return (struct overhead) {
		.vmemmap_pages = vmstat_value("\nnr_memmap_pages ") +
				 vmstat_value("\nnr_memmap_boot_pages "),
		.slab_pages = vmstat_value("\nnr_slab_reclaimable "),
	};
}

void state_shrink_nodes(void)
{
	int fd = open("/sys/kernel/slab/radix_tree_node/shrink", O_WRONLY);

	if (fd < 0 || write(fd, "1", 1) != 1)
		die("/sys/kernel/slab/radix_tree_node/shrink: %m");
	close(fd);
}

static long file_pages_at_start;

void state_begin(void)
{
	read_vmstat();
	file_pages_at_start = file_pages();
}

/* KVM's statistics of the machine. */
static long kvm_stat(const char *name)
{
	char path[128], buffer[32];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s",
		 getpid(), machine.vm, name);
	read_file(path, buffer, sizeof(buffer));
	return atol(buffer);
}

uint64_t state_guest_faults(void)
{
	return kvm_stat("pf_taken");
}

/* Bit 63 of an entry: there is a page, and it is mapped. */
static long host_pages(void)
{
	static uint64_t entries[MOST_PAGES];
	off_t first = (uintptr_t)machine.shared / PAGE * sizeof(entries[0]);
	ssize_t size = machine.pages * sizeof(entries[0]);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	long mapped = 0;

	if (pread(fd, entries, size, first) != size)
		die("/proc/self/pagemap: %m");
	close(fd);
	for (size_t i = 0; i < machine.pages; i++)
		mapped += entries[i] >> 63;
	return mapped;
}

static long host_faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		die("getrusage: %m");
	return usage.ru_minflt + usage.ru_majflt;
}

static void read_pages(struct state *state)
{
	read_vmstat();
	state->file_pages = file_pages() - file_pages_at_start;
	state->huge_pages = huge_pages();
	state->guest_4k = kvm_stat("pages_4k");
	state->guest_2m = kvm_stat("pages_2m");
	state->guest_1g = kvm_stat("pages_1g");
	state->host_pages = machine.shared ? host_pages() : 0;
}

struct state state_before(void)
{
	struct state state;

	read_pages(&state);
	state.host_faults = host_faults();
	return state;
}

struct state state_after(void)
{
	struct state state = { .host_faults = host_faults() };

	read_pages(&state);
	return state;
}

struct state state_change(struct state from, struct state to)
{
	return (struct state) {
		.file_pages = to.file_pages - from.file_pages,
		.huge_pages = to.huge_pages - from.huge_pages,
		.guest_4k = to.guest_4k - from.guest_4k,
		.guest_2m = to.guest_2m - from.guest_2m,
		.guest_1g = to.guest_1g - from.guest_1g,
		.host_pages = to.host_pages - from.host_pages,
		.host_faults = to.host_faults - from.host_faults,
	};
}
