// SPDX-License-Identifier: GPL-2.0-only
/*
 * What cgroups are charged for a guest_memfd of huge pages: the reservation when
 * it is created, usage and memory when a page is taken.  A memfd of hugetlbfs that
 * goes through the same steps says what is right.
 */
#include "guestmem_cgroup.h"
#include "guestmem_hugetlb_node.h"
#include "kvm_test_harness.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB	0x0004U
#endif

FIXTURE(guestmem_hugetlb_cgroup) {
	struct group group;
	struct kvm_vm *vm;
	u64 unit;
	int fd;
};

FIXTURE_VARIANT(guestmem_hugetlb_cgroup) {
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_cgroup, 2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_cgroup, 1G) {
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_hugetlb_cgroup)
{
	const char *why = why_no_pool(1ull << variant->log2, 2) ?: why_no_cgroup();

	if (why)
		SKIP(return, "%s", why);

	self->fd = -1;
	self->unit = 1ull << variant->log2;
	self->vm = vm_create_barebones();
	enter_group(&self->group, self->unit);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_cgroup)
{
	if (self->fd >= 0)
		kvm_close(self->fd);
	if (!access(GROUP, F_OK))
		expect_charges(&self->group, 0, 0, "after the file was closed");
	leave_group(&self->group);
	if (!access(GROUP, F_OK))
		remove_group();
	memcg_counts_hugetlb(false);
	kvm_vm_free(self->vm);
}

/* Created, with half of it allocated, all of it, with a hole, closed. */
enum { NR_STEPS = 5 };

static void take_steps(const struct group *g, int fd, struct charges charges[NR_STEPS])
{
	charges[0] = read_charges(g);
	allocate_blocks(fd, g->unit, 1, 1);
	charges[1] = read_charges(g);
	allocate_blocks(fd, g->unit, 0, 2);
	charges[2] = read_charges(g);
	punch_blocks(fd, g->unit, 1, 1);
	charges[3] = read_charges(g);
	kvm_close(fd);
	charges[4] = read_charges(g);
}

/* A file of hugetlbfs reserves when it is mapped. */
static void take_memfd_steps(const struct group *g, u8 log2,
			     struct charges charges[NR_STEPS])
{
	int fd = memfd_create("reference", MFD_HUGETLB | log2 << 26);
	void *mem;

	TEST_ASSERT(fd >= 0, "memfd_create() fails with errno %d", errno);
	kvm_ftruncate(fd, 2 * g->unit);
	mem = map_file(fd, 2 * g->unit);
	take_steps(g, fd, charges);
	kvm_munmap(mem, 2 * g->unit);
	charges[NR_STEPS - 1] = read_charges(g);
}

/* But for the reservation of a hole, which stays where the size of memory is fixed. */
TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, charges_are_those_of_a_memfd, 240)
{
	struct charges ours[NR_STEPS], memfd[NR_STEPS];
	int fd, i;

	take_memfd_steps(&self->group, variant->log2, memfd);
	fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	take_steps(&self->group, fd, ours);
	memfd[3].rsvd = 2;

	for (i = 0; i < NR_STEPS; i++) {
		TEST_ASSERT(!memcmp(&ours[i], &memfd[i], sizeof(ours[i])),
			    "step %d: reserved %lu, used %lu, memory.stat %lu, memory.current %lu; memfd %lu, %lu, %lu, %lu",
			    i, ours[i].rsvd, ours[i].usage, ours[i].stat, ours[i].memory,
			    memfd[i].rsvd, memfd[i].usage, memfd[i].stat, memfd[i].memory);
	}
}

TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, charges_follow_the_file, 240)
{
	struct group *g = &self->group;

	expect_charges(g, 0, 0, "without a file");
	self->fd = create_huge_file(self->vm, 2 * self->unit - SZ_4K, 0, variant->log2);
	expect_charges(g, 2, 0, "at creation");
	allocate_blocks(self->fd, self->unit, 0, 1);
	expect_charges(g, 2, 1, "with one block allocated");
	punch_blocks(self->fd, self->unit, 0, 1);
	expect_charges(g, 2, 0, "after a hole");
	allocate_blocks(self->fd, self->unit, 0, 1);
	expect_charges(g, 2, 1, "with the hole filled");
}

TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, limit_on_reservations_refuses_the_file, 240)
{
	struct pool before = read_pool(self->unit);

	set_limit(self->unit, "rsvd.max", 1);
	expect_no_huge_file(self->vm, self->unit + SZ_4K, 0, variant->log2, ENOMEM,
			    "a file above the limit on reservations");
	expect_charges(&self->group, 0, 0, "after a file that was refused");
	expect_pool(self->unit, &before, 0, 0, "after a file that was refused");

	self->fd = create_huge_file(self->vm, self->unit, 0, variant->log2);
	expect_charges(&self->group, 1, 0, "with as much as is allowed");
	expect_no_huge_file(self->vm, SZ_4K, 0, variant->log2, ENOMEM,
			    "a second file above the limit on reservations");
}

/* What the pool refuses is not charged either. */
TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, file_that_the_pool_refuses_is_not_charged, 240)
{
	u64 nr = pool_available(self->unit);

	expect_no_huge_file(self->vm, (nr + 1) * self->unit, 0, variant->log2, ENOMEM,
			    "a page more than there is");
	expect_charges(&self->group, 0, 0, "after a file that was refused");
}

/* Reserved, and charged for that, but not on the node that the policy insists on. */
TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, page_that_the_node_does_not_have_is_not_charged, 240)
{
	u64 nr = node_free(0, self->unit);
	unsigned long node0 = 1;

	if (!node_free(1, self->unit))
		SKIP(return, "needs a free page of that size on node 1, boot with numa=fake=2");

	self->fd = create_huge_file(self->vm, (nr + 1) * self->unit, 0, variant->log2);
	kvm_set_mempolicy(MPOL_BIND, &node0, MAX_NODE);
	expect_failure(allocate_bytes(self->fd, 0, (nr + 1) * self->unit), ENOSPC,
		       "more blocks than the node has pages");
	kvm_set_mempolicy(MPOL_DEFAULT, NULL, 0);
	expect_charges(&self->group, nr + 1, nr, "after a page that the node does not have");
}

TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, limit_on_usage_refuses_the_page, 240)
{
	struct pool before = read_pool(self->unit);

	set_limit(self->unit, "max", 1);
	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 1);
	expect_failure(allocate_bytes(self->fd, self->unit, self->unit), ENOMEM,
		       "fallocate() above the limit on usage");
	expect_charges(&self->group, 2, 1, "after a page that was refused");
	expect_pool(self->unit, &before, 1, 1, "after a page that was refused");

	set_limit(self->unit, "max", 2);
	allocate_blocks(self->fd, self->unit, 1, 1);
	expect_charges(&self->group, 2, 2, "with the limit raised");
}

TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, limit_on_memory_refuses_the_page, 240)
{
	struct pool before = read_pool(self->unit);

	if (!self->group.memcg)
		SKIP(return, "cgroup2 cannot be mounted with memory_hugetlb_accounting");

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 1);
	TEST_ASSERT(!write_number(GROUP "/memory.max", self->unit * 3 / 2),
		    "cannot set a limit");
	expect_failure(allocate_bytes(self->fd, self->unit, self->unit), ENOMEM,
		       "fallocate() above the limit on memory");
	expect_charges(&self->group, 2, 1, "after a page that was refused");
	expect_pool(self->unit, &before, 1, 1, "after a page that was refused");

	TEST_ASSERT(!write_text(GROUP "/memory.max", "max"), "cannot lift the limit");
	allocate_blocks(self->fd, self->unit, 1, 1);
	expect_charges(&self->group, 2, 2, "with the limit lifted");
}

TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, limit_on_usage_fails_the_fault, 120)
{
	struct huge_bed bed;

	bed = create_bound_bed(VM_TYPE_DEFAULT, variant->log2, 2 * self->unit);
	set_limit(self->unit, "max", 1);
	fill_strides(&bed, 0, SZ_4K, 4, 1);
	guest_stride_set(bed.vm, GUEST_FILL, GUESTMEM_GPA + self->unit, SZ_4K, 4, 2);
	expect_failure(_vcpu_run(bed.vcpu), ENOMEM, "KVM_RUN above the limit on usage");
	expect_charges(&self->group, 2, 1, "after a fault that failed");

	set_limit(self->unit, "max", 2);
	vcpu_run(bed.vcpu);
	expect_guest_done(bed.vcpu);
	check_strides(&bed, self->unit, SZ_4K, 4, 2);
	free_huge_bed(&bed);
}

/* The file is charged to a cgroup that is gone, and works on. */
TEST_F_TIMEOUT(guestmem_hugetlb_cgroup, file_outlives_the_cgroup, 240)
{
	struct pool before = read_pool(self->unit);
	u64 dying;

	self->fd = create_huge_file(self->vm, 2 * self->unit, 0, variant->log2);
	allocate_blocks(self->fd, self->unit, 0, 1);
	leave_group(&self->group);
	dying = dying_groups();
	remove_group();

	expect_pool(self->unit, &before, 1, 1, "with the cgroup removed");
	allocate_blocks(self->fd, self->unit, 1, 1);
	punch_blocks(self->fd, self->unit, 0, 1);
	allocate_blocks(self->fd, self->unit, 0, 1);
	expect_pool(self->unit, &before, 2, 0, "with the cgroup removed and all allocated");

	kvm_close(self->fd);
	self->fd = -1;
	expect_pool(self->unit, &before, 0, 0, "after close");
	expect_groups_dead(dying);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);

	return test_harness_run(argc, argv);
}
