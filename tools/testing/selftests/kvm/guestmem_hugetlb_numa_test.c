// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NUMA policy of a guest_memfd of huge pages decides which node's pool its
 * pages are taken from.  The host cannot touch them, so it is the pools that tell.
 */
#include "guestmem_hugetlb_node.h"
#include "kvm_test_harness.h"

#define NR_NODES	2

FIXTURE(guestmem_hugetlb_numa) {
	u64 free[NR_NODES];
	struct huge_bed bed;
	u64 blocks;
	void *mem;
};

FIXTURE_VARIANT(guestmem_hugetlb_numa) {
	u8 log2;
	int node;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_numa, 2M_node0) {
	.log2 = LOG2_2M,
	.node = 0,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_numa, 2M_node1) {
	.log2 = LOG2_2M,
	.node = 1,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_numa, 1G_node0) {
	.log2 = LOG2_1G,
	.node = 0,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_numa, 1G_node1) {
	.log2 = LOG2_1G,
	.node = 1,
};

/* One block is to fit each node, of small pages several. */
FIXTURE_SETUP(guestmem_hugetlb_numa)
{
	u64 unit = 1ull << variant->log2;
	int node;

	self->blocks = variant->log2 == LOG2_1G ? 1 : 4;
	if (!is_multi_numa_node_system())
		SKIP(return, "needs two NUMA nodes, boot with numa=fake=2");
	for (node = 0; node < NR_NODES; node++) {
		self->free[node] = node_free(node, unit);
		if (self->free[node] < self->blocks)
			SKIP(return, "node %d has fewer than %lu free huge pages of %lu kB",
			     node, self->blocks, unit / SZ_1K);
	}

	self->bed = create_bound_bed(VM_TYPE_DEFAULT, variant->log2, 2 * self->blocks * unit);
	self->mem = map_file(self->bed.fd, self->bed.size);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_numa)
{
	kvm_munmap(self->mem, self->bed.size);
	free_huge_bed(&self->bed);
}

static void set_policy(void *mem, size_t size, int mode, unsigned long nodes)
{
	kvm_mbind(mem, size, mode, &nodes, MAX_NODE, 0);
}

static void expect_taken(const u64 free[NR_NODES], u64 unit, int node, u64 here, u64 there)
{
	u64 now_here = node_free(node, unit), now_there = node_free(!node, unit);

	TEST_ASSERT(free[node] - now_here == here && free[!node] - now_there == there,
		    "%lu pages were taken from node %d and %lu from node %d, expected %lu and %lu",
		    free[node] - now_here, node, free[!node] - now_there, !node, here, there);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, fallocate_obeys, 240)
{
	set_policy(self->mem, self->bed.size, MPOL_BIND, 1ul << variant->node);
	allocate_blocks(self->bed.fd, self->bed.unit, 0, self->blocks);
	expect_taken(self->free, self->bed.unit, variant->node, self->blocks, 0);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, guest_fault_obeys, 240)
{
	u64 unit = self->bed.unit;

	set_policy(self->mem, self->bed.size, MPOL_BIND, 1ul << variant->node);
	fill_strides(&self->bed, 0, unit, self->blocks, 1);
	expect_taken(self->free, unit, variant->node, self->blocks, 0);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, policy_is_the_ranges, 240)
{
	u64 unit = self->bed.unit, half = self->blocks * unit;

	set_policy(self->mem, half, MPOL_BIND, 1ul << variant->node);
	set_policy(self->mem + half, half, MPOL_BIND, 1ul << !variant->node);
	allocate_blocks(self->bed.fd, unit, 0, self->blocks);
	expect_taken(self->free, unit, variant->node, self->blocks, 0);
	allocate_blocks(self->bed.fd, unit, self->blocks, self->blocks);
	expect_taken(self->free, unit, variant->node, self->blocks, self->blocks);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, task_policy_decides_where_the_file_has_none, 240)
{
	unsigned long nodes = 1ul << variant->node;

	kvm_set_mempolicy(MPOL_BIND, &nodes, MAX_NODE);
	allocate_blocks(self->bed.fd, self->bed.unit, 0, self->blocks);
	kvm_set_mempolicy(MPOL_DEFAULT, NULL, 0);
	expect_taken(self->free, self->bed.unit, variant->node, self->blocks, 0);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, policy_of_the_file_wins_over_the_tasks, 240)
{
	unsigned long other = 1ul << !variant->node;

	set_policy(self->mem, self->bed.size, MPOL_BIND, 1ul << variant->node);
	kvm_set_mempolicy(MPOL_BIND, &other, MAX_NODE);
	allocate_blocks(self->bed.fd, self->bed.unit, 0, self->blocks);
	kvm_set_mempolicy(MPOL_DEFAULT, NULL, 0);
	expect_taken(self->free, self->bed.unit, variant->node, self->blocks, 0);
}

/* Block by block, as small pages are spread page by page. */
TEST_F_TIMEOUT(guestmem_hugetlb_numa, interleave_spreads_blocks, 240)
{
	u64 unit = self->bed.unit;

	set_policy(self->mem, self->bed.size, MPOL_INTERLEAVE, 3);
	allocate_blocks(self->bed.fd, unit, 0, 2 * self->blocks);
	expect_taken(self->free, unit, variant->node, self->blocks, self->blocks);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, neighbouring_blocks_are_on_different_nodes, 240)
{
	u64 unit = self->bed.unit;

	set_policy(self->mem, self->bed.size, MPOL_INTERLEAVE, 3);
	fill_strides(&self->bed, 0, unit, 2, 1);
	expect_taken(self->free, unit, variant->node, 1, 1);
}

TEST_F_TIMEOUT(guestmem_hugetlb_numa, hole_moves_a_block_to_the_new_node, 240)
{
	u64 unit = self->bed.unit;

	set_policy(self->mem, self->bed.size, MPOL_BIND, 1ul << !variant->node);
	allocate_blocks(self->bed.fd, unit, 0, self->blocks);
	set_policy(self->mem, self->bed.size, MPOL_BIND, 1ul << variant->node);
	punch_blocks(self->bed.fd, unit, 0, self->blocks);
	allocate_blocks(self->bed.fd, unit, 0, self->blocks);
	expect_taken(self->free, unit, variant->node, self->blocks, 0);
}

/* Reserved in the pool, but not on the node that the policy insists on. */
TEST_F_TIMEOUT(guestmem_hugetlb_numa, bound_node_that_is_empty_is_enospc, 240)
{
	u64 unit = self->bed.unit, nr = self->free[variant->node];
	u64 size = (nr + 1) * unit;
	struct kvm_vm *vm = self->bed.vm;
	void *mem;
	int fd;

	kvm_munmap(self->mem, self->bed.size);
	kvm_close(self->bed.fd);
	fd = create_huge_file(vm, size, GUEST_MEMFD_FLAG_MMAP, variant->log2);
	mem = map_file(fd, size);
	set_policy(mem, size, MPOL_BIND, 1ul << variant->node);
	expect_failure(allocate_bytes(fd, 0, size), ENOSPC,
		       "more blocks than the node has pages");
	expect_taken(self->free, unit, variant->node, nr, 0);

	set_policy(mem, size, MPOL_PREFERRED, 1ul << variant->node);
	allocate_blocks(fd, unit, 0, nr + 1);
	expect_taken(self->free, unit, variant->node, nr, 1);

	kvm_munmap(mem, size);
	kvm_close(fd);
	self->bed.fd = create_huge_file(vm, self->bed.size, GUEST_MEMFD_FLAG_MMAP,
					variant->log2);
	self->mem = map_file(self->bed.fd, self->bed.size);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);

	return test_harness_run(argc, argv);
}
