/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * look.c: opens stores as the start after a crash does, and tells what is in them.
 *
 * A line on standard input names a store's directory and, behind a tab, one for contents. For each,
 * standard output gets lines of words separated by NULs, the last of which is "end" with the exit
 * status and the signal that ended the look:
 *
 *   refused WHY                         the store can't be opened
 *   warning TEXT | problem PATH TEXT    what the store warns of; what store_check() finds
 *   found PATH TYPE ID MODE LINKS SIZE MTIME SEALED HASH   for each name, before store_recover()
 *   kept  ...                                              and the same after it
 *   left ORPHANS HOST-FILES             what recovery has not put in order
 *
 * HASH is that of the bytes that were read (of a symbolic link: of its target). Those of files that
 * were not sealed are also written to the directory for contents, a file by the id.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/store.h"
#include "store/util.h"

#define CHUNK ((size_t)1 << 20)
#define LOOK_SECONDS 60 /* nothing takes nearly as long, but a damaged tree may have circles */
#define STAGING_PATH "/" STORE_CONTROL_NAME "/" STORE_STAGING_NAME

struct look {
    struct store *store;
    const char *contents, *word; /* `word` begins the lines of a listing */
    char *buffer;
};

struct name {
    char *path;
    uint64_t id;
};

struct listing {
    const char *path; /* of the directory */
    struct name *names;
    size_t count, room;
};

static void must(int r, const char *what)
{
    if (r >= 0)
        return;
    printf("problem%c%s%c%s\n", 0, what, 0, strerror(-r));
    fflush(stdout);
    _exit(1);
}

/* A hash of all that store_read() gives; the bytes go to `fd`, too, if there is one. */
static void read_all(struct look *look, uint64_t id, int fd, char hex[33])
{
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t hash;
    XXH3_128bits_reset(state);
    off_t done = 0;
    ssize_t n;
    while ((n = store_read(look->store, id, look->buffer, CHUNK, done)) > 0) {
        XXH3_128bits_update(state, look->buffer, (size_t)n);
        if (fd >= 0 && pwrite(fd, look->buffer, (size_t)n, done) != n)
            must(-errno, "contents");
        done += n;
    }
    must((int)n, "reading a file");
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(state));
    for (size_t i = 0; i < sizeof(hash.digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", hash.digest[i]);
    XXH3_freeState(state);
}

static void tell(struct look *look, const char *path, uint64_t id)
{
    struct store_attr attr;
    char hex[33] = "", file[5000];
    must(store_getattr(look->store, id, &attr), path);
    if (!S_ISDIR(attr.mode)) {
        snprintf(file, sizeof(file), "%s/%" PRIu64, look->contents, id);
        bool copy = S_ISREG(attr.mode) && !attr.sealed && strcmp(look->word, "found") == 0;
        cleanup_fd int fd = copy ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
        read_all(look, id, fd, hex);
    }
    char type = S_ISDIR(attr.mode) ? 'd' : S_ISREG(attr.mode) ? 'f' : 'l';
    printf("%s%c%s%c%c%c%" PRIu64 "%c%o%c%u%c%" PRIu64 "%c%" PRId64 "%c%d%c%s\n", look->word, 0,
           path, 0, type, 0, id, 0, attr.full_mode & 07777, 0, attr.nlink, 0, attr.size, 0,
           (int64_t)attr.mtime.tv_sec * 1000000000 + attr.mtime.tv_nsec, 0, attr.sealed, 0, hex);
}

static bool note(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                 const struct store_attr *attr)
{
    (void)type, (void)next, (void)attr;
    struct listing *listing = arg;
    if (listing->count == listing->room) {
        listing->room = listing->room * 2 + 16;
        listing->names = reallocarray(listing->names, listing->room, sizeof(*listing->names));
        if (listing->names == NULL)
            must(-ENOMEM, "a listing");
    }
    struct name *last = &listing->names[listing->count++];
    last->id = id;
    if (asprintf(&last->path, "%s/%s", listing->path, name) < 0)
        must(-ENOMEM, "a listing");
    return true;
}

static void tell_tree(struct look *look, const char *path, uint64_t id)
{
    struct store_attr attr;
    struct listing listing = {.path = path};
    must(store_getattr(look->store, id, &attr), path);
    if (!S_ISDIR(attr.mode))
        return;
    must(store_readdir(look->store, id, 0, false, note, &listing), path);
    for (size_t i = 0; i < listing.count; i++) {
        tell(look, listing.names[i].path, listing.names[i].id);
        tell_tree(look, listing.names[i].path, listing.names[i].id);
        free(listing.names[i].path);
    }
    free(listing.names);
}

static void tell_all(struct look *look, const char *word)
{
    look->word = word;
    tell_tree(look, "", STORE_ROOT_ID);
    tell_tree(look, STAGING_PATH, STORE_STAGING_ID);
}

static void tell_warning(void *arg, const char *line)
{
    (void)arg;
    printf("warning%c%s\n", 0, line);
}

static void tell_problem(void *arg, const char *path, const char *text)
{
    (void)arg;
    printf("problem%c%s%c%s\n", 0, path, 0, text);
}

/* Host files of unsealed records. */
static unsigned count_host_files(const char *path)
{
    char staging[5000];
    snprintf(staging, sizeof(staging), "%s/staging", path);
    cleanup_dir DIR *dir = opendir(staging);
    unsigned count = 0;
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    return count < 2 ? 0 : count - 2;
}

static void look_at(const char *path, const char *contents)
{
    const struct store_options options = {
        .create = true, .purpose = "a look", .warn = tell_warning};
    const struct store_observer observer = {.message = tell_problem};
    cleanup_free char *buffer = malloc(CHUNK);
    struct look look = {.contents = contents, .buffer = buffer};
    struct store_work work;
    struct store_stat stat;
    char why[STORE_WHY_MAX];
    if (store_open(path, &options, &look.store, why) < 0) {
        printf("refused%c%s\n", 0, why);
        return;
    }
    tell_all(&look, "found");
    must(store_recover(look.store), "recovery");
    must(store_check(look.store, &observer, &work), "the check");
    tell_all(&look, "kept");
    must(store_stat(look.store, true, &stat), "counting");
    printf("left%c%" PRIu64 "%c%u\n", 0, stat.orphans, 0, count_host_files(path));
    store_close(look.store);
}

/* In a process of its own: LMDB is opened once in each, and a damaged tree can end it. */
static int look_in_child(const char *path, const char *contents)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(LOOK_SECONDS);
        look_at(path, contents);
        exit(0); /* so that a sanitizer looks for leaks */
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

int main(void)
{
    char line[4096];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *contents = strchr(line, '\t');
        if (contents == NULL)
            return 2;
        *contents++ = '\0';
        int status = look_in_child(line, contents);
        printf("end%c%d%c%d\n", 0, WEXITSTATUS(status), 0,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        fflush(stdout);
    }
    return 0;
}
