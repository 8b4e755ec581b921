// SPDX-License-Identifier: GPL-2.0
/*
 * guest_memfd: files whose memory is for guests first
 *
 * The inode stands for the memory, a file for one VM's view of it: the memslots
 * that are bound to it.  Where memory comes from and how its state changes is
 * up to guestmem (mm/guestmem); see include/linux/guestmem.h for the contract
 * and Documentation/mm/guestmem.rst for the rules that this file follows.
 *
 * Lock order: slots_lock, mmap_lock => invalidate_lock => folio lock => mmu_lock
 */
#include <linux/anon_inodes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/guestmem.h>
#include <linux/kvm_host.h>
#include <linux/mempolicy.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/string.h>

#include "guest_memfd.h"
#include "kvm_mm.h"

struct gmem_inode {
	struct guestmem_inode mem;
	/* All files of the inode, protected by invalidate_lock. */
	struct list_head files;
	u64 flags;
	struct inode vfs_inode;
};

struct gmem_file {
	struct kvm *kvm;
	/* Offset in pages => memslot, protected by invalidate_lock. */
	struct xarray slots;
	struct list_head node;
};

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES
bool __ro_after_init gmem_in_place_conversion;
EXPORT_SYMBOL_FOR_KVM_INTERNAL(gmem_in_place_conversion);
module_param(gmem_in_place_conversion, bool, 0444);
#endif

static struct vfsmount *kvm_gmem_mnt;
static struct kmem_cache *kvm_gmem_inode_cache;

static struct gmem_inode *to_gmem(struct inode *inode)
{
	return container_of(inode, struct gmem_inode, vfs_inode);
}

static struct guestmem_inode *to_guestmem(struct inode *inode)
{
	return &to_gmem(inode)->mem;
}

static pgoff_t gfn_to_gmem_index(struct kvm_memory_slot *slot, gfn_t gfn)
{
	return slot->gmem.pgoff + (gfn - slot->base_gfn);
}

static kvm_pfn_t gmem_folio_pfn(struct folio *folio, pgoff_t index)
{
	return page_to_pfn(folio_file_page(folio, index));
}

/*
 * Invalidation: unmapping a range of the inode from every VM that maps it
 */

/* The gfns of those pages of [start, end) that the slot has. */
static struct kvm_gfn_range gmem_gfn_range(struct kvm_memory_slot *slot,
					   pgoff_t start, pgoff_t end)
{
	pgoff_t first = slot->gmem.pgoff;
	pgoff_t last = first + slot->npages;

	return (struct kvm_gfn_range) {
		.slot = slot,
		.start = slot->base_gfn + clamp(start, first, last) - first,
		.end = slot->base_gfn + clamp(end, first, last) - first,
		.may_block = true,
	};
}

/*
 * What has the pages of a change mapped: their state before it.  What leaves the file may
 * be mapped as either: one that the host maps serves shared faults, whatever its state.
 */
static enum kvm_gfn_range_filter gmem_old_state(const struct guestmem_change *c)
{
	switch (c->target) {
	case GUESTMEM_PRIVATE:
		return KVM_FILTER_SHARED;
	case GUESTMEM_SHARED:
		return KVM_FILTER_PRIVATE;
	default:
		return KVM_FILTER_PRIVATE | KVM_FILTER_SHARED;
	}
}

static bool gmem_lock_is_wanted(struct kvm *kvm)
{
#ifdef KVM_HAVE_MMU_RWLOCK
	return rwlock_needbreak(&kvm->mmu_lock);
#else
	return spin_needbreak(&kvm->mmu_lock);
#endif
}

/* KVM gives way inside of a range that it unmaps; here are many, of a page or two each. */
static void gmem_give_way(struct kvm *kvm, bool *flush)
{
	if (!need_resched() && !gmem_lock_is_wanted(kvm))
		return;

	if (*flush)
		kvm_flush_remote_tlbs(kvm);
	*flush = false;
	KVM_MMU_UNLOCK(kvm);
	cond_resched();
	KVM_MMU_LOCK(kvm);
}

/*
 * Zap exactly, retry widely: what is unmapped for nothing is lost to a TDX guest,
 * but a fault on any page of the block may be about to map all of it.
 */
static void gmem_unmap_slot(struct kvm *kvm, struct kvm_memory_slot *slot,
			    struct guestmem_change *c, bool *flush)
{
	struct guestmem_range block = guestmem_step_block(c);
	struct guestmem_range bound = {
		max(c->step.start, slot->gmem.pgoff),
		min(c->step.end, slot->gmem.pgoff + slot->npages),
	};
	struct guestmem_range run;
	struct kvm_gfn_range range;

	range = gmem_gfn_range(slot, block.start, block.end);
	kvm_mmu_invalidate_range_add(kvm, range.start, range.end);

	guestmem_for_each_run(run, c, bound) {
		range = gmem_gfn_range(slot, run.start, run.end);
		range.attr_filter = gmem_old_state(c);
		*flush |= kvm_mmu_unmap_gfn_range(kvm, &range);
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_INVALIDATE
		kvm_arch_gmem_invalidate_range(kvm, &range);
#endif
		gmem_give_way(kvm, flush);
	}
}

static bool gmem_file_maps(struct gmem_file *f, unsigned long start,
			   unsigned long end)
{
	return xa_find(&f->slots, &start, end - 1, XA_PRESENT);
}

static void gmem_file_invalidate_begin(struct gmem_file *f,
				       struct guestmem_change *c)
{
	struct guestmem_range block = guestmem_step_block(c);
	struct kvm_memory_slot *slot;
	struct kvm *kvm = f->kvm;
	unsigned long index;
	bool flush = false;

	if (!gmem_file_maps(f, block.start, block.end))
		return;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_start(kvm);
	xa_for_each_range(&f->slots, index, slot, block.start, block.end - 1) {
		gmem_unmap_slot(kvm, slot, c, &flush);
		/* A slot can fill several entries. */
		index = slot->gmem.pgoff + slot->npages - 1;
	}
	if (flush)
		kvm_flush_remote_tlbs(kvm);
	KVM_MMU_UNLOCK(kvm);
}

static void gmem_file_invalidate_end(struct gmem_file *f,
				     struct guestmem_change *c)
{
	struct guestmem_range block = guestmem_step_block(c);
	struct kvm *kvm = f->kvm;

	if (!gmem_file_maps(f, block.start, block.end))
		return;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}

/* May private memory be unmapped from the guest and mapped again? */
bool __weak kvm_arch_gmem_can_zap_private(struct kvm *kvm)
{
	return false;
}

static void gmem_file_zap_merged(struct gmem_file *f, struct guestmem_range merged)
{
	struct kvm_memory_slot *slot;
	struct kvm *kvm = f->kvm;
	struct kvm_gfn_range range;
	unsigned long index;
	bool flush = false;

	KVM_MMU_LOCK(kvm);
	xa_for_each_range(&f->slots, index, slot, merged.start, merged.end - 1) {
		range = gmem_gfn_range(slot, merged.start, merged.end);
		range.attr_filter = KVM_FILTER_PRIVATE;
		flush |= kvm_mmu_unmap_gfn_range(kvm, &range);
		/* A slot can fill several entries. */
		index = slot->gmem.pgoff + slot->npages - 1;
	}
	if (flush)
		kvm_flush_remote_tlbs(kvm);
	KVM_MMU_UNLOCK(kvm);
}

/* The next fault maps as much at once as there is now. */
static void kvm_gmem_merged(struct guestmem_change *c)
{
	struct gmem_inode *gmem = container_of(c->gi, struct gmem_inode, mem);
	struct gmem_file *f;

	lockdep_assert_held_write(&c->gi->mapping->invalidate_lock);

	list_for_each_entry(f, &gmem->files, node)
		if (kvm_arch_gmem_can_zap_private(f->kvm))
			gmem_file_zap_merged(f, c->merged);
}

/*
 * Holding invalidate_lock, if only shared, keeps memslots from being bound and
 * unbound in between, so that every begin has its end.
 */
static void kvm_gmem_invalidate_begin(struct guestmem_change *c)
{
	struct gmem_inode *gmem = container_of(c->gi, struct gmem_inode, mem);
	struct gmem_file *f;

	lockdep_assert_held(&c->gi->mapping->invalidate_lock);

	list_for_each_entry(f, &gmem->files, node)
		gmem_file_invalidate_begin(f, c);
}

static void kvm_gmem_invalidate_end(struct guestmem_change *c)
{
	struct gmem_inode *gmem = container_of(c->gi, struct gmem_inode, mem);
	struct gmem_file *f;

	lockdep_assert_held(&c->gi->mapping->invalidate_lock);

	list_for_each_entry(f, &gmem->files, node)
		gmem_file_invalidate_end(f, c);
}

/* Take no references: the folios may be frozen, and nobody can remove them. */
static void kvm_gmem_make_shared(struct guestmem_inode *mem, pgoff_t start,
				 pgoff_t end)
{
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_RECLAIM
	struct folio *folio;
	unsigned long index;
	pgoff_t first;

	lockdep_assert_held_write(&mem->mapping->invalidate_lock);

	xa_for_each_range(&mem->mapping->i_pages, index, folio, start, end - 1) {
		first = max(folio->index, start);
		/* All slots of a folio are looked at once. */
		index = min(folio_next_index(folio), end) - 1;
		kvm_arch_gmem_make_shared(gmem_folio_pfn(folio, first),
					  index - first + 1);
	}
#endif
}

static void kvm_gmem_reclaim(struct guestmem_inode *mem, struct folio *folio)
{
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_RECLAIM
	kvm_arch_gmem_reclaim(folio_pfn(folio), folio_nr_pages(folio));
#endif
}

/* Not const: .owner is known when KVM is loaded. */
static struct guestmem_client_ops kvm_gmem_client_ops = {
	.invalidate_begin	= kvm_gmem_invalidate_begin,
	.invalidate_end		= kvm_gmem_invalidate_end,
	.make_shared		= kvm_gmem_make_shared,
	.merged			= kvm_gmem_merged,
	.reclaim		= kvm_gmem_reclaim,
};

/*
 * Files: system calls on the descriptor
 */

static long gmem_allocate(struct inode *inode, pgoff_t start, pgoff_t end)
{
	/* The size of guest memory is fixed when the file is created. */
	if (end > i_size_read(inode) >> PAGE_SHIFT)
		return -EINVAL;

	return guestmem_allocate(to_guestmem(inode), start, end);
}

static long kvm_gmem_fallocate(struct file *file, int mode, loff_t offset,
			       loff_t len)
{
	struct inode *inode = file_inode(file);
	pgoff_t start, end;
	long r;

	if (mode != FALLOC_FL_KEEP_SIZE &&
	    mode != (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;

	if (!guestmem_range_aligned(to_guestmem(inode), offset, len))
		return -EINVAL;

	start = offset >> PAGE_SHIFT;
	end = (offset + len) >> PAGE_SHIFT;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		r = guestmem_punch_hole(to_guestmem(inode), start, end);
	else
		r = gmem_allocate(inode, start, end);

	if (!r)
		file_modified(file);
	return r;
}

/* What the ioctl on the file may set; 0 if there is no such ioctl. */
u64 kvm_gmem_supported_attributes(struct kvm *kvm)
{
	if (gmem_in_place_conversion && (!kvm || kvm_arch_has_private_mem(kvm)))
		return KVM_MEMORY_ATTRIBUTE_PRIVATE;

	return 0;
}

static int gmem_check_attributes(struct file *file,
				 const struct kvm_memory_attributes2 *attrs)
{
	struct gmem_file *f = file->private_data;
	u64 supported = kvm_gmem_supported_attributes(f->kvm);
	u64 size = i_size_read(file_inode(file));

	if (attrs->flags || memchr_inv(attrs->reserved, 0, sizeof(attrs->reserved)))
		return -EINVAL;

	/* Nothing is there to be shared where nothing can be private. */
	if (!supported || attrs->attributes & ~supported)
		return -EINVAL;

	if (!PAGE_ALIGNED(attrs->offset) || !PAGE_ALIGNED(attrs->size))
		return -EINVAL;

	if (!attrs->size || attrs->offset >= size || attrs->size > size - attrs->offset)
		return -EINVAL;

	return 0;
}

static bool gmem_error_has_offset(int r)
{
	return r == -EAGAIN || r == -ENOMEM || r == -EHWPOISON || r == -EOPNOTSUPP;
}

static int gmem_set_attributes(struct file *file,
			       struct kvm_memory_attributes2 __user *argp)
{
	struct kvm_memory_attributes2 attrs;
	struct guestmem_change c;
	int r;

	if (copy_from_user(&attrs, argp, sizeof(attrs)))
		return -EFAULT;

	r = gmem_check_attributes(file, &attrs);
	if (r)
		return r;

	c = (struct guestmem_change) {
		.gi = to_guestmem(file_inode(file)),
		.target = attrs.attributes ? GUESTMEM_PRIVATE : GUESTMEM_SHARED,
		.start = attrs.offset >> PAGE_SHIFT,
		.end = (attrs.offset + attrs.size) >> PAGE_SHIFT,
	};
	r = guestmem_change(&c);
	if (gmem_error_has_offset(r) &&
	    put_user((u64)c.err_index << PAGE_SHIFT, &argp->error_offset))
		return -EFAULT;

	return r;
}

static long kvm_gmem_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	BUILD_BUG_ON(sizeof(struct kvm_memory_attributes2) != 128);

	if (!gmem_in_place_conversion || ioctl != KVM_SET_MEMORY_ATTRIBUTES2)
		return -ENOTTY;

	return gmem_set_attributes(file, (void __user *)arg);
}

/*
 * Return the folio that holds @index, locked, with @order what may be mapped
 * around the page; an error if the page is poisoned, before anyone touches it.
 */
static struct folio *gmem_get_folio(struct guestmem_inode *mem, pgoff_t index,
				    int *order)
{
	struct folio *folio;

	folio = guestmem_get_folio(mem, index);
	if (IS_ERR(folio))
		return folio;

	*order = guestmem_map_order(mem, folio, index);
	if (*order < 0) {
		folio_unlock(folio);
		folio_put(folio);
		return ERR_PTR(*order);
	}

	return folio;
}

/*
 * For a caller that has let go of invalidate_lock: should it try again?  A block that
 * has to be split as soon as it is there is allocated with the lock held exclusively.
 */
static bool gmem_try_again(struct guestmem_inode *mem, pgoff_t index, int *r)
{
	if (*r != -EAGAIN)
		return false;

	*r = guestmem_allocate_mixed(mem, index);
	return !*r;
}

/*
 * Host faults: only shared pages can be mapped.  The folio is returned locked,
 * and stays so until it is mapped.
 */
static int gmem_fault_locked(struct guestmem_inode *mem, struct vm_fault *vmf)
{
	struct folio *folio;
	int order;

	if (guestmem_is_private(mem, vmf->pgoff))
		return -EACCES;

	folio = gmem_get_folio(mem, vmf->pgoff, &order);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	guestmem_zero_folio(folio);
	vmf->page = folio_file_page(folio, vmf->pgoff);
	return 0;
}

/*
 * Nobody is killed to make room for a folio as large as this: after VM_FAULT_OOM the
 * access would only be made again, for ever.
 */
static vm_fault_t gmem_fault_error(struct guestmem_inode *mem, int err)
{
	if (err == -ENOMEM && mem->geo.block_order > PAGE_ALLOC_COSTLY_ORDER)
		return VM_FAULT_SIGBUS;

	return vmf_error(err);
}

static vm_fault_t kvm_gmem_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	int r;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;

	do {
		filemap_invalidate_lock_shared(inode->i_mapping);
		r = gmem_fault_locked(to_guestmem(inode), vmf);
		filemap_invalidate_unlock_shared(inode->i_mapping);
	} while (gmem_try_again(to_guestmem(inode), vmf->pgoff, &r));

	/* With the signal handled, the access is made again. */
	if (r == -EINTR)
		return VM_FAULT_NOPAGE;

	return r ? gmem_fault_error(to_guestmem(inode), r) : VM_FAULT_LOCKED;
}

#ifdef CONFIG_NUMA
static int kvm_gmem_set_policy(struct vm_area_struct *vma,
			       struct mempolicy *policy)
{
	struct guestmem_inode *mem = to_guestmem(file_inode(vma->vm_file));

	return mpol_set_shared_policy(&mem->policy, vma, policy);
}

/*
 * NULL where mbind() set nothing: that, and not the policy of the task, is what
 * get_mempolicy() has to report.
 */
static struct mempolicy *kvm_gmem_get_policy(struct vm_area_struct *vma,
					     unsigned long addr, pgoff_t *ilx)
{
	struct inode *inode = file_inode(vma->vm_file);

	*ilx = inode->i_ino;
	return mpol_shared_policy_lookup(&to_guestmem(inode)->policy,
					 linear_page_index(vma, addr));
}
#endif

/*
 * No .map_pages: faulting in the neighbours of a shared page would give the
 * host private ones.
 */
static const struct vm_operations_struct kvm_gmem_vm_ops = {
	.fault		= kvm_gmem_fault,
#ifdef CONFIG_NUMA
	.get_policy	= kvm_gmem_get_policy,
	.set_policy	= kvm_gmem_set_policy,
#endif
};

static bool gmem_supports_mmap(struct inode *inode)
{
	return to_gmem(inode)->flags & GUEST_MEMFD_FLAG_MMAP;
}

static int kvm_gmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	const vm_flags_t shared = VM_SHARED | VM_MAYSHARE;

	if (!gmem_supports_mmap(file_inode(file)))
		return -ENODEV;

	if ((vma->vm_flags & shared) != shared)
		return -EINVAL;

	vma->vm_ops = &kvm_gmem_vm_ops;
	return 0;
}

/*
 * Runs when the last reference to the file is gone, so nothing can fault
 * through it or bind to it any more: get_file_active() in gmem_get_file() fails
 * from then on.  The slots may still be there.  Hold slots_lock so that none is
 * unbound and freed meanwhile, and invalidate_lock so that its holders see
 * either all bindings or none.
 *
 * The memory stays: it belongs to the inode.
 */
static int kvm_gmem_release(struct inode *inode, struct file *file)
{
	struct gmem_file *f = file->private_data;
	struct kvm_memory_slot *slot;
	struct kvm *kvm = f->kvm;
	unsigned long index;
	/* To this VM, it is as if all of the file were punched. */
	struct guestmem_change c = {
		.gi = to_guestmem(inode),
		.target = GUESTMEM_ABSENT,
		.step = { 0, i_size_read(inode) >> PAGE_SHIFT },
	};

	mutex_lock(&kvm->slots_lock);
	filemap_invalidate_lock(inode->i_mapping);

	gmem_file_invalidate_begin(f, &c);
	xa_for_each(&f->slots, index, slot)
		WRITE_ONCE(slot->gmem.file, NULL);
	gmem_file_invalidate_end(f, &c);
	list_del(&f->node);

	filemap_invalidate_unlock(inode->i_mapping);
	mutex_unlock(&kvm->slots_lock);

	xa_destroy(&f->slots);
	kfree(f);
	kvm_put_kvm(kvm);
	return 0;
}

static void kvm_gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	guestmem_show(to_guestmem(file_inode(file)), m);
}

/* Not const, for the same reason. */
static struct file_operations kvm_gmem_fops = {
	.open		= generic_file_open,
	.release	= kvm_gmem_release,
	.mmap		= kvm_gmem_mmap,
	.fallocate	= kvm_gmem_fallocate,
	.unlocked_ioctl	= kvm_gmem_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= kvm_gmem_show_fdinfo,
};

static int kvm_gmem_getattr(struct mnt_idmap *idmap, const struct path *path,
			    struct kstat *stat, u32 request_mask,
			    unsigned int query_flags)
{
	struct inode *inode = d_inode(path->dentry);

	generic_fillattr(idmap, request_mask, inode, stat);
	guestmem_stat(to_guestmem(inode), stat);
	return 0;
}

static int kvm_gmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			    struct iattr *attr)
{
	return -EINVAL;
}

static const struct inode_operations kvm_gmem_iops = {
	.getattr	= kvm_gmem_getattr,
	.setattr	= kvm_gmem_setattr,
};

/*
 * The page cache
 */

/* The mapping is inaccessible: migration has to leave it alone. */
static int kvm_gmem_migrate_folio(struct address_space *mapping,
				  struct folio *dst, struct folio *src,
				  enum migrate_mode mode)
{
	WARN_ON_ONCE(1);
	return -EINVAL;
}

/*
 * Refuse to let anyone drop or split a folio behind the guests' back, e.g. a
 * clean folio with a poisoned page that a host fault found.
 */
static bool kvm_gmem_release_folio(struct folio *folio, gfp_t gfp)
{
	return false;
}

static int kvm_gmem_error_folio(struct address_space *mapping,
				struct folio *folio)
{
	return guestmem_error_folio(to_guestmem(mapping->host), folio);
}

/*
 * A folio is about to leave the page cache.  The earlier of two hooks:
 * .free_folio comes too late to know whose folio it was.
 */
static void kvm_gmem_invalidate_folio(struct folio *folio, size_t offset,
				      size_t len)
{
	if (WARN_ON_ONCE(offset || len != folio_size(folio)))
		return;

	guestmem_free_folio(to_guestmem(folio->mapping->host), folio);
}

static const struct address_space_operations kvm_gmem_aops = {
	.dirty_folio		= noop_dirty_folio,
	.migrate_folio		= kvm_gmem_migrate_folio,
	.release_folio		= kvm_gmem_release_folio,
	.invalidate_folio	= kvm_gmem_invalidate_folio,
	.error_remove_folio	= kvm_gmem_error_folio,
};

/*
 * Creation
 */

bool __weak kvm_arch_supports_gmem_init_shared(struct kvm *kvm)
{
	return true;
}

static struct inode *gmem_create_inode(struct kvm *kvm, loff_t size, u64 flags, u8 unit_log2)
{
	struct guestmem_inode_args args = {
		.client = &kvm_gmem_client_ops,
		.selector = flags & GUESTMEM_SELECTOR_MASK,
		.init_shared = flags & GUEST_MEMFD_FLAG_INIT_SHARED,
		.mappable = flags & GUEST_MEMFD_FLAG_MMAP,
		.convertible = kvm_gmem_supported_attributes(kvm),
		.size = size,
		.unit_log2 = unit_log2,
	};
	struct inode *inode;
	int r;

	inode = anon_inode_make_secure_inode(kvm_gmem_mnt->mnt_sb, "[kvm-gmem]",
					     NULL);
	if (IS_ERR(inode))
		return inode;

	inode->i_op = &kvm_gmem_iops;
	inode->i_mapping->a_ops = &kvm_gmem_aops;
	inode->i_mode |= S_IFREG;
	inode->i_size = size;
	to_gmem(inode)->flags = flags;

	args.inode = inode;
	r = guestmem_inode_setup(to_guestmem(inode), &args);
	if (r) {
		iput(inode);
		return ERR_PTR(r);
	}

	return inode;
}

/* Consumes the reference to @inode, on failure too. */
static struct file *gmem_open_inode(struct inode *inode)
{
	struct file *file;

	/* The final fput() drops the reference to the module. */
	if (!fops_get(&kvm_gmem_fops)) {
		iput(inode);
		return ERR_PTR(-ENOENT);
	}

	file = alloc_file_pseudo(inode, kvm_gmem_mnt, "[kvm-gmem]", O_RDWR,
				 &kvm_gmem_fops);
	if (IS_ERR(file)) {
		fops_put(&kvm_gmem_fops);
		iput(inode);
		return file;
	}

	file->f_flags |= O_LARGEFILE;
	return file;
}

static struct file *gmem_create_file(struct kvm *kvm, loff_t size, u64 flags,
				     u8 unit_log2)
{
	struct gmem_file *f;
	struct inode *inode;
	struct file *file;

	f = kzalloc_obj(*f);
	if (!f)
		return ERR_PTR(-ENOMEM);

	inode = gmem_create_inode(kvm, size, flags, unit_log2);
	if (IS_ERR(inode)) {
		kfree(f);
		return ERR_CAST(inode);
	}

	file = gmem_open_inode(inode);
	if (IS_ERR(file)) {
		kfree(f);
		return file;
	}

	kvm_get_kvm(kvm);
	f->kvm = kvm;
	xa_init(&f->slots);
	/* Nobody else knows the inode yet, so the list needs no lock. */
	list_add(&f->node, &to_gmem(inode)->files);
	file->private_data = f;
	return file;
}

/*
 * Reserved fields were never checked for the first two flags.  Whoever uses a
 * later flag, or asked for attributes in the file, knows that they have to be
 * zero, and that one of them has become a field.
 */
static bool gmem_has_reserved(u64 flags)
{
	const u64 legacy = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

	return flags & ~legacy || gmem_in_place_conversion;
}

static bool gmem_reserved_valid(const struct kvm_create_guest_memfd *args)
{
	return !memchr_inv(args->padding, 0, sizeof(args->padding)) &&
	       !memchr_inv(args->reserved, 0, sizeof(args->reserved));
}

int kvm_gmem_create(struct kvm *kvm, struct kvm_create_guest_memfd *args)
{
	bool has_reserved = gmem_has_reserved(args->flags);
	loff_t size = args->size;
	struct file *file;
	int fd;

	BUILD_BUG_ON(GUESTMEM_SELECTOR_MASK &
		     (GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED));

	if (args->flags & ~kvm_gmem_get_supported_flags(kvm) ||
	    (has_reserved && !gmem_reserved_valid(args)))
		return -EINVAL;

	if (size <= 0 || !PAGE_ALIGNED(size))
		return -EINVAL;

	fd = get_unused_fd_flags(0);
	if (fd < 0)
		return fd;

	file = gmem_create_file(kvm, size, args->flags,
				has_reserved ? args->page_size_log2 : 0);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}

	fd_install(fd, file);
	return fd;
}

/*
 * Memslot bindings
 */

static bool gmem_can_bind(struct kvm *kvm, struct file *file, uoff_t offset,
			  uoff_t size)
{
	struct gmem_file *f;

	if (file->f_op != &kvm_gmem_fops)
		return false;

	f = file->private_data;
	return f->kvm == kvm && PAGE_ALIGNED(offset) &&
	       offset + size <= i_size_read(file_inode(file));
}

/*
 * Do shared faults get their memory from the file as well?  If the state is the
 * file's, then also without host mappings; but not in a VM without private
 * memory, where the pages of such a file would be neither.
 */
static bool gmem_serves_shared(struct kvm *kvm, struct inode *inode)
{
	return gmem_supports_mmap(inode) ||
	       (gmem_in_place_conversion && kvm_arch_has_private_mem(kvm));
}

/*
 * First half of a binding: the new slot, which nobody sees yet, gets its file.
 * On success the caller owns a reference to slot->gmem.file, to be dropped when
 * the slot is committed or given up; a binding does not keep the file open.
 */
int kvm_gmem_prepare_memory_region(struct kvm *kvm, struct kvm_memory_slot *slot,
				   unsigned int fd, uoff_t offset)
{
	struct file *file;

	BUILD_BUG_ON(sizeof(gfn_t) != sizeof(slot->gmem.pgoff));
	BUILD_BUG_ON(sizeof(gpa_t) != sizeof(offset));

	/* The flag is this function's to set. */
	if (WARN_ON_ONCE(kvm_memslot_is_gmem_only(slot)))
		return -EINVAL;

	file = fget(fd);
	if (!file)
		return -EBADF;

	if (!gmem_can_bind(kvm, file, offset, slot->npages << PAGE_SHIFT)) {
		fput(file);
		return -EINVAL;
	}

	slot->gmem.pgoff = offset >> PAGE_SHIFT;
	WRITE_ONCE(slot->gmem.file, file);
	if (gmem_serves_shared(kvm, file_inode(file)))
		slot->flags |= KVM_MEMSLOT_GMEM_ONLY;
	return 0;
}

static void gmem_clear_slots(struct gmem_file *f, struct kvm_memory_slot *slot)
{
	xa_store_range(&f->slots, slot->gmem.pgoff,
		       slot->gmem.pgoff + slot->npages - 1, NULL, GFP_KERNEL);
}

static int gmem_bind_slot(struct gmem_file *f, struct kvm_memory_slot *slot)
{
	pgoff_t start = slot->gmem.pgoff;
	pgoff_t end = start + slot->npages;
	int r;

	if (gmem_file_maps(f, start, end))
		return -EEXIST;

	r = xa_err(xa_store_range(&f->slots, start, end - 1, slot, GFP_KERNEL));
	if (r)
		gmem_clear_slots(f, slot);
	return r;
}

/* Second half: the last step that can fail before the slot is made visible. */
int kvm_gmem_commit_memory_region(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct file *file = slot->gmem.file;
	int r;

	if (WARN_ON_ONCE(file->f_op != &kvm_gmem_fops))
		return -EIO;

	filemap_invalidate_lock(file->f_mapping);
	r = gmem_bind_slot(file->private_data, slot);
	filemap_invalidate_unlock(file->f_mapping);
	return r;
}

/*
 * The file may be dying: its last reference gone, its release waiting for the
 * slots_lock that the caller holds.  Until release has run, slot->gmem.file and
 * the bindings are intact, and the latter must not outlive the slot.  Once it
 * has run, there is no file.
 *
 * No vCPU sees the slot any more: the caller has synchronized SRCU.
 */
void kvm_gmem_unbind(struct kvm_memory_slot *slot)
{
	struct file *file = slot->gmem.file;

	if (!file)
		return;

	filemap_invalidate_lock(file->f_mapping);
	gmem_clear_slots(file->private_data, slot);
	WRITE_ONCE(slot->gmem.file, NULL);
	filemap_invalidate_unlock(file->f_mapping);
}

/*
 * Guest faults
 */

/*
 * A slot may still point to a file whose last reference is gone.  The barriers
 * of get_file_active() and of the final put pair: a fault either holds the file,
 * or sees that it is dying and leaves it to kvm_gmem_release().
 */
static struct file *gmem_get_file(struct kvm_memory_slot *slot)
{
	return get_file_active(&slot->gmem.file);
}

static void gmem_put_file(struct file *file)
{
	if (file)
		fput(file);
}

DEFINE_CLASS(gmem_file_ref, struct file *, gmem_put_file(_T),
	     gmem_get_file(slot), struct kvm_memory_slot *slot);

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES
/*
 * May be called under mmu_lock, whose holder sees either the state before a change
 * or, by mmu_invalidate_seq, that there was one.  Without a file, and with one
 * that is dying, there is nothing private.
 */
bool kvm_gmem_slot_is_private(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn)
{
	if (!kvm_arch_has_private_mem(kvm) || !kvm_slot_has_gmem(slot))
		return false;

	CLASS(gmem_file_ref, file)(slot);
	return file && guestmem_is_private(to_guestmem(file_inode(file)),
					   gfn_to_gmem_index(slot, gfn));
}

bool kvm_gmem_mem_is_private(struct kvm *kvm, gfn_t gfn)
{
	return kvm_gmem_slot_is_private(kvm, gfn_to_memslot(kvm, gfn), gfn);
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvm_gmem_mem_is_private);
#endif

/* Largest order that KVM has a page table level for, up to @order. */
static int gmem_level_order(int order)
{
	if (order >= PUD_ORDER)
		return PUD_ORDER;

	return order >= PMD_ORDER ? PMD_ORDER : 0;
}

/* A huge mapping needs a guest address as aligned as its place in the file. */
static int gmem_clamp_order(int order, gfn_t gfn, pgoff_t index)
{
	if (gfn != index)
		order = min_t(int, order, __ffs64(gfn ^ index));

	return gmem_level_order(order);
}

/* The folio behind @index of the slot, as gmem_get_folio(). */
static struct folio *gmem_get_slot_folio(struct file *file,
					 struct kvm_memory_slot *slot,
					 pgoff_t index, int *order)
{
	struct gmem_file *f = file->private_data;
	struct kvm_memory_slot *bound;
	struct file *bound_file;

	lockdep_assert_held(&file->f_mapping->invalidate_lock);

	/* The slot may have been unbound, but never bound to another file. */
	bound_file = READ_ONCE(slot->gmem.file);
	if (bound_file != file) {
		WARN_ON_ONCE(bound_file);
		return ERR_PTR(-EFAULT);
	}

	bound = xa_load(&f->slots, index);
	if (bound != slot) {
		WARN_ON_ONCE(bound);
		return ERR_PTR(-EIO);
	}

	return gmem_get_folio(to_guestmem(file_inode(file)), index, order);
}

static int gmem_make_private(struct kvm *kvm, struct guestmem_inode *mem,
			     pgoff_t index, gfn_t gfn, kvm_pfn_t pfn)
{
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_CONVERT
	/* The faulting page alone: that is all SNP can do at a time. */
	if (guestmem_is_private(mem, index))
		return kvm_arch_gmem_make_private(kvm, gfn, pfn, 1);
#endif
	return 0;
}

/*
 * A fault that had to wait for a change has missed it, and would have to be made again;
 * so would the next one, for as long as somebody changes pages.  But with the lock held
 * no change of the file is under way, and if the page is what the fault took it for, all
 * that counts is what is invalidated from now on.  Whatever else is being invalidated has
 * its end to come, and is seen by that.
 */
static void gmem_restart_fault(struct kvm *kvm, struct kvm_memory_slot *slot,
			       struct file *file, gfn_t gfn, bool is_private,
			       unsigned long *mmu_seq)
{
	unsigned long seq = kvm->mmu_invalidate_seq;

	lockdep_assert_held(&file->f_mapping->invalidate_lock);

	/* Before anything is looked up; pairs with kvm_mmu_invalidate_end(). */
	smp_rmb();
	if (!kvm_mem_state_differs(kvm, slot, gfn, is_private))
		*mmu_seq = seq;
}

static void gmem_lock_for_fault(struct kvm *kvm, struct kvm_memory_slot *slot,
				struct file *file, gfn_t gfn, bool is_private,
				unsigned long *mmu_seq)
{
	filemap_invalidate_lock_shared(file->f_mapping);
	if (mmu_seq && *mmu_seq != READ_ONCE(kvm->mmu_invalidate_seq))
		gmem_restart_fault(kvm, slot, file, gfn, is_private, mmu_seq);
}

/* With invalidate_lock held, shared, unless it is an error. */
static struct folio *gmem_fault_folio(struct kvm *kvm, struct kvm_memory_slot *slot,
				      struct file *file, gfn_t gfn, int *order,
				      bool is_private, unsigned long *mmu_seq)
{
	struct guestmem_inode *mem = to_guestmem(file_inode(file));
	pgoff_t index = gfn_to_gmem_index(slot, gfn);
	struct folio *folio;
	int r;

	do {
		gmem_lock_for_fault(kvm, slot, file, gfn, is_private, mmu_seq);
		folio = gmem_get_slot_folio(file, slot, index, order);
		if (!IS_ERR(folio))
			return folio;

		filemap_invalidate_unlock_shared(file->f_mapping);
		r = PTR_ERR(folio);
	} while (gmem_try_again(mem, index, &r));

	return ERR_PTR(r);
}

/*
 * Hand out the pfn without a reference, so that a fault in flight never gets in
 * the way of a change of the page's state.  The caller maps it only if nothing
 * was invalidated meanwhile, and every change invalidates before it frees.  A
 * caller that does without that check, as SNP's handling of RMP faults, may look
 * at a page that has been freed, and has to expect it.
 */
int kvm_gmem_fault_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
		       gfn_t gfn, kvm_pfn_t *pfn, struct page **page,
		       int *max_order, bool is_private, unsigned long *mmu_seq)
{
	pgoff_t index = gfn_to_gmem_index(slot, gfn);
	struct folio *folio;
	int order, r;

	CLASS(gmem_file_ref, file)(slot);
	if (!file)
		return -EFAULT;

	folio = gmem_fault_folio(kvm, slot, file, gfn, &order, is_private, mmu_seq);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	guestmem_zero_folio(folio);
	*page = NULL;
	*pfn = gmem_folio_pfn(folio, index);
	r = gmem_make_private(kvm, to_guestmem(file_inode(file)), index, gfn, *pfn);
	if (!r && max_order)
		*max_order = gmem_clamp_order(order, gfn, index);

	folio_unlock(folio);
	folio_put(folio);
	filemap_invalidate_unlock_shared(file->f_mapping);
	return r;
}

/* For those who look at what was invalidated by themselves. */
int kvm_gmem_get_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
		     gfn_t gfn, kvm_pfn_t *pfn, struct page **page,
		     int *max_order)
{
	return kvm_gmem_fault_pfn(kvm, slot, gfn, pfn, page, max_order, false, NULL);
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvm_gmem_get_pfn);

#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_POPULATE
static bool gmem_may_populate(struct kvm *kvm, struct guestmem_inode *mem,
			      pgoff_t index, gfn_t gfn)
{
	if (gmem_in_place_conversion)
		return guestmem_is_private(mem, index);

	return kvm_range_has_memory_attributes(kvm, gfn, gfn + 1,
					       KVM_MEMORY_ATTRIBUTE_PRIVATE,
					       KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

/*
 * The initial contents of a page, usually encrypted in place, replace zeroing.
 * The rest of a large folio has to be cleared first all the same.
 */
static int gmem_populate_folio(struct kvm *kvm, struct guestmem_inode *mem,
			       struct folio *folio, pgoff_t index, gfn_t gfn,
			       struct page *src,
			       kvm_gmem_populate_cb post_populate, void *opaque)
{
	int r;

	if (folio_test_large(folio))
		guestmem_zero_folio(folio);
	folio_unlock(folio);

	if (!gmem_may_populate(kvm, mem, index, gfn))
		return -EINVAL;

	r = post_populate(kvm, gfn, gmem_folio_pfn(folio, index), src, opaque);
	if (!r)
		guestmem_folio_filled(folio);
	return r;
}

/*
 * With invalidate_lock held, exclusively, unless it is an error: nobody else may see the
 * page half populated.
 */
static struct folio *gmem_lock_slot_folio(struct file *file, struct kvm_memory_slot *slot,
					  pgoff_t index)
{
	struct folio *folio;
	int order, r;

	do {
		filemap_invalidate_lock(file->f_mapping);
		folio = gmem_get_slot_folio(file, slot, index, &order);
		if (!IS_ERR(folio))
			return folio;

		filemap_invalidate_unlock(file->f_mapping);
		r = PTR_ERR(folio);
	} while (gmem_try_again(to_guestmem(file_inode(file)), index, &r));

	return ERR_PTR(r);
}

static int gmem_populate_gfn(struct kvm *kvm, struct kvm_memory_slot *slot,
			     struct file *file, gfn_t gfn, struct page *src,
			     kvm_gmem_populate_cb post_populate, void *opaque)
{
	pgoff_t index = gfn_to_gmem_index(slot, gfn);
	struct folio *folio;
	int r;

	folio = gmem_lock_slot_folio(file, slot, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	r = gmem_populate_folio(kvm, to_guestmem(file_inode(file)), folio, index, gfn, src,
				post_populate, opaque);
	folio_put(folio);
	filemap_invalidate_unlock(file->f_mapping);
	return r;
}

/* Pin the page of user memory to copy from; NULL if there is nothing to copy. */
static int gmem_pin_src(void __user *src, long i, bool writable,
			struct page **page)
{
	int r;

	*page = NULL;
	if (!src)
		return 0;

	r = get_user_pages_fast((unsigned long)src + i * PAGE_SIZE, 1,
				writable ? FOLL_WRITE : 0, page);
	if (r < 0)
		return r;

	return r == 1 ? 0 : -ENOMEM;
}

long kvm_gmem_populate(struct kvm *kvm, gfn_t start_gfn, void __user *src,
		       long npages, bool may_writeback_src,
		       kvm_gmem_populate_cb post_populate, void *opaque)
{
	struct kvm_memory_slot *slot;
	struct page *src_page;
	int r = 0;
	long i;

	lockdep_assert_held(&kvm->slots_lock);

	if (WARN_ON_ONCE(npages <= 0 || !PAGE_ALIGNED(src)))
		return -EINVAL;

	slot = gfn_to_memslot(kvm, start_gfn);
	if (!kvm_slot_has_gmem(slot))
		return -EINVAL;

	CLASS(gmem_file_ref, file)(slot);
	if (!file)
		return -EFAULT;

	npages = min_t(ulong, npages, slot->base_gfn + slot->npages - start_gfn);
	for (i = 0; i < npages; i++) {
		if (signal_pending(current)) {
			r = -EINTR;
			break;
		}

		/* Before invalidate_lock: a fault on the source may want it. */
		r = gmem_pin_src(src, i, may_writeback_src, &src_page);
		if (r)
			break;

		r = gmem_populate_gfn(kvm, slot, file, start_gfn + i, src_page,
				      post_populate, opaque);
		if (src_page)
			put_page(src_page);
		if (r)
			break;
	}

	return i ?: r;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvm_gmem_populate);
#endif /* CONFIG_HAVE_KVM_ARCH_GMEM_POPULATE */

/*
 * The file system behind it
 */

/* Once per slab object, not per inode: only what every use leaves behind. */
static void kvm_gmem_init_once(void *object)
{
	struct gmem_inode *gmem = object;

	inode_init_once(&gmem->vfs_inode);
}

static struct inode *kvm_gmem_alloc_inode(struct super_block *sb)
{
	struct gmem_inode *gmem;

	gmem = alloc_inode_sb(sb, kvm_gmem_inode_cache, GFP_KERNEL);
	if (!gmem)
		return NULL;

	guestmem_inode_init(&gmem->mem);
	INIT_LIST_HEAD(&gmem->files);
	gmem->flags = 0;
	return &gmem->vfs_inode;
}

/* May sleep, unlike .free_inode, which RCU calls. */
static void kvm_gmem_evict_inode(struct inode *inode)
{
	guestmem_inode_evict(to_guestmem(inode));
	clear_inode(inode);
}

static void kvm_gmem_free_inode(struct inode *inode)
{
	kmem_cache_free(kvm_gmem_inode_cache, to_gmem(inode));
}

static const struct super_operations kvm_gmem_super_ops = {
	.alloc_inode	= kvm_gmem_alloc_inode,
	.evict_inode	= kvm_gmem_evict_inode,
	.free_inode	= kvm_gmem_free_inode,
	.statfs		= simple_statfs,
};

static int kvm_gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *pseudo = init_pseudo(fc, GUEST_MEMFD_MAGIC);

	if (!pseudo)
		return -ENOMEM;

	pseudo->ops = &kvm_gmem_super_ops;
	return 0;
}

static struct file_system_type kvm_gmem_fs = {
	.name			= "guest_memfd",
	.init_fs_context	= kvm_gmem_init_fs_context,
	.kill_sb		= kill_anon_super,
};

int kvm_gmem_init(struct module *module)
{
	struct kmem_cache_args args = {
		.ctor = kvm_gmem_init_once,
	};

	kvm_gmem_fops.owner = module;
	kvm_gmem_client_ops.owner = module;
	kvm_gmem_inode_cache = kmem_cache_create("kvm_gmem_inode_cache",
						 sizeof(struct gmem_inode),
						 &args, SLAB_ACCOUNT);
	if (!kvm_gmem_inode_cache)
		return -ENOMEM;

	kvm_gmem_mnt = kern_mount(&kvm_gmem_fs);
	if (IS_ERR(kvm_gmem_mnt)) {
		kmem_cache_destroy(kvm_gmem_inode_cache);
		return PTR_ERR(kvm_gmem_mnt);
	}

	kvm_gmem_mnt->mnt_flags |= MNT_NOEXEC;
	return 0;
}

void kvm_gmem_exit(void)
{
	kern_unmount(kvm_gmem_mnt);
	kvm_gmem_mnt = NULL;
	/* Inodes are freed by RCU. */
	rcu_barrier();
	kmem_cache_destroy(kvm_gmem_inode_cache);
}
