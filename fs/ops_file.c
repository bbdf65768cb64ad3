/* SPDX-License-Identifier: BSD-2-Clause */
#include "ops.h"

#include <errno.h>

#include "attr.h"
#include "backing.h"
#include "buffer.h"
#include "node.h"
#include "privileges.h"
#include "push.h"
#include "refresh.h"
#include "reply.h"
#include "sealing.h"

/*
 * Whether a write takes the set-uid and set-gid bits away: not if the writer has CAP_FSETID,
 * but libfuse tells us that only since 3.18.3. With an older one, each write does.
 */
static bool kills_privileges(const struct fuse_file_info *fi)
{
#if FUSE_VERSION > FUSE_MAKE_VERSION(3, 18) || \
    (FUSE_VERSION == FUSE_MAKE_VERSION(3, 18) && FUSE_HOTFIX_VERSION >= 3)
    return fi->kill_suidgid;
#else
    (void)fi;
    return true;
#endif
}

void ops_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_open);
    if (mode_get(mount) == MODE_NO_OPEN) {
        reply_result(req, -ENOSYS); /* then the kernel does it by itself, for ever */
        return;
    }
    /* Published files have no writers: -EPERM, as if they were immutable. */
    bool writes = request_writes(fi), reserved = node_is_reserved(id);
    int r = !writes ? 0 : reserved ? -EPERM : store_writer_open(mount->store, id);
    if (r == 0) {
        request_open_flags(fi);
        r = reserved ? 0 : backings_open(mount->backings, req, id, writes, fi);
        if (r < 0 && writes)
            store_writer_close(mount->store, id);
    }
    if (r < 0)
        reply_result(req, r);
    else if (fuse_reply_open(req, fi) < 0)
        request_closed(mount, req, id, fi);
}

/* Before the answer, so that what comes next is on its way when the reader has this. */
static void look_ahead(struct mount *mount, uint64_t id, off_t offset, size_t size)
{
    if (mount->refresh != NULL)
        refresh_read(mount->refresh, id);
    if (mount->push != NULL && offset == 0 && size <= PUSH_MOST)
        push_read(mount->push, id);
}

void ops_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_read);
    void *buffer = buffer_get(size);
    ssize_t n = -ENOMEM;
    if (buffer != NULL)
        n = node_is_reserved(id) ? stats_read(mount, id, buffer, size, offset)
                                 : store_read(mount->store, id, buffer, size, offset);
    if (n < 0) {
        reply_result(req, (int)n);
    } else {
        metrics_add(&mount->metrics.read_bytes, (uint64_t)n);
        if (!node_is_reserved(id))
            look_ahead(mount, id, offset, (size_t)n);
        fuse_reply_buf(req, buffer, (size_t)n);
    }
    buffer_done();
}

void ops_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
               struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_write);
    ssize_t n = node_is_reserved(id) ? -EPERM : store_write(mount->store, id, data, size, offset);
    int r = n < 0 ? (int)n : 0;
    if (r == 0)
        sealing_written(mount, id);
    else if (r == -EPERM)
        sealing_refused(mount, id);
    if (r == 0 && kills_privileges(fi))
        r = privileges_take(mount->store, id);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    metrics_add(&mount->metrics.written_bytes, (uint64_t)n);
    fuse_reply_write(req, (size_t)n);
}

/* Called for each close(2) of each duplicate: nothing to do. Not asked again. */
void ops_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    request_begin(req, METRICS_flush);
    reply_result(req, -ENOSYS);
}

void ops_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_release);
    /* It comes also for a file that was created before the first OPEN was answered. */
    if (mode_get(mount) == MODE_OPEN && !node_is_reserved(id))
        request_closed(mount, req, id, fi);
    reply_result(req, 0);
}

void ops_fsync(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_fsync);
    reply_result(req, node_is_reserved(id) ? 0 : store_fsync(mount->store, id, data_only != 0));
}

void ops_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length,
                   struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_fallocate);
    int r = node_is_reserved(id) ? -EPERM : store_fallocate(mount->store, id, mode, offset, length);
    if (r == 0)
        sealing_written(mount, id);
    /* This request does not tell whether the caller has CAP_FSETID, but root mostly has. */
    if (r == 0 && fuse_req_ctx(req)->uid != 0 && privileges_take(mount->store, id) == 1)
        mount_attr_changed(mount, id); /* the kernel asks again only for size and times */
    reply_result(req, r);
}
