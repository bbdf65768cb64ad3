/* SPDX-License-Identifier: BSD-2-Clause */
#include "observe.h"

#include <stdarg.h>
#include <stdio.h>

void observe_message(const struct store_observer *observer, const char *path, const char *format,
                     ...)
{
    if (observer == NULL || observer->message == NULL)
        return;
    char text[STORE_WHY_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    observer->message(observer->arg, path, text);
}

void observe_progress(const struct store_observer *observer, const struct store_work *done,
                      const struct store_work *all)
{
    if (observer != NULL && observer->progress != NULL)
        observer->progress(observer->arg, done->files + done->directories, done->bytes,
                           all->files + all->directories, all->bytes);
}

bool observe_stop(const struct store_observer *observer)
{
    return observer != NULL && observer->stop != NULL && observer->stop(observer->arg);
}
