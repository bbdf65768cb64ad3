/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_window.h"

#include <stdio.h>
#include <string.h>

#include "store/util.h"

void window_init(struct window *window)
{
    *window = (struct window){0};
    pthread_mutex_init(&window->lock, NULL);
}

void window_destroy(struct window *window)
{
    pthread_mutex_destroy(&window->lock);
}

static void set_place(struct window *window, uint64_t parent, const char *name)
{
    window->now.parent = parent;
    snprintf(window->now.name, sizeof(window->now.name), "%s", name);
}

void window_open(struct window *window, uint64_t parent, const char *name)
{
    with_mutex(&window->lock);
    set_place(window, parent, name);
    window->moved = false;
}

bool window_close(struct window *window, struct window_place *place)
{
    with_mutex(&window->lock);
    *place = window->now;
    window->now.parent = 0;
    return window->moved;
}

void window_renamed(struct window *window, uint64_t parent, const char *name, uint64_t new_parent,
                    const char *new_name)
{
    with_mutex(&window->lock);
    if (window->now.parent != parent || strcmp(window->now.name, name) != 0)
        return;
    set_place(window, new_parent, new_name);
    window->moved = true;
}
