/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h: the options of -o: which there are, and what each is good for.
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include <stdbool.h>

#include "records.h"
#include "store/store.h"

/* -o io_uring: whether requests come by it (uring.h). */
enum options_uring {
    OPTIONS_URING_AUTO, /* where it is offered */
    OPTIONS_URING_ON,   /* or not at all */
    OPTIONS_URING_OFF,
};

struct mount_options {
    char *store_path; /* absolute */
    char *mountpoint; /* absolute, without symbolic links */
    char *inbox;      /* absolute; NULL = none */
    bool read_only;   /* for those who use the mount; an inbox changes the store nevertheless */
    bool debug;
    unsigned max_read;         /* bytes in one READ at most; 0 = as the kernel likes */
    size_t memory;             /* bytes; 0 = the usual, see memory.h */
    unsigned commit_ms;        /* a change is durable after so many; 0 = the usual */
    bool sync;                 /* or, if it publishes something, when it returns */
    enum store_verify verify;  /* when content is compared with its hash */
    enum options_uring uring;  /* whether requests come by it */
    enum records_mode records; /* what to tune the mount for */
    unsigned clones;           /* of large records that are kept when nobody has them open */
    char *fsname;              /* what the mount table names as the source; NULL = store_path */
    char *fuse;                /* what libfuse shall have, as it wants it; NULL = nothing */
};

/*
 * Add the options in `text`, separated by commas (not by those between double quotes), to
 * `options`. -EINVAL: `why` holds one line that names the one that is wrong. -ENOMEM.
 */
int options_parse(struct mount_options *options, const char *text, char why[STORE_WHY_MAX]);

/* True if the store is to be changed, by the mount's users or an inbox. */
bool options_write(const struct mount_options *options);

/* The options as lines for --help, to standard output. */
void options_print_help(void);

/* Free what `options` points to. */
void options_destroy(struct mount_options *options);

#endif
