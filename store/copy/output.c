/* SPDX-License-Identifier: BSD-2-Clause */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

/* Names to try; two of them in a row are hardly ever taken. */
#define ATTEMPTS 100

int output_make(struct output *output, output_fn *make, void *arg)
{
    output->temporary[0] = '\0';
    int r = make(arg, output->dir_fd, output->name);
    for (int attempt = 0; r == -EEXIST && attempt < ATTEMPTS; attempt++) {
        uint64_t random;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return -errno;
        snprintf(output->temporary, sizeof(output->temporary), ".lmdbfs-%016" PRIx64, random);
        r = make(arg, output->dir_fd, output->temporary);
    }
    return r;
}

const char *output_name(const struct output *output)
{
    return output->temporary[0] == '\0' ? output->name : output->temporary;
}

int output_keep(struct output *output)
{
    if (output->temporary[0] == '\0')
        return 0;
    int r =
        renameat(output->dir_fd, output->temporary, output->dir_fd, output->name) < 0 ? -errno : 0;
    /* If both names lead to one file already, rename(2) does nothing. */
    (void)unlinkat(output->dir_fd, output->temporary, 0);
    return r;
}

void output_discard(struct output *output)
{
    (void)unlinkat(output->dir_fd, output_name(output), 0);
}
