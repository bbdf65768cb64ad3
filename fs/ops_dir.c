/* SPDX-License-Identifier: BSD-2-Clause */
#include "ops.h"

#include <errno.h>
#include <sys/stat.h>

#include "attr.h"
#include "buffer.h"
#include "node.h"
#include "prewalk.h"
#include "push.h"
#include "refresh.h"
#include "reply.h"
#include "store/util.h"

/*
 * Cursors: where a listing goes on behind an entry. The store's own are above these; those of
 * the reserved directory are all here.
 */
enum { BEHIND_DOT = 1, BEHIND_DOTDOT, BEHIND_STAGING, BEHIND_STATS };
_Static_assert(BEHIND_STATS < STORE_CURSOR_MIN, "cursors must not overlap");

struct listing {
    fuse_req_t req;
    struct mount *mount;
    uint64_t id;
    bool plus; /* with attributes: each entry counts as a lookup */
    char *buffer;
    size_t size, used;
    uint64_t *leased; /* a lease for each entry of the answer */
    size_t leased_count;
    int error;
};

/* Room for an entry without attributes, that the kernel does not count as a lookup. */
static bool add_plain(struct listing *listing, const char *name, const struct stat *st, off_t next)
{
    char *at = listing->buffer + listing->used;
    size_t left = listing->size - listing->used;
    /* In an answer with attributes, node id 0 says that these are not to be used. */
    struct fuse_entry_param no_lookup = {.attr = *st};
    size_t taken = listing->plus
                       ? fuse_add_direntry_plus(listing->req, at, left, name, &no_lookup, next)
                       : fuse_add_direntry(listing->req, at, left, name, st, next);
    if (taken > left)
        return false;
    listing->used += taken;
    return true;
}

/*
 * An entry with its attributes, and a lease on its record. The record can't end before: the
 * kernel lets nobody change a directory while it lists it, and what an inbox changes is kept until
 * no listing from before is under way.
 */
static bool add_leased(struct listing *listing, const char *name, const struct store_attr *attr,
                       off_t next)
{
    char *at = listing->buffer + listing->used;
    size_t left = listing->size - listing->used;
    if (fuse_add_direntry_plus(listing->req, NULL, 0, name, NULL, 0) > left)
        return false;
    int r = node_lease(listing->mount, attr->id);
    if (r < 0 && r != -ENOMEM) {
        listing->error = r;
        return false;
    }
    struct fuse_entry_param entry = attr_to_entry(attr);
    if (r == 0)
        listing->leased[listing->leased_count++] = attr->id;
    else
        entry.ino = 0; /* a name only: the kernel looks it up when it needs to */
    listing->used += fuse_add_direntry_plus(listing->req, at, left, name, &entry, next);
    return true;
}

static bool add_entry(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                      const struct store_attr *attr)
{
    struct listing *listing = arg;
    if (node_is_hidden(listing->id, name))
        return true;
    if (listing->plus)
        return add_leased(listing, name, attr, next);
    return add_plain(listing, name, &(struct stat){.st_ino = id, .st_mode = type}, next);
}

/* "." and "..". False: there is no room for more. */
static bool add_dots(struct listing *listing, uint64_t id, off_t cursor)
{
    struct store_attr up;
    listing->error = node_lookup(listing->mount, id, "..", &up);
    if (listing->error < 0)
        return false;
    struct stat here = {.st_ino = id, .st_mode = S_IFDIR},
                above = {.st_ino = up.id, .st_mode = S_IFDIR};
    return (cursor >= BEHIND_DOT || add_plain(listing, ".", &here, BEHIND_DOT)) &&
           add_plain(listing, "..", &above, BEHIND_DOTDOT);
}

/* What it leads to is looked up by who wants to know. */
static void list_control(struct listing *listing, off_t cursor)
{
    struct stat staging = {.st_ino = STORE_STAGING_ID, .st_mode = S_IFDIR},
                stats = {.st_ino = STORE_STATS_ID, .st_mode = S_IFREG};
    if (cursor < BEHIND_STAGING &&
        !add_plain(listing, STORE_STAGING_NAME, &staging, BEHIND_STAGING))
        return;
    if (cursor < BEHIND_STATS)
        add_plain(listing, STORE_STATS_NAME, &stats, BEHIND_STATS);
}

static void list(struct listing *listing, uint64_t id, off_t cursor)
{
    listing->id = id;
    if (cursor < BEHIND_DOTDOT && !add_dots(listing, id, cursor))
        return;
    if (id == STORE_CONTROL_ID) {
        list_control(listing, cursor);
        return;
    }
    int r = store_readdir(listing->mount->store, id, cursor <= BEHIND_DOTDOT ? 0 : cursor,
                          listing->plus, add_entry, listing);
    if (r < 0)
        listing->error = r;
}

static void note_listing(const struct listing *listing, pid_t pid, uint64_t id, off_t cursor)
{
    const struct mount *mount = listing->mount;
    if (mount->prewalk != NULL && cursor == 0)
        prewalk_listed(mount->prewalk, pid);
    for (size_t i = 0; mount->refresh != NULL && i < listing->leased_count; i++)
        refresh_seen(mount->refresh, id, listing->leased[i]);
    if (mount->refresh != NULL)
        refresh_read(mount->refresh, id);
    if (mount->push != NULL)
        push_listed(mount->push, listing->leased, listing->leased_count);
}

static void reply_listing(struct listing *listing, uint64_t id, off_t cursor)
{
    list(listing, id, cursor);
    /* What comes before an error is worth reading; the error will come again. */
    if (listing->error < 0 && listing->used == 0) {
        reply_result(listing->req, listing->error);
        return;
    }
    pid_t pid = fuse_req_ctx(listing->req)->pid; /* the answer ends the request */
    if (fuse_reply_buf(listing->req, listing->buffer, listing->used) == 0) {
        note_listing(listing, pid, id, cursor);
        return;
    }
    for (size_t i = 0; i < listing->leased_count; i++)
        node_lease_drop(listing->mount, listing->leased[i], 1);
}

void ops_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t cursor,
                 struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_readdir);
    struct listing listing = {.req = req, .mount = mount, .size = size};
    listing.buffer = buffer_get(size);
    if (listing.buffer == NULL)
        reply_result(req, -ENOMEM);
    else
        reply_listing(&listing, id, cursor);
    buffer_done();
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t cursor,
                     struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_readdirplus);
    struct listing listing = {.req = req, .mount = mount, .plus = true, .size = size};
    size_t smallest = fuse_add_direntry_plus(req, NULL, 0, "", NULL, 0);
    cleanup_free uint64_t *leased = reallocarray(NULL, size / smallest + 1, sizeof(*leased));
    listing.leased = leased;
    listing.buffer = buffer_get(size);
    if (leased == NULL || listing.buffer == NULL)
        reply_result(req, -ENOMEM);
    else
        reply_listing(&listing, id, cursor);
    buffer_done();
}

/* Every change of a directory comes through this mount's kernel, so its copy of a listing stays
 * right from one opening to the next. */
void ops_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    const struct mount *mount = request_begin(req, METRICS_opendir);
    if (mount->can_skip_opendir) {
        reply_result(req, -ENOSYS); /* then the kernel does the same by itself, for ever */
        return;
    }
    fi->cache_readdir = 1;
    fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}

void ops_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    request_begin(req, METRICS_releasedir);
    reply_result(req, 0);
}

/* All that happened before becomes durable with it. */
void ops_fsyncdir(fuse_req_t req, fuse_ino_t id, int data_only, struct fuse_file_info *fi)
{
    struct mount *mount = request_begin(req, METRICS_fsyncdir);
    reply_result(req, store_sync(mount->store));
}
