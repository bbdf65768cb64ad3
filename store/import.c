/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import.c: a tree of host files into the store.
 *
 * Directory by directory, breadth first, the names of each in the order of their places: so entries are
 * appended in the order of their keys, and a listing, ids and content on disk all have
 * the same order. Names and small files gather in a batch while the one before is being committed; large
 * files are written first and join the batch as a content that is there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "batch.h"
#include "count.h"
#include "entry.h"
#include "ingest.h"
#include "observe.h"
#include "path.h"
#include "reap.h"
#include "record.h"
#include "walk.h"

struct import {
    struct store *store;
    const struct store_observer *observer;
    struct store_work *work; /* what is durable */
    struct count *count;     /* NULL: nobody wants to know */
    struct walk walk;
    struct walk_names names;
    struct shared_set shared; /* files with several names that were met so far */
    dev_t store_dev;         /* the store's own directory, which is not to be imported */
    ino_t store_ino;

    struct batch batches[2];
    struct batch *filling;
    struct batch *running; /* by the thread; NULL: none */
    pthread_t thread;
    int result; /* the thread's */
};

/* A name, where it was found. */
struct source {
    struct walk_dir *dir;
    int dir_fd;
    const char *name;
    struct stat st;
};

/* --------------------------------------------------------------- messages -- */

static void tell(struct import *import, struct walk_dir *dir, const char *name, const char *text)
{
    cleanup_free char *path = walk_path(&import->walk, dir, name);
    observe_message(import->observer, path == NULL ? "?" : path, "%s", text);
}

/* Left out because it can't be otherwise. */
static int skip(struct import *import, struct walk_dir *dir, const char *name, const char *text)
{
    tell(import, dir, name, text);
    import->work->skipped++;
    return 0;
}

/* Left out although the user wanted it. */
static int miss(struct import *import, struct walk_dir *dir, const char *name, const char *text)
{
    import->work->problems++;
    return skip(import, dir, name, text);
}

/* A system call on a source failed. Negative only if it is no use to go on. */
static int source_error(struct import *import, struct walk_dir *dir, const char *name, int error)
{
    switch (-error) {
    case EMFILE:
    case ENFILE:
        tell(import, dir, name, strerror(-error));
        return error;
    case ENOMEM:
        return error;
    case ENOENT:
        return skip(import, dir, name, "vanished during the import; skipped");
    case ENODATA:
        return miss(import, dir, name, "became shorter while it was read; skipped");
    case ELOOP:
    case ENOTDIR:
        return miss(import, dir, name, "became something else during the import; skipped");
    case EACCES:
        return miss(import, dir, name, "no permission to read it; skipped");
    default: {
        char text[STORE_WHY_MAX];
        snprintf(text, sizeof(text), "%s; skipped", strerror(-error));
        return miss(import, dir, name, text);
    }
    }
}

static int write_error(struct import *import, int error)
{
    observe_message(import->observer, import->walk.path, "cannot write to the store: %s; %s",
                    strerror(-error), "what was imported so far stays");
    return error;
}

static void show_progress(struct import *import, uint64_t bytes_more)
{
    struct store_work done = *import->work, all;
    done.bytes += bytes_more;
    count_get(import->count, &all);
    observe_progress(import->observer, &done, &all);
}

/* ---------------------------------------------------------------- batches -- */

static void settle_item(struct import *import, const struct batch_item *item)
{
    struct store_work *work = import->work;
    if (item->gone != 0)
        reap_unless_held(import->store, item->gone);
    if (item->result < 0 && item->shared == NULL)
        ingest_abandon(import->store, item->content);
    switch (-item->result) {
    case 0:
        work->directories += item->kind == BATCH_DIRECTORY;
        work->files += item->kind != BATCH_DIRECTORY;
        work->bytes += item->kind == BATCH_FILE && S_ISREG(item->record.mode) ? item->record.size : 0;
        break;
    case ECANCELED: /* of its directory was told */
        work->skipped++;
        break;
    case EISDIR:
        miss(import, item->parent, item->name, "the store has a directory of this name; skipped");
        break;
    default:
        miss(import, item->parent, item->name,
             "the store has something else than a directory of this name; skipped");
        break;
    }
}

/* The contents that wait for an item that will never come to be. */
static void abandon_batch(struct import *import, struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        ingest_abandon(import->store, batch->items[i].content);
    batch_clear(batch);
}

static void *run_batch(void *arg)
{
    struct import *import = arg;
    import->result = batch_run(import->running);
    return NULL;
}

/* Wait for the batch that is being committed. */
static int finish_batch(struct import *import)
{
    struct batch *batch = import->running;
    if (batch == NULL)
        return 0;
    pthread_join(import->thread, NULL);
    import->running = NULL;
    if (import->result < 0) {
        abandon_batch(import, batch);
        return write_error(import, import->result);
    }
    for (size_t i = 0; i < batch->count; i++)
        settle_item(import, &batch->items[i]);
    batch_clear(batch);
    show_progress(import, 0);
    return 0;
}

/* Have the batch committed, and go on with the other one. Not after a failure: items build on
 * those before them. */
static int start_batch(struct import *import)
{
    int r = finish_batch(import);
    if (r < 0)
        return r;
    struct batch *batch = import->filling;
    import->running = batch;
    import->filling = &import->batches[batch == &import->batches[0]];
    r = -pthread_create(&import->thread, NULL, run_batch, import);
    if (r < 0)
        import->running = NULL;
    return r < 0 ? write_error(import, r) : 0;
}

static int add_item(struct import *import, const struct source *source, enum batch_kind kind,
                    size_t payload_size, struct batch_item **item)
{
    *item = batch_add(import->filling, kind, source->dir, source->name, payload_size);
    if (*item == NULL) {
        int r = start_batch(import);
        if (r < 0)
            return r;
        *item = batch_add(import->filling, kind, source->dir, source->name, payload_size);
    }
    const struct stat *st = &source->st;
    struct layout_time now = layout_now();
    (*item)->record = (struct layout_record){
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
    return 0;
}

/* ------------------------------------------------------------ several names -- */

/* The file, if another name of it was imported; NULL if not. */
static struct shared *find_shared(struct import *import, const struct stat *st)
{
    return st->st_nlink < 2 ? NULL : shared_find(&import->shared, st->st_dev, st->st_ino);
}

/* Remember the file of an item, in case that other names of it come. */
static int remember(struct import *import, const struct stat *st, struct batch_item *item)
{
    if (st->st_nlink < 2)
        return 0;
    item->shared = shared_add(&import->shared, st->st_dev, st->st_ino, NULL, "");
    return item->shared == NULL ? -ENOMEM : 0;
}

static int import_link(struct import *import, const struct source *source,
                       struct shared *shared)
{
    struct batch_item *item;
    int r = add_item(import, source, BATCH_LINK, 0, &item);
    if (r == 0)
        item->shared = shared;
    return r;
}

/* ------------------------------------------------------------------ files -- */

static int import_symlink(struct import *import, struct source *source)
{
    struct shared *shared = find_shared(import, &source->st);
    if (shared != NULL)
        return import_link(import, source, shared);
    char target[STORE_SYMLINK_MAX + 2];
    ssize_t length = readlinkat(source->dir_fd, source->name, target, sizeof(target));
    if (length < 0)
        return source_error(import, source->dir, source->name, -errno);
    if (length > STORE_SYMLINK_MAX)
        return miss(import, source->dir, source->name, "its target is too long; skipped");
    source->st.st_size = length;
    source->st.st_mode = S_IFLNK | 0777;
    struct batch_item *item;
    int r = add_item(import, source, BATCH_FILE, (size_t)length, &item);
    if (r < 0)
        return r;
    memcpy(item->payload, target, (size_t)length);
    return remember(import, &source->st, item);
}

/* Its bytes go with the batch. */
static int import_small(struct import *import, const struct source *source, int fd)
{
    struct payload payload = {.fd = fd, .size = (uint64_t)source->st.st_size};
    struct batch_item *item;
    int r = add_item(import, source, BATCH_FILE, payload.size, &item);
    if (r < 0)
        return r;
    r = payload_read(&payload, 0, item->payload, payload.size);
    if (r == 0)
        return remember(import, &source->st, item);
    batch_take_back(import->filling);
    return source_error(import, source->dir, source->name, r);
}

static bool watch_large(void *arg, uint64_t bytes)
{
    struct import *import = arg;
    show_progress(import, bytes);
    return !observe_stop(import->observer);
}

/* Its bytes go ahead, in changes of their own. */
static int import_large(struct import *import, const struct source *source, int fd)
{
    struct payload payload = {.fd = fd, .size = (uint64_t)source->st.st_size};
    uint64_t content = 0;
    uint8_t hash[16];
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    int r = ingest_content(import->store, &payload, watch_large, import, &content, hash);
    if (r == -ENODATA)
        return source_error(import, source->dir, source->name, r);
    if (r < 0)
        return r == -EINTR ? r : write_error(import, r);
    struct batch_item *item;
    r = add_item(import, source, BATCH_FILE, 0, &item);
    if (r < 0) {
        ingest_abandon(import->store, content);
        return r;
    }
    item->content = content;
    memcpy(item->record.hash, hash, sizeof(hash));
    return remember(import, &source->st, item);
}

/* A reader leaves no trace where it may: reading for a copy is not use. */
static int open_file(const struct source *source)
{
    /* O_NONBLOCK: it may have become a fifo, which would make us wait. */
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(source->dir_fd, source->name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(source->dir_fd, source->name, flags);
    return fd < 0 ? -errno : fd;
}

static int import_file(struct import *import, struct source *source)
{
    cleanup_fd int fd = open_file(source);
    if (fd < 0 || fstat(fd, &source->st) < 0)
        return source_error(import, source->dir, source->name, fd < 0 ? fd : -errno);
    const struct stat *st = &source->st;
    if (!S_ISREG(st->st_mode))
        return source_error(import, source->dir, source->name, -ELOOP);
    struct shared *shared = find_shared(import, st);
    if (shared != NULL)
        return import_link(import, source, shared);
    if (st->st_size > STORE_FILE_MAX)
        return miss(import, source->dir, source->name, "too large for a store; skipped");
    return (size_t)st->st_size <= BATCH_PAYLOAD_MAX ? import_small(import, source, fd)
                                                    : import_large(import, source, fd);
}

/* -------------------------------------------------------------- directories -- */

static int import_directory(struct import *import, const struct source *source)
{
    if (source->st.st_dev == import->store_dev && source->st.st_ino == import->store_ino)
        return skip(import, source->dir, source->name, "this is the store itself; skipped");
    struct batch_item *item;
    int r = add_item(import, source, BATCH_DIRECTORY, 0, &item);
    if (r < 0)
        return r;
    struct walk_dir *child = walk_add(&import->walk, source->dir, source->name, false);
    if (child == NULL)
        return -ENOMEM;
    item->child = walk_hold(child);
    return 0;
}

static const char *kind_of(mode_t mode)
{
    return S_ISFIFO(mode)   ? "a fifo; skipped, a store has no such files"
           : S_ISSOCK(mode) ? "a socket; skipped, a store has no such files"
                            : "a device; skipped, a store has no such files";
}

static int import_name(struct import *import, struct source *source, unsigned char type)
{
    bool top = source->dir->parent == NULL && source->dir->id == STORE_ROOT_ID;
    if (top && strcmp(source->name, STORE_CONTROL_NAME) == 0)
        return skip(import, source->dir, source->name,
                    "this name is reserved in the root of a store; skipped");
    if (type == DT_REG)
        return import_file(import, source);
    if (fstatat(source->dir_fd, source->name, &source->st, AT_SYMLINK_NOFOLLOW) < 0)
        return source_error(import, source->dir, source->name, -errno);
    switch (source->st.st_mode & S_IFMT) {
    case S_IFREG:
        return import_file(import, source);
    case S_IFDIR:
        return import_directory(import, source);
    case S_IFLNK:
        return import_symlink(import, source);
    default:
        return skip(import, source->dir, source->name, kind_of(source->st.st_mode));
    }
}

static int import_names(struct import *import, struct walk_dir *dir)
{
    if (dir->failed)
        return 0;
    cleanup_fd int fd = walk_open(&import->walk, dir);
    if (fd < 0)
        return source_error(import, dir, NULL, fd);
    int r = walk_list(fd, &import->names);
    if (r < 0)
        return source_error(import, dir, NULL, r);
    for (size_t i = 0; i < import->names.count && r == 0; i++) {
        const struct walk_name *name = &import->names.list[i];
        struct source source = {dir, fd, import->names.text + name->offset, {0}};
        r = observe_stop(import->observer) ? -EINTR : import_name(import, &source, name->type);
    }
    return r;
}

static int import_tree(struct import *import)
{
    int r = 0;
    struct walk_dir *dir;
    while (r == 0 && (dir = walk_next(&import->walk)) != NULL) {
        r = import_names(import, dir);
        walk_release(dir);
    }
    if (r == -ENOMEM)
        observe_message(import->observer, import->walk.path, "out of memory");
    /* What was read so far is worth keeping when interrupted. */
    int last = r == 0 || r == -EINTR ? start_batch(import) : 0;
    if (last == 0)
        last = finish_batch(import);
    abandon_batch(import, import->filling);
    return last < 0 ? last : r;
}

/* --------------------------------------------------------------------- top -- */

/* The attributes of the tree's own directory: a destination that is new or empty gets them, another one
 * is only changed now. */
static int set_top(struct store *store, uint64_t id, bool fresh, const struct stat *st)
{
    struct store_attr attr = {
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .atime = st->st_atim,
        .mtime = st->st_mtim,
    };
    if (!fresh)
        clock_gettime(CLOCK_REALTIME, &attr.mtime);
    unsigned all =
        STORE_SET_MODE | STORE_SET_UID | STORE_SET_GID | STORE_SET_ATIME | STORE_SET_MTIME;
    return store_setattr(store, id, fresh ? all : STORE_SET_MTIME, &attr, &attr);
}

static int is_empty(struct store *store, uint64_t id)
{
    cleanup_read struct env_read read = {0};
    int r = env_read(store->env, &read);
    return r < 0 ? r : entry_none(store, read.txn, id);
}

static int find_top(struct import *import, const char *to, const struct stat *st)
{
    struct store *store = import->store;
    struct store_attr attr;
    bool made;
    int r = path_make(store, to, import->observer, &attr, &made);
    if (r < 0)
        return r;
    int empty = made ? 1 : is_empty(store, attr.id);
    r = empty < 0 ? empty : set_top(store, attr.id, empty > 0, st);
    import->walk.top->id = attr.id;
    import->walk.top->fresh = empty > 0;
    return r < 0 ? write_error(import, r) : 0;
}

static int begin(struct import *import, const char *from, const char *to)
{
    struct stat st, own;
    int fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || fstat(import->store->dir_fd, &own) < 0) {
        int error = -errno;
        observe_message(import->observer, from, "cannot read it: %s%s", strerror(-error),
                        error == -ENOTDIR ? "; give the directory that holds it" : "");
        cleanup_fd_p(&fd);
        return error;
    }
    if (st.st_dev == own.st_dev && st.st_ino == own.st_ino) {
        observe_message(import->observer, from, "this is the store itself");
        (void)close(fd);
        return -EINVAL;
    }
    import->store_dev = own.st_dev;
    import->store_ino = own.st_ino;
    if (import->observer != NULL && import->observer->progress != NULL)
        import->count = count_start(fd);
    int r = walk_start(&import->walk, from, fd);
    return r < 0 ? r : find_top(import, to, &st);
}

static void end(struct import *import)
{
    count_stop(import->count);
    batch_free(&import->batches[0]);
    batch_free(&import->batches[1]);
    walk_end(&import->walk);
    walk_names_free(&import->names);
    shared_free(&import->shared);
}

int store_import(struct store *store, const char *from, const char *to,
                 const struct store_observer *observer, struct store_work *work)
{
    struct import import = {.store = store, .observer = observer, .work = work};
    *work = (struct store_work){0};
    import.filling = &import.batches[0];
    int r = store->read_only ? -EROFS : batch_init(&import.batches[0], store);
    if (r == 0)
        r = batch_init(&import.batches[1], store);
    if (r < 0)
        observe_message(observer, from, "cannot import: %s", strerror(-r));
    else
        r = begin(&import, from, to);
    if (r == 0)
        r = import_tree(&import);
    end(&import);
    return r;
}
