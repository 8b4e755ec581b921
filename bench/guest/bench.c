// SPDX-License-Identifier: GPL-2.0-only
/* Rounds: round 0 warms up, the others are reported. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

void die(const char *format, ...)
{
	va_list args;

	printf("@error ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

static void print_state(const char *name, struct state from, struct state change)
{
	printf("@state %s file_pages=%ld%+ld", name, from.file_pages, change.file_pages);
	printf(" huge_pages=%ld%+ld", from.huge_pages, change.huge_pages);
	printf(" guest_4k=%ld%+ld", from.guest_4k, change.guest_4k);
	printf(" guest_2m=%ld%+ld", from.guest_2m, change.guest_2m);
	printf(" guest_1g=%ld%+ld", from.guest_1g, change.guest_1g);
	printf(" host_pages=%ld%+ld", from.host_pages, change.host_pages);
	printf(" host_faults=%+ld\n", change.host_faults);
}

static int same(struct state one, struct state other)
{
	return !memcmp(&one, &other, sizeof(one));
}

/* The round that warms up may also map the guest's own pages. */
static void expect_state(const struct bench *bench, int round, struct state from,
			 struct state change)
{
	if (!round || (same(from, bench->from) && same(change, bench->change)))
		return;

	print_state("wanted", bench->from, bench->change);
	print_state("got", from, change);
	die("%s has not done to the pages what it measures", bench->name);
}

/*
 * Let what earlier rounds have put off be done now (RCU callbacks, periodic
 * work), and begin at the same distance from the timer's next tick.  The time
 * costs nothing: the clock of an idle machine jumps ahead.
 */
void settle(void)
{
	struct timespec when;

	clock_gettime(CLOCK_MONOTONIC, &when);
	when.tv_sec += 2;
	when.tv_nsec = 501 * 1000 * 1000;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

/* What a round has taken, and what it has taken in the function that is probed. */
struct spent {
	uint64_t own;
	uint64_t apart;
};

/* Takes what is counted apart out of @spent. */
static struct spent split(const struct bench *bench, uint64_t spent)
{
	struct probed probed;

	if (!bench->apart)
		return (struct spent) { .own = spent };

	probed = probe_read();
	if (probed.calls != bench->count)
		die("%s has %zu calls in %zu", bench->name, probed.calls, bench->count);

	return (struct spent) {
		.own = spent - probed.inside - probed.overhead,
		.apart = probed.inside,
	};
}

/* Sees that the round was what it is said to be. */
static struct spent one_round(const struct bench *bench, int round)
{
	struct state before, after;
	struct spent spent;
	uint64_t start, end;

	bench->prepare();
	if (bench->apart)
		probe_clear();
	settle();
	before = state_before();
	start = instructions();
	bench->run();
	end = instructions();
	after = state_after();
	spent = split(bench, end - start);
	after = state_change(before, after);
	before.host_faults = 0;
	expect_state(bench, round, before, after);
	bench->finish();
	return spent;
}

static void report(const struct bench *bench, struct spent spent)
{
	printf("@figure %s %zu %lu\n", bench->name, bench->count, spent.own);
	if (bench->apart)
		printf("@figure %s %zu %lu\n", bench->apart, bench->count, spent.apart);
}

void bench_run(const struct bench *bench)
{
	struct spent spent;

	bench->setup();
	for (int round = 0; round <= ROUNDS; round++) {
		spent = one_round(bench, round);
		if (round)
			report(bench, spent);
	}
	print_state(bench->name, bench->from, bench->change);
	machine_destroy();
}
