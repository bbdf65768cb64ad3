/* SPDX-License-Identifier: BSD-2-Clause */
#include "seal.h"

#include <sys/stat.h>

#include "ingest.h"
#include "keeper.h"
#include "record.h"
#include "staging.h"

#define BUCKETS 256

struct file {
    uint64_t id;
    unsigned writers;
    bool sealing;
    struct file *next;
};

struct writers {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t sealed;
    struct file *buckets[BUCKETS];
};

struct writers *writers_new(void)
{
    struct writers *writers = calloc(1, sizeof(*writers));
    if (writers != NULL) {
        pthread_mutex_init(&writers->lock, NULL);
        pthread_cond_init(&writers->sealed, NULL);
    }
    return writers;
}

void writers_free(struct writers *writers)
{
    if (writers == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (writers->buckets[i] != NULL) {
            struct file *file = writers->buckets[i];
            writers->buckets[i] = file->next;
            free(file);
        }
    }
    pthread_cond_destroy(&writers->sealed);
    pthread_mutex_destroy(&writers->lock);
    free(writers);
}

/* Where the file is, or would be, linked in. All below with the lock held. */
static struct file **find(struct writers *writers, uint64_t id)
{
    struct file **at = &writers->buckets[id % BUCKETS];
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

/* The file, once nobody is sealing it; NULL if it isn't in the table then. */
static struct file *find_unsealing(struct writers *writers, uint64_t id)
{
    struct file *file;
    while ((file = *find(writers, id)) != NULL && file->sealing)
        pthread_cond_wait(&writers->sealed, &writers->lock);
    return file;
}

static struct file *add(struct writers *writers, uint64_t id)
{
    struct file *file = calloc(1, sizeof(*file));
    if (file != NULL) {
        file->id = id;
        *find(writers, id) = file;
    }
    return file;
}

static void remove_file(struct writers *writers, uint64_t id)
{
    struct file **at = find(writers, id);
    struct file *file = *at;
    *at = file->next;
    free(file);
    pthread_cond_broadcast(&writers->sealed);
}

static int get_record(struct store *store, uint64_t id, struct layout_record *record)
{
    cleanup_read struct env_read read = {0};
    int r = env_read(store->env, &read);
    return r < 0 ? r : record_get(store, read.txn, id, record, NULL);
}

/* ---------------------------------------------------------------- writers -- */

int store_writer_open(struct store *store, uint64_t id)
{
    if (store->read_only)
        return -EROFS;
    with_mutex(&store->writers->lock);
    struct file *file = find_unsealing(store->writers, id);
    if (file == NULL) {
        struct layout_record record;
        int r = get_record(store, id, &record);
        if (r < 0)
            return r;
        if (!S_ISREG(record.mode))
            return S_ISDIR(record.mode) ? -EISDIR : -EINVAL;
        if (record.place != LAYOUT_STAGED && record.size > 0)
            return -EPERM;
        file = add(store->writers, id);
        if (file == NULL)
            return -ENOMEM;
    }
    file->writers++;
    return 0;
}

void store_writer_close(struct store *store, uint64_t id)
{
    if (store->read_only)
        return;
    {
        with_mutex(&store->writers->lock);
        struct file *file = *find(store->writers, id);
        if (file == NULL || --file->writers > 0)
            return;
        struct layout_record record;
        bool seal = get_record(store, id, &record) == 0 && record.place == LAYOUT_STAGED &&
                    (record.flags & LAYOUT_HELD) == 0 && record.nlink > 0;
        if (!seal) {
            remove_file(store->writers, id);
            return;
        }
        file->sealing = true;
    }
    keeper_seal(store->keeper, id);
}

void writers_leave(struct store *store, uint64_t id)
{
    with_mutex(&store->writers->lock);
    if (--(*find(store->writers, id))->writers == 0)
        remove_file(store->writers, id);
}

/* ---------------------------------------------------------------- sealing -- */

static void end(struct store *store, uint64_t id)
{
    with_mutex(&store->writers->lock);
    remove_file(store->writers, id);
}

static void tell_sealed(struct store *store, uint64_t id)
{
    if (store->sealed != NULL)
        store->sealed(store->arg, id);
}

void seal_finish(struct store *store, uint64_t id)
{
    int r = ingest_staged(store, id);
    end(store, id);
    if (r == -ENOENT) /* removed meanwhile */
        return;
    if (r < 0)
        store_warn(store, "cannot seal file %llu, it stays in the staging area: %s",
                   (unsigned long long)id, strerror(-r));
    else
        tell_sealed(store, id);
}

int store_seal(struct store *store, uint64_t id)
{
    if (store->read_only)
        return -EROFS;
    {
        with_mutex(&store->writers->lock);
        struct file *file = find_unsealing(store->writers, id);
        if (file != NULL)
            return -EBUSY;
        struct layout_record record;
        int r = get_record(store, id, &record);
        if (r < 0)
            return r;
        if (record.place != LAYOUT_STAGED)
            return 0;
        file = add(store->writers, id);
        if (file == NULL)
            return -ENOMEM;
        file->sealing = true;
    }
    int r = ingest_staged(store, id);
    end(store, id);
    return r;
}

/* --------------------------------------------------------- a tree of files -- */

struct publish {
    struct store *store;
    uint64_t *ids; /* of the directories still to do, and the files of the present one */
    mode_t *types;
    size_t count, room;
    bool no_memory;
    store_seal_fn *seal; /* may be NULL */
    void *arg;
};

static bool note(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                 const struct store_attr *attr)
{
    (void)name, (void)next, (void)attr;
    struct publish *publish = arg;
    if (S_ISLNK(type))
        return true;
    if (publish->count == publish->room) {
        size_t room = publish->room == 0 ? 256 : publish->room * 2;
        uint64_t *ids = reallocarray(publish->ids, room, sizeof(*ids));
        mode_t *types = ids == NULL ? NULL : reallocarray(publish->types, room, sizeof(*types));
        if (ids != NULL)
            publish->ids = ids;
        if (types == NULL) {
            publish->no_memory = true;
            return false;
        }
        publish->types = types;
        publish->room = room;
    }
    publish->ids[publish->count] = id;
    publish->types[publish->count++] = type;
    return true;
}

static int release_held(MDB_txn *txn, void *arg)
{
    struct publish *publish = arg;
    struct layout_record record;
    uint64_t id = publish->ids[publish->count];
    int r = record_get(publish->store, txn, id, &record, NULL);
    if (r < 0 || record.place != LAYOUT_STAGED)
        return r;
    record.flags &= (uint8_t)~LAYOUT_HELD;
    return record_update(publish->store, txn, id, &record);
}

static int seal_one(struct publish *publish, uint64_t id)
{
    if (publish->seal != NULL)
        return publish->seal(publish->arg, id);
    int r = store_seal(publish->store, id);
    if (r == 0)
        tell_sealed(publish->store, id);
    return r;
}

static int publish_file(struct publish *publish)
{
    struct store *store = publish->store;
    uint64_t id = publish->ids[publish->count];
    int r = seal_one(publish, id);
    if (r != -EBUSY)
        return r;
    r = staging_sync(store, id, true);
    if (r == 0)
        r = store_change(store, release_held, publish, store->page_size);
    if (r < 0)
        return r;
    /* A writer that let go before that found it held, and left the sealing to us. */
    r = seal_one(publish, id);
    return r == -EBUSY ? 0 : r;
}

static int publish_all(struct publish *publish)
{
    while (publish->count > 0) {
        publish->count--;
        int r = S_ISDIR(publish->types[publish->count])
                    ? store_readdir(publish->store, publish->ids[publish->count], 0, false, note,
                                    publish)
                    : publish_file(publish);
        if (publish->no_memory)
            return -ENOMEM;
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

int store_publish_tree(struct store *store, uint64_t id, store_seal_fn *seal, void *arg)
{
    struct layout_record record;
    int r = get_record(store, id, &record);
    if (r < 0)
        return r;
    struct publish publish = {.store = store, .seal = seal, .arg = arg};
    if (!note(&publish, "", id, record.mode, 0, NULL))
        r = -ENOMEM;
    else
        r = publish_all(&publish);
    free(publish.ids);
    free(publish.types);
    return r;
}
