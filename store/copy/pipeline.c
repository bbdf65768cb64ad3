/* SPDX-License-Identifier: BSD-2-Clause */
#include "pipeline.h"

#include "ingest.h"
#include "reap.h"

int pipeline_init(struct pipeline *pipeline, struct store *store, pipeline_fn *settle, void *arg)
{
    *pipeline = (struct pipeline){.store = store, .settle = settle, .arg = arg};
    pipeline->filling = &pipeline->batches[0];
    int r = batch_init(&pipeline->batches[0], store, WRITER_BYTES_MAX);
    return r < 0 ? r : batch_init(&pipeline->batches[1], store, WRITER_BYTES_MAX);
}

/* The contents that wait for an item that will never come to be are of no use. */
static void abandon(struct pipeline *pipeline, struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        ingest_abandon(pipeline->store, batch->items[i].content);
    batch_clear(batch);
}

static void settle(struct pipeline *pipeline, struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_item *item = &batch->items[i];
        if (item->gone != 0)
            reap_unless_held(pipeline->store, item->gone);
        if (item->result < 0 && item->shared == NULL)
            ingest_abandon(pipeline->store, item->content);
        pipeline->settle(pipeline->arg, item);
    }
    batch_clear(batch);
}

static void *run(void *arg)
{
    struct pipeline *pipeline = arg;
    pipeline->result = batch_run(pipeline->running);
    return NULL;
}

/* Wait for the batch that is being committed. */
static int finish(struct pipeline *pipeline)
{
    struct batch *batch = pipeline->running;
    if (batch == NULL)
        return pipeline->result;
    pthread_join(pipeline->thread, NULL);
    pipeline->running = NULL;
    if (pipeline->result < 0)
        abandon(pipeline, batch);
    else
        settle(pipeline, batch);
    memory_trim(&pipeline->memory, pipeline->store);
    return pipeline->result;
}

/* Have the batch committed, and go on with the other one. */
static int send_off(struct pipeline *pipeline)
{
    int r = finish(pipeline);
    if (r < 0)
        return r;
    struct batch *batch = pipeline->filling;
    pipeline->running = batch;
    pipeline->filling = &pipeline->batches[batch == &pipeline->batches[0]];
    int error = pthread_create(&pipeline->thread, NULL, run, pipeline);
    if (error == 0)
        return 0;
    pipeline->running = NULL;
    abandon(pipeline, batch);
    pipeline->result = -error;
    return -error;
}

int pipeline_add(struct pipeline *pipeline, enum batch_kind kind, struct walk_dir *parent,
                 const char *name, size_t payload_size, struct batch_item **item)
{
    *item = batch_add(pipeline->filling, kind, parent, name, payload_size);
    if (*item != NULL)
        return 0;
    int r = send_off(pipeline);
    if (r == 0)
        *item = batch_add(pipeline->filling, kind, parent, name, payload_size);
    return r;
}

void pipeline_take_back(struct pipeline *pipeline)
{
    batch_take_back(pipeline->filling);
}

int pipeline_flush(struct pipeline *pipeline)
{
    int r = send_off(pipeline);
    return r < 0 ? r : finish(pipeline);
}

void pipeline_end(struct pipeline *pipeline)
{
    if (pipeline->filling != NULL) {
        (void)finish(pipeline);
        abandon(pipeline, pipeline->filling);
    }
    batch_free(&pipeline->batches[0]);
    batch_free(&pipeline->batches[1]);
}
