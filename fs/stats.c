/* SPDX-License-Identifier: BSD-2-Clause */
#include "stats.h"

#include <string.h>

#include "backing.h"
#include "memory.h"
#include "mount.h"
#include "store/util.h"

static void print_store(FILE *out, struct store *store)
{
    struct store_stat s;
    if (store_stat(store, false, &s) < 0)
        return; /* what the mount has done can be told nevertheless */
    metrics_print(out, "lmdbfs_store_records", "gauge",
                  "Files of every kind in the store, directories included.", s.records);
    metrics_print(out, "lmdbfs_store_bytes", "gauge", "Size of the store's data.mdb.",
                  s.file_bytes);
    metrics_print(out, "lmdbfs_store_page_bytes", "gauge", "Size of a page of data.mdb.",
                  s.page_size);
    metrics_print(out, "lmdbfs_store_pages", "gauge", "Pages of data.mdb.", s.total_pages);
    metrics_print(out, "lmdbfs_store_free_pages", "gauge", "Pages of data.mdb free for reuse.",
                  s.free_pages);
    metrics_print(out, "lmdbfs_store_map_bytes", "gauge", "Address space reserved for data.mdb.",
                  s.map_bytes);
    metrics_print(out, "lmdbfs_store_extents", "gauge", "Pieces of content outside their records.",
                  s.extents);
    metrics_print(out, "lmdbfs_store_orphans", "gauge",
                  "Records without a name that somebody still has open, or that wait for removal.",
                  s.orphans);
    metrics_print(out, "lmdbfs_store_commits_total", "counter",
                  "Transactions committed since the store was opened.", s.commits);
    metrics_print(out, "lmdbfs_store_disk_available_bytes", "gauge",
                  "Room left on the disk of the store.", s.disk_available);
    metrics_print(out, "lmdbfs_store_damages_total", "counter",
                  "Reads of damaged content since the store was opened.", s.damages);
    metrics_print(out, "lmdbfs_store_verified_total", "counter",
                  "Records and extents compared with their checksum since the store was opened.",
                  s.verified);
    metrics_print(out, "lmdbfs_store_verified_bytes_total", "counter",
                  "Content compared with its checksum since the store was opened.",
                  s.verified_bytes);
    metrics_print(out, "lmdbfs_leases", "gauge", "Records that the kernel holds in its cache.",
                  s.leases);
    metrics_print(out, "lmdbfs_lease_bytes", "gauge", "Memory for the leases.", s.lease_bytes);
}

static void print_memory(FILE *out, const struct mount *mount)
{
    metrics_print(out, "lmdbfs_memory_bytes", "gauge",
                  "Memory that belongs to the daemon alone, file pages not counted.",
                  memory_private());
    metrics_print(out, "lmdbfs_memory_limit_bytes", "gauge",
                  "What -o memory= says, 0 if it was not given.", mount->options->memory);
}

static int make_text(struct mount *mount, char **text, size_t *length)
{
    FILE *out = open_memstream(text, length);
    if (out == NULL)
        return -ENOMEM;
    ways_print(out, &mount->ways);
    metrics_print_all(out, &mount->metrics);
    backings_print(out, mount->backings);
    print_memory(out, mount);
    print_store(out, mount->store);
    return fclose(out) == 0 ? 0 : -ENOMEM;
}

void stats_init(struct stats *stats)
{
    *stats = (struct stats){0};
    pthread_mutex_init(&stats->lock, NULL);
}

void stats_destroy(struct stats *stats)
{
    for (size_t i = 0; i < STATS_READERS; i++)
        free(stats->texts[i].text);
    pthread_mutex_destroy(&stats->lock);
}

/* The reader's text; else the one that was not touched for longest. */
static struct stats_text *slot_of(struct stats *stats, pid_t reader)
{
    struct stats_text *oldest = &stats->texts[0];
    for (size_t i = 0; i < STATS_READERS; i++) {
        struct stats_text *text = &stats->texts[i];
        if (text->text != NULL && text->reader == reader)
            return text;
        if (text->age < oldest->age)
            oldest = text;
    }
    return oldest;
}

ssize_t stats_read(struct mount *mount, pid_t reader, void *buffer, size_t size, off_t offset)
{
    struct stats *stats = &mount->stats;
    with_mutex(&stats->lock);
    struct stats_text *slot = slot_of(stats, reader);
    if (offset == 0 || slot->text == NULL || slot->reader != reader) {
        char *text = NULL;
        size_t length = 0;
        int r = make_text(mount, &text, &length);
        if (r < 0) {
            free(text);
            return r;
        }
        free(slot->text);
        *slot = (struct stats_text){reader, 0, text, length};
    }
    slot->age = ++stats->clock;
    if ((size_t)offset >= slot->length)
        return 0;
    size_t left = slot->length - (size_t)offset;
    size_t count = size < left ? size : left;
    memcpy(buffer, slot->text + offset, count);
    return (ssize_t)count;
}
