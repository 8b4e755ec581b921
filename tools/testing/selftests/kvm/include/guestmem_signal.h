/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System calls that find a signal pending.  No timer can be set so that it ends when a
 * call has begun and has not done anything yet; a tracer is there at that moment.
 */
#ifndef SELFTEST_KVM_GUESTMEM_SIGNAL_H
#define SELFTEST_KVM_GUESTMEM_SIGNAL_H

#include <sys/ptrace.h>
#include <sys/wait.h>

#include "guestmem_convert.h"

/* What a tracer is shown at a system call, with PTRACE_O_TRACESYSGOOD. */
#define SYSCALL_STOP	(SIGTRAP | 0x80)

static inline void trace_caller(pid_t pid, int request, long data)
{
	TEST_ASSERT(!ptrace(request, pid, 0, data), __KVM_SYSCALL_ERROR("ptrace()", -1));
}

static inline void expect_caller_stopped(pid_t pid, int sig)
{
	int status;

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSTOPPED(status) && WSTOPSIG(status) == sig,
		    "the caller has status 0x%x, expected a stop by signal %d", status, sig);
}

/* Others may come first, the library's. */
static inline void wait_for_syscall(pid_t pid, u64 nr)
{
	struct __ptrace_syscall_info info;

	do {
		trace_caller(pid, PTRACE_SYSCALL, 0);
		expect_caller_stopped(pid, SYSCALL_STOP);
		TEST_ASSERT(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0,
			    __KVM_SYSCALL_ERROR("ptrace()", -1));
	} while (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != nr);
}

/*
 * A system call on a file, by a child that has a signal pending from the first
 * moment on.  Returns 0 or the errno.
 */
static inline int syscall_with_signal(u64 nr, int fd, u64 a, u64 b, u64 c)
{
	pid_t pid = fork();
	int status;

	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(syscall(nr, fd, a, b, c) ? errno : 0);
	}

	expect_caller_stopped(pid, SIGSTOP);
	trace_caller(pid, PTRACE_SETOPTIONS, PTRACE_O_TRACESYSGOOD);
	wait_for_syscall(pid, nr);
	trace_caller(pid, PTRACE_CONT, SIGUSR1);
	/* What was pending all the while is delivered when the call returns. */
	expect_caller_stopped(pid, SIGUSR1);
	trace_caller(pid, PTRACE_CONT, 0);
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status), "the caller has status 0x%x", status);
	return WEXITSTATUS(status);
}

static inline int allocate_with_signal(int fd, u64 offset, u64 size)
{
	return syscall_with_signal(__NR_fallocate, fd, FALLOC_FL_KEEP_SIZE, offset, size);
}

static inline int punch_with_signal(int fd, u64 offset, u64 size)
{
	return syscall_with_signal(__NR_fallocate, fd,
				   FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size);
}

/* A signal says nothing of where it stopped the call: error_offset is left alone. */
static inline int convert_with_signal(int fd, u64 first, u64 nr, bool private)
{
	struct kvm_memory_attributes2 *attrs;
	int err;

	/* The child writes to it, if anyone does. */
	attrs = kvm_mmap(getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	*attrs = page_attributes(first, nr, private);
	err = syscall_with_signal(__NR_ioctl, fd, KVM_SET_MEMORY_ATTRIBUTES2, (u64)attrs, 0);
	TEST_ASSERT(attrs->error_offset == NO_OFFSET, "%s (%d): error_offset is 0x%llx",
		    strerror(err), err, attrs->error_offset);
	kvm_munmap(attrs, getpagesize());
	return err;
}

#endif /* SELFTEST_KVM_GUESTMEM_SIGNAL_H */
