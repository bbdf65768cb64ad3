/* SPDX-License-Identifier: BSD-2-Clause */
/* private.h: what the modules of the store share and its users don't see. */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include "env.h"
#include "layout.h"
#include "store.h"
#include "util.h"
#include "writer.h"

struct keeper;
struct leases;
struct verified;
struct writers;

struct store {
    struct env *env;
    struct tables tables;
    size_t page_size;       /* bytes: LMDB's */
    size_t inline_max;      /* bytes: larger payloads go to extents */
    size_t transaction_max; /* bytes that one transaction writes at most */
    bool read_only;
    enum store_verify verify; /* when content is compared with its hash */

    int dir_fd;     /* the store's directory */
    int staging_fd; /* staging/ in it; -1 if read-only and there is none */
    int direct_fd;  /* data.mdb past the page cache; -1: see store_read_direct() */
    int owner_fd;   /* the lock that makes us the only writer; -1 if read-only */

    /* NULL if read-only: */
    struct writer *writer;      /* runs all changes */
    struct leases *leases;      /* who holds which record */
    _Atomic bool lease_refused; /* and that was told */
    struct writers *writers;    /* who writes which staged file */
    struct keeper *keeper;      /* seals and reaps in the background */

    _Atomic uint64_t trimmed;  /* writer_commits() when free pages were last given back */
    struct verified *verified; /* what was read and found sound */
    _Atomic unsigned damages;  /* how often damage was reported */
    _Atomic uint64_t verified_pieces, verified_bytes; /* what was compared with its hash */

    void (*sealed)(void *arg, uint64_t id);
    void (*crowded)(void *arg);
    void (*warn)(void *arg, const char *line);
    void *arg;
};

/* Run a change; -EROFS on a read-only store. See writer_run(). */
int store_change(struct store *store, writer_fn *change, void *arg, size_t bytes);

/*
 * -ENOSPC unless the disk has room for `bytes` of payload and, beyond that, for what the tree
 * itself needs: LMDB writes new pages even to delete, so a disk filled to the brim could not be
 * emptied again. Gives the disk the store's free pages back before it says so. Not from the
 * writer's thread, and with no transaction open.
 */
int store_room(struct store *store, size_t bytes);

/* A line for the log. */
void store_warn(struct store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
