/* SPDX-License-Identifier: BSD-2-Clause */
/* stat.c: figures about the store. */
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "lease.h"
#include "meta.h"
#include "pending.h"
#include "record.h"
#include "scan.h"
#include "staged.h"
#include "staging.h"
#include "verify.h"

static int count_free(struct view *view, uint64_t *pages)
{
    MDB_cursor *free_pages;
    MDB_val k, v;
    int rc = mdb_cursor_open(view->txn, ENV_FREE_TABLE, &free_pages);
    if (rc != 0)
        return lmdb_error(rc);
    *pages = 0;
    while ((rc = guard_cursor_get(free_pages, &k, &v, MDB_NEXT)) == 0) {
        size_t n;
        memcpy(&n, v.mv_data, sizeof(n));
        *pages += n;
    }
    mdb_cursor_close(free_pages);
    return rc == MDB_NOTFOUND ? 0 : lmdb_error(rc);
}

static uint64_t table_entries(struct view *view, MDB_dbi table)
{
    MDB_stat stat = {0};
    (void)mdb_stat(view->txn, table, &stat);
    return stat.ms_entries;
}

static int count_tables(struct store *store, struct store_stat *stat)
{
    cleanup_view struct view view = {0};
    struct layout_format format;
    int r = view_open_committed(store, &view);
    if (r == 0)
        r = meta_format(store, &view, &format);
    if (r == 0)
        r = count_free(&view, &stat->free_pages);
    if (r < 0)
        return r;
    stat->format = format.version;
    stat->features[0] = format.compatible;
    stat->features[1] = format.read_only_compatible;
    stat->features[2] = format.incompatible;
    stat->records = table_entries(&view, store->tables.records);
    stat->extents = table_entries(&view, store->tables.extents);
    stat->contents = table_entries(&view, store->tables.contents);
    stat->orphans = table_entries(&view, store->tables.orphans);
    return 0;
}

static void count_record(struct store *store, uint64_t id, const struct layout_record *record,
                         struct store_stat *stat)
{
    stat->directories += S_ISDIR(record->mode);
    stat->symlinks += S_ISLNK(record->mode);
    if (!S_ISREG(record->mode))
        return;
    struct store_attr attr = {.id = id, .size = record->size};
    if (record->place == LAYOUT_STAGED)
        (void)staging_attr(store, &attr);
    stat->files++;
    stat->bytes += attr.size;
    stat->inline_files += record->place == LAYOUT_INLINE;
    stat->extent_files += record->place == LAYOUT_EXTENTS;
    stat->unsealed_files += record->place == LAYOUT_STAGED;
}

static int count_records(struct store *store, struct store_stat *stat)
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, store, store->tables.records);
    while ((r = scan_next(&scan, &k, &v)) > 0) {
        struct layout_record record;
        uint64_t big;
        if (k.mv_size != sizeof(big))
            return -EIO;
        memcpy(&big, k.mv_data, sizeof(big));
        r = record_get(store, &scan.view, be64toh(big), &record, NULL);
        if (r < 0)
            return r;
        count_record(store, be64toh(big), &record, stat);
    }
    return r;
}

int store_stat(struct store *store, bool deep, struct store_stat *stat)
{
    *stat = (struct store_stat){.page_size = (uint32_t)store->page_size};
    struct statvfs fs;
    struct stat file;
    if (fstatvfs(store->dir_fd, &fs) < 0 || fstat(env_fd(store->env), &file) < 0)
        return -errno;
    stat->disk_total = fs.f_blocks * fs.f_frsize;
    stat->disk_free = fs.f_bfree * fs.f_frsize;
    stat->disk_available = fs.f_bavail * fs.f_frsize;
    stat->file_bytes = (uint64_t)file.st_size;
    stat->total_pages = stat->file_bytes / store->page_size;
    stat->map_bytes = env_map_size(store->env);
    verify_stat(store, stat);
    if (!store->read_only) {
        stat->leases = leases_count(store->leases);
        stat->lease_bytes = leases_bytes(store->leases);
        stat->commits = writer_commits(store->writer);
        struct pending_stat pending;
        pending_stat(store->pending, &pending);
        stat->changes = pending.changes;
        stat->pending = pending.changes - pending.committed;
        stat->pending_bytes = pending.bytes + staged_bytes(store->staged);
    }
    int r = count_tables(store, stat);
    uint64_t taken = (uint64_t)file.st_blocks * 512;
    uint64_t used = (stat->total_pages - stat->free_pages) * store->page_size;
    stat->reusable_bytes = taken > used ? taken - used : 0;
    return r == 0 && deep ? count_records(store, stat) : r;
}
