/* SPDX-License-Identifier: BSD-2-Clause */
#include "memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "record.h"

/* Bytes of this process in memory from which on the map's pages are given back. */
#define RESIDENT_MAX ((size_t)64 << 20)

/* LMDB doesn't tell where its map is; the kernel does, for an address in it. */
static void find_map(struct memory *memory, uintptr_t inside)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t start, end;
    *memory = (struct memory){0};
    while (maps != NULL && fscanf(maps, "%" SCNxPTR "-%" SCNxPTR "%*[^\n]", &start, &end) == 2) {
        if (inside < start || inside >= end)
            continue;
        *memory = (struct memory){start, end};
        break;
    }
    if (maps != NULL)
        fclose(maps);
}

/* Bytes that are in memory for this process now, its own and mapped ones. */
static size_t resident(void)
{
    size_t all = 0, pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm == NULL || fscanf(statm, "%zu %zu", &all, &pages) != 2)
        pages = 0;
    if (statm != NULL)
        fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

void memory_give_back(struct memory *memory, const void *inside)
{
    uintptr_t at = (uintptr_t)inside;
    if (resident() <= RESIDENT_MAX)
        return;
    if (at < memory->start || at >= memory->end) /* the first time, or it was moved to grow */
        find_map(memory, at);
    if (memory->end > 0)
        (void)madvise((void *)memory->start, memory->end - memory->start, MADV_DONTNEED);
}

void memory_trim(struct memory *memory, struct store *store)
{
    cleanup_view struct view view = {0};
    struct layout_record record;
    MDB_val payload;
    if (resident() > RESIDENT_MAX && view_open_committed(store, &view) == 0 &&
        record_get(store, &view, STORE_ROOT_ID, &record, &payload) == 0)
        memory_give_back(memory, payload.mv_data);
}
