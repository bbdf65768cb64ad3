/* SPDX-License-Identifier: BSD-2-Clause */
#include "room.h"

#include "memory.h"
#include "mount.h"

/* How much of the memory that is available may be filled. */
#define MEMORY_PART 8

/* Kernel memory per name and file, bytes, about (measured: 1.15 KB of slab). */
#define NAME_BYTES 2048

/* A store of larger records than this, bytes, in the mean, is not one of small files. */
#define SMALL_RECORD ((uint64_t)64 << 10)

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
