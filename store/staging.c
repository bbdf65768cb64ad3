/* SPDX-License-Identifier: BSD-2-Clause */
#include "staging.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

struct name {
    char text[17]; /* 16 hex digits */
};

static struct name name_of(uint64_t id)
{
    struct name name;
    snprintf(name.text, sizeof(name.text), "%016" PRIx64, id);
    return name;
}

int staging_open(struct store *store, uint64_t id, int flags)
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

int staging_stat(struct store *store, uint64_t id, struct stat *st)
{
    if (store->staging_fd < 0)
        return -ENOENT;
    return fstatat(store->staging_fd, name_of(id).text, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int staging_remove(struct store *store, uint64_t id)
{
    if (unlinkat(store->staging_fd, name_of(id).text, 0) < 0 && errno != ENOENT)
        return -errno;
    return 0;
}

int staging_sync(struct store *store, uint64_t id, bool data_only)
{
    cleanup_fd int fd = staging_open(store, id, O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if ((data_only ? fdatasync(fd) : fsync(fd)) < 0)
        return -errno;
    return fsync(store->staging_fd) < 0 ? -errno : 0; /* its name */
}

int staging_list(struct store *store, uint64_t **ids, size_t *count)
{
    cleanup_fd int fd = openat(store->staging_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    cleanup_dir DIR *dir = fdopendir(fd);
    if (dir == NULL)
        return -errno;
    fd = -1;

    cleanup_free uint64_t *list = NULL;
    size_t n = 0, room = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char *end;
        uint64_t id = strtoull(entry->d_name, &end, 16);
        if (end != entry->d_name + 16 || *end != '\0')
            continue; /* not one of ours: leave it alone */
        if (n == room) {
            room = room == 0 ? 64 : room * 2;
            uint64_t *larger = reallocarray(list, room, sizeof(*list));
            if (larger == NULL)
                return -ENOMEM;
            list = larger;
        }
        list[n++] = id;
    }
    *ids = steal_pointer(&list);
    *count = n;
    return 0;
}

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

int staging_attr(struct store *store, struct store_attr *attr)
{
    struct stat st;
    int r = staging_stat(store, attr->id, &st);
    if (r < 0)
        return r;
    attr->size = (uint64_t)st.st_size;
    attr->blocks = (uint64_t)st.st_blocks;
    attr->atime = st.st_atim;
    attr->mtime = st.st_mtim;
    if (later(st.st_ctim, attr->ctime))
        attr->ctime = st.st_ctim;
    return 0;
}
