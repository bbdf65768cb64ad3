/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <sys/stat.h>

#include "meta.h"
#include "opening.h"
#include "tree.h"

static int add_directory(struct store *store, struct view *view, uint64_t id, uint64_t parent,
                         mode_t mode)
{
    struct store_owner owner = {mode, geteuid(), getegid()};
    struct layout_record record = tree_new_record(S_IFDIR, &owner);
    record.link = parent;
    return record_add(store, view, id, &record, NULL);
}

static int make_tables(struct store *store, MDB_txn *txn)
{
    struct view view = view_of_transaction(store->env, txn);
    int r = env_open_tables(store->env, txn, true);
    store->tables = *env_tables(store->env);
    if (r == 0)
        r = meta_create(store, &view);
    if (r == 0)
        r = add_directory(store, &view, STORE_ROOT_ID, STORE_ROOT_ID, 0755);
    if (r == 0)
        r = add_directory(store, &view, STORE_STAGING_ID, STORE_CONTROL_ID, 01777);
    return r;
}

static int make_format(struct store *store)
{
    MDB_txn *txn;
    int r = env_write_begin(store->env, &txn);
    if (r < 0)
        return r;
    r = make_tables(store, txn);
    if (r < 0) {
        mdb_txn_abort(txn);
        return r;
    }
    return env_write_commit(store->env, txn);
}

/* Table handles have to be opened in a transaction that is committed, not put back in the pool. */
static int open_tables(struct store *store)
{
    MDB_txn *txn;
    int r = lmdb_error(mdb_txn_begin(env_lmdb(store->env), NULL, MDB_RDONLY, &txn));
    if (r < 0)
        return r;
    r = env_open_tables(store->env, txn, false);
    if (r < 0) {
        mdb_txn_abort(txn);
        return r;
    }
    store->tables = *env_tables(store->env);
    return env_write_commit(store->env, txn);
}

static int check_features(const struct opening *opening, const struct layout_format *format)
{
    uint64_t incompatible = format->incompatible & ~LAYOUT_KNOWN_INCOMPATIBLE;
    uint64_t no_write = format->read_only_compatible & ~LAYOUT_KNOWN_READ_ONLY_COMPATIBLE;
    if (format->version != LAYOUT_VERSION || incompatible != 0)
        return refuse(opening, -EPROTONOSUPPORT,
                      "the store has format %u with features %#llx, this program knows format %u; "
                      "use a newer lmdbfs",
                      format->version, (unsigned long long)incompatible, LAYOUT_VERSION);
    if (no_write != 0 && !opening->options->read_only)
        return refuse(opening, -EPROTONOSUPPORT,
                      "the store has features %#llx that this program can only read; open it "
                      "read-only or use a newer lmdbfs",
                      (unsigned long long)no_write);
    return 0;
}

static int check_format(const struct opening *opening, struct store *store)
{
    cleanup_view struct view view = {0};
    struct layout_format format;
    int r = view_open_committed(store, &view);
    if (r == 0)
        r = meta_format(store, &view, &format);
    if (r < 0 || memcmp(format.magic, LAYOUT_MAGIC, sizeof(format.magic)) != 0)
        return refuse(opening, -EINVAL, "an LMDB environment, but not a store of lmdbfs");
    if (format.page_size != store->page_size)
        return refuse(opening, -EINVAL, "damaged: page size %u in the format, %zu in " DATA_FILE,
                      format.page_size, store->page_size);
    if (!store->read_only && meta_load(store, &view) < 0)
        return refuse(opening, -EINVAL, "damaged: nothing says which ids were used");
    return check_features(opening, &format);
}

int format_open(const struct opening *opening, struct store *store, bool fresh)
{
    bool make = fresh && opening->options->create && !store->read_only;
    if (fresh && !make)
        return refuse(opening, -EINVAL,
                      "an empty LMDB environment: not a store of lmdbfs, or one whose making was "
                      "interrupted; \"lmdbfs import\" or \"lmdbfs mount\" finishes it");
    int r = make ? make_format(store) : open_tables(store);
    if (r == -ENOENT)
        return refuse(opening, -EINVAL, "an LMDB environment, but not a store of lmdbfs");
    if (r < 0)
        return refuse(opening, r, "cannot %s the store: %s", make ? "make" : "read", strerror(-r));
    return check_format(opening, store);
}
