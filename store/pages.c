/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The structures are those of LMDB 0.9 on 64-bit machines (mdb.c: MDB_page, MDB_node, MDB_db,
 * MDB_meta), read by their offsets:
 *
 *   page   number 8, pad 2, flags 2, lower 2, upper 2 (large value: 4 bytes number of pages),
 *          then an array of 2-byte offsets of nodes, up to `lower`
 *   node   size or page number low 2, high 2, flags (of a branch: page number's top) 2, key size 2,
 *          key, value
 *   db     pad 4, flags 2, depth 2, four counters of 8, root page 8
 *   meta   behind a page's 16 bytes: magic 4, version 4, address 8, map size 8, free db, main db,
 *          last page 8, transaction 8
 */
#include "pages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "util.h"

#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1
#define META_MAGIC_AT 16
#define META_FREE_DB_AT 40 /* its first 4 bytes are the page size */
#define META_MAIN_DB_AT 88
#define META_LAST_PAGE_AT 136
#define META_TRANSACTION_AT 144
#define META_BYTES 152

#define PAGE_FLAGS_AT 10
#define PAGE_LOWER_AT 12
#define PAGE_NODES_AT 16
#define PAGE_BRANCH 0x01
#define PAGE_LEAF 0x02
#define NODE_BYTES 8
#define NODE_BIG 0x01
#define NODE_TABLE 0x02
#define DB_ROOT_AT 40
#define DB_BYTES 48
#define NO_PAGE UINT64_MAX

#define PAGE_SIZE_LEAST 256
#define PAGE_SIZE_MOST (64 << 10)
#define DEPTH_MOST 32 /* mdb.c: CURSOR_STACK */

struct file {
    int fd;
    size_t page_size;
    uint64_t pages; /* whole ones in the file */
    uint64_t left;  /* to look at, before it must be a circle */
};

#define NUMBER(type, at) (*(const type *)memcpy(&(type){0}, (at), sizeof(type)))

static bool walk(struct file *file, uint64_t number, int depth);

static bool walk_db(struct file *file, const char *db, int depth)
{
    uint64_t root = NUMBER(uint64_t, db + DB_ROOT_AT);
    return root == NO_PAGE || walk(file, root, depth);
}

static uint64_t low_half(const char *node)
{
    uint64_t first = NUMBER(uint16_t, node), second = NUMBER(uint16_t, node + 2);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? first | second << 16 : second | first << 16;
}

static bool branch_node_sound(struct file *file, const char *node, int depth)
{
    uint64_t top = NUMBER(uint16_t, node + 4);
    return walk(file, low_half(node) | top << 32, depth);
}

/* `room`: from the node to the page's end. */
static bool leaf_node_sound(struct file *file, const char *node, size_t room, int depth)
{
    uint64_t size = low_half(node);
    unsigned flags = NUMBER(uint16_t, node + 4);
    size_t value_at = NODE_BYTES + NUMBER(uint16_t, node + 6);
    if (flags & NODE_BIG) {
        if (value_at + sizeof(uint64_t) > room)
            return false;
        uint64_t first = NUMBER(uint64_t, node + value_at);
        uint64_t count = (PAGE_NODES_AT + size - 1) / file->page_size + 1;
        return first < file->pages && count <= file->pages - first;
    }
    if (value_at + size > room)
        return false;
    return !(flags & NODE_TABLE) || (size == DB_BYTES && walk_db(file, node + value_at, depth));
}

static bool page_sound(struct file *file, const char *page, int depth)
{
    unsigned flags = NUMBER(uint16_t, page + PAGE_FLAGS_AT);
    size_t lower = NUMBER(uint16_t, page + PAGE_LOWER_AT);
    bool branch = flags & PAGE_BRANCH;
    if (branch == ((flags & PAGE_LEAF) != 0) || lower < PAGE_NODES_AT || lower > file->page_size)
        return false;
    for (size_t at = PAGE_NODES_AT; at + sizeof(uint16_t) <= lower; at += sizeof(uint16_t)) {
        size_t node = NUMBER(uint16_t, page + at);
        if (node < lower || node + NODE_BYTES > file->page_size)
            return false;
        bool sound = branch ? branch_node_sound(file, page + node, depth + 1)
                            : leaf_node_sound(file, page + node, file->page_size - node, depth + 1);
        if (!sound)
            return false;
    }
    return true;
}

static bool walk(struct file *file, uint64_t number, int depth)
{
    if (number >= file->pages || depth > DEPTH_MOST || file->left-- == 0)
        return false;
    cleanup_free char *page = malloc(file->page_size);
    return page != NULL &&
           pread_exactly(file->fd, page, file->page_size, (off_t)(number * file->page_size)) == 0 &&
           NUMBER(uint64_t, page) == number && page_sound(file, page, depth);
}

static enum pages_state meta_state(const char *meta)
{
    uint32_t magic = NUMBER(uint32_t, meta + META_MAGIC_AT);
    if (magic == __builtin_bswap32(META_MAGIC))
        return PAGES_OTHER_ORDER;
    if (magic != META_MAGIC)
        return PAGES_NOT_LMDB;
    bool known = NUMBER(uint32_t, meta + META_MAGIC_AT + 4) == META_VERSION;
    return known ? PAGES_SOUND : PAGES_OTHER_FORMAT;
}

/* Walk the tree of the last transaction, if the file ends before its last page. */
static enum pages_state look_at_tree(struct file *file, const char meta[2][META_BYTES])
{
    bool second = NUMBER(uint64_t, meta[1] + META_TRANSACTION_AT) >
                  NUMBER(uint64_t, meta[0] + META_TRANSACTION_AT);
    const char *last = meta[second];
    if (NUMBER(uint64_t, last + META_LAST_PAGE_AT) < file->pages)
        return PAGES_SOUND;
    file->left = file->pages;
    bool sound =
        walk_db(file, last + META_FREE_DB_AT, 0) && walk_db(file, last + META_MAIN_DB_AT, 0);
    return sound ? PAGES_SOUND : PAGES_MISSING;
}

int pages_look(int fd, off_t size)
{
    char meta[2][META_BYTES];
    if (size < META_BYTES)
        return PAGES_MISSING;
    int r = pread_exactly(fd, meta[0], META_BYTES, 0);
    if (r < 0)
        return r;
    enum pages_state state = meta_state(meta[0]);
    if (state != PAGES_SOUND)
        return (int)state;

    struct file file = {.fd = fd, .page_size = NUMBER(uint32_t, meta[0] + META_FREE_DB_AT)};
    if (file.page_size < PAGE_SIZE_LEAST || file.page_size > PAGE_SIZE_MOST)
        return PAGES_MISSING;
    if ((uint64_t)size / file.page_size < 2)
        return PAGES_MISSING;
    r = pread_exactly(fd, meta[1], META_BYTES, (off_t)file.page_size);
    if (r < 0)
        return r;
    state = meta_state(meta[1]);
    /* Now, since a writer may be at work: what these pages lead to was written before they were. */
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    file.pages = (uint64_t)st.st_size / file.page_size;
    return (int)(state == PAGES_SOUND ? look_at_tree(&file, meta) : state);
}
