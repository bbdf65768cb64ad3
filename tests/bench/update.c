/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * update: the benchmark's writers, with the clock inside.
 *
 * As probe.c: what comes before the first change and after the last one is not measured. Each
 * prints "NANOSECONDS FILES".
 *
 *   update publish DIR FILES BYTES DIRECTORIES WRITERS none|file|end
 *                      FILES files in DIRECTORIES new directories of DIR, by WRITERS processes at
 *                      once, each with its share of the directories: create, write, fchmod, close,
 *                      rename; fsync each file, or make all durable once at the end
 *   update portage DIR SOURCE NAMES WRITERS
 *                      the system calls of Portage's flat_hash cache, which is a Python program,
 * for each name in file NAMES; contents come from SOURCE update tree STAGED TARGET FILES BYTES
 * DIRECTORIES make a tree STAGED, and rename it to TARGET: the clock is around this rename, and
 * somebody looks whether TARGET is whole when it is there
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "support.h"

enum { NAME_ROOM = 32 };

/* Files of one size, spread evenly over directories: number i is in directory i * directories /
 * files. */
struct files {
    uint64_t count;
    uint64_t directories;
    size_t size;
};

/* Where the share of process `index` of `processes` begins: that of the next one is its end. */
static uint64_t share(uint64_t count, unsigned index, unsigned processes)
{
    return count * index / processes;
}

static uint64_t directory_of(const struct files *files, uint64_t i)
{
    return i * files->directories / files->count;
}

static void directory_name(char name[NAME_ROOM], uint64_t directory)
{
    snprintf(name, NAME_ROOM, "directory-%03" PRIu64, directory);
}

static void file_name(char name[NAME_ROOM], uint64_t i)
{
    snprintf(name, NAME_ROOM, "record-%" PRIu64, i);
}

static int open_directory(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        err(EXIT_FAILURE, "%s", name);
    return fd;
}

/* The directory of file `i`, open: `*fd`, which belongs to file i - 1 or is -1, as it is or anew.
 */
static void follow_directory(const struct files *files, int root, uint64_t i, int *fd)
{
    if (*fd >= 0 && directory_of(files, i) == directory_of(files, i - 1))
        return;
    if (*fd >= 0)
        close(*fd);
    char name[NAME_ROOM];
    directory_name(name, directory_of(files, i));
    *fd = open_directory(root, name);
}

static void make_directories(const struct files *files, int root)
{
    for (uint64_t i = 0; i < files->directories; i++) {
        char name[NAME_ROOM];
        directory_name(name, i);
        if (mkdirat(root, name, 0755) < 0)
            err(EXIT_FAILURE, "mkdir %s", name);
    }
}

/* Room for the content of a file. */
static char *make_content(size_t size)
{
    char *content = malloc(size);
    if (!content)
        err(EXIT_FAILURE, "%zu bytes", size);
    memset(content, 'x', size);
    return content;
}

/* The content of file `i`. No two are alike: a store that shares equal contents would win for
 * nothing. */
static void fill(char *content, size_t size, uint64_t i)
{
    memcpy(content, &i, sizeof i < size ? sizeof i : size);
}

static int create(int dir, const char *name, const char *content, size_t size)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        err(EXIT_FAILURE, "create %s", name);
    if (write(fd, content, size) != (ssize_t)size)
        err(EXIT_FAILURE, "write %s", name);
    return fd;
}

/* ---------------------------------------------------------------------------------- publish -- */

enum sync_when { SYNC_NONE, SYNC_FILE, SYNC_END };

struct publish {
    struct files files;
    int root;
    unsigned writers;
    enum sync_when when;
};

static enum sync_when sync_when(const char *word)
{
    if (strcmp(word, "none") == 0)
        return SYNC_NONE;
    if (strcmp(word, "file") == 0)
        return SYNC_FILE;
    if (strcmp(word, "end") == 0)
        return SYNC_END;
    errx(EXIT_USAGE, "'%s' is none of none, file, end", word);
}

static void publish_one(int dir, uint64_t i, const char *content, size_t size, bool sync)
{
    char temporary[NAME_ROOM], name[NAME_ROOM];
    snprintf(temporary, sizeof temporary, ".tmp-%" PRIu64, i);
    file_name(name, i);
    int fd = create(dir, temporary, content, size);
    if (fchmod(fd, 0644) < 0)
        err(EXIT_FAILURE, "fchmod %s", temporary);
    if (sync && fsync(fd) < 0)
        err(EXIT_FAILURE, "fsync %s", temporary);
    if (close(fd) < 0)
        err(EXIT_FAILURE, "close %s", temporary);
    if (renameat(dir, temporary, dir, name) < 0)
        err(EXIT_FAILURE, "rename %s to %s", temporary, name);
}

static uint64_t publish_share(const void *job, void *unused, unsigned index)
{
    (void)unused;
    const struct publish *p = job;
    char *content = make_content(p->files.size);
    uint64_t begin = share(p->files.count, index, p->writers);
    uint64_t end = share(p->files.count, index + 1, p->writers);
    int dir = -1;
    for (uint64_t i = begin; i < end; i++) {
        follow_directory(&p->files, p->root, i, &dir);
        fill(content, p->files.size, i);
        publish_one(dir, i, content, p->files.size, p->when == SYNC_FILE);
    }
    return end - begin;
}

static uint64_t publish(const struct publish *p, uint64_t *count)
{
    make_directories(&p->files, p->root);
    uint64_t time =
        crew_run(&(struct crew){.processes = p->writers, .work = publish_share, .job = p}, count);
    if (p->when == SYNC_END) {
        uint64_t start = now();
        /* The kernel keeps syncfs() to itself where a FUSE daemon is concerned (as of 6.18):
         * fsync() of a directory reaches it. Elsewhere there is nothing left for this to do. */
        if (syncfs(p->root) < 0 || fsync(p->root) < 0)
            err(EXIT_FAILURE, "syncfs");
        time += now() - start;
    }
    return time;
}

/* ---------------------------------------------------------------------------------- portage -- */

struct portage {
    const char *root;
    unsigned writers;
    struct entry {
        char *target;
        char *content;
        size_t size;
    } * entries;
    size_t count;
};

static char *read_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        err(EXIT_FAILURE, "%s", path);
    *size = (size_t)st.st_size;
    char *content = malloc(*size + 1);
    if (!content || read(fd, content, *size) != st.st_size)
        err(EXIT_FAILURE, "%s", path);
    close(fd);
    return content;
}

static void portage_load(struct portage *p, const char *source, const char *names)
{
    char **sources = paths_below(source, names);
    char **targets = paths_below(p->root, names);
    while (sources[p->count])
        p->count++;
    p->entries = calloc(p->count + 1, sizeof *p->entries);
    if (!p->entries)
        err(EXIT_FAILURE, "%s", names);
    for (size_t i = 0; i < p->count; i++) {
        struct entry *entry = &p->entries[i];
        entry->target = targets[i];
        entry->content = read_file(sources[i], &entry->size);
    }
}

/* The directories above `path`. Another writer may make them at the same time. */
static void make_parents(const char *path)
{
    char parent[4096];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
        if (mkdir(parent, 0755) < 0 && errno != EEXIST)
            err(EXIT_FAILURE, "mkdir %s", parent);
    }
}

static void portage_one(const char *root, const struct entry *entry)
{
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s/tmpXXXXXX", root);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        err(EXIT_FAILURE, "create %s", temporary);
    /* What Python's open() does with a descriptor, be it asked to or not. */
    struct stat st;
    struct termios terminal;
    if (fstat(fd, &st) < 0 || tcgetattr(fd, &terminal) == 0 || lseek(fd, 0, SEEK_CUR) < 0)
        err(EXIT_FAILURE, "%s", temporary);
    if (write(fd, entry->content, entry->size) != (ssize_t)entry->size)
        err(EXIT_FAILURE, "write %s", temporary);
    if (close(fd) < 0)
        err(EXIT_FAILURE, "close %s", temporary);
    if (stat(temporary, &st) < 0 || chmod(temporary, 0644) < 0)
        err(EXIT_FAILURE, "chmod %s", temporary);
    if (rename(temporary, entry->target) == 0)
        return;
    if (errno == ENOENT)
        make_parents(entry->target);
    if (rename(temporary, entry->target) < 0)
        err(EXIT_FAILURE, "rename to %s", entry->target);
}

static uint64_t portage_share(const void *job, void *unused, unsigned index)
{
    (void)unused;
    const struct portage *p = job;
    uint64_t begin = share(p->count, index, p->writers);
    uint64_t end = share(p->count, index + 1, p->writers);
    for (uint64_t i = begin; i < end; i++)
        portage_one(p->root, &p->entries[i]);
    return end - begin;
}

/* ------------------------------------------------------------------------------------- tree -- */

static void make_tree(const struct files *files, const char *path)
{
    if (mkdir(path, 0755) < 0)
        err(EXIT_FAILURE, "mkdir %s", path);
    int root = open_directory(AT_FDCWD, path), dir = -1;
    make_directories(files, root);
    char *content = make_content(files->size);
    for (uint64_t i = 0; i < files->count; i++) {
        char name[NAME_ROOM];
        file_name(name, i);
        follow_directory(files, root, i, &dir);
        fill(content, files->size, i);
        if (close(create(dir, name, content, files->size)) < 0)
            err(EXIT_FAILURE, "close %s", name);
    }
    free(content);
    close(dir);
    close(root);
}

/* Whether file `i` is below `root` as it was made. */
static bool is_there(const struct files *files, int root, uint64_t i)
{
    char directory[NAME_ROOM], name[NAME_ROOM], path[2 * NAME_ROOM + 1];
    directory_name(directory, directory_of(files, i));
    file_name(name, i);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    struct stat st;
    return fstatat(root, path, &st, 0) == 0 && (size_t)st.st_size == files->size;
}

/* A process that waits for `target` to appear, and looks at once whether its ends are there. */
static pid_t watch(const struct files *files, const char *target)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0)
        err(EXIT_FAILURE, "fork");
    if (child > 0)
        return child;
    int root;
    while ((root = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        if (errno != ENOENT || getppid() != parent)
            err(EXIT_FAILURE, "%s", target);
    if (!is_there(files, root, files->count - 1) || !is_there(files, root, 0) ||
        !is_there(files, root, files->count / 2))
        errx(EXIT_FAILURE, "%s was seen when it was not whole", target);
    _exit(EXIT_SUCCESS);
}

static uint64_t rename_tree(const struct files *files, const char *staged, const char *target,
                            uint64_t *count)
{
    make_tree(files, staged);
    pid_t watcher = watch(files, target);
    uint64_t start = now();
    if (rename(staged, target) < 0)
        err(EXIT_FAILURE, "rename %s to %s", staged, target);
    uint64_t time = now() - start;
    int status;
    if (waitpid(watcher, &status, 0) != watcher || status != 0)
        errx(EXIT_FAILURE, "half of the tree was seen");
    int root = open_directory(AT_FDCWD, target);
    *count = 0;
    for (uint64_t i = 0; i < files->count; i++)
        *count += is_there(files, root, i);
    close(root);
    return time;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint64_t time, count;
    if (strcmp(what, "publish") == 0 && argc == 8) {
        time = publish(
            &(struct publish){
                .files = {.count = number(argv[3]),
                          .size = number(argv[4]),
                          .directories = number(argv[5])},
                .root = open_directory(AT_FDCWD, argv[2]),
                .writers = (unsigned)number(argv[6]),
                .when = sync_when(argv[7]),
            },
            &count);
    } else if (strcmp(what, "portage") == 0 && argc == 6) {
        struct portage p = {.root = argv[2], .writers = (unsigned)number(argv[5])};
        portage_load(&p, argv[3], argv[4]);
        time = crew_run(&(struct crew){.processes = p.writers, .work = portage_share, .job = &p},
                        &count);
    } else if (strcmp(what, "tree") == 0 && argc == 7) {
        struct files files = {
            .count = number(argv[4]), .size = number(argv[5]), .directories = number(argv[6])};
        time = rename_tree(&files, argv[2], argv[3], &count);
    } else {
        errx(EXIT_USAGE,
             "usage: update publish DIR FILES BYTES DIRECTORIES WRITERS none|file|end | "
             "portage DIR SOURCE NAMES WRITERS | "
             "tree STAGED TARGET FILES BYTES DIRECTORIES");
    }
    printf("%" PRIu64 " %" PRIu64 "\n", time, count);
    return EXIT_SUCCESS;
}
