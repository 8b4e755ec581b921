// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks in pieces and the cgroup that they are charged to: the charge is that of a
 * whole block, and the cgroup can go at any time.
 */
#include <sys/wait.h>

#include "guestmem_cgroup.h"
#include "guestmem_convert.h"
#include "guestmem_holder.h"
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define NR_ROUNDS	10
#define OTHER_GROUP	"/sys/fs/cgroup/guestmem_other"

FIXTURE(guestmem_restructure_cgroup) {
	struct group group;
	struct holder holder;
	struct pool before;
	struct kvm_vm *vm;
	u64 dying;
	u64 unit;
	u64 page;
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

static u64 *shared_word(u64 *mem, u64 page)
{
	return mem + page * SZ_4K / sizeof(*mem);
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
	/* Not in the first of the pieces, whose struct pages are those of the block. */
	self->page = self->unit / SZ_4K / 2 + 7;
	self->before = read_pool(self->unit);
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->dying = dying_groups();
	enter_group(&self->group, self->unit);
	self->fd = create_huge_file(self->vm, 2 * self->unit, GUEST_MEMFD_FLAG_MMAP,
				    variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 2);
	self->mem = map_file(self->fd, 2 * self->unit);
	make_shared(self->fd, self->page, 1);
	WRITE_ONCE(*shared_word(self->mem, self->page), 1);
	expect_folios(self->fd, 0, 512);
	/* Of either size, this much is in single pages, and those are the root's. */
	self->group.single = SZ_2M;
}

/* That of a reservation goes a moment after the last page. */
static void expect_charges_gone(struct group *g)
{
	int tries = 0;

	while (read_charge(g->unit, "rsvd.current") && ++tries < 500)
		usleep(10000);
	g->single = 0;
	expect_charges(g, 0, 0, "in the end");
}

FIXTURE_TEARDOWN(guestmem_restructure_cgroup)
{
	close_huge_file(&self->fd, self->mem, 2 * self->unit);
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
	make_private(self->fd, self->page, 1);
	g->single = 0;
	expect_charges(g, 2, 2, "with both blocks whole again");
	make_shared(self->fd, self->page, 1);
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_charges(g, 2, 1, "with a hole where it was in pieces");
}

/* For as long as it takes until a cgroup that was removed looks for its charges. */
static int make_other_groups(void)
{
	int err = 0;

	for (int i = 0; !err && i < 20; i++) {
		err = mkdir(OTHER_GROUP, 0755) ?: rmdir(OTHER_GROUP);
		usleep(100000);
	}
	return !!err;
}

/*
 * Whoever looks for the charges of a cgroup that goes has a lock that all cgroups need.
 * A process that waits for that cannot be killed: hence false, for the caller to end it.
 */
static bool cgroups_go_on(void)
{
	int status = 0, tries = 0;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid)
		_exit(make_other_groups());

	while (!waitpid(pid, &status, WNOHANG) && ++tries < 3000)
		usleep(10000);
	TEST_ASSERT(!status, "no other cgroup: status 0x%x", status);
	return tries < 3000;
}

TEST_F_TIMEOUT(guestmem_restructure_cgroup, cgroup_goes_while_a_block_is_split, 240)
{
	bool on;

	leave_group(&self->group);
	remove_group();

	on = cgroups_go_on();
	TEST_ASSERT_EQ(*shared_word(self->mem, self->page), 1);
	make_private(self->fd, self->page, 1);
	TEST_ASSERT(on, "the removed cgroup held all others up until the block was whole");
	expect_folios(self->fd, 0, 0);
	make_shared(self->fd, self->page, 1);
	TEST_ASSERT_EQ(*shared_word(self->mem, self->page), 1);
	expect_folios(self->fd, 0, 512);
}

struct flipper {
	pthread_t thread;
	bool stop;
	u64 flips;
	u64 page;
	int fd;
};

static void *flip_forever(void *arg)
{
	struct flipper *flipper = arg;

	while (!READ_ONCE(flipper->stop)) {
		make_private(flipper->fd, flipper->page, 1);
		make_shared(flipper->fd, flipper->page, 1);
		WRITE_ONCE(flipper->flips, flipper->flips + 1);
	}
	return NULL;
}

static void wait_for_flips(struct flipper *flipper, u64 nr)
{
	u64 until = READ_ONCE(flipper->flips) + nr;

	while (READ_ONCE(flipper->flips) < until)
		usleep(100);
}

/* The block is charged to a cgroup that goes while it is split and merged. */
static void remove_group_while_flipping(struct group *g, int fd, u64 page)
{
	struct flipper flipper = { .fd = fd, .page = page };

	kvm_pthread_create(&flipper.thread, NULL, flip_forever, &flipper);
	wait_for_flips(&flipper, 2);
	leave_group(g);
	usleep(kvm_random_u32_in_range(&kvm_rng, 0, 2000));
	remove_group();
	wait_for_flips(&flipper, 2);
	WRITE_ONCE(flipper.stop, true);
	kvm_pthread_join(flipper.thread, NULL);
}

TEST_F_TIMEOUT(guestmem_restructure_cgroup, cgroup_goes_during_conversions, 240)
{
	struct pool taken = read_pool(self->unit);

	for (int i = 0; i < NR_ROUNDS; i++) {
		remove_group_while_flipping(&self->group, self->fd, self->page);
		TEST_ASSERT_EQ(*shared_word(self->mem, self->page), 1);
		expect_pool(self->unit, &taken, 0, 0, "with the cgroup removed");
		expect_folios(self->fd, 0, 512);

		/* A block that is charged to the next one, in the place of this one. */
		enter_group(&self->group, self->unit);
		punch_blocks(self->fd, self->unit, 0, 1);
		allocate_blocks(self->fd, self->unit, 0, 1);
		WRITE_ONCE(*shared_word(self->mem, self->page), 1);
	}
	leave_group(&self->group);
	remove_group();
}

TEST_F_TIMEOUT(guestmem_restructure_cgroup, cgroup_goes_while_a_block_is_parked, 240)
{
	struct group *g = &self->group;
	bool on;

	self->holder.hold(&self->holder, shared_word(self->mem, self->page), SZ_4K);
	close_huge_file(&self->fd, self->mem, 2 * self->unit);
	expect_charges(g, 2, 1, "with the page held");
	leave_group(g);
	remove_group();

	on = cgroups_go_on();
	expect_pool(self->unit, &self->before, 1, 0, "with the page held");
	self->holder.release(&self->holder);
	TEST_ASSERT(on, "the removed cgroup held all others up until the page was released");
}

/* What the page waits for is the holder, not the cgroup. */
TEST_F_TIMEOUT(guestmem_restructure_cgroup, charge_goes_with_the_holder, 240)
{
	struct group *g = &self->group;

	self->holder.hold(&self->holder, shared_word(self->mem, self->page), SZ_4K);
	close_huge_file(&self->fd, self->mem, 2 * self->unit);
	expect_charges(g, 2, 1, "with the page held");
	self->holder.release(&self->holder);
	expect_pool_back(self->unit, &self->before, "in the end");
	expect_charges_gone(g);
}

/* The OOM killer is no help, and the access is not repeated for ever. */
TEST_F_TIMEOUT(guestmem_restructure_cgroup, limit_on_usage_fails_the_access, 120)
{
	u64 block = self->unit / SZ_4K, page = block + self->page;
	struct group *g = &self->group;

	make_shared(self->fd, page, 1);
	punch_blocks(self->fd, self->unit, 1, 1);
	set_limit(self->unit, "max", 1);
	TEST_EXPECT_SIGBUS(WRITE_ONCE(*shared_word(self->mem, page), 2));
	expect_charges(g, 2, 1, "after an access that failed");

	set_limit(self->unit, "max", 2);
	WRITE_ONCE(*shared_word(self->mem, page), 2);
	g->single += SZ_2M;
	expect_charges(g, 2, 2, "with the limit raised");
	TEST_ASSERT_EQ(*shared_word(self->mem, self->page), 1);
}

/* Struct pages are charged to who shares; at the limit the call fails, and nobody is killed. */
TEST_F_TIMEOUT(guestmem_restructure_cgroup, limit_on_memory_refuses_the_split, 240)
{
	u64 block = self->unit / SZ_4K, page = block + self->page;
	struct group *g = &self->group;
	u64 before;

	if (!g->memcg)
		SKIP(return, "cgroup2 cannot be mounted with memory_hugetlb_accounting");
	if (self->unit < SZ_1G)
		SKIP(return, "a cgroup is charged in advance for more than 2M takes");
	if (!read_number("/proc/sys/vm/hugetlb_optimize_vmemmap"))
		SKIP(return, "no struct pages of huge pages are missing");

	before = read_number(GROUP "/memory.current");
	TEST_ASSERT(!write_number(GROUP "/memory.max", before + SZ_512K), "cannot set a limit");
	expect_refused_at(self->fd, page, 1, false, ENOMEM, page);
	expect_folios(self->fd, variant->log2 - 12, 1);
	expect_charges(g, 2, 2, "after a split that was refused");

	TEST_ASSERT(!write_text(GROUP "/memory.max", "max"), "cannot lift the limit");
	make_shared(self->fd, page, 1);
	g->single += SZ_2M;
	expect_charges(g, 2, 2, "with both blocks in pieces");
	/* But for what was charged in advance, 518 pages of them. */
	TEST_ASSERT(read_number(GROUP "/memory.current") - before >= SZ_1M,
		    "struct pages are not charged");
	WRITE_ONCE(*shared_word(self->mem, page), 2);
	TEST_ASSERT_EQ(*shared_word(self->mem, self->page), 1);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
