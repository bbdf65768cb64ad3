/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waiters.h: who waits for a commit. Each is woken alone, and needs no lock then: when a commit
 * ends there are many of them, and all would go for the same one.
 */
#ifndef STORE_WAITERS_H
#define STORE_WAITERS_H

#include <semaphore.h>
#include <stddef.h>
#include <stdint.h>

/* On the stack of who waits. */
struct waiter {
    uint64_t upto; /* the change that he waits for */
    int result;
    sem_t ended;
    struct waiter *next;
};

/* Those who wait. Starts as {0}; the caller keeps others out. */
struct waiters {
    struct waiter *first;
};

void waiters_join(struct waiters *waiters, struct waiter *waiter, uint64_t upto);

/* With nothing locked, after waiters_join(). Returns the result. */
int waiter_wait(struct waiter *waiter);

/* A commit has ended: those who wait for `committed` or a change before it get a result of 0, the
 * others go on waiting, or get `error` if there is one. */
void waiters_wake(struct waiters *waiters, uint64_t committed, int error);

#endif
