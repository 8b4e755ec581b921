// SPDX-License-Identifier: GPL-2.0-only
/*
 * guestmem registry: who serves which creation flag
 *
 * A selector is one bit, so the registry is an array indexed by it.  Slot 0
 * belongs to the default allocator, which has no bit.
 */
#define pr_fmt(fmt) "guestmem: " fmt

#include <linux/bitops.h>
#include <linux/export.h>
#include <linux/kvm_types.h>
#include <linux/mutex.h>

#include "internal.h"

struct guestmem_slot {
	const struct guestmem_allocator_operations *ops;
	unsigned long users;
};

static struct guestmem_slot guestmem_slots[GUESTMEM_SELECTOR_LAST + 1];
static DEFINE_MUTEX(guestmem_registry_lock);
/* Written under the lock, read without: what is advertised may change anyway. */
static u64 guestmem_registered;

static struct guestmem_slot *guestmem_slot(u64 selector)
{
	lockdep_assert_held(&guestmem_registry_lock);

	return &guestmem_slots[selector ? __ffs64(selector) : 0];
}

static bool guestmem_selector_valid(u64 selector)
{
	return !(selector & ~GUESTMEM_SELECTOR_MASK) &&
	       !(selector & (selector - 1));
}

static bool guestmem_ops_complete(const struct guestmem_allocator_operations *ops)
{
	return ops->name && ops->inode_setup && ops->inode_teardown &&
	       ops->alloc_folio && ops->free_folio && ops->map_order &&
	       ops->change_prepare && ops->change_freeze &&
	       ops->change_commit && ops->change_cancel &&
	       ops->truncate && ops->error_folio;
}

/* What is split is the allocator's to charge, and a block is one folio. */
static bool guestmem_split_valid(const struct guestmem_geometry *geo)
{
	if (!geo->split)
		return !geo->piece_order;

	return geo->insert == GUESTMEM_INSERT_CHARGED &&
	       geo->punch_order == geo->block_order &&
	       geo->piece_order < geo->block_order;
}

bool guestmem_geometry_valid(const struct guestmem_geometry *geo)
{
	return guestmem_split_valid(geo) && geo->block_order <= GUESTMEM_MAX_ORDER &&
	       geo->punch_order <= geo->block_order &&
	       geo->max_map_order <= geo->block_order &&
	       geo->insert <= GUESTMEM_INSERT_CHARGED;
}

static int guestmem_check(const struct guestmem_allocator_operations *ops)
{
	if (!guestmem_ops_complete(ops)) {
		pr_err("%s: an operation or the name is missing\n",
		       ops->name ?: "(unnamed)");
		return -EINVAL;
	}

	/* The default allocator is always there, so no module provides it. */
	if (!guestmem_selector_valid(ops->selector) ||
	    (!ops->selector && ops->owner)) {
		pr_err("%s: selector %#llx is not one bit of %#llx\n",
		       ops->name, ops->selector, GUESTMEM_SELECTOR_MASK);
		return -ERANGE;
	}

	if (!guestmem_geometry_valid(&ops->geo)) {
		pr_err("%s: bad geometry: block %u, punch %u, map %u, piece %u, split %d, insert %d\n",
		       ops->name, ops->geo.block_order, ops->geo.punch_order,
		       ops->geo.max_map_order, ops->geo.piece_order,
		       ops->geo.split, ops->geo.insert);
		return -EDOM;
	}

	return 0;
}

/**
 * guestmem_register() - make an allocator available
 * @ops: the allocator; must stay valid until guestmem_unregister() returned.
 *
 * From its return on, files can be created with the creation flag @ops->selector,
 * and clients advertise it: a module does this last in its init.  No lock held,
 * may sleep, does not allocate.
 *
 * Return: 0; -EINVAL if a required op or the name is missing, -ERANGE if the
 * selector is not exactly one bit of GUESTMEM_SELECTOR_MASK, nor 0 for a default
 * that no module provides, -EDOM if the geometry contradicts itself, -EEXIST if
 * the selector is taken.  After a failure nothing is registered and the log has a
 * line that says why.
 */
int guestmem_register(const struct guestmem_allocator_operations *ops)
{
	struct guestmem_slot *slot;
	int err;

	err = guestmem_check(ops);
	if (err)
		return err;

	guard(mutex)(&guestmem_registry_lock);
	slot = guestmem_slot(ops->selector);
	if (slot->ops) {
		pr_err("%s: selector %#llx already belongs to %s\n",
		       ops->name, ops->selector, slot->ops->name);
		return -EEXIST;
	}

	slot->ops = ops;
	WRITE_ONCE(guestmem_registered, guestmem_registered | ops->selector);
	return 0;
}
EXPORT_SYMBOL_GPL(guestmem_register);

/**
 * guestmem_unregister() - take an allocator back
 * @ops: a registered allocator that no inode uses.
 *
 * A module calls this when it is unloaded, which its inodes prevent while they
 * live.  No lock held, may sleep, cannot fail.
 */
void guestmem_unregister(const struct guestmem_allocator_operations *ops)
{
	struct guestmem_slot *slot;

	if (WARN_ON_ONCE(!guestmem_selector_valid(ops->selector)))
		return;

	guard(mutex)(&guestmem_registry_lock);
	slot = guestmem_slot(ops->selector);
	if (WARN_ON_ONCE(slot->ops != ops || slot->users))
		return;

	slot->ops = NULL;
	WRITE_ONCE(guestmem_registered, guestmem_registered & ~ops->selector);
}
EXPORT_SYMBOL_GPL(guestmem_unregister);

/**
 * guestmem_selectors() - which creation flags select an allocator right now
 *
 * Any context.
 *
 * Return: the selector bits of all registered allocators.
 */
u64 guestmem_selectors(void)
{
	return READ_ONCE(guestmem_registered);
}
EXPORT_SYMBOL_FOR_KVM(guestmem_selectors);

/* Find the allocator for @selector and pin it; NULL if nobody serves it. */
const struct guestmem_allocator_operations *guestmem_allocator_get(u64 selector)
{
	struct guestmem_slot *slot;

	if (!guestmem_selector_valid(selector))
		return NULL;

	guard(mutex)(&guestmem_registry_lock);
	slot = guestmem_slot(selector);
	if (!slot->ops || !try_module_get(slot->ops->owner))
		return NULL;

	slot->users++;
	return slot->ops;
}

void guestmem_allocator_put(const struct guestmem_allocator_operations *ops)
{
	scoped_guard(mutex, &guestmem_registry_lock)
		guestmem_slot(ops->selector)->users--;
	module_put(ops->owner);
}
