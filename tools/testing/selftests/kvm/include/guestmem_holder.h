/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Three kinds of holders of pages in the host: GUP_TEST, which pins them for long,
 * a pipe, and a ring of io_uring.
 */
#ifndef SELFTEST_KVM_GUESTMEM_HOLDER_H
#define SELFTEST_KVM_GUESTMEM_HOLDER_H

/* Without its own <linux/stddef.h> the next does not compile. */
#include <uapi/linux/stddef.h>
#include <linux/io_uring.h>
#include <sys/uio.h>

#include "../../../../../mm/gup_test.h"
#include "guestmem_util.h"

#define GUP_TEST	"/sys/kernel/debug/gup_test"

/* Holds one range of memory at a time. */
struct holder {
	/* Returns NULL or why this kernel has no such holder. */
	const char *(*open)(struct holder *holder);
	void (*hold)(struct holder *holder, void *mem, size_t size);
	void (*release)(struct holder *holder);
	int fds[2];
	size_t held;
};

static inline const char *gup_open(struct holder *holder)
{
	holder->fds[0] = open(GUP_TEST, O_RDWR);
	return holder->fds[0] < 0 ? "the kernel lacks CONFIG_GUP_TEST" : NULL;
}

static inline void gup_hold(struct holder *holder, void *mem, size_t size)
{
	struct pin_longterm_test args = {
		.addr = (u64)mem,
		.size = size,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};

	kvm_ioctl(holder->fds[0], PIN_LONGTERM_TEST_START, &args);
}

static inline void gup_release(struct holder *holder)
{
	kvm_ioctl(holder->fds[0], PIN_LONGTERM_TEST_STOP, NULL);
}

static inline const char *pipe_open(struct holder *holder)
{
	TEST_ASSERT(!pipe(holder->fds), __KVM_SYSCALL_ERROR("pipe()", -1));
	return NULL;
}

static inline void pipe_hold(struct holder *holder, void *mem, size_t size)
{
	struct iovec iov = { mem, size };

	TEST_ASSERT_EQ(vmsplice(holder->fds[1], &iov, 1, 0), size);
	holder->held = size;
}

static inline void pipe_release(struct holder *holder)
{
	char buf[SZ_4K];

	for (; holder->held; holder->held -= sizeof(buf))
		TEST_ASSERT_EQ(read(holder->fds[0], buf, sizeof(buf)), sizeof(buf));
}

static inline const char *ring_open(struct holder *holder)
{
	struct io_uring_params params = {};

	holder->fds[0] = syscall(__NR_io_uring_setup, 1, &params);
	return holder->fds[0] < 0 ? "the kernel lacks CONFIG_IO_URING" : NULL;
}

static inline void ring_hold(struct holder *holder, void *mem, size_t size)
{
	struct iovec iov = { mem, size };
	long ret = syscall(__NR_io_uring_register, holder->fds[0],
			   IORING_REGISTER_BUFFERS, &iov, 1);

	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("io_uring_register()", (int)ret));
}

static inline void ring_release(struct holder *holder)
{
	long ret = syscall(__NR_io_uring_register, holder->fds[0],
			   IORING_UNREGISTER_BUFFERS, NULL, 0);

	TEST_ASSERT(!ret, __KVM_SYSCALL_ERROR("io_uring_register()", (int)ret));
}

static inline void holder_close(struct holder *holder)
{
	kvm_close(holder->fds[0]);
	if (holder->fds[1])
		kvm_close(holder->fds[1]);
}

#define HOLDER_GUP_TEST	{ gup_open, gup_hold, gup_release }
#define HOLDER_VMSPLICE	{ pipe_open, pipe_hold, pipe_release }
#define HOLDER_IO_URING	{ ring_open, ring_hold, ring_release }

#endif /* SELFTEST_KVM_GUESTMEM_HOLDER_H */
