/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Huge pages of a NUMA node.
 */
#ifndef SELFTEST_KVM_GUESTMEM_HUGETLB_NODE_H
#define SELFTEST_KVM_GUESTMEM_HUGETLB_NODE_H

#include "guestmem_hugetlb.h"
#include "numaif.h"

#define MAX_NODE	8

static inline u64 node_free(int node, u64 unit)
{
	char path[128];

	snprintf(path, sizeof(path),
		 "/sys/devices/system/node/node%d/hugepages/hugepages-%lukB/free_hugepages",
		 node, unit / SZ_1K);
	return access(path, R_OK) ? 0 : read_number(path);
}

#endif /* SELFTEST_KVM_GUESTMEM_HUGETLB_NODE_H */
