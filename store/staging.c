/* SPDX-License-Identifier: BSD-2-Clause */
#include "staging.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "staged.h"

/* ---------------------------------------------------------------- host files -- */

struct name {
    char text[17]; /* 16 hex digits */
};

static struct name name_of(uint64_t id)
{
    struct name name;
    snprintf(name.text, sizeof(name.text), "%016" PRIx64, id);
    return name;
}

static int host_open(struct store *store, uint64_t id, int flags)
{
    if (store->staging_fd < 0)
        return -ENOENT;
    /* Reading must not move the access time that was set: it is the record's. */
    int no_atime = (flags & O_ACCMODE) == O_RDONLY ? O_NOATIME : 0;
    flags |= O_CLOEXEC | O_NOFOLLOW;
    int fd = openat(store->staging_fd, name_of(id).text, flags | no_atime, 0600);
    if (fd < 0 && errno == EPERM && no_atime != 0) /* a file of another user */
        fd = openat(store->staging_fd, name_of(id).text, flags, 0600);
    return fd < 0 ? -errno : fd;
}

static int host_stat(struct store *store, uint64_t id, struct stat *st)
{
    if (store->staging_fd < 0)
        return -ENOENT;
    return fstatat(store->staging_fd, name_of(id).text, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int host_write(int fd, const char *bytes, size_t size, off_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, bytes + done, size - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

/* ----------------------------------------------------- from memory to the host -- */

/* With the lock held. */
static int move_to_host(struct store *store, struct staged_file *file)
{
    cleanup_fd int fd = host_open(store, file->id, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    const struct timespec times[2] = {file->atime, file->mtime};
    int r = host_write(fd, file->bytes, file->size, 0);
    if (r == 0 && futimens(fd, times) < 0)
        r = -errno;
    if (r < 0)
        (void)unlinkat(store->staging_fd, name_of(file->id).text, 0);
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
    return r < 0 ? r : host_open(store, id, flags);
}

/* A file that was removed while somebody waited for it is no file of ours any more. */
static int open_existing(struct store *store, uint64_t id)
{
    struct stat st;
    cleanup_fd int fd = host_open(store, id, O_RDONLY);
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_nlink == 0))
        return -ENOENT;
    return steal_fd(&fd);
}

int staging_open(struct store *store, uint64_t id, const struct timespec times[2])
{
    with_staged(store);
    struct staged_file *file = in_memory(store, id);
    if (times == NULL)
        return file != NULL ? -ENOENT : open_existing(store, id);
    int r = file == NULL ? 0 : move_to_host(store, file);
    if (r < 0)
        return r;
    cleanup_fd int fd = host_open(store, id, O_RDONLY | O_CREAT | O_EXCL);
    if (fd == -EEXIST)
        return open_existing(store, id);
    if (fd >= 0 && futimens(fd, times) < 0)
        return -errno;
    return steal_fd(&fd);
}

/* A lease on the host file; -EAGAIN: somebody has it open in a way that doesn't go with it. Until
 * it is closed, who opens it waits. */
static int lease(struct store *store, uint64_t id, int kind)
{
    cleanup_fd int fd = host_open(store, id, O_RDONLY);
    /* Who opens the file meanwhile has a signal sent to us; SIGIO would end us, SIGURG does not. */
    if (fd >= 0 && (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, kind) < 0))
        return -errno;
    return steal_fd(&fd);
}

bool staging_is_open(struct store *store, uint64_t id, bool to_read)
{
    cleanup_fd int fd = lease(store, id, to_read ? F_WRLCK : F_RDLCK);
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

static bool is_on_host(struct store *store, uint64_t id)
{
    struct stat st;
    return host_stat(store, id, &st) == 0;
}

/* ------------------------------------------------------------------- changing -- */

/* 1: done in memory; 0: it isn't there, and doesn't fit. Lock held. */
static int resize_in_memory(struct store *store, uint64_t id, uint64_t size, bool shrink,
                            struct staged_file **out)
{
    struct staged_file *file = in_memory(store, id);
    if (file == NULL && (size > STAGED_FILE_MOST || is_on_host(store, id)))
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
    return fd < 0 ? fd : host_write(fd, bytes, size, offset);
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
    cleanup_fd int fd = host_open(store, id, O_RDONLY);
    if (fd < 0)
        return fd;
    return futimens(fd, times) < 0 ? -errno : 0;
}

int staging_remove(struct store *store, uint64_t id)
{
    with_staged(store);
    if (in_memory(store, id) != NULL)
        staged_remove(store->staged, id);
    else if (unlinkat(store->staging_fd, name_of(id).text, 0) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

void staging_remove_idle(struct store *store, uint64_t id)
{
    with_staged(store);
    cleanup_fd int fd = lease(store, id, F_WRLCK);
    if (in_memory(store, id) != NULL)
        staged_remove(store->staged, id);
    else if (fd != -EAGAIN)
        (void)unlinkat(store->staging_fd, name_of(id).text, 0);
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
    return in_memory(store, id) == NULL && is_on_host(store, id);
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
    cleanup_fd int fd = host_open(store, id, O_RDONLY);
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
    int r = file != NULL ? 0 : host_stat(store, attr->id, &st);
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
    int fd = host_open(store, id, O_RDONLY);
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

/* Ids, as they are found. */
struct list {
    uint64_t *ids;
    size_t count, room;
};

static void cleanup_list_p(struct list *list)
{
    free(list->ids);
}

static int list_hosted(struct store *store, struct list *list)
{
    cleanup_fd int fd = openat(store->staging_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (dir == NULL)
        return -errno;
    fd = -1;

    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir)) != NULL;) {
        char *end;
        uint64_t id = strtoull(entry->d_name, &end, 16);
        if (end != entry->d_name + 16 || *end != '\0')
            continue; /* not one of ours: leave it alone */
        r = make_room(&list->ids, &list->room, list->count, sizeof(*list->ids));
        if (r == 0)
            list->ids[list->count++] = id;
    }
    return r;
}

static int list_in_memory(struct store *store, struct list *list)
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
    cleanup(cleanup_list_p) struct list list = {0};
    int r = list_in_memory(store, &list);
    if (r == 0)
        r = list_hosted(store, &list);
    if (r < 0)
        return r;
    *ids = steal_pointer(&list.ids);
    *count = list.count;
    return 0;
}
