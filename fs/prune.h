/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prune.h: where the list of files that the kernel holds is bounded, the kernel is asked to let
 * some go before it is full: those that nobody has open, whichever they are. Only a kernel from
 * 6.18 on can be asked; else a full list refuses what is new until the kernel lets go by itself.
 */
#ifndef FS_PRUNE_H
#define FS_PRUNE_H

#include <pthread.h>
#include <stdbool.h>

struct fuse_session;
struct store;

struct prune {
    struct fuse_session *session;
    struct store *store;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    bool wanted, stop, running;
    pthread_t thread;
};

void prune_init(struct prune *prune);
void prune_destroy(struct prune *prune);

/* From now on prune_want() works: on a thread of our own, since the kernel may have to wait for
 * those that serve requests. -ENOMEM, -EAGAIN: no thread. */
int prune_start(struct prune *prune, struct fuse_session *session, struct store *store);
/* Nothing to do if it was not started. */
void prune_stop(struct prune *prune);

/* Have some of what the kernel holds let go, soon. Any thread may call, at any time; waits for
 * nothing. */
void prune_want(struct prune *prune);

#endif
