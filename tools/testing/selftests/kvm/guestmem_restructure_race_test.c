// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of 4K change their state in a page of 1G that vCPUs use meanwhile: next to
 * them, in other pieces of the block, and on the pages themselves.  Each user counts
 * in a word of its own in every page, so a write that is lost shows at once.
 */
#include <sys/resource.h>

#include "guestmem_convert.h"
#include "guestmem_hugetlb.h"
#include "kvm_test_harness.h"

#define MAX_VCPUS	8
#define HOST_USER	MAX_VCPUS
#define PIECE		512

/* How often a page becomes shared; see part_of(). */
#define NR_SPLITS	3000
#define NR_FLIPS	100000
#define NR_RANDOM	10000

/* Stays shared where a test wants a piece that stays split. */
#define STAYS_SHARED	(7 * PIECE + 9)

/* First those that change, then their neighbours, near and far. */
static const u64 pages[] = {
	7 * PIECE + 3,
	7 * PIECE + 4,
	8 * PIECE - 1,
	9 * PIECE,
#define NR_FLIPPED	4
	0,
	7 * PIECE - 1,
	7 * PIECE + 2,
	7 * PIECE + 5,
	8 * PIECE,
	9 * PIECE + 1,
	SZ_1G / SZ_4K - 1,
};

#define NR_PAGES	ARRAY_SIZE(pages)

/* In guest memory that is not under test. */
struct guest_state {
	u64 rounds[MAX_VCPUS];
	bool stop;
};

static struct guest_state guest_state;

static u64 *user_word(void *mem, u64 i, u64 user)
{
	return mem + pages[i] * SZ_4K + user * sizeof(u64);
}

static void guest_count(u64 vcpu, u64 round)
{
	u64 i, value, *word;

	for (i = 0; i < NR_PAGES; i++) {
		word = user_word((void *)GUESTMEM_GPA, i, vcpu);
		value = READ_ONCE(*word);
		__GUEST_ASSERT(value == round, "vCPU %lu, page %lu: 0x%lx, expected 0x%lx",
			       vcpu, pages[i], value, round);
		WRITE_ONCE(*word, round + 1);
	}
}

static void guest_count_forever(u64 vcpu)
{
	u64 round;

	for (round = 0; !READ_ONCE(guest_state.stop); round++) {
		guest_count(vcpu, round);
		WRITE_ONCE(guest_state.rounds[vcpu], round + 1);
	}
	GUEST_DONE();
}

struct vcpu_user {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	u64 exits;
};

struct race {
	struct vcpu_user vcpus[MAX_VCPUS];
	u64 count[NR_FLIPPED];
	struct guest_state *guest;
	struct huge_bed bed;
	u64 nr_vcpus;
	void *mem;
};

/* Of pages that nobody converts user space hears nothing. */
static void expect_changed_state(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 i, page = (run->memory_fault.gpa - GUESTMEM_GPA) / SZ_4K;

	TEST_ASSERT(errno == EFAULT, __KVM_SYSCALL_ERROR("KVM_RUN", -1));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.size, SZ_4K);
	for (i = 0; i < NR_FLIPPED; i++)
		if (page == pages[i])
			return;
	TEST_FAIL("exit for page %lu, which is not converted", page);
}

static void *run_vcpu(void *arg)
{
	struct vcpu_user *user = arg;

	while (_vcpu_run(user->vcpu)) {
		expect_changed_state(user->vcpu);
		user->exits++;
	}
	expect_guest_done(user->vcpu);
	return NULL;
}

static void create_race(struct race *race, u64 nr_vcpus)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	struct huge_bed *bed = &race->bed;
	u64 i;

	memset(race, 0, sizeof(*race));
	race->nr_vcpus = nr_vcpus;
	bed->unit = SZ_1G;
	bed->size = SZ_1G;
	bed->vm = __vm_create_with_vcpus(shape, nr_vcpus, SZ_16M / SZ_4K,
					 guest_count_forever, vcpus);
	bed->fd = create_huge_file(bed->vm, SZ_1G, GUEST_MEMFD_FLAG_MMAP, LOG2_1G);
	bind_huge_bed(bed);
	for (i = 0; i < nr_vcpus; i++)
		race->vcpus[i].vcpu = vcpus[i];
	race->guest = addr_gva2hva(bed->vm, (gva_t)&guest_state);
	race->mem = map_file(bed->fd, SZ_1G);
}

static void start_vcpus(struct race *race)
{
	u64 i;

	for (i = 0; i < race->nr_vcpus; i++) {
		vcpu_args_set(race->vcpus[i].vcpu, 1, i);
		kvm_pthread_create(&race->vcpus[i].thread, NULL, run_vcpu, &race->vcpus[i]);
	}
	/* The vCPUs never rest: leave them the other CPUs, and convert on this one. */
	if (setpriority(PRIO_PROCESS, gettid(), -19))
		pr_info("# not root: conversions wait for their turn\n");
}

/* On a machine with other things to do, some get their turn late. */
static bool all_vcpus_worked(struct race *race)
{
	u64 i;

	for (i = 0; i < race->nr_vcpus; i++)
		if (READ_ONCE(race->guest->rounds[i]) < 2)
			return false;
	return true;
}

static void stop_vcpus(struct race *race)
{
	u64 i;

	WRITE_ONCE(race->guest->stop, true);
	for (i = 0; i < race->nr_vcpus; i++) {
		kvm_pthread_join(race->vcpus[i].thread, NULL);
		pr_info("# vCPU %lu: %lu rounds, %lu exits\n", i, race->guest->rounds[i],
			race->vcpus[i].exits);
	}
}

/* Every user's last word is in every page. */
static void expect_all_counts(struct race *race)
{
	u64 i, user;

	for (i = 0; i < NR_PAGES; i++) {
		make_shared(race->bed.fd, pages[i], 1);
		for (user = 0; user < race->nr_vcpus; user++)
			TEST_ASSERT_EQ(*user_word(race->mem, i, user),
				       race->guest->rounds[user]);
		if (i < NR_FLIPPED)
			TEST_ASSERT_EQ(*user_word(race->mem, i, HOST_USER), race->count[i]);
	}
	make_private(race->bed.fd, 0, SZ_1G / SZ_4K);
	expect_folios(race->bed.fd, 18, 1);
}

/*
 * Nothing that only guests use is in the way, and a fault that has found the block whole
 * does not map it when it is in pieces.
 */
static void share_page(struct race *race, u64 i)
{
	int err = try_convert(race->bed.fd, pages[i], 1, false);

	TEST_ASSERT(!err, "page %lu to shared: %s (%d)", pages[i], strerror(err), err);
	TEST_ASSERT_EQ(vm_get_stat(race->bed.vm, pages_1g), 0);
}

static void host_counts(struct race *race, u64 i)
{
	u64 *word = user_word(race->mem, i, HOST_USER);

	TEST_ASSERT_EQ(READ_ONCE(*word), race->count[i]);
	WRITE_ONCE(*word, ++race->count[i]);
}

static void flip(struct race *race, u64 i)
{
	share_page(race, i);
	host_counts(race, i);
	make_private(race->bed.fd, pages[i], 1);
}

FIXTURE(guestmem_restructure_race) {
	struct race race;
	struct pool before;
};

FIXTURE_VARIANT(guestmem_restructure_race) {
	u64 nr_vcpus;
};

FIXTURE_VARIANT_ADD(guestmem_restructure_race, vcpus_2) {
	.nr_vcpus = 2,
};

FIXTURE_VARIANT_ADD(guestmem_restructure_race, vcpus_8) {
	.nr_vcpus = 8,
};

FIXTURE_SETUP(guestmem_restructure_race)
{
	const char *why = why_no_pool(SZ_1G, 1);

	if (why)
		SKIP(return, "%s", why);

	self->before = read_pool(SZ_1G);
	create_race(&self->race, variant->nr_vcpus);
	start_vcpus(&self->race);
}

FIXTURE_TEARDOWN(guestmem_restructure_race)
{
	kvm_munmap(self->race.mem, SZ_1G);
	free_huge_bed(&self->race.bed);
	expect_pool(SZ_1G, &self->before, 0, 0, "after the file was closed");
}

/* From 1G to 4K and back each time. */
TEST_F_TIMEOUT(guestmem_restructure_race, block_is_split_and_merged, 7200)
{
	struct race *race = &self->race;
	u64 i, nr = part_of(NR_SPLITS);

	for (i = 0; i < nr || !all_vcpus_worked(race); i++)
		flip(race, i % NR_FLIPPED);
	stop_vcpus(race);
	pr_info("# %lu conversions to shared, none refused\n", i);
	expect_all_counts(race);
}

/* From 4K to 4K: a neighbour stays shared. */
TEST_F_TIMEOUT(guestmem_restructure_race, pages_flip_in_a_split_piece, 7200)
{
	struct race *race = &self->race;
	u64 i, nr = part_of(NR_FLIPS * race->nr_vcpus / MAX_VCPUS);

	make_shared(race->bed.fd, STAYS_SHARED, 1);
	for (i = 0; i < nr || !all_vcpus_worked(race); i++)
		flip(race, i % 3);
	expect_folios(race->bed.fd, 0, PIECE);
	stop_vcpus(race);
	pr_info("# %lu conversions to shared, none refused\n", i);
	expect_all_counts(race);
}

/* Any number of them at a time. */
TEST_F_TIMEOUT(guestmem_restructure_race, pages_change_at_random, 7200)
{
	struct race *race = &self->race;
	u64 i, page, nr = part_of(NR_RANDOM);
	bool shared[NR_FLIPPED] = {};

	for (i = 0; i < nr || !all_vcpus_worked(race); i++) {
		page = kvm_random_u32_in_range(&kvm_rng, 0, NR_FLIPPED - 1);
		if (shared[page]) {
			host_counts(race, page);
			make_private(race->bed.fd, pages[page], 1);
		} else {
			share_page(race, page);
		}
		shared[page] = !shared[page];
	}
	stop_vcpus(race);
	expect_all_counts(race);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_HUGETLB);
	require_convert();

	return test_harness_run(argc, argv);
}
