/* SPDX-License-Identifier: BSD-2-Clause */
/* names.c: the calls of store.h that make, move and remove names, a change each. */
#include <stdatomic.h>
#include <sys/stat.h>

#include "extent.h"
#include "ingest.h"
#include "keeper.h"
#include "lease.h"
#include "meta.h"
#include "orphan.h"
#include "reap.h"
#include "sweep.h"
#include "tree.h"

/* What makes a name is refused while it can still be: before it is visible. What removes one has
 * the room that is kept for that. */
static int change_with_room(struct store *store, writer_fn *change, void *arg)
{
    int r = store->read_only ? -EROFS : store_room(store, 0);
    return r < 0 ? r : store_change(store, change, arg);
}

/* ----------------------------------------------------------------- make -- */

struct make {
    struct store *store;
    uint64_t parent;
    const char *name; /* NULL: without a name */
    struct layout_record record;
    const void *payload;
    uint64_t id; /* out */
};

static int make_nameless(struct make *make, struct view *view, struct layout_record *record)
{
    struct layout_record directory;
    int r = record_get(make->store, view, make->parent, &directory, NULL);
    if (r < 0)
        return r;
    make->id = meta_new_ids(make->store, 1);
    if (directory.mode & S_ISGID)
        record->gid = directory.gid;
    record->nlink = 0;
    r = record_add(make->store, view, make->id, record, NULL);
    return r < 0 ? r : orphan_add(make->store, view, make->id, LAYOUT_ORPHAN_RECORD);
}

static int make_change(struct view *view, void *arg)
{
    struct make *make = arg;
    struct layout_record record = make->record;
    if (record.place == LAYOUT_STAGED) {
        int staging = tree_is_below(make->store, view, make->parent, STORE_STAGING_ID);
        if (staging < 0)
            return staging;
        record.flags = staging ? LAYOUT_HELD : 0;
    }
    if (record.place == LAYOUT_EXTENTS) {
        int r = ingest_adopt(make->store, view, record.link, record.size, record.hash);
        if (r < 0)
            return r;
    }
    return make->name == NULL ? make_nameless(make, view, &record)
                              : tree_add(make->store, view, make->parent, make->name, &record,
                                         make->payload, &make->id);
}

static int run_make(struct make *make, struct store_attr *attr)
{
    int r = change_with_room(make->store, make_change, make);
    return r < 0 ? r : store_getattr(make->store, make->id, attr);
}

int store_create(struct store *store, uint64_t parent, const char *name,
                 const struct store_owner *owner, struct store_attr *attr)
{
    struct make make = {store, parent, name, tree_new_record(S_IFREG, owner), NULL, 0};
    make.record.place = LAYOUT_STAGED;
    return run_make(&make, attr);
}

int store_tmpfile(struct store *store, uint64_t parent, const struct store_owner *owner,
                  struct store_attr *attr)
{
    return store_create(store, parent, NULL, owner, attr);
}

int store_mkdir(struct store *store, uint64_t parent, const char *name,
                const struct store_owner *owner, struct store_attr *attr)
{
    struct make make = {store, parent, name, tree_new_record(S_IFDIR, owner), NULL, 0};
    return run_make(&make, attr);
}

/* A target too long for its record. */
static int ingest_target(struct store *store, const char *target, struct layout_record *record)
{
    struct payload payload = {.bytes = target, .size = record->size};
    uint64_t content = 0;
    int r = ingest_content(store, &payload, NULL, NULL, &content, record->hash);
    record->place = LAYOUT_EXTENTS;
    record->link = content;
    return r;
}

int store_symlink(struct store *store, uint64_t parent, const char *name, const char *target,
                  const struct store_owner *owner, struct store_attr *attr)
{
    size_t length = strlen(target);
    if (length > STORE_SYMLINK_MAX)
        return -ENAMETOOLONG;
    struct make make = {store, parent, name, tree_new_record(S_IFLNK, owner), target, 0};
    make.record.mode = S_IFLNK | 0777;
    make.record.size = length;
    hash_bytes(target, length, make.record.hash);
    int r = 0;
    if (length > store->inline_max)
        r = ingest_target(store, target, &make.record);
    if (r < 0)
        return r;
    r = run_make(&make, attr);
    if (r < 0 && make.record.place == LAYOUT_EXTENTS)
        ingest_abandon(store, make.record.link);
    return r;
}

/* ----------------------------------------------------------------- link -- */

struct names {
    struct store *store;
    uint64_t id, old_parent, new_parent;
    const char *old_name, *new_name;
    unsigned flags;
    bool want_dir;
    uint64_t gone; /* out */
};

static int link_change(struct view *view, void *arg)
{
    struct names *names = arg;
    return tree_link(names->store, view, names->id, names->new_parent, names->new_name);
}

int store_link(struct store *store, uint64_t id, uint64_t parent, const char *name,
               struct store_attr *attr)
{
    struct names names = {.store = store, .id = id, .new_parent = parent, .new_name = name};
    int r = change_with_room(store, link_change, &names);
    return r < 0 ? r : store_getattr(store, id, attr);
}

/* --------------------------------------------------------------- remove -- */

static int remove_change(struct view *view, void *arg)
{
    struct names *names = arg;
    return tree_remove(names->store, view, names->old_parent, names->old_name, names->want_dir,
                       &names->gone);
}

static int run_remove(struct store *store, uint64_t parent, const char *name, bool want_dir)
{
    struct names names = {
        .store = store, .old_parent = parent, .old_name = name, .want_dir = want_dir};
    int r = store_change(store, remove_change, &names);
    if (r == 0 && names.gone != 0)
        reap_unless_held(store, names.gone);
    return r;
}

int store_unlink(struct store *store, uint64_t parent, const char *name)
{
    return run_remove(store, parent, name, false);
}

int store_rmdir(struct store *store, uint64_t parent, const char *name)
{
    return run_remove(store, parent, name, true);
}

/* --------------------------------------------------------------- rename -- */

static int rename_change(struct view *view, void *arg)
{
    struct names *names = arg;
    return tree_rename(names->store, view, names->old_parent, names->old_name, names->new_parent,
                       names->new_name, names->flags, &names->gone);
}

int store_rename(struct store *store, uint64_t old_parent, const char *old_name,
                 uint64_t new_parent, const char *new_name, unsigned flags)
{
    struct names names = {
        .store = store,
        .old_parent = old_parent,
        .old_name = old_name,
        .new_parent = new_parent,
        .new_name = new_name,
        .flags = flags,
    };
    int r = store->read_only ? -EROFS : store_room(store, 0);
    if (r == 0)
        r = flags & STORE_RENAME_UNSETTLED ? store_change_unsettled(store, rename_change, &names)
                                           : store_change(store, rename_change, &names);
    if (r == 0 && names.gone != 0)
        reap_unless_held(store, names.gone);
    if (r == 0)
        sweep_start(store);
    return r;
}

/* --------------------------------------------------------------- leases -- */

int store_lease(struct store *store, uint64_t id)
{
    int r = store->read_only ? 0 : leases_add(store->leases, id, 1);
    if (r == -ENOMEM && !atomic_exchange(&store->lease_refused, true))
        store_warn(store,
                   "no memory to remember more than %zu files that are held: others are refused "
                   "until some are let go",
                   leases_count(store->leases));
    if (!store->read_only && store->crowded != NULL && leases_crowded(store->leases))
        store->crowded(store->arg);
    return r;
}

size_t store_lease_count(struct store *store)
{
    return store->read_only ? 0 : leases_count(store->leases);
}

size_t store_lease_list(struct store *store, uint64_t *position, uint64_t *ids, size_t most)
{
    return store->read_only ? 0 : leases_list(store->leases, position, ids, most);
}

bool store_leased(struct store *store, uint64_t id)
{
    return store->read_only || leases_held(store->leases, id);
}

void store_lease_drop(struct store *store, uint64_t id, uint64_t count)
{
    if (store->read_only || !leases_drop(store->leases, id, count))
        return;
    cleanup_view struct view view = {0};
    int why = view_open(store, &view) < 0 ? 0 : orphan_get(store, &view, id);
    if (why > 0)
        keeper_reap(store->keeper, id);
}

int store_in_staging(struct store *store, uint64_t id)
{
    cleanup_view struct view view = {0};
    int r = view_open(store, &view);
    return r < 0 ? r : tree_is_below(store, &view, id, STORE_STAGING_ID);
}
