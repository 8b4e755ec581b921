// SPDX-License-Identifier: GPL-2.0-only
/*
 * A poisoned 4 KiB in a huge page of a guest_memfd: who touches it is told, the
 * rest of the huge page stays usable, and the huge page is nobody's any more once
 * it has left the file.
 */
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define INJECT		"/sys/kernel/debug/hwpoison/corrupt-pfn"
#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

/* The poisoned page, and as many around it as are looked at. */
#define BAD		300
#define NR_AROUND	8

FIXTURE(guestmem_hugetlb_poison) {
	struct huge_bed bed;
	struct pool before;
	u64 pfn;
};

FIXTURE_VARIANT(guestmem_hugetlb_poison) {
	unsigned long vm_type;
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_poison, plain_2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_poison, plain_1G) {
	.log2 = LOG2_1G,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_poison, private_2M) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.log2 = LOG2_2M,
};

static gpa_t page_gpa(u64 page)
{
	return GUESTMEM_GPA + page * SZ_4K;
}

/* Every page of the guest holds its number. */
static void guest_pages(struct huge_bed *bed, enum guest_op op, u64 first, u64 nr, u64 seed)
{
	guest_strides(bed->vcpu, op, page_gpa(first), SZ_4K, nr, seed);
}

FIXTURE_SETUP(guestmem_hugetlb_poison)
{
	const char *why = why_no_pool(1ull << variant->log2, 2);

	if (why)
		SKIP(return, "%s", why);
	if (access(INJECT, W_OK) || access(UNPOISON, W_OK))
		SKIP(return, "needs root, CONFIG_HWPOISON_INJECT and debugfs");
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->before = read_pool(1ull << variant->log2);
	self->bed = create_bound_bed(variant->vm_type, variant->log2, 2ull << variant->log2);
	guest_pages(&self->bed, GUEST_FILL, 0, BAD, 1);
	guest_pages(&self->bed, GUEST_FILL, BAD, 1, 2);
	guest_pages(&self->bed, GUEST_FILL, BAD + 1, NR_AROUND, 3);
	self->pfn = shown_pfn(self->bed.fd, BAD);
}

/* A huge page remembers its poison in its first page, and is unpoisoned by that. */
static void unpoison(u64 pfn, u64 unit)
{
	char text[32];
	int tries = 0;
	int err;

	snprintf(text, sizeof(text), "0x%lx", round_down(pfn, unit / SZ_4K));
	do {
		err = write_text(UNPOISON, text);
	} while (err && ++tries < 100 && !usleep(10000));
	TEST_ASSERT(!err, "pfn %s cannot be unpoisoned, error %d", text, err);
}

/* The page is good for the tests that follow, and counted as it was. */
FIXTURE_TEARDOWN(guestmem_hugetlb_poison)
{
	free_huge_bed(&self->bed);
	unpoison(self->pfn, self->bed.unit);
	expect_pool(self->bed.unit, &self->before, 0, 0, "with the page unpoisoned");
}

/* The kernel says EBUSY, as the file keeps the page. */
static void inject(u64 pfn)
{
	char text[32];
	int err;

	snprintf(text, sizeof(text), "0x%lx", pfn);
	err = write_text(INJECT, text);
	TEST_ASSERT(!err || err == -EBUSY, "%s: error %d for %s", INJECT, err, text);
}

static void expect_ehwpoison(struct huge_bed *bed, enum guest_op op, u64 page)
{
	struct kvm_run *run = bed->vcpu->run;

	guest_stride_set(bed->vm, op, page_gpa(page), SZ_4K, 1, 2);
	expect_failure(_vcpu_run(bed->vcpu), EHWPOISON, "KVM_RUN on poison");
	TEST_ASSERT_KVM_EXIT_REASON(bed->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.gpa, page_gpa(page));
	TEST_ASSERT_EQ(run->memory_fault.size, SZ_4K);
}

TEST_F_TIMEOUT(guestmem_hugetlb_poison, access_gets_ehwpoison, 240)
{
	inject(self->pfn);
	expect_ehwpoison(&self->bed, GUEST_CHECK, BAD);
	expect_ehwpoison(&self->bed, GUEST_FILL, BAD);
}

/* Pages before it and behind it are mapped one by one. */
TEST_F_TIMEOUT(guestmem_hugetlb_poison, pre_fault_stops_at_it, 240)
{
	struct kvm_vcpu *vcpu = self->bed.vcpu;
	struct kvm_vm *vm = self->bed.vm;
	u64 small;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "KVM cannot pre-fault");

	inject(self->pfn);
	small = vm_get_stat(vm, pages_4k);
	expect_pre_fault_stops(vcpu, page_gpa(BAD - NR_AROUND), 2 * NR_AROUND * SZ_4K,
			       page_gpa(BAD), EHWPOISON);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + NR_AROUND);
	pre_fault(vcpu, page_gpa(BAD + 1), NR_AROUND * SZ_4K);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + 2 * NR_AROUND);
	guest_pages(&self->bed, GUEST_CHECK, BAD + 1, NR_AROUND, 3);
}

TEST_F_TIMEOUT(guestmem_hugetlb_poison, rest_of_the_block_is_kept, 240)
{
	inject(self->pfn);
	guest_pages(&self->bed, GUEST_CHECK, 0, BAD, 1);
	guest_pages(&self->bed, GUEST_CHECK, BAD + 1, NR_AROUND, 3);
	guest_pages(&self->bed, GUEST_FILL, 0, BAD, 4);
	guest_pages(&self->bed, GUEST_CHECK, 0, BAD, 4);
	expect_ehwpoison(&self->bed, GUEST_CHECK, BAD);
}

/* In one piece it would have the poison in it. */
TEST_F_TIMEOUT(guestmem_hugetlb_poison, rest_of_the_block_is_mapped_small, 240)
{
	struct kvm_vm *vm = self->bed.vm;
	u64 small = vm_get_stat(vm, pages_4k);
	u64 large = vm_get_stat(vm, pages_2m) + vm_get_stat(vm, pages_1g);

	inject(self->pfn);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m) + vm_get_stat(vm, pages_1g), large - 1);
	guest_pages(&self->bed, GUEST_CHECK, 0, BAD, 1);
	guest_pages(&self->bed, GUEST_CHECK, BAD + 1, NR_AROUND, 3);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m) + vm_get_stat(vm, pages_1g), large - 1);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + BAD + NR_AROUND);
}

TEST_F_TIMEOUT(guestmem_hugetlb_poison, other_blocks_stay_large, 240)
{
	struct kvm_vm *vm = self->bed.vm;
	u64 other = self->bed.unit / SZ_4K;
	u64 large;

	inject(self->pfn);
	large = vm_get_stat(vm, pages_2m) + vm_get_stat(vm, pages_1g);
	guest_pages(&self->bed, GUEST_FILL, other, NR_AROUND, 5);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m) + vm_get_stat(vm, pages_1g), large + 1);
	guest_pages(&self->bed, GUEST_CHECK, other, NR_AROUND, 5);
}

TEST_F_TIMEOUT(guestmem_hugetlb_poison, fallocate_does_not_hide_it, 240)
{
	inject(self->pfn);
	allocate_blocks(self->bed.fd, self->bed.unit, 0, 2);
	TEST_ASSERT_EQ(shown_pfn(self->bed.fd, BAD), self->pfn);
	expect_ehwpoison(&self->bed, GUEST_CHECK, BAD);
}

TEST_F_TIMEOUT(guestmem_hugetlb_poison, hole_replaces_the_block, 240)
{
	struct huge_bed *bed = &self->bed;

	inject(self->pfn);
	expect_ehwpoison(bed, GUEST_CHECK, BAD);
	punch_blocks(bed->fd, bed->unit, 0, 1);

	guest_stride_set(bed->vm, GUEST_CHECK, page_gpa(0), SZ_4K, BAD, 0);
	vcpu_arch_set_entry_point(bed->vcpu, guest_stride_main);
	vcpu_run(bed->vcpu);
	expect_guest_done(bed->vcpu);
	TEST_ASSERT(shown_pfn(bed->fd, BAD) != self->pfn, "the block is the poisoned one");
}

static void expect_not_in_file(int fd, u64 unit, u64 blocks, u64 bad)
{
	u64 pages = unit / SZ_4K, block, pfn;

	for (block = 0; block < blocks; block++) {
		pfn = shown_pfn(fd, block * pages);
		TEST_ASSERT(!pfn || bad < pfn || bad >= pfn + pages,
			    "block %lu is 0x%lx, with poison at 0x%lx", block, pfn, bad);
	}
}

/* Whoever takes all there is does not get it. */
TEST_F_TIMEOUT(guestmem_hugetlb_poison, block_never_comes_back_as_a_good_one, 240)
{
	struct huge_bed *bed = &self->bed;
	u64 blocks;
	int fd;

	inject(self->pfn);
	kvm_close(bed->fd);
	bed->fd = -1;

	blocks = pool_available(bed->unit);
	fd = create_huge_file(bed->vm, blocks * bed->unit, 0, variant->log2);
	(void)allocate_bytes(fd, 0, blocks * bed->unit);
	expect_pages(fd, (self->before.free - 1) * (bed->unit / SZ_4K),
		     "with all good pages allocated");
	expect_not_in_file(fd, bed->unit, blocks, self->pfn);
	kvm_close(fd);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);

	return test_harness_run(argc, argv);
}
