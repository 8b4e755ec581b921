// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is the clock what the figures take it for?  It has to tick once for each
 * instruction.  An instruction that repeats counts each time, so that clearing a
 * page by bytes counts 4096, and by words of 8 bytes, as machines without erms
 * do, 512.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"

enum { LOOPS = 100000, TRIES = 5 };

/* Two instructions each time around. */
static uint64_t time_loop(uint64_t loops)
{
	uint64_t start = instructions();

	asm volatile("1: dec %0\n jnz 1b" : "+r" (loops) : : "cc");
	return instructions() - start;
}

/* Some try is not interrupted. */
static uint64_t least_time(uint64_t loops)
{
	uint64_t least = -1, time;

	for (int i = 0; i < TRIES; i++) {
		time = time_loop(loops);
		least = time < least ? time : least;
	}
	return least;
}

static void check_clock(void)
{
	uint64_t ticks = least_time(2 * LOOPS) - least_time(LOOPS);

	if (ticks != 2 * LOOPS)
		die("%d instructions take %lu ticks of the clock", 2 * LOOPS, ticks);
}

static void refuse_flag(const char *flags, const char *flag)
{
	if (strstr(flags, flag))
		die("the CPU has%s, with which figures depend on more than the code", flag);
}

static void check_clearing(const char *flags, const char *clears)
{
	const char *by = strstr(flags, " erms") ? "bytes" : "words";

	if (strcmp(by, clears))
		die("the machine clears pages by %s and should by %s", by, clears);
}

static void check_cpu(const char *clears)
{
	char line[4096];
	FILE *file = fopen("/proc/cpuinfo", "r");

	if (!file)
		die("/proc/cpuinfo: %m");
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "flags", 5))
			continue;
		check_clearing(line, clears);
		refuse_flag(line, " fsrm");
		refuse_flag(line, " rdrand");
		refuse_flag(line, " rdseed");
	}
	fclose(file);
}

int main(int argc, char **argv)
{
	check_clock();
	check_cpu(argc > 1 ? argv[1] : "");
	printf("@clock instructions\n");
	return 0;
}
