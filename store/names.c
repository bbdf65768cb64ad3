/* SPDX-License-Identifier: BSD-2-Clause */
/* names.c: the calls of store.h that make, move and remove names, one transaction each. */
#include <stdatomic.h>
#include <sys/stat.h>

#include "extent.h"
#include "ingest.h"
#include "keeper.h"
#include "lease.h"
#include "meta.h"
#include "orphan.h"
#include "reap.h"
#include "staging.h"
#include "tree.h"

/* What a small change to the tree writes at most: a page or two of each table. */
#define NAME_BYTES(store) (8 * (store)->page_size)

/* ----------------------------------------------------------------- make -- */

struct make {
    struct store *store;
    uint64_t parent;
    const char *name; /* NULL: without a name */
    struct layout_record record;
    const void *payload;
    uint64_t id; /* out */
};

static int make_nameless(struct make *make, MDB_txn *txn, struct layout_record *record)
{
    struct layout_record directory;
    int r = record_get(make->store, txn, make->parent, &directory, NULL);
    if (r == 0)
        r = meta_new_id(make->store, txn, &make->id);
    if (r < 0)
        return r;
    if (directory.mode & S_ISGID)
        record->gid = directory.gid;
    record->nlink = 0;
    r = record_add(make->store, txn, make->id, record, NULL);
    return r < 0 ? r : orphan_add(make->store, txn, make->id, LAYOUT_ORPHAN_RECORD);
}

static int make_change(MDB_txn *txn, void *arg)
{
    struct make *make = arg;
    struct layout_record record = make->record;
    if (record.place == LAYOUT_STAGED) {
        int staging = tree_is_below(make->store, txn, make->parent, STORE_STAGING_ID);
        if (staging < 0)
            return staging;
        record.flags = staging ? LAYOUT_HELD : 0;
    }
    if (record.place == LAYOUT_EXTENTS) {
        int r = ingest_adopt(make->store, txn, record.link, record.size, record.hash);
        if (r < 0)
            return r;
    }
    return make->name == NULL ? make_nameless(make, txn, &record)
                              : tree_add(make->store, txn, make->parent, make->name, &record,
                                         make->payload, &make->id);
}

static int run_make(struct make *make, struct store_attr *attr)
{
    int r = store_change(make->store, make_change, make, NAME_BYTES(make->store));
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

static int link_change(MDB_txn *txn, void *arg)
{
    struct names *names = arg;
    return tree_link(names->store, txn, names->id, names->new_parent, names->new_name);
}

/* A name is about to be durable: what it leads to must not be less so, its times included. */
static int sync_staged(struct store *store, const struct store_attr *attr)
{
    bool staged = S_ISREG(attr->mode) && !attr->sealed;
    return staged && !store->read_only ? staging_sync(store, attr->id, false) : 0;
}

int store_link(struct store *store, uint64_t id, uint64_t parent, const char *name,
               struct store_attr *attr)
{
    int r = store_getattr(store, id, attr);
    if (r == 0)
        r = sync_staged(store, attr);
    struct names names = {.store = store, .id = id, .new_parent = parent, .new_name = name};
    if (r == 0)
        r = store_change(store, link_change, &names, NAME_BYTES(store));
    return r < 0 ? r : store_getattr(store, id, attr);
}

/* --------------------------------------------------------------- remove -- */

static int remove_change(MDB_txn *txn, void *arg)
{
    struct names *names = arg;
    return tree_remove(names->store, txn, names->old_parent, names->old_name, names->want_dir,
                       &names->gone);
}

static int run_remove(struct store *store, uint64_t parent, const char *name, bool want_dir)
{
    struct names names = {
        .store = store, .old_parent = parent, .old_name = name, .want_dir = want_dir};
    int r = store_change(store, remove_change, &names, NAME_BYTES(store));
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

static int rename_change(MDB_txn *txn, void *arg)
{
    struct names *names = arg;
    return tree_rename(names->store, txn, names->old_parent, names->old_name, names->new_parent,
                       names->new_name, names->flags, &names->gone);
}

int store_rename(struct store *store, uint64_t old_parent, const char *old_name,
                 uint64_t new_parent, const char *new_name, unsigned flags)
{
    struct store_attr attr;
    int r = store_lookup(store, old_parent, old_name, &attr);
    if (r == 0)
        r = sync_staged(store, &attr);
    if (r < 0)
        return r;
    struct names names = {
        .store = store,
        .old_parent = old_parent,
        .old_name = old_name,
        .new_parent = new_parent,
        .new_name = new_name,
        .flags = flags,
    };
    r = store_change(store, rename_change, &names, NAME_BYTES(store));
    if (r == 0 && names.gone != 0)
        reap_unless_held(store, names.gone);
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
    cleanup_read struct env_read read = {0};
    int why = env_read(store->env, &read) < 0 ? 0 : orphan_get(store, read.txn, id);
    if (why > 0)
        keeper_reap(store->keeper, id);
}

int store_in_staging(struct store *store, uint64_t id)
{
    cleanup_read struct env_read read = {0};
    int r = env_read(store->env, &read);
    return r < 0 ? r : tree_is_below(store, read.txn, id, STORE_STAGING_ID);
}
