// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NUMA policy of a guest_memfd, set with mbind(), decides where its pages
 * are, whoever faults them in.
 */
#include "guestmem_util.h"
#include "kvm_test_harness.h"
#include "numaif.h"

#define NR_PAGES	16
#define PRIVATE_SIZE	SZ_16M
#define MAX_NODE	8

FIXTURE(guestmem_numa) {
	struct kvm_vcpu *vcpu;
	size_t size;
	char *mem;
	int fd;
};

FIXTURE_VARIANT(guestmem_numa) {
	int node;
};

FIXTURE_VARIANT_ADD(guestmem_numa, node0) {
	.node = 0,
};

FIXTURE_VARIANT_ADD(guestmem_numa, node1) {
	.node = 1,
};

FIXTURE_SETUP(guestmem_numa)
{
	struct kvm_vm *vm;

	if (!is_multi_numa_node_system())
		SKIP(return, "needs two NUMA nodes, boot with numa=fake=2");

	self->size = NR_PAGES * getpagesize();
	vm = create_vm_for(VM_TYPE_DEFAULT, self->size, guest_main, &self->vcpu);
	self->fd = vm_create_guest_memfd(vm, self->size, GUESTMEM_SHARED);
	self->mem = map_file(self->fd, self->size);
	bind_file(vm, GUESTMEM_GPA, self->size, self->fd, 0);
	virt_map(vm, GUESTMEM_GPA, GUESTMEM_GPA, self->size / vm->page_size);
}

FIXTURE_TEARDOWN(guestmem_numa)
{
	kvm_munmap(self->mem, self->size);
	kvm_close(self->fd);
	kvm_vm_free(self->vcpu->vm);
}

static void set_policy(void *mem, size_t size, int mode, unsigned long nodes)
{
	kvm_mbind(mem, size, mode, &nodes, MAX_NODE, 0);
}

/* The page has to be mapped for the kernel to look at it. */
static int node_of(void *page)
{
	int node = -1;

	READ_ONCE(*(char *)page);
	kvm_get_mempolicy(&node, NULL, 0, page, MPOL_F_NODE | MPOL_F_ADDR);
	return node;
}

static void expect_node(char *mem, u64 first, u64 nr, int want)
{
	u64 page;

	for (page = first; page < first + nr; page++) {
		int node = node_of(mem + page * getpagesize());

		TEST_ASSERT(node == want, "page %lu is bound to node %d but is on %d",
			    page, want, node);
	}
}

static void write_pages(char *mem, u64 nr)
{
	u64 page;

	for (page = 0; page < nr; page++)
		WRITE_ONCE(mem[page * getpagesize()], 1);
}

TEST_F_TIMEOUT(guestmem_numa, host_fault_obeys, 120)
{
	set_policy(self->mem, self->size, MPOL_BIND, 1ul << variant->node);
	write_pages(self->mem, NR_PAGES);
	expect_node(self->mem, 0, NR_PAGES, variant->node);
}

TEST_F_TIMEOUT(guestmem_numa, fallocate_obeys, 120)
{
	set_policy(self->mem, self->size, MPOL_BIND, 1ul << variant->node);
	allocate_pages(self->fd, 0, NR_PAGES);
	expect_node(self->mem, 0, NR_PAGES, variant->node);
}

TEST_F_TIMEOUT(guestmem_numa, guest_fault_obeys, 120)
{
	set_policy(self->mem, self->size, MPOL_BIND, 1ul << variant->node);
	guest_do(self->vcpu, GUEST_FILL, GUESTMEM_GPA, self->size, 1);
	expect_node(self->mem, 0, NR_PAGES, variant->node);
}

/* The policy of the file wins over the task's that happens to fault. */
TEST_F_TIMEOUT(guestmem_numa, task_policy_does_not_matter, 120)
{
	unsigned long other = 1ul << !variant->node;

	set_policy(self->mem, self->size, MPOL_BIND, 1ul << variant->node);
	kvm_set_mempolicy(MPOL_BIND, &other, MAX_NODE);
	allocate_pages(self->fd, 0, NR_PAGES / 2);
	write_pages(self->mem, NR_PAGES);
	guest_do(self->vcpu, GUEST_FILL, GUESTMEM_GPA, self->size, 1);
	kvm_set_mempolicy(MPOL_DEFAULT, NULL, 0);

	expect_node(self->mem, 0, NR_PAGES, variant->node);
}

TEST_F_TIMEOUT(guestmem_numa, policy_is_the_ranges, 120)
{
	size_t half = self->size / 2;

	set_policy(self->mem, half, MPOL_BIND, 1ul << variant->node);
	set_policy(self->mem + half, half, MPOL_BIND, 1ul << !variant->node);
	allocate_pages(self->fd, 0, NR_PAGES);

	expect_node(self->mem, 0, NR_PAGES / 2, variant->node);
	expect_node(self->mem, NR_PAGES / 2, NR_PAGES / 2, !variant->node);
}

TEST_F_TIMEOUT(guestmem_numa, policy_outlives_the_mapping, 120)
{
	set_policy(self->mem, self->size, MPOL_BIND, 1ul << variant->node);
	kvm_munmap(self->mem, self->size);
	allocate_pages(self->fd, 0, NR_PAGES);

	self->mem = map_file(self->fd, self->size);
	expect_node(self->mem, 0, NR_PAGES, variant->node);
}

TEST_F_TIMEOUT(guestmem_numa, policy_outlives_a_hole, 120)
{
	set_policy(self->mem, self->size, MPOL_BIND, 1ul << !variant->node);
	allocate_pages(self->fd, 0, NR_PAGES);

	set_policy(self->mem, self->size, MPOL_BIND, 1ul << variant->node);
	punch_pages(self->fd, 0, NR_PAGES);
	allocate_pages(self->fd, 0, NR_PAGES);
	expect_node(self->mem, 0, NR_PAGES, variant->node);
}

static u64 nr_pages_on(char *mem, u64 nr, int node)
{
	u64 page, found = 0;

	for (page = 0; page < nr; page++)
		found += node_of(mem + page * getpagesize()) == node;
	return found;
}

TEST_F_TIMEOUT(guestmem_numa, interleave_spreads_evenly, 120)
{
	u64 here;

	set_policy(self->mem, self->size, MPOL_INTERLEAVE, 3);
	allocate_pages(self->fd, 0, NR_PAGES);

	here = nr_pages_on(self->mem, NR_PAGES, variant->node);
	TEST_ASSERT(here == NR_PAGES / 2,
		    "interleaved over two nodes, but %lu of %u pages are on node %d",
		    here, NR_PAGES, variant->node);
}

TEST_F_TIMEOUT(guestmem_numa, interleave_spreads_guest_faults, 120)
{
	u64 here;

	set_policy(self->mem, self->size, MPOL_INTERLEAVE, 3);
	guest_do(self->vcpu, GUEST_FILL, GUESTMEM_GPA, self->size, 1);

	here = nr_pages_on(self->mem, NR_PAGES, variant->node);
	TEST_ASSERT(here && here != NR_PAGES,
		    "interleaved over two nodes, but %lu of %u pages are on node %d",
		    here, NR_PAGES, variant->node);
}

static long node_file_kib(int node)
{
	char path[64], line[128];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	f = fopen(path, "r");
	TEST_ASSERT(f, "cannot open %s", path);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "Node %*d FilePages: %ld kB", &kib);
	fclose(f);
	TEST_ASSERT(kib >= 0, "%s has no FilePages", path);
	return kib;
}

/* Nobody can look at a private page, but its node counts it. */
TEST_F_TIMEOUT(guestmem_numa, private_memory_obeys, 120)
{
	int fd = vm_create_guest_memfd(self->vcpu->vm, PRIVATE_SIZE,
				       GUEST_MEMFD_FLAG_MMAP);
	void *mem = map_file(fd, PRIVATE_SIZE);
	long before, grown;

	set_policy(mem, PRIVATE_SIZE, MPOL_BIND, 1ul << variant->node);
	before = node_file_kib(variant->node);
	allocate_pages(fd, 0, PRIVATE_SIZE / getpagesize());
	grown = node_file_kib(variant->node) - before;

	TEST_ASSERT(grown > PRIVATE_SIZE / SZ_1K * 3 / 4,
		    "%u KiB bound to node %d and allocated, but it has only %ld more",
		    PRIVATE_SIZE / SZ_1K, variant->node, grown);
	kvm_munmap(mem, PRIVATE_SIZE);
	kvm_close(fd);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
