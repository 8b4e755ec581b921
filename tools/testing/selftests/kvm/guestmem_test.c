// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest_memfd file by itself: its accounting, its flags, and that its memory
 * is zeroed once and no more.
 */
#include <sys/syscall.h>
#include <sys/time.h>

#include "guestmem_signal.h"
#include "guestmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	16
#define GUEST_SIZE	SZ_2M

/* What takes much longer to allocate than it is between two signals. */
#define LARGE_SIZE	SZ_64M
#define SIGNAL_USEC	2000
#define MAX_TRIES	100

FIXTURE(guestmem) {
	struct kvm_vm *vm;
	int fd;
};

FIXTURE_VARIANT(guestmem) {
	unsigned long vm_type;
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem, plain) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(guestmem, mmap) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(guestmem, shared) {
	.flags = GUESTMEM_SHARED,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(guestmem, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};
#endif

FIXTURE_SETUP(guestmem)
{
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->vm = vm_create_barebones_type(variant->vm_type);
	self->fd = vm_create_guest_memfd(self->vm, NR_PAGES * getpagesize(),
					 variant->flags);
}

FIXTURE_TEARDOWN(guestmem)
{
	close(self->fd);
	kvm_vm_free(self->vm);
}

TEST_F(guestmem, blksize_is_allocation_unit)
{
	struct stat st = file_stat(self->fd);

	TEST_ASSERT(st.st_blksize == getpagesize(),
		    "st_blksize is %lu, expected the unit of 4K files, %u",
		    st.st_blksize, getpagesize());
}

TEST_F(guestmem, blocks_follow_fallocate)
{
	expect_pages(self->fd, 0, "at creation");

	allocate_pages(self->fd, 1, 3);
	expect_pages(self->fd, 3, "after fallocate() of 3 pages");

	allocate_pages(self->fd, 2, 3);
	expect_pages(self->fd, 4, "after fallocate() of 1 page more");

	allocate_pages(self->fd, 0, NR_PAGES);
	expect_pages(self->fd, NR_PAGES, "after fallocate() of the whole file");
}

TEST_F(guestmem, blocks_follow_punch_hole)
{
	allocate_pages(self->fd, 0, NR_PAGES);

	punch_pages(self->fd, 4, 2);
	expect_pages(self->fd, NR_PAGES - 2, "after a hole of 2 pages");

	punch_pages(self->fd, 4, 3);
	expect_pages(self->fd, NR_PAGES - 3, "after a hole over the hole");

	punch_pages(self->fd, 0, NR_PAGES);
	expect_pages(self->fd, 0, "after a hole over the whole file");
}

TEST_F(guestmem, signal_ends_an_allocation)
{
	size_t size = NR_PAGES * getpagesize();

	TEST_ASSERT_EQ(allocate_with_signal(self->fd, 0, size), EINTR);
	expect_pages(self->fd, 0, "after a signal");
	allocate_pages(self->fd, 0, NR_PAGES);
	expect_pages(self->fd, NR_PAGES, "after asking again");
}

TEST_F(guestmem, signal_does_not_end_a_hole)
{
	allocate_pages(self->fd, 0, NR_PAGES);
	TEST_ASSERT_EQ(punch_with_signal(self->fd, 0, NR_PAGES * getpagesize()), 0);
	expect_pages(self->fd, 0, "after a hole, with a signal pending");
}

/* What only the fd keeps alive is the file, not one of its names. */
TEST_F(guestmem, dup_is_the_same_file)
{
	int dup_fd = kvm_dup(self->fd);
	struct stat one = file_stat(self->fd);
	struct stat other = file_stat(dup_fd);

	TEST_ASSERT_EQ(one.st_ino, other.st_ino);

	kvm_free_fd(self->fd);
	allocate_pages(dup_fd, 0, NR_PAGES);
	self->fd = dup_fd;

	TEST_ASSERT_EQ(file_stat(dup_fd).st_size, one.st_size);
}

TEST_F(guestmem, file_outlives_vm)
{
	kvm_vm_free(self->vm);
	self->vm = NULL;

	allocate_pages(self->fd, 0, NR_PAGES);
	punch_pages(self->fd, 0, NR_PAGES / 2);
	TEST_ASSERT_EQ(file_stat(self->fd).st_size, NR_PAGES * getpagesize());
}

static u64 unknown_flag(struct kvm_vm *vm)
{
	u64 known = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);

	TEST_ASSERT(~known, "KVM claims to know all flags");
	return 1ull << __builtin_ctzll(~known);
}

static void expect_flag_refused(struct kvm_vm *vm, u64 flags)
{
	int fd = __vm_create_guest_memfd(vm, getpagesize(), flags);

	TEST_ASSERT(fd < 0 && errno == EINVAL,
		    "flags 0x%lx, not advertised: got %d errno %d, expected EINVAL",
		    flags, fd, errno);
}

static void expect_flag_accepted(struct kvm_vm *vm, u64 flag)
{
	int fd = __vm_create_guest_memfd(vm, getpagesize(), flag);

	TEST_ASSERT(fd >= 0, "flag 0x%lx is advertised but fails with errno %d",
		    flag, errno);
	allocate_pages(fd, 0, 1);
	kvm_close(fd);
}

TEST_F(guestmem, advertised_flags_are_the_accepted_ones)
{
	u64 advertised = vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS);
	u64 flag;

	TEST_ASSERT(!(variant->flags & ~advertised),
		    "flags 0x%lx work but 0x%lx is advertised", variant->flags,
		    advertised);

	for (flag = 1; flag; flag <<= 1) {
		if (flag & advertised) {
			expect_flag_accepted(self->vm, flag);
			continue;
		}
		expect_flag_refused(self->vm, flag);
		expect_flag_refused(self->vm, flag | variant->flags);
	}
}

/* The words after "flags", whatever they are called by now. */
static int create_with_reserved_set(struct kvm_vm *vm, u64 flags)
{
	struct kvm_create_guest_memfd args;

	memset(&args, 0xff, sizeof(args));
	args.size = getpagesize();
	args.flags = flags;
	return __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
}

/* Who has asked for attributes in the file is new, and knows better. */
TEST_F(guestmem, reserved_words_are_ignored_for_legacy_flags)
{
	int fd = create_with_reserved_set(self->vm, variant->flags);
	int err = fd < 0 ? errno : 0;

	TEST_ASSERT(err == (converts_in_place() ? EINVAL : 0),
		    "reserved words set, flags 0x%lx: errno %d",
		    variant->flags, err);
	if (fd >= 0)
		kvm_close(fd);
}

TEST_F(guestmem, reserved_words_do_not_excuse_an_unknown_flag)
{
	int fd = create_with_reserved_set(self->vm, unknown_flag(self->vm));

	TEST_ASSERT(fd < 0 && errno == EINVAL,
		    "unknown flag and reserved words set: got %d errno %d, expected EINVAL",
		    fd, errno);
}

static void take_no_notice(int sig)
{
}

static void set_signals(u64 usec)
{
	const struct itimerval timer = {
		.it_interval.tv_usec = usec,
		.it_value.tv_usec = usec,
	};

	TEST_ASSERT(!setitimer(ITIMER_REAL, &timer, NULL), __KVM_SYSCALL_ERROR("setitimer()", -1));
}

/* Returns false if the signal came too early, or not at all. */
static bool allocate_in_part(int fd)
{
	u64 bytes;
	int err;

	punch_pages(fd, 0, LARGE_SIZE / getpagesize());
	set_signals(SIGNAL_USEC);
	err = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LARGE_SIZE) ? errno : 0;
	set_signals(0);
	TEST_ASSERT(!err || err == EINTR, "fallocate() against signals: %s (%d)",
		    strerror(err), err);

	bytes = file_stat(fd).st_blocks * 512;
	TEST_ASSERT(err ? bytes < LARGE_SIZE : bytes == LARGE_SIZE,
		    "fallocate(): %s (%d), and 0x%lx bytes are there", strerror(err), err, bytes);
	return err && bytes;
}

TEST(guestmem_allocation_goes_on_behind_a_signal)
{
	const struct sigaction act = { .sa_handler = take_no_notice };
	struct kvm_vm *vm = vm_create_barebones();
	int fd = vm_create_guest_memfd(vm, LARGE_SIZE, 0);
	int tries = 1;

	TEST_ASSERT(!sigaction(SIGALRM, &act, NULL), __KVM_SYSCALL_ERROR("sigaction()", -1));
	while (!allocate_in_part(fd) && tries < MAX_TRIES)
		tries++;
	TEST_ASSERT(tries < MAX_TRIES, "%d times, no signal came between two pages", tries);

	allocate_pages(fd, 0, LARGE_SIZE / getpagesize());
	expect_pages(fd, LARGE_SIZE / getpagesize(), "after asking again");
	kvm_close(fd);
	kvm_vm_free(vm);
}

/* A file bound to a VM whose one vCPU does as it is told. */
struct guest_file {
	struct kvm_vcpu *vcpu;
	int fd;
};

static struct guest_file create_guest_file(unsigned long vm_type, u64 flags)
{
	struct guest_file file;
	struct kvm_vm *vm;

	vm = create_vm_for(vm_type, GUEST_SIZE, guest_main, &file.vcpu);
	file.fd = vm_create_guest_memfd(vm, GUEST_SIZE, flags);
	bind_file(vm, GUESTMEM_GPA, GUEST_SIZE, file.fd, 0);
	virt_map(vm, GUESTMEM_GPA, GUESTMEM_GPA, GUEST_SIZE / vm->page_size);
	return file;
}

static void free_guest_file(struct guest_file *file)
{
	kvm_close(file->fd);
	kvm_vm_free(file->vcpu->vm);
}

static void expect_guest_reads(struct guest_file *file, u64 seed)
{
	guest_do(file->vcpu, GUEST_CHECK, GUESTMEM_GPA, GUEST_SIZE, seed);
}

static void guest_writes(struct guest_file *file, u64 seed)
{
	guest_do(file->vcpu, GUEST_FILL, GUESTMEM_GPA, GUEST_SIZE, seed);
}

FIXTURE(guestmem_guest) {
	struct guest_file file;
};

FIXTURE_VARIANT(guestmem_guest) {
	unsigned long vm_type;
	u64 flags;
};

FIXTURE_VARIANT_ADD(guestmem_guest, shared) {
	.flags = GUESTMEM_SHARED,
};

#ifdef __x86_64__
FIXTURE_VARIANT_ADD(guestmem_guest, private) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
};
#endif

FIXTURE_SETUP(guestmem_guest)
{
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->file = create_guest_file(variant->vm_type, variant->flags);
}

FIXTURE_TEARDOWN(guestmem_guest)
{
	free_guest_file(&self->file);
}

TEST_F_TIMEOUT(guestmem_guest, blocks_follow_guest_faults, 120)
{
	struct guest_file *file = &self->file;
	size_t page = getpagesize();

	expect_pages(file->fd, 0, "before the guest ran");

	guest_do(file->vcpu, GUEST_CHECK, GUESTMEM_GPA + 3 * page, page, 0);
	expect_pages(file->fd, 1, "after the guest read a page");

	guest_do(file->vcpu, GUEST_FILL, GUESTMEM_GPA + 7 * page, 2 * page, 1);
	expect_pages(file->fd, 3, "after the guest wrote 2 pages more");
}

TEST_F_TIMEOUT(guestmem_guest, fresh_memory_is_zero, 120)
{
	dirty_free_memory(2 * GUEST_SIZE);
	expect_guest_reads(&self->file, 0);
}

TEST_F_TIMEOUT(guestmem_guest, fallocated_memory_is_zero, 120)
{
	dirty_free_memory(2 * GUEST_SIZE);
	allocate_pages(self->file.fd, 0, GUEST_SIZE / getpagesize());
	expect_guest_reads(&self->file, 0);
}

TEST_F_TIMEOUT(guestmem_guest, punched_memory_is_zero_again, 120)
{
	guest_writes(&self->file, 1);
	punch_pages(self->file.fd, 0, GUEST_SIZE / getpagesize());
	expect_guest_reads(&self->file, 0);
}

TEST_F_TIMEOUT(guestmem_guest, written_memory_is_not_zeroed_again, 120)
{
	struct guest_file *file = &self->file;

	guest_writes(file, 2);
	allocate_pages(file->fd, 0, GUEST_SIZE / getpagesize());
	expect_guest_reads(file, 2);

	unbind_file(file->vcpu->vm, GUESTMEM_GPA);
	bind_file(file->vcpu->vm, GUESTMEM_GPA, GUEST_SIZE, file->fd, 0);
	expect_guest_reads(file, 2);
}

TEST_F_TIMEOUT(guestmem_guest, hole_leaves_its_neighbours_alone, 120)
{
	struct kvm_vcpu *vcpu = self->file.vcpu;
	size_t page = getpagesize();
	u64 last = GUEST_SIZE - page;

	guest_do(vcpu, GUEST_FILL, GUESTMEM_GPA, page, 5);
	guest_do(vcpu, GUEST_FILL, GUESTMEM_GPA + last, page, 6);
	punch_pages(self->file.fd, 1, GUEST_SIZE / page - 2);

	guest_do(vcpu, GUEST_CHECK, GUESTMEM_GPA, page, 5);
	guest_do(vcpu, GUEST_CHECK, GUESTMEM_GPA + page, last - page, 0);
	guest_do(vcpu, GUEST_CHECK, GUESTMEM_GPA + last, page, 6);
}

/* Memory that host and guest share. */
FIXTURE(guestmem_host) {
	struct guest_file file;
	char *mem;
};

FIXTURE_SETUP(guestmem_host)
{
	self->file = create_guest_file(VM_TYPE_DEFAULT, GUESTMEM_SHARED);
	self->mem = map_file(self->file.fd, GUEST_SIZE);
}

FIXTURE_TEARDOWN(guestmem_host)
{
	kvm_munmap(self->mem, GUEST_SIZE);
	free_guest_file(&self->file);
}

TEST_F(guestmem_host, blocks_follow_host_faults)
{
	size_t page = getpagesize();

	expect_pages(self->file.fd, 0, "after mmap()");

	WRITE_ONCE(self->mem[5 * page], 1);
	expect_pages(self->file.fd, 1, "after a write fault");

	READ_ONCE(self->mem[6 * page]);
	expect_pages(self->file.fd, 2, "after a read fault");

	kvm_madvise(self->mem, GUEST_SIZE, MADV_DONTNEED);
	expect_pages(self->file.fd, 2, "after unmapping the pages");
}

TEST_F_TIMEOUT(guestmem_host, fresh_memory_is_zero, 120)
{
	dirty_free_memory(2 * GUEST_SIZE);
	expect_pattern(self->mem, GUEST_SIZE, 0, "fresh memory");
}

TEST_F_TIMEOUT(guestmem_host, fallocated_memory_is_zero, 120)
{
	dirty_free_memory(2 * GUEST_SIZE);
	allocate_pages(self->file.fd, 0, GUEST_SIZE / getpagesize());
	expect_pattern(self->mem, GUEST_SIZE, 0, "fallocated memory");
}

TEST_F_TIMEOUT(guestmem_host, punched_memory_is_zero_again, 120)
{
	pattern_fill(self->mem, GUEST_SIZE, 3);
	punch_pages(self->file.fd, 0, GUEST_SIZE / getpagesize());
	expect_pattern(self->mem, GUEST_SIZE, 0, "punched memory");
}

TEST_F_TIMEOUT(guestmem_host, guest_sees_what_the_host_wrote, 120)
{
	pattern_fill(self->mem, GUEST_SIZE, 4);
	expect_guest_reads(&self->file, 4);
}

TEST_F_TIMEOUT(guestmem_host, host_sees_what_the_guest_wrote, 120)
{
	guest_writes(&self->file, 5);
	expect_pattern(self->mem, GUEST_SIZE, 5, "what the guest wrote");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
