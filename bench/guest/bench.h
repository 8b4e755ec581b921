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
	long file_pages;	/* in page caches */
	long guest_4k;		/* mapped into the guest, by size */
	long guest_2m;
	long guest_1g;
	long host_faults;	/* taken by this process */
};

/* Host faults are read last before, and first after, what they are counted for. */
struct state state_before(void);
struct state state_after(void);
struct state state_change(struct state from, struct state to);

/* machine.c: one VM and its memory. */
enum { MEMORY_START = 1 << 30 };

struct machine {
	int vm;
	int vcpu;
	int file;		/* guest_memfd */
	size_t pages;
};

/* The machine whose mappings state.c counts. */
extern struct machine machine;

void machine_create(unsigned long type, uint64_t flags, size_t pages);
void machine_destroy(void);
void machine_bind(void);
void machine_set_private(int private);
void machine_add_vcpu(void);
void machine_touch_all(void);
void file_allocate(void);
void file_punch(void);

/**
 * struct bench - one figure
 * @name: as in the results.
 * @setup: once, creates the machine.
 * @prepare: before each round, not measured.
 * @run: measured.
 * @finish: after each round, not measured.
 * @change: what @run does to the state.  A round that does anything else did
 *	not measure what it says.
 */
struct bench {
	const char *name;
	void (*setup)(void);
	void (*prepare)(void);
	void (*run)(void);
	void (*finish)(void);
	struct state change;
};

void bench_run(const struct bench *bench);

#endif /* BENCH_H */
