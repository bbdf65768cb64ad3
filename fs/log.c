/* SPDX-License-Identifier: BSD-2-Clause */
#include "log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

/* Longer lines are cut: they name at most two paths. */
#define LINE_MAX_BYTES 10240

static atomic_bool to_syslog;

void log_line(int priority, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (to_syslog)
        syslog(priority, "%s", line);
    else
        fprintf(stderr, "lmdbfs: %s\n", line);
}

void log_to_syslog(void)
{
    openlog("lmdbfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    to_syslog = true;
}
