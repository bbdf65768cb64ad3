/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * support.h: what the unit tests share: stores in fresh directories on a real disk, files made in
 * one call, random content that can be made again, and an examination of a whole store.
 *
 *   LMDBFS_TEST_SEED   repeats a run with the seed that it printed
 *   LMDBFS_TEST_SCALE  factor on repetitions, 1 by default; a sanitizer build takes less
 *   TMPDIR             where the stores are made, /var/tmp by default
 *
 * cmocka's assert_*() jump out of the function, which only the main thread can do: other
 * threads and child processes use must().
 */
#ifndef TESTS_UNIT_SUPPORT_H
#define TESTS_UNIT_SUPPORT_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/private.h"

#define must(condition) ((condition) ? (void)0 : support_die(__FILE__, __LINE__, #condition, errno))
void support_die(const char *file, int line, const char *what, int error) __attribute__((noreturn));

/* ----------------------------------------------------------------- stores -- */

/* A directory of its own, and the store in it. */
struct fixture {
    char directory[256]; /* removed with all that is in it */
    char path[300];      /* of the store: a directory below it */
    struct store_options options;
    struct store *store;         /* NULL while it is closed */
    pthread_mutex_t lock;        /* guards the two below */
    char warning[STORE_WHY_MAX]; /* the last one; "" = none */
    uint64_t sealed;             /* calls of options.sealed */
};

/* cmocka's setup and teardown: *state is a struct fixture with an open, new store. The teardown
 * examines the store (see below) if it is open, has it check itself, and fails if the store
 * warned of something. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* The same, with no store made yet. */
int fixture_setup_empty(void **state);

/* Close and open again, as another process would find it. */
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);
void fixture_reopen(struct fixture *fixture);

#define test_with_store(function) \
    cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
#define test_with_directory(function) \
    cmocka_unit_test_setup_teardown(function, fixture_setup_empty, fixture_teardown)

/* Let LMDB make stores with pages of this size from here on; 0 = those of this machine. */
void pretend_page_size(long bytes);

/* ------------------------------------------------------------------ files -- */

#define OWNER_FILE ((struct store_owner){0644, 1000, 1000})
#define OWNER_DIR ((struct store_owner){0755, 1000, 1000})

/* A file of these bytes under a name, sealed; what had the name before is replaced. Its id. */
uint64_t write_file(struct store *store, uint64_t parent, const char *name, const void *bytes,
                    size_t size);
/* The same, not sealed, without writers. */
uint64_t write_unsealed(struct store *store, uint64_t parent, const char *name, const void *bytes,
                        size_t size);
uint64_t make_directory(struct store *store, uint64_t parent, const char *name);

/* True if reading `id`, in pieces of odd sizes, gives just these bytes. */
bool holds(struct store *store, uint64_t id, const void *bytes, size_t size);
struct store_attr attr_of(struct store *store, uint64_t id);
/* The id that a name leads to, 0 if there is no such name. */
uint64_t id_of(struct store *store, uint64_t parent, const char *name);

/* A host file without a name that holds these bytes. */
int host_file(const void *bytes, size_t size);

/* ----------------------------------------------------------- transactions -- */

/* A write transaction of the test's own; the store's writer waits for it. */
struct view *begin_change(struct store *store);
void commit_change(struct store *store, struct view *view);
void abort_change(struct view *view);
/* One that only looks. */
struct view *begin_read(struct store *store);
void end_read(struct store *store, struct view *view);

/* A read transaction that ends with its block: cleanup_read struct env_read read = {0}; */
struct env_read {
    struct env *env;
    MDB_txn *txn;
};
int env_read(struct env *env, struct env_read *read);
void env_read_done(struct env_read *read);
#define cleanup_read cleanup(env_read_done)

/* ------------------------------------------------------------- randomness -- */

struct random {
    uint64_t state;
};

/* A new sequence; the seed of the process, printed once, and `salt` decide which. */
struct random random_new(uint64_t salt);
uint64_t random_next(struct random *random);
/* 0 to limit - 1. */
uint64_t random_below(struct random *random, uint64_t limit);
/* Bytes that depend on `seed` alone, so that they need not be kept. */
void random_fill(uint64_t seed, void *bytes, size_t size);
/* The same in memory of their own. */
char *random_bytes(uint64_t seed, size_t size);

/* `count` times LMDBFS_TEST_SCALE, at least `least`. */
unsigned scaled(unsigned count, unsigned least);

/* Poll until done() says so; false if it never does. */
bool wait_for(bool (*done)(void *arg), void *arg);

/* ------------------------------------------------------------ examination -- */

/* What a whole store was found to hold. */
struct examined {
    uint64_t records, entries, extents, contents, orphans, staged_files;
};

/*
 * Walk all tables in one transaction and fail at the first thing that doesn't fit: entries and
 * records, types, link counts, parents, circles; records, contents and extents, their padding,
 * places and hashes; orphans; ids; host files. The store must be idle.
 */
struct examined examine(struct store *store);

#endif
