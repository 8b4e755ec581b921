/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmark's programs share.  They run as root in a machine that
 * counts instructions, and report on standard output in lines that begin
 * with @; see ../report.py.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#define PAGE	4096UL

/* In one machine; 1 GiB. */
enum { MOST_PAGES = 262144 };

/* That are reported, after one that warms up. */
enum { ROUNDS = 3 };

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/*
 * The time stamp counter ticks once for each instruction (clock.c makes sure
 * of it), whatever the kernel has chosen for its own clock.
 */
static inline uint64_t instructions(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a" (low), "=d" (high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* state.c: how many pages are where. */
struct state {
	long file_pages;	/* in page caches, and were not when the machine was created */
	long huge_pages;	/* of 4 KiB, in huge pages that are in use */
	long guest_4k;		/* mapped into the guest, by size */
	long guest_2m;
	long guest_1g;
	long host_pages;	/* of machine.shared, mapped by this process */
	long host_faults;	/* taken by this process */
};

void state_begin(void);

/* Host faults are read last before, and first after, what they are counted for. */
struct state state_before(void);
struct state state_after(void);
struct state state_change(struct state from, struct state to);

/* Stage-2 faults that KVM has served so far. */
uint64_t state_guest_faults(void);

/* Pages that hold what the kernel has to know of others. */
struct overhead {
	long vmemmap_pages;
	long slab_pages;	/* that can be reclaimed: nodes of page caches */
};

struct overhead state_overhead(void);

/* Give back the memory of nodes that nobody uses. */
void state_shrink_nodes(void);

/* machine.c: one VM and its memory. */
enum { MEMORY_START = 1 << 30 };

/* What a guest that runs has mapped besides its memory. */
enum { OWN_PAGES = 3 };

struct machine {
	int vm;
	int vcpu;
	int file;		/* guest_memfd */
	size_t pages;
	volatile char *shared;	/* where the host finds what is shared */
};

/* The machine whose pages state.c counts. */
extern struct machine machine;

void machine_create(unsigned long type, uint64_t flags, size_t pages);
void machine_create_huge(uint64_t flags, unsigned int page_size_log2, size_t pages);
void machine_create_around(int file, size_t pages);
void machine_destroy(void);
void machine_map_shared(int file);
void machine_map_shared_aligned(int file);
void machine_bind(void);
void machine_bind_shared(void);
void machine_set_private(int private, size_t offset, size_t size);
void machine_add_vcpu(void);
void machine_touch(size_t stride);
void machine_touch_all(void);
void machine_prefault(size_t offset, size_t size);
void file_allocate(int file, size_t offset, size_t size);
void file_punch(int file, size_t offset, size_t size);

int checked_ioctl(int fd, unsigned long request, const char *name, void *arg);

#define do_ioctl(fd, request, arg) checked_ioctl(fd, request, #request, arg)

/* probe.c: how long a function of the kernel takes. */

/**
 * struct probed - calls of a function since probe_begin()
 * @calls: how many.
 * @inside: instructions spent in it.
 * @overhead: instructions that only the probes have caused.
 */
struct probed {
	size_t calls;
	uint64_t inside;
	uint64_t overhead;
};

void probe_begin(const char *function);
void probe_clear(void);
struct probed probe_read(void);
void probe_end(void);

/**
 * struct bench - one figure
 * @name: as in the results.
 * @setup: once, creates the machine.
 * @prepare: before each round, not measured.
 * @run: measured.
 * @finish: after each round, not measured.
 * @count: pages or requests that the instructions of @run are divided among.
 * @apart: name of another figure: what @run spends in the function that is
 *	probed, once for each of @count, and is not in the first one.
 * @from: state that @run begins with.
 * @change: what @run does to the state.  A round that does anything else did
 *	not measure what it says.
 */
struct bench {
	const char *name;
	void (*setup)(void);
	void (*prepare)(void);
	void (*run)(void);
	void (*finish)(void);
	size_t count;
	const char *apart;
	struct state from;
	struct state change;
};

void bench_run(const struct bench *bench);
void settle(void);

#endif /* BENCH_H */
