/* SPDX-License-Identifier: BSD-2-Clause */
#include "memory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest buffers are of 1 MiB; more than 16 of a kind at a time serve nobody. */
#define BUFFERS_MOST ((size_t)16 << 20)
#define TRANSACTION_MOST ((size_t)8 << 20)
#define PENDING_MOST ((size_t)4 << 20)

/* malloc(3) raises the first by itself, up to 32 MiB, and then keeps what was freed. */
#define MMAP_FROM (128 << 10)
#define TRIM_FROM (256 << 10)

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

struct memory_share memory_divide(size_t bytes)
{
    /* Of what is given, half is for leases, but not before the rest has what it usually has. */
    size_t fixed = bytes == 0 ? MEMORY_USUAL : bytes / 2;
    if (fixed < MEMORY_USUAL * 3 / 4)
        fixed = MEMORY_USUAL * 3 / 4;
    size_t quarter = fixed / 4;
    struct memory_share share = {
        .transaction = least(quarter / 2, TRANSACTION_MOST),
        .pending = least(quarter / 4, PENDING_MOST),
        .requests = least(quarter, BUFFERS_MOST),
        .answers = least(quarter, BUFFERS_MOST),
    };
    size_t used =
        share.transaction + share.pending + share.requests + share.answers + MEMORY_USUAL / 4;
    if (bytes != 0)
        share.leases = bytes - used;
    return share;
}

void memory_frugal(void)
{
    /* A thread with an arena of its own keeps the holes in it for itself. */
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
    mallopt(M_TRIM_THRESHOLD, TRIM_FROM);
}

/* The figure behind `name` in a file as those of proc(5), in bytes; 0 if there is none. */
static uint64_t read_figure(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    uint64_t kilobytes = 0;
    char line[128];
    while (file != NULL && kilobytes == 0 && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kilobytes = strtoull(line + strlen(name), NULL, 10);
    if (file != NULL)
        fclose(file);
    return kilobytes << 10;
}

uint64_t memory_private(void)
{
    return read_figure("/proc/self/status", "RssAnon:");
}

uint64_t memory_available(void)
{
    return read_figure("/proc/meminfo", "MemAvailable:");
}
