/* SPDX-License-Identifier: BSD-2-Clause */
/* tasks.h: what a thread was asked to do with a file, at once or when a time has come. Whoever
 * calls keeps others out. */
#ifndef FS_TASKS_H
#define FS_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct task {
    uint64_t id;
    int what;    /* the caller's */
    int64_t due; /* of monotonic_ms(); 0: now */
};

/* Tasks in the order in which they are due. */
struct task_queue {
    struct task *list;
    size_t first, count, room; /* first to count are left */
};

/* Starts as {0}. */
struct tasks {
    struct task_queue now, later;
};

/* Of the tasks with a time, each must be due no sooner than those before it. -ENOMEM. *only tells
 * that it is the only one of its kind: who finds others need not wake anybody. */
int tasks_add(struct tasks *tasks, struct task task, bool *only);
/* The next one that is due, with `all` also one that isn't; false: none. */
bool tasks_take(struct tasks *tasks, bool all, struct task *task);
/* When the next of those with a time is due; -1: there is none. */
int64_t tasks_due(const struct tasks *tasks);
void tasks_free(struct tasks *tasks);

#endif
