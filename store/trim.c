/* SPDX-License-Identifier: BSD-2-Clause */
#include "trim.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "meta.h"

/* LMDB lists its readers as text: process, thread, transaction ("-" for none). */
static int note_reader(const char *line, void *arg)
{
    size_t *oldest = arg;
    int process;
    size_t thread, transaction;
    if (sscanf(line, "%d %zx %zu", &process, &thread, &transaction) == 3 && transaction < *oldest)
        *oldest = transaction;
    return 0;
}

/* Pages from `page` on, `count` of them. */
static int punch(struct store *store, size_t page, size_t count)
{
    int r = fallocate(env_fd(store->env), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(page * store->page_size), (off_t)(count * store->page_size));
    return r < 0 && errno != EOPNOTSUPP ? -errno : 0;
}

/* One entry of LMDB's free list, in pieces of neighbouring pages. */
static int punch_list(struct store *store, const MDB_val *value)
{
    const char *numbers = value->mv_data;
    size_t count, page, first = 0, length = 0;
    memcpy(&count, numbers, sizeof(count));
    if (value->mv_size < (count + 1) * sizeof(count))
        return -EIO;
    int r = 0;
    for (size_t i = 1; i <= count && r == 0; i++) {
        memcpy(&page, numbers + i * sizeof(page), sizeof(page));
        if (length > 0 && page + 1 == first) {
            first = page;
            length++;
            continue;
        }
        if (length > 0)
            r = punch(store, first, length);
        first = page;
        length = 1;
    }
    return r == 0 && length > 0 ? punch(store, first, length) : r;
}

/* 1: readers hold back what the lists from transaction `oldest` to `last` name. */
static int punch_lists(struct store *store, struct view *view, size_t oldest, size_t last)
{
    MDB_cursor *lists;
    int rc = mdb_cursor_open(view->txn, ENV_FREE_TABLE, &lists);
    if (rc != 0)
        return lmdb_error(rc);
    MDB_val k, v;
    int r = 0;
    while (r == 0 && (rc = guard_cursor_get(lists, &k, &v, MDB_NEXT)) == 0) {
        size_t transaction;
        memcpy(&transaction, k.mv_data, sizeof(transaction));
        if (transaction >= oldest) {
            r = transaction < last;
            break;
        }
        r = punch_list(store, &v);
    }
    mdb_cursor_close(lists);
    return r;
}

struct trimming {
    struct store *store;
    bool held_back; /* out */
};

/*
 * In a write transaction that does nothing else: nobody can take a page off the list meanwhile. The
 * list itself LMDB shows to read transactions only. What transaction T freed may still be read by
 * who began before T, and by whoever has to go back to the last but one transaction after a crash:
 * the rule is LMDB's own (mdb.c: mdb_find_oldest).
 */
static int trim_change(struct view *view, void *arg)
{
    struct trimming *trimming = arg;
    struct store *store = trimming->store;
    size_t last = mdb_txn_id(view->txn) - 1, oldest = last;
    int rc = mdb_reader_list(env_lmdb(store->env), note_reader, &oldest);
    if (rc < 0)
        return -EIO;
    cleanup_view struct view lists = {0};
    int r = view_open_committed(store, &lists);
    if (r == 0)
        r = punch_lists(store, &lists, oldest, last);
    trimming->held_back = r == 1;
    return r < 0 ? r : 0;
}

int trim(struct store *store)
{
    uint64_t commits = writer_commits(store->writer);
    if (atomic_exchange(&store->trimmed, commits) == commits)
        return 0;
    /* What the last transaction freed is free to all only after one more. On a full disk it may
     * fail. */
    (void)writer_run(store->writer, meta_renew, store, store->page_size);
    atomic_store(&store->trimmed, writer_commits(store->writer));
    /* More than one transaction may hold, so it has one to itself. */
    struct trimming trimming = {store, false};
    int r = writer_run(store->writer, trim_change, &trimming, WRITER_BYTES_MAX + 1);
    if (r < 0 || !trimming.held_back)
        return r;
    atomic_store(&store->trimmed, UINT64_MAX); /* the next call has something to do */
    return 1;
}
