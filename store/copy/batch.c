/* SPDX-License-Identifier: BSD-2-Clause */
#include "batch.h"

#include "extent.h"
#include "ingest.h"
#include "meta.h"
#include "orphan.h"
#include "reap.h"
#include "tree.h"

/* Items in one batch: bounds its memory where files are tiny. */
#define ITEMS_MAX 8192

int batch_init(struct batch *batch, struct store *store, size_t most)
{
    *batch = (struct batch){.store = store, .most = most};
    batch->items = calloc(ITEMS_MAX, sizeof(*batch->items));
    /* A name, its item and key come on top of the payload. */
    batch->arena = malloc(most + BATCH_PAYLOAD_MAX);
    batch->hash = XXH3_createState();
    return batch->items == NULL || batch->arena == NULL || batch->hash == NULL ? -ENOMEM : 0;
}

void batch_free(struct batch *batch)
{
    if (batch->items != NULL)
        batch_clear(batch);
    free(batch->items);
    free(batch->arena);
    XXH3_freeState(batch->hash);
    *batch = (struct batch){0};
}

/* ------------------------------------------------------------------ items -- */

/* About what an item will take in data.mdb, in bytes. */
static size_t cost(const struct batch *batch, size_t name_length, size_t payload_size)
{
    size_t page = batch->store->page_size;
    size_t names = sizeof(struct layout_entry_key) + name_length + sizeof(struct layout_entry);
    size_t record = sizeof(struct layout_record) + sizeof(uint64_t) + 2 * LAYOUT_NODE_HEADER;
    size_t payload = payload_size <= batch->store->inline_max
                         ? payload_size
                         : page + (payload_size + page - 1) / page * page;
    return names + record + payload;
}

struct batch_item *batch_add(struct batch *batch, enum batch_kind kind, struct walk_dir *parent,
                             const char *name, size_t payload_size)
{
    size_t length = strlen(name);
    size_t bytes = cost(batch, length, payload_size);
    if (batch->count > 0 && (batch->count == ITEMS_MAX || batch->bytes + bytes > batch->most))
        return NULL;

    char *start = batch->arena + batch->used;
    struct batch_item *item = &batch->items[batch->count++];
    *item = (struct batch_item){
        .kind = kind,
        .parent = walk_hold(parent),
        .name = memcpy(start, name, length + 1),
        .payload = start + length + 1,
    };
    batch->used += length + 1 + payload_size;
    batch->bytes += bytes;
    batch->ids += kind == BATCH_LINK ? 0 : payload_size > batch->store->inline_max ? 2 : 1;
    return item;
}

void batch_take_back(struct batch *batch)
{
    struct batch_item *item = &batch->items[--batch->count];
    batch->used = (size_t)(item->name - batch->arena);
    walk_release(item->parent);
    walk_release(item->child);
}

void batch_clear(struct batch *batch)
{
    while (batch->count > 0)
        batch_take_back(batch);
    batch->bytes = batch->used = 0;
    batch->ids = 0;
}

struct layout_record batch_record(const struct stat *st)
{
    struct layout_time now = layout_now();
    return (struct layout_record){
        .mode = (uint16_t)st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .nlink = 1,
        .size = S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
        .atime = layout_time(st->st_atim),
        .mtime = layout_time(st->st_mtim),
        .ctime = now,
        .btime = now,
    };
}

/* ----------------------------------------------------------------- change -- */

struct run {
    struct batch *batch;
    struct store *store;
    struct view *view;
    uint64_t id; /* the next free one */
};

/* The entry that has the item's name already. */
static int existing(const struct run *run, const struct batch_item *item, struct entry *entry)
{
    if (item->parent->fresh)
        return -ENOENT;
    return entry_get(run->store, run->view, item->parent->id, item->name, entry);
}

/* Let the item's name lead to a record, instead of what it led to. */
static int put_name(const struct run *run, struct batch_item *item, uint64_t id)
{
    const struct entry entry = {id, item->record.mode & S_IFMT};
    uint64_t parent = item->parent->id;
    struct entry old;
    int r = existing(run, item, &old);
    if (r == -ENOENT)
        return entry_add(run->store, run->view, parent, item->name, &entry);
    if (r == 0)
        r = tree_drop_link(run->store, run->view, old.id, &item->gone);
    if (r == 0)
        r = entry_put(run->store, run->view, parent, item->name, &entry);
    if (r < 0 || item->gone == 0)
        return r;
    r = reap_at_once(run->store, run->view, item->gone);
    if (r == 0)
        item->gone = 0;
    return r < 0 ? r : 0;
}

static int make_directory(struct run *run, struct batch_item *item)
{
    struct walk_dir *child = item->child;
    item->record.link = item->parent->id;
    child->id = run->id++;
    child->fresh = true;
    int r = record_add(run->store, run->view, child->id, &item->record, NULL);
    return r < 0 ? r : put_name(run, item, child->id);
}

static int put_directory(struct run *run, struct batch_item *item)
{
    struct walk_dir *child = item->child;
    struct layout_record record;
    struct entry old;
    child->failed = item->parent->failed;
    child->fresh = false;
    if (child->failed) {
        item->result = -ECANCELED;
        return 0;
    }
    int r = existing(run, item, &old);
    if (r == -ENOENT)
        return make_directory(run, item);
    child->failed = r == 0 && !S_ISDIR(old.type);
    item->result = child->failed ? -ENOTDIR : 0;
    if (r < 0 || child->failed)
        return r;
    child->id = old.id;
    r = record_get(run->store, run->view, child->id, &record, NULL);
    if (r < 0)
        return r;
    item->record.link = record.link;
    item->record.btime = record.btime;
    return record_update(run->store, run->view, child->id, &item->record);
}

/* The bytes that came with the item, as a content. */
static int put_content(struct run *run, struct batch_item *item)
{
    struct store *store = run->store;
    struct layout_record *record = &item->record;
    struct payload payload = {.bytes = item->payload, .size = record->size};
    uint64_t next;
    record->link = run->id++;
    XXH3_128bits_reset(run->batch->hash);
    int r = content_write(store, run->view, record->link, &payload, 0, run->batch->hash, &next);
    hash_finish(run->batch->hash, record->hash);
    return r < 0 ? r : content_enter(store, run->view, record->link, record->size, record->hash);
}

static int put_payload(struct run *run, struct batch_item *item)
{
    struct layout_record *record = &item->record;
    record->place = LAYOUT_EXTENTS;
    if (item->content != 0) {
        record->link = item->content;
        return ingest_adopt(run->store, run->view, item->content, record->size, record->hash);
    }
    if (record->size > run->store->inline_max)
        return put_content(run, item);
    record->place = LAYOUT_INLINE;
    hash_bytes(item->payload, record->size, record->hash);
    return 0;
}

/* Can't have its name: 0 if it can. */
static int check_name(const struct run *run, struct batch_item *item)
{
    struct entry old;
    item->result = item->parent->failed ? -ECANCELED : 0;
    int r = item->result < 0 ? -ENOENT : existing(run, item, &old);
    if (r == 0 && S_ISDIR(old.type))
        item->result = -EISDIR;
    return r == -ENOENT ? 0 : r;
}

static int put_file(struct run *run, struct batch_item *item)
{
    int r = check_name(run, item);
    /* Its other names may do better, so the record waits for them, as an orphan. */
    bool nameless = item->result < 0;
    if (r < 0 || (nameless && item->shared == NULL))
        return r;
    item->record.nlink = nameless ? 0 : 1;
    r = put_payload(run, item);
    uint64_t id = run->id++;
    if (item->shared != NULL)
        item->shared->id = id;
    if (r == 0)
        r = record_add(run->store, run->view, id, &item->record, item->payload);
    if (r < 0)
        return r;
    return nameless ? orphan_add(run->store, run->view, id, LAYOUT_ORPHAN_RECORD)
                    : put_name(run, item, id);
}

static int put_link(struct run *run, struct batch_item *item)
{
    struct store *store = run->store;
    uint64_t id = item->shared->id;
    struct layout_record record;
    struct entry old;
    int r = check_name(run, item);
    if (r < 0 || item->result < 0)
        return r;
    if (existing(run, item, &old) == 0 && old.id == id)
        return 0;
    r = record_get(store, run->view, id, &record, NULL);
    if (r < 0)
        return r;
    item->record.mode = record.mode;
    record.nlink++;
    r = record_update(store, run->view, id, &record);
    if (r == 0)
        r = orphan_remove(store, run->view, id);
    return r < 0 ? r : put_name(run, item, id);
}

static int change(struct view *view, void *arg)
{
    struct batch *batch = arg;
    struct run run = {.batch = batch, .store = batch->store, .view = view};
    run.id = meta_new_ids(batch->store, batch->ids);
    int r = 0;
    for (size_t i = 0; i < batch->count && r == 0; i++) {
        struct batch_item *item = &batch->items[i];
        item->result = 0;
        item->gone = 0;
        r = item->kind == BATCH_DIRECTORY ? put_directory(&run, item)
            : item->kind == BATCH_FILE    ? put_file(&run, item)
                                          : put_link(&run, item);
    }
    return r;
}

int batch_run(struct batch *batch)
{
    if (batch->count == 0)
        return 0;
    int r = ingest_room(batch->store, batch->bytes);
    return r < 0 ? r : store_transact_alone(batch->store, change, batch, batch->bytes);
}
