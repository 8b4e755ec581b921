/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the guestmem core share with each other.
 */
#ifndef _MM_GUESTMEM_INTERNAL_H
#define _MM_GUESTMEM_INTERNAL_H

#include <linux/guestmem.h>

/*
 * What a change reserves is charged to the caller.  A limit that is reached fails the
 * change, and nobody is killed for it.
 */
#define GUESTMEM_GFP_RESERVE	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

bool guestmem_geometry_valid(const struct guestmem_geometry *geo);
const struct guestmem_allocator_operations *guestmem_allocator_get(u64 selector);
void guestmem_allocator_put(const struct guestmem_allocator_operations *ops);

void guestmem_attributes_init(struct guestmem_inode *gi);
void guestmem_attributes_destroy(struct guestmem_inode *gi);
struct guestmem_range guestmem_state_run(struct guestmem_inode *gi, pgoff_t index);
struct guestmem_range guestmem_shared_run(struct guestmem_inode *gi, pgoff_t start,
					  pgoff_t end);
int guestmem_uniform_order(struct guestmem_inode *gi, pgoff_t index, int order);
bool guestmem_change_trim(struct guestmem_change *c);
int guestmem_attributes_reserve(struct guestmem_change *c);
void guestmem_attributes_release(struct guestmem_change *c);
void guestmem_attributes_store(struct guestmem_change *c);

unsigned long guestmem_patience(const struct guestmem_change *c);

/* poison.c */
void guestmem_reshape_begin(void);
void guestmem_reshape_end(void);

/* compound.c */
void guestmem_folio_munlock(struct folio *folio);
void guestmem_lru_add(struct folio *folio);
void guestmem_lru_isolate(struct folio *folio);
void guestmem_lru_remove(struct folio *folio);

/* form.c */
#ifdef CONFIG_GUESTMEM_DEBUG
int guestmem_form(const struct guestmem_geometry *geo, struct folio *folio);
int guestmem_form_in_file(const struct guestmem_geometry *geo, struct folio *folio);
bool guestmem_check_form(const struct guestmem_geometry *geo, struct folio *folio, int was);
void guestmem_check_forms(const struct guestmem_geometry *geo, struct folio *first,
			  unsigned long nr, int was);
bool guestmem_check_frozen(struct folio *folio);
#else
static inline int guestmem_form(const struct guestmem_geometry *geo, struct folio *folio)
{
	return 0;
}

static inline int guestmem_form_in_file(const struct guestmem_geometry *geo,
					struct folio *folio)
{
	return 0;
}

static inline bool guestmem_check_form(const struct guestmem_geometry *geo,
				       struct folio *folio, int was)
{
	return true;
}

static inline void guestmem_check_forms(const struct guestmem_geometry *geo,
					struct folio *first, unsigned long nr, int was) {}

static inline bool guestmem_check_frozen(struct folio *folio)
{
	return true;
}
#endif

/* cache.c */
int guestmem_cache_split(struct address_space *mapping, struct folio *folio,
			 pgoff_t index, unsigned int from, unsigned int to);
struct folio *guestmem_cache_find(struct address_space *mapping, pgoff_t *index,
				  pgoff_t end, unsigned int *order);
void guestmem_cache_store(struct address_space *mapping, struct folio *folio,
			  unsigned long nr);
int guestmem_cache_store_one(struct xa_state *xas, struct folio *folio, pgoff_t index,
			     unsigned int order);
void guestmem_cache_restore(struct xa_state *xas, struct folio *folio, pgoff_t index,
			    unsigned int order, unsigned int piece);

void guestmem_poison_init(struct guestmem_inode *gi);
void guestmem_flush_poison(void);

#ifdef CONFIG_DEBUG_FS
void guestmem_debugfs_add(struct guestmem_inode *gi);
void guestmem_debugfs_remove(struct guestmem_inode *gi);
#else
static inline void guestmem_debugfs_add(struct guestmem_inode *gi) {}
static inline void guestmem_debugfs_remove(struct guestmem_inode *gi) {}
#endif

/* A breach of the contract, where looking for one costs something. */
#define GUESTMEM_WARN_ON(cond) ({					\
	bool __bug = IS_ENABLED(CONFIG_GUESTMEM_DEBUG) && WARN_ON_ONCE(cond); \
									\
	unlikely(__bug);						\
})

#endif /* _MM_GUESTMEM_INTERNAL_H */
