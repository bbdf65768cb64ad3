/* SPDX-License-Identifier: BSD-2-Clause */
/* observe.h: talk to a struct store_observer, of which any part may be missing. */
#ifndef STORE_OBSERVE_H
#define STORE_OBSERVE_H

#include "store.h"

void observe_message(const struct store_observer *observer, const char *path, const char *format,
                     ...) __attribute__((format(printf, 3, 4)));
void observe_progress(const struct store_observer *observer, const struct store_work *done,
                      const struct store_work *all);
bool observe_stop(const struct store_observer *observer);

#endif
