/* SPDX-License-Identifier: BSD-2-Clause */
#include "readahead.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "store/util.h"

int readahead_raise(dev_t device, size_t bytes)
{
    char path[64], text[24];
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device),
             minor(device));
    int length = snprintf(text, sizeof(text), "%zu", bytes >> 10);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, (size_t)length) < 0 ? -errno : 0;
}
