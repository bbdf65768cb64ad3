/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * node.h: what the kernel knows by a number: the records of the store, and two nodes without a
 * record, the reserved directory ".lmdbfs" in the root and the file "stats" in it.
 *
 *   /.lmdbfs            STORE_CONTROL_ID, reachable by name but not listed, can't be changed
 *   /.lmdbfs/staging    STORE_STAGING_ID, a directory record like any other, but it stays where it
 * is
 *   /.lmdbfs/stats      a node of its own for each look at it, see stats.h
 *
 * Node id, inode number and record id are the same number, and it is never given out twice. So
 * there is no table of nodes: the store is asked, and counts what the kernel holds.
 */
#ifndef FS_NODE_H
#define FS_NODE_H

#include <stdbool.h>

#include "mount.h"

/* What begins so in the staging directory is ours: users neither see it nor can use such names. */
#define NODE_HIDDEN_PREFIX ".inbox-"
bool node_is_hidden(uint64_t parent, const char *name);

/* True for the nodes that have no record. Nothing of store.h may be asked about them. */
bool node_is_reserved(uint64_t id);

int node_getattr(struct mount *mount, uint64_t id, struct store_attr *attr);

/* The node that `name` in directory `parent` leads to, also for "." and "..". */
int node_lookup(struct mount *mount, uint64_t parent, const char *name, struct store_attr *attr);

/* Whether the name may be made, changed or removed: 0, or -EPERM in the reserved directory and for
 * a hidden name, or
 * -EBUSY if it is a reserved name itself. */
int node_name_changeable(uint64_t parent, const char *name);

/*
 * Take the lease that goes with every answer that makes the kernel count one more lookup, and
 * give leases back. Reserved nodes and the store's fixed directories don't need any.
 */
int node_lease(struct mount *mount, uint64_t id);
void node_lease_drop(struct mount *mount, uint64_t id, uint64_t count);

/*
 * node_lookup() and node_lease() in one, safe against the record's end between them. (The
 * kernel locks a directory while it looks up a name there, but not for ".", by which it looks
 * up the node of a file handle.)
 */
int node_lookup_leased(struct mount *mount, uint64_t parent, const char *name,
                       struct store_attr *attr);

#endif
