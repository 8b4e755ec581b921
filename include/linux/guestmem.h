/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * guestmem: pluggable allocators for guest_memfd
 */
#ifndef _LINUX_GUESTMEM_H
#define _LINUX_GUESTMEM_H

#include <linux/bits.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/rbtree.h>
#include <linux/seqlock.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

/**
 * DOC: The contract
 *
 * Three parties meet in this header:
 *
 * - an *allocator* decides where a file's folios come from, how large they
 *   are, and what it takes to change their state.  It fills in a struct
 *   guestmem_allocator_operations and registers it;
 * - the *client* owns the file: its system calls, its guests' page tables and
 *   its user ABI.  KVM is one.  It embeds a struct guestmem_inode in its own
 *   inode, calls guestmem_*() and is called back through struct
 *   guestmem_client_ops;
 * - the *core* (mm/guestmem) stands between the two.  It owns the page cache
 *   of the file, the life of the inode and the order of the phases of every
 *   change.
 *
 * A client never sees an allocator, an allocator never sees a client, and
 * neither sees another of its kind.
 *
 * Promised: an allocator's ops run only between a successful inode_setup and
 * the return of inode_teardown, during which its module cannot go away; what
 * can be refused is refused for the whole of a change before anything was
 * changed, by change_prepare; what comes up later, by change_freeze before
 * anything of its step was changed.
 *
 * Not promised: a stable binary interface, and that a folio is as large as
 * the block of its file.  The order is a ceiling.
 *
 * Lock order, outermost first::
 *
 *	client locks (KVM: slots_lock), mmap_lock
 *	  mapping->invalidate_lock | mf_mutex
 *	    block mutex (internal, while a block is allocated)
 *	    guestmem_reshape (internal, while folios are split, merged or come back)
 *	      folio locks, ascending
 *	        i_mmap_rwsem
 *	          client MMU lock | i_pages lock | lru lock
 *
 * Ranges are half-open, [start, end), in units of PAGE_SIZE unless a name
 * says bytes.
 */

struct folio;
struct guestmem_change;
struct guestmem_flip;
struct guestmem_inode;
struct guestmem_inode_args;
struct guestmem_range;
struct kstat;
struct module;
struct seq_file;

/*
 * Creation flags that select an allocator.  Bits 0-1 are KVM's own, bit 2 is
 * claimed elsewhere, and KVM_CHECK_EXTENSION returns an int, so that nothing
 * above bit 30 can be advertised.
 */
#define GUESTMEM_SELECTOR_FIRST	3
#define GUESTMEM_SELECTOR_LAST	30
#define GUESTMEM_SELECTOR_MASK	GENMASK_ULL(GUESTMEM_SELECTOR_LAST, \
					    GUESTMEM_SELECTOR_FIRST)

/* Largest block an allocator may declare: pages of it fit a 32-bit count. */
#define GUESTMEM_MAX_ORDER	30

/**
 * enum guestmem_target - the state a change brings its range to
 * @GUESTMEM_PRIVATE: the guest's own; the host cannot map it.
 * @GUESTMEM_SHARED: the host may map it as well.
 * @GUESTMEM_ABSENT: no memory behind it (punch hole).
 */
enum guestmem_target {
	GUESTMEM_PRIVATE,
	GUESTMEM_SHARED,
	GUESTMEM_ABSENT,
};

/**
 * enum guestmem_insert - how the core puts a folio into the page cache
 * @GUESTMEM_INSERT_LRU: the core charges it to the memcg of the caller and
 *	puts it on the (unevictable) LRU.
 * @GUESTMEM_INSERT_CHARGED: the allocator has charged it, and it stays off the
 *	LRU.
 */
enum guestmem_insert {
	GUESTMEM_INSERT_LRU,
	GUESTMEM_INSERT_CHARGED,
};

/**
 * struct guestmem_geometry - the sizes an allocator works in
 * @block_order: unit of allocation, and the largest folio of the file.  Also
 *	st_blksize.
 * @punch_order: granularity of fallocate() and punch hole; at most
 *	@block_order.
 * @max_map_order: upper bound of what map_order answers; at most @block_order.
 * @piece_order: what a block is split into before single pages are; less than
 *	@block_order, 0 if there is nothing in between, or without @split.
 * @split: a shared page is a folio of its own, see guestmem_pieces_prepare().
 *	Needs %GUESTMEM_INSERT_CHARGED, @punch_order equal to @block_order, and
 *	folios that fill their block.
 * @insert: how folios enter the page cache.
 *
 * Constant from the return of inode_setup on.
 */
struct guestmem_geometry {
	u8 block_order;
	u8 punch_order;
	u8 max_map_order;
	u8 piece_order;
	bool split;
	enum guestmem_insert insert;
};

/**
 * struct guestmem_allocator_operations - what an allocator is
 * @name: **Required.** Name for fdinfo, debugfs and tracepoints.
 * @owner: THIS_MODULE.  Pinned by every inode that is set up.
 * @selector: the one bit of GUESTMEM_SELECTOR_MASK that selects this
 *	allocator, or 0 for the default one, which only mm/guestmem provides.
 * @geo: what the geometry of an inode is before inode_setup is called, which
 *	may change it for the size that was asked for.
 *
 * @inode_setup: **Required.** Called once for a file that is being created.
 *	Reserves whatever the file must not run out of and may refine @gi->geo
 *	and set @gi->priv.  No lock held, may sleep and allocate.  Returns 0 or
 *	a negative errno that goes to the creator of the file as it is: -EINVAL
 *	for a size or unit the allocator does not have, -ENOMEM if something
 *	cannot be reserved.  After a failure nothing is kept, and no other op
 *	is called for @gi.
 *
 * @inode_teardown: **Required.** Called once, when the inode is evicted, after
 *	@truncate.  Gives back what inode_setup took.  No lock held, may sleep,
 *	cannot fail.  (Also called if inode_setup left an impossible geometry.)
 *
 * @alloc_folio: **Required.** Called when the page cache has nothing at
 *	@index.  invalidate_lock is held, at least shared; for a geometry with
 *	blocks or GUESTMEM_INSERT_CHARGED no other alloc_folio runs for the same
 *	block of the same inode.  May sleep and allocate.  @policy is the NUMA
 *	policy of the range, NULL for the task's own.  Returns an unlocked folio
 *	of order block_order or less, with one reference, not yet in the page
 *	cache and not up to date, that will serve the naturally aligned range of
 *	its size around @index, in which nothing is present; or ERR_PTR: -ENOMEM,
 *	-ENOSPC (a reservation that cannot be met, or a pool that is empty),
 *	-EHWPOISON.  A failure leaves no trace.
 *
 * @free_folio: **Required.** The folio leaves the inode: it is about to be
 *	removed from the page cache, locked and mapped by nobody; or it could not
 *	be inserted (another was faster, or memory for it was short) and is not
 *	locked.  The core still holds references and drops them afterwards; others
 *	may hold some much longer.  A folio that has to come back to the allocator
 *	goes into custody here: guestmem_custody_take().  invalidate_lock is held,
 *	except at eviction.  Must not sleep, cannot fail.
 *
 * @map_order: **Required.** Called under the folio lock, with the folio in the
 *	page cache and up to date or not.  Returns the order of the largest
 *	naturally aligned range around @index that may be mapped at once, at
 *	most the order of @folio, or -EHWPOISON if the page at @index is
 *	poisoned.  Must not sleep.
 *
 * @change_prepare: **Required.** First phase of a change: judges the whole of
 *	[@c->start, @c->end), if there is more than one step, and reserves all
 *	that the later phases need for it.  The only phase that may allocate.
 *	Pages of the range that have the target's state already are to be left
 *	alone, here and in the later phases; guestmem_for_each_run() finds the
 *	others, and with @c->fresh those to be split.  An allocator without blocks
 *	refuses no hole: that may be punched in parts.  invalidate_lock is held
 *	exclusively, the guests still map the range.  May sleep.  Returns 0;
 *	-EAGAIN (unexpected references) or -EHWPOISON with @c->err_index set to
 *	the first page that refused; -ENOMEM or -EOPNOTSUPP with @c->err_index set
 *	to the start of what could not be reserved.  A failure leaves no trace,
 *	and no other phase follows it.
 *
 * @change_freeze: **Required.** Second phase, once for every step: makes sure
 *	that the state of the folios of @c->step can be changed now.
 *	invalidate_lock is held exclusively, the guests still map the range.  The
 *	host has been unmapped, unless @c->target is GUESTMEM_SHARED, but a fault
 *	that was under way may have mapped a folio since: unmap again under its
 *	lock.  May sleep, must not allocate.  Returns 0, -EAGAIN or -EHWPOISON,
 *	with @c->err_index set to the first page that refused; a failure leaves
 *	the step as it was and is followed by change_cancel.
 *
 * @change_commit: **Required.** Third phase, once for every step that was
 *	frozen, when nothing maps its changing pages any more: brings the folios
 *	of the step to @c->target and undoes the freeze.  The core stores the
 *	state of the pages afterwards.  invalidate_lock is held exclusively.  May sleep,
 *	must not allocate, cannot fail.  In the last step, where @c->step.end is
 *	@c->end, it also gives back what is left of change_prepare's
 *	reservations.  A folio that it removes from the page cache other than by
 *	truncate_inode_pages_range() it passes to guestmem_free_folio() first.
 *
 * @change_cancel: **Required.** Called in place of the remaining steps, those
 *	from @c->step.start to @c->end: gives back what change_prepare reserved
 *	for them.  invalidate_lock is held exclusively.  May sleep, must not
 *	allocate, cannot fail.
 *
 * @truncate: **Required.** Removes all folios of the inode from the page cache
 *	when it is evicted, as change_commit does for a hole.  Nothing maps them,
 *	no lock is held.  May sleep, cannot fail.
 *
 * @error_folio: **Required.** A page of @folio has become poisoned.  Called
 *	with the folio locked from memory_failure(), which comes here for single
 *	pages on the LRU and for folios of HugeTLB's type, and again if guests are
 *	told later: must not take invalidate_lock, must leave the folio in the page
 *	cache.  @bad is all of the folio; it may be cut down to the pages that
 *	guests have to lose, as good pages that some of them lose are gone.  May
 *	sleep.  Returns an enum mf_result: MF_DELAYED, as the folio stays.
 *
 * The idea of one table that a 4K and a HugeTLB allocator both fill in comes
 * from the review of the guest_memfd HugeTLB series on the linux-mm and kvm
 * mailing lists.
 */
struct guestmem_allocator_operations {
	const char *name;
	struct module *owner;
	u64 selector;
	struct guestmem_geometry geo;

	int (*inode_setup)(struct guestmem_inode *gi,
			   const struct guestmem_inode_args *args);
	void (*inode_teardown)(struct guestmem_inode *gi);

	struct folio *(*alloc_folio)(struct guestmem_inode *gi, pgoff_t index,
				     struct mempolicy *policy);
	void (*free_folio)(struct guestmem_inode *gi, struct folio *folio);
	int (*map_order)(struct guestmem_inode *gi, struct folio *folio,
			 pgoff_t index);

	int (*change_prepare)(struct guestmem_change *c);
	int (*change_freeze)(struct guestmem_change *c);
	void (*change_commit)(struct guestmem_change *c);
	void (*change_cancel)(struct guestmem_change *c);

	void (*truncate)(struct guestmem_inode *gi);
	int (*error_folio)(struct guestmem_inode *gi, struct folio *folio,
			   struct guestmem_range *bad);
};

/**
 * struct guestmem_client_ops - what the core asks of the owner of a file
 * @owner: module of the client's code and of its super block.
 *
 * @invalidate_begin: **Required.** Unmap the pages of @c->step that @c changes,
 *	see guestmem_for_each_run(), from all guests, each where its present state
 *	has it mapped; and nothing that maps no such page: a private page that is
 *	unmapped is lost to some guests.  Keep the guests from mapping any page of
 *	guestmem_step_block() until @invalidate_end: a fault that is under way may
 *	have seen a larger folio than there will be.  invalidate_lock is held,
 *	exclusively for a change and shared for poison.  Folios of the step may be
 *	locked and have no references: take neither, here and until
 *	@invalidate_end.  May sleep, must not allocate, cannot fail.
 *
 * @invalidate_end: **Required.** Ends what invalidate_begin began, with the
 *	same @c and step.  The state of the pages may have changed in between.
 *
 * @make_shared: **Required.** The private pages [@start, @end), which no guest
 *	maps any more, are about to become shared: take what is allocated of them
 *	back from the architecture, with its contents.  invalidate_lock is held
 *	exclusively.  May sleep, must not allocate, cannot fail: a page that the
 *	architecture does not give back is reported to memory_failure().  Not
 *	called for folios that leave the file.
 *
 * @merged: **Required.** From the first to the last page of @c->merged, which are all
 *	private, folios have been merged, though not all of them need have been:
 *	guests that can map them anew without losing them may drop the smaller
 *	mappings they have.  Called between invalidate_begin and invalidate_end.
 *	May sleep, must not allocate, cannot fail.
 *
 * @reclaim: **Required.** The folio is about to be removed from the page cache:
 *	take it back from the architecture.  Called before the allocator's
 *	free_folio with the same locks held.  May sleep, cannot fail.
 */
struct guestmem_client_ops {
	struct module *owner;

	void (*invalidate_begin)(struct guestmem_change *c);
	void (*invalidate_end)(struct guestmem_change *c);
	void (*make_shared)(struct guestmem_inode *gi, pgoff_t start, pgoff_t end);
	void (*merged)(struct guestmem_change *c);
	void (*reclaim)(struct guestmem_inode *gi, struct folio *folio);
};

/**
 * struct guestmem_inode_args - what a new file is to be
 * @inode: [IN] the inode @gi is embedded in, size and mapping set, not yet
 *	visible to anyone else.
 * @client: [IN] callbacks into the owner of the file.
 * @selector: [IN] a registered bit of GUESTMEM_SELECTOR_MASK, or 0.
 * @size: [IN] size of the file in bytes, a positive multiple of PAGE_SIZE.
 * @unit_log2: [IN] block size asked for, as log2 of bytes; 0 for the
 *	allocator's default.
 * @init_shared: [IN] pages start their life shared rather than private.
 * @mappable: [IN] the host may map what is shared.
 * @convertible: [IN] pages may change their state; else all keep the one they have.
 */
struct guestmem_inode_args {
	struct inode *inode;
	const struct guestmem_client_ops *client;
	u64 selector;
	loff_t size;
	u8 unit_log2;
	bool init_shared;
	bool mappable;
	bool convertible;
};

/**
 * struct guestmem_inode - the core's part of a file; embedded in the client's
 * @ops: allocator; NULL before setup and after evict.
 * @client: owner of the file.
 * @mapping: page cache of the file.
 * @geo: sizes; constant after setup.
 * @init_shared: state of all pages that are not in @flipped.
 * @flipped: ranges of pages that have the other state; disjoint, and none
 *	borders on the next.  Changed under invalidate_lock.
 * @flipped_lock: lets @flipped be read without invalidate_lock.
 * @policy: NUMA policy of ranges, as set by mbind().
 * @priv: for the allocator.
 * @poison_lock: protects @poison_start and @poison_end.
 * @poison_start: pages whose poison the guests have not been told of lie in
 * @poison_end: [@poison_start, @poison_end), empty if equal.
 * @poison_work: tells the guests; holds the inode and the client's module.
 * @debugfs: directory of this file, named by its inode number.
 *
 * Read-only for clients and allocators, but for @priv and for what
 * inode_setup may set.
 */
struct guestmem_inode {
	const struct guestmem_allocator_operations *ops;
	const struct guestmem_client_ops *client;
	struct address_space *mapping;
	struct guestmem_geometry geo;
	bool init_shared;
	struct rb_root flipped;
	seqlock_t flipped_lock; /* see above */
	struct shared_policy policy;
	void *priv;

	spinlock_t poison_lock; /* protects the next two */
	pgoff_t poison_start;
	pgoff_t poison_end;
	struct work_struct poison_work;

	struct dentry *debugfs;
};

/**
 * struct guestmem_range - pages [@start, @end) of a file
 * @start: first page.
 * @end: first page after the range.
 */
struct guestmem_range {
	pgoff_t start;
	pgoff_t end;
};

/**
 * struct guestmem_change - one change of state of a range; on the caller's stack
 * @gi: [IN] file.
 * @target: [IN] state to bring the range to.
 * @start: [IN] first page.  Moved up to the first page that changes.
 * @end: [IN] first page after the range; greater than @start.  Moved down to
 *	behind the last page that changes.
 * @err_index: [OUT] after -EAGAIN and -EHWPOISON the first page that refused,
 *	after -ENOMEM and -EOPNOTSUPP the start of what could not be reserved;
 *	else undefined.
 * @step: what freeze and commit are about: all that changes on an allocator
 *	without blocks, else the part of it in one block.  It begins with a page
 *	that changes.  The core's.
 * @merged: from the first to the last page of what commit has merged, empty if
 *	nothing.
 * @fresh: the pages have the state of the target already: their block has just
 *	been allocated, in one piece.  The core's.
 * @spare: room for one more range of pages, reserved for the commit.  The
 *	core's.
 * @plan: the allocator's, from change_prepare on.
 */
struct guestmem_change {
	struct guestmem_inode *gi;
	enum guestmem_target target;
	pgoff_t start;
	pgoff_t end;
	pgoff_t err_index;
	struct guestmem_range step;
	struct guestmem_range merged;
	bool fresh;
	struct guestmem_flip *spare;
	void *plan;
};

/**
 * struct guestmem_pieces - what a change of a file with @geo.split has reserved
 * @gi: file.
 * @ops: of the allocator.
 * @reserved: for @ops->reserve to put what it reserves on.
 * @dropped: for @ops->merge to put on what @ops->flush is to free.
 * @stale: for @ops: there is something to flush.
 * @going: what is merged leaves the file, and its contents are of no use.  The core's.
 * @spare: a node of the page cache, for a merge.  The core's.
 */
struct guestmem_pieces {
	struct guestmem_inode *gi;
	const struct guestmem_pieces_operations *ops;
	struct list_head reserved;
	struct list_head dropped;
	bool stale;
	bool going;
	struct xa_state spare;
};

/**
 * struct guestmem_pieces_operations - how an allocator's folios change their size
 * @reserve: **Required.** Reserve what splitting pages of @folio, an aligned range
 *	of order @from, into folios of order @to will take.  @folio is still whole:
 *	it may have to be split to @from first.  May sleep and allocate.  Returns 0
 *	or -ENOMEM; what was reserved is on @p->reserved.
 *
 * @release: **Required.** Give back all that is left on @p->reserved.  May sleep,
 *	must not allocate, cannot fail.
 *
 * @open: **Required.** The range of order @from that begins with page @first of
 *	@folio, locked and with its reference count frozen, is about to be split into
 *	folios of order @to: make that many of its struct pages writable.  Called
 *	first for the whole of @folio; then, for each piece that the same step splits
 *	further, for the range of that piece, which is no folio yet.  One flush for all
 *	of a step follows, before split.
 *
 * @split: **Required.** Turn @folio, locked, frozen and opened, into folios of
 *	order @to, each frozen, the first one locked, with mapping, index and the
 *	flags that say what the memory holds.  Folios of order 0 have no page type,
 *	no charge and are counted nowhere: the core puts them on the LRU.
 *
 * @merge: **Required.** The reverse: the folios in the aligned range of order @to
 *	that begins with @folio are locked and frozen, have the same order and are
 *	counted nowhere.  They become one folio, frozen and locked.
 *
 * @flush: **Required.** Called once in a step: after the last @open, or after the last
 *	@merge.  Struct pages may be mapped in two ways until it returns.
 *
 * Apart from @reserve none of these may allocate or fail.  @split and @merge are
 * called for up to as many folios as a block has pieces, with a resched point
 * in between.
 */
struct guestmem_pieces_operations {
	int (*reserve)(struct guestmem_pieces *p, struct folio *folio,
		       unsigned int from, unsigned int to);
	void (*release)(struct guestmem_pieces *p);
	void (*open)(struct guestmem_pieces *p, struct folio *folio, unsigned long first,
		     unsigned int from, unsigned int to);
	void (*split)(struct guestmem_pieces *p, struct folio *folio, unsigned int to);
	void (*merge)(struct guestmem_pieces *p, struct folio *folio, unsigned int to);
	void (*flush)(struct guestmem_pieces *p);
};

/**
 * struct guestmem_custody - who gets folios back that outlive their file
 * @owner: module of @release and of the object itself; pinned by every folio in
 *	custody, so both stay valid as long as there is one.  NULL if built in.
 * @release: **Required.** The last reference to a folio has gone, wherever and
 *	in whatever context it was dropped.  Called from a worker, one folio at a
 *	time, no lock held, may sleep.  The folio is uncharged and out of custody,
 *	has @references and no flag but PG_hwpoison, and so is fit for alloc_folio
 *	to return once more.  If it is poisoned (folio_test_hwpoison(), a large folio
 *	page by page) it must not be: folio_put() takes a single page out of use.
 * @references: of a folio that comes back; 0 stands for one.
 *
 * An allocator has one, or one for each of its pools, or embeds one in what it
 * keeps of a block.
 */
struct guestmem_custody {
	struct module *owner;
	void (*release)(struct guestmem_custody *custody, struct folio *folio);
	int references;
};

/* Allocators */
int guestmem_register(const struct guestmem_allocator_operations *ops);
void guestmem_unregister(const struct guestmem_allocator_operations *ops);
int guestmem_expect_unpinned(struct guestmem_change *c, struct guestmem_range range);
struct guestmem_range guestmem_next_run(const struct guestmem_change *c, pgoff_t start,
					pgoff_t end);
void guestmem_free_folio(struct guestmem_inode *gi, struct folio *folio);
int guestmem_charge_folio(struct guestmem_inode *gi, struct folio *folio);
void guestmem_custody_take(struct guestmem_custody *custody, struct folio *folio);
void guestmem_custody_flush(void);
int guestmem_pieces_prepare(struct guestmem_change *c,
			    const struct guestmem_pieces_operations *ops);
int guestmem_pieces_freeze(struct guestmem_change *c);
void guestmem_pieces_commit(struct guestmem_change *c);
void guestmem_pieces_cancel(struct guestmem_change *c);
void guestmem_pieces_gather(struct guestmem_inode *gi, struct guestmem_range range,
			    const struct guestmem_pieces_operations *ops);
void guestmem_split_folio(struct folio *folio, unsigned int to);
void guestmem_merge_folios(struct folio *folio, unsigned int to);

/* Clients */
u64 guestmem_selectors(void);
void guestmem_inode_init(struct guestmem_inode *gi);
int guestmem_inode_setup(struct guestmem_inode *gi,
			 const struct guestmem_inode_args *args);
void guestmem_inode_evict(struct guestmem_inode *gi);
struct folio *guestmem_get_folio(struct guestmem_inode *gi, pgoff_t index);
void guestmem_folio_filled(struct folio *folio);
void guestmem_zero_folio(struct folio *folio);
int guestmem_map_order(struct guestmem_inode *gi, struct folio *folio,
		       pgoff_t index);
bool guestmem_is_private(const struct guestmem_inode *gi, pgoff_t index);
int guestmem_allocate(struct guestmem_inode *gi, pgoff_t start, pgoff_t end);
int guestmem_allocate_mixed(struct guestmem_inode *gi, pgoff_t index);
int guestmem_change(struct guestmem_change *c);
int guestmem_punch_hole(struct guestmem_inode *gi, pgoff_t start, pgoff_t end);
int guestmem_error_folio(struct guestmem_inode *gi, struct folio *folio);
void guestmem_stat(struct guestmem_inode *gi, struct kstat *stat);
void guestmem_show(struct guestmem_inode *gi, struct seq_file *m);

/**
 * guestmem_for_each_run() - the pages that a change alters
 * @run: struct guestmem_range that is set to each run of such pages in turn.
 * @c: change.
 * @range: struct guestmem_range to look at: all of @c, or its step.
 *
 * Pages that have the state of the target already are in no run, and all pages
 * are in one if the target is GUESTMEM_ABSENT.  With @c->fresh, those are in one that
 * have the state of the target, GUESTMEM_SHARED: a block has just been allocated, and
 * prepare, freeze and commit, or cancel, are all that there is of the change.
 * invalidate_lock is held, and the state of the range has not been changed yet.
 */
#define guestmem_for_each_run(run, c, range)					\
	for ((run) = guestmem_next_run(c, (range).start, (range).end);		\
	     (run).start < (run).end;						\
	     (run) = guestmem_next_run(c, (run).end, (range).end))

/**
 * guestmem_step_block() - the block that a step of a change is in
 * @c: change.
 *
 * Return: the whole block, also where it reaches beyond the end of the file; the
 * step itself on an allocator without blocks.
 */
static inline struct guestmem_range
guestmem_step_block(const struct guestmem_change *c)
{
	pgoff_t unit = 1UL << c->gi->geo.block_order;

	return (struct guestmem_range) {
		.start	= round_down(c->step.start, unit),
		.end	= round_up(c->step.end, unit),
	};
}

/**
 * guestmem_range_aligned() - does a byte range fit the file's granularity?
 * @gi: file.
 * @offset: start in bytes.
 * @len: length in bytes.
 *
 * The end may also be the end of the file, which then means the whole of the
 * last unit.  Any context.
 *
 * Return: true if fallocate() may act on the range.
 */
static inline bool guestmem_range_aligned(const struct guestmem_inode *gi,
					  loff_t offset, loff_t len)
{
	loff_t mask = ((loff_t)PAGE_SIZE << gi->geo.punch_order) - 1;
	loff_t end = offset + len;

	return !(offset & mask) &&
	       (!(end & mask) || end == i_size_read(gi->mapping->host));
}

#endif /* _LINUX_GUESTMEM_H */
