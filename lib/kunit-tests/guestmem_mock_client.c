// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mock client: files of a pseudo file system, which only the tests open
 */
#define pr_fmt(fmt) "guestmem mock: " fmt

#include <kunit/test-bug.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/slab.h>

#include "../../mm/guestmem/internal.h"
#include "guestmem_mock.h"

static atomic_t mock_breach_count;
static atomic_t mock_inode_count;
static atomic_long_t mock_reclaimed_pages;
static struct vfsmount *mock_mnt;

bool mock_expect(bool ok, const char *what)
{
	if (ok)
		return true;

	atomic_inc(&mock_breach_count);
	pr_err("breach: %s\n", what);
	/* Does nothing in a thread that is not the test's. */
	kunit_fail_current_test("breach: %s", what);
	return false;
}

unsigned int mock_breaches(void)
{
	return atomic_xchg(&mock_breach_count, 0);
}

/*
 * Logs
 */

void mock_log_add(struct mock_log *log, const char *event, pgoff_t start,
		  pgoff_t end)
{
	bool full;

	if (log->off)
		return;

	scoped_guard(spinlock, &log->lock) {
		seq_buf_printf(&log->text, "%s:%lu-%lu ", event, start, end);
		full = seq_buf_has_overflowed(&log->text);
	}
	mock_expect(!full, "more events than the log holds");
}

void mock_log_clear(struct mock_log *log)
{
	guard(spinlock)(&log->lock);
	seq_buf_clear(&log->text);
}

const char *mock_log_text(struct mock_log *log)
{
	guard(spinlock)(&log->lock);
	return seq_buf_str(&log->text);
}

static void mock_log_init(struct mock_log *log)
{
	spin_lock_init(&log->lock);
	seq_buf_init(&log->text, log->buffer, sizeof(log->buffer));
}

/*
 * What the core asks of its client
 */

/* A lock that can be taken exclusively is not held by anybody. */
void mock_expect_locked(struct guestmem_inode *gi, const char *what)
{
	struct rw_semaphore *lock = &gi->mapping->invalidate_lock;

	if (!mock_expect(!down_write_trylock(lock), what))
		up_write(lock);
}

/* A lock that can be taken shared is not held exclusively. */
void mock_expect_exclusive(struct guestmem_inode *gi, const char *what)
{
	struct rw_semaphore *lock = &gi->mapping->invalidate_lock;

	if (!mock_expect(!down_read_trylock(lock), what))
		up_read(lock);
}

static pgoff_t mock_watched(struct guestmem_inode *gi)
{
	return min(i_size_read(gi->mapping->host) >> PAGE_SHIFT, MOCK_WATCHED);
}

static void mock_note_private(struct guestmem_inode *gi, unsigned long *private)
{
	pgoff_t start, end, pages = mock_watched(gi);

	bitmap_zero(private, MOCK_WATCHED);
	for (start = 0; start < pages; start = end) {
		end = min(guestmem_state_run(gi, start).end, pages);
		if (guestmem_is_private(gi, start))
			bitmap_set(private, start, end - start);
	}
}

/* Set, in a bitmap of the pages that are watched, those of the step. */
static void mock_set_step(const struct guestmem_change *c, unsigned long *pages)
{
	pgoff_t start = min(c->step.start, MOCK_WATCHED);

	bitmap_set(pages, start, min(c->step.end, MOCK_WATCHED) - start);
}

static void mock_invalidate_begin(struct guestmem_change *c)
{
	struct mock_inode *mi = mock_inode(c->gi);

	mock_expect_locked(c->gi, "invalidate_begin without invalidate_lock");
	/* Poison, which may come at any time, knows no other target. */
	if (c->target != GUESTMEM_ABSENT)
		mock_expect_exclusive(c->gi, "invalidate_begin with invalidate_lock shared");
	mock_expect(c->step.start < c->step.end, "invalidate_begin of nothing");
	mock_expect(!mi->watch.change, "invalidate_begin before invalidate_end");

	mi->watch.change = c;
	mock_note_private(c->gi, mi->watch.private);
	bitmap_zero(mi->watch.made_shared, MOCK_WATCHED);
	mock_log_add(&mi->phases, "begin", c->step.start, c->step.end);
	if (mi->on_begin)
		mi->on_begin(c);
}

/* Private pages of the step became shared by way of make_shared, and no others. */
static void mock_check_made_shared(const struct guestmem_change *c,
				   const struct mock_watch *watch)
{
	DECLARE_BITMAP(due, MOCK_WATCHED) = {};

	if (c->target == GUESTMEM_SHARED)
		mock_set_step(c, due);
	bitmap_and(due, due, watch->private, MOCK_WATCHED);
	mock_expect(bitmap_equal(due, watch->made_shared, MOCK_WATCHED),
		    "make_shared of too few pages, or of too many");
}

/* The pages of the step have the new state, all others the one they had. */
static void mock_check_states(const struct guestmem_change *c,
			      const struct mock_watch *watch)
{
	DECLARE_BITMAP(step, MOCK_WATCHED) = {};
	DECLARE_BITMAP(due, MOCK_WATCHED);
	DECLARE_BITMAP(now, MOCK_WATCHED);

	mock_set_step(c, step);
	bitmap_copy(due, watch->private, MOCK_WATCHED);
	if (c->target == GUESTMEM_PRIVATE)
		bitmap_or(due, due, step, MOCK_WATCHED);
	else if (c->target == GUESTMEM_SHARED)
		bitmap_andnot(due, due, step, MOCK_WATCHED);

	mock_note_private(c->gi, now);
	mock_expect(bitmap_equal(due, now, MOCK_WATCHED),
		    "states at invalidate_end are not those of the change");
}

static void mock_invalidate_end(struct guestmem_change *c)
{
	struct mock_inode *mi = mock_inode(c->gi);

	mock_expect_locked(c->gi, "invalidate_end without invalidate_lock");
	if (!mock_expect(mi->watch.change == c, "invalidate_end without invalidate_begin"))
		return;

	mock_check_made_shared(c, &mi->watch);
	mock_check_states(c, &mi->watch);
	mi->watch.change = NULL;
	mock_log_add(&mi->phases, "end", c->step.start, c->step.end);
}

/* By now all of its pages are private. */
static void mock_merged(struct guestmem_change *c)
{
	pgoff_t size = i_size_read(c->gi->mapping->host) >> PAGE_SHIFT;
	struct guestmem_range shared;

	mock_expect(mock_inode(c->gi)->watch.change == c, "merged outside of a step");
	shared = guestmem_shared_run(c->gi, c->merged.start, min(c->merged.end, size));
	mock_expect(shared.start >= shared.end, "merged with a shared page in it");
	mock_log_add(&mock_inode(c->gi)->phases, "merged", c->merged.start, c->merged.end);
}

/* Once for each run of private pages, which the guests have lost and the file has not. */
static void mock_make_shared(struct guestmem_inode *gi, pgoff_t start, pgoff_t end)
{
	struct mock_watch *watch = &mock_inode(gi)->watch;
	const struct guestmem_change *c = watch->change;

	mock_log_add(&mock_inode(gi)->phases, "shared", start, end);
	if (!mock_expect(c, "make_shared of pages that guests may map"))
		return;

	mock_expect(c->target == GUESTMEM_SHARED, "make_shared for another target");
	mock_expect(start < end && c->step.start <= start && end <= c->step.end,
		    "make_shared outside of the step");
	mock_expect(guestmem_state_run(gi, start).end >= end, "make_shared of more than a run");
	mock_expect(end == c->step.end || !guestmem_is_private(gi, end),
		    "make_shared of half a run");
	for (pgoff_t index = start; index < min(end, MOCK_WATCHED); index++)
		mock_expect(test_bit(index, watch->private) &&
			    !test_and_set_bit(index, watch->made_shared),
			    "make_shared of a shared page");
}

static bool mock_evicting(struct guestmem_inode *gi)
{
	return inode_state_read_once(gi->mapping->host) & I_FREEING;
}

static void mock_reclaim(struct guestmem_inode *gi, struct folio *folio)
{
	if (!mock_evicting(gi))
		mock_expect_locked(gi, "reclaim without invalidate_lock");
	mock_expect(folio_test_locked(folio), "reclaim of an unlocked folio");
	mock_expect(!folio_mapped(folio), "reclaim of a mapped folio");
	mock_expect(folio->mapping == gi->mapping, "reclaim of a folio that is gone");
	atomic_long_add(folio_nr_pages(folio), &mock_reclaimed_pages);
	mock_log_add(&mock_inode(gi)->folios, "reclaim", folio->index,
		     folio_next_index(folio));
}

static const struct guestmem_client_ops mock_client_ops = {
	.owner			= THIS_MODULE,
	.invalidate_begin	= mock_invalidate_begin,
	.invalidate_end		= mock_invalidate_end,
	.make_shared		= mock_make_shared,
	.merged			= mock_merged,
	.reclaim		= mock_reclaim,
};

/*
 * The page cache
 */

static struct guestmem_inode *mock_mem(struct inode *inode)
{
	return &container_of(inode, struct mock_inode, vfs_inode)->mem;
}

static bool mock_release_folio(struct folio *folio, gfp_t gfp)
{
	return false;
}

static void mock_invalidate_folio(struct folio *folio, size_t offset, size_t len)
{
	if (mock_expect(!offset && len == folio_size(folio), "part of a folio invalidated"))
		guestmem_free_folio(mock_mem(folio->mapping->host), folio);
}

static int mock_error_remove_folio(struct address_space *mapping, struct folio *folio)
{
	return guestmem_error_folio(mock_mem(mapping->host), folio);
}

static const struct address_space_operations mock_aops = {
	.dirty_folio		= noop_dirty_folio,
	.release_folio		= mock_release_folio,
	.invalidate_folio	= mock_invalidate_folio,
	.error_remove_folio	= mock_error_remove_folio,
};

/*
 * Files, for host mappings
 */

static struct folio *mock_get_folio(struct guestmem_inode *gi, pgoff_t index)
{
	struct folio *folio;

	filemap_invalidate_lock_shared(gi->mapping);
	folio = guestmem_get_folio(gi, index);
	filemap_invalidate_unlock_shared(gi->mapping);
	return folio;
}

static vm_fault_t mock_fault(struct vm_fault *vmf)
{
	struct guestmem_inode *gi = mock_mem(file_inode(vmf->vma->vm_file));
	struct folio *folio;

	if (guestmem_is_private(gi, vmf->pgoff))
		return VM_FAULT_SIGBUS;

	folio = mock_get_folio(gi, vmf->pgoff);
	if (IS_ERR(folio))
		return vmf_error(PTR_ERR(folio));

	guestmem_zero_folio(folio);
	if (mock_inode(gi)->on_fault)
		mock_inode(gi)->on_fault(mock_inode(gi));
	vmf->page = folio_file_page(folio, vmf->pgoff);
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct mock_vm_ops = {
	.fault	= mock_fault,
};

static int mock_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &mock_vm_ops;
	return 0;
}

static const struct file_operations mock_fops = {
	.mmap	= mock_mmap,
};

/* The file holds @gi, and is closed by fput() and flush_delayed_fput(). */
struct file *mock_file(struct guestmem_inode *gi)
{
	struct inode *inode = gi->mapping->host;
	struct file *file;

	ihold(inode);
	file = alloc_file_pseudo(inode, mock_mnt, "guestmem-mock", O_RDWR, &mock_fops);
	if (IS_ERR(file))
		iput(inode);
	return file;
}

/*
 * Inodes
 */

/* @args without inode and client. */
struct guestmem_inode *mock_open(const struct guestmem_inode_args *args)
{
	struct guestmem_inode_args complete = *args;
	struct inode *inode;
	int err;

	inode = alloc_anon_inode(mock_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);

	inode->i_mode |= S_IFREG;
	inode->i_mapping->a_ops = &mock_aops;
	inode->i_size = args->size;

	complete.inode = inode;
	complete.client = &mock_client_ops;
	err = guestmem_inode_setup(mock_mem(inode), &complete);
	if (err) {
		iput(inode);
		return ERR_PTR(err);
	}

	atomic_inc(&mock_inode_count);
	return mock_mem(inode);
}

void mock_close(struct guestmem_inode *gi)
{
	iput(gi->mapping->host);
}

unsigned int mock_client_inodes(void)
{
	return atomic_read(&mock_inode_count);
}

/* Pages reclaimed since the last call. */
unsigned long mock_reclaimed(void)
{
	return atomic_long_xchg(&mock_reclaimed_pages, 0);
}

static struct inode *mock_alloc_inode(struct super_block *sb)
{
	struct mock_inode *mi = kzalloc_obj(*mi);

	if (!mi)
		return NULL;

	inode_init_once(&mi->vfs_inode);
	guestmem_inode_init(&mi->mem);
	mock_log_init(&mi->phases);
	mock_log_init(&mi->folios);
	return &mi->vfs_inode;
}

/* Also for inodes that were never set up: the root, and where setup failed. */
static void mock_evict_inode(struct inode *inode)
{
	if (mock_mem(inode)->ops)
		atomic_dec(&mock_inode_count);

	guestmem_inode_evict(mock_mem(inode));
	mock_expect(!mock_mem(inode)->ops, "an allocator outlives its file");
	mock_expect(!inode->i_mapping->nrpages, "folios outlive their file");
	clear_inode(inode);
}

static void mock_free_inode(struct inode *inode)
{
	kfree(container_of(inode, struct mock_inode, vfs_inode));
}

static const struct super_operations mock_super_ops = {
	.alloc_inode	= mock_alloc_inode,
	.evict_inode	= mock_evict_inode,
	.free_inode	= mock_free_inode,
};

static int mock_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *pseudo = init_pseudo(fc, 0x6d6f636b);

	if (!pseudo)
		return -ENOMEM;

	pseudo->ops = &mock_super_ops;
	return 0;
}

static struct file_system_type mock_fs = {
	.name			= "guestmem_mock",
	.init_fs_context	= mock_init_fs_context,
	.kill_sb		= kill_anon_super,
};

int mock_client_start(void)
{
	mock_mnt = kern_mount(&mock_fs);
	return PTR_ERR_OR_ZERO(mock_mnt);
}

void mock_client_stop(void)
{
	if (IS_ERR_OR_NULL(mock_mnt))
		return;

	guestmem_flush_poison();
	kern_unmount(mock_mnt);
	mock_mnt = NULL;
	/* Inodes are freed by RCU. */
	rcu_barrier();
}
