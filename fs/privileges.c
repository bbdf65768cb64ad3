/* SPDX-License-Identifier: BSD-2-Clause */
#include "privileges.h"

#include "attr.h"
#include "store/util.h"

void privileges_init(struct privileges *privileges)
{
    *privileges = (struct privileges){0};
    pthread_mutex_init(&privileges->lock, NULL);
}

void privileges_destroy(struct privileges *privileges)
{
    while (privileges->first != NULL) {
        struct privileged *file = privileges->first;
        privileges->first = file->next;
        free(file);
    }
    pthread_mutex_destroy(&privileges->lock);
}

/* With the lock held. There are hardly ever any. */
static struct privileged **find(struct privileges *privileges, uint64_t id)
{
    struct privileged **at = &privileges->first;
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

int privileges_given(struct privileges *privileges, const struct store_attr *attr)
{
    with_mutex(&privileges->lock);
    struct privileged **at = find(privileges, attr->id);
    if (*at == NULL && (*at = calloc(1, sizeof(**at))) == NULL)
        return -ENOMEM;
    (*at)->id = attr->id;
    (*at)->mtime = attr->mtime;
    return 0;
}

/* With the lock held. */
static bool is_written(struct store *store, const struct privileged *file)
{
    struct store_attr attr;
    return store_getattr(store, file->id, &attr) < 0 || attr.mtime.tv_sec != file->mtime.tv_sec ||
           attr.mtime.tv_nsec != file->mtime.tv_nsec;
}

/* Whether it was written since. If so, it isn't watched any more; nor with `last` if not. */
static bool look(struct privileges *privileges, struct store *store, uint64_t id, bool last)
{
    with_mutex(&privileges->lock);
    struct privileged **at = find(privileges, id), *file = *at;
    bool written = file != NULL && is_written(store, file);
    if (written || (last && file != NULL)) {
        *at = file->next;
        free(file);
    }
    return written;
}

bool privileges_abused(struct privileges *privileges, struct store *store, uint64_t id)
{
    return look(privileges, store, id, true);
}

void privileges_look(struct privileges *privileges, struct store *store, uint64_t id)
{
    if (look(privileges, store, id, false))
        (void)privileges_take(store, id);
}

int privileges_take(struct store *store, uint64_t id)
{
    struct store_attr attr;
    int r = store_getattr(store, id, &attr);
    uint32_t killed = r < 0 ? 0 : attr_privileges(&attr);
    if (killed == 0)
        return r;
    attr.mode = attr.full_mode & ~killed;
    r = store_setattr(store, id, STORE_SET_MODE, &attr, &attr);
    return r < 0 ? r : 1;
}
