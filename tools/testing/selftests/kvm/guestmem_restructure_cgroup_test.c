// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks in pieces and the cgroup that they are charged to: the charge is that of a
 * whole block, and the cgroup can go at any time.
 */
#include "guestmem_cgroup.h"
#include "guestmem_convert.h"
#include "guestmem_holder.h"
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define SHARED_PAGE	7

FIXTURE(guestmem_restructure_cgroup) {
	struct group group;
	struct holder holder;
	struct pool before;
	struct kvm_vm *vm;
	u64 dying;
	u64 unit;
	u64 *mem;
	int fd;
};

FIXTURE_VARIANT(guestmem_restructure_cgroup) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_cgroup, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_cgroup, 1G) {
	.log2 = LOG2_1G,
};

static u64 *shared_word(u64 *mem)
{
	return mem + SHARED_PAGE * SZ_4K / sizeof(*mem);
}

/* Two blocks, one of them with a page that the host has mapped. */
FIXTURE_SETUP(guestmem_restructure_cgroup)
{
	const char *why = why_no_pool(1ull << variant->log2, 2) ?: why_no_cgroup();

	self->holder = (struct holder)HOLDER_VMSPLICE;
	why = why ?: self->holder.open(&self->holder);
	if (why)
		SKIP(return, "%s", why);

	self->unit = 1ull << variant->log2;
	self->before = read_pool(self->unit);
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->dying = dying_groups();
	enter_group(&self->group, self->unit);
	self->fd = create_huge_file(self->vm, 2 * self->unit, GUEST_MEMFD_FLAG_MMAP,
				    variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 2);
	self->mem = map_file(self->fd, 2 * self->unit);
	make_shared(self->fd, SHARED_PAGE, 1);
	WRITE_ONCE(*shared_word(self->mem), 1);
	expect_folios(self->fd, 0, 512);
}

static void close_file(int *fd, u64 *mem, u64 size)
{
	if (*fd < 0)
		return;
	kvm_munmap(mem, size);
	kvm_close(*fd);
	*fd = -1;
}

/* That of a reservation goes a moment after the last page. */
static void expect_charges_gone(struct group *g)
{
	int tries = 0;

	while (read_charge(g->unit, "rsvd.current") && ++tries < 500)
		usleep(10000);
	expect_charges(g, 0, 0, "in the end");
}

FIXTURE_TEARDOWN(guestmem_restructure_cgroup)
{
	close_file(&self->fd, self->mem, 2 * self->unit);
	holder_close(&self->holder);
	expect_pool_back(self->unit, &self->before, "in the end");
	if (!access(GROUP, F_OK)) {
		expect_charges_gone(&self->group);
		leave_group(&self->group);
		remove_group();
	}
	expect_groups_dead(self->dying);
	memcg_counts_hugetlb(false);
	kvm_vm_free(self->vm);
}

TEST_F_TIMEOUT(guestmem_restructure_cgroup, charge_is_that_of_whole_blocks, 240)
{
	struct group *g = &self->group;

	expect_charges(g, 2, 2, "with one block in pieces");
	make_private(self->fd, SHARED_PAGE, 1);
	expect_charges(g, 2, 2, "with both blocks whole again");
	make_shared(self->fd, SHARED_PAGE, 1);
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_charges(g, 2, 1, "with a hole where it was in pieces");
}

TEST_F_TIMEOUT(guestmem_restructure_cgroup, cgroup_goes_while_a_block_is_split, 240)
{
	leave_group(&self->group);
	remove_group();

	TEST_ASSERT_EQ(*shared_word(self->mem), 1);
	make_private(self->fd, SHARED_PAGE, 1);
	expect_folios(self->fd, 0, 0);
	make_shared(self->fd, SHARED_PAGE, 1);
	TEST_ASSERT_EQ(*shared_word(self->mem), 1);
	expect_folios(self->fd, 0, 512);
}

TEST_F_TIMEOUT(guestmem_restructure_cgroup, cgroup_goes_while_a_block_is_parked, 240)
{
	struct group *g = &self->group;

	self->holder.hold(&self->holder, shared_word(self->mem), SZ_4K);
	close_file(&self->fd, self->mem, 2 * self->unit);
	expect_charges(g, 2, 1, "with the page held");
	leave_group(g);
	remove_group();

	expect_pool(self->unit, &self->before, 1, 0, "with the page held");
	self->holder.release(&self->holder);
}

/* What the page waits for is the holder, not the cgroup. */
TEST_F_TIMEOUT(guestmem_restructure_cgroup, charge_goes_with_the_holder, 240)
{
	struct group *g = &self->group;

	self->holder.hold(&self->holder, shared_word(self->mem), SZ_4K);
	close_file(&self->fd, self->mem, 2 * self->unit);
	expect_charges(g, 2, 1, "with the page held");
	self->holder.release(&self->holder);
	expect_pool_back(self->unit, &self->before, "in the end");
	expect_charges_gone(g);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
