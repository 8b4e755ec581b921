/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading tracepoints, in an instance of tracefs of one's own.
 */
#ifndef SELFTEST_KVM_GUESTMEM_TRACE_H
#define SELFTEST_KVM_GUESTMEM_TRACE_H

#include <sys/mount.h>

#include "guestmem_util.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/guestmem_test"

static inline bool events_available(void)
{
	if (access(TRACING "/events", F_OK))
		mount("tracefs", TRACING, "tracefs", 0, NULL);

	return !access(TRACING "/events/guestmem", F_OK);
}

static inline void write_tracing(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR(path, fd));
	TEST_ASSERT(write(fd, value, strlen(value)) == strlen(value),
		    "cannot write \"%s\" to %s", value, path);
	kvm_close(fd);
}

static inline void create_instance(void)
{
	TEST_ASSERT(!mkdir(INSTANCE, 0700), __KVM_SYSCALL_ERROR("mkdir()", -1));
	write_tracing(INSTANCE "/events/guestmem/enable", "1");
}

static inline void remove_instance(void)
{
	TEST_ASSERT(!rmdir(INSTANCE), __KVM_SYSCALL_ERROR("rmdir()", -1));
}

#endif /* SELFTEST_KVM_GUESTMEM_TRACE_H */
