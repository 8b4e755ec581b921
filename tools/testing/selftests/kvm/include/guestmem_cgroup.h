/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A cgroup for one test, and what it is charged for huge pages.
 */
#ifndef SELFTEST_KVM_GUESTMEM_CGROUP_H
#define SELFTEST_KVM_GUESTMEM_CGROUP_H

#include <sys/mount.h>

#include "guestmem_hugetlb.h"

#define CGROUP	"/sys/fs/cgroup"
#define GROUP	CGROUP "/guestmem_hugetlb"

/* This process, in a cgroup of its own; @single: bytes of its blocks in single pages. */
struct group {
	char home[256];
	u64 unit;
	bool memcg;
	u64 single;
};

static inline void find_home(char *home, size_t size)
{
	char line[256];
	FILE *f;

	f = fopen("/proc/self/cgroup", "r");
	TEST_ASSERT(f && fgets(line, sizeof(line), f), "this process has no cgroup");
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	snprintf(home, size, CGROUP "%s/cgroup.procs", strchr(line, '/'));
}

static inline const char *why_no_cgroup(void)
{
	if (access(CGROUP "/cgroup.subtree_control", W_OK))
		return "needs cgroup2 at " CGROUP;
	if (write_text(CGROUP "/cgroup.subtree_control", "+hugetlb +memory"))
		return "needs the cgroup controllers hugetlb and memory";
	return NULL;
}

/* Only then does memory.current know of huge pages. */
static inline bool memcg_counts_hugetlb(bool on)
{
	return !mount("none", CGROUP, "cgroup2", MS_REMOUNT,
		      on ? "memory_hugetlb_accounting" : "");
}

static inline void enter_group(struct group *g, u64 unit)
{
	g->unit = unit;
	g->single = 0;
	g->memcg = memcg_counts_hugetlb(true);
	find_home(g->home, sizeof(g->home));
	/* A test that failed may have left it behind. */
	(void)rmdir(GROUP);
	TEST_ASSERT(!mkdir(GROUP, 0755), "cannot make %s, errno %d", GROUP, errno);
	TEST_ASSERT(!write_text(GROUP "/cgroup.procs", "0"), "cannot enter %s", GROUP);
}

static inline void leave_group(struct group *g)
{
	TEST_ASSERT(!write_text(g->home, "0"), "cannot go back to %s", g->home);
}

static inline void remove_group(void)
{
	int tries = 0, err;

	do {
		err = rmdir(GROUP);
	} while (err && errno == EBUSY && ++tries < 100 && !usleep(10000));
	TEST_ASSERT(!err, "cannot remove %s, errno %d", GROUP, errno);
}

static inline void hugetlb_path(u64 unit, const char *what, char *path, size_t size)
{
	snprintf(path, size, GROUP "/hugetlb.%lu%s.%s",
		 unit >= SZ_1G ? unit / SZ_1G : unit / SZ_1M, unit >= SZ_1G ? "GB" : "MB",
		 what);
}

static inline u64 read_charge(u64 unit, const char *what)
{
	char path[128];

	hugetlb_path(unit, what, path, sizeof(path));
	return read_number(path) / unit;
}

static inline void set_limit(u64 unit, const char *what, u64 blocks)
{
	char path[128];
	int err;

	hugetlb_path(unit, what, path, sizeof(path));
	err = write_number(path, blocks * unit);
	TEST_ASSERT(!err, "cannot write to %s, error %d", path, err);
}

static inline u64 memory_of_hugetlb(void)
{
	char line[128], name[64];
	u64 value, found = 0;
	FILE *f;

	write_text("/proc/sys/vm/stat_refresh", "1");
	f = fopen(GROUP "/memory.stat", "r");
	TEST_ASSERT(f, "cannot open memory.stat");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lu", name, &value) == 2 && !strcmp(name, "hugetlb"))
			found = value;
	}
	fclose(f);
	return found;
}

struct charges {
	u64 rsvd;
	u64 usage;
	u64 stat;
	u64 memory;
};

/* memory.current also has what small things take, but no huge page hides in that. */
static inline struct charges read_charges(const struct group *g)
{
	return (struct charges) {
		.rsvd = read_charge(g->unit, "rsvd.current"),
		.usage = read_charge(g->unit, "current"),
		.stat = memory_of_hugetlb(),
		.memory = read_number(GROUP "/memory.current") / (g->unit / 2) / 2,
	};
}

/* In blocks.  The memcg knows of them if it was told to look. */
static inline void expect_charges(const struct group *g, u64 rsvd, u64 usage, const char *when)
{
	struct charges now = read_charges(g);
	u64 stat = g->memcg ? usage * g->unit - g->single : 0;

	TEST_ASSERT(now.rsvd == rsvd, "%s: %lu blocks charged as reserved, expected %lu",
		    when, now.rsvd, rsvd);
	TEST_ASSERT(now.usage == usage, "%s: %lu blocks charged as used, expected %lu",
		    when, now.usage, usage);
	TEST_ASSERT(now.stat == stat, "%s: memory.stat has %lu bytes, expected %lu", when,
		    now.stat, stat);
}

static inline u64 dying_groups(void)
{
	char line[128];
	u64 nr = 0;
	FILE *f;

	f = fopen(CGROUP "/cgroup.stat", "r");
	TEST_ASSERT(f, "cannot open cgroup.stat");
	while (fgets(line, sizeof(line), f))
		sscanf(line, "nr_dying_descendants %lu", &nr);
	fclose(f);
	return nr;
}

/* No more of them than before: the last charge of those that are gone is. */
static inline void expect_groups_dead(u64 dying)
{
	int tries = 0;

	while (dying_groups() > dying && ++tries < 2000)
		usleep(10000);
	TEST_ASSERT(dying_groups() <= dying, "the cgroup does not die with its last charge");
}

#endif /* SELFTEST_KVM_GUESTMEM_CGROUP_H */
