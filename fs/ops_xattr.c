/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only extended attribute: the hash of a sealed file's content, in hexadecimal. It is computed
 * and can't be changed, but programs that copy files with their attributes come across it:
 * those must succeed that ask for nothing that isn't so anyway.
 */
#include "ops.h"

#include <errno.h>
#include <string.h>

#include "node.h"
#include "reply.h"

#define HASH_NAME "user.lmdbfs.xxh3"
#define HASH_DIGITS (2 * sizeof(((struct store_attr *)NULL)->hash))

/* A value, or only its size if that was asked for. */
static void reply_value(fuse_req_t req, const char *value, size_t length, size_t room)
{
    if (room == 0)
        fuse_reply_xattr(req, length);
    else if (room < length)
        reply_result(req, -ERANGE);
    else
        fuse_reply_buf(req, value, length);
}

/* 1 if the record has a hash, 0 if it is a file that may still get one, -ENODATA for all others. */
static int get_hash(struct mount *mount, uint64_t id, char digits[HASH_DIGITS + 1])
{
    struct store_attr attr;
    int r = node_getattr(mount, id, &attr);
    if (r < 0)
        return r;
    if (!S_ISREG(attr.mode) || node_is_reserved(id))
        return -ENODATA;
    if (!attr.sealed)
        return 0;
    if (!attr.hashed) { /* its content is being committed */
        r = store_sync(mount->store);
        if (r == 0)
            r = node_getattr(mount, id, &attr);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < sizeof(attr.hash); i++)
        snprintf(digits + 2 * i, 3, "%02x", attr.hash[i]);
    return 1;
}

void ops_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
    struct mount *mount = request_begin(req, METRICS_getxattr);
    char digits[HASH_DIGITS + 1];
    int r = strcmp(name, HASH_NAME) == 0 ? get_hash(mount, id, digits) : -ENODATA;
    if (r == 1)
        reply_value(req, digits, HASH_DIGITS, size);
    else
        reply_result(req, r < 0 ? r : -ENODATA);
}

void ops_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
    struct mount *mount = request_begin(req, METRICS_listxattr);
    char digits[HASH_DIGITS + 1];
    int r = get_hash(mount, id, digits);
    if (r < 0 && r != -ENODATA)
        reply_result(req, r);
    else
        reply_value(req, HASH_NAME, r == 1 ? sizeof(HASH_NAME) : 0, size);
}

/* A copy that brings the hash along: right if the content is the same, or is yet to come. */
void ops_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size,
                  int flags)
{
    struct mount *mount = request_begin(req, METRICS_setxattr);
    char digits[HASH_DIGITS + 1];
    int r = strcmp(name, HASH_NAME) == 0 ? get_hash(mount, id, digits) : -ENOTSUP;
    if (r == 1 && (size != HASH_DIGITS || memcmp(value, digits, size) != 0))
        r = -EPERM;
    reply_result(req, r < 0 ? r : 0);
}

/* A copy of a file that had no hash: `rsync -X` wants it away. It stays, and that does no harm. */
void ops_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
    struct mount *mount = request_begin(req, METRICS_removexattr);
    char digits[HASH_DIGITS + 1];
    int r = strcmp(name, HASH_NAME) == 0 ? get_hash(mount, id, digits) : -ENODATA;
    reply_result(req, r == 1 ? 0 : r == 0 ? -ENODATA : r);
}
