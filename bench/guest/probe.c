// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long a function of the kernel takes: two probes read the clock as it begins
 * and as it ends.  What they cost by themselves is measured on a function that does
 * nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define TRACING	"/sys/kernel/tracing/"

/* What a system call that has never been there does: return an error. */
#define NOTHING	"__x64_sys_ni_syscall"

enum { CALLS = 9 };

static void say(const char *file, int flags, const char *text)
{
	int fd = open(file, O_WRONLY | flags);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("%s: %m", file);
	close(fd);
}

static void mount_tracing(void)
{
	if (!access(TRACING "trace", F_OK))
		return;
	if (mount("tracefs", TRACING, "tracefs", 0, NULL))
		die("tracefs: %m");
	say(TRACING "trace_clock", 0, "x86-tsc");
}

void probe_clear(void)
{
	say(TRACING "trace", O_TRUNC, "");
}

static void place(const char *function)
{
	char text[128];

	mount_tracing();
	snprintf(text, sizeof(text), "p:bench/begin %s\nr:bench/end %s\n", function, function);
	say(TRACING "kprobe_events", O_APPEND, text);
	say(TRACING "events/bench/enable", 0, "1");
}

void probe_end(void)
{
	say(TRACING "events/bench/enable", 0, "0");
	say(TRACING "kprobe_events", O_TRUNC, "");
}

/* Lines end in «TIME: EVENT: (PLACE)». */
static uint64_t time_of(const char *line, const char *event)
{
	const char *found = strstr(line, event);

	if (!found)
		return 0;
	while (found > line && found[-1] != ' ')
		found--;
	return strtoull(found, NULL, 10);
}

/* With what the probes take between their two looks at the clock. */
static struct probed read_calls(void)
{
	FILE *trace = fopen(TRACING "trace", "r");
	struct probed probed = {};
	uint64_t begin = 0, end;
	char line[512];

	if (!trace)
		die(TRACING "trace: %m");
	while (fgets(line, sizeof(line), trace)) {
		begin = time_of(line, ": begin: (") ?: begin;
		end = time_of(line, ": end: (");
		if (!end)
			continue;
		probed.inside += end - begin;
		probed.calls++;
	}
	fclose(trace);
	return probed;
}

/* What the probes take of each call: between their two looks at the clock, and in all. */
static uint64_t cost_inside, cost;

static int ascending(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

/* The median: some calls are interrupted. */
static uint64_t call_nothing(void)
{
	uint64_t spent[CALLS], start;

	for (int i = 0; i < CALLS; i++) {
		start = instructions();
		syscall(SYS_tuxcall);
		spent[i] = instructions() - start;
	}
	qsort(spent, CALLS, sizeof(spent[0]), ascending);
	return spent[CALLS / 2];
}

static void calibrate(void)
{
	uint64_t bare = call_nothing();
	struct probed probed;

	place(NOTHING);
	call_nothing();
	settle();
	probe_clear();
	cost = call_nothing() - bare;
	probed = read_calls();
	probe_end();
	if (probed.calls != CALLS)
		die("%zu calls of " NOTHING " in %d", probed.calls, CALLS);
	cost_inside = probed.inside / CALLS;
}

void probe_begin(const char *function)
{
	if (!cost)
		calibrate();
	place(function);
}

struct probed probe_read(void)
{
	struct probed probed = read_calls();

	probed.inside -= probed.calls * cost_inside;
	probed.overhead = probed.calls * cost;
	return probed;
}
