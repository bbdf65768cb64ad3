/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_work.h"

#include <stdio.h>
#include <string.h>

#include "inbox_publish.h"
#include "log.h"
#include "mount.h"
#include "store/util.h"

/* What the store has of a group is on disk. */
static int make_durable(struct work *work)
{
    return store_sync(work->mount->store);
}

static const char *reason_of(int error)
{
    switch (error) {
    case -EISDIR:
        return "there is a directory of this name";
    case -ENOTDIR:
        return "there is something else than a directory of this name";
    case -EPERM:
        return "this name is reserved in the root of a store";
    default:
        return strerror(-error);
    }
}

/* `from` is in the group's directory; `path` is how it arrived. */
static int reject(struct work *work, const char *from, const char *path, const char *reason)
{
    int r = reject_move(&work->reject, work->group.fd, from, path, reason);
    if (r > 0)
        atomic_fetch_add(&work->rejected, 1);
    return r < 0 ? r : 0;
}

static int leave(void *arg, const char *path, int error)
{
    const char *inner = strchr(path, '/');
    if (inner == NULL) /* a directory of ours */
        return error;
    return reject(arg, path, inner + 1,
                  error == -EPERM ? "a device, pipe or socket; a store has no such files"
                                  : strerror(-error));
}

static bool must_stop(void *arg)
{
    struct work *work = arg;
    return atomic_load(&work->stop);
}

/* What is there of the group in the store's staging: throw it away. */
static int discard(struct work *work)
{
    struct taken_name name = taken_group_name(work->group.sequence);
    int r = store_discard(work->mount->store, work->taken.staging, name.text);
    return r == -ENOENT ? 0 : r;
}

static int stage(struct work *work)
{
    const struct store_owner owner = {0700, geteuid(), getegid()};
    const struct store_taking taking = {.arg = work, .leave = leave, .stop = must_stop};
    struct store *store = work->mount->store;
    struct taken_name name = taken_group_name(work->group.sequence);
    struct store_attr attr;
    int r = discard(work);
    if (r == 0)
        r = store_mkdir(store, work->taken.staging, name.text, &owner, &attr);
    if (r == 0)
        r = store_take(store, work->group.fd, attr.id, &taking);
    if (r == 0)
        r = make_durable(work);
    if (r == 0)
        r = taken_mark(&work->taken, &work->group);
    if (r < 0 && r != -EINTR)
        (void)discard(work); /* it takes room */
    return r;
}

static int reject_unit(void *arg, unsigned unit, const char *path, int error)
{
    cleanup_free char *from = NULL;
    if (asprintf(&from, "%s/%s", taken_unit_name(unit).text, path) < 0)
        return -ENOMEM;
    return reject(arg, from, path, reason_of(error));
}

static void count_published(void *arg)
{
    struct work *work = arg;
    atomic_fetch_add(&work->published, 1);
}

static int publish(struct work *work)
{
    const struct publish how = {work->mount, &work->window,   work,
                                reject_unit, count_published, must_stop};
    struct taken_name name = taken_group_name(work->group.sequence);
    struct store_attr attr;
    int r = store_lookup(work->mount->store, work->taken.staging, name.text, &attr);
    if (r == -ENOENT) /* it was published before */
        return make_durable(work);
    if (r == 0)
        r = publish_group(&how, attr.id, work->group.units);
    if (r == 0)
        r = store_rmdir(work->mount->store, work->taken.staging, name.text);
    return r == 0 ? make_durable(work) : r == -ENOENT ? -EAGAIN : r;
}

/* In what order, and why, says inbox_taken.h. */
int work_on_group(struct work *work, uint64_t sequence)
{
    struct taken_group *group = &work->group;
    int r = taken_find(&work->taken, sequence, group);
    if (r == -ENOENT) /* there is none any more */
        return 0;
    if (r == 0 && !group->staged)
        r = stage(work);
    if (r == 0)
        r = publish(work);
    if (r == 0)
        r = taken_remove(&work->taken, group);
    if (r == 0)
        atomic_fetch_sub(&work->units, group->count);
    if (r == -EBUSY && !group->staged && taken_split(&work->taken, group) < 0)
        log_line(LOG_WARNING, "inbox: can't tell apart what came together; it waits together");
    taken_end(&work->taken, group);
    return r;
}

/* --------------------------------------------------------------------------- life -- */

static int count_units(struct work *work)
{
    cleanup_free uint64_t *sequences = NULL;
    size_t count = 0;
    int r = taken_list(&work->taken, &sequences, &count);
    for (size_t i = 0; i < count; i++) {
        struct taken_group group;
        if (taken_find(&work->taken, sequences[i], &group) == 0)
            atomic_fetch_add(&work->units, group.count);
        cleanup_fd_p(&group.fd);
    }
    return r;
}

int work_open(struct work *work, struct mount *mount, int inbox, char why[STORE_WHY_MAX])
{
    work->mount = mount;
    window_init(&work->window);
    int r = taken_open(&work->taken, mount->store, inbox, why);
    if (r == 0)
        r = reject_open(&work->reject, inbox, why);
    if (r < 0)
        return r;
    r = count_units(work);
    if (r < 0)
        snprintf(why, STORE_WHY_MAX, "can't read .taken in the inbox: %s", strerror(-r));
    return r;
}

void work_close(struct work *work)
{
    window_destroy(&work->window);
    reject_close(&work->reject);
    taken_close(&work->taken);
}
