/* SPDX-License-Identifier: BSD-2-Clause */
#include "naming.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "entry.h"
#include "record.h"
#include "scan.h"

/* More levels than this are a circle, or no help to the reader. */
#define LEVELS_MAX 4096

struct wanted {
    uint64_t id;
    char name[STORE_NAME_MAX + 1];
};

static bool compare_name(void *arg, const char *name, const struct entry *entry, uint64_t next)
{
    (void)next;
    struct wanted *wanted = arg;
    if (entry->id != wanted->id)
        return true;
    strcpy(wanted->name, name);
    return false;
}

/* The name that leads to `id` in the directory that the record names as its parent. -ENOENT. */
static int name_of_directory(struct store *store, uint64_t id, uint64_t *parent,
                             char name[STORE_NAME_MAX + 1])
{
    cleanup_view struct view view = {0};
    struct layout_record record;
    struct wanted wanted = {.id = id};
    int r = view_open_committed(store, &view);
    if (r == 0)
        r = record_get(store, &view, id, &record, NULL);
    if (r == 0 && !S_ISDIR(record.mode))
        r = -ENOTDIR;
    if (r == 0)
        r = entry_list(store, &view, record.link, 0, compare_name, &wanted);
    if (r < 0)
        return r;
    *parent = record.link;
    strcpy(name, wanted.name);
    return name[0] == '\0' ? -ENOENT : 0;
}

/* "front/name", or "front" */
static char *join(char *front, const char *name)
{
    char *path = NULL;
    if (front == NULL || name == NULL)
        return front;
    bool slash = strcmp(front, "/") == 0;
    if (asprintf(&path, "%s/%s", slash ? "" : front, name) < 0)
        path = NULL;
    free(front);
    return path;
}

/* A name for an id that needs no look at the store. */
static char *plain_path(uint64_t id)
{
    char *path = NULL;
    if (id == STORE_ROOT_ID)
        return strdup("/");
    if (id == STORE_STAGING_ID)
        return strdup("/" STORE_CONTROL_NAME "/" STORE_STAGING_NAME);
    return asprintf(&path, "record %" PRIu64, id) < 0 ? NULL : path;
}

/* Collects "/name" from the end of `path` to its start, where the directory has a known name. */
static char *directory_path(struct store *store, uint64_t id)
{
    cleanup_free char *below = strdup("");
    uint64_t parent;
    for (int level = 0; level < LEVELS_MAX && below != NULL; level++) {
        char name[STORE_NAME_MAX + 1];
        if (id == STORE_ROOT_ID || id == STORE_STAGING_ID ||
            name_of_directory(store, id, &parent, name) < 0)
            break;
        char *longer = NULL;
        if (asprintf(&longer, "/%s%s", name, below) < 0)
            return NULL;
        free(below);
        below = longer;
        id = parent;
    }
    char *front = plain_path(id);
    return below == NULL || below[0] == '\0' ? front : join(front, below + 1);
}

char *naming_path_in(struct store *store, uint64_t directory, const char *name)
{
    return join(directory_path(store, directory), name);
}

/* Search all entries. */
static int find_name(struct store *store, uint64_t id, uint64_t *parent,
                     char name[STORE_NAME_MAX + 1])
{
    cleanup_scan struct scan scan;
    MDB_val k, v;
    int r;
    scan_start(&scan, store, store->tables.entries);
    while ((r = scan_next(&scan, &k, &v)) > 0) {
        struct layout_entry entry;
        struct layout_entry_key key;
        if (k.mv_size <= sizeof(key) || k.mv_size > sizeof(key) + STORE_NAME_MAX ||
            v.mv_size != sizeof(entry))
            continue;
        memcpy(&entry, v.mv_data, sizeof(entry));
        if (entry.id != id)
            continue;
        size_t length = k.mv_size - sizeof(key);
        memcpy(&key, k.mv_data, sizeof(key));
        memcpy(name, (char *)k.mv_data + sizeof(key), length);
        name[length] = '\0';
        *parent = be64toh(key.parent);
        return 0;
    }
    return r < 0 ? r : -ENOENT;
}

static bool is_directory(struct store *store, uint64_t id)
{
    cleanup_view struct view view = {0};
    struct layout_record record;
    return view_open_committed(store, &view) == 0 &&
           record_get(store, &view, id, &record, NULL) == 0 && S_ISDIR(record.mode);
}

char *naming_path(struct store *store, uint64_t id, unsigned *searches)
{
    char name[STORE_NAME_MAX + 1];
    uint64_t parent;
    if (is_directory(store, id))
        return directory_path(store, id);
    if (*searches == 0)
        return plain_path(id);
    --*searches;
    return find_name(store, id, &parent, name) < 0 ? plain_path(id)
                                                   : naming_path_in(store, parent, name);
}
