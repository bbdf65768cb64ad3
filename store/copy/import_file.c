/* SPDX-License-Identifier: BSD-2-Clause */
/* import_file.c: regular files and symbolic links, with one name or several. */
#include <fcntl.h>

#include "ahead.h"
#include "import.h"
#include "ingest.h"
#include "observe.h"

/* ------------------------------------------------------------ several names -- */

/* The file, if another name of it was imported; NULL if not. */
static struct shared *find_shared(struct importing *import, const struct stat *st)
{
    return st->st_nlink < 2 ? NULL : shared_find(&import->shared, st->st_dev, st->st_ino);
}

/* Remember the file of an item, in case that other names of it come. */
static int remember(struct importing *import, const struct source *source, struct batch_item *item)
{
    const struct stat *st = &source->st;
    if (st->st_nlink < 2)
        return 0;
    item->shared = shared_add(&import->shared, st->st_dev, st->st_ino, NULL, "");
    return item->shared == NULL ? import_source_error(import, source->dir, source->name, -ENOMEM)
                                : 0;
}

static int import_link(struct importing *import, const struct source *source, struct shared *shared)
{
    struct batch_item *item;
    int r = import_add(import, source, BATCH_LINK, 0, &item);
    if (r == 0)
        item->shared = shared;
    return r;
}

/* ------------------------------------------------------------------ files -- */

int import_symlink(struct importing *import, struct source *source)
{
    struct shared *shared = find_shared(import, &source->st);
    if (shared != NULL)
        return import_link(import, source, shared);
    char target[STORE_SYMLINK_MAX + 2];
    ssize_t length = readlinkat(source->dir_fd, source->name, target, sizeof(target));
    if (length < 0)
        return import_source_error(import, source->dir, source->name, -errno);
    if (length > STORE_SYMLINK_MAX)
        return import_miss(import, source->dir, source->name, "its target is too long; skipped");
    source->st.st_size = length;
    source->st.st_mode = S_IFLNK | 0777;
    struct batch_item *item;
    int r = import_add(import, source, BATCH_FILE, (size_t)length, &item);
    if (r < 0)
        return r;
    memcpy(item->payload, target, (size_t)length);
    return remember(import, source, item);
}

/* Its bytes go with the batch. */
static int import_small(struct importing *import, const struct source *source, int fd)
{
    struct payload payload = {.fd = fd, .size = (uint64_t)source->st.st_size};
    struct batch_item *item;
    int r = import_add(import, source, BATCH_FILE, payload.size, &item);
    if (r < 0)
        return r;
    r = payload_read(&payload, 0, item->payload, payload.size);
    if (r == 0)
        return remember(import, source, item);
    pipeline_take_back(&import->pipeline);
    return import_source_error(import, source->dir, source->name, r);
}

static bool watch_large(void *arg, uint64_t bytes)
{
    struct importing *import = arg;
    import_progress(import, bytes);
    return !observe_stop(import->observer);
}

/* Its bytes go ahead, in changes of their own. */
static int import_large(struct importing *import, const struct source *source, int fd)
{
    struct payload payload = {.fd = fd, .size = (uint64_t)source->st.st_size};
    uint64_t content = 0;
    uint8_t hash[16];
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    int r = ingest_content(import->store, &payload, watch_large, import, &content, hash);
    if (r == -ENODATA)
        return import_source_error(import, source->dir, source->name, r);
    if (r < 0)
        return r == -EINTR ? r : import_write_error(import, r);
    struct batch_item *item;
    r = import_add(import, source, BATCH_FILE, 0, &item);
    if (r < 0) {
        ingest_abandon(import->store, content);
        return r;
    }
    item->content = content;
    memcpy(item->record.hash, hash, sizeof(hash));
    return remember(import, source, item);
}

int import_file(struct importing *import, struct source *source)
{
    cleanup_fd int fd = ahead_take(source->ahead, source->index);
    if (fd < 0 || fstat(fd, &source->st) < 0)
        return import_source_error(import, source->dir, source->name, fd < 0 ? fd : -errno);
    const struct stat *st = &source->st;
    if (!S_ISREG(st->st_mode))
        return import_source_error(import, source->dir, source->name, -ELOOP);
    struct shared *shared = find_shared(import, st);
    if (shared != NULL)
        return import_link(import, source, shared);
    if (st->st_size > STORE_FILE_MAX)
        return import_miss(import, source->dir, source->name, "too large for a store; skipped");
    return (size_t)st->st_size <= BATCH_PAYLOAD_MAX ? import_small(import, source, fd)
                                                    : import_large(import, source, fd);
}
