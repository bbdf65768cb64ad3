/* SPDX-License-Identifier: BSD-2-Clause */
/* import.h: what the parts of store_import() share. */
#ifndef STORE_IMPORT_H
#define STORE_IMPORT_H

#include <sys/stat.h>

#include "count.h"
#include "pipeline.h"
#include "private.h"
#include "shared.h"
#include "walk.h"

struct ahead;

struct importing {
    struct store *store;
    const struct store_observer *observer;
    struct store_work *work; /* what is durable */
    struct count *count;     /* NULL: nobody wants to know */
    struct walk walk;
    struct walk_names names;
    struct shared_set shared; /* files with several names that were met so far */
    struct pipeline pipeline;
    dev_t store_dev; /* the store's own directory, which is not to be imported */
    ino_t store_ino;
};

/* A name, where it was found. */
struct source {
    struct walk_dir *dir;
    int dir_fd;
    const char *name;
    struct ahead *ahead; /* over the directory, */
    size_t index;        /* in which the name has this place */
    struct stat st;      /* what add_item() makes a record from */
};

/* The functions below return 0 where the import can go on, also without this name; else they have
 * told why. */

/* A name is left out because it can't be otherwise. NULL: the directory itself. */
int import_skip(struct importing *import, struct walk_dir *dir, const char *name, const char *text);
/* Left out although the user wanted it. */
int import_miss(struct importing *import, struct walk_dir *dir, const char *name, const char *text);
/* A system call on a source failed: left out, unless it is no use to go on. */
int import_source_error(struct importing *import, struct walk_dir *dir, const char *name,
                        int error);
/* The store could not be written: returns `error`. */
int import_write_error(struct importing *import, int error);
/* Tell how far we are, with so many bytes on top of what is durable. */
void import_progress(struct importing *import, uint64_t bytes_more);

/* An item for the store, with a record made from source->st. */
int import_add(struct importing *import, const struct source *source, enum batch_kind kind,
               size_t payload_size, struct batch_item **item);

/* import_file.c */
int import_file(struct importing *import, struct source *source);
int import_symlink(struct importing *import, struct source *source);

#endif
