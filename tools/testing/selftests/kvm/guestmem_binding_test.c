// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memslots on guest_memfd files: which bindings are refused and with what, and
 * that a guest finds each page of a file where its memslot says it is.
 */
#include "guestmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	16
#define GUEST_SIZE	(SZ_2M + SZ_64K)
#define FILE_SIZE	SZ_4M

FIXTURE(guestmem_binding) {
	struct kvm_vm *vm;
	int fd;
};

FIXTURE_VARIANT(guestmem_binding) {
	unsigned long vm_type;
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_binding, shared) {
	.flags = GUESTMEM_SHARED,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(guestmem_binding, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};
#endif

FIXTURE_SETUP(guestmem_binding)
{
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->vm = vm_create_barebones_type(variant->vm_type);
	self->fd = vm_create_guest_memfd(self->vm, NR_PAGES * getpagesize(),
					 variant->flags);
}

FIXTURE_TEARDOWN(guestmem_binding)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

/* Each slot has its own guest addresses, so that only the file can clash. */
static gpa_t slot_gpa(u32 slot)
{
	return GUESTMEM_GPA + slot * SZ_64M;
}

static int bind_at(struct kvm_vm *vm, u32 slot, gpa_t gpa, int fd, u64 offset,
		   u64 size)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, gpa,
					    size, NULL, fd, offset);
}

/* Bind the pages [@first, @first + @nr) of the file. */
static int bind_pages(struct kvm_vm *vm, u32 slot, int fd, u64 first, u64 nr)
{
	return bind_at(vm, slot, slot_gpa(slot), fd, first * getpagesize(),
		       nr * getpagesize());
}

#define EXPECT_BOUND(call)							\
do {										\
	int __r = (call);							\
										\
	TEST_ASSERT(!__r, "%s: errno %d, expected success", #call, errno);	\
} while (0)

#define EXPECT_REFUSED(want, call)						\
do {										\
	int __r = (call);							\
										\
	TEST_ASSERT(__r && errno == (want), "%s: got %d errno %d, expected %s",	\
		    #call, __r, errno, #want);					\
} while (0)

static void delete_slot(struct kvm_vm *vm, u32 slot)
{
	EXPECT_BOUND(bind_at(vm, slot, slot_gpa(slot), -1, 0, 0));
}

TEST_F(guestmem_binding, same_range_twice)
{
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, NR_PAGES));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 0, NR_PAGES));
}

TEST_F(guestmem_binding, same_range_through_a_dup)
{
	int dup_fd = kvm_dup(self->fd);

	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, NR_PAGES));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, dup_fd, 0, NR_PAGES));
	kvm_close(dup_fd);
}

TEST_F(guestmem_binding, overlapping_ranges)
{
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 4, 8));

	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 0, NR_PAGES));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 6, 2));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 0, 5));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 11, 5));
}

/* A refused binding must not have claimed the free part of its range. */
TEST_F(guestmem_binding, neighbours_after_refused_overlaps)
{
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 4, 8));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 0, 5));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 11, 5));

	EXPECT_BOUND(bind_pages(self->vm, 2, self->fd, 0, 4));
	EXPECT_BOUND(bind_pages(self->vm, 3, self->fd, 12, 4));
}

TEST_F(guestmem_binding, overlapping_guest_addresses)
{
	u64 page = getpagesize();
	gpa_t gpa = slot_gpa(1) + page;

	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, 4));
	EXPECT_REFUSED(EEXIST, bind_at(self->vm, 2, gpa, self->fd, 8 * page, page));
	EXPECT_BOUND(bind_pages(self->vm, 2, self->fd, 8, 1));
}

TEST_F(guestmem_binding, range_is_free_after_unbinding)
{
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, NR_PAGES));
	delete_slot(self->vm, 1);
	EXPECT_BOUND(bind_pages(self->vm, 2, self->fd, 0, NR_PAGES));
	delete_slot(self->vm, 2);
	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 2, slot_gpa(2), -1, 0, 0));
}

TEST_F(guestmem_binding, past_the_end)
{
	u64 page = getpagesize();
	u64 size = NR_PAGES * page;

	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, self->fd, NR_PAGES, 1));
	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, self->fd, 0, NR_PAGES + 1));
	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, self->fd, NR_PAGES - 1, 2));
	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 1, slot_gpa(1), self->fd,
				       -page, page));
	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 1, slot_gpa(1), self->fd,
				       -page, 2 * page));
	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 1, slot_gpa(1), self->fd,
				       (1ull << 63) - page, page));
	EXPECT_BOUND(bind_at(self->vm, 1, slot_gpa(1), self->fd, 0, size));
}

TEST_F(guestmem_binding, unaligned)
{
	u64 page = getpagesize();
	gpa_t gpa = slot_gpa(1);

	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 1, gpa, self->fd, 1, page));
	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 1, gpa, self->fd, 0, page + 1));
	EXPECT_REFUSED(EINVAL, bind_at(self->vm, 1, gpa + 1, self->fd, 0, page));
	EXPECT_BOUND(bind_at(self->vm, 1, gpa, self->fd, 0, page));
}

TEST_F(guestmem_binding, file_of_another_vm)
{
	struct kvm_vm *other = vm_create_barebones_type(variant->vm_type);
	int other_fd = vm_create_guest_memfd(other, NR_PAGES * getpagesize(),
					     variant->flags);

	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, other_fd, 0, NR_PAGES));
	EXPECT_REFUSED(EINVAL, bind_pages(other, 1, self->fd, 0, NR_PAGES));
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, NR_PAGES));
	EXPECT_BOUND(bind_pages(other, 1, other_fd, 0, NR_PAGES));

	kvm_close(other_fd);
	kvm_vm_free(other);
}

TEST_F(guestmem_binding, not_a_guest_memfd)
{
	int memfd = kvm_memfd_alloc(NR_PAGES * getpagesize(), false);
	int event = kvm_new_eventfd();

	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, memfd, 0, 1));
	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, event, 0, 1));
	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 1, self->vm->fd, 0, 1));

	kvm_close(event);
	kvm_close(memfd);
}

TEST_F(guestmem_binding, bad_fd)
{
	int closed = kvm_dup(self->fd);

	kvm_close(closed);
	EXPECT_REFUSED(EBADF, bind_pages(self->vm, 1, -1, 0, 1));
	EXPECT_REFUSED(EBADF, bind_pages(self->vm, 1, closed, 0, 1));
}

TEST_F(guestmem_binding, slot_is_immutable)
{
	u64 size = 4 * getpagesize();
	gpa_t gpa = slot_gpa(1);
	struct kvm_vm *vm = self->vm;

	EXPECT_BOUND(bind_pages(vm, 1, self->fd, 0, 4));

	EXPECT_REFUSED(EINVAL, bind_pages(vm, 1, self->fd, 0, 4));
	EXPECT_REFUSED(EINVAL, bind_pages(vm, 1, self->fd, 4, 4));
	EXPECT_REFUSED(EINVAL, bind_at(vm, 1, slot_gpa(2), self->fd, 0, size));
	EXPECT_REFUSED(EINVAL, __vm_set_user_memory_region2(vm, 1, 0, gpa, size,
							    NULL, -1, 0));
}

TEST_F(guestmem_binding, slot_flags)
{
	u64 size = 4 * getpagesize();
	gpa_t gpa = slot_gpa(1);
	u32 bad[] = { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY };
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_REFUSED(EINVAL,
			       __vm_set_user_memory_region2(self->vm, 1,
							    KVM_MEM_GUEST_MEMFD | bad[i],
							    gpa, size, NULL,
							    self->fd, 0));
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, 4));
}

TEST_F(guestmem_binding, slot_deleted_after_the_file_was_closed)
{
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, NR_PAGES));
	kvm_free_fd(self->fd);
	delete_slot(self->vm, 1);
}

TEST_F(guestmem_binding, vm_closed_before_the_file)
{
	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, NR_PAGES));
	allocate_pages(self->fd, 0, NR_PAGES);
	kvm_vm_free(self->vm);
	self->vm = NULL;

	punch_pages(self->fd, 0, NR_PAGES);
	allocate_pages(self->fd, 0, NR_PAGES);
}

static void vm_debugfs_path(const struct kvm_vm *vm, char *path, size_t size)
{
	snprintf(path, size, "/sys/kernel/debug/kvm/%d-%d", getpid(), vm->fd);
}

/* A file holds its VM, and KVM shows each VM that there is. */
TEST_F(guestmem_binding, refused_bindings_hold_no_file)
{
	int tries = 1000;
	char path[64];

	vm_debugfs_path(self->vm, path, sizeof(path));
	if (access(path, F_OK))
		SKIP(return, "debugfs is not mounted, or not for us");

	EXPECT_BOUND(bind_pages(self->vm, 1, self->fd, 0, 4));
	EXPECT_REFUSED(EEXIST, bind_pages(self->vm, 2, self->fd, 0, 4));
	EXPECT_REFUSED(EINVAL, bind_pages(self->vm, 2, self->fd, NR_PAGES, 1));

	kvm_free_fd(self->fd);
	kvm_vm_free(self->vm);
	self->vm = NULL;

	while (!access(path, F_OK) && --tries)
		usleep(1000);
	TEST_ASSERT(tries, "%s is still there, something holds the file", path);
}

/*
 * Where the guest's pages are in the file: the same offset from a huge page
 * boundary or not, in guest memory, in the file and in host memory.
 */
FIXTURE(guestmem_congruence) {
	struct kvm_vcpu *vcpu;
	void *hva;
	int fd;
};

FIXTURE_VARIANT(guestmem_congruence) {
	unsigned long vm_type;
	u64 flags;
	u64 gpa_shift;
	u64 file_shift;
	u64 hva_shift;
};

FIXTURE_VARIANT_ADD(guestmem_congruence, shared_congruent) {
	.flags = GUESTMEM_SHARED,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, shared_congruent_off_boundary) {
	.flags = GUESTMEM_SHARED,
	.gpa_shift = 3,
	.file_shift = 3,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, shared_gpa_shifted) {
	.flags = GUESTMEM_SHARED,
	.gpa_shift = 1,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, shared_file_shifted) {
	.flags = GUESTMEM_SHARED,
	.file_shift = 3,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, shared_hva_shifted) {
	.flags = GUESTMEM_SHARED,
	.hva_shift = 5,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(guestmem_congruence, private_congruent) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, private_congruent_off_boundary) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.gpa_shift = 3,
	.file_shift = 3,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, private_gpa_shifted) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.gpa_shift = 1,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, private_file_shifted) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.file_shift = 3,
};

FIXTURE_VARIANT_ADD(guestmem_congruence, private_hva_shifted) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.hva_shift = 5,
};
#endif

static void *reserve_hva(u64 shift)
{
	void *mem = kvm_mmap(GUEST_SIZE + 2 * SZ_2M, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	return align_ptr_up(mem, SZ_2M) + shift * getpagesize();
}

FIXTURE_SETUP(guestmem_congruence)
{
	struct kvm_vm *vm;

	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	vm = create_vm_for(variant->vm_type, GUEST_SIZE, guest_main, &self->vcpu);
	self->fd = vm_create_guest_memfd(vm, FILE_SIZE, variant->flags);
	self->hva = reserve_hva(variant->hva_shift);
}

FIXTURE_TEARDOWN(guestmem_congruence)
{
	close(self->fd);
	kvm_vm_free(self->vcpu->vm);
}

static void bind_guest(struct kvm_vm *vm, gpa_t gpa, void *hva, int fd, u64 offset)
{
	vm_set_user_memory_region2(vm, GUESTMEM_SLOT, KVM_MEM_GUEST_MEMFD, gpa,
				   GUEST_SIZE, hva, fd, offset);
	mark_private(vm, gpa, GUEST_SIZE);
	virt_map(vm, gpa, gpa, GUEST_SIZE / vm->page_size);
}

static void expect_file_holds(int fd, u64 offset, u64 seed)
{
	void *mem = map_file(fd, FILE_SIZE);

	expect_pattern(mem, offset, 0, "file before the memslot");
	expect_pattern(mem + offset, GUEST_SIZE, seed, "file in the memslot");
	expect_pattern(mem + offset + GUEST_SIZE, FILE_SIZE - GUEST_SIZE - offset,
		       0, "file behind the memslot");
	kvm_munmap(mem, FILE_SIZE);
}

TEST_F_TIMEOUT(guestmem_congruence, guest_finds_every_page, 120)
{
	u64 offset = variant->file_shift * getpagesize();
	gpa_t gpa = GUESTMEM_GPA + variant->gpa_shift * getpagesize();

	bind_guest(self->vcpu->vm, gpa, self->hva, self->fd, offset);
	guest_do(self->vcpu, GUEST_CHECK, gpa, GUEST_SIZE, 0);
	guest_do(self->vcpu, GUEST_FILL, gpa, GUEST_SIZE, 7);
	guest_do(self->vcpu, GUEST_CHECK, gpa, GUEST_SIZE, 7);

	if (variant->flags == GUESTMEM_SHARED)
		expect_file_holds(self->fd, offset, 7);
}

/* The file's pages keep their content when they move in guest memory. */
TEST_F_TIMEOUT(guestmem_congruence, guest_finds_every_page_elsewhere, 120)
{
	u64 offset = variant->file_shift * getpagesize();
	gpa_t gpa = GUESTMEM_GPA + variant->gpa_shift * getpagesize();

	bind_guest(self->vcpu->vm, GUESTMEM_GPA + SZ_1G, self->hva, self->fd, 0);
	guest_do(self->vcpu, GUEST_FILL, GUESTMEM_GPA + SZ_1G + offset,
		 GUEST_SIZE - offset, 8);
	unbind_file(self->vcpu->vm, GUESTMEM_GPA + SZ_1G);

	bind_guest(self->vcpu->vm, gpa, self->hva, self->fd, offset);
	guest_do(self->vcpu, GUEST_CHECK, gpa, GUEST_SIZE - offset, 8);
	guest_do(self->vcpu, GUEST_CHECK, gpa + GUEST_SIZE - offset, offset, 0);
}

/* The slot's host address shows the very pages that the guest sees. */
FIXTURE(guestmem_binding_mapped) {
	struct kvm_vcpu *vcpu;
	size_t size;
	void *mem;
	int fd;
};

FIXTURE_SETUP(guestmem_binding_mapped)
{
	struct kvm_vm *vm;

	self->size = NR_PAGES * getpagesize();
	vm = create_vm_for(VM_TYPE_DEFAULT, self->size, guest_main, &self->vcpu);
	self->fd = vm_create_guest_memfd(vm, self->size, GUESTMEM_SHARED);
	self->mem = map_file(self->fd, self->size);
	bind_mapped_file(vm, GUESTMEM_GPA, self->size, self->mem, self->fd, 0);
	virt_map(vm, GUESTMEM_GPA, GUESTMEM_GPA, self->size / vm->page_size);
}

FIXTURE_TEARDOWN(guestmem_binding_mapped)
{
	kvm_munmap(self->mem, self->size);
	kvm_close(self->fd);
	kvm_vm_free(self->vcpu->vm);
}

TEST_F(guestmem_binding_mapped, guest_and_host_see_the_same)
{
	u64 half = self->size / 2;

	guest_do(self->vcpu, GUEST_FILL, GUESTMEM_GPA, self->size, 1);
	expect_pattern(self->mem, self->size, 1, "what the guest wrote");
	pattern_fill(self->mem + half, half, 2);
	guest_do(self->vcpu, GUEST_CHECK, GUESTMEM_GPA, half, 1);
	guest_do(self->vcpu, GUEST_CHECK, GUESTMEM_GPA + half, half, 2);

	punch_pages(self->fd, 0, NR_PAGES / 2);
	expect_pattern(self->mem, half, 0, "what was punched out");
	guest_do(self->vcpu, GUEST_CHECK, GUESTMEM_GPA, half, 0);
	guest_do(self->vcpu, GUEST_CHECK, GUESTMEM_GPA + half, half, 2);
	expect_pages(self->fd, NR_PAGES, "with the hole filled");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
