// SPDX-License-Identifier: GPL-2.0-only
/* Rounds: the first one warms up, the others are reported. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { ROUNDS = 3 };

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

static void print_state(const char *name, struct state s)
{
	printf("@state %s file_pages=%+ld", name, s.file_pages);
	printf(" guest_4k=%+ld guest_2m=%+ld guest_1g=%+ld", s.guest_4k, s.guest_2m, s.guest_1g);
	printf(" host_faults=%+ld\n", s.host_faults);
}

static void expect_state(const struct bench *bench, struct state change)
{
	if (!memcmp(&change, &bench->change, sizeof(change)))
		return;

	print_state("wanted", bench->change);
	print_state("got", change);
	die("%s has not done to the pages what it measures", bench->name);
}

/*
 * Let what earlier rounds have put off be done now (RCU callbacks, periodic
 * work), and begin at the same distance from the timer's next tick.  The time
 * costs nothing: the clock of an idle machine jumps ahead.
 */
static void settle(void)
{
	struct timespec when;

	clock_gettime(CLOCK_MONOTONIC, &when);
	when.tv_sec += 2;
	when.tv_nsec = 501 * 1000 * 1000;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

static uint64_t one_round(const struct bench *bench, struct state *change)
{
	struct state before, after;
	uint64_t start, end;

	bench->prepare();
	settle();
	before = state_before();
	start = instructions();
	bench->run();
	end = instructions();
	after = state_after();
	bench->finish();

	*change = state_change(before, after);
	return end - start;
}

void bench_run(const struct bench *bench)
{
	struct state change;
	uint64_t spent;

	bench->setup();
	one_round(bench, &change);
	for (int round = 1; round <= ROUNDS; round++) {
		spent = one_round(bench, &change);
		expect_state(bench, change);
		printf("@figure %s %zu %lu\n", bench->name, machine.pages, spent);
	}
	print_state(bench->name, change);
	machine_destroy();
}
