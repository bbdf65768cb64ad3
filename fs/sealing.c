/* SPDX-License-Identifier: BSD-2-Clause */
#include "sealing.h"

#include <errno.h>
#include <string.h>

#include "closing.h"
#include "log.h"

static int seal(struct mount *mount, uint64_t id)
{
    return mount->closing != NULL ? closing_seal(mount->closing, id) : store_seal(mount->store, id);
}

int sealing_now(struct mount *mount, uint64_t id)
{
    int r = seal(mount, id);
    /* The write bits are gone. Told before we answer, so that nobody sees them afterwards. */
    if (r == 0)
        mount_attr_changed(mount, id);
    return r;
}

static int seal_one(void *arg, uint64_t id)
{
    return sealing_now(arg, id);
}

int sealing_tree(struct mount *mount, uint64_t id)
{
    return store_publish_tree(mount->store, id, seal_one, mount);
}

void sealing_later(struct mount *mount, uint64_t id)
{
    if (mount->closing != NULL)
        closing_queue(mount->closing, id);
    else if (store_writer_open(mount->store, id) == 0)
        store_writer_close(mount->store, id); /* unless there are others, the last one */
}

void sealing_written(struct mount *mount, uint64_t id, bool open)
{
    if (mount->closing == NULL)
        return;
    int r = closing_watch(mount->closing, id);
    if (r < 0 && r != -ENODEV) /* being unmounted */
        log_line(LOG_WARNING,
                 "cannot see when file %llu is closed, the next start will seal it: %s",
                 (unsigned long long)id, strerror(-r));
    if (!open)
        closing_queue(mount->closing, id);
}

void sealing_refused(struct mount *mount, uint64_t id)
{
    if (mount->closing != NULL)
        closing_heal(mount->closing, id);
}
