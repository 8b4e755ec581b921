/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The n-th allocation fails, for every n: just that one, or it and all that
 * follow.  The latter is what gets through to a caller that has a second try;
 * on real hardware or what emulates it, of more than FEW it is every fifth n.
 */
#ifndef _GUESTMEM_FAIL_NTH_H
#define _GUESTMEM_FAIL_NTH_H

#include "guestmem_test_lib.h"

enum alloc_kind {
	KIND_SLAB,
	KIND_PAGE,
	KINDS
};

enum spell {
	SPELL_ONCE,
	SPELL_FOR_EVER,
	SPELLS
};

/* More allocations than anything here makes. */
#define MANY	10000

/* As many as most make: of those, each is also the first of all that fail. */
#define FEW	64

/* How often to look for allocations where there may be none. */
#define FREEZE_ROUNDS	5

/**
 * struct operation - something that allocates
 * @prepare: brings about the state that @run starts from; may be NULL.
 * @run: allocates, with failures.
 * @check_failed: the state is what it was before @run.
 * @undo: of what @run did when it succeeded.
 */
struct operation {
	void (*prepare)(struct kunit *test);
	int (*run)(struct kunit *test);
	void (*check_failed)(struct kunit *test);
	void (*undo)(struct kunit *test);
};

int fail_nth_suite_init(struct kunit_suite *suite);
unsigned int fail_in_every_way(struct kunit *test, const char *name,
			       const struct operation *op, enum alloc_kind kind);
int run_with_failure_of(struct kunit *test, int (*run)(struct kunit *test), enum alloc_kind kind,
			unsigned int nth);
unsigned int allocations_left(struct kunit *test, int (*run)(struct kunit *test),
			      enum alloc_kind kind);

#endif /* _GUESTMEM_FAIL_NTH_H */
