// SPDX-License-Identifier: GPL-2.0-only
/*
 * Conversions against vCPUs and host threads that use the pages meanwhile.  Each
 * user counts in a word of its own in every page: a write that is lost, or a
 * page that comes back as another one, shows at once.
 */
#include <sys/resource.h>

#include "guestmem_convert.h"
#include "kvm_test_harness.h"

#define NR_PAGES	8
#define FIRST_FLIPPED	4
#define NR_VCPUS	8
#define NR_HOSTS	2
#define NR_FLIPS	3000

/*
 * What is asked for in full: a kernel that is slow and a machine that is busy may
 * do with a part of it.
 */
#define NR_TO_PRIVATE	10000
#define NR_TO_SHARED	100000

/* In guest memory that is not under test. */
struct guest_state {
	u64 rounds[NR_VCPUS];
	bool stop;
};

static struct guest_state guest_state;

static u64 *user_word(void *mem, u64 page, u64 user)
{
	return mem + page * MIN_PAGE_SIZE + user * sizeof(u64);
}

static void guest_count(u64 vcpu, u64 round)
{
	for (u64 page = 0; page < NR_PAGES; page++) {
		u64 *word = user_word((void *)GUESTMEM_GPA, page, vcpu);
		u64 value = READ_ONCE(*word);

		__GUEST_ASSERT(value == round, "vCPU %lu, page %lu: 0x%lx, expected 0x%lx",
			       vcpu, page, value, round);
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

/* A user in the host, which knows no more than the last value it wrote. */
struct host_user {
	pthread_t thread;
	struct race *race;
	u64 user;
	u64 count[NR_PAGES];
	u64 refused;
	u64 done;
};

struct race {
	struct vcpu_user vcpus[NR_VCPUS];
	struct host_user hosts[NR_HOSTS];
	struct guest_state *guest;
	struct kvm_vm *vm;
	bool stop;
	void *mem;
	size_t size;
	int nr_vcpus;
	int fd;
};

static __thread sigjmp_buf refused;

static void on_sigbus(int signal)
{
	siglongjmp(refused, 1);
}

/* Returns false if the page is private. */
static bool host_count(struct host_user *host, u64 page)
{
	u64 *word = user_word(host->race->mem, page, host->user);
	u64 value;

	if (sigsetjmp(refused, 0))
		return false;

	value = READ_ONCE(*word);
	TEST_ASSERT(value == host->count[page], "host, page %lu: 0x%lx, expected 0x%lx",
		    page, value, host->count[page]);
	WRITE_ONCE(*word, value + 1);
	host->count[page] = value + 1;
	return true;
}

static void *host_count_forever(void *arg)
{
	struct host_user *host = arg;
	u64 page;

	for (page = 0; !READ_ONCE(host->race->stop); page = (page + 1) % NR_PAGES) {
		if (host_count(host, page))
			host->done++;
		else
			host->refused++;
	}
	return NULL;
}

/*
 * The state may change between the access and its handling.  User space is told,
 * and has the access done again; of pages that nobody converts it hears nothing.
 */
static void expect_changed_state(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	gpa_t first = GUESTMEM_GPA + FIRST_FLIPPED * MIN_PAGE_SIZE;

	TEST_ASSERT(errno == EFAULT, __KVM_SYSCALL_ERROR("KVM_RUN", -1));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT(run->memory_fault.gpa >= first &&
		    run->memory_fault.gpa < GUESTMEM_GPA + NR_PAGES * MIN_PAGE_SIZE,
		    "exit for gpa 0x%llx, which is not converted", run->memory_fault.gpa);
	TEST_ASSERT_EQ(run->memory_fault.size, MIN_PAGE_SIZE);
	TEST_ASSERT_EQ(run->memory_fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE, 0);
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

static void __create_race(struct race *race, unsigned long type, u64 flags, int nr_vcpus,
			  u64 nr_pages, void *guest_code)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = type,
	};
	struct kvm_vcpu *vcpus[NR_VCPUS];
	int i;

	memset(race, 0, sizeof(*race));
	race->nr_vcpus = nr_vcpus;
	race->size = nr_pages * MIN_PAGE_SIZE;
	race->vm = __vm_create_with_vcpus(shape, nr_vcpus, nr_pages, guest_code, vcpus);
	for (i = 0; i < nr_vcpus; i++)
		race->vcpus[i].vcpu = vcpus[i];
	race->guest = addr_gva2hva(race->vm, (gva_t)&guest_state);
	race->fd = vm_create_guest_memfd(race->vm, race->size, flags);
	bind_file(race->vm, GUESTMEM_GPA, race->size, race->fd, 0);
	virt_map(race->vm, GUESTMEM_GPA, GUESTMEM_GPA, nr_pages);
	race->mem = map_file(race->fd, race->size);
}

static void create_race(struct race *race, int nr_vcpus)
{
	__create_race(race, KVM_X86_SW_PROTECTED_VM, GUESTMEM_SHARED, nr_vcpus, NR_PAGES,
		      guest_count_forever);
}

static void free_race(struct race *race)
{
	kvm_munmap(race->mem, race->size);
	kvm_close(race->fd);
	kvm_vm_free(race->vm);
}

/* After the vCPUs' words come those of the host. */
static void start_users(struct race *race, int nr_hosts)
{
	struct sigaction action = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };
	int i;

	TEST_ASSERT(!sigaction(SIGBUS, &action, NULL), "sigaction() failed");
	for (i = 0; i < race->nr_vcpus; i++) {
		vcpu_args_set(race->vcpus[i].vcpu, 1, (u64)i);
		kvm_pthread_create(&race->vcpus[i].thread, NULL, run_vcpu, &race->vcpus[i]);
	}
	for (i = 0; i < nr_hosts; i++) {
		race->hosts[i].race = race;
		race->hosts[i].user = NR_VCPUS + i;
		kvm_pthread_create(&race->hosts[i].thread, NULL, host_count_forever,
				   &race->hosts[i]);
	}

	/* The users never rest: leave them the other CPUs, and convert on this one. */
	if (setpriority(PRIO_PROCESS, gettid(), -19))
		pr_info("# not root: conversions wait for their turn\n");
}

static void stop_users(struct race *race, int nr_hosts)
{
	int i;

	WRITE_ONCE(race->stop, true);
	WRITE_ONCE(race->guest->stop, true);
	for (i = 0; i < nr_hosts; i++) {
		kvm_pthread_join(race->hosts[i].thread, NULL);
		pr_info("# host thread %d: counted %lu times, refused %lu times\n", i,
			race->hosts[i].done, race->hosts[i].refused);
	}
	for (i = 0; i < race->nr_vcpus; i++) {
		kvm_pthread_join(race->vcpus[i].thread, NULL);
		pr_info("# vCPU %d: %lu rounds, %lu exits\n", i, race->guest->rounds[i],
			race->vcpus[i].exits);
	}
}

/* Every user's last word is in every page. */
static void expect_all_counts(struct race *race, int nr_hosts)
{
	u64 page, i;

	make_shared(race->fd, 0, NR_PAGES);
	for (page = 0; page < NR_PAGES; page++) {
		for (i = 0; i < race->nr_vcpus; i++)
			TEST_ASSERT_EQ(*user_word(race->mem, page, i), race->guest->rounds[i]);
		for (i = 0; i < nr_hosts; i++)
			TEST_ASSERT_EQ(*user_word(race->mem, page, NR_VCPUS + i),
				       race->hosts[i].count[page]);
	}
}

/* On a machine with other things to do, some get their turn late. */
static bool all_users_worked(struct race *race, int nr_hosts)
{
	int i;

	for (i = 0; i < race->nr_vcpus; i++)
		if (READ_ONCE(race->guest->rounds[i]) < 2)
			return false;
	for (i = 0; i < nr_hosts; i++)
		if (!READ_ONCE(race->hosts[i].done) || !READ_ONCE(race->hosts[i].refused))
			return false;
	return true;
}

/* The first pages are never private: users beside the range. */
static void flip_random_range(struct race *race)
{
	u64 first = kvm_random_u32_in_range(&kvm_rng, FIRST_FLIPPED, NR_PAGES - 1);
	u64 nr = kvm_random_u32_in_range(&kvm_rng, 1, NR_PAGES - first);

	convert(race->fd, first, nr, kvm_random_u32(&kvm_rng) & 1);
}

FIXTURE(guestmem_convert_race) {
	struct race race;
};

FIXTURE_SETUP(guestmem_convert_race)
{
}

FIXTURE_TEARDOWN(guestmem_convert_race)
{
	free_race(&self->race);
}

TEST_F_TIMEOUT(guestmem_convert_race, nobody_loses_a_write, 600)
{
	struct race *race = &self->race;
	u64 i;

	create_race(race, 2);
	start_users(race, NR_HOSTS);
	for (i = 0; i < part_of(NR_FLIPS) || !all_users_worked(race, NR_HOSTS); i++)
		flip_random_range(race);
	stop_users(race, NR_HOSTS);
	expect_all_counts(race, NR_HOSTS);
}

/* A page that is being mapped or used is no page that is held. */
TEST_F_TIMEOUT(guestmem_convert_race, touching_is_no_reason_to_refuse_private, 600)
{
	struct race *race = &self->race;
	u64 i;

	create_race(race, 1);
	start_users(race, NR_HOSTS);
	for (i = 0; i < part_of(NR_TO_PRIVATE) || !all_users_worked(race, NR_HOSTS); i++) {
		int err = try_convert(race->fd, FIRST_FLIPPED, 4, true);

		TEST_ASSERT(!err, "to private for the %luth time: %s", i + 1, strerror(err));
		make_shared(race->fd, FIRST_FLIPPED, 4);
	}
	stop_users(race, NR_HOSTS);
	pr_info("# %lu conversions to private, none refused\n", i);
	expect_all_counts(race, NR_HOSTS);
}

TEST_F_TIMEOUT(guestmem_convert_race, vcpus_are_no_reason_to_refuse_shared, 1200)
{
	struct race *race = &self->race;
	u64 i;

	create_race(race, NR_VCPUS);
	start_users(race, 0);
	for (i = 0; i < part_of(NR_TO_SHARED) || !all_users_worked(race, 0); i++) {
		int err;

		make_private(race->fd, FIRST_FLIPPED, 1);
		err = try_convert(race->fd, FIRST_FLIPPED, 1, false);
		TEST_ASSERT(!err, "to shared for the %luth time: %s", i + 1, strerror(err));
	}
	stop_users(race, 0);
	pr_info("# %lu conversions to shared, none refused\n", i);
	expect_all_counts(race, 0);
}

#define NR_FRESH	128
#define NR_FLIPPERS	2
#define NR_LARGE	2048

static void guest_touch_fresh(void)
{
	for (u64 page = NR_PAGES; page < NR_PAGES + NR_FRESH; page++)
		WRITE_ONCE(*user_word((void *)GUESTMEM_GPA, page, 0), page);
	GUEST_DONE();
}

struct flipper {
	pthread_t thread;
	struct race *race;
	u64 page;
	u64 flips;
};

static void *flip_forever(void *arg)
{
	struct flipper *flipper = arg;

	while (!READ_ONCE(flipper->race->stop)) {
		make_private(flipper->race->fd, flipper->page, NR_LARGE);
		make_shared(flipper->race->fd, flipper->page, NR_LARGE);
		flipper->flips++;
	}
	return NULL;
}

static void *punch_forever(void *arg)
{
	struct flipper *flipper = arg;

	while (!READ_ONCE(flipper->race->stop)) {
		punch_pages(flipper->race->fd, flipper->page, NR_LARGE);
		flipper->flips++;
	}
	return NULL;
}

/*
 * There is always a change that a fault has to wait for.  It is of other pages, and a
 * fault that had to be made again for each would not come to an end.
 */
static void touch_fresh_beside(struct race *race, unsigned long type, u64 flags,
			       void *(*flip)(void *))
{
	struct flipper flippers[NR_FLIPPERS];
	u64 i, taken, flips = 0;

	__create_race(race, type, flags, 1, NR_PAGES + NR_FRESH + NR_FLIPPERS * NR_LARGE,
		      guest_touch_fresh);
	allocate_pages(race->fd, 0, race->size / MIN_PAGE_SIZE);
	for (i = 0; i < NR_FLIPPERS; i++) {
		flippers[i] = (struct flipper) {
			.race = race,
			.page = NR_PAGES + NR_FRESH + i * NR_LARGE,
		};
		kvm_pthread_create(&flippers[i].thread, NULL, flip, &flippers[i]);
	}
	taken = vcpu_get_stat(race->vcpus[0].vcpu, pf_taken);
	vcpu_run(race->vcpus[0].vcpu);
	expect_guest_done(race->vcpus[0].vcpu);
	taken = vcpu_get_stat(race->vcpus[0].vcpu, pf_taken) - taken;

	WRITE_ONCE(race->stop, true);
	for (i = 0; i < NR_FLIPPERS; i++) {
		kvm_pthread_join(flippers[i].thread, NULL);
		flips += flippers[i].flips;
	}
	pr_info("# %lu faults for %d pages, beside %lu changes\n", taken, NR_FRESH, flips);
	TEST_ASSERT(taken < NR_FRESH * 3 / 2, "%lu faults for %d pages", taken, NR_FRESH);
}

TEST_F_TIMEOUT(guestmem_convert_race, vcpu_gets_on_between_conversions, 300)
{
	touch_fresh_beside(&self->race, KVM_X86_SW_PROTECTED_VM, GUESTMEM_SHARED, flip_forever);
	for (u64 i = NR_PAGES; i < NR_PAGES + NR_FRESH; i++)
		TEST_ASSERT_EQ(*user_word(self->race.mem, i, 0), i);
}

TEST_F_TIMEOUT(guestmem_convert_race, vcpu_gets_on_between_holes, 300)
{
	touch_fresh_beside(&self->race, KVM_X86_SW_PROTECTED_VM, GUESTMEM_SHARED, punch_forever);
}

/* The state of its pages says nothing there: the guest has none that is private. */
TEST_F_TIMEOUT(guestmem_convert_race, vcpu_of_an_ordinary_vm_gets_on_between_holes, 300)
{
	touch_fresh_beside(&self->race, VM_TYPE_DEFAULT, GUEST_MEMFD_FLAG_MMAP, punch_forever);
}

int main(int argc, char *argv[])
{
	require_convert();

	return test_harness_run(argc, argv);
}
