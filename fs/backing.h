/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backing.h: files that the kernel reads and writes by itself (FUSE passthrough): no copy, no
 * request, and a mapping doesn't need us alive. Of a large sealed record, it reads a clone in the
 * store's filesystem (store_clone()); of a file that isn't sealed, it reads and writes the host
 * file itself (store_staging_file()).
 *
 * What the kernel wants: all who have an inode open at the same time go the same way, through one
 * and the same backing file, or through its own cache; who comes and is answered otherwise gets
 * EIO. So it is counted here who has what open in which way. A record has one content for ever, and
 * so one clone; but who opens a file while somebody has its host file open gets that one, also when
 * it has been sealed meanwhile, because the content is the same; and who opens it while somebody
 * has it open through the cache goes through the cache.
 *
 * A clone has pages of its own in the kernel's cache, which end with it. So the clones that were
 * closed last are kept, unless the record has lost its name: then they only take disk.
 *
 * A clone of up to BACKING_VERIFY_AT_OPEN bytes is compared with its hashes before the first open
 * succeeds; a larger one from then on, one after the other, while it can already be read. If
 * that finds damage, who has it open may have seen it; all later opens fail with EIO, and the log
 * says where it is.
 *
 * Any thread may call. NULL as `backings` is allowed everywhere, and means that there is no
 * passthrough.
 */
#ifndef FS_BACKING_H
#define FS_BACKING_H

#include <fuse_lowlevel.h>
#include <stdio.h>

#include "store/store.h"
#include "ways.h"

/* Bytes from which on a record is cloned. */
#define BACKING_LEAST ((uint64_t)1 << 20)

/* Bytes. A disk of 1 GB/s takes 8 ms for it, and the reader wants them anyway. */
#define BACKING_VERIFY_AT_OPEN ((uint64_t)8 << 20)

/* Clones that nobody has open, by default. Each takes some 2 KiB of the kernel's memory; their
 * pages are given up under pressure as all others are. */
#define BACKING_KEPT_MOST 4096

struct backings;

/* Which files to hand over, and how many clones to keep that nobody has open. */
struct backings_wish {
    bool clones, staged;
    unsigned kept_most;
};

/* `ways` hears of it when the kernel refuses. NULL: no memory. */
struct backings *backings_new(struct store *store, struct ways *ways,
                              const struct backings_wish *wish);
void backings_free(struct backings *backings);

/*
 * Record `id` is being opened, for writing if `writes` (then the store knows the writer already).
 * Sets in `fi` what the kernel has to know, also in fi->fh, which is the kernel's to carry. 0, or
 * -EIO: the content is damaged. Each success is followed by one backings_close() with the same fi.
 */
int backings_open(struct backings *backings, fuse_req_t req, uint64_t id, bool writes,
                  struct fuse_file_info *fi);
void backings_close(struct backings *backings, fuse_req_t req, uint64_t id,
                    const struct fuse_file_info *fi);

/* Whether the kernel may be writing it by itself now, for somebody else than root. */
bool backings_written_by_users(struct backings *backings, uint64_t id);

/* The kernel has no more use for `id` at the moment. To be called before the lease is dropped. */
void backings_forget(struct backings *backings, fuse_req_t req, uint64_t id);

/* Counters as metrics in Prometheus' text format. */
void backings_print(FILE *out, struct backings *backings);

#endif
