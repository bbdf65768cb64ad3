/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/stat.h>

#include "private.h"

/* Bytes that are asked for at a time: the disk shall have work, but not so much that somebody
 * else's read waits behind it. */
#define STEP ((off_t)8 << 20)

void store_prefetch(struct store *store)
{
    int fd = env_fd(store->env);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return;
    for (off_t at = 0; at < st.st_size; at += STEP)
        (void)posix_fadvise(fd, at, STEP, POSIX_FADV_WILLNEED);
}
