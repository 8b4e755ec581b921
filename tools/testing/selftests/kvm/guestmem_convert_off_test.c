// SPDX-License-Identifier: GPL-2.0-only
/*
 * Without kvm.gmem_in_place_conversion nothing of it is there: a VMM of today
 * sees what it has always seen.
 */
#include "guestmem_convert.h"
#include "kvm_test_harness.h"

FIXTURE(guestmem_convert_off) {
	struct kvm_vm *vm;
	int fd;
};

FIXTURE_VARIANT(guestmem_convert_off) {
	unsigned long vm_type;
	u64 attributes;
};

FIXTURE_VARIANT_ADD(guestmem_convert_off, ordinary) {
	.vm_type = VM_TYPE_DEFAULT,
	.attributes = 0,
};

FIXTURE_VARIANT_ADD(guestmem_convert_off, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE,
};

FIXTURE_SETUP(guestmem_convert_off)
{
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->vm = vm_create_barebones_type(variant->vm_type);
	self->fd = vm_create_guest_memfd(self->vm, getpagesize(), 0);
}

FIXTURE_TEARDOWN(guestmem_convert_off)
{
	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

TEST_F(guestmem_convert_off, file_has_no_ioctl)
{
	TEST_ASSERT_EQ(try_convert(self->fd, 0, 1, true), ENOTTY);
	TEST_ASSERT_EQ(try_convert(self->fd, 0, 1, false), ENOTTY);
	/* Not even looked at. */
	TEST_ASSERT_EQ(set_attributes(self->fd, NULL) ? errno : 0, ENOTTY);
}

TEST_F(guestmem_convert_off, capabilities_are_those_of_the_base_tree)
{
	int in_file = KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES;

	TEST_ASSERT_EQ(kvm_check_cap(in_file), 0);
	TEST_ASSERT_EQ(vm_check_cap(self->vm, in_file), 0);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES), KVM_MEMORY_ATTRIBUTE_PRIVATE);
	TEST_ASSERT_EQ(vm_check_cap(self->vm, KVM_CAP_MEMORY_ATTRIBUTES), variant->attributes);
}

TEST_F(guestmem_convert_off, private_memory_cannot_start_shared)
{
	bool private = variant->attributes;
	u64 flags = vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS);
	int fd = __vm_create_guest_memfd(self->vm, getpagesize(), GUEST_MEMFD_FLAG_INIT_SHARED);

	TEST_ASSERT_EQ(!!(flags & GUEST_MEMFD_FLAG_INIT_SHARED), !private);
	TEST_ASSERT((fd < 0 ? errno : 0) == (private ? EINVAL : 0),
		    "INIT_SHARED: got %d errno %d", fd, errno);
	if (fd >= 0)
		kvm_close(fd);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(!converts_in_place(), "kvm.gmem_in_place_conversion is on");

	return test_harness_run(argc, argv);
}
