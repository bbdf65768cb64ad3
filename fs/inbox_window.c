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

static void add(struct window *window, uint64_t parent, const char *name)
{
    if (window->count == WINDOW_PLACES)
        return;
    struct window_place *place = &window->places[window->count++];
    place->parent = parent;
    snprintf(place->name, sizeof(place->name), "%s", name);
}

static bool has(const struct window *window, size_t count, uint64_t parent, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (window->places[i].parent == parent && strcmp(window->places[i].name, name) == 0)
            return true;
    return false;
}

void window_open(struct window *window, uint64_t parent, const char *name)
{
    with_mutex(&window->lock);
    window->count = 0;
    add(window, parent, name);
}

bool window_next(struct window *window, struct window_place *place)
{
    with_mutex(&window->lock);
    if (window->count == 0 || --window->count == 0)
        return false;
    memmove(&window->places[0], &window->places[1], window->count * sizeof(window->places[0]));
    *place = window->places[0];
    return true;
}

void window_close(struct window *window)
{
    with_mutex(&window->lock);
    window->count = 0;
}

void window_renamed(struct window *window, uint64_t parent, const char *name, uint64_t new_parent,
                    const char *new_name, bool exchanged)
{
    with_mutex(&window->lock);
    size_t count = window->count;
    if (has(window, count, parent, name))
        add(window, new_parent, new_name);
    if (exchanged && has(window, count, new_parent, new_name))
        add(window, parent, name);
}
