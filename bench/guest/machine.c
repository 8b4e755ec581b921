// SPDX-License-Identifier: GPL-2.0-only
/* A VM whose guest does one thing: write to its memory, once in so many bytes, and halt. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

struct machine machine;

/* Guest physical addresses of the guest's own three pages; all else is measured. */
enum { CODE = 0x0000, PML4 = 0x1000, PDPT = 0x2000, OWN_SIZE = OWN_PAGES * PAGE };
enum { OWN_SLOT, MEMORY_SLOT };

/* Expects RDI = first address, RSI = how far apart, RCX = how many. */
asm(".pushsection .rodata\n"
	"touch_start:\n"
	"1:	movb $1, (%rdi)\n"
	"	add %rsi, %rdi\n"
	"	dec %rcx\n"
	"	jnz 1b\n"
	"	hlt\n"
	"touch_end:\n"
	".popsection\n");
extern const char touch_start[], touch_end[];

int checked_ioctl(int fd, unsigned long request, const char *name, void *arg)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		die("%s: %m", name);
	return r;
}

static void *map(size_t size, int protection, int flags, int fd)
{
	void *p = mmap(NULL, size, protection, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap: %m");
	return p;
}

static int open_kvm(void)
{
	static int kvm = -1;

	if (kvm < 0)
		kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm: %m");
	return kvm;
}

static void create_vm(unsigned long type, size_t pages)
{
	state_begin();
	machine.vm = do_ioctl(open_kvm(), KVM_CREATE_VM, (void *)type);
	machine.vcpu = -1;
	machine.pages = pages;
}

static void create_file(struct kvm_create_guest_memfd args)
{
	args.size = machine.pages * PAGE;
	machine.file = do_ioctl(machine.vm, KVM_CREATE_GUEST_MEMFD, &args);
}

void machine_create(unsigned long type, uint64_t flags, size_t pages)
{
	create_vm(type, pages);
	create_file((struct kvm_create_guest_memfd) { .flags = flags });
}

void machine_create_huge(uint64_t flags, unsigned int page_size_log2, size_t pages)
{
	create_vm(KVM_X86_SW_PROTECTED_VM, pages);
	create_file((struct kvm_create_guest_memfd) {
		.flags = flags,
		.page_size_log2 = page_size_log2,
	});
}

/* All memory is in @file, which the machine closes. */
void machine_create_around(int file, size_t pages)
{
	create_vm(KVM_X86_SW_PROTECTED_VM, pages);
	machine.file = file;
}

static size_t memory_size(void)
{
	return machine.pages * PAGE;
}

void machine_map_shared(int file)
{
	machine.shared = map(memory_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file);
}

/* Where addresses of huge pages agree with the guest's. */
#define ALIGNED_PLACE	((void *)(1UL << 40))

static void map_aligned(int flags, int fd)
{
	machine.shared = mmap(ALIGNED_PLACE, memory_size(), PROT_READ | PROT_WRITE,
			      flags | MAP_FIXED_NOREPLACE, fd, 0);
	if (machine.shared == MAP_FAILED)
		die("mmap: %m");
}

void machine_map_shared_aligned(int file)
{
	map_aligned(MAP_SHARED, file);
}

/* Without a place for shared pages, there are to be none. */
static void map_nothing_shared(void)
{
	map_aligned(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

static void set_memory(struct kvm_userspace_memory_region2 region)
{
	region.slot = MEMORY_SLOT;
	region.guest_phys_addr = MEMORY_START;
	region.memory_size = memory_size();
	region.userspace_addr = (uintptr_t)machine.shared;
	do_ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION2, &region);
}

void machine_bind(void)
{
	if (!machine.shared)
		map_nothing_shared();
	set_memory((struct kvm_userspace_memory_region2) {
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_memfd = machine.file,
	});
}

/* No memory but what the host maps. */
void machine_bind_shared(void)
{
	set_memory((struct kvm_userspace_memory_region2) {});
}

void machine_set_private(int private, size_t offset, size_t size)
{
	struct kvm_memory_attributes attributes = {
		.address = MEMORY_START + offset,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	do_ioctl(machine.vm, KVM_SET_MEMORY_ATTRIBUTES, &attributes);
}

/* The first 512 GiB, one to one, by pages of 1 GiB. */
static void fill_page_tables(uint64_t *pml4, uint64_t *pdpt)
{
	enum { PRESENT = 1, WRITE = 2, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80 };

	pml4[0] = PDPT | PRESENT | WRITE | ACCESSED;
	for (uint64_t i = 0; i < 512; i++)
		pdpt[i] = i << 30 | PRESENT | WRITE | ACCESSED | DIRTY | LARGE;
}

static void add_own_memory(void)
{
	struct kvm_userspace_memory_region region = {
		.slot = OWN_SLOT,
		.guest_phys_addr = CODE,
		.memory_size = OWN_SIZE,
	};
	char *own = map(OWN_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);

	memcpy(own + CODE, touch_start, touch_end - touch_start);
	fill_page_tables((uint64_t *)(own + PML4), (uint64_t *)(own + PDPT));
	region.userspace_addr = (uintptr_t)own;
	do_ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void set_cpuid(void)
{
	enum { ENTRIES = 256 };
	static union {
		struct kvm_cpuid2 cpuid;
		char room[sizeof(struct kvm_cpuid2) +
			  ENTRIES * sizeof(struct kvm_cpuid_entry2)];
	} supported = { .cpuid.nent = ENTRIES };

	do_ioctl(open_kvm(), KVM_GET_SUPPORTED_CPUID, &supported);
	do_ioctl(machine.vcpu, KVM_SET_CPUID2, &supported);
}

/* 64-bit mode, flat. */
static void set_system_registers(void)
{
	struct kvm_segment code = {
		.limit = ~0u, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.limit = ~0u, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	do_ioctl(machine.vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.cr0 = 0x80000001;		/* PG, PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;		/* PAE */
	sregs.efer = 0x500;		/* LMA, LME */
	do_ioctl(machine.vcpu, KVM_SET_SREGS, &sregs);
}

static struct kvm_run *kvm_run;

static size_t run_size(void)
{
	return do_ioctl(open_kvm(), KVM_GET_VCPU_MMAP_SIZE, NULL);
}

void machine_add_vcpu(void)
{
	add_own_memory();
	machine.vcpu = do_ioctl(machine.vm, KVM_CREATE_VCPU, NULL);
	kvm_run = map(run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu);
	set_cpuid();
	set_system_registers();
}

void machine_touch(size_t stride)
{
	struct kvm_regs regs = {
		.rip = CODE,
		.rflags = 2,
		.rdi = MEMORY_START,
		.rsi = stride,
		.rcx = memory_size() / stride,
	};

	do_ioctl(machine.vcpu, KVM_SET_REGS, &regs);
	do_ioctl(machine.vcpu, KVM_RUN, NULL);
	if (kvm_run->exit_reason != KVM_EXIT_HLT)
		die("the guest stopped for reason %u and should have halted",
		    kvm_run->exit_reason);
}

void machine_touch_all(void)
{
	machine_touch(PAGE);
}

/* As a guest's read of each page would, but without the guest. */
void machine_prefault(size_t offset, size_t size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = MEMORY_START + offset,
		.size = size,
	};

	do_ioctl(machine.vcpu, KVM_PRE_FAULT_MEMORY, &range);
	if (range.size)
		die("%llu bytes are left to pre-fault", range.size);
}

void file_allocate(int file, size_t offset, size_t size)
{
	if (fallocate(file, FALLOC_FL_KEEP_SIZE, offset, size))
		die("fallocate: %m");
}

void file_punch(int file, size_t offset, size_t size)
{
	if (fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size))
		die("punch hole: %m");
}

/* All of it: the next machine gets the same names in debugfs. */
void machine_destroy(void)
{
	if (machine.vcpu >= 0) {
		munmap(kvm_run, run_size());
		close(machine.vcpu);
	}
	munmap((void *)machine.shared, memory_size());
	machine.shared = NULL;
	close(machine.file);
	close(machine.vm);
}
