// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arguments of KVM_SET_MEMORY_ATTRIBUTES2: each bad one is refused with the errno
 * that is documented, changes nothing, and does not write error_offset.
 */
#include <sys/uio.h>

#include "guestmem_convert.h"
#include "kvm_test_harness.h"

#define NR_PAGES	16
#define NR_RANDOM	5000
#define FILE_SIZE	(NR_PAGES * MIN_PAGE_SIZE)

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

FIXTURE(guestmem_convert_input) {
	struct convert_bed bed;
	bool states[NR_PAGES];
	int pipe[2];
};

FIXTURE_SETUP(guestmem_convert_input)
{
	self->bed = create_convert_bed(NR_PAGES, GUESTMEM_SHARED);
	memset(self->states, false, NR_PAGES);
	host_fills(&self->bed, 0, NR_PAGES, 1);
	TEST_ASSERT(!pipe(self->pipe), __KVM_SYSCALL_ERROR("pipe()", -1));
}

FIXTURE_TEARDOWN(guestmem_convert_input)
{
	kvm_close(self->pipe[0]);
	kvm_close(self->pipe[1]);
	free_convert_bed(&self->bed);
}

struct bad_attributes {
	const char *what;
	u64 offset;
	u64 size;
	u64 attributes;
	u64 flags;
};

static const struct bad_attributes bad[] = {
	{ "no size", 0, 0, PRIVATE },
	{ "no size, shared", 0, 0, 0 },
	{ "offset within a page", 1, MIN_PAGE_SIZE, PRIVATE },
	{ "offset within a page, end aligned", 1, MIN_PAGE_SIZE - 1, PRIVATE },
	{ "size below a page", 0, MIN_PAGE_SIZE - 1, PRIVATE },
	{ "size above a page", 0, MIN_PAGE_SIZE + 1, PRIVATE },
	{ "offset at the end", FILE_SIZE, MIN_PAGE_SIZE, PRIVATE },
	{ "offset far behind the end", 1ull << 40, MIN_PAGE_SIZE, PRIVATE },
	{ "one page too many", 0, FILE_SIZE + MIN_PAGE_SIZE, PRIVATE },
	{ "across the end", FILE_SIZE - MIN_PAGE_SIZE, 2 * MIN_PAGE_SIZE, PRIVATE },
	{ "sum wraps to 0", -(u64)MIN_PAGE_SIZE, MIN_PAGE_SIZE, PRIVATE },
	{ "sum wraps into the file", -(u64)MIN_PAGE_SIZE, 2 * MIN_PAGE_SIZE, PRIVATE },
	{ "size wraps into the file", MIN_PAGE_SIZE, -(u64)MIN_PAGE_SIZE, PRIVATE },
	{ "negative offset", 1ull << 63, MIN_PAGE_SIZE, PRIVATE },
	{ "negative size", 0, 1ull << 63, PRIVATE },
	{ "attribute below PRIVATE", 0, MIN_PAGE_SIZE, PRIVATE >> 1 },
	{ "attribute above PRIVATE", 0, MIN_PAGE_SIZE, PRIVATE << 1 },
	{ "PRIVATE and another", 0, MIN_PAGE_SIZE, PRIVATE | 1 },
	{ "highest attribute", 0, MIN_PAGE_SIZE, 1ull << 63 },
	{ "all attributes", 0, MIN_PAGE_SIZE, -1ull },
	{ "lowest flag", 0, MIN_PAGE_SIZE, PRIVATE, 1 },
	{ "highest flag", 0, MIN_PAGE_SIZE, PRIVATE, 1ull << 63 },
	{ "a flag, though nothing would change", 0, MIN_PAGE_SIZE, 0, 1 },
};

static void expect_invalid(int fd, struct kvm_memory_attributes2 *attrs, const char *what)
{
	int err = set_attributes(fd, attrs) ? errno : 0;

	TEST_ASSERT(err == EINVAL, "%s: %s (%d), expected EINVAL", what, strerror(err), err);
	TEST_ASSERT(attrs->error_offset == NO_OFFSET, "%s: error_offset was written", what);
}

static void expect_unchanged(struct convert_bed *bed, const bool *states, const char *what)
{
	expect_states(bed->fd, states, NR_PAGES, what);
	host_checks(bed, 0, NR_PAGES, 1, what);
}

TEST_F(guestmem_convert_input, bad_fields)
{
	for (int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct kvm_memory_attributes2 attrs = {
			.offset = bad[i].offset,
			.size = bad[i].size,
			.attributes = bad[i].attributes,
			.flags = bad[i].flags,
			.error_offset = NO_OFFSET,
		};

		expect_invalid(self->bed.fd, &attrs, bad[i].what);
	}
	expect_unchanged(&self->bed, self->states, "after all bad fields");
}

TEST_F(guestmem_convert_input, each_reserved_word)
{
	char what[32];
	int i;

	for (i = 0; i < ARRAY_SIZE(((struct kvm_memory_attributes2 *)0)->reserved); i++) {
		struct kvm_memory_attributes2 attrs = page_attributes(0, 1, true);

		snprintf(what, sizeof(what), "reserved word %d", i);
		attrs.reserved[i] = i % 2 ? 1 : 1ull << 63;
		expect_invalid(self->bed.fd, &attrs, what);
	}
	expect_unchanged(&self->bed, self->states, "after all reserved words");
}

/* Programs are compiled against these. */
TEST_F(guestmem_convert_input, layout_and_number)
{
	TEST_ASSERT_EQ(sizeof(struct kvm_memory_attributes2), 128);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, address), 0);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, offset), 0);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, size), 8);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, attributes), 16);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, flags), 24);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, error_offset), 32);
	TEST_ASSERT_EQ(offsetof(struct kvm_memory_attributes2, reserved), 40);
	TEST_ASSERT_EQ((u32)KVM_SET_MEMORY_ATTRIBUTES2, 0xc080aed2);
	TEST_ASSERT_EQ(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES, 252);
}

TEST_F(guestmem_convert_input, error_offset_is_not_touched_by_success)
{
	struct kvm_memory_attributes2 attrs = page_attributes(0, 4, true);

	TEST_ASSERT_EQ(set_attributes(self->bed.fd, &attrs), 0);
	TEST_ASSERT_EQ(attrs.error_offset, NO_OFFSET);
	/* Nor by success that has nothing to do. */
	TEST_ASSERT_EQ(set_attributes(self->bed.fd, &attrs), 0);
	TEST_ASSERT_EQ(attrs.error_offset, NO_OFFSET);
}

static void expect_errno(int ret, int want, const char *what)
{
	int got = ret < 0 ? errno : 0;

	TEST_ASSERT(got == want, "%s: %s (%d), expected %s", what, strerror(got), got,
		    strerror(want));
}

#define EXPECT_ERRNO(want, call)	expect_errno(call, want, #call)

TEST_F(guestmem_convert_input, other_ioctls_and_other_files)
{
	struct kvm_memory_attributes2 attrs = page_attributes(0, 1, true);
	struct convert_bed *bed = &self->bed;

	EXPECT_ERRNO(ENOTTY, ioctl(bed->fd, KVM_SET_MEMORY_ATTRIBUTES, &attrs));
	EXPECT_ERRNO(ENOTTY, ioctl(bed->fd, KVM_SET_MEMORY_ATTRIBUTES2 ^ 1, &attrs));
	EXPECT_ERRNO(ENOTTY, ioctl(bed->fd, KVM_GET_API_VERSION, 0));
	EXPECT_ERRNO(ENOTTY, __vm_ioctl(bed->vm, KVM_SET_MEMORY_ATTRIBUTES2, &attrs));
	expect_unchanged(bed, self->states, "after ioctls on the wrong file");
}

TEST_F(guestmem_convert_input, vm_without_private_memory)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = vm_create_guest_memfd(vm, FILE_SIZE, GUESTMEM_SHARED);

	TEST_ASSERT_EQ(try_convert(fd, 0, 1, true), EINVAL);
	TEST_ASSERT_EQ(try_convert(fd, 0, 1, false), EINVAL);
	kvm_close(fd);
	kvm_vm_free(vm);
}

TEST_F(guestmem_convert_input, struct_that_cannot_be_read)
{
	struct convert_bed *bed = &self->bed;
	size_t page = getpagesize();
	void *mem = kvm_mmap(2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct kvm_memory_attributes2 *attrs = mem + page - sizeof(*attrs) / 2;

	*attrs = page_attributes(0, 1, true);
	TEST_ASSERT(!mprotect(mem + page, page, PROT_NONE), "mprotect() failed");
	EXPECT_ERRNO(EFAULT, set_attributes(bed->fd, attrs));
	EXPECT_ERRNO(EFAULT, set_attributes(bed->fd, NULL));
	EXPECT_ERRNO(EFAULT, set_attributes(bed->fd, (void *)-sizeof(*attrs)));
	expect_unchanged(bed, self->states, "after structs that cannot be read");
	kvm_munmap(mem, 2 * page);
}

static void hold_page(struct convert_bed *bed, int pipe_fd, u64 page)
{
	struct iovec iov = { host_page(bed, page), getpagesize() };

	TEST_ASSERT_EQ(vmsplice(pipe_fd, &iov, 1, 0), getpagesize());
}

/* Success writes nothing, so only a failure shows that the struct is read-only. */
TEST_F(guestmem_convert_input, error_offset_that_cannot_be_written)
{
	struct convert_bed *bed = &self->bed;
	size_t page = getpagesize();
	struct kvm_memory_attributes2 *attrs;

	attrs = kvm_mmap(page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	hold_page(bed, self->pipe[1], 3);
	*attrs = page_attributes(0, 8, true);
	TEST_ASSERT(!mprotect(attrs, page, PROT_READ), "mprotect() failed");
	EXPECT_ERRNO(EFAULT, set_attributes(bed->fd, attrs));
	expect_states(bed->fd, self->states, NR_PAGES, "after an error that could not be told");
	host_checks(bed, 0, NR_PAGES, 1, "after an error that could not be told");

	TEST_ASSERT(!mprotect(attrs, page, PROT_READ | PROT_WRITE), "mprotect() failed");
	*attrs = page_attributes(8, 8, true);
	TEST_ASSERT(!mprotect(attrs, page, PROT_READ), "mprotect() failed");
	EXPECT_ERRNO(0, set_attributes(bed->fd, attrs));
	kvm_munmap(attrs, page);
}

/* Input is judged before anything else is: a held page does not come first. */
TEST_F(guestmem_convert_input, invalid_goes_before_held)
{
	struct convert_bed *bed = &self->bed;
	struct kvm_memory_attributes2 attrs = page_attributes(0, NR_PAGES, true);

	hold_page(bed, self->pipe[1], 0);
	attrs.flags = 1;
	expect_invalid(bed->fd, &attrs, "flag and held page");
	expect_unchanged(bed, self->states, "flag and held page");
}

static u64 random_of(const u64 *values, int nr)
{
	u32 i = kvm_random_u32_in_range(&kvm_rng, 0, nr - 1);

	return values[i];
}

/* One field in so many holds anything at all, the others something almost right. */
static u64 random_field(const u64 *values, int nr)
{
	if (!kvm_random_u32_in_range(&kvm_rng, 0, 15))
		return (u64)kvm_random_u32(&kvm_rng) << 32 | kvm_random_u32(&kvm_rng);

	return random_of(values, nr);
}

static struct kvm_memory_attributes2 random_attributes(void)
{
	static const u64 offsets[] = { 0, 0x1000, 0x3000, 0x8000, 0xf000, 0x10000, 0x800, -1ull };
	static const u64 sizes[] = { 0x1000, 0x2000, 0x7000, 0x8000, 0x10000, 0, 1, -0x1000ull };
	static const u64 attributes[] = { 0, PRIVATE, PRIVATE, 0, PRIVATE | 1 };
	static const u64 zeroes[] = { 0 };
	u32 word = kvm_random_u32_in_range(&kvm_rng, 0, 10);

	struct kvm_memory_attributes2 attrs = {
		.offset = random_field(offsets, ARRAY_SIZE(offsets)),
		.size = random_field(sizes, ARRAY_SIZE(sizes)),
		.attributes = random_field(attributes, ARRAY_SIZE(attributes)),
		.flags = random_field(zeroes, ARRAY_SIZE(zeroes)),
		.error_offset = NO_OFFSET,
	};
	attrs.reserved[word] = random_field(zeroes, ARRAY_SIZE(zeroes));
	return attrs;
}

static bool acceptable(const struct kvm_memory_attributes2 *attrs)
{
	u64 reserved = 0;

	for (int i = 0; i < ARRAY_SIZE(attrs->reserved); i++)
		reserved |= attrs->reserved[i];

	return !reserved && !attrs->flags && !(attrs->attributes & ~PRIVATE) &&
	       attrs->size && !((attrs->offset | attrs->size) & (MIN_PAGE_SIZE - 1)) &&
	       attrs->offset < FILE_SIZE && attrs->size <= FILE_SIZE - attrs->offset;
}

TEST_F_TIMEOUT(guestmem_convert_input, random_structs, 120)
{
	int shown = open_debugfs(self->bed.fd, "states");
	int accepted = 0;

	TEST_ASSERT(shown >= 0, __KVM_SYSCALL_ERROR("open()", shown));
	for (int i = 0; i < NR_RANDOM; i++) {
		struct kvm_memory_attributes2 attrs = random_attributes();

		if (acceptable(&attrs)) {
			TEST_ASSERT_EQ(set_attributes(self->bed.fd, &attrs), 0);
			memset(self->states + attrs.offset / MIN_PAGE_SIZE,
			       !!attrs.attributes, attrs.size / MIN_PAGE_SIZE);
			accepted++;
		} else {
			expect_invalid(self->bed.fd, &attrs, "random struct");
		}
		expect_states_shown(shown, self->states, NR_PAGES, "after a random struct");
	}
	kvm_close(shown);

	pr_info("# %d structs, %d of them accepted\n", NR_RANDOM, accepted);
	TEST_ASSERT(accepted > NR_RANDOM / 20 && accepted < NR_RANDOM * 19 / 20,
		    "%d of %d accepted: not a campaign", accepted, NR_RANDOM);
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
