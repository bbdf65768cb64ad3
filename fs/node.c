/* SPDX-License-Identifier: BSD-2-Clause */
#include "node.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

bool node_is_reserved(uint64_t id)
{
    return id == STORE_CONTROL_ID || stats_is_node(id);
}

bool node_is_hidden(uint64_t parent, const char *name)
{
    return parent == STORE_STAGING_ID &&
           strncmp(name, NODE_HIDDEN_PREFIX, strlen(NODE_HIDDEN_PREFIX)) == 0;
}

/* Owner and times are those of the root. */
static int control_getattr(struct mount *mount, struct store_attr *attr)
{
    struct store_attr root;
    int r = store_getattr(mount->store, STORE_ROOT_ID, &root);
    if (r < 0)
        return r;
    *attr = (struct store_attr){
        .id = STORE_CONTROL_ID,
        .mode = S_IFDIR | 0555,
        .full_mode = S_IFDIR | 0555,
        .uid = root.uid,
        .gid = root.gid,
        .nlink = 1,
        .atime = root.atime,
        .mtime = root.mtime,
        .ctime = root.ctime,
        .btime = root.btime,
        .parent = STORE_ROOT_ID,
    };
    return 0;
}

int node_getattr(struct mount *mount, uint64_t id, struct store_attr *attr)
{
    if (id == STORE_CONTROL_ID)
        return control_getattr(mount, attr);
    return stats_is_node(id) ? stats_getattr(mount, id, attr)
                             : store_getattr(mount->store, id, attr);
}

static int parent_of(struct mount *mount, uint64_t id, uint64_t *parent)
{
    struct store_attr attr;
    if (id == STORE_ROOT_ID || id == STORE_STAGING_ID) {
        *parent = id == STORE_ROOT_ID ? STORE_ROOT_ID : STORE_CONTROL_ID;
        return 0;
    }
    int r = node_getattr(mount, id, &attr);
    if (r < 0)
        return r;
    *parent = attr.parent;
    return S_ISDIR(attr.mode) ? 0 : -ENOTDIR;
}

static int control_lookup(struct mount *mount, const char *name, struct store_attr *attr)
{
    if (strcmp(name, STORE_STAGING_NAME) == 0)
        return node_getattr(mount, STORE_STAGING_ID, attr);
    if (strcmp(name, STORE_STATS_NAME) == 0)
        return stats_lookup(mount, attr);
    return strlen(name) > STORE_NAME_MAX ? -ENAMETOOLONG : -ENOENT;
}

int node_lookup(struct mount *mount, uint64_t parent, const char *name, struct store_attr *attr)
{
    if (strcmp(name, ".") == 0)
        return node_getattr(mount, parent, attr);
    if (strcmp(name, "..") == 0) {
        int r = parent_of(mount, parent, &parent);
        return r < 0 ? r : node_getattr(mount, parent, attr);
    }
    if (parent == STORE_CONTROL_ID)
        return control_lookup(mount, name, attr);
    if (parent == STORE_ROOT_ID && strcmp(name, STORE_CONTROL_NAME) == 0)
        return node_getattr(mount, STORE_CONTROL_ID, attr);
    if (node_is_hidden(parent, name))
        return -ENOENT;
    return store_lookup(mount->store, parent, name, attr);
}

int node_name_changeable(uint64_t parent, const char *name)
{
    if (parent == STORE_ROOT_ID && strcmp(name, STORE_CONTROL_NAME) == 0)
        return -EBUSY;
    if (node_is_hidden(parent, name))
        return -EPERM;
    if (parent != STORE_CONTROL_ID)
        return 0;
    bool reserved = strcmp(name, STORE_STAGING_NAME) == 0 || strcmp(name, STORE_STATS_NAME) == 0;
    return reserved ? -EBUSY : -EPERM;
}

int node_lease(struct mount *mount, uint64_t id)
{
    return id < STORE_FIRST_ID || stats_is_node(id) ? 0 : store_lease(mount->store, id);
}

void node_lease_drop(struct mount *mount, uint64_t id, uint64_t count)
{
    if (stats_is_node(id))
        stats_forget(mount, id, count);
    else if (id >= STORE_FIRST_ID)
        store_lease_drop(mount->store, id, count);
}

int node_lookup_leased(struct mount *mount, uint64_t parent, const char *name,
                       struct store_attr *attr)
{
    int r = node_lookup(mount, parent, name, attr);
    if (r < 0 || attr->id < STORE_FIRST_ID || stats_is_node(attr->id))
        return r;
    uint64_t id = attr->id;
    r = node_lease(mount, id);
    if (r < 0)
        return r;
    r = store_getattr(mount->store, id, attr); /* still there? Then it stays. */
    if (r < 0)
        node_lease_drop(mount, id, 1);
    return r;
}
