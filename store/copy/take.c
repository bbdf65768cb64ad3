/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * take.c: a tree of host files into a directory of the store that nobody looks at yet, beside all
 * other work.
 *
 * Unlike an import it must do with little memory. So it goes depth first, some names of a directory
 * at a time, and a directory whose subdirectories were visited is read on from a position. What is
 * kept is a place for each directory on the way down, and for those that came up together with it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "batch.h"
#include "ingest.h"
#include "reap.h"
#include "record.h"
#include "shared.h"
#include "walk.h"

/* What one change writes, and about the memory for it. Larger files go ahead, in changes of their
 * own. Bytes. */
#define CHANGE_BYTES ((size_t)2 << 20)
#define PAYLOAD_MOST ((size_t)256 << 10)

/* Names that are read at a time, in bytes of getdents(2): some hundred. */
#define NAMES_BYTES 8192

/* Files with several names that are remembered, at 100 bytes each. Beyond them, a name becomes a
 * file of its own. */
#define SHARED_MOST 65536

/* A directory that is not done, and where its listing goes on. */
struct place {
    struct walk_dir *dir;
    off_t position;
};

struct take {
    struct store *store;
    const struct store_taking *taking;
    struct walk walk;
    struct place *places; /* the innermost last */
    size_t depth, room;
    struct batch batch;
    struct shared_set shared;
    size_t shared_count;
};

/* A name, where it was found. */
struct found {
    struct walk_dir *dir;
    int dir_fd;
    const char *name;
    struct stat st;
};

/* ------------------------------------------------------------------ items -- */

static void clear_batch(struct take *take, bool done)
{
    for (size_t i = 0; i < take->batch.count; i++) {
        const struct batch_item *item = &take->batch.items[i];
        if (!done)
            ingest_abandon(take->store, item->content);
        else if (item->gone != 0)
            reap_unless_held(take->store, item->gone);
    }
    batch_clear(&take->batch);
}

static int flush(struct take *take)
{
    int r = batch_run(&take->batch);
    clear_batch(take, r == 0);
    return r;
}

static int add_item(struct take *take, const struct found *found, enum batch_kind kind,
                    size_t payload_size, struct batch_item **item)
{
    *item = batch_add(&take->batch, kind, found->dir, found->name, payload_size);
    if (*item == NULL) {
        int r = flush(take);
        if (r < 0)
            return r;
        *item = batch_add(&take->batch, kind, found->dir, found->name, payload_size);
    }
    (*item)->record = batch_record(&found->st);
    return 0;
}

static int leave(struct take *take, const struct found *found, int error)
{
    cleanup_free char *path = walk_path(&take->walk, found->dir, found->name);
    if (path == NULL)
        return -ENOMEM;
    return take->taking->leave(take->taking->arg, path + strspn(path, "/"), error);
}

/* What can't be told of one name: it is no use to go on. */
static bool is_ours(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE;
}

/* A system call on the name failed. */
static int source_error(struct take *take, const struct found *found, int error)
{
    if (is_ours(error))
        return error;
    return error == -ENOENT ? 0 : leave(take, found, error);
}

/* ---------------------------------------------------------- several names -- */

/* 1: it is another name of a file that was taken, and that is done. */
static int take_link(struct take *take, const struct found *found)
{
    const struct stat *st = &found->st;
    struct shared *shared =
        st->st_nlink < 2 ? NULL : shared_find(&take->shared, st->st_dev, st->st_ino);
    if (shared == NULL)
        return 0;
    struct batch_item *item;
    int r = add_item(take, found, BATCH_LINK, 0, &item);
    if (r < 0)
        return r;
    item->shared = shared;
    return 1;
}

static int remember(struct take *take, const struct found *found, struct batch_item *item)
{
    const struct stat *st = &found->st;
    if (st->st_nlink < 2 || take->shared_count == SHARED_MOST)
        return 0;
    item->shared = shared_add(&take->shared, st->st_dev, st->st_ino, NULL, "");
    if (item->shared == NULL)
        return -ENOMEM;
    take->shared_count++;
    return 0;
}

/* ------------------------------------------------------------------ files -- */

/* O_NONBLOCK: it may have become a fifo, which would make us wait. */
static int open_file(const struct found *found)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(found->dir_fd, found->name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(found->dir_fd, found->name, flags);
    return fd < 0 ? -errno : fd;
}

/* Whether the bytes can be read at all: what failed reads them inside of a change, and so can't
 * tell on which side it was. */
static int read_through(int fd, uint64_t size)
{
    cleanup_free char *buffer = malloc(PAYLOAD_MOST);
    int r = buffer == NULL ? -ENOMEM : 0;
    for (uint64_t done = 0; r == 0 && done < size; done += PAYLOAD_MOST) {
        size_t part = size - done < PAYLOAD_MOST ? (size_t)(size - done) : PAYLOAD_MOST;
        r = pread_exactly(fd, buffer, part, (off_t)done);
    }
    return r;
}

static int take_small(struct take *take, const struct found *found, int fd)
{
    struct payload payload = {.fd = fd, .size = (uint64_t)found->st.st_size};
    struct batch_item *item;
    int r = add_item(take, found, BATCH_FILE, payload.size, &item);
    if (r < 0)
        return r;
    r = payload_read(&payload, 0, item->payload, payload.size);
    if (r == 0)
        return remember(take, found, item);
    batch_take_back(&take->batch);
    return source_error(take, found, r);
}

static int take_large(struct take *take, const struct found *found, int fd)
{
    struct payload payload = {.fd = fd, .size = (uint64_t)found->st.st_size};
    uint64_t content = 0;
    uint8_t hash[16];
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    int r = ingest_content(take->store, &payload, NULL, NULL, &content, hash);
    if (r == -EIO || r == -ENODATA) {
        int why = read_through(fd, payload.size);
        return why < 0 ? source_error(take, found, why) : r;
    }
    struct batch_item *item;
    if (r == 0 && (r = add_item(take, found, BATCH_FILE, 0, &item)) < 0)
        ingest_abandon(take->store, content);
    if (r < 0)
        return r;
    item->content = content;
    memcpy(item->record.hash, hash, sizeof(hash));
    return remember(take, found, item);
}

/* The lease goes with the descriptor. */
static int take_file(struct take *take, struct found *found)
{
    cleanup_fd int fd = open_file(found);
    if (fd < 0 || fstat(fd, &found->st) < 0)
        return source_error(take, found, fd < 0 ? fd : -errno);
    if (!S_ISREG(found->st.st_mode))
        return leave(take, found, -ELOOP);
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN)
        return -EBUSY;
    if (fstat(fd, &found->st) < 0) /* it may have grown until then */
        return source_error(take, found, -errno);
    int r = take_link(take, found);
    if (r != 0)
        return r < 0 ? r : 0;
    if (found->st.st_size > STORE_FILE_MAX)
        return leave(take, found, -EFBIG);
    return (size_t)found->st.st_size <= PAYLOAD_MOST ? take_small(take, found, fd)
                                                     : take_large(take, found, fd);
}

static int take_symlink(struct take *take, struct found *found)
{
    int r = take_link(take, found);
    if (r != 0)
        return r < 0 ? r : 0;
    char target[STORE_SYMLINK_MAX + 2];
    ssize_t length = readlinkat(found->dir_fd, found->name, target, sizeof(target));
    if (length < 0)
        return source_error(take, found, -errno);
    if (length > STORE_SYMLINK_MAX)
        return leave(take, found, -ENAMETOOLONG);
    found->st.st_size = length;
    found->st.st_mode = S_IFLNK | 0777;
    struct batch_item *item;
    r = add_item(take, found, BATCH_FILE, (size_t)length, &item);
    if (r < 0)
        return r;
    memcpy(item->payload, target, (size_t)length);
    return remember(take, found, item);
}

/* ------------------------------------------------------------ directories -- */

/* `dir` is a reference, ours from now on. */
static int push(struct take *take, struct walk_dir *dir)
{
    if (take->depth == take->room) {
        size_t room = take->room == 0 ? 64 : take->room * 2;
        struct place *places = reallocarray(take->places, room, sizeof(*places));
        if (places == NULL) {
            walk_release(dir);
            return -ENOMEM;
        }
        take->places = places;
        take->room = room;
    }
    take->places[take->depth++] = (struct place){dir, 0};
    return 0;
}

static int take_directory(struct take *take, const struct found *found)
{
    struct batch_item *item;
    int r = add_item(take, found, BATCH_DIRECTORY, 0, &item);
    if (r < 0)
        return r;
    if (walk_add(&take->walk, found->dir, found->name, true) == NULL) {
        batch_take_back(&take->batch);
        return -ENOMEM;
    }
    struct walk_dir *child = walk_next(&take->walk); /* the only one that it knows to be pending */
    item->child = walk_hold(child);
    return push(take, child);
}

static int take_name(struct take *take, struct found *found)
{
    if (fstatat(found->dir_fd, found->name, &found->st, AT_SYMLINK_NOFOLLOW) < 0)
        return source_error(take, found, -errno);
    switch (found->st.st_mode & S_IFMT) {
    case S_IFREG:
        return take_file(take, found);
    case S_IFDIR:
        return take_directory(take, found);
    case S_IFLNK:
        return take_symlink(take, found);
    default:
        return leave(take, found, -EPERM);
    }
}

/* The names in `buffer`; those of directories are visited later. `place` may move meanwhile. */
static int take_names(struct take *take, size_t place, int fd, const char *buffer, size_t length)
{
    int r = 0;
    struct found found = {.dir = take->places[place].dir, .dir_fd = fd};
    for (size_t at = 0; at < length && r == 0;) {
        const struct dirent64 *entry = (const void *)(buffer + at);
        at += entry->d_reclen;
        take->places[place].position = entry->d_off;
        found.name = entry->d_name;
        if (take->taking->stop != NULL && take->taking->stop(take->taking->arg))
            return -EINTR;
        if (strcmp(found.name, ".") != 0 && strcmp(found.name, "..") != 0)
            r = take_name(take, &found);
    }
    return r;
}

/* Some names of the innermost directory; at its end it is done. */
static int take_some(struct take *take)
{
    _Alignas(struct dirent64) char buffer[NAMES_BYTES];
    size_t here = take->depth - 1;
    struct place place = take->places[here];
    const struct found self = {.dir = place.dir};
    cleanup_fd int fd = walk_open(&take->walk, place.dir);
    ssize_t length = -1;
    if (fd >= 0 && lseek(fd, place.position, SEEK_SET) >= 0)
        length = getdents64(fd, buffer, sizeof(buffer));
    int r = length < 0 ? source_error(take, &self, fd < 0 ? fd : -errno) : 0;
    if (length <= 0) {
        take->depth = here;
        walk_release(place.dir);
        return r;
    }
    return take_names(take, here, fd, buffer, (size_t)length);
}

static int begin(struct take *take, int fd, uint64_t to)
{
    int r = batch_init(&take->batch, take->store,
                       CHANGE_BYTES < take->store->transaction_max ? CHANGE_BYTES
                                                                   : take->store->transaction_max);
    int own = r < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r == 0 && own < 0)
        r = -errno;
    if (r == 0)
        r = walk_start(&take->walk, "", own);
    if (r < 0)
        return r;
    take->walk.top->id = to;
    take->walk.top->fresh = true;
    return push(take, walk_next(&take->walk));
}

static void end(struct take *take)
{
    while (take->depth > 0)
        walk_release(take->places[--take->depth].dir);
    free(take->places);
    if (take->batch.items != NULL)
        clear_batch(take, false);
    batch_free(&take->batch);
    shared_free(&take->shared);
    walk_end(&take->walk);
}

int store_take(struct store *store, int fd, uint64_t to, const struct store_taking *taking)
{
    if (store->read_only)
        return -EROFS;
    struct take take = {.store = store, .taking = taking};
    int r = begin(&take, fd, to);
    while (r == 0 && take.depth > 0)
        r = take_some(&take);
    if (r == 0)
        r = flush(&take);
    end(&take);
    return r;
}
