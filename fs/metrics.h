/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * metrics.h: what a mount has done so far, in counters without locks. They only grow. Any
 * thread may call.
 */
#ifndef FS_METRICS_H
#define FS_METRICS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

/* Every kind of request the kernel can send us but INIT and DESTROY, which come once. */
#define METRICS_OPS(X) \
    X(lookup)          \
    X(forget)          \
    X(batch_forget)    \
    X(getattr)         \
    X(statx)           \
    X(setattr)         \
    X(readlink)        \
    X(mknod)           \
    X(mkdir)           \
    X(symlink)         \
    X(link)            \
    X(create)          \
    X(tmpfile)         \
    X(unlink)          \
    X(rmdir)           \
    X(rename)          \
    X(open)            \
    X(read)            \
    X(write)           \
    X(flush)           \
    X(release)         \
    X(fsync)           \
    X(fallocate)       \
    X(lseek)           \
    X(copy_file_range) \
    X(ioctl)           \
    X(poll)            \
    X(bmap)            \
    X(access)          \
    X(opendir)         \
    X(readdir)         \
    X(readdirplus)     \
    X(releasedir)      \
    X(fsyncdir)        \
    X(statfs)          \
    X(getxattr)        \
    X(listxattr)       \
    X(setxattr)        \
    X(removexattr)

enum metrics_op {
#define METRICS_ENUMERATOR(op) METRICS_##op,
    METRICS_OPS(METRICS_ENUMERATOR)
#undef METRICS_ENUMERATOR
        METRICS_OP_COUNT
};

struct metrics {
    atomic_uint_fast64_t requests[METRICS_OP_COUNT];
    atomic_uint_fast64_t read_bytes;    /* sent in answer to READ */
    atomic_uint_fast64_t written_bytes; /* taken from WRITE */
    atomic_uint_fast64_t forgets;       /* lookups that FORGETs gave back */
};

static inline void metrics_add(atomic_uint_fast64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* One metric of Prometheus' text format without labels. `type` is "counter" or "gauge". */
void metrics_print(FILE *out, const char *name, const char *type, const char *help, uint64_t value);

/* One that says something in words: its only label, and 1. */
void metrics_print_info(FILE *out, const char *name, const char *help, const char *label,
                        const char *value);
/* name="value" of a label. */
void metrics_print_label(FILE *out, const char *name, const char *value);

/* All counters in Prometheus' text format. */
void metrics_print_all(FILE *out, struct metrics *metrics);

#endif
