/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * privileges.h: set-uid and set-gid bits of files that the kernel writes by itself (backing.h).
 *
 * A write takes them away, and the kernel leaves that to us (FUSE_HANDLE_KILLPRIV_V2), who don't
 * see these writes. A file that has such bits when it is opened is written through us; here are
 * those that get them meanwhile: they lose them if the file was written afterwards, which its time
 * of modification tells. That is looked at when a writer closes it, and before its attributes are
 * told or changed. Root's writes leave them: so of files that root alone has opened for writing
 * nothing is noted; of others, root's take them, too.
 *
 * Any thread may call.
 */
#ifndef FS_PRIVILEGES_H
#define FS_PRIVILEGES_H

#include <pthread.h>

#include "store/store.h"

/* A file that has got some, and when it had been modified. */
struct privileged {
    uint64_t id;
    struct timespec mtime;
    struct privileged *next;
};

struct privileges {
    pthread_mutex_t lock; /* guards the rest */
    struct privileged *first;
};

void privileges_init(struct privileges *privileges);
void privileges_destroy(struct privileges *privileges);

/* These are the attributes of a file now, that has such bits and that the kernel writes by itself
 * for others than root.
 * -ENOMEM: then it must not have them. */
int privileges_given(struct privileges *privileges, const struct store_attr *attr);

/* True if the file was written since: then they have to go. It isn't watched any more. */
bool privileges_abused(struct privileges *privileges, struct store *store, uint64_t id);

/* Before its attributes are told: take them away if it was written since, else go on watching. */
void privileges_look(struct privileges *privileges, struct store *store, uint64_t id);

/* Take them away: 1 if there were some. */
int privileges_take(struct store *store, uint64_t id);

#endif
