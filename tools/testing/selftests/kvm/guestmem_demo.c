// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest with private memory from a guest_memfd, and what the kernel says
 * about it; and memory that becomes shared and private again where it is, all in
 * one piece or in as many as it takes.
 * Every figure that is printed is asked for, none is known before.
 */
#include "guestmem_util.h"

#define KEY_WIDTH	24

struct mappings {
	u64 pages_4k;
	u64 pages_2m;
	u64 pages_1g;
};

struct allocator {
	const char *name;
	u64 flags;
	u8 page_size_log2;
	/* Size of the file, and of what the guest touches of it at most. */
	size_t size;
	size_t used;
};

static const struct allocator allocators[] = {
	{ "page4k", 0, 0, SZ_16M, SZ_1G },
	{ "hugetlb-2m", GUEST_MEMFD_FLAG_HUGETLB, 21, SZ_16M, SZ_1G },
	{ "hugetlb-1g", GUEST_MEMFD_FLAG_HUGETLB, 30, SZ_1G, SZ_16M },
};

struct demo {
	struct allocator allocator;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *mem;
	int fd;
};

/* What the guest is to do next: write the words of a seed, if it is given one. */
static struct job {
	u64 gva;
	u64 size;
	u64 seed;
} job;

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

/* The shift is what makes the upper bits of a word, its seed, count. */
static u64 checksum_add(u64 sum, u64 word)
{
	sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
	return sum ^ sum >> 29;
}

static u64 checksum(const u64 *mem, u64 size)
{
	u64 sum = 0;
	u64 i;

	for (i = 0; i < size / sizeof(*mem); i++)
		sum = checksum_add(sum, READ_ONCE(mem[i]));
	return sum;
}

/* What the words of a seed come to. */
static u64 expected_checksum(u64 size, u64 seed)
{
	u64 sum = 0;
	u64 i;

	for (i = 0; i < size / sizeof(u64); i++)
		sum = checksum_add(sum, pattern_word(seed, i));
	return sum;
}

static void guest_code(void)
{
	for (;;) {
		void *mem = (void *)READ_ONCE(job.gva);
		u64 size = READ_ONCE(job.size);
		u64 seed = READ_ONCE(job.seed);

		if (seed)
			pattern_fill(mem, size, seed);
		GUEST_SYNC1(checksum(mem, size));
	}
}

static u64 run_guest(const struct demo *demo, u64 offset, u64 size, u64 seed)
{
	struct ucall uc;

	job = (struct job) { GUESTMEM_GPA + offset, size, seed };
	sync_global_to_guest(demo->vm, job);
	vcpu_run(demo->vcpu);
	TEST_ASSERT(get_ucall(demo->vcpu, &uc) == UCALL_SYNC,
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

/* A change takes just its range's mappings away, which tells them apart. */
static void show_mappings(const char *key, const struct mappings *with,
			  const struct mappings *without)
{
	row(key, "%lu of 4 KiB, %lu of 2 MiB, %lu of 1 GiB",
	    with->pages_4k - without->pages_4k,
	    with->pages_2m - without->pages_2m,
	    with->pages_1g - without->pages_1g);
}

static void show_checksum(const char *whose, u64 sum, u64 want, const char *right)
{
	row(whose, "0x%016lx (%s)", sum, sum == want ? right : "WRONG");
	all_went_well &= sum == want;
}

static void show_guest_checksum(u64 sum, u64 size, u64 seed)
{
	show_checksum("guest's checksum", sum, expected_checksum(size, seed),
		      "what the host expects");
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

	mem = mmap(NULL, demo->allocator.size, PROT_READ, MAP_SHARED, demo->fd, 0);
	show_refused("mmap()", mem == MAP_FAILED);
	show_refused("read()", read(demo->fd, &c, 1) < 0);
	show_refused("write()", write(demo->fd, &c, 1) < 0);
	show_refused("ftruncate()", ftruncate(demo->fd, 0) < 0);
}

static void __noreturn __printf(1, 2) give_up(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "guestmem_demo: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(KSFT_FAIL);
}

static int create_file(struct kvm_vm *vm, const struct allocator *allocator)
{
	struct kvm_create_guest_memfd args = {
		.size = allocator->size,
		.flags = allocator->flags,
		.page_size_log2 = allocator->page_size_log2,
	};
	int fd = __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);

	if (fd < 0)
		give_up("KVM refuses a guest_memfd of %lu MiB with flags 0x%lx: %s",
			allocator->size / SZ_1M, allocator->flags, strerror(errno));
	return fd;
}

static struct demo create_demo(const struct allocator *allocator)
{
	struct demo demo = { .allocator = *allocator };

	demo.vm = create_vm_for(KVM_X86_SW_PROTECTED_VM, allocator->used, guest_code,
				&demo.vcpu);
	demo.fd = create_file(demo.vm, allocator);
	bind_file(demo.vm, GUESTMEM_GPA, allocator->size, demo.fd, 0);
	virt_map(demo.vm, GUESTMEM_GPA, GUESTMEM_GPA,
		 allocator->used / demo.vm->page_size);
	if (allocator->flags & GUEST_MEMFD_FLAG_MMAP)
		demo.mem = map_file(demo.fd, allocator->size);
	return demo;
}

static void free_demo(struct demo *demo)
{
	if (demo->mem)
		kvm_munmap(demo->mem, demo->allocator.size);
	kvm_close(demo->fd);
	kvm_vm_free(demo->vm);
}

static void show_private_memory(const struct demo *demo)
{
	const u64 seed = 1, used = demo->allocator.used;
	struct mappings with, without;
	char text[64];
	u64 sum;

	title("A VM with private memory on a guest_memfd");
	show_file(demo);

	sum = run_guest(demo, 0, used, seed);
	with = read_mappings(demo->vm);

	snprintf(text, sizeof(text), "The guest wrote %lu MiB of it and read it back",
		 used / SZ_1M);
	title(text);
	show_guest_checksum(sum, used, seed);
	show_blocks(demo->fd);
	show_folios(demo->fd);

	punch_pages(demo->fd, 0, demo->allocator.size / getpagesize());
	without = read_mappings(demo->vm);
	show_mappings("stage-2 mappings", &with, &without);

	title("The host punched a hole over the whole file");
	show_blocks(demo->fd);
	show_guest_checksum(run_guest(demo, 0, used, 0), used, 0);
	row("last exit", "KVM_EXIT_%s", exit_reason_str(demo->vcpu->run->exit_reason));

	title("The host is refused");
	show_what_the_host_is_refused(demo);
}

/*
 * Conversion: a part in the middle of a file, there and back
 */

/* Seeds of what the guest and the host write. */
#define BY_GUEST	2
#define BY_HOST		3

/* One line per run of pages of the same state, which a range has few of. */
static void show_states(int fd)
{
	unsigned long start, end;
	char path[64], state[16];
	FILE *f;

	guestmem_debugfs_path(fd, "states", path, sizeof(path));
	f = fopen(path, "r");
	if (!f) {
		row("states", "not told by this kernel, or debugfs is not mounted");
		return;
	}
	while (fscanf(f, "%lu %lu %15s", &start, &end, state) == 3)
		row("states", "pages %4lu to %4lu %s", start, end - 1, state);
	fclose(f);
}

static void show_layout(const struct demo *demo)
{
	show_states(demo->fd);
	show_folios(demo->fd);
	show_blocks(demo->fd);
}

/* A checksum over where each folio is; 0 if the kernel does not say. */
static u64 read_places(int fd)
{
	char path[64];
	u64 sum = 0;
	FILE *f;
	int c;

	guestmem_debugfs_path(fd, "pfns", path, sizeof(path));
	f = fopen(path, "r");
	if (!f)
		return 0;
	while ((c = fgetc(f)) != EOF)
		sum = checksum_add(sum, c);
	fclose(f);
	return sum;
}

static void show_places(u64 before, u64 after)
{
	if (!before)
		return;

	row("pages", "%s", before == after ? "all where they were" : "MOVED");
	all_went_well &= before == after;
}

static bool host_can_read(const char *mem)
{
	struct sigaction old, new = { .sa_handler = expect_sigbus_handler };
	bool can;

	sigaction(SIGBUS, &new, &old);
	/* The signal comes back here. */
	can = !sigsetjmp(expect_sigbus_jmpbuf, 1);
	if (can)
		(void)READ_ONCE(*mem);
	sigaction(SIGBUS, &old, NULL);
	return can;
}

static void show_host_reads(const char *key, const void *mem, bool expected)
{
	bool can = host_can_read(mem);

	row(key, "%s", can ? "allowed" : "SIGBUS");
	all_went_well &= can == expected;
}

static void set_attributes(const struct demo *demo, u64 offset, u64 size, u64 attributes)
{
	struct kvm_memory_attributes2 attrs = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
	};

	if (ioctl(demo->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attrs))
		give_up("KVM refuses to convert at offset 0x%llx: %s",
			attrs.error_offset, strerror(errno));
}

/* Convert the part, and show what that took from the guest and what became of it. */
static void show_change(const struct demo *demo, u64 offset, u64 size, u64 attributes)
{
	u64 places = read_places(demo->fd);
	struct mappings with, without;

	with = read_mappings(demo->vm);
	set_attributes(demo, offset, size, attributes);
	without = read_mappings(demo->vm);

	show_layout(demo);
	show_places(places, read_places(demo->fd));
	show_mappings("unmapped from the guest", &with, &without);
}

static void show_to_shared(const struct demo *demo, u64 offset, u64 size)
{
	void *part = demo->mem + offset;

	title("A quarter of it is made shared (KVM_SET_MEMORY_ATTRIBUTES2)");
	show_change(demo, offset, size, 0);
	show_host_reads("host reads before it", part - 1, false);
	show_host_reads("host reads its start", part, true);
	show_checksum("host's checksum", checksum(part, size),
		      expected_checksum(size, BY_GUEST), "what the guest wrote");

	title("The host writes to the shared part, and the guest looks");
	pattern_fill(part, size, BY_HOST);
	show_checksum("guest's checksum", run_guest(demo, offset, size, 0),
		      expected_checksum(size, BY_HOST), "what the host wrote");
}

static void show_to_private(const struct demo *demo, u64 offset, u64 size)
{
	title("It is made private again");
	show_change(demo, offset, size, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	show_host_reads("host reads its start", demo->mem + offset, false);
	show_checksum("guest's checksum", run_guest(demo, offset, size, 0),
		      expected_checksum(size, BY_HOST), "what the host wrote");
}

static void show_conversion(const struct demo *demo)
{
	const u64 size = demo->allocator.size / 4 / getpagesize() * getpagesize();
	const u64 used = demo->allocator.used;

	title("A file the host maps, all of it private: the guest wrote it");
	show_guest_checksum(run_guest(demo, 0, used, BY_GUEST), used, BY_GUEST);
	/* The part is looked at by itself later. */
	run_guest(demo, size, size, BY_GUEST);
	show_layout(demo);
	show_host_reads("host reads any of it", demo->mem + size, false);

	show_to_shared(demo, size, size);
	show_to_private(demo, size, size);
}

/*
 * Splitting: one page of a huge page
 */

/* Pages of memory that hold struct pages, of the whole machine. */
static u64 read_memmap(void)
{
	char key[64];
	u64 value, found = 0;
	FILE *f;

	f = fopen("/proc/vmstat", "r");
	if (!f)
		return 0;
	while (fscanf(f, "%63s %lu", key, &value) == 2)
		if (!strcmp(key, "nr_memmap_pages"))
			found = value;
	fclose(f);
	return found;
}

static void show_pieces(const struct demo *demo, const struct mappings *none, u64 memmap)
{
	struct mappings now = read_mappings(demo->vm);
	char layout[64];

	if (read_fdinfo(demo->fd, "guestmem-layout", layout, sizeof(layout)))
		row("layout", "%s", layout);
	show_folios(demo->fd);
	row("pages of struct pages", "%+ld", (long)(read_memmap() - memmap));
	show_mappings("guest maps", &now, none);
}

static void show_page(const struct demo *demo)
{
	const u64 used = demo->allocator.used, page = getpagesize();
	struct mappings none = read_mappings(demo->vm);
	u64 memmap = read_memmap();

	title("A file the host maps, of huge pages (# whole, = 2M piece, : single pages)");
	show_guest_checksum(run_guest(demo, 0, used, BY_GUEST), used, BY_GUEST);
	show_pieces(demo, &none, memmap);

	title("One page of 4 KiB is made shared, and the guest looks at all it wrote");
	set_attributes(demo, used / 2, page, 0);
	show_host_reads("host reads the page", demo->mem + used / 2, true);
	show_host_reads("host reads the next", demo->mem + used / 2 + page, false);
	show_guest_checksum(run_guest(demo, 0, used, 0), used, BY_GUEST);
	show_pieces(demo, &none, memmap);

	title("It is made private again, and the guest looks once more");
	set_attributes(demo, used / 2, page, KVM_MEMORY_ATTRIBUTE_PRIVATE);
	show_guest_checksum(run_guest(demo, 0, used, 0), used, BY_GUEST);
	show_pieces(demo, &none, memmap);
}

static void demonstrate(const struct allocator *allocator, void (*show)(const struct demo *demo))
{
	struct demo demo = create_demo(allocator);

	show(&demo);
	free_demo(&demo);
}

static void demonstrate_conversion(struct allocator allocator)
{
	if (!converts_in_place()) {
		title("Conversion in place is off: boot with kvm.gmem_in_place_conversion=1");
		return;
	}

	allocator.flags |= GUEST_MEMFD_FLAG_MMAP;
	demonstrate(&allocator, allocator.page_size_log2 ? show_page : show_conversion);
}

static const struct allocator *find_allocator(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(allocators); i++) {
		if (!strcmp(allocators[i].name, name))
			return &allocators[i];
	}
	give_up("-a takes page4k, hugetlb-2m or hugetlb-1g");
}

static void explain(const char *name)
{
	printf("usage: %s [-a ALLOCATOR] [-m MiB] [-f FLAGS]\n"
	       "  -a  page4k, hugetlb-2m or hugetlb-1g (page4k)\n"
	       "  -m  memory of the guest_memfd, 1 to 1024 (16; hugetlb-1g: 1024)\n"
	       "  -f  flags of KVM_CREATE_GUEST_MEMFD, for an allocator that is not in the list\n",
	       name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	struct allocator allocator = allocators[0];
	int opt;

	while ((opt = getopt(argc, argv, "a:m:f:h")) != -1) {
		if (opt == 'a')
			allocator = *find_allocator(optarg);
		else if (opt == 'm')
			allocator.size = (size_t)atoi_positive("memory", optarg) * SZ_1M;
		else if (opt == 'f')
			allocator.flags = strtoull(optarg, NULL, 0);
		else
			explain(argv[0]);
	}
	if (allocator.size > SZ_1G)
		give_up("-m takes 1024 MiB at most");
	if (!vm_type_available(KVM_X86_SW_PROTECTED_VM))
		give_up("KVM lacks private memory; it needs CONFIG_KVM_SW_PROTECTED_VM");

	allocator.used = min(allocator.size, allocator.used);
	demonstrate(&allocator, show_private_memory);
	demonstrate_conversion(allocator);
	printf("\n");
	return all_went_well ? KSFT_PASS : KSFT_FAIL;
}
