// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tracepoints: every folio that enters or leaves a guest_memfd is reported,
 * with the place it has there.
 */
#include "guestmem_trace.h"
#include "kvm_test_harness.h"

#define NR_PAGES	8

struct folio_event {
	unsigned long ino;
	unsigned long index;
	unsigned int order;
	unsigned long pfn;
	char allocator[32];
};

static bool parse_event(const char *line, const char *name, struct folio_event *event)
{
	const char *start = strstr(line, name);

	return start && sscanf(start + strlen(name),
			       ": ino=%lu allocator=%31s index=%lu order=%u pfn=0x%lx",
			       &event->ino, event->allocator, &event->index,
			       &event->order, &event->pfn) == 5;
}

/* Reads the pfns of the events @name of a file: at most one for each page. */
static void read_events(const char *name, unsigned long ino,
			unsigned long pfn[NR_PAGES])
{
	struct folio_event event;
	char line[512];
	FILE *trace;

	memset(pfn, 0, NR_PAGES * sizeof(*pfn));
	trace = fopen(INSTANCE "/trace", "r");
	TEST_ASSERT(trace, __KVM_SYSCALL_ERROR("fopen()", -1));

	while (fgets(line, sizeof(line), trace)) {
		if (!parse_event(line, name, &event) || event.ino != ino)
			continue;

		TEST_ASSERT(!strcmp(event.allocator, "page4k") && !event.order,
			    "unexpected folio: %s", line);
		TEST_ASSERT(event.index < NR_PAGES && !pfn[event.index],
			    "%s of the wrong page, or twice: %s", name, line);
		pfn[event.index] = event.pfn;
	}
	fclose(trace);
}

static void expect_events(const unsigned long pfn[NR_PAGES], u64 first, u64 nr,
			  const char *name)
{
	for (u64 i = 0; i < NR_PAGES; i++)
		TEST_ASSERT(!!pfn[i] == (i >= first && i < first + nr),
			    "%s of page %lu is %s", name, i,
			    pfn[i] ? "unexpected" : "missing");
}

FIXTURE(guestmem_trace) {
	struct kvm_vm *vm;
	unsigned long ino;
	int fd;
};

FIXTURE_SETUP(guestmem_trace)
{
	if (!events_available())
		SKIP(return, "the kernel lacks the guestmem tracepoints, or tracefs");

	create_instance();
	self->vm = vm_create_barebones();
	self->fd = vm_create_guest_memfd(self->vm, NR_PAGES * getpagesize(), 0);
	self->ino = file_stat(self->fd).st_ino;
}

FIXTURE_TEARDOWN(guestmem_trace)
{
	kvm_vm_free(self->vm);
	remove_instance();
}

TEST_F(guestmem_trace, allocation)
{
	unsigned long pfn[NR_PAGES];

	allocate_pages(self->fd, 1, 4);
	/* Pages that are there already do not come again. */
	allocate_pages(self->fd, 2, 5);
	read_events("guestmem_alloc", self->ino, pfn);
	expect_events(pfn, 1, 6, "guestmem_alloc");
	kvm_close(self->fd);
}

TEST_F(guestmem_trace, punch_hole)
{
	unsigned long in[NR_PAGES], out[NR_PAGES];

	allocate_pages(self->fd, 0, NR_PAGES);
	punch_pages(self->fd, 2, 3);
	read_events("guestmem_alloc", self->ino, in);
	read_events("guestmem_free", self->ino, out);
	expect_events(out, 2, 3, "guestmem_free");
	for (int i = 2; i < 5; i++)
		TEST_ASSERT_EQ(out[i], in[i]);
	kvm_close(self->fd);
}

TEST_F(guestmem_trace, eviction)
{
	unsigned long pfn[NR_PAGES];

	allocate_pages(self->fd, 0, NR_PAGES);
	kvm_close(self->fd);
	read_events("guestmem_free", self->ino, pfn);
	expect_events(pfn, 0, NR_PAGES, "guestmem_free");
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
