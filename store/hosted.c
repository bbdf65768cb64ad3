/* SPDX-License-Identifier: BSD-2-Clause */
#include "hosted.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
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

int hosted_open(struct store *store, uint64_t id, int flags)
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

int hosted_stat(struct store *store, uint64_t id, struct stat *st)
{
    if (store->staging_fd < 0)
        return -ENOENT;
    return fstatat(store->staging_fd, name_of(id).text, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int hosted_write(int fd, const char *bytes, size_t size, off_t offset)
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

int hosted_open_existing(struct store *store, uint64_t id)
{
    struct stat st;
    cleanup_fd int fd = hosted_open(store, id, O_RDONLY);
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_nlink == 0))
        return -ENOENT;
    return steal_fd(&fd);
}

bool hosted_exists(struct store *store, uint64_t id)
{
    struct stat st;
    return hosted_stat(store, id, &st) == 0;
}

int hosted_remove(struct store *store, uint64_t id)
{
    int rc = unlinkat(store->staging_fd, name_of(id).text, 0);
    return rc < 0 && errno != ENOENT ? -errno : 0;
}

int hosted_lease(struct store *store, uint64_t id, int kind)
{
    cleanup_fd int fd = hosted_open(store, id, O_RDONLY);
    /* Who opens the file meanwhile has a signal sent to us; SIGIO would end us, SIGURG does not. */
    if (fd >= 0 && (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, kind) < 0))
        return -errno;
    return steal_fd(&fd);
}

void hosted_ids_free(struct hosted_ids *list)
{
    free(list->ids);
}

int hosted_list(struct store *store, struct hosted_ids *list)
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
