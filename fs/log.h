/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h: one-line messages of a mount, for the person who runs it: on standard error, or in
 * syslog once the process has no terminal any more. Any thread may call.
 */
#ifndef FS_LOG_H
#define FS_LOG_H

#include <stdarg.h>
#include <syslog.h>

/* `priority` is one of syslog's: LOG_ERR, LOG_WARNING, LOG_INFO, ... No newline at the end. */
void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* From now on to syslog. */
void log_to_syslog(void);

#endif
