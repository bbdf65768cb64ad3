/* SPDX-License-Identifier: BSD-2-Clause */
/* companion_wire.h: what the daemon and its companion (companion.h) say to each other: a question
 * and an answer in turn, on three sockets, so that a long walk keeps no lease waiting. */
#ifndef FS_COMPANION_WIRE_H
#define FS_COMPANION_WIRE_H

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "companion_walk.h"

/* The sockets' numbers in the companion. */
enum channel { CHANNEL_CONTROL, CHANNEL_LIST, CHANNEL_STAT, CHANNELS };
#define CHANNEL_FD(channel) (3 + (channel))

enum question {
    ASK_ATTACH, /* path, id: the device. The answer brings fanotify's descriptor, if there is one */
    ASK_LEASE,
    ASK_UNLEASE, /* no answer */
    ASK_MARK,
    ASK_STOP, /* no answer */
    ASK_LIST,
    ASK_TREE,
    ASK_STAT,
};

struct question_head {
    enum question what;
    uint64_t id;
};

struct question_message {
    struct question_head head;
    char path[PATH_MAX]; /* terminated; only so much is sent */
};

struct answer {
    int result;
    pid_t walkers[WALKER_THREADS]; /* to ASK_ATTACH: the threads that list */
};

/* How the kernel's FUSE writes a handle (fs/fuse/inode.c, fuse_encode_fh): three words of 32 bits,
 * the node id's upper and lower half and its generation, which is always 0 here. */
#define HANDLE_TYPE 0x81
#define HANDLE_WORDS 3

struct node_handle {
    struct file_handle head;
    uint32_t words[HANDLE_WORDS];
};

static inline struct node_handle node_handle(uint64_t id)
{
    return (struct node_handle){
        .head = {.handle_bytes = HANDLE_WORDS * sizeof(uint32_t), .handle_type = HANDLE_TYPE},
        .words = {(uint32_t)(id >> 32), (uint32_t)id, 0},
    };
}

#endif
