// SPDX-License-Identifier: GPL-2.0-only
/*
 * An allocator in a module: there while it is loaded, loaded while it is used,
 * and its pages come back to it, however long someone holds one.
 *
 * The allocator is samples/guestmem.  One page is lost for each run of the test
 * about poison.
 */
#include <sys/uio.h>

#include "guestmem_util.h"
#include "kvm_test_harness.h"

#define MODULE		"guestmem_sample"
#define MODULE_FILE	"/modules/guestmem-sample.ko"
#define SAMPLE_FLAG	BIT(24)

#define NR_POOL		64
#define NR_PAGES	8
#define SEED		7

#define INJECT		"/sys/kernel/debug/hwpoison/corrupt-pfn"
#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

static int free_pages(void)
{
	int nr;
	FILE *f;

	f = fopen("/sys/module/" MODULE "/parameters/free", "r");
	TEST_ASSERT(f, "%s does not say how many pages are free", MODULE);
	TEST_ASSERT(fscanf(f, "%d", &nr) == 1, "free is no number");
	fclose(f);
	return nr;
}

/* Without a page in use, what is not free is lost. */
static void expect_idle_pool(int nr_free)
{
	expect_refcnt(MODULE, 0);
	TEST_ASSERT(free_pages() == nr_free, "%d pages are free, expected %d",
		    free_pages(), nr_free);
}

static int load(void)
{
	char arguments[32];
	int fd, err = 0;

	fd = open(MODULE_FILE, O_RDONLY);
	if (fd < 0)
		return errno;
	snprintf(arguments, sizeof(arguments), "pages=%d", NR_POOL);
	if (syscall(__NR_finit_module, fd, arguments, 0))
		err = errno;
	kvm_close(fd);
	return err;
}

static void unload(void)
{
	TEST_ASSERT(!syscall(__NR_delete_module, MODULE, O_NONBLOCK),
		    "unloading %s fails with errno %d", MODULE, errno);
}

static bool advertised(struct kvm_vm *vm)
{
	return vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS) & SAMPLE_FLAG;
}

static void write_number(const char *path, u64 number)
{
	int fd = open(path, O_WRONLY);

	TEST_ASSERT(fd >= 0, "cannot open %s, errno %d", path, errno);
	/* The kernel says EBUSY of a page that it cannot handle. */
	if (dprintf(fd, "0x%lx", number) < 0)
		TEST_ASSERT(errno == EBUSY, "%s: errno %d for 0x%lx", path, errno, number);
	kvm_close(fd);
}

FIXTURE(guestmem_sample) {
	struct kvm_vm *vm;
	size_t size;
};

FIXTURE_SETUP(guestmem_sample)
{
	int err = load();

	if (err == ENOENT || err == EPERM)
		SKIP(return, "%s cannot be loaded, errno %d", MODULE_FILE, err);
	TEST_ASSERT(!err, "loading %s fails with errno %d", MODULE_FILE, err);

	self->size = NR_PAGES * getpagesize();
	self->vm = vm_create_barebones();
	expect_idle_pool(NR_POOL);
}

FIXTURE_TEARDOWN(guestmem_sample)
{
	kvm_vm_free(self->vm);
	expect_refcnt(MODULE, 0);
	unload();
}

static int create_file(struct kvm_vm *vm, size_t size)
{
	return vm_create_guest_memfd(vm, size, GUESTMEM_SHARED | SAMPLE_FLAG);
}

TEST_F(guestmem_sample, flag_comes_and_goes_with_the_module)
{
	int fd;

	TEST_ASSERT(advertised(self->vm), "the flag of a loaded allocator is not advertised");
	kvm_close(create_file(self->vm, self->size));
	expect_refcnt(MODULE, 0);

	unload();
	TEST_ASSERT(!advertised(self->vm), "the flag is still advertised");
	fd = __vm_create_guest_memfd(self->vm, self->size, SAMPLE_FLAG);
	TEST_ASSERT(fd == -1 && errno == EINVAL,
		    "a file without its allocator: got %d errno %d, expected EINVAL",
		    fd, errno);

	TEST_ASSERT(!load(), "%s cannot be loaded again", MODULE);
	TEST_ASSERT(advertised(self->vm), "the flag is not advertised again");
}

/* A guest fills a file, from the pool; the pool is full when both are gone. */
static void run_guest(unsigned long vm_type, u64 flags, size_t size)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int fd;

	vm = create_vm_for(vm_type, size, guest_main, &vcpu);
	fd = vm_create_guest_memfd(vm, size, flags | SAMPLE_FLAG);
	bind_file(vm, GUESTMEM_GPA, size, fd, 0);
	virt_map(vm, GUESTMEM_GPA, GUESTMEM_GPA, size / vm->page_size);

	guest_do(vcpu, GUEST_CHECK, GUESTMEM_GPA, size, 0);
	guest_do(vcpu, GUEST_FILL, GUESTMEM_GPA, size, SEED);
	guest_do(vcpu, GUEST_CHECK, GUESTMEM_GPA, size, SEED);
	TEST_ASSERT(free_pages() == NR_POOL - NR_PAGES,
		    "%d pages are free, expected %d", free_pages(), NR_POOL - NR_PAGES);

	kvm_close(fd);
	kvm_vm_free(vm);
	expect_idle_pool(NR_POOL);
}

/* Twice, so that the second guest gets the pages of the first: cleared. */
TEST_F(guestmem_sample, guests_run_on_shared_memory)
{
	run_guest(VM_TYPE_DEFAULT, GUESTMEM_SHARED, self->size);
	run_guest(VM_TYPE_DEFAULT, GUESTMEM_SHARED, self->size);
}

#ifdef __x86_64__
TEST_F(guestmem_sample, guests_run_on_private_memory)
{
	if (!vm_type_available(KVM_X86_SW_PROTECTED_VM))
		SKIP(return, "KVM lacks VM type %d", KVM_X86_SW_PROTECTED_VM);

	run_guest(KVM_X86_SW_PROTECTED_VM, 0, self->size);
	run_guest(KVM_X86_SW_PROTECTED_VM, 0, self->size);
}
#endif

TEST_F(guestmem_sample, host_maps_it)
{
	int fd = create_file(self->vm, self->size);
	void *mem = map_file(fd, self->size);

	expect_pattern(mem, self->size, 0, "fresh pages");
	pattern_fill(mem, self->size, SEED);
	expect_pattern(mem, self->size, SEED, "filled pages");
	TEST_ASSERT(!mlock(mem, self->size), "mlock() fails with errno %d", errno);
	punch_pages(fd, 0, NR_PAGES);
	expect_pattern(mem, self->size, 0, "punched pages");

	kvm_munmap(mem, self->size);
	kvm_close(fd);
	expect_idle_pool(NR_POOL);
}

TEST_F(guestmem_sample, unload_is_refused_while_a_file_is_open)
{
	int fd = create_file(self->vm, self->size);

	expect_unload_refused(MODULE);
	kvm_close(fd);
	expect_idle_pool(NR_POOL);
}

TEST_F(guestmem_sample, empty_pool_is_enospc)
{
	int fd = create_file(self->vm, (NR_POOL + 1) * getpagesize());
	int other = create_file(self->vm, self->size);
	int ret;

	allocate_pages(fd, 0, NR_POOL);
	ret = fallocate(fd, FALLOC_FL_KEEP_SIZE, NR_POOL * getpagesize(), getpagesize());
	TEST_ASSERT(ret && errno == ENOSPC,
		    "one page too many: got %d errno %d, expected ENOSPC", ret, errno);

	/* What one file gives back, another has at once. */
	punch_pages(fd, 0, NR_PAGES);
	allocate_pages(other, 0, NR_PAGES);
	expect_pages(other, NR_PAGES, "after another file was punched");

	kvm_close(other);
	kvm_close(fd);
	expect_idle_pool(NR_POOL);
}

/* The whole file in a pipe, by reference; nothing is left of it but its pages. */
static void leave_in_pipe(struct kvm_vm *vm, size_t size, int pipefd[2])
{
	int fd = create_file(vm, size);
	struct iovec iov = {
		.iov_base = map_file(fd, size),
		.iov_len = size,
	};
	ssize_t n;

	TEST_ASSERT(!pipe(pipefd), "pipe() fails with errno %d", errno);
	pattern_fill(iov.iov_base, size, SEED);
	n = vmsplice(pipefd[1], &iov, 1, 0);
	TEST_ASSERT(n == size, "vmsplice(): got %ld errno %d", n, errno);

	kvm_munmap(iov.iov_base, size);
	kvm_close(fd);
}

static void close_pipe(int pipefd[2])
{
	kvm_close(pipefd[0]);
	kvm_close(pipefd[1]);
}

TEST_F(guestmem_sample, unload_is_refused_while_a_page_is_pinned)
{
	int pipefd[2];

	leave_in_pipe(self->vm, self->size, pipefd);
	/* One for each page. */
	expect_refcnt(MODULE, NR_PAGES);
	expect_unload_refused(MODULE);

	close_pipe(pipefd);
	expect_idle_pool(NR_POOL);
}

TEST_F(guestmem_sample, pinned_page_is_nobody_elses)
{
	void *buffer = malloc(self->size);
	int pipefd[2];
	size_t rest = (NR_POOL - NR_PAGES) * getpagesize();
	void *mem;
	int fd;

	leave_in_pipe(self->vm, self->size, pipefd);
	expect_refcnt(MODULE, NR_PAGES);

	fd = create_file(self->vm, rest);
	mem = map_file(fd, rest);
	pattern_fill(mem, rest, SEED + 1);
	TEST_ASSERT(!free_pages(), "%d pages are free, expected none", free_pages());

	TEST_ASSERT(read(pipefd[0], buffer, self->size) == self->size,
		    "the pipe lost something, errno %d", errno);
	expect_pattern(buffer, self->size, SEED, "what was in the pipe");

	kvm_munmap(mem, rest);
	kvm_close(fd);
	close_pipe(pipefd);
	free(buffer);
	expect_idle_pool(NR_POOL);
}

TEST_F(guestmem_sample, poisoned_page_never_comes_back)
{
	int fd;
	char *mem;
	u64 pfn;

	if (access(INJECT, W_OK))
		SKIP(return, "the kernel lacks CONFIG_HWPOISON_INJECT, or debugfs is not mounted");

	fd = create_file(self->vm, self->size);
	mem = map_file(fd, self->size);
	pattern_fill(mem, self->size, SEED);
	pfn = mapped_pfn(mem);
	TEST_ASSERT(pfn, "no pfn in the page map");

	write_number(INJECT, pfn);
	kvm_munmap(mem, self->size);
	kvm_close(fd);
	expect_idle_pool(NR_POOL - 1);
	write_number(UNPOISON, pfn);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_FLAGS));

	return test_harness_run(argc, argv);
}
