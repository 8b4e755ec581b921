// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is the clock what the figures take it for?  It has to tick once for each
 * instruction, and the kernel must not clear pages by an instruction that
 * counts once for each byte.
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

static void check_cpu(void)
{
	char line[4096];
	FILE *file = fopen("/proc/cpuinfo", "r");

	if (!file)
		die("/proc/cpuinfo: %m");
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "flags", 5))
			continue;
		refuse_flag(line, " erms");
		refuse_flag(line, " fsrm");
		refuse_flag(line, " rdrand");
		refuse_flag(line, " rdseed");
	}
	fclose(file);
}

int main(void)
{
	check_clock();
	check_cpu();
	printf("@clock instructions\n");
	return 0;
}
