/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening a store, or not: whose it is, what it is, what is wrong with it; and putting it in order.
 */
#include "support.h"

#include <dirent.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "store/ingest.h"
#include "store/staging.h"

#define ROOT STORE_ROOT_ID
#define STAGING STORE_STAGING_ID

/* Opens what must not open; `why` has to name the store and to say each of `words`. */
static void check_refused(struct fixture *fixture, int error, const char *const words[])
{
    struct store *store = NULL;
    char why[STORE_WHY_MAX] = "";
    int r = store_open(fixture->path, &fixture->options, &store, why);
    if (r == 0)
        store_close(store);
    if (r != error)
        fail_msg("%d, not %d: %s", r, error, why);
    assert_null(store);
    assert_ptr_equal(strstr(why, fixture->path), why);
    assert_null(strchr(why, '\n'));
    for (; *words != NULL; words++)
        if (strstr(why, *words) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", why, *words);
}

#define refused(fixture, error, ...) \
    check_refused(fixture, error, (const char *const[]){__VA_ARGS__, NULL})

static void path_in(const struct fixture *fixture, const char *name, char path[400])
{
    snprintf(path, 400, "%s/%s", fixture->path, name);
}

static void put_file(const struct fixture *fixture, const char *name, const void *bytes,
                     size_t size)
{
    char path[400];
    path_in(fixture, name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static int count_entries(const struct fixture *fixture)
{
    DIR *dir = opendir(fixture->path);
    int n = 0;
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 2;
}

/* A store that was made and closed. */
static struct fixture *closed_store(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_close(fixture);
    return fixture;
}

/* ---------------------------------------------------------- other processes -- */

struct process {
    pid_t pid;
    int fd;
};

static void tell(int fd)
{
    must(write(fd, "!", 1) == 1);
}

static void await(int fd)
{
    char byte;
    must(read(fd, &byte, 1) == 1);
}

typedef void process_fn(struct fixture *fixture, int fd);

/* Never with an open store: LMDB's locks do not survive it. */
static struct process run(struct fixture *fixture, process_fn *work)
{
    int ends[2];
    assert_null(fixture->store);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        work(fixture, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    return (struct process){pid, ends[0]};
}

/* How it ended. */
static int wait_end(struct process *process)
{
    int status;
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    close(process->fd);
    return status;
}

/* --------------------------------------------------------------------- make -- */

static void store_is_made_only_when_asked_for(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.create = false;
    refused(fixture, -ENOENT, "there is no store");
    assert_int_equal(access(fixture->path, F_OK), -1);
    fixture->options.create = true;
    fixture_open(fixture);
    assert_false(store_is_read_only(fixture->store));
    struct examined examined = examine(fixture->store);
    assert_int_equal(examined.records, 2);
    assert_int_equal(examined.entries, 0);
    fixture->options.create = false;
    fixture_reopen(fixture);
    store_close(NULL);
}

static void store_needs_its_parent_directory(void **state)
{
    struct fixture *fixture = *state;
    snprintf(fixture->path, sizeof(fixture->path), "%s/none/store", fixture->directory);
    refused(fixture, -ENOENT, "cannot make", "No such file");
}

static void no_store_is_made_among_somebodys_files(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkdir(fixture->path, 0755), 0);
    put_file(fixture, "thesis.tex", "x", 1);
    refused(fixture, -EINVAL, "thesis.tex", "empty or new directory");
    assert_int_equal(count_entries(fixture), 1);
    fixture->options.create = false;
    refused(fixture, -ENOENT, "not a store", "data.mdb");
    assert_int_equal(count_entries(fixture), 1);
}

static void store_is_made_in_an_empty_filesystem(void **state)
{
    struct fixture *fixture = *state;
    char path[400];
    assert_int_equal(mkdir(fixture->path, 0755), 0);
    path_in(fixture, "lost+found", path);
    assert_int_equal(mkdir(path, 0700), 0);
    fixture_open(fixture);
}

static void file_is_no_store(void **state)
{
    struct fixture *fixture = *state;
    int fd = open(fixture->path, O_WRONLY | O_CREAT, 0644);
    close(fd);
    refused(fixture, -ENOTDIR, "a store is a directory");
    fixture->options.create = false;
    refused(fixture, -ENOTDIR, "a store is a directory");
}

/* ------------------------------------------------------------------ foreign -- */

static void other_files_named_data_mdb_are_refused(void **state)
{
    struct fixture *fixture = *state;
    char bytes[20000];
    random_fill(1, bytes, sizeof(bytes));
    assert_int_equal(mkdir(fixture->path, 0755), 0);
    put_file(fixture, "data.mdb", bytes, sizeof(bytes));
    refused(fixture, -EINVAL, "not an LMDB file");
    fixture->options.read_only = true;
    fixture->options.create = false;
    refused(fixture, -EINVAL, "not an LMDB file");
}

/* An LMDB environment with this table, or with none. */
static void make_environment(struct fixture *fixture, const char *table)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(mkdir(fixture->path, 0755), 0);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 10), 0);
    assert_int_equal(mdb_env_open(env, fixture->path, 0, 0644), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    if (table != NULL) {
        MDB_val k = {1, (void *)"k"}, v = {1, (void *)"v"};
        assert_int_equal(mdb_dbi_open(txn, table, MDB_CREATE, &dbi), 0);
        assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void foreign_environments_are_refused_and_left_alone(void **state)
{
    static const char *const tables[] = {"birds", "meta", "records", NULL};
    for (size_t i = 0; i < array_length(tables); i++) {
        struct fixture *fixture = *state;
        struct stat before, after;
        char path[400];
        snprintf(fixture->path, sizeof(fixture->path), "%s/%zu", fixture->directory, i);
        make_environment(fixture, tables[i]);
        path_in(fixture, "data.mdb", path);
        assert_int_equal(stat(path, &before), 0);
        fixture->options.create = tables[i] != NULL; /* in an empty one we may make ours */
        refused(fixture, -EINVAL, "not a store of lmdbfs");
        fixture->options.create = false;
        fixture->options.read_only = true;
        refused(fixture, -EINVAL, "not a store of lmdbfs");
        fixture->options.read_only = false;
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
        assert_int_equal(before.st_size, after.st_size);
    }
}

/* A key of the main table that is not a table. */
static void flat_environment_is_refused(void **state)
{
    struct fixture *fixture = *state;
    make_environment(fixture, NULL);
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {4, (void *)"meta"}, v = {5, (void *)"birds"};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, fixture->path, 0, 0644), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    refused(fixture, -EINVAL, "not a store of lmdbfs");
}

/* ------------------------------------------------------------------- format -- */

static void patch(const struct fixture *fixture, off_t offset, const void *bytes, size_t size)
{
    char path[400];
    path_in(fixture, "data.mdb", path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, size, offset), size);
    close(fd);
}

static void store_of_the_other_byte_order_is_refused(void **state)
{
    struct fixture *fixture = closed_store(state);
    const uint32_t magic = __builtin_bswap32(0xBEEFC0DE);
    patch(fixture, 16, &magic, sizeof(magic));
    patch(fixture, 4096 + 16, &magic, sizeof(magic));
    refused(fixture, -EPROTONOSUPPORT, "byte order", "export");
    fixture->options.read_only = true;
    refused(fixture, -EPROTONOSUPPORT, "byte order");
}

static void other_version_of_lmdb_is_refused(void **state)
{
    struct fixture *fixture = closed_store(state);
    const uint32_t version = 999;
    patch(fixture, 20, &version, sizeof(version));
    patch(fixture, 4096 + 20, &version, sizeof(version));
    refused(fixture, -EPROTONOSUPPORT, "data format of LMDB");
}

/* Make a store and give it this format. */
static void change_format(struct fixture *fixture, const struct layout_format *format, size_t size)
{
    fixture->options.read_only = false;
    fixture_open(fixture);
    MDB_val k = {6, (void *)"format"}, v = {size, (void *)format};
    struct view *view = begin_change(fixture->store);
    assert_int_equal(mdb_put(view->txn, fixture->store->tables.meta, &k, &v, 0), 0);
    commit_change(fixture->store, view);
    fixture_close(fixture);
}

static struct layout_format good_format(void)
{
    return (struct layout_format){.magic = LAYOUT_MAGIC, .version = 1, .page_size = 4096};
}

struct format_case {
    struct layout_format format;
    size_t size;
    int error, read_only_error;
    const char *word;
};

/* Each in a store of its own: what refuses a format can't be used to change it back. */
static void formats_are_told_apart(void **state)
{
    struct format_case cases[] = {
        {good_format(), 64, 0, 0, ""},
        {good_format(), 64, -EPROTONOSUPPORT, -EPROTONOSUPPORT, "format 2"},
        {good_format(), 64, -EPROTONOSUPPORT, -EPROTONOSUPPORT, "newer lmdbfs"},
        {good_format(), 64, -EPROTONOSUPPORT, 0, "read-only"},
        {good_format(), 64, 0, 0, ""},
        {good_format(), 64, -EINVAL, -EINVAL, "not a store of lmdbfs"},
        {good_format(), 64, -EINVAL, -EINVAL, "page size"},
        {good_format(), 10, -EINVAL, -EINVAL, "not a store of lmdbfs"},
    };
    cases[1].format.version = 2;
    cases[2].format.incompatible = 1;
    cases[3].format.read_only_compatible = 8;
    cases[4].format.compatible = UINT64_MAX;
    cases[5].format.magic[0] = 'L';
    cases[6].format.page_size = 8192;
    for (size_t i = 0; i < array_length(cases); i++) {
        struct fixture *fixture = *state;
        snprintf(fixture->path, sizeof(fixture->path), "%s/%zu", fixture->directory, i);
        change_format(fixture, &cases[i].format, cases[i].size);
        for (int read_only = 0; read_only < 2; read_only++) {
            int error = read_only ? cases[i].read_only_error : cases[i].error;
            fixture->options.read_only = read_only;
            if (error == 0) {
                fixture_open(fixture);
                fixture_close(fixture);
            } else {
                refused(fixture, error, cases[i].word);
            }
        }
    }
}

/* ---------------------------------------------------------------- truncated -- */

static void open_and_read_all(struct fixture *fixture, int fd)
{
    (void)fd;
    struct store *store;
    char why[STORE_WHY_MAX];
    int r = store_open(fixture->path, &fixture->options, &store, why);
    _exit(r == 0 ? 100 : -r);
}

static void cut_off_store_is_refused(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    for (int i = 0; i < 100; i++) {
        char name[16], bytes[3000] = {1};
        snprintf(name, sizeof(name), "%d", i);
        write_file(fixture->store, ROOT, name, bytes, i % 2 ? 100 : 3000);
    }
    fixture_close(fixture);
    const off_t sizes[] = {12288, 8192, 8191, 5000, 4097, 4096, 4095, 1000, 24, 23, 17, 16, 1, 0};
    char path[400];
    path_in(fixture, "data.mdb", path);
    fixture->options.create = false;
    for (size_t i = 0; i < array_length(sizes); i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        for (int read_only = 0; read_only < 2; read_only++) {
            fixture->options.read_only = read_only;
            struct process process = run(fixture, open_and_read_all);
            int status = wait_end(&process);
            if (status != EINVAL << 8)
                fail_msg("%ld bytes: status %#x", (long)sizes[i], status);
        }
    }
}

/* -------------------------------------------------------------------- owner -- */

static void own(struct fixture *fixture, int fd)
{
    fixture->options.purpose = "mount on /some/where";
    fixture_open(fixture);
    tell(fd);
    await(fd);
    fixture_close(fixture);
}

static void second_writer_is_refused_and_told_about_the_first(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process first = run(fixture, own);
    char pid[32];
    snprintf(pid, sizeof(pid), "pid %d", (int)first.pid);
    await(first.fd);
    refused(fixture, -EBUSY, "in use", "mount on /some/where", pid);
    refused(fixture, -EBUSY, "in use"); /* having been refused changes nothing */
    tell(first.fd);
    assert_int_equal(wait_end(&first), 0);
    fixture_open(fixture);
}

static void second_writer_in_the_same_process_is_refused_too(void **state)
{
    struct fixture *fixture = *state;
    struct fixture second = *fixture;
    second.store = NULL;
    fixture_open(fixture);
    refused(&second, -EBUSY, "a unit test");
}

static void killed_owner_is_no_owner(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process first = run(fixture, own);
    await(first.fd);
    kill(first.pid, SIGKILL);
    assert_int_equal(wait_end(&first), SIGKILL);
    fixture_open(fixture);
}

/* As a process does that was told to end and has much to finish. */
static void close_slowly(struct fixture *fixture, int fd)
{
    char path[400];
    path_in(fixture, "owner", path);
    int owner = open(path, O_RDWR);
    must(flock(owner, LOCK_EX) == 0 && ftruncate(owner, 0) == 0);
    tell(fd);
    const struct timespec work = {.tv_nsec = 500000000};
    nanosleep(&work, NULL);
}

static void opening_waits_for_an_owner_that_is_closing(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process first = run(fixture, close_slowly);
    await(first.fd);
    fixture_open(fixture);
    assert_int_equal(wait_end(&first), 0);
}

/* ---------------------------------------------------------------- read-only -- */

static void read_beside(struct fixture *fixture, int fd)
{
    fixture->options.read_only = true;
    fixture->options.create = false;
    fixture_open(fixture);
    must(store_is_read_only(fixture->store));
    tell(fd);
    for (uint64_t round = 0; round < 5; round++) {
        char name[16];
        await(fd);
        snprintf(name, sizeof(name), "%d", (int)round);
        char *bytes = random_bytes(round, round * 100000);
        must(holds(fixture->store, id_of(fixture->store, ROOT, name), bytes, round * 100000));
        must(holds(fixture->store, id_of(fixture->store, ROOT, "unsealed"), "abcde", round + 1));
        free(bytes);
        tell(fd);
    }
    fixture_close(fixture);
}

static void reader_beside_a_writer_sees_what_it_commits(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process reader = run(fixture, read_beside);
    await(reader.fd);
    fixture_open(fixture);
    uint64_t unsealed = write_unsealed(fixture->store, ROOT, "unsealed", "", 0);
    for (uint64_t round = 0; round < 5; round++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", (int)round);
        char *bytes = random_bytes(round, round * 100000);
        write_file(fixture->store, ROOT, name, bytes, round * 100000);
        store_write(fixture->store, unsealed, &"abcde"[round], 1, (off_t)round);
        assert_int_equal(store_fsync(fixture->store, unsealed, false), 0);
        free(bytes);
        tell(reader.fd);
        await(reader.fd);
    }
    assert_int_equal(wait_end(&reader), 0);
}

static void open_often(struct fixture *fixture, int fd)
{
    fixture->options.read_only = true;
    fixture->options.create = false;
    tell(fd);
    for (unsigned i = 0; i < scaled(2000, 300); i++) {
        fixture_open(fixture);
        struct store_attr attr;
        must(store_getattr(fixture->store, ROOT, &attr) == 0);
        fixture_close(fixture);
    }
    tell(fd);
    await(fd);
}

static bool has_word(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 1;
}

/* What a busy writer does to the file between two looks at it is no damage. */
static void opening_beside_a_busy_writer_finds_no_damage(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process reader = run(fixture, open_often);
    await(reader.fd);
    fixture_open(fixture);
    char *bytes = random_bytes(1, 100000);
    for (unsigned i = 0; !has_word(reader.fd); i++) {
        char name[16];
        int status;
        snprintf(name, sizeof(name), "%u", i); /* each of its own: so that the file grows */
        write_file(fixture->store, ROOT, name, bytes, i * 7919 % 100000);
        if (waitpid(reader.pid, &status, WNOHANG) == reader.pid)
            fail_msg("the reader ended: %#x", status);
    }
    free(bytes);
    tell(reader.fd);
    assert_int_equal(wait_end(&reader), 0);
}

static void read_only_store_refuses_all_changes(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct store_attr attr = {0};
    uint64_t id = write_file(fixture->store, ROOT, "f", "abc", 3);
    uint64_t unsealed = write_unsealed(fixture->store, ROOT, "u", "abc", 3);
    make_directory(fixture->store, ROOT, "d");
    fixture_close(fixture);
    fixture->options.read_only = true;
    fixture_open(fixture);
    struct store *store = fixture->store;
    assert_int_equal(store_create(store, ROOT, "x", &OWNER_FILE, &attr), -EROFS);
    assert_int_equal(store_tmpfile(store, ROOT, &OWNER_FILE, &attr), -EROFS);
    assert_int_equal(store_mkdir(store, ROOT, "x", &OWNER_DIR, &attr), -EROFS);
    assert_int_equal(store_symlink(store, ROOT, "x", "t", &OWNER_FILE, &attr), -EROFS);
    char target[4001];
    memset(target, 't', 4000);
    target[4000] = '\0';
    assert_int_equal(store_symlink(store, ROOT, "x", target, &OWNER_FILE, &attr), -EROFS);
    assert_int_equal(store_link(store, id, ROOT, "x", &attr), -EROFS);
    assert_int_equal(store_unlink(store, ROOT, "f"), -EROFS);
    assert_int_equal(store_rmdir(store, ROOT, "d"), -EROFS);
    assert_int_equal(store_rename(store, ROOT, "f", ROOT, "x", 0), -EROFS);
    assert_int_equal(store_rename(store, ROOT, "u", ROOT, "x", 0), -EROFS);
    assert_int_equal(store_write(store, unsealed, "x", 1, 0), -EROFS);
    assert_int_equal(store_fallocate(store, unsealed, 0, 0, 10), -EROFS);
    assert_int_equal(store_writer_open(store, unsealed), -EROFS);
    assert_int_equal(store_seal(store, unsealed), -EROFS);
    assert_int_equal(store_settle_staged(store, NULL, NULL), -EROFS);
    assert_int_equal(store_setattr(store, id, STORE_SET_MODE, &attr, &attr), -EROFS);
    assert_int_equal(store_setattr(store, unsealed, STORE_SET_SIZE, &attr, &attr), -EROFS);
    assert_int_equal(store_recover(store), -EROFS);
    /* What changes nothing is no error. */
    assert_int_equal(store_fsync(store, unsealed, false), 0);
    assert_int_equal(store_lease(store, id), 0);
    store_lease_drop(store, id, 1);
    store_writer_close(store, unsealed);
    assert_true(holds(store, id, "abc", 3));
    assert_true(holds(store, unsealed, "abc", 3));
    assert_int_equal(attr_of(store, unsealed).size, 3);
}

static void reading_makes_nothing(void **state)
{
    struct fixture *fixture = closed_store(state);
    char path[400];
    static const char *const unneeded[] = {"owner", "staging"};
    for (size_t i = 0; i < array_length(unneeded); i++) {
        path_in(fixture, unneeded[i], path);
        assert_int_equal(remove(path), 0);
    }
    fixture->options.read_only = true;
    fixture_open(fixture);
    struct store_stat stat;
    assert_int_equal(store_stat(fixture->store, true, &stat), 0);
    assert_int_equal(stat.records, 2);
    fixture_close(fixture);
    assert_int_equal(count_entries(fixture), 2);

    snprintf(fixture->path, sizeof(fixture->path), "%s/none", fixture->directory);
    refused(fixture, -ENOENT, "");
}

/* ------------------------------------------------------------------ figures -- */

static void figures_are_true(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct store *store = fixture->store;
    struct store_attr attr;
    char *bytes = random_bytes(1, 300000);
    uint64_t d = make_directory(store, ROOT, "d");
    write_file(store, d, "inline", bytes, 1000);
    write_file(store, d, "empty", bytes, 0);
    write_file(store, d, "packed", bytes, 4000);
    uint64_t large = write_file(store, d, "large", bytes, 300000);
    write_unsealed(store, d, "unsealed", bytes, 500);
    assert_int_equal(store_symlink(store, d, "link", "t", &OWNER_FILE, &attr), 0);
    assert_int_equal(store_link(store, large, ROOT, "again", &attr), 0);
    assert_int_equal(store_lease(store, large), 0);

    struct store_stat stat;
    assert_int_equal(store_sync(store), 0);
    assert_int_equal(store_stat(store, true, &stat), 0);
    assert_int_equal(stat.format, 1);
    assert_int_equal(stat.page_size, 4096);
    assert_int_equal(stat.records, 2 + 1 + 5 + 1);
    assert_int_equal(stat.directories, 3);
    assert_int_equal(stat.files, 5);
    assert_int_equal(stat.symlinks, 1);
    assert_int_equal(stat.bytes, 1000 + 4000 + 300000 + 500);
    assert_int_equal(stat.inline_files, 2);
    assert_int_equal(stat.extent_files, 2);
    assert_int_equal(stat.extents, 1 + 3);
    assert_int_equal(stat.unsealed_files, 1);
    assert_int_equal(stat.orphans, 0);
    assert_int_equal(stat.leases, 1);
    assert_true(stat.commits > 0);
    assert_true(stat.file_bytes >= 300000 && stat.file_bytes == stat.total_pages * 4096);
    assert_true(stat.free_pages < stat.total_pages);
    assert_true(stat.disk_total >= stat.disk_free && stat.disk_free >= stat.disk_available);
    assert_true(stat.map_bytes >= stat.file_bytes);

    struct store_stat shallow;
    assert_int_equal(store_stat(store, false, &shallow), 0);
    assert_int_equal(shallow.records, stat.records);
    assert_int_equal(shallow.files, 0);

    uint64_t used = stat.total_pages - stat.free_pages;
    store_lease_drop(store, large, 1);
    assert_int_equal(store_unlink(store, d, "large"), 0);
    assert_int_equal(store_unlink(store, ROOT, "again"), 0);
    fixture_reopen(fixture);
    assert_int_equal(store_stat(fixture->store, true, &stat), 0);
    assert_int_equal(stat.extents, 1);
    assert_int_equal(stat.leases, 0);
    assert_true(used - (stat.total_pages - stat.free_pages) >= 300000 / 4096);
    free(bytes);
}

/* ------------------------------------------------------------------ recovery -- */

struct left {
    uint64_t written, linked, held, held_in_directory, empty, orphan, directory, content, sealed;
};

/* Leaves behind what a killed process can leave, and ends without a word. */
static void leave_a_mess(struct fixture *fixture, int fd)
{
    struct left left = {0};
    struct store_attr attr;
    fixture_open(fixture);
    struct store *store = fixture->store;
    char *bytes = random_bytes(1, 20 << 20);
    left.written = write_unsealed(store, ROOT, "written", bytes, 5000);
    left.linked = write_unsealed(store, ROOT, "linked", bytes, 100);
    must(store_link(store, left.linked, ROOT, "again", &attr) == 0);
    must(store_writer_open(store, left.linked) == 0);
    left.held = write_unsealed(store, STAGING, "held", bytes, 5000);
    left.held_in_directory =
        write_unsealed(store, make_directory(store, STAGING, "d"), "held", bytes, 5000);
    left.empty = write_unsealed(store, ROOT, "empty", bytes, 0);
    left.orphan = write_file(store, ROOT, "orphan", bytes, 300000);
    must(store_lease(store, left.orphan) == 0);
    must(store_unlink(store, ROOT, "orphan") == 0);
    left.directory = make_directory(store, ROOT, "directory");
    must(store_lease(store, left.directory) == 0);
    must(store_rmdir(store, ROOT, "directory") == 0);
    must(store_tmpfile(store, ROOT, &OWNER_FILE, &attr) == 0);
    must(store_write(store, attr.id, "tmp", 3, 0) == 3);
    /* A payload that was on its way in. */
    struct payload payload = {.bytes = bytes, .size = 20 << 20};
    uint8_t hash[16];
    must(ingest_content(store, &payload, NULL, NULL, &left.content, hash) == 0);
    /* Sealed, but the host file was not removed yet; one that never was a record's. */
    left.sealed = write_file(store, ROOT, "sealed", bytes, 3000);
    must(staging_settle(store) == 0 && store_sync(store) == 0);
    static const uint64_t never = 0x123456;
    const uint64_t extra[] = {left.sealed, never};
    for (size_t i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%016llx", (unsigned long long)extra[i]);
        int file = openat(store->staging_fd, name, O_WRONLY | O_CREAT, 0600);
        must(file >= 0 && write(file, "xyz", 3) == 3);
    }
    must(write(fd, &left, sizeof(left)) == sizeof(left));
    _exit(0);
}

static void check_tidy(struct store *store, const struct left *left)
{
    char *bytes = random_bytes(1, 20 << 20);
    assert_true(attr_of(store, left->written).sealed);
    assert_true(holds(store, left->written, bytes, 5000));
    assert_true(attr_of(store, left->linked).sealed);
    assert_int_equal(attr_of(store, left->linked).nlink, 2);
    assert_true(holds(store, left->linked, bytes, 100));
    assert_true(holds(store, left->sealed, bytes, 3000));
    assert_false(attr_of(store, left->held).sealed);
    assert_true(attr_of(store, left->held).held);
    assert_true(holds(store, left->held, bytes, 5000));
    assert_true(holds(store, left->held_in_directory, bytes, 5000));
    assert_true(holds(store, left->empty, "", 0));
    struct store_attr attr;
    assert_int_equal(store_getattr(store, left->orphan, &attr), -ENOENT);
    assert_int_equal(store_getattr(store, left->directory, &attr), -ENOENT);
    struct examined examined = examine(store);
    assert_int_equal(examined.orphans, 0);
    assert_int_equal(examined.staged_files, 2);
    assert_int_equal(examined.extents, 2); /* of "written" and "sealed" */
    assert_int_equal(examined.records, 2 + 7);
    free(bytes);
}

static void recovery_puts_in_order_what_a_killed_process_left(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process process = run(fixture, leave_a_mess);
    struct left left;
    must(read(process.fd, &left, sizeof(left)) == sizeof(left));
    assert_int_equal(wait_end(&process), 0);
    fixture_open(fixture);
    struct store_stat before;
    assert_int_equal(store_stat(fixture->store, true, &before), 0);
    assert_int_equal(before.orphans, 4);
    assert_int_equal(before.unsealed_files, 6);
    assert_int_equal(store_recover(fixture->store), 0);
    check_tidy(fixture->store, &left);
    assert_int_equal(store_recover(fixture->store), 0);
    fixture_reopen(fixture);
    check_tidy(fixture->store, &left);
}

/* A successor takes its predecessor's leases and writers over: opening touches neither. */
static void opening_alone_removes_nothing(void **state)
{
    struct fixture *fixture = closed_store(state);
    struct process process = run(fixture, leave_a_mess);
    struct left left;
    must(read(process.fd, &left, sizeof(left)) == sizeof(left));
    assert_int_equal(wait_end(&process), 0);
    fixture_open(fixture);
    char *bytes = random_bytes(1, 300000);
    assert_true(holds(fixture->store, left.orphan, bytes, 300000));
    assert_false(attr_of(fixture->store, left.linked).sealed);
    assert_int_equal(store_writer_open(fixture->store, left.linked), 0);
    assert_int_equal(store_write(fixture->store, left.linked, "more", 4, 100), 4);
    store_writer_close(fixture->store, left.linked);
    assert_int_equal(store_recover(fixture->store), 0);
    assert_int_equal(attr_of(fixture->store, left.linked).size, 104);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_directory(store_is_made_only_when_asked_for),
        test_with_directory(store_needs_its_parent_directory),
        test_with_directory(no_store_is_made_among_somebodys_files),
        test_with_directory(store_is_made_in_an_empty_filesystem),
        test_with_directory(file_is_no_store),
        test_with_directory(other_files_named_data_mdb_are_refused),
        test_with_directory(foreign_environments_are_refused_and_left_alone),
        test_with_directory(flat_environment_is_refused),
        test_with_directory(store_of_the_other_byte_order_is_refused),
        test_with_directory(other_version_of_lmdb_is_refused),
        test_with_directory(formats_are_told_apart),
        test_with_directory(cut_off_store_is_refused),
        test_with_directory(second_writer_is_refused_and_told_about_the_first),
        test_with_directory(second_writer_in_the_same_process_is_refused_too),
        test_with_directory(killed_owner_is_no_owner),
        test_with_directory(opening_waits_for_an_owner_that_is_closing),
        test_with_directory(reader_beside_a_writer_sees_what_it_commits),
        test_with_directory(opening_beside_a_busy_writer_finds_no_damage),
        test_with_directory(read_only_store_refuses_all_changes),
        test_with_directory(reading_makes_nothing),
        test_with_directory(figures_are_true),
        test_with_directory(recovery_puts_in_order_what_a_killed_process_left),
        test_with_directory(opening_alone_removes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
