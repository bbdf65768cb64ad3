/* SPDX-License-Identifier: BSD-2-Clause */
#include "room.h"

#include <inttypes.h>
#include <stdio.h>

#include "memory.h"
#include "mount.h"
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

/* Bytes that a lease takes, at most, and how much of the room for leases may be filled. */
#define LEASE_BYTES 16
#define LEASES_PART 2

static bool room_for(const struct mount *mount, const struct store_stat *stat, uint64_t bytes)
{
    size_t leases = memory_divide(mount->options->memory).leases; /* 0: no limit */
    return bytes + stat->records * NAME_BYTES <= memory_available() / MEMORY_PART &&
           (leases == 0 || stat->records * LEASE_BYTES <= leases / LEASES_PART);
}

bool room_for_names(struct mount *mount)
{
    struct store_stat stat;
    return store_stat(mount->store, false, &stat) == 0 && room_for(mount, &stat, 0);
}

bool room_for_all(struct mount *mount)
{
    struct store_stat stat;
    return store_stat(mount->store, false, &stat) == 0 && room_for(mount, &stat, stat.file_bytes) &&
           stat.file_bytes <= stat.records * SMALL_RECORD;
}
