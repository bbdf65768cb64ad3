/* SPDX-License-Identifier: BSD-2-Clause */
#include "uring_offer.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>

#include "store/util.h"

#define PARAMETER "/sys/module/fuse/parameters/enable_uring"
#define POSSIBLE_CPUS "/sys/devices/system/cpu/possible"
#define ONLINE_CPU "/sys/devices/system/cpu/cpu%u/online"

bool uring_is_offered(const struct fuse_buf *init)
{
    const struct fuse_in_header *header = init->mem;
    const struct fuse_init_in *in = (const void *)(header + 1);
    return init->size >= sizeof(*header) + sizeof(*in) && header->opcode == FUSE_INIT &&
           (in->flags & FUSE_INIT_EXT) != 0 && (in->flags2 & URING_OFFER_FLAGS2) != 0;
}

const char *uring_why_not_offered(void)
{
    cleanup_fd int fd = open(PARAMETER, O_RDONLY | O_CLOEXEC);
    char value = '\0';
    if (fd < 0)
        return "this kernel can't, Linux 6.14 is the first that can";
    if (read(fd, &value, 1) == 1 && value == 'N')
        return "switched off in the kernel; to switch it on: echo Y >" PARAMETER;
    return "the kernel doesn't offer it";
}

/* The kernel has one for each CPU that it could ever have, numbered as those. */
int uring_queue_count(void)
{
    cleanup_fd int fd = open(POSSIBLE_CPUS, O_RDONLY | O_CLOEXEC);
    char text[64] = "";
    unsigned last = 0;
    char end = '\0';
    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
        return -ENOTSUP;
    if (strcmp(text, "0\n") == 0)
        return 1;
    /* Anything but a range from 0 has gaps, and there the kernel's own numbers go wrong. */
    if (sscanf(text, "0-%u%c", &last, &end) != 2 || end != '\n' || last >= UINT16_MAX)
        return -ENOTSUP;
    return (int)last + 1;
}

bool uring_queue_is_online(unsigned queue)
{
    char path[sizeof(ONLINE_CPU) + 10];
    snprintf(path, sizeof(path), ONLINE_CPU, queue);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    char value = '1'; /* those that can't be switched off have no such file */
    return fd < 0 || read(fd, &value, 1) != 1 || value == '1';
}
