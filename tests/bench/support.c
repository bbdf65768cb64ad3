/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "support.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a process of a crew tells its parent. Smaller than PIPE_BUF: it arrives in one piece. */
struct finish {
    uint64_t end; /* by now() */
    uint64_t sum;
};

uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0')
        errx(EXIT_USAGE, "'%s' is not a number", text);
    return value;
}

char **paths_below(const char *root, const char *names)
{
    FILE *file = fopen(names, "re");
    if (!file)
        err(EXIT_FAILURE, "%s", names);
    char **paths = NULL;
    size_t count = 0, room = 0;
    char *line = NULL;
    size_t line_room = 0;
    ssize_t length;
    while ((length = getline(&line, &line_room, file)) > 0) {
        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (count + 1 >= room) {
            room = room ? room * 2 : 1024;
            paths = reallocarray(paths, room, sizeof *paths);
            if (!paths)
                err(EXIT_FAILURE, "%s", names);
        }
        if (asprintf(&paths[count++], "%s%s%s", root ? root : "", root ? "/" : "", line) < 0)
            err(EXIT_FAILURE, "%s", names);
    }
    if (ferror(file))
        err(EXIT_FAILURE, "%s", names);
    free(line);
    fclose(file);
    if (!paths && !(paths = malloc(sizeof *paths)))
        err(EXIT_FAILURE, "%s", names);
    paths[count] = NULL;
    return paths;
}

uint64_t sum_bytes(const void *bytes, size_t size)
{
    const char *at = bytes;
    uint64_t sum = 0, word;
    for (; size >= sizeof word; at += sizeof word, size -= sizeof word) {
        memcpy(&word, at, sizeof word);
        sum += word;
    }
    word = 0;
    memcpy(&word, at, size);
    return sum + word;
}

/* Process number `index`. It tells `ready`, waits for `go`, works, and tells `finished`. */
static void work_in_child(const struct crew *crew, unsigned index, int ready, int go, int finished)
{
    void *prepared = crew->prepare ? crew->prepare(crew->job) : NULL;
    char byte = 0;
    if (write(ready, &byte, 1) != 1)
        err(EXIT_FAILURE, "pipe");
    close(ready);
    if (read(go, &byte, 1) != 1)
        _exit(EXIT_FAILURE); /* the parent has given up */
    struct finish finish = {.sum = crew->work(crew->job, prepared, index)};
    finish.end = now();
    if (write(finished, &finish, sizeof finish) != sizeof finish)
        err(EXIT_FAILURE, "pipe");
    _exit(EXIT_SUCCESS);
}

uint64_t crew_run(const struct crew *crew, uint64_t *sum)
{
    int ready[2], go[2], finished[2];
    if (pipe(ready) < 0 || pipe(go) < 0 || pipe(finished) < 0)
        err(EXIT_FAILURE, "pipe");
    for (unsigned i = 0; i < crew->processes; i++) {
        pid_t child = fork();
        if (child < 0)
            err(EXIT_FAILURE, "fork");
        if (child == 0) {
            close(ready[0]);
            close(go[1]); /* or a parent that dies would not be noticed */
            close(finished[0]);
            work_in_child(crew, i, ready[1], go[0], finished[1]);
        }
    }
    /* A process that dies closes its ends: then we see the end of the pipe and not its byte. */
    close(ready[1]);
    close(finished[1]);
    char byte = 0;
    for (unsigned i = 0; i < crew->processes; i++)
        if (read(ready[0], &byte, 1) != 1)
            errx(EXIT_FAILURE, "a process has failed before its start");
    uint64_t start = now(), end = start;
    *sum = 0;
    for (unsigned i = 0; i < crew->processes; i++)
        if (write(go[1], &byte, 1) != 1)
            err(EXIT_FAILURE, "pipe");
    for (unsigned i = 0; i < crew->processes; i++) {
        struct finish finish;
        if (read(finished[0], &finish, sizeof finish) != sizeof finish)
            errx(EXIT_FAILURE, "a process has failed");
        *sum += finish.sum;
        end = finish.end > end ? finish.end : end;
    }
    while (wait(NULL) > 0)
        ;
    return end - start;
}

static void *prepare_reader(const void *job)
{
    const struct readers *r = job;
    return r->prepare ? r->prepare(r->where) : NULL;
}

static uint64_t read_passes(const void *job, void *prepared, unsigned index)
{
    const struct readers *r = job;
    uint64_t sum = 0;
    size_t count = 0;
    while (r->paths[count])
        count++;
    for (uint64_t pass = 0; pass < r->passes; pass++)
        for (size_t i = 0; i < count; i++)
            sum += r->read_one(prepared, r->paths[(i + count * index / r->processes) % count]);
    return sum;
}

void readers_run(const struct readers *r)
{
    uint64_t sum;
    uint64_t time = crew_run(
        &(struct crew){
            .processes = r->processes, .prepare = prepare_reader, .work = read_passes, .job = r},
        &sum);
    printf("%" PRIu64 " %" PRIu64 "\n", time, sum);
}

void hold(uint64_t sum)
{
    printf("%" PRIu64 "\n", sum);
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}
