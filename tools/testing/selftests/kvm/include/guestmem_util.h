/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guestmem_*_test programs have in common: files, memslots on them,
 * and a guest that fills and checks memory on command.
 */
#ifndef SELFTEST_KVM_GUESTMEM_UTIL_H
#define SELFTEST_KVM_GUESTMEM_UTIL_H

#include <linux/falloc.h>
#include <linux/sizes.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kvm_util.h"
#include "ucall_common.h"

#define GUESTMEM_SHARED	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

/* Above slot 0 and above whatever a platform keeps below 4 GiB. */
#define GUESTMEM_GPA	SZ_4G
#define GUESTMEM_SLOT	10

static inline bool vm_type_available(unsigned long type)
{
	return type == VM_TYPE_DEFAULT ||
	       kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(type);
}

static inline bool vm_is_private(struct kvm_vm *vm)
{
#ifdef __x86_64__
	return vm->type == KVM_X86_SW_PROTECTED_VM;
#else
	return false;
#endif
}

/* Are the states of pages the file's (kvm.gmem_in_place_conversion), not the VM's? */
static inline bool converts_in_place(void)
{
	return kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
}

/* How much of a long test to do, in parts of 1000: all of it, if nobody says otherwise. */
#define PERMILLE_ENV	"GUESTMEM_TEST_PERMILLE"

static inline u64 part_of(u64 full)
{
	const char *permille = getenv(PERMILLE_ENV);

	return permille ? max(full * atoi_positive(PERMILLE_ENV, permille) / 1000, 1ul) : full;
}

static inline struct stat file_stat(int fd)
{
	struct stat st;

	TEST_ASSERT(!fstat(fd, &st), __KVM_SYSCALL_ERROR("fstat()", -1));
	return st;
}

static inline void expect_pages(int fd, u64 nr_pages, const char *when)
{
	u64 want = nr_pages * getpagesize() / 512;
	u64 blocks = file_stat(fd).st_blocks;

	TEST_ASSERT(blocks == want, "st_blocks is %lu %s, expected %lu",
		    blocks, when, want);
}

static inline void allocate_pages(int fd, u64 first, u64 nr)
{
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, first * getpagesize(),
		      nr * getpagesize());
}

static inline void punch_pages(int fd, u64 first, u64 nr)
{
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      first * getpagesize(), nr * getpagesize());
}

static inline void *map_file(int fd, size_t size)
{
	return kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
}

/* Seed 0 stands for memory that nobody has written yet. */
static inline u64 pattern_word(u64 seed, u64 i)
{
	return seed ? (seed << 48) + i + 1 : 0;
}

static inline void pattern_fill(void *mem, u64 size, u64 seed)
{
	u64 *word = mem;
	u64 i;

	for (i = 0; i < size / sizeof(*word); i++)
		WRITE_ONCE(word[i], pattern_word(seed, i));
}

/* Returns the offset of the first word that is not the pattern's, or @size. */
static inline u64 pattern_mismatch(const void *mem, u64 size, u64 seed)
{
	const u64 *word = mem;
	u64 i;

	for (i = 0; i < size / sizeof(*word); i++) {
		if (READ_ONCE(word[i]) != pattern_word(seed, i))
			return i * sizeof(*word);
	}
	return size;
}

static inline void expect_pattern(const void *mem, u64 size, u64 seed,
				  const char *what)
{
	u64 offset = pattern_mismatch(mem, size, seed);

	/* There may be nothing to read behind the pattern. */
	if (offset == size)
		return;

	TEST_FAIL("%s: host reads 0x%lx at 0x%lx, expected 0x%lx", what,
		  *(u64 *)(mem + offset), offset,
		  pattern_word(seed, offset / sizeof(u64)));
}

/* Leave dirty pages where this CPU's next allocations come from. */
static inline void dirty_free_memory(size_t size)
{
	void *mem = kvm_mmap(size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);

	pin_self_to_any_cpu();
	/* Huge pages would be kept apart; fails where there are none. */
	(void)madvise(mem, size, MADV_NOHUGEPAGE);
	memset(mem, 0xa5, size);
	kvm_munmap(mem, size);
}

enum guest_op {
	GUEST_FILL,
	GUEST_CHECK,
};

struct guest_command {
	u64 op;
	u64 gva;
	u64 size;
	u64 seed;
};

static struct guest_command guest_command;

static inline void guest_check(void *mem, u64 size, u64 seed)
{
	u64 offset = pattern_mismatch(mem, size, seed);

	__GUEST_ASSERT(offset == size,
		       "guest reads 0x%lx at 0x%lx, expected 0x%lx",
		       *(u64 *)(mem + offset), (u64)mem + offset,
		       pattern_word(seed, offset / sizeof(u64)));
}

static inline void guest_main(void)
{
	struct guest_command *cmd = &guest_command;

	for (;;) {
		void *mem = (void *)READ_ONCE(cmd->gva);

		if (READ_ONCE(cmd->op) == GUEST_FILL)
			pattern_fill(mem, READ_ONCE(cmd->size), READ_ONCE(cmd->seed));
		else
			guest_check(mem, READ_ONCE(cmd->size), READ_ONCE(cmd->seed));

		GUEST_DONE();
	}
}

static inline void guest_command_set(struct kvm_vcpu *vcpu, enum guest_op op,
				     gva_t gva, u64 size, u64 seed)
{
	guest_command = (struct guest_command) {
		.op = op,
		.gva = gva,
		.size = size,
		.seed = seed,
	};
	sync_global_to_guest(vcpu->vm, guest_command);
}

static inline void expect_guest_done(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("Unexpected ucall %lu, exit reason %u (%s)", uc.cmd,
			  vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason));
	}
}

static inline void guest_do(struct kvm_vcpu *vcpu, enum guest_op op, gva_t gva,
			    u64 size, u64 seed)
{
	guest_command_set(vcpu, op, gva, size, seed);
	vcpu_run(vcpu);
	expect_guest_done(vcpu);
}

static inline struct kvm_vm *create_vm_for(unsigned long type, size_t size,
					   void *guest_code,
					   struct kvm_vcpu **vcpu)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = type,
	};

	return __vm_create_shape_with_one_vcpu(shape, vcpu, size / getpagesize(),
					       guest_code);
}

/* A file's pages start private by themselves; a VM's do not. */
static inline void mark_private(struct kvm_vm *vm, gpa_t gpa, size_t size)
{
	if (vm_is_private(vm) && !converts_in_place())
		vm_mem_set_private(vm, gpa, size);
}

/* With @mem for KVM's own accesses. */
static inline void bind_mapped_file(struct kvm_vm *vm, gpa_t gpa, size_t size, void *mem,
				    int fd, u64 offset)
{
	vm_set_user_memory_region2(vm, GUESTMEM_SLOT, KVM_MEM_GUEST_MEMFD, gpa,
				   size, mem, fd, offset);
	mark_private(vm, gpa, size);
}

static inline void bind_file(struct kvm_vm *vm, gpa_t gpa, size_t size, int fd,
			     u64 offset)
{
	bind_mapped_file(vm, gpa, size, NULL, fd, offset);
}

static inline void unbind_file(struct kvm_vm *vm, gpa_t gpa)
{
	vm_set_user_memory_region2(vm, GUESTMEM_SLOT, KVM_MEM_GUEST_MEMFD, gpa,
				   0, NULL, -1, 0);
}

/* All of a range, in as many calls as it takes. */
static inline void pre_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };

	while (range.size)
		vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
}

/* What is left of a range after one call, which may fail. */
static inline void expect_pre_fault_left(struct kvm_vcpu *vcpu,
					 struct kvm_pre_fault_memory *range, gpa_t gpa,
					 int want)
{
	gpa_t end = range->gpa + range->size;
	int got = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, range) ? errno : 0;

	TEST_ASSERT(got == want, "pre-faulting up to 0x%llx: %s (%d), expected %s",
		    range->gpa, strerror(got), got, strerror(want));
	TEST_ASSERT(range->gpa == gpa && range->gpa + range->size == end,
		    "0x%llx bytes from 0x%llx are left, expected 0x%lx from 0x%lx",
		    range->size, range->gpa, end - gpa, gpa);
}

/*
 * Pages before a bad one are a success.  Its error is told when it comes first, however
 * often one asks, and is no progress.
 */
static inline void expect_pre_fault_stops(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size,
					  gpa_t bad, int want)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };

	expect_pre_fault_left(vcpu, &range, bad, 0);
	expect_pre_fault_left(vcpu, &range, bad, want);
	expect_pre_fault_left(vcpu, &range, bad, want);
}

/* The value of a "key:	value" line of a file under /proc or debugfs. */
static inline bool read_shown(const char *path, const char *key, char *value,
			      size_t size)
{
	size_t len = strlen(key);
	bool found = false;
	char line[SZ_4K];
	FILE *f;

	f = fopen(path, "r");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(value, size, "%s", line + len + 1 + strspn(line + len + 1, " \t"));
		found = true;
	}
	fclose(f);
	return found;
}

static inline bool read_fdinfo(int fd, const char *key, char *value, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return read_shown(path, key, value, size);
}

static inline void guestmem_debugfs_path(int fd, const char *name, char *path,
					 size_t size)
{
	snprintf(path, size, "/sys/kernel/debug/guestmem/%lu/%s",
		 file_stat(fd).st_ino, name);
}

/* The pfn the host maps at @mem; 0 if the kernel does not tell (us). */
static inline u64 mapped_pfn(const void *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	u64 entry;
	ssize_t n;

	if (fd < 0)
		return 0;

	n = pread(fd, &entry, sizeof(entry),
		  (unsigned long)mem / getpagesize() * sizeof(entry));
	TEST_ASSERT(n == sizeof(entry), "cannot read the page map");
	kvm_close(fd);
	return entry & ((1ull << 55) - 1);
}

static inline bool read_refcnt(const char *module, int *refcnt)
{
	char path[64];
	bool found;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module);
	f = fopen(path, "r");
	if (!f)
		return false;
	found = fscanf(f, "%d", refcnt) == 1;
	fclose(f);
	return found;
}

static inline int refcnt_of(const char *module)
{
	int refcnt;

	TEST_ASSERT(read_refcnt(module, &refcnt), "%s was unloaded", module);
	return refcnt;
}

/* Files and pages go at their leisure. */
static inline void expect_refcnt(const char *module, int want)
{
	int ms;

	for (ms = 0; ms < 5000 && refcnt_of(module) != want; ms++)
		usleep(1000);
	TEST_ASSERT(refcnt_of(module) == want, "%s has %d references, expected %d",
		    module, refcnt_of(module), want);
}

static inline void expect_unload_refused(const char *module)
{
	long ret = syscall(__NR_delete_module, module, O_NONBLOCK);

	TEST_ASSERT(ret == -1 && errno == EWOULDBLOCK,
		    "unloading %s: got %ld errno %d, expected EWOULDBLOCK", module,
		    ret, errno);
}

#endif /* SELFTEST_KVM_GUESTMEM_UTIL_H */
