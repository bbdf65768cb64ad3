/* SPDX-License-Identifier: BSD-2-Clause */
#include "tree.h"

#include <sys/stat.h>

#include "meta.h"
#include "orphan.h"
#include "sweep.h"

/* Deeper than any path can be made by names (PATH_MAX doesn't limit mkdirat); shallower than a
 * damaged tree's circle. */
#define DEPTH_MAX (1 << 20)

struct layout_record tree_new_record(mode_t type, const struct store_owner *owner)
{
    struct layout_time now = layout_now();
    return (struct layout_record){
        .mode = (uint16_t)((owner->mode & 07777) | type),
        .uid = owner->uid,
        .gid = owner->gid,
        .nlink = 1,
        .atime = now,
        .mtime = now,
        .ctime = now,
        .btime = now,
    };
}

static int get_directory(struct store *store, struct view *view, uint64_t id,
                         struct layout_record *record)
{
    int r = record_get(store, view, id, record, NULL);
    if (r < 0)
        return r;
    if (!S_ISDIR(record->mode))
        return -ENOTDIR;
    return record->nlink == 0 ? -ENOENT : 0; /* removed, and somebody is still in it */
}

/* A directory of which an entry changed. */
static int touch(struct store *store, struct view *view, uint64_t id)
{
    struct layout_record record;
    int r = record_get(store, view, id, &record, NULL);
    if (r < 0)
        return r;
    record.mtime = record.ctime = layout_now();
    return record_update(store, view, id, &record);
}

static bool is_reserved(uint64_t parent, const char *name)
{
    return parent == STORE_ROOT_ID && strcmp(name, STORE_CONTROL_NAME) == 0;
}

int tree_find(struct store *store, struct view *view, uint64_t parent, const char *name,
              struct entry *entry)
{
    int r = entry_get(store, view, parent, name, entry);
    if (r != -ENOENT)
        return r;
    struct layout_record record;
    r = record_get(store, view, parent, &record, NULL);
    return r < 0 ? r : S_ISDIR(record.mode) ? -ENOENT : -ENOTDIR;
}

int tree_is_below(struct store *store, struct view *view, uint64_t id, uint64_t ancestor)
{
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        if (id == ancestor)
            return 1;
        if (id == STORE_ROOT_ID || id == STORE_STAGING_ID)
            return 0;
        struct layout_record record;
        int r = record_get(store, view, id, &record, NULL);
        if (r < 0)
            return r;
        if (!S_ISDIR(record.mode))
            return -ENOTDIR;
        id = record.link;
    }
    return -ELOOP;
}

int tree_publishes(struct store *store, struct view *view, uint64_t id)
{
    if (view->publishes == NULL || *view->publishes)
        return 0;
    int staging = tree_is_below(store, view, id, STORE_STAGING_ID);
    *view->publishes = staging == 0;
    return staging < 0 ? staging : 0;
}

int tree_add(struct store *store, struct view *view, uint64_t parent, const char *name,
             struct layout_record *record, const void *payload, uint64_t *id)
{
    struct layout_record directory;
    struct entry entry;
    if (is_reserved(parent, name))
        return -EPERM;
    int r = get_directory(store, view, parent, &directory);
    if (r < 0)
        return r;
    r = entry_get(store, view, parent, name, &entry);
    if (r != -ENOENT || name[0] == '\0')
        return r == 0 ? -EEXIST : r;
    *id = meta_new_ids(store, 1);
    if (directory.mode & S_ISGID) {
        record->gid = directory.gid;
        if (S_ISDIR(record->mode))
            record->mode |= S_ISGID;
    }
    if (S_ISDIR(record->mode))
        record->link = parent;
    entry = (struct entry){*id, record->mode & S_IFMT};
    r = record_add(store, view, *id, record, payload);
    if (r == 0)
        r = entry_put(store, view, parent, name, &entry);
    if (r == 0 && !record_is_open(record))
        r = tree_publishes(store, view, parent);
    return r < 0 ? r : touch(store, view, parent);
}

int tree_drop_link(struct store *store, struct view *view, uint64_t id, uint64_t *gone)
{
    struct layout_record record;
    int r = record_get(store, view, id, &record, NULL);
    if (r < 0)
        return r;
    record.ctime = layout_now();
    record.nlink = record.nlink > 0 ? record.nlink - 1 : 0;
    *gone = record.nlink == 0 ? id : 0;
    r = record_update(store, view, id, &record);
    if (r == 0 && record.nlink == 0)
        r = orphan_add(store, view, id, LAYOUT_ORPHAN_RECORD);
    return r;
}

/* May what `entry` leads to be removed as a directory (or as something else)? */
static int check_removable(struct store *store, struct view *view, const struct entry *entry,
                           bool want_dir)
{
    if (S_ISDIR(entry->type) != want_dir)
        return want_dir ? -ENOTDIR : -EISDIR;
    int none = want_dir ? entry_none(store, view, entry->id) : 1;
    return none < 0 ? none : none ? 0 : -ENOTEMPTY;
}

int tree_remove(struct store *store, struct view *view, uint64_t parent, const char *name,
                bool want_dir, uint64_t *gone)
{
    struct entry entry;
    int r = tree_find(store, view, parent, name, &entry);
    if (r == 0)
        r = check_removable(store, view, &entry, want_dir);
    if (r == 0)
        r = entry_remove(store, view, parent, name);
    if (r == 0)
        r = tree_drop_link(store, view, entry.id, gone);
    if (r == 0)
        r = tree_publishes(store, view, parent);
    return r < 0 ? r : touch(store, view, parent);
}

int tree_link(struct store *store, struct view *view, uint64_t id, uint64_t parent,
              const char *name)
{
    struct layout_record record, directory;
    struct entry entry;
    if (is_reserved(parent, name))
        return -EPERM;
    int r = record_get(store, view, id, &record, NULL);
    if (r == 0 && S_ISDIR(record.mode))
        r = -EPERM;
    if (r == 0)
        r = get_directory(store, view, parent, &directory);
    if (r < 0)
        return r;
    r = entry_get(store, view, parent, name, &entry);
    if (r != -ENOENT)
        return r == 0 ? -EEXIST : r;
    int staging = tree_is_below(store, view, parent, STORE_STAGING_ID);
    if (staging < 0)
        return staging;

    if (!staging)
        record.flags = (uint8_t)((record.flags & ~LAYOUT_HELD) |
                                 (record_is_open(&record) ? RECORD_ARRIVED : 0));
    record.nlink++;
    record.ctime = layout_now();
    entry = (struct entry){id, record.mode & S_IFMT};
    r = entry_put(store, view, parent, name, &entry);
    if (r == 0)
        r = record_update(store, view, id, &record);
    if (r == 0)
        r = orphan_remove(store, view, id);
    if (r == 0)
        r = tree_publishes(store, view, parent);
    return r < 0 ? r : touch(store, view, parent);
}

/* -------------------------------------------------------------- rename -- */

/* What `entry` leads to now has its name in `parent`. */
static int arrive(struct store *store, struct view *view, const struct entry *entry,
                  uint64_t parent)
{
    struct layout_record record;
    int r = record_get(store, view, entry->id, &record, NULL);
    if (r < 0)
        return r;
    if (S_ISDIR(record.mode)) {
        r = sweep_moved(store, view, entry->id, record.link, parent);
        if (r < 0)
            return r;
        record.link = parent;
    }
    bool open = record_is_open(&record);
    bool takes_bytes = S_ISREG(record.mode) && record.size == 0;
    if (open || takes_bytes || (record.flags & LAYOUT_HELD)) {
        int staging = tree_is_below(store, view, parent, STORE_STAGING_ID);
        if (staging < 0)
            return staging;
        if (!staging)
            record.flags = (uint8_t)((record.flags & ~LAYOUT_HELD) | (open ? RECORD_ARRIVED : 0));
        else if (record.nlink == 1) /* else it is published by another name, unless it is held */
            record.flags |= LAYOUT_HELD;
    }
    record.ctime = layout_now();
    return record_update(store, view, entry->id, &record);
}

/* A directory can't move below itself. */
static int check_circle(struct store *store, struct view *view, const struct entry *moved,
                        uint64_t new_parent)
{
    int below = S_ISDIR(moved->type) ? tree_is_below(store, view, new_parent, moved->id) : 0;
    return below > 0 ? -EINVAL : below;
}

static int exchange(struct store *store, struct view *view, uint64_t old_parent,
                    const char *old_name, uint64_t new_parent, const char *new_name,
                    const struct entry *old, const struct entry *new)
{
    int r = check_circle(store, view, new, old_parent);
    if (r == 0)
        r = entry_put(store, view, old_parent, old_name, new);
    if (r == 0)
        r = entry_put(store, view, new_parent, new_name, old);
    return r < 0 ? r : arrive(store, view, new, old_parent);
}

/* `new` is NULL if the new name is free. */
static int move(struct store *store, struct view *view, uint64_t old_parent, const char *old_name,
                uint64_t new_parent, const char *new_name, const struct entry *old,
                const struct entry *new, uint64_t *gone)
{
    int r = 0;
    if (new != NULL)
        r = check_removable(store, view, new, S_ISDIR(old->type));
    if (r == 0 && new != NULL)
        r = tree_drop_link(store, view, new->id, gone);
    if (r == 0)
        r = entry_remove(store, view, old_parent, old_name);
    return r < 0 ? r : entry_put(store, view, new_parent, new_name, old);
}

int tree_rename(struct store *store, struct view *view, uint64_t old_parent, const char *old_name,
                uint64_t new_parent, const char *new_name, unsigned flags, uint64_t *gone)
{
    struct layout_record directory;
    struct entry old, new;
    *gone = 0;
    if (is_reserved(new_parent, new_name))
        return -EPERM;
    int r = tree_find(store, view, old_parent, old_name, &old);
    if (r == 0)
        r = get_directory(store, view, new_parent, &directory);
    if (r < 0)
        return r;
    r = entry_get(store, view, new_parent, new_name, &new);
    bool exists = r == 0;
    if (r < 0 && r != -ENOENT)
        return r;
    if (exists && (flags & STORE_RENAME_NOREPLACE))
        return -EEXIST;
    if (!exists && (flags & STORE_RENAME_EXCHANGE))
        return -ENOENT;
    if (exists && old.id == new.id)
        return 0; /* rename(2): two names of one file, nothing happens */

    r = check_circle(store, view, &old, new_parent);
    if (r == 0)
        r = flags & STORE_RENAME_EXCHANGE
                ? exchange(store, view, old_parent, old_name, new_parent, new_name, &old, &new)
                : move(store, view, old_parent, old_name, new_parent, new_name, &old,
                       exists ? &new : NULL, gone);
    if (r == 0)
        r = arrive(store, view, &old, new_parent);
    if (r == 0)
        r = touch(store, view, old_parent);
    if (r == 0 && new_parent != old_parent)
        r = touch(store, view, new_parent);
    if (r == 0)
        r = tree_publishes(store, view, old_parent);
    if (r == 0)
        r = tree_publishes(store, view, new_parent);
    return r;
}
