/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How large the folios of a file that splits them have to be, and what is in them.
 */
#ifndef _GUESTMEM_LAYOUT_H
#define _GUESTMEM_LAYOUT_H

#include "../../mm/guestmem/internal.h"
#include "guestmem_test_lib.h"

/**
 * struct layout - what a file is expected to be like
 * @present: pages that are allocated, some beyond the end of the file.
 * @tags: what was written to each page; 0 for never.  As long as @present.
 */
struct layout {
	unsigned long *present;
	u8 *tags;
};

/*
 * Files of the mock, and of HugeTLB's pools that are there; those of which all pages can
 * be split in good time; those of the mock.
 */
const void *layout_mock_gen_params(struct kunit *test, const void *prev, char *desc);
const void *layout_small_gen_params(struct kunit *test, const void *prev, char *desc);
const void *layout_gen_params(struct kunit *test, const void *prev, char *desc);
int layout_init(struct kunit *test);
void layout_log_off(struct kunit *test);
void layout_reopen(struct kunit *test);

static inline struct layout *layout(struct kunit *test)
{
	return gmt(test)->data;
}

/* The file of the test, and all of its blocks. */
pgoff_t layout_pages(struct kunit *test);
pgoff_t layout_block(struct kunit *test);

/* Done to the file and to the expectation. */
struct folio *layout_get(struct kunit *test, pgoff_t index);
void layout_allocate(struct kunit *test, pgoff_t index);
void layout_write(struct kunit *test, pgoff_t index, u8 tag);
void layout_change(struct kunit *test, enum guestmem_target target, pgoff_t start, pgoff_t end);

/* Compares all of the file; @slack: folios may be smaller than they could be. */
void layout_expect(struct kunit *test, bool slack);

#endif /* _GUESTMEM_LAYOUT_H */
