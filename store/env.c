/* SPDX-License-Identifier: BSD-2-Clause */
#include "env.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include "layout.h"

/* LMDB's default of 126 reader slots is a request each; a slot costs 64 bytes of lock.mdb. */
#define MAX_READERS 1024
#define MAX_TABLES 16
#define MAIN_TABLE 1 /* LMDB's own: the names of the others (mdb.c: MAIN_DBI) */

/* A sparse map of this size costs nothing but address space (opens in 0.1 ms, 1.6 MB resident);
 * where that is limited (RLIMIT_AS), halve it until it fits. */
#define MAP_SIZE ((size_t)1 << (sizeof(void *) == 8 ? 40 : 30))
#define MAP_SIZE_LEAST ((size_t)1 << 24)

/* Idle transactions to keep; more of them are in use only for moments. */
#define POOL_SIZE 64

struct env {
    MDB_env *lmdb;
    struct tables tables;
    size_t page_size;
    bool read_only;
    char *path;

    /* Read: inside a read transaction. Write: while the map moves. */
    pthread_rwlock_t map_lock;
    _Atomic(const char *) map; /* its address; NULL until a transaction asks, and after a move */

    pthread_mutex_t pool_lock; /* guards the two below */
    MDB_txn *pool[POOL_SIZE];
    unsigned pooled;
};

int lmdb_error(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_KEYEXIST:
        return -EEXIST;
    case MDB_MAP_FULL:
        return ENV_MAP_FULL;
    case MDB_READERS_FULL:
        return -EAGAIN;
    case MDB_VERSION_MISMATCH:
        return -EPROTONOSUPPORT;
    case MDB_INVALID:
        return -EINVAL;
    default:
        return rc > 0 ? -rc : -EIO;
    }
}

static int open_lmdb(const char *path, unsigned flags, size_t map_size, MDB_env **out)
{
    MDB_env *lmdb = NULL;
    int rc = mdb_env_create(&lmdb);
    if (rc == 0)
        guard_install(lmdb);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(lmdb, MAX_READERS);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(lmdb, MAX_TABLES);
    if (rc == 0)
        rc = mdb_env_set_mapsize(lmdb, map_size);
    if (rc == 0)
        rc = mdb_env_open(lmdb, path, flags, 0644);
    if (rc != 0) {
        mdb_env_close(lmdb);
        return lmdb_error(rc);
    }
    *out = lmdb;
    return 0;
}

/* LMDB itself takes the larger of this size, the file's and the one in its meta page. */
static int open_with_room(const char *path, unsigned flags, size_t map_size, MDB_env **out)
{
    if (map_size != 0)
        return open_lmdb(path, flags, map_size, out);

    int r = -ENOMEM;
    for (size_t size = MAP_SIZE; r == -ENOMEM && size >= MAP_SIZE_LEAST; size /= 2)
        r = open_lmdb(path, flags, size, out);
    return r;
}

static int count_tables(struct env *env, size_t *tables)
{
    MDB_txn *txn = NULL;
    MDB_stat stat;

    int rc = mdb_txn_begin(env->lmdb, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return lmdb_error(rc);
    rc = mdb_stat(txn, MAIN_TABLE, &stat);
    if (rc == 0)
        *tables = stat.ms_entries;
    mdb_txn_abort(txn);
    return lmdb_error(rc);
}

/* By default readers that overlap keep a writer waiting for ever. */
static void init_map_lock(struct env *env)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&env->map_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

static unsigned flags_of(const struct env *env)
{
    return MDB_NOTLS | MDB_NORDAHEAD | (env->read_only ? MDB_RDONLY : 0u);
}

int env_open(const char *path, bool read_only, size_t map_size, struct env **out, bool *fresh)
{
    struct env *env = calloc(1, sizeof(*env));
    if (env == NULL)
        return -ENOMEM;
    env->read_only = read_only;
    env->path = strdup(path);
    init_map_lock(env);
    pthread_mutex_init(&env->pool_lock, NULL);

    size_t tables = 0;
    int dead = 0;
    int r = env->path == NULL ? -ENOMEM : open_with_room(path, flags_of(env), map_size, &env->lmdb);
    if (r == 0)
        (void)mdb_reader_check(env->lmdb, &dead); /* slots of killed processes pin pages */
    if (r == 0)
        r = count_tables(env, &tables);
    if (r < 0) {
        env_close(env);
        return r;
    }
    MDB_stat stat;
    mdb_env_stat(env->lmdb, &stat);
    env->page_size = stat.ms_psize;
    *fresh = tables == 0;
    *out = env;
    return 0;
}

static void close_lmdb(struct env *env)
{
    for (unsigned i = 0; i < env->pooled; i++)
        mdb_txn_abort(env->pool[i]);
    env->pooled = 0;
    if (env->lmdb != NULL)
        mdb_env_close(env->lmdb);
    env->lmdb = NULL;
}

void env_close(struct env *env)
{
    if (env == NULL)
        return;
    close_lmdb(env);
    free(env->path);
    pthread_rwlock_destroy(&env->map_lock);
    pthread_mutex_destroy(&env->pool_lock);
    free(env);
}

int env_open_tables(struct env *env, MDB_txn *txn, bool create)
{
    struct {
        const char *name;
        MDB_dbi *handle;
    } tables[] = {
        {"meta", &env->tables.meta},         {"entries", &env->tables.entries},
        {"records", &env->tables.records},   {"extents", &env->tables.extents},
        {"contents", &env->tables.contents}, {"orphans", &env->tables.orphans},
    };
    for (size_t i = 0; i < array_length(tables); i++) {
        int rc = mdb_dbi_open(txn, tables[i].name, create ? MDB_CREATE : 0, tables[i].handle);
        if (rc != 0)
            return rc == MDB_INCOMPATIBLE ? -ENOENT : lmdb_error(rc);
    }
    return 0;
}

const struct tables *env_tables(const struct env *env)
{
    return &env->tables;
}

MDB_env *env_lmdb(const struct env *env)
{
    return env->lmdb;
}

int env_fd(const struct env *env)
{
    int fd = -1;
    (void)mdb_env_get_fd(env->lmdb, &fd);
    return fd;
}

size_t env_page_size(const struct env *env)
{
    return env->page_size;
}

size_t env_map_size(const struct env *env)
{
    MDB_envinfo info = {0};
    (void)mdb_env_info(env->lmdb, &info);
    return info.me_mapsize;
}

static MDB_txn *pool_take(struct env *env)
{
    with_mutex(&env->pool_lock);
    return env->pooled > 0 ? env->pool[--env->pooled] : NULL;
}

static bool pool_give(struct env *env, MDB_txn *txn)
{
    with_mutex(&env->pool_lock);
    if (env->pooled == POOL_SIZE)
        return false;
    env->pool[env->pooled++] = txn;
    return true;
}

/* Another process made the map larger than ours (we are its reader). */
static int adopt_map_size(struct env *env)
{
    pthread_rwlock_unlock(&env->map_lock);
    pthread_rwlock_wrlock(&env->map_lock);
    int rc = mdb_env_set_mapsize(env->lmdb, 0);
    env->map = NULL;
    pthread_rwlock_unlock(&env->map_lock);
    pthread_rwlock_rdlock(&env->map_lock);
    return rc;
}

/* This thread has a read transaction; see env_read_begin() for why not two. */
static _Thread_local bool reading;

int env_read_begin(struct env *env, MDB_txn **out)
{
    assert(!reading);
    pthread_rwlock_rdlock(&env->map_lock);
    if (env->lmdb == NULL) {
        pthread_rwlock_unlock(&env->map_lock);
        return -EIO;
    }
    MDB_txn *txn = pool_take(env);
    int rc = MDB_MAP_RESIZED;
    for (int attempt = 0; rc == MDB_MAP_RESIZED && attempt < 3; attempt++) {
        rc = txn != NULL ? mdb_txn_renew(txn) : mdb_txn_begin(env->lmdb, NULL, MDB_RDONLY, &txn);
        if (rc == MDB_MAP_RESIZED && adopt_map_size(env) != 0)
            break;
    }
    if (rc != 0) {
        if (txn != NULL)
            mdb_txn_abort(txn);
        pthread_rwlock_unlock(&env->map_lock);
        return lmdb_error(rc);
    }
    reading = true;
    *out = txn;
    return 0;
}

void env_read_end(struct env *env, MDB_txn *txn)
{
    reading = false;
    mdb_txn_reset(txn);
    if (!pool_give(env, txn))
        mdb_txn_abort(txn);
    pthread_rwlock_unlock(&env->map_lock);
}

/* LMDB doesn't tell where its map is (me_mapaddr is for MDB_FIXEDMAP). But every page begins
 * with its number (mdb.c: MDB_page), and the main table has a page as long as there are tables. */
static const char *find_map(const struct env *env, MDB_txn *txn)
{
    MDB_cursor *tables;
    MDB_val k, v;
    if (mdb_cursor_open(txn, MAIN_TABLE, &tables) != 0)
        return NULL;
    int rc = guard_cursor_get(tables, &k, &v, MDB_FIRST);
    mdb_cursor_close(tables);
    if (rc != 0)
        return NULL;
    uintptr_t page = (uintptr_t)v.mv_data & ~(uintptr_t)(env->page_size - 1);
    size_t number;
    memcpy(&number, (const void *)page, sizeof(number));
    return (const char *)(page - number * env->page_size);
}

off_t env_offset(struct env *env, MDB_txn *txn, const void *value)
{
    /* Pages larger than the machine's (the store is from another one) need not be aligned in
     * memory, which find_map() relies on. */
    if (env->page_size > (size_t)sysconf(_SC_PAGESIZE)) {
        size_t number;
        memcpy(&number, (const char *)value - LAYOUT_PAGE_HEADER, sizeof(number));
        return (off_t)(number * env->page_size + LAYOUT_PAGE_HEADER);
    }
    const char *map = atomic_load_explicit(&env->map, memory_order_relaxed);
    if (map == NULL) {
        map = find_map(env, txn);
        if (map == NULL)
            return -EIO;
        atomic_store_explicit(&env->map, map, memory_order_relaxed);
    }
    return (const char *)value - map;
}

int env_write_begin(struct env *env, MDB_txn **txn)
{
    return env->lmdb == NULL ? -EIO : lmdb_error(mdb_txn_begin(env->lmdb, NULL, 0, txn));
}

/* LMDB reports a short write, which is what a full disk looks like, as EIO. */
static int full_or_broken(struct env *env)
{
    struct statvfs fs;
    if (fstatvfs(env_fd(env), &fs) == 0 && fs.f_bavail * fs.f_frsize < (64u << 10))
        return -ENOSPC;
    return -EIO;
}

static bool has_panicked(struct env *env)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->lmdb, NULL, MDB_RDONLY, &txn);
    if (rc == 0)
        mdb_txn_abort(txn);
    return rc == MDB_PANIC;
}

static int reopen(struct env *env)
{
    size_t size = env_map_size(env);
    close_lmdb(env); /* the only time that it is NULL is after a failure here */
    env->map = NULL;
    int r = open_with_room(env->path, flags_of(env), size, &env->lmdb);
    MDB_txn *txn;
    if (r == 0)
        r = lmdb_error(mdb_txn_begin(env->lmdb, NULL, MDB_RDONLY, &txn));
    if (r < 0)
        return r;
    r = env_open_tables(env, txn, false);
    int end = lmdb_error(mdb_txn_commit(txn)); /* keeps the tables' handles, the same as before */
    return r < 0 ? r : end;
}

/* When a meta page could not be written, LMDB doesn't even read any more; afresh it does. */
static void recover_from_panic(struct env *env)
{
    pthread_rwlock_wrlock(&env->map_lock);
    if (has_panicked(env))
        (void)reopen(env); /* failing, all is -EIO as before */
    pthread_rwlock_unlock(&env->map_lock);
}

int env_write_commit(struct env *env, MDB_txn *txn)
{
    int r = lmdb_error(mdb_txn_commit(txn));
    if (r != -EIO)
        return r;
    r = full_or_broken(env);
    recover_from_panic(env);
    return r;
}

/* LMDB gives the old map up before it asks for the new one, and without any the next transaction
 * crashes. */
static bool has_address_space(size_t size)
{
    void *room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return false;
    munmap(room, size);
    return true;
}

int env_grow(struct env *env)
{
    pthread_rwlock_wrlock(&env->map_lock);
    size_t size = env_map_size(env) * 2;
    int rc = has_address_space(size) ? mdb_env_set_mapsize(env->lmdb, size) : ENOMEM;
    env->map = NULL;
    pthread_rwlock_unlock(&env->map_lock);
    return lmdb_error(rc);
}
