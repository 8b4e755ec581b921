// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a conversion reports, and that it allocates nothing where it must not
 * fail any more: between guestmem_change_frozen and guestmem_change_committed.
 */
#include <sys/uio.h>

#include "guestmem_convert.h"
#include "guestmem_trace.h"
#include "kvm_test_harness.h"

#define NR_PAGES	32
#define NR_ROUNDS	200
#define MAX_RUNS	131072
#define LONG_MSEC	400
/* Away and back again is two, and that once: when KVM lets go of its lock in the end. */
#define ENOUGH		3

struct change_event {
	char name[32];
	char target[16];
	unsigned long ino;
	unsigned long start;
	unsigned long end;
	int result;
};

FIXTURE(guestmem_convert_trace) {
	struct convert_bed bed;
};

FIXTURE_SETUP(guestmem_convert_trace)
{
	if (!events_available())
		SKIP(return, "the kernel lacks the guestmem tracepoints, or tracefs");

	self->bed = create_convert_bed(NR_PAGES, GUESTMEM_SHARED);
	create_instance();
	trace_only_this_process();
}

FIXTURE_TEARDOWN(guestmem_convert_trace)
{
	remove_instance();
	free_convert_bed(&self->bed);
}

static bool parse_change(char *line, struct change_event *event)
{
	const char *fields = event_of(line, event->name, sizeof(event->name));
	int nr;

	if (!fields || strncmp(event->name, "guestmem_change_", 16))
		return false;

	event->result = 0;
	nr = sscanf(fields, "ino=%lu target=%15s range=%lu-%lu result=%d", &event->ino,
		    event->target, &event->start, &event->end, &event->result);
	return nr == (strcmp(event->name, "guestmem_change_end") ? 4 : 5);
}

static void expect_changes(const struct change_event *want, int nr)
{
	struct change_event got;
	FILE *trace = open_trace();
	char line[512];
	int i = 0;

	while (fgets(line, sizeof(line), trace)) {
		if (!parse_change(line, &got))
			continue;

		TEST_ASSERT(i < nr && !strcmp(got.name, want[i].name) &&
			    !strcmp(got.target, want[i].target) && got.ino == want[i].ino &&
			    got.start == want[i].start && got.end == want[i].end &&
			    got.result == want[i].result, "event %d is unexpected: %s", i, line);
		i++;
	}
	fclose(trace);
	TEST_ASSERT(i == nr, "%d events, expected %d", i, nr);
}

TEST_F(guestmem_convert_trace, each_phase_tells_its_range_and_result)
{
	unsigned long ino = file_stat(self->bed.fd).st_ino;
	struct change_event want[] = {
		{ "guestmem_change_begin", "private", ino, 0, 8, 0 },
		{ "guestmem_change_frozen", "private", ino, 0, 8, 0 },
		{ "guestmem_change_unmapped", "private", ino, 0, 8, 0 },
		{ "guestmem_change_committed", "private", ino, 0, 8, 0 },
		{ "guestmem_change_end", "private", ino, 0, 8, 0 },
		/* What is shared already is cut off at both ends. */
		{ "guestmem_change_begin", "shared", ino, 4, 16, 0 },
		{ "guestmem_change_frozen", "shared", ino, 4, 8, 0 },
		{ "guestmem_change_unmapped", "shared", ino, 4, 8, 0 },
		{ "guestmem_change_committed", "shared", ino, 4, 8, 0 },
		{ "guestmem_change_end", "shared", ino, 4, 16, 0 },
		/* Nothing to do. */
		{ "guestmem_change_begin", "shared", ino, 4, 16, 0 },
		{ "guestmem_change_end", "shared", ino, 4, 16, 0 },
	};

	make_private(self->bed.fd, 0, 8);
	make_shared(self->bed.fd, 4, 12);
	make_shared(self->bed.fd, 4, 12);
	expect_changes(want, ARRAY_SIZE(want));
}

/* The one who wants to know why a VMM gets EAGAIN finds the page and its references. */
TEST_F(guestmem_convert_trace, refusal_tells_page_and_references)
{
	struct convert_bed *bed = &self->bed;
	struct iovec iov = { host_page(bed, 5), getpagesize() };
	char line[512], want[64];
	int fds[2], found = 0;
	FILE *trace;

	TEST_ASSERT(!pipe(fds), __KVM_SYSCALL_ERROR("pipe()", -1));
	TEST_ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), getpagesize());
	expect_refused_at(bed->fd, 0, 8, true, EAGAIN, 5);

	snprintf(want, sizeof(want), "guestmem_refused: ino=%lu target=private index=5 ",
		 file_stat(bed->fd).st_ino);
	trace = open_trace();
	while (fgets(line, sizeof(line), trace))
		found += strstr(line, want) && strstr(line, "refs=2 expected=1");
	fclose(trace);
	TEST_ASSERT(found == 1, "%d events of a page with one reference too many", found);
	kvm_close(fds[0]);
	kvm_close(fds[1]);
}

/* Borders appear, move, merge and vanish; the guest has mapped all, the host what it may. */
TEST_F_TIMEOUT(guestmem_convert_trace, nothing_is_allocated_after_the_freeze, 120)
{
	struct convert_bed *bed = &self->bed;

	host_fills(bed, 0, NR_PAGES, 1);
	guest_checks(bed, 0, NR_PAGES, 1);
	enable_allocation_events();
	for (int i = 0; i < NR_ROUNDS; i++) {
		make_private(bed->fd, 4, 8);
		make_private(bed->fd, 20, 4);
		make_private(bed->fd, 10, 12);
		make_shared(bed->fd, 8, 8);
		make_private(bed->fd, 0, NR_PAGES);
		make_shared(bed->fd, 0, NR_PAGES);
	}
	expect_no_allocation_inside(6, NR_ROUNDS);
}

static void *run_beside(void *arg)
{
	bool *stop = arg;

	while (!READ_ONCE(*stop))
		;
	return NULL;
}

/* Events @name from the freeze of a change until no guest maps its pages. */
static int count_while_unmapped(const char *name)
{
	FILE *trace = open_trace();
	char line[512], event[32];
	bool inside = false;
	int found = 0;

	while (fgets(line, sizeof(line), trace)) {
		if (!event_of(line, event, sizeof(event)))
			continue;

		if (!strcmp(event, "guestmem_change_frozen"))
			inside = true;
		else if (!strcmp(event, "guestmem_change_unmapped"))
			inside = false;
		else
			found += inside && !strcmp(event, name);
	}
	fclose(trace);
	return found;
}

/* A change of @nr_runs ranges, on a CPU that somebody else wants. Returns how long it took. */
static u64 make_private_by_runs(struct convert_bed *bed, u64 nr_runs, int cpu)
{
	struct timespec start;
	pthread_t beside;
	bool stop = false;

	make_shared(bed->fd, 0, 2 * nr_runs);
	for (u64 page = 0; page < 2 * nr_runs; page += 2)
		make_private(bed->fd, page, 1);

	kvm_pthread_create(&beside, NULL, run_beside, &stop);
	pin_task_to_cpu(beside, cpu);
	write_tracing(INSTANCE "/trace", "");
	write_tracing(INSTANCE "/events/sched/sched_switch/enable", "1");
	clock_gettime(CLOCK_MONOTONIC, &start);
	make_private(bed->fd, 0, 2 * nr_runs);
	start = timespec_elapsed(start);
	write_tracing(INSTANCE "/events/sched/sched_switch/enable", "0");
	WRITE_ONCE(stop, true);
	kvm_pthread_join(beside, NULL);
	return timespec_to_ns(start) / 1000000;
}

/* KVM's lock keeps others off the CPU, and each page that is unmapped is a range of its own. */
TEST_F_TIMEOUT(guestmem_convert_trace, others_run_while_many_ranges_are_unmapped, 120)
{
	struct convert_bed bed = create_convert_bed(2 * MAX_RUNS, GUESTMEM_SHARED);
	int cpu = pin_self_to_any_cpu(), found;
	u64 runs = 512, msec;

	/* With a page that the guest has mapped there is something to look through. */
	guest_fills(&bed, 1, 1, 1);
	do {
		msec = make_private_by_runs(&bed, runs, cpu);
		found = count_while_unmapped("sched_switch");
		pr_info("# %lu ranges in %lu ms, %d switches\n", runs, msec, found);
		runs *= 2;
	} while (found < ENOUGH && msec < LONG_MSEC && runs <= MAX_RUNS);

	free_convert_bed(&bed);
	if (found < ENOUGH && msec < LONG_MSEC)
		SKIP(return, "%d ranges take %lu ms, and nobody else had to wait", MAX_RUNS, msec);
	TEST_ASSERT(found >= ENOUGH, "%d switches in %lu ms, expected %d", found, msec, ENOUGH);
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
