/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of a file that is too simple to be wrong: for each page whether it is
 * shared, whether there is memory behind it, and what was written to it last.
 */
#ifndef _GUESTMEM_MODEL_H
#define _GUESTMEM_MODEL_H

#include <linux/prandom.h>

#include "guestmem_test_lib.h"

#define MODEL_PINS	3

/* What came of a step of the walk. */
enum outcome {
	NOTHING,	/* there was no need */
	DONE,
	REFUSED,	/* someone holds a page */
	STOPPED,	/* by a signal, half-way */
	OUTCOMES
};

/**
 * struct pin - a reference of someone else
 * @folio: what is held; NULL for nothing.
 * @index: of the folio in its file.
 * @attached: it is still there.
 * @tag: if not, what was written to its first page.
 */
struct pin {
	struct folio *folio;
	pgoff_t index;
	bool attached;
	u8 tag;
};

struct model {
	struct kunit *test;
	struct rnd_state rnd;
	unsigned long step;
	bool failed;

	DECLARE_BITMAP(shared, GMT_FEW_PAGES);
	DECLARE_BITMAP(present, GMT_FEW_PAGES);
	u8 tags[GMT_FEW_PAGES];
	struct pin pins[MODEL_PINS];
};

u32 model_random(struct model *m, u32 limit);

/* Each does something at random to the file of the test, and to the model. */
enum outcome model_allocate(struct model *m);
enum outcome model_read(struct model *m);
enum outcome model_write(struct model *m);
enum outcome model_punch(struct model *m);
enum outcome model_share(struct model *m);
enum outcome model_unshare(struct model *m);
enum outcome model_pin(struct model *m);
enum outcome model_unpin(struct model *m);
enum outcome model_reopen(struct model *m);

void model_compare(struct model *m);
void model_end(struct model *m);

#endif /* _GUESTMEM_MODEL_H */
