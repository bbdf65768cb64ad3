/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.h: the threads that take a session's requests from the kernel and serve them.
 *
 * The loop is our own and not libfuse's, because it must be able to stop without losing a
 * request: a successor of this process will go on with the same session.
 */
#ifndef FS_LOOP_H
#define FS_LOOP_H

#include <stdbool.h>
#include <stddef.h>

struct fuse_session;
struct loop;

/* Whether requests shall come by io_uring (uring.h), and what has become of that. */
struct loop_rings {
    bool wanted;
    bool used;     /* known when INIT is answered, and from then on */
    char why[160]; /* why they aren't though they were wanted, in half a sentence */
};

/*
 * Answer the session's first request, INIT, then start to serve the others: once this returns 0,
 * the mount answers. The threads inherit the caller's signal mask; SIGUSR1 is ours to interrupt
 * them. `rings` must live until INIT has been answered. `intake_bytes`: see intake.h. -EPROTO: the
 * kernel's FUSE can't be spoken to. -ENODEV: unmounted already. -ENOMEM, -EAGAIN: no thread.
 */
int loop_start(struct fuse_session *session, struct loop_rings *rings, size_t intake_bytes,
               struct loop **out);

/* Becomes readable when the kernel has ended the session: it was unmounted or aborted. */
int loop_ended_fd(const struct loop *loop);

/* Finish what was taken, take no more, and free. NULL is allowed. */
void loop_stop(struct loop *loop);

#endif
