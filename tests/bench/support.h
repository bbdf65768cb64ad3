/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the benchmark's C programs share: the clock, names from a file, a sum over bytes, and work
 * that several processes do at once. Not for programs that go on after an error: all of it ends
 * the process.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { EXIT_USAGE = 2 };

/* Nanoseconds of a clock that never goes back. */
uint64_t now(void);

uint64_t number(const char *text);

/* ROOT/name for each line of file `names`, or the bare lines if `root` is NULL; ends with NULL.
 * Lives as long as the process. */
char **paths_below(const char *root, const char *names);

/* The sum of all words: who has it has touched every byte, and the right ones. */
uint64_t sum_bytes(const void *bytes, size_t size);

/* What several processes do at once. */
struct crew {
    unsigned processes;
    /* In each process before the clock starts: what `work` gets. May be NULL. */
    void *(*prepare)(const void *job);
    uint64_t (*work)(const void *job, void *prepared, unsigned index);
    const void *job;
};

/* Runs them, and waits for all. Nanoseconds from the start of all to the end of the last; in `sum`,
 * the sum of what `work` has returned. */
uint64_t crew_run(const struct crew *crew, uint64_t *sum);

/* What one of several readers does: `read_one` for each of `paths`, `passes` times. Each reader
 * begins at another place, as programs that know nothing of each other do. */
struct readers {
    char **paths;
    uint64_t passes;
    unsigned processes;
    /* In each process before the clock starts: what read_one gets. May be NULL. */
    void *(*prepare)(const char *where);
    const char *where;
    uint64_t (*read_one)(void *prepared, const char *path);
};

/* Prints "NANOSECONDS SUM": from the start of all to the end of the last, and the sum of what all
 * have read. */
void readers_run(const struct readers *readers);

/* Prints `sum`, and keeps what the process has in memory until its standard input ends. */
void hold(uint64_t sum);
