/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * probe: the benchmark's tight loops that read, with the clock inside.
 *
 * A loop is measured from its first system call to its last, so that starting a process and
 * preparing the paths do not count. It prints "NANOSECONDS COUNT", where COUNT (bytes or files)
 * lets the harness see that every contender did the same work.
 *
 *   probe read ROOT NAMES             open, fstat, read to the end, close; each name in file NAMES
 *   probe stat ROOT NAMES             stat
 *   probe touch FILE TOUCHES          map FILE, read TOUCHES random pages of it
 *   probe scan FILE                   map FILE, read all of it in order
 *   probe values read|map ROOT NAMES PASSES PROCESSES
 *                                     PROCESSES at once: each name PASSES times, open, read or map,
 *                                     sum its bytes, close
 *
 *   probe hold ROOT NAMES             map each name, sum its bytes, print the sum alone, and keep
 *                                     all mapped until standard input ends
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static uint64_t read_all(char **paths)
{
    static char buffer[1 << 20];
    uint64_t bytes = 0;
    for (; *paths; paths++) {
        int fd = open(*paths, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            err(EXIT_FAILURE, "%s", *paths);
        struct stat st;
        if (fstat(fd, &st) < 0)
            err(EXIT_FAILURE, "%s", *paths);
        uint64_t left = (uint64_t)st.st_size;
        while (left > 0) {
            ssize_t n = read(fd, buffer, left < sizeof buffer ? left : sizeof buffer);
            if (n < 0)
                err(EXIT_FAILURE, "%s", *paths);
            if (n == 0)
                errx(EXIT_FAILURE, "%s: shorter than its size", *paths);
            left -= (uint64_t)n;
            bytes += (uint64_t)n;
        }
        close(fd);
    }
    return bytes;
}

static uint64_t stat_all(char **paths)
{
    uint64_t bytes = 0;
    for (; *paths; paths++) {
        struct stat st;
        if (stat(*paths, &st) < 0)
            err(EXIT_FAILURE, "%s", *paths);
        bytes += (uint64_t)st.st_size;
    }
    return bytes;
}

/* A shared, read-only map of all of `path`, to be freed by munmap(). */
static const char *map_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        err(EXIT_FAILURE, "%s", path);
    *size = (size_t)st.st_size;
    const char *map = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        err(EXIT_FAILURE, "%s", path);
    close(fd);
    return map;
}

/* The sum of all words read, so that reading the wrong bytes shows as well. */
static uint64_t touch_pages(const char *path, uint64_t touches)
{
    size_t size;
    const char *map = map_file(path, &size);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t pages = size / page;
    uint64_t sum = 0;
    uint64_t random = 88172645463325252; /* xorshift64: the same pages in every run */
    for (uint64_t i = 0; i < touches; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        sum += sum_bytes(map + random % pages * page, page);
    }
    munmap((void *)map, size);
    return sum;
}

static uint64_t map_and_sum(void *unused, const char *path)
{
    (void)unused;
    size_t size;
    const char *map = map_file(path, &size);
    uint64_t sum = sum_bytes(map, size);
    munmap((void *)map, size);
    return sum;
}

static uint64_t read_and_sum(void *unused, const char *path)
{
    (void)unused;
    static char buffer[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err(EXIT_FAILURE, "%s", path);
    uint64_t sum = 0;
    ssize_t n;
    do { /* less than asked for is the end of a file */
        n = read(fd, buffer, sizeof buffer);
        if (n < 0)
            err(EXIT_FAILURE, "%s", path);
        sum += sum_bytes(buffer, (size_t)n);
    } while (n == sizeof buffer);
    close(fd);
    return sum;
}

static uint64_t (*by_map_or_read(const char *word))(void *, const char *)
{
    return strcmp(word, "map") == 0 ? map_and_sum : strcmp(word, "read") == 0 ? read_and_sum : NULL;
}

static uint64_t map_all(char **paths)
{
    uint64_t sum = 0;
    for (; *paths; paths++) {
        size_t size;
        const char *map = map_file(*paths, &size);
        sum += sum_bytes(map, size);
    }
    return sum;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint64_t start, count;
    if (strcmp(what, "read") == 0 && argc == 4) {
        char **paths = paths_below(argv[2], argv[3]);
        start = now();
        count = read_all(paths);
    } else if (strcmp(what, "stat") == 0 && argc == 4) {
        char **paths = paths_below(argv[2], argv[3]);
        start = now();
        count = stat_all(paths);
    } else if (strcmp(what, "touch") == 0 && argc == 4) {
        uint64_t touches = number(argv[3]);
        start = now();
        count = touch_pages(argv[2], touches);
    } else if (strcmp(what, "scan") == 0 && argc == 3) {
        start = now();
        count = map_and_sum(NULL, argv[2]);
    } else if (strcmp(what, "values") == 0 && argc == 7 && by_map_or_read(argv[2])) {
        readers_run(&(struct readers){
            .paths = paths_below(argv[3], argv[4]),
            .passes = number(argv[5]),
            .processes = (unsigned)number(argv[6]),
            .read_one = by_map_or_read(argv[2]),
        });
        return EXIT_SUCCESS;
    } else if (strcmp(what, "hold") == 0 && argc == 4) {
        hold(map_all(paths_below(argv[2], argv[3])));
        return EXIT_SUCCESS;
    } else {
        errx(EXIT_USAGE, "usage: probe read|stat ROOT NAMES | touch FILE TOUCHES | scan FILE | "
                         "values read|map ROOT NAMES PASSES PROCESSES | hold ROOT NAMES");
    }
    uint64_t end = now();
    printf("%" PRIu64 " %" PRIu64 "\n", end - start, count);
    return EXIT_SUCCESS;
}
