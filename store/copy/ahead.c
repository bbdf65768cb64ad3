/* SPDX-License-Identifier: BSD-2-Clause */
#include "ahead.h"

#include <fcntl.h>

#include "util.h"

/* Of each file: most are smaller, and larger ones are read ahead by the kernel. */
#define AHEAD_BYTES (128 << 10)

void ahead_start(struct ahead *ahead, int dir_fd, const struct walk_names *names)
{
    *ahead = (struct ahead){.dir_fd = dir_fd, .names = names};
    for (size_t i = 0; i < AHEAD_FILES; i++)
        ahead->fds[i] = -1;
}

/* A reader leaves no trace where it may: reading for a copy is not use. */
static int open_file(const struct ahead *ahead, size_t index)
{
    const char *name = ahead->names->text + ahead->names->list[index].offset;
    /* O_NONBLOCK: it may have become a fifo, which would make us wait. */
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(ahead->dir_fd, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(ahead->dir_fd, name, flags);
    return fd < 0 ? -errno : fd;
}

static void look_ahead(struct ahead *ahead, size_t end)
{
    for (; ahead->next < end && ahead->next < ahead->names->count; ahead->next++) {
        if (ahead->names->list[ahead->next].type != DT_REG)
            continue;
        int fd = open_file(ahead, ahead->next);
        if (fd >= 0)
            (void)posix_fadvise(fd, 0, AHEAD_BYTES, POSIX_FADV_WILLNEED);
        int *slot = &ahead->fds[ahead->next % AHEAD_FILES];
        cleanup_fd_p(slot); /* of a name that was skipped */
        *slot = fd < 0 ? -1 : fd;
    }
}

int ahead_take(struct ahead *ahead, size_t index)
{
    look_ahead(ahead, index + AHEAD_FILES);
    int fd = steal_fd(&ahead->fds[index % AHEAD_FILES]);
    return fd >= 0 ? fd : open_file(ahead, index); /* tells why not, or it is worth another try */
}

void ahead_end(struct ahead *ahead)
{
    for (size_t i = 0; i < AHEAD_FILES; i++)
        cleanup_fd_p(&ahead->fds[i]);
}
