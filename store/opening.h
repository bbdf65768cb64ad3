/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opening.h: the questions that are asked when a store is opened: is it a store, is it ours, do we
 * know its format. A refusal is a negative errno and one line for a person.
 */
#ifndef STORE_OPENING_H
#define STORE_OPENING_H

#include "private.h"

/* The files of a store, see docs/format.md. */
#define DATA_FILE "data.mdb"
#define OWNER_FILE "owner"
#define STAGING_DIR "staging"

struct opening {
    const char *path;
    const struct store_options *options;
    char *why; /* STORE_WHY_MAX bytes */
};

/* Write "path: ..." to `why` and return `error`. */
int refuse(const struct opening *opening, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* directory.c: open the store's directory, and look at data.mdb before LMDB does. With
 * options->create it is made if missing, but not among other files. */
int directory_open(const struct opening *opening, int *dir_fd);
int directory_check(const struct opening *opening, int dir_fd);

/* owner.c: become the only writer, until *owner_fd is closed. -EBUSY. */
int owner_take(const struct opening *opening, int dir_fd, int *owner_fd);
/* Tell who waits that it won't be long. */
void owner_leaving(int owner_fd);

/* format.c: open the tables, or make them in a fresh environment, and check that we know them. */
int format_open(const struct opening *opening, struct store *store, bool fresh);

#endif
