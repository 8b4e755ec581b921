// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest with private memory from a guest_memfd, and what the kernel says
 * about it.  Every figure that is printed is asked for, none is known before.
 */
#include "guestmem_util.h"

#define KEY_WIDTH	24

struct mappings {
	u64 pages_4k;
	u64 pages_2m;
	u64 pages_1g;
};

struct demo {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	size_t size;
	u64 flags;
	int fd;
};

static bool all_went_well = true;

static void title(const char *text)
{
	printf("\n%s\n", text);
}

static void __printf(2, 3) row(const char *key, const char *fmt, ...)
{
	va_list args;

	printf("    %-*s", KEY_WIDTH, key);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

static u64 checksum_add(u64 sum, u64 word)
{
	return sum * 0x9e3779b97f4a7c15ull + word;
}

static u64 checksum(const u64 *mem, u64 size)
{
	u64 sum = 0;
	u64 i;

	for (i = 0; i < size / sizeof(*mem); i++)
		sum = checksum_add(sum, READ_ONCE(mem[i]));
	return sum;
}

/* What the guest must come to; the host cannot look. */
static u64 expected_checksum(u64 size, u64 seed)
{
	u64 sum = 0;
	u64 i;

	for (i = 0; i < size / sizeof(u64); i++)
		sum = checksum_add(sum, pattern_word(seed, i));
	return sum;
}

static void guest_code(u64 gva, u64 size, u64 seed)
{
	pattern_fill((void *)gva, size, seed);
	GUEST_SYNC1(checksum((u64 *)gva, size));
	GUEST_SYNC1(checksum((u64 *)gva, size));
}

static u64 run_guest(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC,
		    "the guest did not get to its checksum");
	return uc.args[0];
}

static struct mappings read_mappings(struct kvm_vm *vm)
{
	return (struct mappings) {
		.pages_4k = vm_get_stat(vm, pages_4k),
		.pages_2m = vm_get_stat(vm, pages_2m),
		.pages_1g = vm_get_stat(vm, pages_1g),
	};
}

static void show_file(const struct demo *demo)
{
	struct stat st = file_stat(demo->fd);
	char allocator[32] = "not told by this kernel";

	read_fdinfo(demo->fd, "guestmem-allocator", allocator, sizeof(allocator));
	row("allocator", "%s", allocator);
	row("size", "%lu MiB", st.st_size / SZ_1M);
	row("allocation unit", "%lu KiB", st.st_blksize / SZ_1K);
}

/* One "folios-order-N:	count" line per order that there is. */
static void show_folios(int fd)
{
	unsigned long order, nr;
	char path[64], line[128];
	FILE *f;

	guestmem_debugfs_path(fd, "layout", path, sizeof(path));
	f = fopen(path, "r");
	if (!f) {
		row("folios", "not told by this kernel, or debugfs is not mounted");
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "folios-order-%lu: %lu", &order, &nr) == 2)
			row("folios", "%lu of order %lu", nr, order);
	}
	fclose(f);
}

static void show_blocks(int fd)
{
	u64 blocks = file_stat(fd).st_blocks;

	row("st_blocks", "%lu (%lu KiB)", blocks, blocks / 2);
}

/* A hole takes just the file's own mappings away, which tells them apart. */
static void show_mappings(const struct mappings *with, const struct mappings *without)
{
	row("stage-2 mappings", "%lu of 4 KiB, %lu of 2 MiB, %lu of 1 GiB",
	    with->pages_4k - without->pages_4k,
	    with->pages_2m - without->pages_2m,
	    with->pages_1g - without->pages_1g);
}

static void show_checksum(const struct demo *demo, u64 sum, u64 seed)
{
	u64 want = expected_checksum(demo->size, seed);

	row("guest's checksum", "0x%016lx (%s)", sum,
	    sum == want ? "what the host expects" : "WRONG");
	all_went_well &= sum == want;
}

static void show_refused(const char *call, bool failed)
{
	row(call, "%s", failed ? strerrorname_np(errno) : "ALLOWED");
	all_went_well &= failed;
}

static void show_what_the_host_is_refused(const struct demo *demo)
{
	void *mem;
	char c = 0;

	mem = mmap(NULL, demo->size, PROT_READ, MAP_SHARED, demo->fd, 0);
	show_refused("mmap()", mem == MAP_FAILED);
	show_refused("read()", read(demo->fd, &c, 1) < 0);
	show_refused("write()", write(demo->fd, &c, 1) < 0);
	show_refused("ftruncate()", ftruncate(demo->fd, 0) < 0);
}

static void __printf(1, 2) give_up(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "guestmem_demo: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(KSFT_FAIL);
}

static void create_demo(struct demo *demo)
{
	demo->vm = create_vm_for(KVM_X86_SW_PROTECTED_VM, demo->size, guest_code,
				 &demo->vcpu);
	demo->fd = __vm_create_guest_memfd(demo->vm, demo->size, demo->flags);
	if (demo->fd < 0)
		give_up("KVM refuses a guest_memfd of %lu MiB with flags 0x%lx: %s",
			demo->size / SZ_1M, demo->flags, strerror(errno));
	bind_file(demo->vm, GUESTMEM_GPA, demo->size, demo->fd, 0);
	virt_map(demo->vm, GUESTMEM_GPA, GUESTMEM_GPA,
		 demo->size / demo->vm->page_size);
}

static void run_demo(struct demo *demo)
{
	const u64 seed = 1;
	struct mappings with, without;
	u64 sum;

	title("A VM with private memory on a guest_memfd");
	show_file(demo);

	vcpu_args_set(demo->vcpu, 3, GUESTMEM_GPA, demo->size, seed);
	sum = run_guest(demo->vcpu);
	with = read_mappings(demo->vm);

	title("The guest wrote all of it and read it back");
	show_checksum(demo, sum, seed);
	show_blocks(demo->fd);
	show_folios(demo->fd);

	punch_pages(demo->fd, 0, demo->size / getpagesize());
	without = read_mappings(demo->vm);
	show_mappings(&with, &without);

	title("The host punched a hole over the whole file");
	show_blocks(demo->fd);

	sum = run_guest(demo->vcpu);
	show_checksum(demo, sum, 0);
	row("last exit", "KVM_EXIT_%s", exit_reason_str(demo->vcpu->run->exit_reason));

	title("The host is refused");
	show_what_the_host_is_refused(demo);
	printf("\n");
}

static void explain(const char *name)
{
	printf("usage: %s [-m MiB] [-f FLAGS]\n"
	       "  -m  memory of the guest_memfd, 1 to 1024 (16)\n"
	       "  -f  flags of KVM_CREATE_GUEST_MEMFD (0): 0 is the 4K allocator\n",
	       name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	struct demo demo = { .size = SZ_16M };
	int opt;

	while ((opt = getopt(argc, argv, "m:f:h")) != -1) {
		if (opt == 'm')
			demo.size = (size_t)atoi_positive("memory", optarg) * SZ_1M;
		else if (opt == 'f')
			demo.flags = strtoull(optarg, NULL, 0);
		else
			explain(argv[0]);
	}
	if (demo.size > SZ_1G)
		give_up("-m takes 1024 MiB at most");
	if (!vm_type_available(KVM_X86_SW_PROTECTED_VM))
		give_up("KVM lacks private memory; it needs CONFIG_KVM_SW_PROTECTED_VM");

	create_demo(&demo);
	run_demo(&demo);
	kvm_close(demo.fd);
	kvm_vm_free(demo.vm);
	return all_went_well ? KSFT_PASS : KSFT_FAIL;
}
