/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mount.h: one mount of a store: its session with the kernel and all that belongs to this
 * session. What belongs to the store is in store/, so that a process can have several mounts of
 * one store.
 *
 *   mount_new()  ->  mount_start()  ->  mount_stop()  ->  mount_free()
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include <fuse_lowlevel.h>

#include "loop.h"
#include "metrics.h"
#include "mode.h"
#include "options.h"
#include "privileges.h"
#include "prune.h"
#include "stats.h"
#include "store/store.h"
#include "ways.h"

struct backings;
struct closing;
struct companion;
struct inbox;
struct push;
struct refresh;
struct prewalk;

struct mount {
    const struct mount_options *options; /* borrowed */
    struct store *store;                 /* borrowed; set from mount_start() on */
    struct fuse_session *session;
    struct loop_rings rings;
    struct loop *loop;
    struct metrics metrics;
    struct stats stats;
    struct ways ways;
    dev_t device; /* of what we mounted, as in /proc/self/mountinfo */
    struct prune prune;
    enum records_mode records; /* what it is tuned for; known before INIT is answered */
    struct privileges privileges;
    struct backings *backings;   /* NULL: the kernel reads no records by itself */
    struct companion *companion; /* NULL: without our rights there is none */
    struct inbox *inbox;         /* NULL: none is wanted */
    struct closing *closing;     /* NULL: the store counts the writers, or there are none */
    /* What is done before it is asked for. Each may be NULL: not possible here. */
    struct push *push;
    struct prewalk *prewalk;
    struct refresh *refresh;
    bool can_skip_open, can_skip_opendir; /* the kernel can do without these requests */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t decided;
    enum mode mode;
};

/* NULL: no memory. `options` must live as long as the mount. */
struct mount *mount_new(const struct mount_options *options);

/*
 * Mount `store` and serve it from threads of its own; on success the mount answers. On failure
 * nothing is mounted, and `why` holds one line that names the cause.
 */
int mount_start(struct mount *mount, struct store *store, char why[STORE_WHY_MAX]);

/* What the session is made with: called by libfuse with the mount, when the kernel says INIT. */
void mount_negotiate(void *userdata, struct fuse_conn_info *conn);

/* Wait until it was unmounted and nobody uses it any more, or `fd` becomes readable. */
void mount_wait(struct mount *mount, int fd);

/* Unmount if it still is mounted, serve to the end what was asked, and stop. Files that are
 * open now can't be used any longer. Nothing to do for a mount that was not started. */
void mount_stop(struct mount *mount);

/* NULL is allowed. */
void mount_free(struct mount *mount);

/*
 * The attributes of a record have changed without the kernel's doing: it shall ask again. Any
 * thread may call, also one that serves a request: unlike the invalidation of data or of entries,
 * that of attributes takes no lock that is held while a request is served, and waits for nothing.
 */
void mount_attr_changed(struct mount *mount, uint64_t id);

#endif
