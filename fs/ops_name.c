/* SPDX-License-Identifier: BSD-2-Clause */
#include "ops.h"

#include <errno.h>
#include <sys/stat.h>

#include "attr.h"
#include "backing.h"
#include "node.h"
#include "prewalk.h"
#include "refresh.h"
#include "reply.h"

static void note_lookup(struct mount *mount, pid_t pid, uint64_t parent, uint64_t id)
{
    if (mount->prewalk != NULL)
        prewalk_looked_up(mount->prewalk, pid, parent);
    if (mount->refresh != NULL)
        refresh_seen(mount->refresh, parent, id);
}

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = request_begin(req, METRICS_lookup);
    struct store_attr attr;
    int r = node_lookup_leased(mount, parent, name, &attr);
    if (r == 0 && attr.id >= STORE_FIRST_ID && !node_is_reserved(attr.id))
        note_lookup(mount, fuse_req_ctx(req)->pid, parent, attr.id);
    if (r == -ENOENT)
        reply_no_entry(req);
    else if (r < 0)
        reply_result(req, r);
    else
        reply_leased_entry(req, mount, &attr);
}

static void forget(struct mount *mount, fuse_req_t req, fuse_ino_t id, uint64_t count)
{
    backings_forget(mount->backings, req, id);
    metrics_add(&mount->metrics.forgets, count);
    node_lease_drop(mount, id, count);
}

void ops_forget(fuse_req_t req, fuse_ino_t id, uint64_t count)
{
    forget(request_begin(req, METRICS_forget), req, id, count);
    fuse_reply_none(req);
}

void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct mount *mount = request_begin(req, METRICS_batch_forget);
    for (size_t i = 0; i < count; i++)
        forget(mount, req, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* The answer to what makes a name: `r` is how it went. */
static void reply_made(fuse_req_t req, struct mount *mount, uint64_t parent, int r,
                       const struct store_attr *attr)
{
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    reply_directory_changed(mount, parent);
    reply_new_entry(req, mount, attr);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    struct mount *mount = request_begin(req, METRICS_mknod);
    struct store_owner owner = request_owner(req, mode);
    struct store_attr attr;
    /* A store holds content, so there are no devices, pipes and sockets. */
    int r = S_ISREG(mode) ? node_name_changeable(parent, name) : -EPERM;
    if (r == 0)
        r = store_create(mount->store, parent, name, &owner, &attr);
    reply_made(req, mount, parent, r, &attr);
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct mount *mount = request_begin(req, METRICS_mkdir);
    struct store_owner owner = request_owner(req, mode);
    struct store_attr attr;
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = store_mkdir(mount->store, parent, name, &owner, &attr);
    reply_made(req, mount, parent, r, &attr);
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct mount *mount = request_begin(req, METRICS_symlink);
    struct store_owner owner = request_owner(req, 0777);
    struct store_attr attr;
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = store_symlink(mount->store, parent, name, target, &owner, &attr);
    reply_made(req, mount, parent, r, &attr);
}

/* A new file, at the same time opened. The kernel counts a lookup and an open file, so do we. */
static void reply_created(fuse_req_t req, struct mount *mount, const struct store_attr *attr,
                          struct fuse_file_info *fi)
{
    bool writes = request_writes(fi) && mode_get(mount) == MODE_OPEN;
    int r = node_lease(mount, attr->id);
    if (r == 0 && writes && (r = store_writer_open(mount->store, attr->id)) < 0)
        node_lease_drop(mount, attr->id, 1);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    struct fuse_entry_param entry = attr_to_entry(attr);
    request_open_flags(fi);
    r = backings_open(mount->backings, req, attr->id, writes, fi);
    if (r < 0) {
        if (writes)
            store_writer_close(mount->store, attr->id);
        node_lease_drop(mount, attr->id, 1);
        reply_result(req, r);
    } else if (fuse_reply_create(req, &entry, fi) < 0) {
        if (mode_get(mount) == MODE_OPEN)
            request_closed(mount, req, attr->id, fi);
        node_lease_drop(mount, attr->id, 1);
    }
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_create);
    struct store_owner owner = request_owner(req, mode);
    struct store_attr attr;
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = store_create(mount->store, parent, name, &owner, &attr);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    reply_directory_changed(mount, parent);
    reply_created(req, mount, &attr, fi);
}

void ops_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_tmpfile);
    struct store_owner owner = request_owner(req, mode);
    struct store_attr attr;
    int r = node_is_reserved(parent) ? -EPERM : store_tmpfile(mount->store, parent, &owner, &attr);
    if (r < 0)
        reply_result(req, r);
    else
        reply_created(req, mount, &attr, fi);
}

static void reply_removed(fuse_req_t req, struct mount *mount, uint64_t parent, int r)
{
    if (r == 0)
        reply_directory_changed(mount, parent);
    reply_result(req, r);
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = request_begin(req, METRICS_unlink);
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = store_unlink(mount->store, parent, name);
    reply_removed(req, mount, parent, r);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = request_begin(req, METRICS_rmdir);
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = store_rmdir(mount->store, parent, name);
    reply_removed(req, mount, parent, r);
}
