/* SPDX-License-Identifier: BSD-2-Clause */
#include "options.h"

#include <fuse_opt.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "store/util.h"

enum use {
    PASS,   /* libfuse or the kernel wants it */
    IGNORE, /* already so, or without a meaning here */
    READ_ONLY,
    READ_WRITE,
    DEBUG,
    MAX_READ,
    RECORDS,
    CLONES,
    FSNAME,
    INBOX,
    VERIFY,
    MEMORY,
    URING,
    COMMIT,
    SYNC,
    ASYNC,
};

struct known {
    const char *name;
    bool has_value;
    enum use use;
};

static const struct known known_options[] = {
    {"ro", false, READ_ONLY},
    {"rw", false, READ_WRITE},
    {"allow_other", false, PASS},
    {"allow_root", false, PASS},
    {"fsname", true, FSNAME},
    {"max_read", true, MAX_READ},
    {"inbox", true, INBOX},
    {"records", true, RECORDS},
    {"clones", true, CLONES},
    {"io_uring", true, URING},
    {"debug", false, DEBUG},
    {"verify", true, VERIFY},
    {"memory", true, MEMORY},
    {"commit", true, COMMIT},
    /* Not handed on: it would add an fsync to each write(2) to a file that isn't published yet. */
    {"sync", false, SYNC},
    {"dirsync", false, SYNC},
    {"async", false, ASYNC},
    /* Always on: the kernel checks permissions, we do not. */
    {"default_permissions", false, IGNORE},

    {"suid", false, PASS},
    {"nosuid", false, PASS},
    {"dev", false, PASS},
    {"nodev", false, PASS},
    {"exec", false, PASS},
    {"noexec", false, PASS},
    {"symfollow", false, PASS},
    {"nosymfollow", false, PASS},

    /* Security labels for the whole mount (SELinux), see mount(8). */
    {"context", true, PASS},
    {"fscontext", true, PASS},
    {"defcontext", true, PASS},
    {"rootcontext", true, PASS},

    /* Reading never changes a record's times, so these differ in nothing; the first two are at
     * least shown in the mount table. */
    {"noatime", false, PASS},
    {"nodiratime", false, PASS},
    {"atime", false, IGNORE},
    {"diratime", false, IGNORE},
    {"relatime", false, IGNORE},
    {"norelatime", false, IGNORE},
    {"strictatime", false, IGNORE},
    {"nostrictatime", false, IGNORE},
    {"lazytime", false, IGNORE},
    {"nolazytime", false, IGNORE},
};

static const struct known *find_known(const char *name)
{
    for (size_t i = 0; i < array_length(known_options); i++) {
        if (strcmp(known_options[i].name, name) == 0)
            return &known_options[i];
    }
    return NULL;
}

/* Cut the next option off *rest. NULL at the end. */
static char *next_option(char **rest)
{
    char *option = *rest;
    if (option == NULL)
        return NULL;
    bool quoted = false;
    char *end = option;
    for (; *end != '\0' && (quoted || *end != ','); end++)
        quoted ^= *end == '"';
    *rest = *end == ',' ? end + 1 : NULL;
    *end = '\0';
    return option;
}

/* Replace *text by a value, without the double quotes around it. */
static int replace(char **text, const char *value)
{
    size_t length = strlen(value);
    bool quoted = length >= 2 && value[0] == '"' && value[length - 1] == '"';
    char *copy = quoted ? strndup(value + 1, length - 2) : strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    free(*text);
    *text = copy;
    return 0;
}

static int parse_size(const char *text, unsigned *value)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || n > UINT_MAX)
        return -EINVAL;
    *value = (unsigned)n;
    return 0;
}

/* A number of bytes with K, M or G behind it, or nothing. */
static int parse_bytes(const char *text, size_t least, size_t *value)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);
    unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - units + 1);
    if (errno != 0 || end == text || text[0] == '-' || end[unit != NULL] != '\0' ||
        n > SIZE_MAX >> shift || n << shift < least)
        return -EINVAL;
    *value = (size_t)(n << shift);
    return 0;
}

/* The place of `text` among the words. */
static int parse_word(const char *text, const char *const words[], int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
    }
    return -EINVAL;
}

static int parse_uring(const char *text, enum options_uring *value)
{
    static const char *const words[] = {
        [OPTIONS_URING_AUTO] = "auto",
        [OPTIONS_URING_ON] = "on",
        [OPTIONS_URING_OFF] = "off",
    };
    int r = parse_word(text, words, array_length(words));
    if (r >= 0)
        *value = (enum options_uring)r;
    return r < 0 ? r : 0;
}

static int parse_verify(const char *text, enum store_verify *value)
{
    static const char *const words[] = {
        [STORE_VERIFY_FIRST] = "first",
        [STORE_VERIFY_ALWAYS] = "always",
        [STORE_VERIFY_NEVER] = "never",
    };
    int r = parse_word(text, words, array_length(words));
    if (r >= 0)
        *value = (enum store_verify)r;
    return r < 0 ? r : 0;
}

/* `whole` is the option as given, `value` what stands behind its "=". */
static int apply(struct mount_options *options, enum use use, const char *whole, const char *value)
{
    switch (use) {
    case PASS:
        return fuse_opt_add_opt_escaped(&options->fuse, whole) < 0 ? -ENOMEM : 0;
    case IGNORE:
        return 0;
    case READ_ONLY:
    case READ_WRITE:
        options->read_only = use == READ_ONLY;
        return 0;
    case DEBUG:
        options->debug = true;
        return 0;
    case MAX_READ:
        return parse_size(value, &options->max_read);
    case RECORDS:
        return records_parse(value, &options->records);
    case CLONES:
        return parse_size(value, &options->clones);
    case FSNAME:
        return replace(&options->fsname, value);
    case INBOX:
        return *value == '\0' ? -EINVAL : replace(&options->inbox, value);
    case VERIFY:
        return parse_verify(value, &options->verify);
    case MEMORY:
        return parse_bytes(value, MEMORY_LEAST, &options->memory);
    case URING:
        return parse_uring(value, &options->uring);
    case COMMIT:
        return parse_size(value, &options->commit_ms);
    case SYNC:
    case ASYNC:
        options->sync = use == SYNC;
        return 0;
    }
    return -EINVAL;
}

static int parse_one(struct mount_options *options, char *option, char why[STORE_WHY_MAX])
{
    cleanup_free char *name = strdup(option);
    if (name == NULL)
        return -ENOMEM;
    char *value = strchr(name, '=');
    if (value != NULL)
        *value++ = '\0';
    const struct known *known = find_known(name);
    int r = -EINVAL;
    if (known == NULL)
        snprintf(why, STORE_WHY_MAX, "unknown mount option '%s'", option);
    else if (known->has_value != (value != NULL))
        snprintf(why, STORE_WHY_MAX, "mount option '%s' %s", option,
                 known->has_value ? "needs a value" : "takes no value");
    else if ((r = apply(options, known->use, option, value)) == -EINVAL)
        snprintf(why, STORE_WHY_MAX, "mount option '%s' has a value that makes no sense", option);
    return r;
}

int options_parse(struct mount_options *options, const char *text, char why[STORE_WHY_MAX])
{
    cleanup_free char *copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    char *rest = copy;
    char *option;
    int r = 0;
    while (r == 0 && (option = next_option(&rest)) != NULL) {
        if (*option != '\0') /* a comma too many does no harm */
            r = parse_one(options, option, why);
    }
    return r;
}

bool options_write(const struct mount_options *options)
{
    return !options->read_only || options->inbox != NULL;
}

void options_print_help(void)
{
    printf(
        "  ro                 nothing can be changed through the mount\n"
        "  allow_other        other users may use the mount (permissions are always checked)\n"
        "  allow_root         root may use the mount of another user\n"
        "  fsname=NAME        the source that the mount table shows, instead of STORE\n"
        "  max_read=BYTES     the most that one request may read\n"
        "  records=small|large|auto\n"
        "                     what the mount is tuned for; auto, the default, looks at the store\n"
        "  clones=COUNT       large records that stay cached by their clone after the last close\n"
        "  verify=WHEN        compare content with its checksum when it is first read (first, the\n"
        "                     default), whenever it is read (always), or never\n"
        "  memory=SIZE        the most memory that the daemon takes for itself (with K, M or G; 16M\n"
        "                     at least); by default 16 MiB, and less than 16 bytes for each file\n"
        "                     that the kernel knows\n"
        "  io_uring=auto|on|off\n"
        "                     how requests come: by io_uring where the kernel offers it, by it or\n"
        "                     not at all, or from /dev/fuse\n"
        "  commit=MS          changes are durable after so many milliseconds at the latest (50)\n"
        "  sync, dirsync      each publish is durable when the call that makes it returns\n"
        "  inbox=DIR          publish what is renamed into the directory DIR, which lies outside of\n"
        "                     the mount, and remove it from there; also with ro\n"
        "  debug              the same as -d\n"
        "  nosuid, nodev, noexec, nosymfollow, noatime, nodiratime, suid, dev, exec, symfollow,\n"
        "  context=, fscontext=, defcontext=, rootcontext=\n"
        "                     as in mount(8); nosuid and nodev unless told otherwise\n"
        "  rw, async, default_permissions, relatime and the like\n"
        "                     accepted: it is so anyway\n");
}

void options_destroy(struct mount_options *options)
{
    free(options->store_path);
    free(options->mountpoint);
    free(options->inbox);
    free(options->fsname);
    free(options->fuse);
    *options = (struct mount_options){0};
}
