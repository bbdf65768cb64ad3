/* SPDX-License-Identifier: BSD-2-Clause */
#include "waiters.h"

void waiters_join(struct waiters *waiters, struct waiter *waiter, uint64_t upto)
{
    *waiter = (struct waiter){.upto = upto, .next = waiters->first};
    sem_init(&waiter->ended, 0, 0);
    waiters->first = waiter;
}

int waiter_wait(struct waiter *waiter)
{
    while (sem_wait(&waiter->ended) < 0)
        ; /* interrupted by a signal */
    sem_destroy(&waiter->ended);
    return waiter->result;
}

void waiters_wake(struct waiters *waiters, uint64_t committed, int error)
{
    struct waiter **at = &waiters->first;
    while (*at != NULL) {
        struct waiter *waiter = *at;
        if (error == 0 && waiter->upto > committed) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        waiter->result = error;
        sem_post(&waiter->ended); /* from here on it may be gone */
    }
}
