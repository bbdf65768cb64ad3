/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis: what probe.c does with files, done with the keys of a Redis server on a Unix socket. Keys
 * are the names, values the contents of the files below ROOT.
 *
 *   redis load SOCKET ROOT NAMES
 *                  SET each; prints the number of keys
 *
 *   redis get SOCKET NAMES PASSES PROCESSES
 *                  GET each and sum its bytes, by PROCESSES at once; prints "NANOSECONDS SUM"
 *
 *   redis hold SOCKET NAMES
 *                  GET and keep each, print the sum, wait for the end of standard input
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static void *connect_to(const char *socket)
{
    redisContext *redis = redisConnectUnix(socket);
    if (!redis || redis->err)
        errx(EXIT_FAILURE, "%s: %s", socket, redis ? redis->errstr : "no memory");
    /* Else hiredis frees its buffer after each reply above 16 KiB, and allocates it again. */
    redis->reader->maxbuf = 0;
    return redis;
}

/* A reply of the type asked for, to be freed by freeReplyObject(). */
static redisReply *ask(redisContext *redis, int type, int argc, const char **argv,
                       const size_t *sizes)
{
    redisReply *reply = redisCommandArgv(redis, argc, argv, sizes);
    if (!reply)
        errx(EXIT_FAILURE, "%s %s: %s", argv[0], argv[1], redis->errstr);
    if (reply->type != type)
        errx(EXIT_FAILURE, "%s %s: %s", argv[0], argv[1], reply->str ? reply->str : "no such key");
    return reply;
}

static redisReply *get(redisContext *redis, const char *key)
{
    return ask(redis, REDIS_REPLY_STRING, 2, (const char *[]){"GET", key},
               (const size_t[]){3, strlen(key)});
}

static uint64_t get_and_sum(void *redis, const char *key)
{
    redisReply *reply = get(redis, key);
    uint64_t sum = sum_bytes(reply->str, reply->len);
    freeReplyObject(reply);
    return sum;
}

static void set_from_file(redisContext *redis, const char *key, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        err(EXIT_FAILURE, "%s", path);
    size_t size = (size_t)st.st_size;
    char *value = malloc(size + 1);
    if (!value || read(fd, value, size) != (ssize_t)size)
        err(EXIT_FAILURE, "%s", path);
    close(fd);
    freeReplyObject(ask(redis, REDIS_REPLY_STATUS, 3, (const char *[]){"SET", key, value},
                        (const size_t[]){3, strlen(key), size}));
    free(value);
}

static void load(redisContext *redis, const char *root, const char *names)
{
    char **keys = paths_below(NULL, names), **paths = paths_below(root, names);
    size_t count = 0;
    for (; keys[count]; count++)
        set_from_file(redis, keys[count], paths[count]);
    printf("%zu\n", count);
}

/* As a program does that wants all values at hand: copies of its own, without what a reply has
 * around them. */
static uint64_t keep_all(redisContext *redis, char **keys)
{
    uint64_t sum = 0;
    for (; *keys; keys++) {
        redisReply *reply = get(redis, *keys);
        char *copy = malloc(reply->len);
        if (!copy)
            err(EXIT_FAILURE, "%s", *keys);
        memcpy(copy, reply->str, reply->len);
        sum += sum_bytes(copy, reply->len);
        freeReplyObject(reply);
    }
    return sum;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "load") == 0 && argc == 5) {
        load(connect_to(argv[2]), argv[3], argv[4]);
    } else if (strcmp(what, "get") == 0 && argc == 6) {
        readers_run(&(struct readers){
            .paths = paths_below(NULL, argv[3]),
            .passes = number(argv[4]),
            .processes = (unsigned)number(argv[5]),
            .prepare = connect_to,
            .where = argv[2],
            .read_one = get_and_sum,
        });
    } else if (strcmp(what, "hold") == 0 && argc == 4) {
        hold(keep_all(connect_to(argv[2]), paths_below(NULL, argv[3])));
    } else {
        errx(EXIT_USAGE,
             "usage: redis load SOCKET ROOT NAMES | get SOCKET NAMES PASSES PROCESSES | "
             "hold SOCKET NAMES");
    }
    return EXIT_SUCCESS;
}
