/* SPDX-License-Identifier: BSD-2-Clause */
#include "ways.h"

#include <stdarg.h>

#include "metrics.h"
#include "store/util.h"

static const char *const names[] = {
#define WAYS_NAME(of, text) #of,
    WAYS(WAYS_NAME)
#undef WAYS_NAME
};

void ways_init(struct ways *ways)
{
    *ways = (struct ways){0};
    pthread_mutex_init(&ways->lock, NULL);
}

void ways_destroy(struct ways *ways)
{
    pthread_mutex_destroy(&ways->lock);
}

void ways_set(struct ways *ways, enum way_of of, const char *way, const char *why, ...)
{
    with_mutex(&ways->lock);
    snprintf(ways->of[of].way, sizeof(ways->of[of].way), "%s", way);
    ways->of[of].why[0] = '\0';
    if (why == NULL)
        return;
    va_list args;
    va_start(args, why);
    vsnprintf(ways->of[of].why, sizeof(ways->of[of].why), why, args);
    va_end(args);
}

void ways_print(FILE *out, struct ways *ways)
{
    with_mutex(&ways->lock);
    fputs("# HELP lmdbfs_way_info Which way is in use, and why not a better one.\n"
          "# TYPE lmdbfs_way_info gauge\n",
          out);
    for (int of = 0; of < WAY_COUNT; of++) {
        if (ways->of[of].way[0] == '\0')
            continue;
        fputs("lmdbfs_way_info{", out);
        metrics_print_label(out, "of", names[of]);
        metrics_print_label(out, ",way", ways->of[of].way);
        metrics_print_label(out, ",why", ways->of[of].why);
        fputs("} 1\n", out);
    }
}
