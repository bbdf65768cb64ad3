/* SPDX-License-Identifier: BSD-2-Clause */
/* export.h: what the parts of store_export() share. */
#ifndef STORE_EXPORT_H
#define STORE_EXPORT_H

#include <xxhash.h>

#include "memory.h"
#include "private.h"
#include "shared.h"
#include "walk.h"

/* Bytes to read at once: several extents. */
#define EXPORT_COPY_BYTES ((size_t)1 << 20)

/* The record that was being read is not there any more, or no longer under its name. */
#define EXPORT_CHANGED (-ESTALE)

struct exporting {
    struct store *store;
    const struct store_observer *observer;
    struct store_work *work, all;
    struct walk walk; /* over the host's directories; their ids are those of the store's */
    struct shared_set shared;
    XXH3_state_t *hash;
    char *buffer; /* EXPORT_COPY_BYTES */
    bool root;    /* may set owners */
    struct memory memory;
};

/* A name in the store and where it goes. */
struct target {
    struct walk_dir *dir;
    int dir_fd;
    const char *name;
    struct store_attr attr;
};

/* The functions below return 0 where the export can go on, also without this name; else they have
 * told why. */

/* A name (NULL: the directory itself) is left out. */
int export_miss(struct exporting *export, const struct walk_dir *dir, const char *name,
                const char *text);
/* A system call on the host failed: left out, unless it is no use to go on. */
int export_host_error(struct exporting *export, const struct walk_dir *dir, const char *name,
                      int error);
/* The store could not be read: left out. */
int export_store_error(struct exporting *export, const struct walk_dir *dir, const char *name,
                       int error);
/* The name is there. */
void export_done(struct exporting *export, const struct target *target);

/* Owner (if we are root), permissions and times of a file or directory. -errno. */
int export_set_attributes(const struct exporting *export, int fd, const struct store_attr *attr);

/* export_file.c: a regular file or symbolic link, with one name or several. EXPORT_CHANGED, untold:
 * it is to be looked up again. */
int export_content(struct exporting *export, const struct target *target);

#endif
