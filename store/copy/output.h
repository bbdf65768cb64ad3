/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * output.h: a new file of the host (of any kind but a directory) that replaces what has its name,
 * at once and only when it is complete. Where the name is free, it is made under it from the start.
 */
#ifndef STORE_OUTPUT_H
#define STORE_OUTPUT_H

#include <stdbool.h>

struct output {
    int dir_fd;         /* borrowed */
    const char *name;   /* borrowed */
    char temporary[32]; /* what it is called until output_keep(); "": by its name */
};

/* Makes something that doesn't exist yet, or fails with -EEXIST. A positive result is handed on. */
typedef int output_fn(void *arg, int dir_fd, const char *name);

int output_make(struct output *output, output_fn *make, void *arg);

/* What it is called now, in dir_fd. */
const char *output_name(const struct output *output);

/* It is complete. -EISDIR if a directory has its name; on failure it is gone. */
int output_keep(struct output *output);
/* It never was. */
void output_discard(struct output *output);

#endif
