// SPDX-License-Identifier: GPL-2.0-only
/*
 * An open guest_memfd keeps KVM's code in the kernel, also when nothing else
 * of the VM is left.
 */
#include "guestmem_convert.h"
#include "guestmem_holder.h"
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

/* The module that owns VMs, and so everything that belongs to one. */
static const char * const vendors[] = { "kvm_amd", "kvm_intel" };

FIXTURE(guestmem_module) {
	const char *name;
	int refcnt;
};

FIXTURE_SETUP(guestmem_module)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vendors); i++) {
		self->name = vendors[i];
		if (read_refcnt(self->name, &self->refcnt))
			return;
	}
	SKIP(return, "kvm is built in");
}

FIXTURE_TEARDOWN(guestmem_module)
{
}

/* A file, and nothing else of its VM. */
static int create_orphan(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = vm_create_guest_memfd(vm, getpagesize(), 0);

	kvm_vm_free(vm);
	return fd;
}

TEST_F(guestmem_module, unload_is_refused_while_a_file_is_open)
{
	int fd;

	TEST_ASSERT(!self->refcnt, "%s is in use before the test", self->name);

	fd = create_orphan();
	expect_unload_refused(self->name);
	allocate_pages(fd, 0, 1);
	kvm_close(fd);
}

TEST_F(guestmem_module, closing_the_file_lets_the_module_go)
{
	int fd = create_orphan();

	TEST_ASSERT(refcnt_of(self->name) > self->refcnt,
		    "an open file does not hold %s", self->name);
	kvm_close(fd);

	expect_refcnt(self->name, self->refcnt);
}

/* A page of the file that someone in the host holds, in a block of 2M that is split. */
static void hold_page(struct holder *holder, int fd)
{
	u64 *mem = map_file(fd, SZ_2M);

	make_shared(fd, 0, 1);
	WRITE_ONCE(*mem, 1);
	holder->hold(holder, mem, SZ_4K);
	kvm_munmap(mem, SZ_2M);
}

/* NULL if @holder holds what is left of a guest. */
static const char *park(struct holder *holder)
{
	const char *why = convert_available() ? why_no_pool(SZ_2M, 1) :
						"kvm.gmem_in_place_conversion is off";
	struct kvm_vm *vm;
	int fd;

	why = why ?: holder->open(holder);
	if (why)
		return why;

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	fd = create_huge_file(vm, SZ_2M, GUEST_MEMFD_FLAG_MMAP, LOG2_2M);
	hold_page(holder, fd);
	kvm_close(fd);
	kvm_vm_free(vm);
	return NULL;
}

/* What is left of it is the allocator's. */
TEST_F(guestmem_module, parked_block_lets_the_module_go)
{
	struct pool before = read_pool(SZ_2M);
	struct holder holder = HOLDER_VMSPLICE;
	const char *why = park(&holder);

	if (why)
		SKIP(return, "%s", why);

	expect_refcnt(self->name, self->refcnt);
	expect_pool(SZ_2M, &before, 1, 0, "with the page held");
	holder.release(&holder);
	expect_pool_back(SZ_2M, &before, "with the page let go");
	holder_close(&holder);
}

/* For a script that takes KVM out of the kernel before it closes our input. */
static int hold_until_told(void)
{
	struct holder holder = HOLDER_VMSPLICE;
	const char *why = park(&holder);

	TEST_ASSERT(!why, "%s", why);
	while (getchar() != EOF)
		;
	holder.release(&holder);
	holder_close(&holder);
	return 0;
}

int main(int argc, char *argv[])
{
	if (argc > 1 && !strcmp(argv[1], "hold"))
		return hold_until_told();

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
