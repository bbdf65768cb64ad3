/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moving names. A name that arrives in the published tree must never lead to something torn, so
 * what it leads to is finished: a file that nobody writes any more is sealed; the bytes of one that
 * is still being written are made durable by the store, and it is sealed when its writers let go.
 */
#include "ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "inbox.h"
#include "log.h"
#include "node.h"
#include "reply.h"
#include "sealing.h"

/* A file that is final only after the move. */
struct later {
    uint64_t id; /* 0: none */
    bool open;   /* it has yet to be sealed */
};

/* Unless somebody writes it: then it is sealed when he closes it. */
static int seal(struct mount *mount, uint64_t id)
{
    int r = sealing_now(mount, id);
    return r == -EBUSY ? 0 : r;
}

/* 1 if names in directory `to` are published, 0 if they are in staging. */
static int is_published(struct mount *mount, uint64_t to)
{
    int staged = store_in_staging(mount->store, to);
    return staged < 0 ? staged : !staged;
}

/* 1 if a file with these attributes has to be sealed when it gets a name in directory `to`. */
static int needs_seal(struct mount *mount, const struct store_attr *attr, uint64_t to)
{
    if (!attr->open || attr->size == 0)
        return 0;
    if (!attr->held && attr->nlink > 0)
        return 1; /* published already, but for its seal: that comes soon after the close */
    return is_published(mount, to);
}

/* All that is in a tree is published in one step, so nothing must be left to do to it then. */
static int before_tree(struct mount *mount, uint64_t from, uint64_t to)
{
    int from_staging = store_in_staging(mount->store, from);
    int published = from_staging == 1 ? is_published(mount, to) : from_staging;
    return published == 1 ? sealing_staged(mount) : published;
}

/*
 * Finish what `name` in directory `from` leads to, before it is moved to directory `to`. A file in
 * staging is sealed only afterwards: else, if the move failed or we died in between, the program
 * that fills it would find it sealed when it tries again.
 */
static int before_move(struct mount *mount, uint64_t from, const char *name, uint64_t to,
                       struct later *later)
{
    struct store_attr attr;
    int r = store_lookup(mount->store, from, name, &attr);
    if (r < 0)
        return r;
    if (S_ISDIR(attr.mode))
        return before_tree(mount, from, to);
    bool brought_in = S_ISREG(attr.mode) && attr.held && !attr.open;
    r = brought_in ? is_published(mount, to) : needs_seal(mount, &attr, to);
    if (r != 1)
        return r;
    if (!attr.held)
        return seal(mount, attr.id);
    int open = brought_in ? sealing_leaves(mount, attr.id) : 1;
    if (open < 0)
        return open;
    *later = (struct later){attr.id, open == 1};
    return 0;
}

static void after_move(struct mount *mount, const struct later *later)
{
    if (later->id == 0)
        return;
    if (!later->open) {
        mount_attr_changed(mount, later->id);
        return;
    }
    int r = seal(mount, later->id);
    if (r < 0)
        log_line(LOG_WARNING,
                 "file %llu is published, but can't be sealed: %s; the next start will",
                 (unsigned long long)later->id, strerror(-r));
}

/* What is sealed after the move shares its commit. */
static int move(struct mount *mount, uint64_t parent, const char *name, uint64_t new_parent,
                const char *new_name, unsigned flags, const struct later later[2])
{
    bool more = later[0].id != 0 || later[1].id != 0;
    int r = store_rename(mount->store, parent, name, new_parent, new_name,
                         flags | (more ? STORE_RENAME_UNSETTLED : 0));
    if (r < 0)
        return r;
    inbox_renamed(mount->inbox, parent, name, new_parent, new_name, flags & STORE_RENAME_EXCHANGE);
    for (int i = 0; i < 2; i++)
        after_move(mount, &later[i]);
    return more ? store_settle(mount->store) : 0;
}

static int do_link(struct mount *mount, uint64_t id, uint64_t parent, const char *name,
                   struct store_attr *attr)
{
    if (node_is_reserved(id))
        return -EPERM;
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = store_getattr(mount->store, id, attr);
    if (r == 0)
        r = needs_seal(mount, attr, parent);
    if (r == 1)
        r = seal(mount, id);
    return r < 0 ? r : store_link(mount->store, id, parent, name, attr);
}

void ops_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
    struct mount *mount = request_begin(req, METRICS_link);
    struct store_attr attr;
    int r = do_link(mount, id, parent, name, &attr);
    if (r < 0) {
        reply_result(req, r);
        return;
    }
    reply_directory_changed(mount, parent);
    reply_new_entry(req, mount, &attr);
}

static int do_rename(struct mount *mount, uint64_t parent, const char *name, uint64_t new_parent,
                     const char *new_name, unsigned flags)
{
    /* A whiteout is a device node, and there are none here. */
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    unsigned store_flags = ((flags & RENAME_NOREPLACE) ? STORE_RENAME_NOREPLACE : 0) |
                           ((flags & RENAME_EXCHANGE) ? STORE_RENAME_EXCHANGE : 0);
    struct later later[2] = {{.id = 0}, {.id = 0}};
    int r = node_name_changeable(parent, name);
    if (r == 0)
        r = node_name_changeable(new_parent, new_name);
    if (r == 0)
        r = before_move(mount, parent, name, new_parent, &later[0]);
    if (r == 0 && (flags & RENAME_EXCHANGE))
        r = before_move(mount, new_parent, new_name, parent, &later[1]);
    return r < 0 ? r : move(mount, parent, name, new_parent, new_name, store_flags, later);
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                const char *new_name, unsigned int flags)
{
    struct mount *mount = request_begin(req, METRICS_rename);
    int r = do_rename(mount, parent, name, new_parent, new_name, flags);
    if (r == 0) {
        reply_directory_changed(mount, parent);
        if (new_parent != parent)
            reply_directory_changed(mount, new_parent);
    }
    reply_result(req, r);
}
