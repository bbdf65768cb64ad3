/* SPDX-License-Identifier: BSD-2-Clause */
#include "scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

/* Entries in one transaction: a millisecond or so. */
#define STEPS 1024

/* Bytes of this process in memory from which on the map's pages are given back. */
#define RESIDENT_MAX ((size_t)64 << 20)
#define GIVE_BACK_EVERY 16 /* transactions: asking takes longer than many of them */

void scan_start(struct scan *scan, struct store *store, MDB_dbi table)
{
    *scan = (struct scan){.store = store, .table = table};
}

/* LMDB doesn't tell where its map is; the kernel does, for an address in it. */
static void find_map(struct scan *scan, uintptr_t inside)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t start, end;
    scan->map_start = scan->map_end = 0;
    while (maps != NULL && fscanf(maps, "%" SCNxPTR "-%" SCNxPTR "%*[^\n]", &start, &end) == 2) {
        if (inside < start || inside >= end)
            continue;
        scan->map_start = start;
        scan->map_end = end;
        break;
    }
    if (maps != NULL)
        fclose(maps);
}

/* Pages that are in memory for this process now, its own and mapped ones. */
static size_t resident_pages(void)
{
    size_t all = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm == NULL || fscanf(statm, "%zu %zu", &all, &resident) != 2)
        resident = 0;
    if (statm != NULL)
        fclose(statm);
    return resident;
}

/* Unmap what was touched, and the pages that the kernel has mapped around each; all stays in the
 * page cache as long as that pleases. Takes about 1 ms per 2 GiB of map, so not always. */
static void give_back(struct scan *scan)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (scan->pauses++ % GIVE_BACK_EVERY == 0 && scan->map_end > 0 &&
        resident_pages() * page > RESIDENT_MAX)
        (void)madvise((void *)scan->map_start, scan->map_end - scan->map_start, MADV_DONTNEED);
}

void scan_pause(struct scan *scan)
{
    if (scan->cursor != NULL)
        mdb_cursor_close(scan->cursor);
    scan->cursor = NULL;
    if (scan->read.txn != NULL)
        give_back(scan);
    env_read_done(&scan->read);
}

/* Open a transaction and stand on the first entry behind the present key. */
static int resume(struct scan *scan, MDB_val *key, MDB_val *value)
{
    int r = env_read(scan->store->env, &scan->read);
    if (r < 0)
        return r;
    int rc = mdb_cursor_open(scan->read.txn, scan->table, &scan->cursor);
    if (rc != 0) {
        scan->cursor = NULL;
        return lmdb_error(rc);
    }
    scan->steps = STEPS;
    if (scan->key_size == 0)
        return lmdb_error(mdb_cursor_get(scan->cursor, key, value, MDB_FIRST));
    *key = (MDB_val){scan->key_size, scan->key};
    rc = mdb_cursor_get(scan->cursor, key, value, MDB_SET_RANGE);
    if (rc == 0 && key->mv_size == scan->key_size &&
        memcmp(key->mv_data, scan->key, scan->key_size) == 0)
        rc = mdb_cursor_get(scan->cursor, key, value, MDB_NEXT);
    return lmdb_error(rc);
}

/* In a damaged tree the same keys could come again and again. */
static bool goes_on(const struct scan *scan, const MDB_val *key)
{
    size_t common = key->mv_size < scan->key_size ? key->mv_size : scan->key_size;
    int order = memcmp(key->mv_data, scan->key, common);
    return order > 0 || (order == 0 && key->mv_size > scan->key_size);
}

int scan_next(struct scan *scan, MDB_val *key, MDB_val *value)
{
    if (scan->steps == 0)
        scan_pause(scan);
    int r = scan->cursor == NULL ? resume(scan, key, value)
                                 : lmdb_error(mdb_cursor_get(scan->cursor, key, value, MDB_NEXT));
    if (r < 0) {
        scan_pause(scan);
        return r == -ENOENT ? 0 : r;
    }
    scan->steps--;
    if (key->mv_size == 0 || key->mv_size > sizeof(scan->key) || !goes_on(scan, key))
        return -EIO;
    memcpy(scan->key, key->mv_data, key->mv_size);
    scan->key_size = key->mv_size;
    uintptr_t at = (uintptr_t)value->mv_data;
    if (at < scan->map_start || at >= scan->map_end) /* at the start, or it was moved to grow */
        find_map(scan, at);
    return 1;
}
