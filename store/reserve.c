/* SPDX-License-Identifier: BSD-2-Clause */
#include "reserve.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

#include "util.h"

struct reserve {
    int dir_fd;
    pthread_mutex_t lock; /* guards the rest */
    _Atomic int fd;       /* the file; -1: not begun */
    _Atomic uint64_t bytes;
};

struct reserve *reserve_new(int dir_fd)
{
    struct reserve *reserve = calloc(1, sizeof(*reserve));
    if (reserve == NULL)
        return NULL;
    reserve->dir_fd = dir_fd;
    reserve->fd = -1;
    pthread_mutex_init(&reserve->lock, NULL);
    return reserve;
}

void reserve_free(struct reserve *reserve)
{
    if (reserve == NULL)
        return;
    if (reserve->fd >= 0)
        (void)close(reserve->fd);
    pthread_mutex_destroy(&reserve->lock);
    free(reserve);
}

void reserve_begin(struct reserve *reserve)
{
    with_mutex(&reserve->lock);
    if (reserve->fd < 0)
        reserve->fd = openat(reserve->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

bool reserve_begun(const struct reserve *reserve)
{
    return reserve != NULL && atomic_load(&reserve->fd) >= 0;
}

uint64_t reserve_bytes(const struct reserve *reserve)
{
    return reserve == NULL ? 0 : atomic_load(&reserve->bytes);
}

/* With the lock held. */
static int resize(struct reserve *reserve, uint64_t bytes)
{
    uint64_t now = reserve->bytes;
    int rc = 0;
    if (reserve->fd < 0 || bytes == now)
        return 0;
    if (bytes < now)
        rc = ftruncate(reserve->fd, (off_t)bytes);
    else
        rc = fallocate(reserve->fd, 0, (off_t)now, (off_t)(bytes - now));
    if (rc == 0) {
        atomic_store(&reserve->bytes, bytes);
        return 0;
    }
    int error = errno;
    if (bytes > now)
        rc = ftruncate(reserve->fd, (off_t)now); /* a part may have been had */
    return error == ENOSPC || error == EDQUOT ? -ENOSPC : 0;
}

int reserve_keep(struct reserve *reserve, uint64_t bytes)
{
    if (!reserve_begun(reserve))
        return 0;
    with_mutex(&reserve->lock);
    return resize(reserve, bytes);
}

void reserve_let(struct reserve *reserve, uint64_t bytes)
{
    struct statvfs fs;
    if (!reserve_begun(reserve))
        return;
    with_mutex(&reserve->lock);
    uint64_t kept = reserve->bytes;
    if (kept == 0 || fstatvfs(reserve->dir_fd, &fs) < 0)
        return;
    uint64_t there = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (there < bytes)
        (void)resize(reserve, kept > bytes - there ? kept - (bytes - there) : 0);
}

bool reserve_release(struct reserve *reserve)
{
    if (!reserve_begun(reserve))
        return false;
    with_mutex(&reserve->lock);
    return reserve->bytes > 0 && resize(reserve, 0) == 0;
}
