/* SPDX-License-Identifier: BSD-2-Clause */
#include "inbox_told.h"

#include <string.h>

#include "store/util.h"

/* There are at most as many names as the kernel keeps events, which is 16,384 by default. */
#define BUCKETS 1024

struct entry {
    struct entry *before, *after; /* in the order */
    struct entry *next;           /* in the bucket */
    char *name;
    int held;
};

struct told {
    struct entry *first, *last;
    size_t count;
    struct entry *buckets[BUCKETS];
};

struct told *told_new(void)
{
    return calloc(1, sizeof(struct told));
}

void told_free(struct told *told)
{
    if (told == NULL)
        return;
    int held;
    for (char *name; (name = told_next(told, &held)) != NULL;)
        free(name);
    free(told);
}

/* FNV-1a. */
static size_t bucket_of(const char *name)
{
    size_t hash = 2166136261u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash % BUCKETS;
}

/* Where the entry is linked in, or NULL is. */
static struct entry **find(struct told *told, const char *name)
{
    struct entry **at = &told->buckets[bucket_of(name)];
    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static void unlink_entry(struct told *told, struct entry *entry)
{
    *(entry->before == NULL ? &told->first : &entry->before->after) = entry->after;
    *(entry->after == NULL ? &told->last : &entry->after->before) = entry->before;
}

static void append(struct told *told, struct entry *entry)
{
    entry->before = told->last;
    entry->after = NULL;
    *(told->last == NULL ? &told->first : &told->last->after) = entry;
    told->last = entry;
}

int told_add(struct told *told, const char *name)
{
    struct entry **at = find(told, name), *entry = *at;
    if (entry != NULL) {
        unlink_entry(told, entry);
        append(told, entry);
        return 0;
    }
    entry = calloc(1, sizeof(*entry));
    if (entry == NULL || (entry->name = strdup(name)) == NULL) {
        free(entry);
        return -ENOMEM;
    }
    *at = entry;
    append(told, entry);
    told->count++;
    return 0;
}

bool told_has(const struct told *told, const char *name)
{
    const struct entry *entry = told->buckets[bucket_of(name)];
    while (entry != NULL && strcmp(entry->name, name) != 0)
        entry = entry->next;
    return entry != NULL;
}

size_t told_count(const struct told *told)
{
    return told->count;
}

void told_hold(struct told *told, const char *name, int held)
{
    struct entry *entry = *find(told, name);
    if (entry != NULL)
        entry->held = held;
}

void told_let_go(struct told *told)
{
    for (struct entry *entry = told->first; entry != NULL; entry = entry->after)
        entry->held = 0;
}

char *told_next(struct told *told, int *held)
{
    struct entry *entry = told->first;
    if (entry == NULL)
        return NULL;
    unlink_entry(told, entry);
    *find(told, entry->name) = entry->next;
    told->count--;
    char *name = entry->name;
    *held = entry->held;
    free(entry);
    return name;
}
