/* SPDX-License-Identifier: BSD-2-Clause */
#include "stats.h"

#include <string.h>
#include <sys/stat.h>

#include "backing.h"
#include "inbox.h"
#include "memory.h"
#include "mount.h"
#include "node.h"
#include "prewalk.h"
#include "push.h"
#include "store/util.h"

#define NODE_BIT ((uint64_t)1 << 63)

struct stats_text {
    struct stats_text *next;
    uint64_t id;
    uint64_t lookups; /* that the kernel counts */
    char *text;
    size_t length;
};

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
    metrics_print(out, "lmdbfs_store_changes_total", "counter",
                  "Changes of the tree since the store was opened.", s.changes);
    metrics_print(out, "lmdbfs_store_pending", "gauge", "Changes that are not durable yet.",
                  s.pending);
    metrics_print(out, "lmdbfs_store_pending_bytes", "gauge",
                  "Memory for them, and for the bytes of small files.", s.pending_bytes);
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

/* What was done before it was asked for. */
static void print_ahead(FILE *out, const struct mount *mount)
{
    if (mount->push != NULL)
        metrics_print(out, "lmdbfs_pushed_files_total", "counter",
                      "Files whose content was put into the kernel's cache before a READ.",
                      push_count(mount->push));
    if (mount->prewalk != NULL)
        metrics_print(out, "lmdbfs_prewalked_directories_total", "counter",
                      "Directories that were listed before their names were looked up.",
                      prewalk_count(mount->prewalk));
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
    print_ahead(out, mount);
    inbox_print(out, mount->inbox);
    print_store(out, mount->store);
    return fclose(out) == 0 ? 0 : -ENOMEM;
}

void stats_init(struct stats *stats)
{
    *stats = (struct stats){0};
    pthread_mutex_init(&stats->lock, NULL);
}

static void free_text(struct stats_text *text)
{
    free(text->text);
    free(text);
}

void stats_destroy(struct stats *stats)
{
    while (stats->texts != NULL) {
        struct stats_text *text = stats->texts;
        stats->texts = text->next;
        free_text(text);
    }
    pthread_mutex_destroy(&stats->lock);
}

bool stats_is_node(uint64_t id)
{
    return (id & NODE_BIT) != 0;
}

/* Where the text is linked in, or NULL is. With the lock held; there are a few at most. */
static struct stats_text **find(struct stats *stats, uint64_t id)
{
    struct stats_text **at = &stats->texts;
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

/* Owner and times are those of the root. */
static int describe(struct mount *mount, uint64_t id, size_t length, struct store_attr *attr)
{
    int r = node_getattr(mount, STORE_CONTROL_ID, attr);
    attr->id = id;
    attr->mode = attr->full_mode = S_IFREG | 0444;
    attr->size = length;
    return r;
}

int stats_lookup(struct mount *mount, struct store_attr *attr)
{
    struct stats_text *text = calloc(1, sizeof(*text));
    if (text == NULL)
        return -ENOMEM;
    int r = make_text(mount, &text->text, &text->length);
    struct stats *stats = &mount->stats;
    with_mutex(&stats->lock);
    text->id = NODE_BIT | ++stats->last;
    if (r == 0)
        r = describe(mount, text->id, text->length, attr);
    if (r < 0) {
        free_text(text);
        return r;
    }
    text->lookups = 1;
    text->next = stats->texts;
    stats->texts = text;
    return 0;
}

int stats_getattr(struct mount *mount, uint64_t id, struct store_attr *attr)
{
    with_mutex(&mount->stats.lock);
    const struct stats_text *text = *find(&mount->stats, id);
    return text == NULL ? -ENOENT : describe(mount, id, text->length, attr);
}

ssize_t stats_read(struct mount *mount, uint64_t id, void *buffer, size_t size, off_t offset)
{
    with_mutex(&mount->stats.lock);
    const struct stats_text *text = *find(&mount->stats, id);
    if (text == NULL)
        return -ENOENT;
    if ((size_t)offset >= text->length)
        return 0;
    size_t left = text->length - (size_t)offset;
    size_t count = size < left ? size : left;
    memcpy(buffer, text->text + offset, count);
    return (ssize_t)count;
}

void stats_forget(struct mount *mount, uint64_t id, uint64_t count)
{
    with_mutex(&mount->stats.lock);
    struct stats_text **at = find(&mount->stats, id);
    struct stats_text *text = *at;
    if (text == NULL)
        return;
    text->lookups -= count < text->lookups ? count : text->lookups;
    if (text->lookups > 0)
        return;
    *at = text->next;
    free_text(text);
}
