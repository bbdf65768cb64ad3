/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uring.h: requests that come by io_uring instead of read(2) from /dev/fuse.
 *
 * The kernel has a queue of requests for each CPU, and puts a request in the queue of the CPU that
 * it was made on. We give each queue a few *entries*: memory for one request and its answer. An
 * entry here has a ring of its own and belongs to one thread. So a thread that is busy for long,
 * because its request waits for a commit, keeps nothing waiting but its own entry, as on /dev/fuse.
 *
 * libfuse has rings too, but serves all requests of a CPU one after another in one thread, gives no
 * other thread a safe way to answer, and can only stop them from within its own loop. So it
 * is used as it is for /dev/fuse: it takes a request apart and puts an answer together, and hands
 * that to us (fuse_session_custom_io) when it is to be sent.
 *
 * What the kernel doesn't send this way still comes from /dev/fuse: INIT, FORGET, INTERRUPT.
 */
#ifndef FS_URING_H
#define FS_URING_H

#include <fuse_lowlevel.h>
#include <stddef.h>

/* Bytes in one READ or WRITE at most: all the data of one request has to fit into its entry, and
 * the memory of entries that once were full stays. Larger is not faster. */
#define URING_TRANSFER_MAX ((size_t)256 << 10)

struct uring;

/* Answers of the session can go by rings from now on; call it between fuse_session_mount() and
 * INIT. -ENOTSUP: not with this libfuse. -ENOMEM. */
int uring_prepare(struct fuse_session *session);

/* Answer INIT, and accept the offer (uring_offer.h). After that, the kernel holds requests back
 * until each of its queues has an entry. */
void uring_accept(struct fuse_session *session, const struct fuse_buf *init);

/* An entry for a queue of the session that `fuse_fd` belongs to, not yet known to the kernel. */
int uring_open(int fuse_fd, unsigned queue, struct uring **out);

/*
 * Wait for the next request. 1: `request` is for fuse_session_process_buf(), which must answer it,
 * in this thread, before it returns. 0: the session has ended. -EINTR, -EAGAIN: none yet. The entry
 * belongs to the thread that asks first, which is bound to the queue's CPU.
 */
int uring_next(struct uring *uring, struct fuse_buf *request);

/* NULL is allowed. */
void uring_close(struct uring *uring);

/* Where the answer to the request that this thread serves can be put together without being copied
 * again: at least `size` bytes, which must not overlap data of a WRITE, or name arguments, that
 * are still needed. NULL: it did not come by a ring, or wants too much. */
void *uring_payload(size_t size);

#endif
