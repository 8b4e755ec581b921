// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that someone in the host holds cannot become private: the conversion
 * names the first of them and changes nothing.  Three kinds of holders.
 */
#include "guestmem_convert.h"
#include "guestmem_holder.h"
#include "kvm_test_harness.h"

#define NR_PAGES	32

FIXTURE(guestmem_convert_pin) {
	struct convert_bed bed;
	struct holder holder;
	bool states[NR_PAGES];
};

FIXTURE_VARIANT(guestmem_convert_pin) {
	struct holder holder;
};

FIXTURE_VARIANT_ADD(guestmem_convert_pin, gup_test) {
	.holder = HOLDER_GUP_TEST,
};

FIXTURE_VARIANT_ADD(guestmem_convert_pin, vmsplice) {
	.holder = HOLDER_VMSPLICE,
};

FIXTURE_VARIANT_ADD(guestmem_convert_pin, io_uring) {
	.holder = HOLDER_IO_URING,
};

FIXTURE_SETUP(guestmem_convert_pin)
{
	const char *missing;

	self->holder = variant->holder;
	missing = self->holder.open(&self->holder);
	if (missing)
		SKIP(return, "%s", missing);

	self->bed = create_convert_bed(NR_PAGES, GUESTMEM_SHARED);
	host_fills(&self->bed, 0, NR_PAGES, 1);
	guest_checks(&self->bed, 0, NR_PAGES, 1);
}

FIXTURE_TEARDOWN(guestmem_convert_pin)
{
	holder_close(&self->holder);
	free_convert_bed(&self->bed);
}

static void hold_pages(struct holder *holder, struct convert_bed *bed, u64 first, u64 nr)
{
	holder->hold(holder, host_page(bed, first), nr * getpagesize());
}

/* Nothing but host mappings may differ; and those come back by themselves. */
static void expect_refused(struct convert_bed *bed, const bool *states, u64 first, u64 nr,
			   u64 page)
{
	u64 mapped = vm_get_stat(bed->vm, pages_4k);

	expect_refused_at(bed->fd, first, nr, true, EAGAIN, page);
	expect_states(bed->fd, states, NR_PAGES, "after a refusal");
	TEST_ASSERT(vm_get_stat(bed->vm, pages_4k) == mapped,
		    "refused, but the guest lost %lu pages",
		    mapped - vm_get_stat(bed->vm, pages_4k));
	expect_pages(bed->fd, NR_PAGES, "after a refusal");
}

TEST_F(guestmem_convert_pin, held_page_is_named_and_nothing_changes)
{
	struct convert_bed *bed = &self->bed;

	hold_pages(&self->holder, bed, 13, 1);
	expect_refused(bed, self->states, 0, NR_PAGES, 13);
	expect_refused(bed, self->states, 13, 1, 13);
	expect_refused(bed, self->states, 13, 5, 13);
	expect_refused(bed, self->states, 10, 4, 13);
	host_checks(bed, 0, NR_PAGES, 1, "after refusals");
	guest_checks(bed, 0, NR_PAGES, 1);
	self->holder.release(&self->holder);
}

TEST_F(guestmem_convert_pin, first_of_several_is_named)
{
	struct convert_bed *bed = &self->bed;

	hold_pages(&self->holder, bed, 5, 4);
	expect_refused(bed, self->states, 0, NR_PAGES, 5);
	expect_refused(bed, self->states, 7, 8, 7);
	self->holder.release(&self->holder);
}

TEST_F(guestmem_convert_pin, held_pages_outside_the_range_do_not_matter)
{
	struct convert_bed *bed = &self->bed;

	hold_pages(&self->holder, bed, 8, 8);
	make_private(bed->fd, 0, 8);
	make_private(bed->fd, 16, 16);
	memset(self->states, true, NR_PAGES);
	memset(self->states + 8, false, 8);
	expect_states(bed->fd, self->states, NR_PAGES, "beside held pages");
	expect_refused(bed, self->states, 0, NR_PAGES, 8);
	self->holder.release(&self->holder);
}

/* Sub-ranges that are private already are not looked at, let alone touched. */
TEST_F(guestmem_convert_pin, refusal_in_a_mixed_range_changes_nothing)
{
	struct convert_bed *bed = &self->bed;

	make_private(bed->fd, 4, 4);
	make_private(bed->fd, 20, 4);
	memset(self->states + 4, true, 4);
	memset(self->states + 20, true, 4);
	hold_pages(&self->holder, bed, 30, 1);
	expect_refused(bed, self->states, 0, NR_PAGES, 30);
	guest_checks(bed, 0, NR_PAGES, 1);
	self->holder.release(&self->holder);
}

TEST_F(guestmem_convert_pin, works_once_the_page_is_let_go)
{
	struct convert_bed *bed = &self->bed;

	hold_pages(&self->holder, bed, 0, NR_PAGES / 2);
	expect_refused(bed, self->states, 0, NR_PAGES, 0);
	self->holder.release(&self->holder);
	make_private(bed->fd, 0, NR_PAGES);
	expect_host_refused(bed->mem);
	guest_checks(bed, 0, NR_PAGES, 1);
}

TEST_F(guestmem_convert_pin, shared_stays_shared_with_held_pages)
{
	struct convert_bed *bed = &self->bed;

	hold_pages(&self->holder, bed, 0, NR_PAGES / 2);
	make_shared(bed->fd, 0, NR_PAGES);
	expect_states(bed->fd, self->states, NR_PAGES, "nothing had to change");
	self->holder.release(&self->holder);
}

/* The holder keeps the old page; the file has another one, which nobody holds. */
TEST_F(guestmem_convert_pin, held_page_that_was_punched_does_not_matter)
{
	struct convert_bed *bed = &self->bed;

	hold_pages(&self->holder, bed, 9, 1);
	punch_pages(bed->fd, 9, 1);
	make_private(bed->fd, 0, NR_PAGES);
	guest_checks(bed, 9, 1, 0);
	self->holder.release(&self->holder);
}

/* A private page cannot be got hold of in the first place. */
TEST_F(guestmem_convert_pin, private_page_cannot_be_held)
{
	struct convert_bed *bed = &self->bed;
	struct iovec iov = { host_page(bed, 3), getpagesize() };
	int fds[2];

	make_private(bed->fd, 3, 1);
	TEST_ASSERT(!pipe(fds), __KVM_SYSCALL_ERROR("pipe()", -1));
	TEST_ASSERT(vmsplice(fds[1], &iov, 1, 0) == -1 && errno == EFAULT,
		    "vmsplice() of a private page: errno %d, expected EFAULT", errno);
	kvm_close(fds[0]);
	kvm_close(fds[1]);

	hold_pages(&self->holder, bed, 4, 1);
	expect_refused_at(bed->fd, 0, NR_PAGES, true, EAGAIN, 4);
	self->holder.release(&self->holder);
	make_shared(bed->fd, 0, NR_PAGES);
	host_checks(bed, 0, NR_PAGES, 1, "after all");
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
