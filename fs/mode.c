/* SPDX-License-Identifier: BSD-2-Clause */
#include "mode.h"

#include <errno.h>
#include <string.h>

#include "closing.h"
#include "companion.h"
#include "inbox.h"
#include "log.h"
#include "mount.h"
#include "prewalk.h"
#include "push.h"
#include "refresh.h"
#include "store/util.h"

void mode_set(struct mount *mount, enum mode mode)
{
    with_mutex(&mount->lock);
    mount->mode = mode;
    pthread_cond_broadcast(&mount->decided);
}

enum mode mode_get(struct mount *mount)
{
    with_mutex(&mount->lock);
    while (mount->mode == MODE_UNDECIDED)
        pthread_cond_wait(&mount->decided, &mount->lock);
    return mount->mode;
}

/* What it takes to know when a file is no longer written, without RELEASE. */
static int start_closing(struct mount *mount, int companion)
{
    if (mount->options->read_only)
        return 0;
    return companion < 0 ? companion : closing_start(mount, &mount->closing);
}

/*
 * What is done before it is asked for. Without it all works, slower. A thread that pushes may wait
 * for a page that another one of us has to answer for, which after a kill -9 never happens: so not
 * without the companion, who ends such a wait.
 */
static void start_ahead(struct mount *mount)
{
    int r = push_start(mount, &mount->push);
    if (r == 0)
        r = prewalk_start(mount, &mount->prewalk);
    if (r == 0 && !mount->options->read_only)
        r = refresh_start(mount, &mount->refresh);
    if (r < 0)
        log_line(LOG_WARNING, "cannot read ahead of others: %s", strerror(-r));
}

void mode_decide(struct mount *mount)
{
    int companion = companion_start(mount->options->mountpoint, mount->device, &mount->companion);
    if (companion == 0)
        start_ahead(mount);
    bool large = mount->records == RECORDS_LARGE;
    int r = mount->can_skip_open && !large ? start_closing(mount, companion) : -EOPNOTSUPP;
    if (large)
        ways_set(&mount->ways, WAY_open, "a request each",
                 "the mount is tuned for large records, which are handed over in the answer");
    else if (r == 0)
        ways_set(&mount->ways, WAY_open, "by the kernel", NULL);
    else if (!mount->can_skip_open)
        ways_set(&mount->ways, WAY_open, "a request each", "this kernel's FUSE needs it");
    else if (r == -EPERM)
        ways_set(&mount->ways, WAY_open, "a request each",
                 "without CAP_SYS_ADMIN we can't see when a file is closed; with -o ro, no need");
    else
        ways_set(&mount->ways, WAY_open, "a request each",
                 "this kernel can't tell when a file is closed: %s", strerror(-r));
    mode_set(mount, r == 0 ? MODE_NO_OPEN : MODE_OPEN);
}

void mode_let_go(struct mount *mount)
{
    inbox_stop(mount->inbox);
    prewalk_stop(mount->prewalk);
    refresh_stop(mount->refresh);
    push_stop(mount->push);
    closing_stop(mount->closing);
    companion_stop(mount->companion);
}
