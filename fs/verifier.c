/* SPDX-License-Identifier: BSD-2-Clause */
#include "verifier.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/util.h"

#define WAITING_MOST 512

struct task {
    uint64_t id;
    struct store_clone clone;
    struct task *next;
};

struct verifier {
    struct store *store;
    verifier_done_fn *done;
    void *arg;
    pthread_t thread;
    atomic_bool stop;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t added;
    struct task *first, **last;
    unsigned count;
    bool running; /* there is a thread */
};

static bool stopping(void *arg)
{
    struct verifier *verifier = arg;
    return atomic_load_explicit(&verifier->stop, memory_order_relaxed);
}

/* NULL: it is time to stop. */
static struct task *take(struct verifier *verifier)
{
    with_mutex(&verifier->lock);
    while (verifier->first == NULL && !stopping(verifier))
        pthread_cond_wait(&verifier->added, &verifier->lock);
    if (stopping(verifier))
        return NULL;
    struct task *task = verifier->first;
    verifier->first = task->next;
    if (verifier->first == NULL)
        verifier->last = &verifier->first;
    verifier->count--;
    return task;
}

static void task_free(struct task *task)
{
    (void)close(task->clone.fd);
    free(task);
}

static void *verify(void *arg)
{
    struct verifier *verifier = arg;
    for (struct task *task; (task = take(verifier)) != NULL;) {
        uint64_t id = task->id;
        int r = store_clone_verify(verifier->store, id, &task->clone, stopping, verifier);
        task_free(task);
        verifier->done(verifier->arg, id, r == -EIO);
    }
    return NULL;
}

bool verifier_has_room(struct verifier *verifier)
{
    with_mutex(&verifier->lock);
    return verifier->count < WAITING_MOST;
}

bool verifier_add(struct verifier *verifier, uint64_t id, const struct store_clone *clone)
{
    struct task *task = calloc(1, sizeof(*task));
    with_mutex(&verifier->lock);
    if (task != NULL && !verifier->running)
        verifier->running = pthread_create(&verifier->thread, NULL, verify, verifier) == 0;
    if (task == NULL || !verifier->running) {
        (void)close(clone->fd);
        free(task);
        return false;
    }
    task->id = id;
    task->clone = *clone;
    *verifier->last = task;
    verifier->last = &task->next;
    verifier->count++;
    pthread_cond_signal(&verifier->added);
    return true;
}

struct verifier *verifier_new(struct store *store, verifier_done_fn *done, void *arg)
{
    struct verifier *verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL)
        return NULL;
    verifier->store = store;
    verifier->done = done;
    verifier->arg = arg;
    verifier->last = &verifier->first;
    pthread_mutex_init(&verifier->lock, NULL);
    pthread_cond_init(&verifier->added, NULL);
    return verifier;
}

void verifier_free(struct verifier *verifier)
{
    if (verifier == NULL)
        return;
    {
        with_mutex(&verifier->lock);
        atomic_store(&verifier->stop, true);
        pthread_cond_signal(&verifier->added);
    }
    if (verifier->running)
        pthread_join(verifier->thread, NULL);
    for (struct task *task = verifier->first; task != NULL;) {
        struct task *next = task->next;
        task_free(task);
        task = next;
    }
    pthread_cond_destroy(&verifier->added);
    pthread_mutex_destroy(&verifier->lock);
    free(verifier);
}
