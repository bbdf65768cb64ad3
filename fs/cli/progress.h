/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * progress.h: what long work on a whole store shows to the person who waits: how far it is (on a
 * terminal only), messages, a summary; and how it is told to stop. One at a time in a process.
 */
#ifndef FS_CLI_PROGRESS_H
#define FS_CLI_PROGRESS_H

#include <time.h>

#include "store/store.h"

struct progress {
    const char
        *command; /* in front of messages; NULL: they are the result, and go to standard output */
    bool quiet;
    bool terminal; /* standard error is one that somebody looks at */
    struct timespec start, drawn;
    int width; /* of what is drawn now, in characters */
};

/* From now on SIGINT, SIGTERM and SIGHUP ask the work to stop. */
void progress_start(struct progress *progress, const char *command, bool quiet);

/* To be given to the work. */
struct store_observer progress_observer(struct progress *progress);

/* Take away what is drawn, before anything else is printed. */
void progress_clear(struct progress *progress);

/* "VERB 3751 files in 161 directories, 12 MiB in 0.20 s (59 MiB/s)" on standard output. */
void progress_summary(struct progress *progress, const char *verb, const struct store_work *work);

#endif
