/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * intake.h: memory to receive requests in. Any request may be as long as the longest WRITE, so it
 * is received in a large buffer. There are a few of those for all threads: a request that turns out
 * to be short is moved to a small buffer of the thread's own, and the large one is free for the
 * next one to wait with. So the number of threads decides little about the memory they take, and
 * those that find no buffer wait, which keeps requests where they are: in the kernel.
 */
#ifndef FS_INTAKE_H
#define FS_INTAKE_H

#include <fuse_lowlevel.h>

struct intake;

/* `bytes`: what the large buffers may take together; two of them at least. NULL: no memory. */
struct intake *intake_new(size_t bytes);
/* No thread may be in it any more. NULL is allowed. */
void intake_free(struct intake *intake);

/* What a thread receives with; zeros at first. */
struct request {
    struct fuse_buf *large; /* NULL: the request is in `small` */
    struct fuse_buf small;
    void *memory; /* of `small` */
};

/* Wait for a request. Returns what fuse_session_receive_buf() does; if that is above 0, the request
 * is in intake_buffer() until intake_done(). -EINTR also after intake_stop(). */
int intake_receive(struct intake *intake, struct fuse_session *session, struct request *request);
struct fuse_buf *intake_buffer(struct request *request);
void intake_done(struct intake *intake, struct request *request);

/* The thread that has `request` ends. */
void intake_leave(struct request *request);

/* From now on nobody waits for a buffer. */
void intake_stop(struct intake *intake);

#endif
