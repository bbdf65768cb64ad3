/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ways.h: where there is more than one way to do a thing, depending on the kernel, the disk and
 * our rights: which one this mount goes, and why not the better one. For people, who read it with
 * `lmdbfs stat MOUNTPOINT` and in ".lmdbfs/stats". Any thread may call.
 */
#ifndef FS_WAYS_H
#define FS_WAYS_H

#include <pthread.h>
#include <stdio.h>

/* What is done in one of several ways: the name to show it by, and what that means. */
#define WAYS(X)                                                      \
    X(records, "what the mount is tuned for")                        \
    X(open, "how files are opened")                                  \
    X(large, "how the content of large records gets into a mapping") \
    X(writing, "how the bytes of a new file are written")            \
    X(requests, "how requests come from the kernel")                 \
    X(readahead, "what the kernel reads ahead")                      \
    X(verify, "when content is compared with its checksum")

enum way_of {
#define WAYS_ENUMERATOR(of, text) WAY_##of,
    WAYS(WAYS_ENUMERATOR)
#undef WAYS_ENUMERATOR
        WAY_COUNT
};

struct ways {
    pthread_mutex_t lock; /* guards the rest */
    struct {
        char way[32]; /* empty: not decided yet */
        char why[160];
    } of[WAY_COUNT];
};

void ways_init(struct ways *ways);
void ways_destroy(struct ways *ways);

/* From now on, `way`, in a word or two; why, in half a sentence, may be NULL. */
void ways_set(struct ways *ways, enum way_of of, const char *way, const char *why, ...)
    __attribute__((format(printf, 4, 5)));

/* As metrics in Prometheus' text format: lmdbfs_way_info{of="open",way="…",why="…"} 1. */
void ways_print(FILE *out, struct ways *ways);

#endif
