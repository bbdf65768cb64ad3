/* SPDX-License-Identifier: BSD-2-Clause */
/* private.h: what the modules of the store share and its users don't see. */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include "layout.h"
#include "store.h"
#include "util.h"
#include "view.h"
#include "writer.h"

struct keeper;
struct leases;
struct pending;
struct reserve;
struct staged;
struct sweeps;
struct unsealed;
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
    struct writer *writer;           /* runs the transactions */
    struct pending *pending;         /* changes that are visible and not committed */
    struct staged *staged;           /* bytes of small unsealed files */
    struct reserve *reserve;         /* room for what was promised, once others write past us */
    struct leases *leases;           /* who holds which record */
    _Atomic bool lease_refused;      /* and that was told */
    struct writers *writers;         /* who writes which staged file */
    struct unsealed *unsealed_files; /* files that were sealed, and are written again */
    struct sweeps *sweeps;           /* trees that have left staging */
    struct keeper *keeper;           /* seals, reaps and sweeps in the background */
    _Atomic uint64_t next_id;        /* no id from here on was ever given out */
    _Atomic uint64_t promised; /* bytes of sealed files that the next commits bring into data.mdb */

    _Atomic uint64_t trimmed;  /* writer_commits() when free pages were last given back */
    struct verified *verified; /* what was read and found sound */
    _Atomic unsigned damages;  /* how often damage was reported */
    _Atomic uint64_t verified_pieces, verified_bytes; /* what was compared with its hash */
    _Atomic unsigned helpers; /* threads that help to compare clones, see clone_verify.c */

    void (*sealed)(void *arg, uint64_t id);
    void (*unsealed)(void *arg, uint64_t id);
    void (*crowded)(void *arg);
    void (*warn)(void *arg, const char *line);
    void *arg;
};

/* Run a change of the tree: visible when this returns, committed later (see pending_change()), or
 * also then if it publishes something and the store was opened with `sync`. -EROFS on a read-only
 * store. */
int store_change(struct store *store, writer_fn *change, void *arg);
/* The same for who calls store_settle() when he has done what belongs to it. */
int store_change_unsettled(struct store *store, writer_fn *change, void *arg);

/* Run a change in a transaction of its own, or that it shares, and wait until it is durable; see
 * writer_run(). For what is never pending: extents, and contents that are orphans. */
int store_transact(struct store *store, writer_fn *change, void *arg, size_t bytes);
/* The same for a change of the tree: many at once, or nothing of use while they are pending. */
int store_transact_alone(struct store *store, writer_fn *change, void *arg, size_t bytes);

/*
 * -ENOSPC unless the disk has room for `bytes` of payload, for all that is pending and, beyond
 * that, for what the tree itself needs: LMDB writes new pages even to delete, so a disk filled to
 * the brim could not be emptied again. Before it says so, what is pending is committed and the
 * disk is given the store's free pages back. For who is about to make a promise; with no view open.
 */
int store_room(struct store *store, uint64_t bytes);
/* The same for who keeps one: it is for him that the rest is kept. */
int store_room_promised(struct store *store, uint64_t bytes);

/* In who has just made a promise, or kept one: others who write past us shall not take the room for
 * what is promised. -ENOSPC: they have. */
int store_room_keep(struct store *store);

/* A line for the log. */
void store_warn(struct store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
