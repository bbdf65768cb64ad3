/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.h: what the beginning and the end of every request have in common.
 *
 * An answer can fail to arrive, when the process that waited for it was killed meanwhile. Then the
 * kernel has counted neither a lookup nor an open file, and we must not either.
 */
#ifndef FS_REPLY_H
#define FS_REPLY_H

#include <fuse_lowlevel.h>

#include "mount.h"

/* The mount that a request is for. Counts it. */
struct mount *request_begin(fuse_req_t req, enum metrics_op op);

/* Who a new record belongs to: who asks for it. */
struct store_owner request_owner(fuse_req_t req, mode_t mode);

/* True if the file was opened for writing, in OPEN and in RELEASE. */
bool request_writes(const struct fuse_file_info *fi);

/* What the kernel shall know about a file that it opens. */
void request_open_flags(struct fuse_file_info *fi);

/* A file that was opened isn't open any more: take back what that did. */
void request_closed(struct mount *mount, fuse_req_t req, uint64_t id,
                    const struct fuse_file_info *fi);

/* 0 or a negative errno. */
void reply_result(fuse_req_t req, int result);

/* The attributes of a node. */
void reply_attr(fuse_req_t req, const struct store_attr *attr);

/* A record by its name, that the caller has a lease for; the lease goes with the answer. */
void reply_leased_entry(fuse_req_t req, struct mount *mount, const struct store_attr *attr);

/* The same for a record that has just been made: takes the lease itself. */
void reply_new_entry(fuse_req_t req, struct mount *mount, const struct store_attr *attr);

/*
 * In a request that has changed the names in a directory, before its answer. The kernel locks the
 * directory until then, and knows by itself what has changed; but not who is in the middle of
 * something. Another process's GETATTR that is under way would bring back the old times, for ever.
 * And a listing that began before goes on after, is remembered as it is, and found by who begins
 * his own meanwhile. So its times and its listing are outdated from here.
 */
void reply_directory_changed(struct mount *mount, uint64_t id);

/* There is no such name, and the kernel may remember that. */
void reply_no_entry(fuse_req_t req);

#endif
