/* SPDX-License-Identifier: BSD-2-Clause */
#include "staging.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "hosted.h"
#include "staged.h"

/* ----------------------------------------------------- from memory to the host -- */

/* With the lock held. */
static int move_to_host(struct store *store, struct staged_file *file)
{
    cleanup_fd int fd = hosted_open(store, file->id, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    const struct timespec times[2] = {file->atime, file->mtime};
    int r = hosted_write(fd, file->bytes, file->size, 0);
    if (r == 0 && futimens(fd, times) < 0)
        r = -errno;
    if (r < 0)
        (void)hosted_remove(store, file->id);
    else
        staged_remove(store->staged, file->id);
    return r;
}

/* The bytes in memory; NULL if they aren't there. The lock is held. A store that is only read has
 * none. */
static struct staged_file *in_memory(struct store *store, uint64_t id)
{
    return store->staged == NULL ? NULL : staged_find(store->staged, id);
}

#define with_staged(store) with_mutex((store)->staged == NULL ? NULL : staged_lock((store)->staged))

/* A descriptor of the host file, wherever the bytes were. With `flags` O_CREAT it is made. */
static int to_host(struct store *store, uint64_t id, int flags)
{
    with_staged(store);
    struct staged_file *file = in_memory(store, id);
    int r = file == NULL ? 0 : move_to_host(store, file);
    return r < 0 ? r : hosted_open(store, id, flags);
}

int staging_open(struct store *store, uint64_t id, const struct timespec times[2])
{
    with_staged(store);
    struct staged_file *file = in_memory(store, id);
    if (times == NULL)
        return file != NULL ? -ENOENT : hosted_open_existing(store, id);
    int r = file == NULL ? 0 : move_to_host(store, file);
    if (r < 0)
        return r;
    cleanup_fd int fd = hosted_open(store, id, O_RDONLY | O_CREAT | O_EXCL);
    if (fd == -EEXIST)
        return hosted_open_existing(store, id);
    if (fd >= 0 && futimens(fd, times) < 0)
        return -errno;
    return steal_fd(&fd);
}

bool staging_is_open(struct store *store, uint64_t id, bool to_read)
{
    {
        with_staged(store);
        if (in_memory(store, id) != NULL)
            return false; /* others get at host files only */
    }
    cleanup_fd int fd = hosted_lease(store, id, to_read ? F_WRLCK : F_RDLCK);
    return fd == -EAGAIN;
}

int staging_settle(struct store *store)
{
    with_staged(store);
    struct staged_file *file;
    int r = 0;
    while (r == 0 && (file = staged_first(store->staged)) != NULL)
        r = move_to_host(store, file);
    return r;
}

/* ------------------------------------------------------------------- changing -- */

/* 1: done in memory; 0: it isn't there, and doesn't fit. Lock held. */
static int resize_in_memory(struct store *store, uint64_t id, uint64_t size, bool shrink,
                            struct staged_file **out)
{
    struct staged_file *file = in_memory(store, id);
    if (file == NULL && (size > STAGED_FILE_MOST || hosted_exists(store, id)))
        return 0;
    if (file == NULL)
        file = staged_add(store->staged, id);
    if (file == NULL)
        return -ENOMEM;
    *out = file;
    if ((size > file->size || shrink) && !staged_resize(store->staged, file, size))
        return 0;
    clock_gettime(CLOCK_REALTIME, &file->mtime);
    file->ctime = file->mtime;
    return 1;
}

static int write_to_memory(struct store *store, uint64_t id, const void *bytes, size_t size,
                           off_t offset)
{
    with_staged(store);
    struct staged_file *file;
    int r = resize_in_memory(store, id, (uint64_t)offset + size, false, &file);
    if (r == 1 && size > 0)
        memcpy(file->bytes + offset, bytes, size);
    return r;
}

int staging_write(struct store *store, uint64_t id, const void *bytes, size_t size, off_t offset)
{
    int r = write_to_memory(store, id, bytes, size, offset);
    if (r != 0)
        return r < 0 ? r : 0;
    cleanup_fd int fd = to_host(store, id, O_WRONLY | O_CREAT);
    return fd < 0 ? fd : hosted_write(fd, bytes, size, offset);
}

static int truncate_in_memory(struct store *store, uint64_t id, uint64_t size)
{
    with_staged(store);
    struct staged_file *file;
    return resize_in_memory(store, id, size, true, &file);
}

int staging_truncate(struct store *store, uint64_t id, uint64_t size)
{
    int r = truncate_in_memory(store, id, size);
    if (r != 0)
        return r < 0 ? r : 0;
    cleanup_fd int fd = to_host(store, id, O_WRONLY | O_CREAT);
    if (fd < 0)
        return fd;
    return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

int staging_allocate(struct store *store, uint64_t id, int mode, off_t offset, off_t length)
{
    cleanup_fd int fd = to_host(store, id, O_WRONLY | O_CREAT);
    if (fd < 0)
        return fd;
    return fallocate(fd, mode, offset, length) < 0 ? -errno : 0;
}

static void set_time(struct timespec *time, const struct timespec *wanted)
{
    if (wanted->tv_nsec == UTIME_NOW)
        clock_gettime(CLOCK_REALTIME, time);
    else if (wanted->tv_nsec != UTIME_OMIT)
        *time = *wanted;
}

int staging_times(struct store *store, uint64_t id, const struct timespec times[2])
{
    with_staged(store);
    struct staged_file *file = in_memory(store, id);
    if (file != NULL) {
        set_time(&file->atime, &times[0]);
        set_time(&file->mtime, &times[1]);
        clock_gettime(CLOCK_REALTIME, &file->ctime);
        return 0;
    }
    cleanup_fd int fd = hosted_open(store, id, O_RDONLY);
    if (fd < 0)
        return fd;
    return futimens(fd, times) < 0 ? -errno : 0;
}

int staging_remove(struct store *store, uint64_t id)
{
    with_staged(store);
    if (in_memory(store, id) == NULL)
        return hosted_remove(store, id);
    staged_remove(store->staged, id);
    return 0;
}

void staging_remove_idle(struct store *store, uint64_t id)
{
    with_staged(store);
    if (in_memory(store, id) != NULL) {
        staged_remove(store->staged, id);
        return;
    }
    cleanup_fd int fd = hosted_lease(store, id, F_WRLCK);
    if (fd >= 0)
        (void)hosted_remove(store, id);
}

void staging_drop(struct store *store, uint64_t id)
{
    with_staged(store);
    if (in_memory(store, id) != NULL)
        staged_remove(store->staged, id);
}

bool staging_is_hosted(struct store *store, uint64_t id)
{
    with_staged(store);
    return in_memory(store, id) == NULL && hosted_exists(store, id);
}

/* 1: there is a host file, and its bytes are durable. */
static int sync_bytes(struct store *store, uint64_t id, bool data_only)
{
    cleanup_fd int fd = to_host(store, id, O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 1;
}

int staging_sync_bytes(struct store *store, uint64_t id, bool data_only)
{
    int r = sync_bytes(store, id, data_only);
    return r < 0 ? r : 0;
}

int staging_sync_names(struct store *store)
{
    return fsync(store->staging_fd) < 0 ? -errno : 0;
}

int staging_sync(struct store *store, uint64_t id, bool data_only)
{
    int r = sync_bytes(store, id, data_only);
    return r == 1 ? staging_sync_names(store) : r;
}

/* --------------------------------------------------------------------- looking -- */

/* 1 and *n bytes, if it is in memory. */
static int read_from_memory(struct store *store, uint64_t id, void *buffer, size_t size,
                            off_t offset, ssize_t *n)
{
    with_staged(store);
    struct staged_file *file = in_memory(store, id);
    if (file == NULL)
        return 0;
    size_t left = (uint64_t)offset < file->size ? file->size - (size_t)offset : 0;
    *n = (ssize_t)(left < size ? left : size);
    if (*n > 0)
        memcpy(buffer, file->bytes + offset, (size_t)*n);
    return 1;
}

ssize_t staging_read(struct store *store, uint64_t id, void *buffer, size_t size, off_t offset)
{
    ssize_t n;
    if (read_from_memory(store, id, buffer, size, offset, &n) == 1)
        return n;
    cleanup_fd int fd = hosted_open(store, id, O_RDONLY);
    return fd < 0 ? fd : pread_fully(fd, buffer, size, offset);
}

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

int staging_attr(struct store *store, struct store_attr *attr)
{
    with_staged(store);
    struct staged_file *file = in_memory(store, attr->id);
    struct stat st;
    if (file != NULL)
        st = (struct stat){
            .st_size = (off_t)file->size,
            .st_blocks = (blkcnt_t)((file->size + 511) / 512),
            .st_atim = file->atime,
            .st_mtim = file->mtime,
            .st_ctim = file->ctime,
        };
    int r = file != NULL ? 0 : hosted_stat(store, attr->id, &st);
    if (r < 0)
        return r;
    attr->size = (uint64_t)st.st_size;
    attr->blocks = (uint64_t)st.st_blocks;
    attr->mtime = st.st_mtim;
    if (later(st.st_ctim, attr->ctime))
        attr->ctime = st.st_ctim;
    return 0;
}

int staging_payload(struct store *store, uint64_t id, struct payload *payload)
{
    *payload = (struct payload){.fd = -1};
    with_staged(store);
    struct staged_file *file = in_memory(store, id);
    if (file != NULL) {
        /* A copy: somebody may ask for them to be moved to the host. */
        char *copy = malloc(file->size + 1);
        if (copy == NULL)
            return -ENOMEM;
        if (file->size > 0)
            memcpy(copy, file->bytes, file->size);
        *payload = (struct payload){.fd = -1, .bytes = copy, .size = file->size};
        return 0;
    }
    struct stat st;
    int fd = hosted_open(store, id, O_RDONLY);
    if (fd < 0)
        return fd;
    payload->fd = fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    payload->size = (uint64_t)st.st_size;
    return 0;
}

void staging_payload_done(struct payload *payload)
{
    cleanup_fd_p(&payload->fd);
    free((void *)payload->bytes);
}

static int list_in_memory(struct store *store, struct hosted_ids *list)
{
    with_staged(store);
    list->room = store->staged == NULL ? 0 : staged_list(store->staged, NULL, 0);
    list->ids = malloc((list->room + 1) * sizeof(*list->ids));
    if (list->ids == NULL)
        return -ENOMEM;
    list->count = list->room == 0 ? 0 : staged_list(store->staged, list->ids, list->room);
    return 0;
}

int staging_list(struct store *store, uint64_t **ids, size_t *count)
{
    /* In this order: what is moved to the host meanwhile is listed twice rather than not. */
    cleanup(hosted_ids_free) struct hosted_ids list = {0};
    int r = list_in_memory(store, &list);
    if (r == 0)
        r = hosted_list(store, &list);
    if (r < 0)
        return r;
    *ids = steal_pointer(&list.ids);
    *count = list.count;
    return 0;
}
