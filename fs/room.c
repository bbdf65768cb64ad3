/* SPDX-License-Identifier: BSD-2-Clause */
#include "room.h"

#include <inttypes.h>
#include <stdio.h>

#include "store/util.h"

/* How much of the memory that is available may be filled. */
#define MEMORY_PART 8

/* Kernel memory per name and file, bytes, about (measured: 1.15 KB of slab). */
#define NAME_BYTES 2048

/* A store of larger records than this, bytes, in the mean, is not one of small files. */
#define SMALL_RECORD ((uint64_t)64 << 10)

static void close_file(FILE **file)
{
    if (*file != NULL)
        fclose(*file);
}

/* Bytes that programs could get without swapping; 0 if that can't be found out. */
static uint64_t memory_available(void)
{
    cleanup(close_file) FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    uint64_t kib;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            return kib << 10;
    return 0;
}

bool room_for_names(struct store *store)
{
    struct store_stat stat;
    return store_stat(store, false, &stat) == 0 &&
           stat.records * NAME_BYTES <= memory_available() / MEMORY_PART;
}

bool room_for_all(struct store *store)
{
    struct store_stat stat;
    return store_stat(store, false, &stat) == 0 &&
           stat.file_bytes + stat.records * NAME_BYTES <= memory_available() / MEMORY_PART &&
           stat.file_bytes <= stat.records * SMALL_RECORD;
}
