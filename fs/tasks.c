/* SPDX-License-Identifier: BSD-2-Clause */
#include "tasks.h"

#include <string.h>

#include "store/util.h"

static bool is_empty(const struct task_queue *queue)
{
    return queue->first == queue->count;
}

/* Room for one more: that of those that are done, or more than before. */
static int room_for_one(struct task_queue *queue)
{
    if (queue->count < queue->room)
        return 0;
    size_t left = queue->count - queue->first;
    if (left <= queue->room / 2 && queue->room > 0) {
        memmove(queue->list, queue->list + queue->first, left * sizeof(*queue->list));
        queue->first = 0;
        queue->count = left;
        return 0;
    }
    return make_room(&queue->list, &queue->room, queue->count, sizeof(*queue->list));
}

int tasks_add(struct tasks *tasks, struct task task, bool *only)
{
    struct task_queue *queue = task.due == 0 ? &tasks->now : &tasks->later;
    int r = room_for_one(queue);
    if (r < 0)
        return r;
    *only = is_empty(queue);
    queue->list[queue->count++] = task;
    return 0;
}

bool tasks_take(struct tasks *tasks, bool all, struct task *task)
{
    struct task_queue *queue = is_empty(&tasks->now) ? &tasks->later : &tasks->now;
    if (is_empty(queue) || (!all && queue->list[queue->first].due > monotonic_ms()))
        return false;
    *task = queue->list[queue->first++];
    return true;
}

int64_t tasks_due(const struct tasks *tasks)
{
    return is_empty(&tasks->later) ? -1 : tasks->later.list[tasks->later.first].due;
}

void tasks_free(struct tasks *tasks)
{
    free(tasks->now.list);
    free(tasks->later.list);
}
