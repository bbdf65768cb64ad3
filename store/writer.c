/* SPDX-License-Identifier: BSD-2-Clause */
#include "writer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Changes in one transaction: beyond some hundred the price of the commit is shared enough. */
#define BATCH_MAX 256

struct job {
    writer_fn *change;
    void *arg;
    size_t bytes;
    int result;
    bool done;
    pthread_cond_t finished;
    struct job *next;
};

struct writer {
    struct env *env;
    size_t most;    /* bytes in one transaction */
    writer_fn *end; /* change of each; NULL: none */
    void *arg;
    pthread_t thread;
    atomic_uint_fast64_t commits;

    pthread_mutex_t lock; /* guards the queue, `stop` and every job's `done` */
    pthread_cond_t queued;
    struct job *first, **last;
    bool stop;
};

/* Take what fits into one transaction off the queue; NULL when it is time to stop. */
static struct job *next_batch(struct writer *writer)
{
    with_mutex(&writer->lock);
    while (writer->first == NULL && !writer->stop)
        pthread_cond_wait(&writer->queued, &writer->lock);

    struct job *batch = writer->first;
    if (batch == NULL)
        return NULL;
    size_t bytes = batch->bytes;
    struct job *end = batch;
    for (unsigned n = 1; n < BATCH_MAX && end->next != NULL; n++) {
        bytes += end->next->bytes;
        if (bytes > writer->most)
            break;
        end = end->next;
    }
    writer->first = end->next;
    if (writer->first == NULL)
        writer->last = &writer->first;
    end->next = NULL;
    return batch;
}

/* Run the jobs up to (not including) `end` in one transaction. */
static int run_once(struct writer *writer, struct job *batch, const struct job *end)
{
    MDB_txn *txn = NULL;
    int r = env_write_begin(writer->env, &txn);
    if (r < 0)
        return r;
    struct view view = view_of_transaction(writer->env, txn);
    for (struct job *job = batch; job != end && r == 0; job = job->next)
        r = job->change(&view, job->arg);
    if (r == 0 && writer->end != NULL)
        r = writer->end(&view, writer->arg);
    if (r < 0) {
        mdb_txn_abort(txn);
        return r;
    }
    r = env_write_commit(writer->env, txn);
    if (r == 0)
        atomic_fetch_add(&writer->commits, 1);
    return r;
}

static int run_growing(struct writer *writer, struct job *batch, const struct job *end)
{
    int r = run_once(writer, batch, end);
    while (r == ENV_MAP_FULL) {
        r = env_grow(writer->env);
        if (r == 0)
            r = run_once(writer, batch, end);
    }
    return r;
}

/* One failing change must not take others down: without it they are repeated one by one. */
static void run_batch(struct writer *writer, struct job *batch)
{
    int r = run_growing(writer, batch, NULL);
    bool alone = batch->next == NULL;
    for (struct job *job = batch; job != NULL; job = job->next)
        job->result = r == 0 || alone ? r : run_growing(writer, job, job->next);
}

static void finish(struct writer *writer, struct job *batch)
{
    with_mutex(&writer->lock);
    while (batch != NULL) {
        struct job *next = batch->next; /* the job is its waiter's, and gone with `done` */
        batch->done = true;
        pthread_cond_signal(&batch->finished);
        batch = next;
    }
}

static void *work(void *arg)
{
    struct writer *writer = arg;
    struct job *batch;
    while ((batch = next_batch(writer)) != NULL) {
        run_batch(writer, batch);
        finish(writer, batch);
    }
    return NULL;
}

int writer_start(struct env *env, size_t most, writer_fn *end, void *arg, struct writer **out)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return -ENOMEM;
    writer->env = env;
    writer->most = most;
    writer->end = end;
    writer->arg = arg;
    writer->last = &writer->first;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->queued, NULL);
    int rc = pthread_create(&writer->thread, NULL, work, writer);
    if (rc != 0) {
        free(writer);
        return -rc;
    }
    *out = writer;
    return 0;
}

void writer_stop(struct writer *writer)
{
    if (writer == NULL)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->stop = true;
    pthread_cond_signal(&writer->queued);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->queued);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

int writer_run(struct writer *writer, writer_fn *change, void *arg, size_t bytes)
{
    struct job job = {.change = change, .arg = arg, .bytes = bytes};
    pthread_cond_init(&job.finished, NULL);
    {
        with_mutex(&writer->lock);
        *writer->last = &job;
        writer->last = &job.next;
        pthread_cond_signal(&writer->queued);
        while (!job.done)
            pthread_cond_wait(&job.finished, &writer->lock);
    }
    pthread_cond_destroy(&job.finished);
    return job.result;
}

uint64_t writer_commits(const struct writer *writer)
{
    return atomic_load(&writer->commits);
}
