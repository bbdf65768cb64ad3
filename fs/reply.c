/* SPDX-License-Identifier: BSD-2-Clause */
#include "reply.h"

#include <fcntl.h>

#include "attr.h"
#include "backing.h"
#include "node.h"
#include "prewalk.h"
#include "privileges.h"

struct mount *request_begin(fuse_req_t req, enum metrics_op op)
{
    struct mount *mount = fuse_req_userdata(req);
    metrics_add(&mount->metrics.requests[op], 1);
    return mount;
}

struct store_owner request_owner(fuse_req_t req, mode_t mode)
{
    const struct fuse_ctx *caller = fuse_req_ctx(req);
    return (struct store_owner){
        .mode = mode & 07777,
        .uid = caller->uid,
        .gid = caller->gid,
    };
}

bool request_writes(const struct fuse_file_info *fi)
{
    return (fi->flags & O_ACCMODE) != O_RDONLY;
}

void request_open_flags(struct fuse_file_info *fi)
{
    /* All changes of content are made by the same kernel that caches it. */
    fi->keep_cache = 1;
    fi->noflush = 1;
}

void request_closed(struct mount *mount, fuse_req_t req, uint64_t id,
                    const struct fuse_file_info *fi)
{
    backings_close(mount->backings, req, id, fi);
    if (!request_writes(fi))
        return;
    if (privileges_abused(&mount->privileges, mount->store, id) &&
        privileges_take(mount->store, id) == 1)
        mount_attr_changed(mount, id);
    store_writer_close(mount->store, id);
}

void reply_result(fuse_req_t req, int result)
{
    fuse_reply_err(req, -result);
}

void reply_attr(fuse_req_t req, const struct store_attr *attr)
{
    struct stat st = attr_to_stat(attr);
    fuse_reply_attr(req, &st, attr_timeout(attr));
}

void reply_leased_entry(fuse_req_t req, struct mount *mount, const struct store_attr *attr)
{
    struct fuse_entry_param entry = attr_to_entry(attr);
    if (fuse_reply_entry(req, &entry) < 0)
        node_lease_drop(mount, attr->id, 1);
}

void reply_new_entry(fuse_req_t req, struct mount *mount, const struct store_attr *attr)
{
    int r = node_lease(mount, attr->id);
    if (r < 0)
        reply_result(req, r);
    else
        reply_leased_entry(req, mount, attr);
}

void reply_directory_changed(struct mount *mount, uint64_t id)
{
    /* No request is served while a page of a directory is locked, so this may wait for one. */
    (void)fuse_lowlevel_notify_inval_inode(mount->session, id, 0, 0);
    if (mount->prewalk != NULL)
        prewalk_changed(mount->prewalk, id);
}

void reply_no_entry(fuse_req_t req)
{
    fuse_reply_entry(req, &(struct fuse_entry_param){.entry_timeout = ATTR_FOREVER});
}
