/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_publish.h"

#include <fuse_lowlevel.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "inbox_taken.h"
#include "inbox_window.h"
#include "mount.h"
#include "store/util.h"

/* How often a unit is begun anew because somebody else changes names where it goes. */
#define ATTEMPTS 100

/* A directory that is being gone through, and where its names go. */
struct level {
    uint64_t from, to;
    char name[STORE_NAME_MAX + 1]; /* in the level above */
};

struct merge {
    const struct publish *publish;
    struct store *store;
    uint64_t staged;
    unsigned unit;
    struct level *levels; /* the innermost last */
    size_t depth, room;
};

/* ----------------------------------------------------------- telling the kernel -- */

/*
 * By name: the kernel may remember that there is none, or where it led. It waits for the lock of
 * the directory, so no look-up and no listing from before the change is under way any more when the
 * listing in the cache is dropped. A file whose last name this was is told as removed, so that who
 * watches it learns of it.
 */
static void tell_kernel(struct mount *mount, uint64_t parent, const char *name,
                        const struct store_attr *old)
{
    size_t length = strlen(name);
    bool last = old != NULL && old->nlink == 1;
    if (!last || fuse_lowlevel_notify_delete(mount->session, parent, old->id, name, length) < 0)
        (void)fuse_lowlevel_notify_inval_entry(mount->session, parent, name, length);
    (void)fuse_lowlevel_notify_inval_inode(mount->session, parent, 0, 0);
    if (old != NULL)
        mount_attr_changed(mount, old->id);
}

/* ---------------------------------------------------------------------- merging -- */

static int enter(struct merge *merge, uint64_t from, uint64_t to, const char *name)
{
    int r = make_room(&merge->levels, &merge->room, merge->depth, sizeof(*merge->levels));
    if (r < 0)
        return r;
    struct level *level = &merge->levels[merge->depth++];
    level->from = from;
    level->to = to;
    strcpy(level->name, name);
    return 0;
}

/* The path of a name in the innermost directory, from the top of the unit. */
static char *path_of(const struct merge *merge, const char *name)
{
    char *path = NULL;
    size_t length;
    FILE *out = open_memstream(&path, &length);
    if (out == NULL)
        return NULL;
    for (size_t i = 1; i < merge->depth; i++)
        fprintf(out, "%s/", merge->levels[i].name);
    fputs(name, out);
    if (fclose(out) == 0)
        return path;
    free(path);
    return NULL;
}

/* The host's file first: it is what is kept. */
static int reject(struct merge *merge, uint64_t from, const char *name, int error)
{
    cleanup_free char *path = path_of(merge, name);
    if (path == NULL)
        return -ENOMEM;
    int r = merge->publish->reject(merge->publish->arg, merge->unit, path, error);
    return r < 0 ? r : store_discard(merge->store, from, name);
}

/* Nothing that another name, or another place, would make better. */
static bool is_about_the_name(int error)
{
    return error == -EPERM || error == -ENAMETOOLONG || error == -EINVAL || error == -ELOOP ||
           error == -EISDIR || error == -ENOTDIR || error == -EMLINK;
}

static int move_over(struct merge *merge, const struct level *at, const char *name,
                     const struct store_attr *old)
{
    struct mount *mount = merge->publish->mount;
    struct window *window = merge->publish->window;
    struct window_place place;
    window_open(window, at->to, name);
    int r = store_rename(merge->store, at->from, name, at->to, name, STORE_RENAME_UNSETTLED);
    if (r < 0) {
        window_close(window);
        return r;
    }
    tell_kernel(mount, at->to, name, old);
    while (window_next(window, &place))
        tell_kernel(mount, place.parent, place.name, NULL);
    return 0;
}

/*
 * Who looks up the name, or lists the directory, may have found the old record and not have a lease
 * on it yet; we have one until nobody does so any more.
 */
static int replace(struct merge *merge, const struct level *at, const char *name,
                   const struct store_attr *old)
{
    bool leased = store_lease(merge->store, old->id) == 0;
    int r = move_over(merge, at, name, old);
    if (leased)
        store_lease_drop(merge->store, old->id, 1);
    return r;
}

static int add(struct merge *merge, const struct level *at, const char *name)
{
    int r = store_rename(merge->store, at->from, name, at->to, name,
                         STORE_RENAME_NOREPLACE | STORE_RENAME_UNSETTLED);
    if (r == 0)
        tell_kernel(merge->publish->mount, at->to, name, NULL);
    return r;
}

static int move(struct merge *merge, const struct level *at, const struct store_attr *attr,
                const char *name, const struct store_attr *old)
{
    if (old != NULL && old->id == attr->id) /* rename(2) leaves both names of one file */
        return store_unlink(merge->store, at->from, name);
    int r = old == NULL ? add(merge, at, name) : replace(merge, at, name, old);
    if (r == 0)
        merge->publish->published(merge->publish->arg);
    return r < 0 && is_about_the_name(r) ? reject(merge, at->from, name, r) : r;
}

static int merge_name(struct merge *merge, const char *name)
{
    const struct level at = merge->levels[merge->depth - 1];
    struct store_attr attr, old;
    int r = store_lookup(merge->store, at.from, name, &attr);
    if (r < 0)
        return r;
    r = store_lookup(merge->store, at.to, name, &old);
    if (r == -ENOENT)
        return move(merge, &at, &attr, name, NULL);
    if (r < 0)
        return is_about_the_name(r) ? reject(merge, at.from, name, r) : r;
    if (S_ISDIR(attr.mode) != S_ISDIR(old.mode))
        return reject(merge, at.from, name, S_ISDIR(old.mode) ? -EISDIR : -ENOTDIR);
    return S_ISDIR(attr.mode) ? enter(merge, attr.id, old.id, name)
                              : move(merge, &at, &attr, name, &old);
}

static bool note_name(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                      const struct store_attr *attr)
{
    (void)id, (void)type, (void)next, (void)attr;
    char *first = arg;
    if (first[0] != '\0')
        return false;
    strcpy(first, name);
    return true;
}

/* Until the unit's directory and all in it is gone. */
static int merge_unit(struct merge *merge, uint64_t id)
{
    merge->depth = 0;
    int r = enter(merge, id, STORE_ROOT_ID, taken_unit_name(merge->unit).text);
    while (r == 0 && merge->depth > 0) {
        const struct level *level = &merge->levels[merge->depth - 1];
        char name[STORE_NAME_MAX + 1] = "";
        r = store_readdir(merge->store, level->from, 0, false, note_name, name);
        if (r < 0)
            break;
        if (merge->publish->stop(merge->publish->arg))
            return -EINTR;
        if (name[0] != '\0') {
            r = merge_name(merge, name);
            continue;
        }
        merge->depth--;
        r = store_rmdir(merge->store,
                        merge->depth > 0 ? merge->levels[merge->depth - 1].from : merge->staged,
                        level->name);
    }
    return r;
}

/* -ENOENT: a directory in the tree was removed while we were in it. -EEXIST: a name was made. */
static int publish_unit(struct merge *merge)
{
    struct store_attr attr;
    int r = -EAGAIN;
    for (int i = 0; i < ATTEMPTS && (r == -EAGAIN || r == -ENOENT || r == -EEXIST); i++) {
        r = store_lookup(merge->store, merge->staged, taken_unit_name(merge->unit).text, &attr);
        if (r == -ENOENT)
            return 0;
        if (r == 0)
            r = merge_unit(merge, attr.id);
    }
    return r;
}

int publish_group(const struct publish *publish, uint64_t staged, unsigned units)
{
    struct merge merge = {
        .publish = publish,
        .store = publish->mount->store,
        .staged = staged,
    };
    int r = 0;
    for (; merge.unit < units && r == 0; merge.unit++)
        r = publish_unit(&merge);
    free(merge.levels);
    return r;
}
