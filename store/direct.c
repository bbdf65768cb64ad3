/* SPDX-License-Identifier: BSD-2-Clause */
#include "direct.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "extent.h"

int store_read_direct(struct store *store, char why[STORE_WHY_MAX])
{
    /* Another descriptor of the same file, and not one of its name. It is closed only after LMDB's:
     * closing any drops the locks that LMDB has on the file. */
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", env_fd(store->env));
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) {
        int r = -errno;
        snprintf(why, STORE_WHY_MAX, "the store's disk can't be read directly: %s", strerror(-r));
        return r;
    }
    store->direct_fd = fd;
    return 0;
}

bool direct_wanted(const struct store *store, const struct layout_record *record)
{
    return store->direct_fd >= 0 && record->size >= EXTENT_LEAST;
}

void direct_round_up(struct iovec *part, size_t room)
{
    size_t rounded = (part->iov_len + DIRECT_ALIGNMENT - 1) & ~(DIRECT_ALIGNMENT - 1);
    if (rounded <= room)
        part->iov_len = rounded;
}

static bool is_aligned(const struct iovec *parts, int count, off_t at)
{
    uintptr_t all = (uintptr_t)at;
    for (int i = 0; i < count; i++)
        all |= (uintptr_t)parts[i].iov_base | parts[i].iov_len;
    return all % DIRECT_ALIGNMENT == 0;
}

/* Take `done` bytes off the front. Returns false when nothing is left. */
static bool advance(struct iovec **parts, int *count, size_t done)
{
    while (*count > 0 && done >= (*parts)->iov_len) {
        done -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (*count > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + done;
        (*parts)->iov_len -= done;
    }
    return *count > 0;
}

int direct_read(struct store *store, const struct layout_record *record, struct iovec *parts,
                int count, off_t at)
{
    bool direct = direct_wanted(store, record) && is_aligned(parts, count, at);
    int fd = direct ? store->direct_fd : env_fd(store->env);
    do {
        ssize_t n = preadv(fd, parts, count, at);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0)
            return -EIO;
        at += n;
        if (!advance(&parts, &count, (size_t)n))
            return 0;
        /* What is left of a short read need not be aligned. */
        if (direct && !is_aligned(parts, count, at))
            fd = env_fd(store->env);
    } while (true);
}
