/* SPDX-License-Identifier: BSD-2-Clause */
#include "commit.h"

#include <stdatomic.h>

#include "ingest.h"
#include "keeper.h"
#include "meta.h"
#include "orphan.h"
#include "record.h"
#include "staging.h"

/* A sealed file whose bytes are in the staging area. */
struct commit_file {
    uint64_t id;
    uint64_t content; /* id of its content */
    uint64_t size;    /* bytes */
    uint8_t hash[16];
    bool large;   /* it was ingested on its own */
    bool orphan;  /* the content is in the tables, with nobody leading to it */
    bool removed; /* in place of a record: only its host file is to be removed */
};

/* --------------------------------------------------------------- what there is -- */

static uint64_t id_of(const struct layer_change *change)
{
    uint64_t big;
    memcpy(&big, change->key.mv_data, sizeof(big));
    return be64toh(big);
}

/* The record of a change in table "records"; false: it was removed. */
static bool record_of(const struct layer_change *change, struct layout_record *record)
{
    if (!change->removed)
        memcpy(record, change->value.mv_data, sizeof(*record));
    return !change->removed;
}

static int add(struct commit *commit, struct commit_file file)
{
    int r = make_room(&commit->files, &commit->room, commit->count, sizeof(file));
    if (r == 0)
        commit->files[commit->count++] = file;
    return r;
}

/* List the files; make durable what unsealed ones have. */
static int look(struct commit *commit, const struct layer *layer)
{
    struct store *store = commit->store;
    struct layer_change *change = layer_first(layer, store->tables.records);
    bool arrived = false;
    int r = 0;
    for (; change != NULL; change = layer_next(change)) {
        struct layout_record record;
        uint64_t id = id_of(change);
        if (!record_of(change, &record))
            continue;
        if (record.flags & RECORD_FINAL)
            r = add(commit, (struct commit_file){.id = id, .size = record.size});
        else if (record.flags & RECORD_HOSTED)
            r = add(commit, (struct commit_file){.id = id, .removed = true});
        else if ((record.flags & RECORD_ARRIVED) && record.nlink > 0) {
            r = staging_sync_bytes(store, id, false); /* with its times */
            arrived = true;
        }
        if (r < 0)
            return r;
    }
    return arrived ? staging_sync_names(store) : 0;
}

static struct commit_file *file_of(const struct commit *commit, uint64_t id)
{
    size_t low = 0, high = commit->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (commit->files[middle].id == id)
            return &commit->files[middle];
        if (commit->files[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* -------------------------------------------------------------------- contents -- */

static int ingest_large(struct commit *commit, struct commit_file *file)
{
    struct payload payload;
    int r = staging_payload(commit->store, file->id, &payload);
    if (r == 0 && payload.size != file->size)
        r = -EIO;
    if (r == 0)
        r = ingest_content(commit->store, &payload, NULL, NULL, &file->content, file->hash);
    staging_payload_done(&payload);
    file->large = file->orphan = r == 0;
    return r;
}

static int write_small(struct commit *commit, struct view *view, struct commit_file *file,
                       XXH3_state_t *hash)
{
    struct payload payload;
    uint64_t next;
    int r = staging_payload(commit->store, file->id, &payload);
    if (r == 0 && payload.size != file->size)
        r = -EIO;
    XXH3_128bits_reset(hash);
    if (r == 0)
        r = content_write(commit->store, view, file->content, &payload, 0, hash, &next);
    hash_finish(hash, file->hash);
    staging_payload_done(&payload);
    return r;
}

/* ----------------------------------------------------------------- transactions -- */

/* One of the transactions that a commit takes. */
struct part {
    struct commit *commit;
    struct commit_file *files;
    size_t count;
    size_t bytes;
    const struct layer *layer; /* in the last one; NULL: not yet */
    XXH3_state_t *hash;
};

/* Its bytes are in the extents now. */
static void lead_to(struct layout_record *record, const struct commit_file *file)
{
    record->place = LAYOUT_EXTENTS;
    record->link = file->content;
    memcpy(record->hash, file->hash, sizeof(record->hash));
}

static int apply_record(struct commit *commit, struct view *view, const struct layer_change *change)
{
    struct store *store = commit->store;
    struct layout_record record;
    const char *payload = (const char *)change->value.mv_data + sizeof(record);
    uint64_t id = id_of(change);
    if (!record_of(change, &record)) {
        int r = record_remove(store, view, id);
        return r == -ENOENT ? 0 : r;
    }
    int r = 0;
    if (record.flags & RECORD_FINAL) {
        const struct commit_file *file = file_of(commit, id);
        lead_to(&record, file);
        r = content_enter(store, view, file->content, file->size, file->hash);
        if (r == 0 && file->orphan)
            r = orphan_remove(store, view, file->content);
    }
    record.flags &= (uint8_t)~RECORD_PENDING;
    if (r < 0)
        return r;
    /* Ids only grow: a new record is nearly always the last one. */
    r = record_add(store, view, id, &record, payload);
    return r == -EEXIST ? record_replace(store, view, id, &record, payload) : r;
}

static int apply_other(struct view *view, const struct layer_change *change)
{
    void *value;
    int r = change->removed
                ? view_remove(view, change->table, &change->key)
                : view_put(view, change->table, &change->key, change->value.mv_size, &value);
    if (r == 0 && !change->removed)
        memcpy(value, change->value.mv_data, change->value.mv_size);
    return r == -ENOENT ? 0 : r;
}

static int apply(struct commit *commit, struct view *view, const struct layer *layer)
{
    struct layer_change *change;
    int r = 0;
    layer_each(change, layer)
    {
        r = change->table == commit->store->tables.records ? apply_record(commit, view, change)
                                                           : apply_other(view, change);
        if (r < 0)
            break;
    }
    return r;
}

static int write_part(struct view *view, void *arg)
{
    struct part *part = arg;
    struct store *store = part->commit->store;
    int r = 0;
    for (size_t i = 0; i < part->count && r == 0; i++) {
        struct commit_file *file = &part->files[i];
        if (file->large || file->removed)
            continue;
        r = write_small(part->commit, view, file, part->hash);
        if (r == 0 && part->layer == NULL)
            r = orphan_add(store, view, file->content, LAYOUT_ORPHAN_CONTENT);
    }
    return r == 0 && part->layer != NULL ? apply(part->commit, view, part->layer) : r;
}

static int run_part(struct part *part)
{
    struct store *store = part->commit->store;
    int r = store_room_promised(store, part->bytes);
    if (r == 0)
        r = store_transact(store, write_part, part, part->bytes);
    for (size_t i = 0; i < part->count && r == 0; i++)
        part->files[i].orphan |= part->layer == NULL && part->files[i].content != 0;
    return r;
}

/* About what a small file's content takes. */
static size_t bytes_of(const struct store *store, const struct commit_file *file)
{
    return file->large || file->removed ? 0 : file->size + 2 * store->page_size;
}

static int run_parts(struct commit *commit, const struct layer *layer, XXH3_state_t *hash)
{
    struct store *store = commit->store;
    struct part part = {.commit = commit, .files = commit->files, .hash = hash};
    int r = 0;
    for (size_t i = 0; i < commit->count && r == 0; i++) {
        struct commit_file *file = &commit->files[i];
        if (file->size > content_step(store) / 2)
            r = ingest_large(commit, file);
        else if (!file->removed)
            file->content = meta_new_ids(store, 1);
        size_t bytes = bytes_of(store, file);
        if (r == 0 && part.bytes + bytes + layer->bytes > store->transaction_max &&
            part.count > 0) {
            r = run_part(&part);
            part.files = file;
            part.count = part.bytes = 0;
        }
        part.count++;
        part.bytes += bytes;
    }
    part.layer = layer;
    part.bytes += layer->bytes;
    return r < 0 ? r : run_part(&part);
}

/* ------------------------------------------------------------------------- all -- */

/* The contents of a commit that failed. */
static void abandon(struct commit *commit)
{
    for (size_t i = 0; i < commit->count; i++)
        if (commit->files[i].orphan)
            ingest_abandon(commit->store, commit->files[i].content);
}

int commit_run(struct commit *commit, const struct layer *layer)
{
    cleanup(cleanup_hash_p) XXH3_state_t *hash = XXH3_createState();
    if (hash == NULL)
        return -ENOMEM;
    int r = look(commit, layer);
    if (r == 0)
        r = run_parts(commit, layer, hash);
    if (r < 0)
        abandon(commit);
    return r;
}

void commit_settle(struct commit *commit, struct layer *newer)
{
    struct layer_change *change = layer_first(newer, commit->store->tables.records);
    for (; change != NULL; change = layer_next(change)) {
        struct layout_record record;
        if (!record_of(change, &record) || (record.flags & RECORD_PENDING) == 0)
            continue;
        const struct commit_file *file = file_of(commit, id_of(change));
        if (file == NULL)
            continue;
        if (record.flags & RECORD_FINAL)
            lead_to(&record, file);
        record.flags &= (uint8_t) ~(RECORD_FINAL | RECORD_HOSTED);
        memcpy(change->value.mv_data, &record, sizeof(record));
    }
}

/* A content that nobody leads to any more, now that this is committed. */
static bool is_cleared(const struct layer_change *change)
{
    return !change->removed && *(const uint8_t *)change->value.mv_data == LAYOUT_ORPHAN_CONTENT;
}

/* They were replaced or removed meanwhile, so reap() has passed them over. */
static void reap_replaced(struct commit *commit)
{
    for (size_t i = 0; i < commit->count; i++) {
        cleanup_view struct view view = {0};
        uint64_t id = commit->files[i].id;
        if (commit->files[i].removed)
            continue;
        if (view_open(commit->store, &view) == 0 && orphan_get(commit->store, &view, id) > 0)
            keeper_reap(commit->store->keeper, id);
    }
}

static void remove_bytes(struct store *store, uint64_t id)
{
    int r = staging_remove(store, id);
    if (r < 0)
        store_warn(store, "cannot remove staging file %016llx, a later start will: %s",
                   (unsigned long long)id, strerror(-r));
}

void commit_clean(struct commit *commit, const struct layer *layer)
{
    struct store *store = commit->store;
    for (size_t i = 0; i < commit->count; i++) {
        const struct commit_file *file = &commit->files[i];
        remove_bytes(store, file->id);
        if (!file->removed)
            atomic_fetch_sub(&store->promised, content_cost(store, file->size));
    }
    struct layer_change *change = layer_first(layer, store->tables.records);
    for (; change != NULL; change = layer_next(change))
        if (change->removed)
            remove_bytes(store, id_of(change));
    for (change = layer_first(layer, store->tables.orphans); change != NULL;
         change = layer_next(change))
        if (is_cleared(change))
            keeper_reap(store->keeper, id_of(change));
    reap_replaced(commit);
    (void)store_room_keep(store); /* which is less by now */
}

void commit_free(struct commit *commit)
{
    free(commit->files);
}
