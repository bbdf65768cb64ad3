/* SPDX-License-Identifier: BSD-2-Clause */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>

#include "attr.h"
#include "backing.h"
#include "buffer.h"
#include "node.h"
#include "reply.h"

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

static int kill_privileges(struct store *store, uint64_t id)
{
    struct store_attr attr;
    int r = store_getattr(store, id, &attr);
    uint32_t killed = r < 0 ? 0 : attr_privileges(&attr);
    if (killed == 0)
        return r;
    attr.mode = attr.full_mode & ~killed;
    return store_setattr(store, id, STORE_SET_MODE, &attr, &attr);
}

static int truncate_file(struct store *store, uint64_t id, const struct fuse_file_info *fi)
{
    struct store_attr attr = {.size = 0};
    int r = store_setattr(store, id, STORE_SET_SIZE, &attr, &attr);
    return r == 0 && kills_privileges(fi) ? kill_privileges(store, id) : r;
}

/* A descriptor for writing counts as a writer until RELEASE, one that only truncates during this
 * call. Published files have no writers: -EPERM, as if they were immutable. */
static int open_for_change(struct store *store, uint64_t id, const struct fuse_file_info *fi)
{
    int r = store_writer_open(store, id);
    if (r < 0)
        return r;
    if (fi->flags & O_TRUNC)
        r = truncate_file(store, id, fi);
    if (r < 0 || !request_writes(fi))
        store_writer_close(store, id);
    return r;
}

static void open_stats(fuse_req_t req, struct fuse_file_info *fi, bool changes)
{
    /* Not cached, and not cut off at its size, which is 0 as those of files in /proc. */
    fi->direct_io = 1;
    if (changes)
        reply_result(req, -EPERM);
    else
        fuse_reply_open(req, fi);
}

void ops_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_open);
    bool changes = request_writes(fi) || (fi->flags & O_TRUNC);
    if (node_is_reserved(id)) {
        open_stats(req, fi, changes);
        return;
    }
    int r = changes ? open_for_change(mount->store, id, fi) : 0;
    if (r == 0) {
        request_open_flags(fi);
        r = backings_open(mount->backings, req, id, changes, fi);
        if (r < 0 && request_writes(fi))
            store_writer_close(mount->store, id);
    }
    if (r < 0)
        reply_result(req, r);
    else if (fuse_reply_open(req, fi) < 0)
        request_closed(mount, req, id, fi);
}

void ops_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_read);
    void *buffer = buffer_get(size);
    ssize_t n = -ENOMEM;
    if (buffer != NULL)
        n = node_is_reserved(id) ? stats_read(mount, fuse_req_ctx(req)->pid, buffer, size, offset)
                                 : store_read(mount->store, id, buffer, size, offset);
    if (n < 0) {
        reply_result(req, (int)n);
    } else {
        metrics_add(&mount->metrics.read_bytes, (uint64_t)n);
        fuse_reply_buf(req, buffer, (size_t)n);
    }
    buffer_done();
}

void ops_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
               struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_write);
    ssize_t n = store_write(mount->store, id, data, size, offset);
    int r = n < 0 ? (int)n : 0;
    if (r == 0 && kills_privileges(fi))
        r = kill_privileges(mount->store, id);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    metrics_add(&mount->metrics.written_bytes, (uint64_t)n);
    fuse_reply_write(req, (size_t)n);
}

/* Called for each close(2) of each duplicate: nothing to do, and asked only if the kernel
 * ignores what request_open_flags() says. */
void ops_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    request_begin(req, METRICS_flush);
    reply_result(req, 0);
}

void ops_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_release);
    if (!node_is_reserved(id))
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
    reply_result(req, store_fallocate(mount->store, id, mode, offset, length));
}
