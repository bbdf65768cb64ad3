/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batch.h: many new names in one change: directories, and files with their bytes.
 *
 * Unlike the calls of store.h, a batch sets attributes as they are given (nothing is inherited from
 * a set-gid directory) and leaves the times of directories alone, so that a copy can have those of
 * its original. A name that exists is replaced; a directory that exists gets the
 * attributes and keeps its names. A directory in place of something else, or something else in
 * place of a directory, is refused: that item alone fails.
 *
 * Items run in the order they were added, which is best the order of their keys. Not thread-safe.
 */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include <sys/stat.h>
#include <xxhash.h>

#include "private.h"
#include "shared.h"
#include "walk.h"

enum batch_kind {
    BATCH_DIRECTORY, /* its record goes to child->id, child->fresh, or child->failed is set */
    BATCH_FILE,      /* or a symbolic link */
    BATCH_LINK,      /* another name of `shared`, an item before which was a BATCH_FILE */
};

struct batch_item {
    enum batch_kind kind;
    struct walk_dir *parent; /* where the name goes; a reference */
    struct walk_dir *child;  /* BATCH_DIRECTORY; a reference */
    char *name;
    struct layout_record record;
    char *payload;         /* record.size bytes, to be filled in; NULL if `content` has them */
    uint64_t content;      /* of ingest_content(), to be adopted */
    struct shared *shared; /* whose id it sets or uses; NULL: it has only this name */

    /* What became of it: */
    int result;    /* -EISDIR, -ENOTDIR: see above; -ECANCELED: there is no parent */
    uint64_t gone; /* an orphan for reap_unless_held() */
};

/* The largest payload that an item can bring along, in bytes. */
#define BATCH_PAYLOAD_MAX ((size_t)1 << 20)

struct batch {
    struct store *store;
    size_t most; /* bytes, as given */
    struct batch_item *items;
    size_t count;
    size_t bytes; /* that the change will write */
    uint64_t ids; /* that it will need */
    char *arena;  /* names and payloads */
    size_t used;
    XXH3_state_t *hash;
};

/* `most`: bytes that one change shall write, at most WRITER_BYTES_MAX. An item that alone is larger
 * is no less welcome. About so much memory is taken, and BATCH_PAYLOAD_MAX. */
int batch_init(struct batch *batch, struct store *store, size_t most);
void batch_free(struct batch *batch);

/*
 * A new item, to be completed by the caller: record, content, child, shared. `payload_size` bytes
 * wait to be filled in at item->payload. NULL: the batch is full. An empty batch has room for any
 * item.
 */
struct batch_item *batch_add(struct batch *batch, enum batch_kind kind, struct walk_dir *parent,
                             const char *name, size_t payload_size);
/* Take back the item that was added last. */
void batch_take_back(struct batch *batch);

/* Make it so, durably. Any thread. On failure nothing of it stays. */
int batch_run(struct batch *batch);

/* The record of a new file with the attributes of a host file. */
struct layout_record batch_record(const struct stat *st);

/* Let go of the items. */
void batch_clear(struct batch *batch);

#endif
