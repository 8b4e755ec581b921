/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading tracepoints, in an instance of tracefs of one's own.
 */
#ifndef SELFTEST_KVM_GUESTMEM_TRACE_H
#define SELFTEST_KVM_GUESTMEM_TRACE_H

#include <sys/mount.h>

#include "guestmem_util.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/guestmem_test"

static inline bool events_available(void)
{
	if (access(TRACING "/events", F_OK))
		mount("tracefs", TRACING, "tracefs", 0, NULL);

	return !access(TRACING "/events/guestmem", F_OK);
}

static inline void write_tracing(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR(path, fd));
	TEST_ASSERT(write(fd, value, strlen(value)) == strlen(value),
		    "cannot write \"%s\" to %s", value, path);
	kvm_close(fd);
}

/*
 * One that a failed test has left behind tells nobody anything. The clock is
 * a counter: those of two CPUs may differ by a tick, and the events of a
 * thread that moves from one to the other then change places.
 */
static inline void create_instance(void)
{
	rmdir(INSTANCE);
	TEST_ASSERT(!mkdir(INSTANCE, 0700), __KVM_SYSCALL_ERROR("mkdir()", -1));
	write_tracing(INSTANCE "/trace_clock", "counter");
	write_tracing(INSTANCE "/events/guestmem/enable", "1");
}

static inline void remove_instance(void)
{
	TEST_ASSERT(!rmdir(INSTANCE), __KVM_SYSCALL_ERROR("rmdir()", -1));
}

/* Those of other threads and processes are not of interest. */
static inline void trace_only_this_process(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	write_tracing(INSTANCE "/set_event_pid", pid);
}

static inline FILE *open_trace(void)
{
	FILE *trace = fopen(INSTANCE "/trace", "r");

	TEST_ASSERT(trace, __KVM_SYSCALL_ERROR("fopen()", -1));
	return trace;
}

/* Returns the part of the line behind "NAME: " of the event; NULL for comments. */
static inline const char *event_of(char *line, char *name, size_t size)
{
	/* task-pid [cpu] flags seconds.micros: name: fields */
	char *time = *line == '#' ? NULL : strstr(line, ": ");
	char *end = time ? strchr(time + 2, ':') : NULL;

	if (!end)
		return NULL;

	snprintf(name, size, "%.*s", (int)(end - time - 2), time + 2);
	return end + 2;
}

#define MAX_KINDS	8

/*
 * Nothing may be allocated between guestmem_change_frozen and
 * guestmem_change_committed, where nothing may fail.  What checks the kernel
 * allocates for itself there at times, and so does an interrupt: changes of
 * @nr_kinds follow each other again and again, and one that allocates does so
 * each time.
 */
struct allocations {
	u64 nr_kinds;
	u64 inside;
	u64 fewest[MAX_KINDS];
	u64 outside;
	u64 changes;
	char last[512];
};

static inline void end_change(struct allocations *count)
{
	u64 *fewest = &count->fewest[count->changes % count->nr_kinds];

	if (count->changes < count->nr_kinds || count->inside < *fewest)
		*fewest = count->inside;
	count->inside = 0;
	count->changes++;
}

static inline void count_event(struct allocations *count, const char *name,
			       const char *line, bool *inside)
{
	if (!strcmp(name, "guestmem_change_frozen")) {
		*inside = true;
	} else if (!strcmp(name, "guestmem_change_committed")) {
		*inside = false;
		end_change(count);
	} else if (!strncmp(name, "guestmem_", 9)) {
		return;
	} else if (!*inside) {
		count->outside++;
	} else {
		count->inside++;
		snprintf(count->last, sizeof(count->last), "%s", line);
	}
}

static inline struct allocations count_allocations(u64 nr_kinds)
{
	struct allocations count = { .nr_kinds = nr_kinds };
	FILE *trace = open_trace();
	char line[512], name[32];
	bool inside = false;

	while (fgets(line, sizeof(line), trace)) {
		if (event_of(line, name, sizeof(name)))
			count_event(&count, name, line, &inside);
	}
	fclose(trace);
	return count;
}

static inline void enable_allocation_events(void)
{
	static const char * const events[] = { "kmalloc", "kmem_cache_alloc", "mm_page_alloc" };
	char path[128];

	trace_only_this_process();
	write_tracing(INSTANCE "/buffer_size_kb", "4096");
	for (int i = 0; i < ARRAY_SIZE(events); i++) {
		snprintf(path, sizeof(path), INSTANCE "/events/kmem/%s/enable", events[i]);
		write_tracing(path, "1");
	}
}

static inline void expect_no_allocation_inside(u64 nr_kinds, u64 rounds)
{
	struct allocations count;

	TEST_ASSERT(nr_kinds <= MAX_KINDS, "room for %d kinds of changes only", MAX_KINDS);
	write_tracing(INSTANCE "/events/enable", "0");
	count = count_allocations(nr_kinds);
	pr_info("# %lu conversions, %lu allocations before and after the part that cannot fail\n",
		count.changes, count.outside);
	if (*count.last)
		pr_info("# the last one inside that part: %s", count.last);
	TEST_ASSERT_EQ(count.changes, nr_kinds * rounds);
	TEST_ASSERT(count.outside >= count.changes,
		    "%lu allocations: what a conversion reserves was not seen", count.outside);
	for (u64 i = 0; i < nr_kinds; i++)
		TEST_ASSERT(!count.fewest[i], "each change of kind %lu allocates after its freeze",
			    i);
}

#endif /* SELFTEST_KVM_GUESTMEM_TRACE_H */
