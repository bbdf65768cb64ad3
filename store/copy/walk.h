/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * walk.h: the directories of a tree of host files that are still to be visited.
 *
 * Directories are opened relative to each other and never through a symbolic link, so paths may be
 * longer than PATH_MAX and nobody can lead the walk elsewhere by exchanging a directory. What is
 * kept is a name per directory that is pending or above a pending one; descriptors only for a few
 * that were used last.
 *
 * Not thread-safe. Of several names of the host nothing is assumed but that they are not empty.
 */
#ifndef STORE_WALK_H
#define STORE_WALK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct walk_dir {
    struct walk_dir *parent; /* NULL: the top */
    struct walk_dir *next;   /* pending after this one */
    struct walk_dir *below;  /* the next one on the way to a directory that is being opened */
    unsigned references;     /* who holds this struct */
    int fd;                  /* -1: not among those used last */

    /* The walker's own: */
    uint64_t id;         /* the record on the store's side */
    unsigned unfinished; /* itself and its directories that are not done: an export */
    bool fresh;          /* the record is new, so it has no names but ours: an import */
    atomic_bool failed;  /* there is no such record, and won't be: an import, by any thread */
    char name[];         /* "" for the top */
};

#define WALK_RECENT 32 /* descriptors kept */

struct walk {
    const char *path; /* of the top, for messages; borrowed */
    struct walk_dir *top;
    struct walk_dir *first, **last; /* pending */
    struct walk_dir *recent[WALK_RECENT];
    unsigned turn;
};

/* Begin with the open directory `fd`, which is the walk's from now on, also on failure. The top is
 * pending. */
int walk_start(struct walk *walk, const char *path, int fd);
/* Release all. A walk of zeros is allowed. */
void walk_end(struct walk *walk);
#define cleanup_walk cleanup(walk_end)

/* One more directory to visit: after all others, or (`soon`) before them. NULL: no memory. The
 * reference is the walk's. */
struct walk_dir *walk_add(struct walk *walk, struct walk_dir *parent, const char *name, bool soon);

/* The next directory, with a reference for walk_release(); NULL at the end. */
struct walk_dir *walk_next(struct walk *walk);

struct walk_dir *walk_hold(struct walk_dir *dir);
void walk_release(struct walk_dir *dir); /* NULL is allowed */
static inline void walk_release_p(struct walk_dir **dir)
{
    walk_release(*dir);
}
#define cleanup_walk_dir cleanup(walk_release_p)

/* A descriptor of the directory, the caller's to close. -errno of openat(2); -ENOTDIR or -ELOOP if
 * something else has its name now. */
int walk_open(struct walk *walk, struct walk_dir *dir);

/* The path of `name` in it (or of the directory itself: NULL), for messages. To be freed; NULL: no
 * memory. */
char *walk_path(const struct walk *walk, const struct walk_dir *dir, const char *name);

/* The names in one directory, without "." and "..". */
struct walk_name {
    uint64_t place;     /* entry_place() of the name */
    size_t offset;      /* in `text` */
    unsigned char type; /* DT_... of readdir(3) */
};

struct walk_names {
    struct walk_name *list;
    size_t count, room;
    char *text; /* the names, terminated */
    size_t length, text_room;
};

/* Reads the directory `fd` (and leaves it open) into `names`, whose memory is used again. Sorted as
 * the store lists names. */
int walk_list(int fd, struct walk_names *names);
void walk_names_free(struct walk_names *names);

#endif
