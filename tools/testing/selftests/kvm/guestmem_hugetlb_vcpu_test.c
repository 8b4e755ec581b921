// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several vCPUs on huge pages at once: all that fault on one absent block get the
 * one page there is for it, and nobody is harmed by holes, a pool that changes
 * its size, or a file that is closed.
 */
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define NR_VCPUS	4
#define MAX_BLOCKS	8
#define PATIENCE_SEC	60

/* Lives in guest memory that is not under test; the host reads and writes it. */
struct guest_state {
	u64 unit;
	u64 blocks;
	u64 round;
	u64 done[NR_VCPUS];
	u64 rounds[NR_VCPUS];
	u64 zeroes[NR_VCPUS];
	bool stop;
};

static struct guest_state guest_state;

struct runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	bool done;
	int ret;
	int err;
};

struct crowd {
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct runner runners[NR_VCPUS];
	struct guest_state *guest;
	struct huge_bed bed;
	u8 log2;
};

/* Each vCPU has words of its own, far apart from those of the others. */
static u64 *guest_word(u64 vcpu, u64 block)
{
	u64 unit = READ_ONCE(guest_state.unit);

	return (u64 *)(GUESTMEM_GPA + block * unit + vcpu * (unit / NR_VCPUS));
}

/* Writes a word if it is zero; returns true if it was. */
static bool guest_touch(u64 vcpu, u64 block)
{
	u64 *word = guest_word(vcpu, block);
	u64 value = READ_ONCE(*word);
	u64 tag = (vcpu << 32) + block + 1;

	__GUEST_ASSERT(!value || value == tag,
		       "word of vCPU %lu in block %lu holds 0x%lx, neither zero nor its tag",
		       vcpu, block, value);
	WRITE_ONCE(*word, tag);
	return !value;
}

/* All vCPUs go for the one block as soon as the round begins. */
static void guest_race(u64 vcpu)
{
	struct guest_state *s = &guest_state;
	u64 seen = 0;

	while (!READ_ONCE(s->stop)) {
		if (READ_ONCE(s->round) == seen) {
			cpu_relax();
			continue;
		}
		seen++;
		__GUEST_ASSERT(guest_touch(vcpu, 0), "vCPU %lu got a page that is not new",
			       vcpu);
		WRITE_ONCE(s->done[vcpu], seen);
	}
	GUEST_DONE();
}

static void guest_touch_all(u64 vcpu)
{
	struct guest_state *s = &guest_state;
	u64 block, zeroes;

	while (!READ_ONCE(s->stop)) {
		zeroes = 0;
		for (block = 0; block < READ_ONCE(s->blocks); block++)
			zeroes += guest_touch(vcpu, block);
		WRITE_ONCE(s->zeroes[vcpu], READ_ONCE(s->zeroes[vcpu]) + zeroes);
		WRITE_ONCE(s->rounds[vcpu], READ_ONCE(s->rounds[vcpu]) + 1);
	}
	GUEST_DONE();
}

static void open_file(struct crowd *c)
{
	struct huge_bed *bed = &c->bed;

	bed->fd = create_huge_file(bed->vm, bed->size, bed->flags, c->log2);
	bind_file(bed->vm, GUESTMEM_GPA, bed->size, bed->fd, 0);
}

static void create_crowd(struct crowd *c, unsigned long type, u8 log2, u64 blocks)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = type,
	};

	c->log2 = log2;
	c->bed.unit = 1ull << log2;
	c->bed.size = blocks << log2;
	c->bed.flags = type == VM_TYPE_DEFAULT ? GUEST_MEMFD_FLAG_MMAP : 0;
	c->bed.vm = __vm_create_with_vcpus(shape, NR_VCPUS, SZ_16M / SZ_4K, guest_race,
					   c->vcpus);
	c->guest = addr_gva2hva(c->bed.vm, (gva_t)&guest_state);
	c->guest->unit = c->bed.unit;
	c->guest->blocks = blocks;
	open_file(c);
	map_huge_bed(&c->bed);
}

static void *run_vcpu(void *arg)
{
	struct runner *runner = arg;

	runner->ret = _vcpu_run(runner->vcpu);
	runner->err = errno;
	if (!runner->ret)
		expect_guest_done(runner->vcpu);
	WRITE_ONCE(runner->done, true);
	return NULL;
}

static void resume_vcpu(struct crowd *c, u64 i)
{
	struct runner *runner = &c->runners[i];

	runner->vcpu = c->vcpus[i];
	runner->done = false;
	kvm_pthread_create(&runner->thread, NULL, run_vcpu, runner);
}

static void start_vcpus(struct crowd *c, void *guest_code)
{
	u64 i;

	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_arch_set_entry_point(c->vcpus[i], guest_code);
		vcpu_args_set(c->vcpus[i], 1, i);
		resume_vcpu(c, i);
	}
}

/* A vCPU that has failed is not waited for: what it failed with is the answer. */
static void expect_all_run(const struct crowd *c)
{
	u64 i;

	for (i = 0; i < NR_VCPUS; i++)
		TEST_ASSERT(!READ_ONCE(c->runners[i].done),
			    "vCPU %lu stopped: KVM_RUN returned %d, errno %d", i,
			    c->runners[i].ret, c->runners[i].err);
}

static void wait_until_all(struct crowd *c, u64 *counters, const u64 want[NR_VCPUS])
{
	struct timespec start;
	u64 i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < NR_VCPUS; i++) {
		while (READ_ONCE(counters[i]) < want[i]) {
			expect_all_run(c);
			TEST_ASSERT(timespec_elapsed(start).tv_sec < PATIENCE_SEC,
				    "vCPU %lu does not get on: %lu of %lu", i, counters[i],
				    want[i]);
			usleep(100);
		}
	}
}

/* Each vCPU counts for itself: they run at different speeds. */
static void wait_for_rounds(struct crowd *c, u64 nr)
{
	u64 i, want[NR_VCPUS];

	for (i = 0; i < NR_VCPUS; i++)
		want[i] = READ_ONCE(c->guest->rounds[i]) + nr;
	wait_until_all(c, c->guest->rounds, want);
}

static void join_vcpus(struct crowd *c)
{
	u64 i;

	for (i = 0; i < NR_VCPUS; i++)
		kvm_pthread_join(c->runners[i].thread, NULL);
}

static void stop_vcpus(struct crowd *c)
{
	u64 i;

	WRITE_ONCE(c->guest->stop, true);
	join_vcpus(c);
	for (i = 0; i < NR_VCPUS; i++)
		TEST_ASSERT(!c->runners[i].ret, "vCPU %lu: errno %d", i,
			    c->runners[i].err);
}

FIXTURE(guestmem_hugetlb_vcpu) {
	struct crowd crowd;
	struct pool before;
	bool giant;
	u64 unit;
};

FIXTURE_VARIANT(guestmem_hugetlb_vcpu) {
	unsigned long vm_type;
	u8 log2;
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_vcpu, plain_2M) {
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_vcpu, plain_1G) {
	.log2 = LOG2_1G,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_vcpu, private_2M) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.log2 = LOG2_2M,
};

FIXTURE_VARIANT_ADD(guestmem_hugetlb_vcpu, private_1G) {
	.vm_type = KVM_X86_SW_PROTECTED_VM,
	.log2 = LOG2_1G,
};

FIXTURE_SETUP(guestmem_hugetlb_vcpu)
{
	const char *why;

	self->giant = variant->log2 == LOG2_1G;
	self->unit = 1ull << variant->log2;
	why = why_no_pool(self->unit, self->giant ? 2 : MAX_BLOCKS);
	if (why)
		SKIP(return, "%s", why);
	if (!vm_type_available(variant->vm_type))
		SKIP(return, "KVM lacks VM type %lu", variant->vm_type);

	self->before = read_pool(self->unit);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_vcpu)
{
	free_huge_bed(&self->crowd.bed);
	expect_pool(self->unit, &self->before, 0, 0, "after the file was closed");
}

static void race_once(struct crowd *c, u64 round)
{
	const u64 want[NR_VCPUS] = { round, round, round, round };

	WRITE_ONCE(c->guest->round, round);
	wait_until_all(c, c->guest->done, want);
	expect_pages(c->bed.fd, c->bed.unit / SZ_4K, "with the one block there");
	punch_blocks(c->bed.fd, c->bed.unit, 0, 1);
}

/* The file holds one page, and nothing is left in the pool but that. */
TEST_F_TIMEOUT(guestmem_hugetlb_vcpu, one_page_serves_all_who_fault_on_it, 240)
{
	struct crowd *c = &self->crowd;
	u64 round;
	int hog;

	create_crowd(c, variant->vm_type, variant->log2, 1);
	hog = create_huge_file(c->bed.vm, pool_available(self->unit) * self->unit, 0,
			       variant->log2);
	start_vcpus(c, guest_race);
	for (round = 1; round <= (self->giant ? 3 : 100); round++)
		race_once(c, round);
	stop_vcpus(c);
	kvm_close(hog);
}

TEST_F_TIMEOUT(guestmem_hugetlb_vcpu, holes_against_faults, 240)
{
	u64 blocks = self->giant ? 2 : MAX_BLOCKS;
	struct crowd *c = &self->crowd;
	u64 i, nr = self->giant ? 4 : 100;

	create_crowd(c, variant->vm_type, variant->log2, blocks);
	start_vcpus(c, guest_touch_all);
	for (i = 0; i < nr; i++) {
		if (i % 4 == 0)
			wait_for_rounds(c, 1);
		punch_blocks(c->bed.fd, self->unit, i % blocks, 1);
	}
	wait_for_rounds(c, 2);
	expect_pages(c->bed.fd, blocks * self->unit / SZ_4K, "after all was touched again");
	stop_vcpus(c);
	TEST_ASSERT(c->guest->zeroes[0] > blocks, "the holes were not seen");
}

static void expect_fault_exits(struct crowd *c)
{
	u64 i;

	for (i = 0; i < NR_VCPUS; i++) {
		struct runner *runner = &c->runners[i];

		TEST_ASSERT(runner->ret == -1 && runner->err == EFAULT,
			    "vCPU %lu on a closed file: got %d errno %d, expected EFAULT",
			    i, runner->ret, runner->err);
		TEST_ASSERT_KVM_EXIT_REASON(runner->vcpu, KVM_EXIT_MEMORY_FAULT);
	}
}

/* At different moments of the first walk through new memory. */
TEST_F_TIMEOUT(guestmem_hugetlb_vcpu, close_while_vcpus_fault, 240)
{
	struct crowd *c = &self->crowd;
	u64 i, nr = self->giant ? 3 : 20;

	create_crowd(c, variant->vm_type, variant->log2, self->giant ? 2 : MAX_BLOCKS);
	start_vcpus(c, guest_touch_all);
	for (i = 0; i < nr; i++) {
		usleep(i * 1000);
		kvm_close(c->bed.fd);
		join_vcpus(c);
		expect_fault_exits(c);
		expect_pool(self->unit, &self->before, 0, 0, "after close");

		unbind_file(c->bed.vm, GUESTMEM_GPA);
		open_file(c);
		for (u64 vcpu = 0; vcpu < NR_VCPUS; vcpu++)
			resume_vcpu(c, vcpu);
	}
	wait_for_rounds(c, 1);
	stop_vcpus(c);
}

FIXTURE(guestmem_hugetlb_vcpu_pool) {
	struct crowd crowd;
	struct pool before;
};

FIXTURE_SETUP(guestmem_hugetlb_vcpu_pool)
{
	const char *why = why_no_pool(SZ_2M, 2 * MAX_BLOCKS);

	if (why)
		SKIP(return, "%s", why);

	self->before = read_pool(SZ_2M);
	create_crowd(&self->crowd, VM_TYPE_DEFAULT, LOG2_2M, MAX_BLOCKS);
}

FIXTURE_TEARDOWN(guestmem_hugetlb_vcpu_pool)
{
	free_huge_bed(&self->crowd.bed);
	pool_write(SZ_2M, "nr", self->before.nr);
	expect_pool(SZ_2M, &self->before, 0, 0, "after the file was closed");
}

/* Never below what the file needs: its reservation does not shrink with the pool. */
TEST_F_TIMEOUT(guestmem_hugetlb_vcpu_pool, pool_changes_its_size_under_holes_and_faults, 240)
{
	struct crowd *c = &self->crowd;
	u64 i;

	start_vcpus(c, guest_touch_all);
	for (i = 0; i < 20; i++) {
		wait_for_rounds(c, 1);
		pool_write(SZ_2M, "nr", i % 2 ? self->before.nr : MAX_BLOCKS);
		punch_blocks(c->bed.fd, SZ_2M, i % MAX_BLOCKS, 1);
	}
	wait_for_rounds(c, 2);
	stop_vcpus(c);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);

	return test_harness_run(argc, argv);
}
