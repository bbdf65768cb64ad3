/* SPDX-License-Identifier: BSD-2-Clause */
#include "sealing.h"

#include "closing.h"

static int seal(struct mount *mount, uint64_t id)
{
    return mount->closing != NULL ? closing_seal(mount->closing, id) : store_seal(mount->store, id);
}

int sealing_now(struct mount *mount, uint64_t id)
{
    store_pace(mount->store, id);
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

int sealing_staged(struct mount *mount)
{
    return store_settle_staged(mount->store, seal_one, mount);
}

int sealing_leaves(struct mount *mount, uint64_t id)
{
    bool written = mount->closing != NULL && closing_is_written(mount->closing, id);
    int r = written ? store_unseal(mount->store, id) : 0;
    return r < 0 ? r : written;
}

void sealing_released(struct mount *mount, uint64_t id)
{
    if (mount->closing != NULL)
        closing_written(mount->closing, id);
    else if (store_seal(mount->store, id) == 0)
        mount_attr_changed(mount, id);
}

void sealing_written(struct mount *mount, uint64_t id)
{
    if (mount->closing != NULL)
        closing_written(mount->closing, id);
}

void sealing_refused(struct mount *mount, uint64_t id)
{
    if (mount->closing != NULL)
        closing_heal(mount->closing, id);
}
