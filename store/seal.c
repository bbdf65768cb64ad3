/* SPDX-License-Identifier: BSD-2-Clause */
#include "seal.h"

#include <stdatomic.h>
#include <sys/stat.h>

#include "keeper.h"
#include "pending.h"
#include "record.h"
#include "staged.h"
#include "staging.h"
#include "unseal.h"

#define BUCKETS 256

/* How much of large files may wait for the next commit: this part of data.mdb, and at least so many
 * bytes. */
#define PACE_PART 10
#define PACE_LEAST ((uint64_t)64 << 20)

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

/* ---------------------------------------------------------------- writers -- */

int store_writer_open(struct store *store, uint64_t id)
{
    if (store->read_only)
        return -EROFS;
    with_mutex(&store->writers->lock);
    struct file *file = find_unsealing(store->writers, id);
    if (file == NULL) {
        struct layout_record record;
        int r = record_look(store, id, &record);
        if (r < 0)
            return r;
        if (!S_ISREG(record.mode))
            return S_ISDIR(record.mode) ? -EISDIR : -EINVAL;
        if (!record_is_open(&record) && record.size > 0 && (record.flags & LAYOUT_HELD) == 0)
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
        bool seal = record_look(store, id, &record) == 0 && record_is_open(&record) &&
                    !(record.flags & LAYOUT_HELD && unsealed_lately(store, id)) && record.nlink > 0;
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

struct sealing {
    struct store *store;
    uint64_t id;
    size_t size; /* bytes */
    bool inside; /* they go into the record */
    bool hosted; /* and are in a host file, too */
    bool idle;   /* if it is held, only if nobody has it open at all: he would miss what is written
                  * to it later */
    char bytes[LAYOUT_INLINE_LIMIT];
};

static int seal_change(struct view *view, void *arg)
{
    struct sealing *sealing = arg;
    struct store *store = sealing->store;
    struct layout_record record;
    struct store_attr attr = {.id = sealing->id};
    int r = record_get(store, view, sealing->id, &record, NULL);
    if (r < 0 || !record_is_open(&record))
        return r;
    r = staging_attr(store, &attr);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0)
        record.mtime = layout_time(attr.mtime);
    record.ctime = layout_now();
    record.size = sealing->size;
    /* What has arrived may just be moved to the host, by the commit. */
    sealing->hosted |= sealing->size > 0 && (record.flags & RECORD_ARRIVED) != 0;
    record.flags =
        (uint8_t)((record.flags & LAYOUT_HELD) |
                  (sealing->inside ? sealing->hosted ? RECORD_HOSTED : 0 : RECORD_FINAL));
    if (sealing->inside) {
        record.place = LAYOUT_INLINE;
        hash_bytes(sealing->bytes, sealing->size, record.hash);
    }
    return record_replace(store, view, sealing->id, &record, sealing->bytes);
}

static bool is_held(struct store *store, uint64_t id)
{
    struct layout_record record;
    return record_look(store, id, &record) == 0 && (record.flags & LAYOUT_HELD);
}

/* What the record takes is read before, not in the order of changes. */
static int look(struct sealing *sealing)
{
    struct store *store = sealing->store;
    struct store_attr attr = {.id = sealing->id};
    if (staging_is_open(store, sealing->id, sealing->idle && is_held(store, sealing->id)))
        return -EBUSY;
    int r = staging_attr(store, &attr);
    if (r == -ENOENT)
        attr.size = 0;
    else if (r < 0)
        return r;
    else if (attr.size > STORE_FILE_MAX)
        return -EFBIG;
    sealing->size = attr.size;
    sealing->inside = attr.size <= store->inline_max;
    uint64_t cost = sealing->inside ? attr.size : content_cost(store, attr.size);
    /* What is in memory was promised when it was written. */
    bool promised = !staging_is_hosted(store, sealing->id);
    int room = store_room(store, promised ? cost - MIN(cost, attr.size) : cost);
    if (room < 0 || !sealing->inside)
        return room;
    ssize_t n = attr.size == 0 ? 0 : staging_read(store, sealing->id, sealing->bytes, attr.size, 0);
    return n < 0 ? (int)n : (size_t)n < attr.size ? -ENODATA : 0;
}

/* Nobody may be writing the file. The bytes stay where they are until the commit, if it takes them
 * from there. */
static int seal_bytes(struct store *store, uint64_t id, bool idle)
{
    struct sealing sealing = {.store = store, .id = id, .idle = idle};
    int r = look(&sealing);
    if (r < 0)
        return r;
    if (sealing.inside)
        sealing.hosted = sealing.size > 0 && staging_is_hosted(store, id);
    else
        atomic_fetch_add(&store->promised, content_cost(store, sealing.size));
    r = sealing.inside ? 0 : store_room_keep(store);
    if (r == 0)
        r = store_change(store, seal_change, &sealing);
    if (r < 0 && !sealing.inside)
        atomic_fetch_sub(&store->promised, content_cost(store, sealing.size));
    /* A host file, even if it has just been made by an fsync, is needed until the commit, unless
     * there is nothing in it. */
    if (r == 0 && sealing.size == 0)
        staging_remove_idle(store, id);
    else if (r == 0 && sealing.inside && !sealing.hosted)
        staging_drop(store, id);
    return r;
}

static void end(struct store *store, uint64_t id)
{
    with_mutex(&store->writers->lock);
    remove_file(store->writers, id);
}

void seal_tell(struct store *store, uint64_t id)
{
    if (store->sealed != NULL)
        store->sealed(store->arg, id);
}

static void warn_unsealed(struct store *store, uint64_t id, int error)
{
    store_warn(store, "cannot seal file %llu, it stays in the staging area: %s",
               (unsigned long long)id, strerror(-error));
}

void seal_finish(struct store *store, uint64_t id)
{
    int r = seal_bytes(store, id, true);
    end(store, id);
    if (r == -ENOENT) /* removed meanwhile */
        return;
    if (r == -EBUSY) {
        keeper_seal_later(store->keeper, id);
    } else if (r < 0) {
        warn_unsealed(store, id, r);
    } else {
        seal_tell(store, id);
        store_hurry(store);
    }
}

/* What is replaced is there until its successor is committed, so data.mdb grows by about two
 * commits. */
static uint64_t pace(struct store *store)
{
    struct stat st;
    uint64_t part = fstat(env_fd(store->env), &st) == 0 ? (uint64_t)st.st_size / PACE_PART : 0;
    return part > PACE_LEAST ? part : PACE_LEAST;
}

void store_pace(struct store *store, uint64_t id)
{
    struct store_attr attr = {.id = id};
    if (!store->read_only && staging_attr(store, &attr) == 0 && attr.size > STAGED_FILE_MOST)
        pending_pace(store->pending, pace(store));
}

static int seal_now(struct store *store, uint64_t id, bool idle)
{
    if (store->read_only)
        return -EROFS;
    {
        with_mutex(&store->writers->lock);
        struct file *file = find_unsealing(store->writers, id);
        if (file != NULL)
            return -EBUSY;
        struct layout_record record;
        int r = record_look(store, id, &record);
        if (r < 0)
            return r;
        if (!record_is_open(&record))
            return 0;
        file = add(store->writers, id);
        if (file == NULL)
            return -ENOMEM;
        file->sealing = true;
    }
    int r = seal_bytes(store, id, idle);
    end(store, id);
    if (r == -EBUSY)
        keeper_seal_later(store->keeper, id);
    return r;
}

int store_seal(struct store *store, uint64_t id)
{
    return seal_now(store, id, false);
}

void seal_again(struct store *store, uint64_t id)
{
    struct layout_record record;
    if (record_look(store, id, &record) < 0 || !record_is_open(&record))
        return;
    if (record.nlink == 0) {
        keeper_seal_later(store->keeper, id);
        return;
    }
    if ((record.flags & LAYOUT_HELD) && unsealed_lately(store, id))
        return;
    int r = seal_now(store, id, true);
    if (r == 0)
        seal_tell(store, id);
    else if (r != -EBUSY && r != -ENOENT)
        warn_unsealed(store, id, r);
}
