// SPDX-License-Identifier: GPL-2.0-only
/*
 * HugeTLB allocator: the flag of KVM's user ABI that selects it
 *
 * The one file of the layer that includes KVM's user ABI.
 */
#include <linux/build_bug.h>
#include <linux/kvm.h>

#include "hugetlb.h"

static_assert(GUEST_MEMFD_FLAG_HUGETLB & GUESTMEM_SELECTOR_MASK);
static_assert(!(GUEST_MEMFD_FLAG_HUGETLB &
		(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)));

const u64 ghugetlb_selector = GUEST_MEMFD_FLAG_HUGETLB;
