/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store.h: the public face of the store.
 *
 * A store is a directory that holds a tree of records in an LMDB environment
 * (data.mdb, lock.mdb), the files that are still being written (staging/), and
 * the name of the process that may write (owner). docs/format.md describes the
 * bytes; this header describes what can be done with them.
 *
 * The store has never heard of FUSE. It does not check permissions (its caller
 * does) and it does not cache: LMDB and the kernel's page cache do.
 *
 * Words
 *   record   one version of a file's content with its attributes; directories
 *            and symbolic links are records too. Its id is its inode number,
 *            is never 0 and is never given out twice.
 *   entry    a name in a directory that leads to a record.
 *   sealed   a file whose content can no longer change. Files are born
 *            unsealed, with their bytes in staging/, and are sealed once:
 *            see store_seal(). An empty file has no content to protect: it is
 *            sealed like others, but takes writers again.
 *   held     a file below the staging directory. When its writers let go its
 *            bytes are brought into the store, as if it were to be sealed, but
 *            it takes writers again; it is sealed when it is moved out.
 *   orphan   a record without a name that a lease keeps alive.
 *   lease    the right of somebody (in practice the kernel) to go on reading
 *            a record: see store_lease().
 *
 * Errors: every function that returns int returns 0 or a negative errno. EIO
 * means the disk or the store is damaged; the others are named where they come
 * from something else than a missing id (-ENOENT), a full disk (-ENOSPC) or a
 * read-only store (-EROFS).
 *
 * Threads: any number of threads may call any function on one open store, but
 * store_open() and store_close() stand alone.
 *
 * Changes: functions that change the store return when the change is visible to
 * all who ask from then on. It becomes durable a moment later, after all that
 * were visible before it and together with others: see store_sync(). So what a
 * crash leaves is what was visible at some moment. Other processes that have
 * the store open see what is durable.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Ids below STORE_FIRST_ID have a fixed meaning; the rest of them is reserved. */
#define STORE_ROOT_ID ((uint64_t)1)
#define STORE_CONTROL_ID ((uint64_t)2) /* ".lmdbfs" in the root: has no record and no entry */
#define STORE_STAGING_ID ((uint64_t)3) /* "staging" in ".lmdbfs": a directory record, no entry */
#define STORE_STATS_ID ((uint64_t)4)   /* "stats" in ".lmdbfs": has no record and no entry */
#define STORE_FIRST_ID ((uint64_t)64)

/* The name in the root that no entry may have, and the directories behind it. */
#define STORE_CONTROL_NAME ".lmdbfs"
#define STORE_STAGING_NAME "staging"
#define STORE_STATS_NAME "stats"

#define STORE_NAME_MAX 255                /* bytes in one component of a path, as on ext4 */
#define STORE_SYMLINK_MAX 4095            /* bytes in a symbolic link's target (PATH_MAX - 1) */
#define STORE_FILE_MAX ((int64_t)1 << 43) /* bytes in a file: 8 TiB */
#define STORE_TRANSACTION_LEAST ((size_t)1 << 20)
#define STORE_WHY_MAX 512 /* bytes of a message for a person, with its NUL */

struct store;
struct store_group;

/* ------------------------------------------------------------------ open -- */

/* When content that is read is compared with its hash. */
enum store_verify {
    STORE_VERIFY_FIRST,  /* a piece of an extent the first time, a small payload each time: it
                          * costs 0.1 us */
    STORE_VERIFY_ALWAYS, /* each time; a byte costs as much as the piece that it is in */
    STORE_VERIFY_NEVER,  /* damage is handed out */
};

struct store_options {
    bool create;              /* make the store (and its directory) if there is none */
    bool read_only;           /* beside a writer, or on a read-only disk; takes no ownership */
    const char *purpose;      /* what the owner does with it ("mount on /var/cache/x"), shown to
                               * whoever comes second; not kept */
    size_t map_size;          /* address space for the tree in bytes; 0 = as much as is sensible.
                               * Grows by itself: only tests need to set it */
    enum store_verify verify; /* when content is compared with its hash */

    /* Bounds of what is kept in memory, in bytes; 0 = as much as is sensible. A lease beyond the
     * first one's is refused with -ENOMEM; of the second at least STORE_TRANSACTION_LEAST. */
    size_t leases_max;      /* who holds which record: less than 16 bytes for each that is held */
    size_t transaction_max; /* what one transaction writes */
    size_t pending_max;     /* changes that are visible and not committed, and small new files */

    /* When changes are committed: see store_sync(). */
    unsigned commit_ms; /* after so many milliseconds; 0 = as is sensible */
    bool sync; /* those of the published tree before the call that makes them returns: of names
                * outside the staging directory, and of attributes. Not those that are about
                * unfinished files only: new ones, their attributes, and sealing; see store_hurry()
                */

    /* Called when a file was sealed behind its users' backs (by store_writer_close(), or because a
     * tree left staging), so that they forget cached attributes. With no lock held, from a thread
     * of the store's or the caller's. */
    void (*sealed)(void *arg, uint64_t id);
    /* Called for a file that is held no longer, because its tree left staging, and could not be
     * sealed before: it is to be sealed when nobody writes it. As `sealed`. NULL = the store knows
     * the writers: store_writer_open(). */
    void (*unsealed)(void *arg, uint64_t id);
    /* Called with each lease as long as nearly as many are held as leases_max has room for: those
     * who hold them shall let some go. From any thread. NULL = not told. */
    void (*crowded)(void *arg);
    /* Called with one line of text for the log: things that nobody waits for went wrong.
     * From any thread. NULL = stderr. */
    void (*warn)(void *arg, const char *line);
    void *arg;
};

/*
 * Open the store in directory `path`. On success *out is the store, to be closed with
 * store_close(). On failure `why` holds one line that names the file, the cause and the
 * remedy.
 *
 * Open it once per process and after the last fork: LMDB's locks do not survive either.
 *
 * -ENOENT   there is no store (and options->create is not set)
 * -EBUSY    somebody else has it open for writing
 * -EINVAL   not a store, or a damaged one
 * -EPROTONOSUPPORT  a store of another format, feature set or byte order
 */
int store_open(const char *path, const struct store_options *options, struct store **out,
               char why[STORE_WHY_MAX]);

/* Finish what store_writer_close() and store_lease_drop() began, and close. NULL is allowed. */
void store_close(struct store *store);

/*
 * Put in order what a killed process left: seal the files that were being written (not the
 * held ones), remove the orphans. To be called after opening for writing, when nobody can
 * hold a lease or be writing; separate from store_open() because a successor of a killed
 * daemon inherits both.
 */
int store_recover(struct store *store);

/* True if the store was opened with read_only. */
bool store_is_read_only(const struct store *store);

/* Of a store that was opened with read_only: true if somebody has it open for writing now, and
 * `by` says who, for a person: "mounted on /var/cache/x (pid 7)". */
bool store_in_use(struct store *store, char by[STORE_WHY_MAX]);

/* ------------------------------------------------------------ attributes -- */

struct store_attr {
    uint64_t id;
    uint32_t mode;      /* type and permissions as shown: a sealed file has no write bits */
    uint32_t full_mode; /* the same as given by the user: what an export restores */
    uint32_t uid, gid;
    uint32_t nlink;  /* names that lead here; 1 for a directory (as btrfs), 0 for an orphan */
    uint64_t size;   /* bytes; of a symbolic link: of its target */
    uint64_t blocks; /* of 512 bytes, as in stat(2): what the record takes in the store */
    struct timespec atime, mtime, ctime, btime; /* atime is what was set, not the last read */
    uint64_t parent;  /* of a directory: the directory that has its entry */
    bool sealed;      /* the content is final */
    bool hashed;      /* `hash` is valid: after the commit that follows sealing, see store_sync() */
    bool held;        /* see the words above */
    bool open;        /* a file whose bytes are in the staging area, because it is written, or was
                       * a moment ago */
    bool reopened;    /* it is open though it was brought into the store before: it is held, and
                       * to be left alone until it is moved */
    uint8_t hash[16]; /* XXH3-128 of the content, canonical (big-endian) */
};

int store_getattr(struct store *store, uint64_t id, struct store_attr *attr);

/* The record that `name` in directory `parent` leads to. -ENOTDIR, -ENAMETOOLONG. */
int store_lookup(struct store *store, uint64_t parent, const char *name, struct store_attr *attr);

enum {
    STORE_SET_MODE = 1 << 0, /* permissions only; the type bits are ignored */
    STORE_SET_UID = 1 << 1,
    STORE_SET_GID = 1 << 2,
    STORE_SET_SIZE = 1 << 3, /* -EPERM on a sealed file with content */
    STORE_SET_ATIME = 1 << 4,
    STORE_SET_MTIME = 1 << 5,
};

/* What store_setattr() is to change: the fields of `attr` that `which` names. A new owner
 * takes the set-uid and set-gid bits from a file, as chown(2) does. */
int store_setattr(struct store *store, uint64_t id, unsigned which, const struct store_attr *attr,
                  struct store_attr *now);

/* ----------------------------------------------------------- directories -- */

/*
 * One entry of a listing. `next` continues behind this entry, also after it was removed or
 * replaced, also in a later process. `name` is terminated and valid during the call, `attr` is NULL
 * unless asked for. Return false to stop before this entry (it did not fit). It must not call
 * the store.
 */
typedef bool store_entry_fn(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                            const struct store_attr *attr);

/* Lists directory `id` from `cursor` on (0 = the start), without "." and "..". Cursors are
 * above STORE_CURSOR_MIN, so that the caller has room for its own. */
#define STORE_CURSOR_MIN 8
int store_readdir(struct store *store, uint64_t id, off_t cursor, bool with_attr,
                  store_entry_fn *each, void *arg);

/* True (1) if directory `id` is the staging directory or below it, 0 if not. */
int store_in_staging(struct store *store, uint64_t id);

/* ----------------------------------------------------------------- names -- */

/* Who a new record belongs to, and its permissions. Set-gid directories hand down their
 * group (and, to directories, the bit) as mkdir(2) says. */
struct store_owner {
    uint32_t mode; /* permission bits */
    uint32_t uid, gid;
};

/* New regular file, empty, unsealed, with no writer; held if `parent` is in staging.
 * -EEXIST, -ENOTDIR, -ENAMETOOLONG; -EPERM for the reserved name in the root. These hold
 * for all that make a name. */
int store_create(struct store *store, uint64_t parent, const char *name,
                 const struct store_owner *owner, struct store_attr *attr);
/* The same without a name (O_TMPFILE): an orphan until store_link(). */
int store_tmpfile(struct store *store, uint64_t parent, const struct store_owner *owner,
                  struct store_attr *attr);
int store_mkdir(struct store *store, uint64_t parent, const char *name,
                const struct store_owner *owner, struct store_attr *attr);
int store_symlink(struct store *store, uint64_t parent, const char *name, const char *target,
                  const struct store_owner *owner, struct store_attr *attr);

/* One more name. -EPERM for a directory. Linked out of staging, a file is no longer held:
 * the caller seals it first if nobody writes it. */
int store_link(struct store *store, uint64_t id, uint64_t parent, const char *name,
               struct store_attr *attr);

/* -EISDIR. The record lives on while other names or leases hold it. */
int store_unlink(struct store *store, uint64_t parent, const char *name);
/* -ENOTDIR, -ENOTEMPTY. */
int store_rmdir(struct store *store, uint64_t parent, const char *name);

enum {
    STORE_RENAME_NOREPLACE = 1 << 0,
    STORE_RENAME_EXCHANGE = 1 << 1,
    STORE_RENAME_UNSETTLED = 1 << 2, /* the caller is going to call store_settle() */
};

/*
 * rename(2) in one step, for everything a directory can hold. A name that was replaced keeps its
 * place in listings. -EEXIST, -ENOTDIR, -EISDIR, -ENOTEMPTY, -EINVAL (into itself).
 * The bytes of an unsealed file that is renamed are made durable before the new name is; moved out
 * of staging, it is no longer held. A directory that leaves staging publishes all that is in it;
 * its files are sealed by the time they are written again, and most before this returns. That is
 * quick after store_settle_staged().
 */
int store_rename(struct store *store, uint64_t old_parent, const char *old_name,
                 uint64_t new_parent, const char *new_name, unsigned flags);

/* ---------------------------------------------------------------- content -- */

/*
 * Read up to `size` bytes at `offset` into `buffer`: the number of bytes, 0 at the end, or
 * a negative errno. Of a symbolic link: its target, not terminated. Content is read through
 * the file descriptor, so a bad disk is -EIO and never a signal.
 */
ssize_t store_read(struct store *store, uint64_t id, void *buffer, size_t size, off_t offset);

/*
 * A clone: the content of a sealed file as a host file without a name, that shares its disk blocks
 * with the store. It has pages of its own in the kernel's cache, and keeps its content whatever
 * becomes of the record and the store; it is gone with its last descriptor.
 */
struct store_clone {
    int fd;        /* the caller's to close */
    uint64_t size; /* bytes */
    bool verified; /* the content was compared with its hash since the store was opened, or
                    * needn't be */
};

/* Whether the store lies where it can be done: 0, or an error (mostly -EOPNOTSUPP), and `why` says
 * in half a sentence what is missing. */
int store_can_clone(struct store *store, char why[STORE_WHY_MAX]);

/* Clone record `id`, that the caller has a lease for. -EINVAL: not a sealed file of more than a
 * page. -EIO: known to be damaged. The time depends on the number of extents, not on bytes. */
int store_clone(struct store *store, uint64_t id, struct store_clone *clone);

/* True: stop what you are doing. May be asked by several threads at a time. */
typedef bool store_stop_fn(void *arg);

/*
 * Compare a clone of `id` with the hashes of its extents, by the calling thread and up to two
 * others (in the whole process). This reads it whole, through its own pages in the cache: who reads
 * it next finds them there (unless it is larger than a quarter of the memory). -EIO: it is damaged;
 * a line in the log says where the first of it is, and from now on the record can't be cloned.
 * -EINTR: `stop` (may be NULL) said so.
 */
int store_clone_verify(struct store *store, uint64_t id, const struct store_clone *clone,
                       store_stop_fn *stop, void *arg);

/*
 * From now on read large content past the page cache: for a caller whose readers cache it
 * themselves, and who asks for whole pages at page-aligned places, with a page-aligned buffer (else
 * the cache is used nevertheless). To be called once, before the first read. On failure `why` says
 * in half a sentence why not.
 */
int store_read_direct(struct store *store, char why[STORE_WHY_MAX]);

/*
 * The whole content of each of these records that is a sealed, not empty file of up to `most`
 * bytes; at most 128 KiB, and what is in one extent. In the order of `ids`, the others are left
 * out. They must have a name or a lease. The callback holds up nobody; false: stop.
 */
typedef bool store_content_fn(void *arg, uint64_t id, const void *bytes, size_t size);
int store_contents(struct store_group *group, const uint64_t *ids, size_t count, size_t most,
                   store_content_fn *each, void *arg);

/* What it works in, about 150 KiB, for one thread at a time. NULL: no memory. */
struct store_group *store_group_new(struct store *store);
void store_group_free(struct store_group *group);

/* Write to an unsealed or empty file: all of it, or a negative errno. -EPERM if sealed, -EFBIG. The
 * bytes may be in this process's memory until store_fsync() or the commit after they are sealed. */
ssize_t store_write(struct store *store, uint64_t id, const void *buffer, size_t size,
                    off_t offset);

/* fallocate(2) on an unsealed or empty file. -EPERM if sealed. */
int store_fallocate(struct store *store, uint64_t id, int mode, off_t offset, off_t length);

/*
 * For who lets others read and write the bytes of a file past this process, with a file system of
 * his own: the host file that has them, a descriptor open for reading only, to be closed. `writes`:
 * the caller has declared a writer (store_writer_open()), and the file is unsealed or empty; if
 * need be the host file is made; -EROFS. Else -ENOENT says that there is none: then store_read()
 * has the bytes. Until nobody has it open for writing or mapped so, the file isn't sealed, whoever
 * let go; readers can keep it for ever. The process must ignore SIGIO.
 */
int store_staging_file(struct store *store, uint64_t id, bool writes);

/* Whether the disk has so much room that this may be done: who writes past this process isn't told
 * in time that there is none, and free pages of the store aren't given to him. */
bool store_has_plenty(struct store *store);

/* Whether it can be done here at all: 0, or an error, and `why` says in half a sentence what is
 * missing.
 */
int store_can_share_staging(struct store *store, char why[STORE_WHY_MAX]);

/*
 * Wait until everything that is visible now is durable: all changes so far, but for the content of
 * unsealed files. Many who wait share one commit. An error says that it isn't, and why: -ENOSPC,
 * -EIO; it stays visible, and with -ENOSPC it is tried again until it succeeds. From then on
 * changes beyond what memory can keep are refused with that error.
 */
int store_sync(struct store *store);

/* For a store that was opened with `sync`, else nothing: store_sync(), after changes that don't
 * wait by themselves; or have its commit begin at once, for who doesn't wait. */
int store_settle(struct store *store);
void store_hurry(struct store *store);

/* The same as store_sync(), with the content of file `id`, sealed or not. */
int store_fsync(struct store *store, uint64_t id, bool data_only);

/* ---------------------------------------------------------------- sealing -- */

/*
 * Writers can be counted per record, so that a file is sealed when the last one lets go.
 * store_writer_open() declares one more: -EPERM if the file is sealed and not empty, also
 * when its last writer has just let go. store_writer_close() lets go; the last one out of
 * a file that is named has it sealed in the background. If that fails the file stays
 * as it is, readable, a line goes to the log, and it is tried again by store_recover().
 */
int store_writer_open(struct store *store, uint64_t id);
void store_writer_close(struct store *store, uint64_t id);

/* Seal now, unless it is sealed already; what is held is brought into the store, and takes writers
 * again. -EBUSY while it has writers. Takes the same short time for a file of any size. It never
 * waits for a commit: who seals a file and goes on to move it waits then, who does no more calls
 * store_hurry(). */
int store_seal(struct store *store, uint64_t id);

/* For who seals a large file and can wait: as long as many bytes of such files are to be committed,
 * a part of what the store has. Else whoever replaces large files faster than the disk takes them
 * would have any number of versions kept at once. */
void store_pace(struct store *store, uint64_t id);

/* Bring back what a held file contains, because somebody who was not declared can write it: 0 also
 * if it is open. -EPERM: it is sealed for good. */
int store_unseal(struct store *store, uint64_t id);

/* How somebody else, who knows of writers that were not declared, does what store_seal() does. */
typedef int store_seal_fn(void *arg, uint64_t id);

/* Before a directory is moved out of staging: seal all that is in staging, open and without
 * writers, which is what was let go a moment ago. `seal` NULL: store_seal(). */
int store_settle_staged(struct store *store, store_seal_fn *seal, void *arg);

/* ----------------------------------------------------------------- leases -- */

/*
 * A lease keeps a record's content and attributes readable when its last name is gone. It never
 * blocks anybody. They are counted: one per LOOKUP that the kernel was answered, to be
 * dropped by the number that the kernel forgets. When the last one goes, an orphan is
 * removed in the background and its pages are free again.
 */
int store_lease(struct store *store, uint64_t id);
void store_lease_drop(struct store *store, uint64_t id, uint64_t count);
/* True also if the store is read-only: nobody counts there. */
bool store_leased(struct store *store, uint64_t id);

/* Records under a lease. */
size_t store_lease_count(struct store *store);
/* Up to `most` of their ids; *position is 0 at first and says where the next call goes on, round
 * and round. 0: there are none. */
size_t store_lease_list(struct store *store, uint64_t *position, uint64_t *ids, size_t most);

/* ------------------------------------------------------------------ state -- */

struct store_stat {
    unsigned format;      /* format version */
    uint64_t features[3]; /* compatible, read-only compatible, incompatible */
    uint32_t page_size;   /* bytes */
    uint64_t records;     /* files of every kind, directories included */
    uint64_t files, directories, symlinks;
    uint64_t bytes;        /* sum of the sizes of regular files */
    uint64_t inline_files; /* regular files whose content lies in their record */
    uint64_t extent_files; /* regular files whose content lies in extents */
    uint64_t extents;
    uint64_t contents; /* what lies in extents, each file once; also without `deep` */
    uint64_t unsealed_files;
    uint64_t orphans;
    uint64_t file_bytes;              /* size of data.mdb */
    uint64_t reusable_bytes;          /* of data.mdb that take disk and hold nothing */
    uint64_t total_pages, free_pages; /* of data.mdb */
    uint64_t disk_total, disk_free, disk_available; /* bytes of the filesystem it lies on */
    uint64_t map_bytes;                             /* address space reserved for the tree */
    uint64_t leases;                                /* records under a lease now */
    uint64_t lease_bytes;                           /* memory for them */
    uint64_t damages;                  /* reads of damaged content since the store was opened */
    uint64_t verified, verified_bytes; /* pieces of content compared with their hash since then */
    uint64_t commits;                  /* transactions since the store was opened */
    uint64_t changes, pending;         /* changes since then, and those that aren't durable yet */
    uint64_t pending_bytes;            /* memory for these, and for the bytes of small files */
};

/* Have data.mdb read into the kernel's cache, in the background and in order, which is a lot faster
 * than page by page. For a store of many small records, when much of it is about to be read. */
void store_prefetch(struct store *store);

/* `deep` also counts by kind and size, which reads every record (not its content), in short
 * transactions; without it those fields are 0. */
int store_stat(struct store *store, bool deep, struct store_stat *stat);

/* --------------------------------------------------------------- taking -- */

/* What store_take() tells its caller. */
struct store_taking {
    void *arg;
    /* `path`, from the top of the tree, is left out: `error` says why (-EPERM: a store has no such
     * files). It may be moved away meanwhile. Return a negative errno to give up. */
    int (*leave)(void *arg, const char *path, int error);
    bool (*stop)(void *arg); /* true: give up, with -EINTR */
};

/*
 * Copy all that is in the host directory `fd` (borrowed) into `to`, a directory of the store that
 * is empty and that nobody else uses, below staging: from there it can be moved to where it
 * belongs, by store_rename(), as soon as all of it is there. Keeps modes, owners, times, symbolic
 * and hard links; files are sealed. Durable when it returns. Takes little memory, however large the
 * tree.
 *
 * -EBUSY: somebody has one of the files open for writing. (Found out by a lease, fcntl(2), where
 * the filesystem knows such; the process must ignore SIGIO. Until a file is copied, who opens it
 * for writing waits.) On failure a part of it is there: store_discard().
 */
int store_take(struct store *store, int fd, uint64_t to, const struct store_taking *taking);

/* Remove what `name` in directory `parent` leads to, with all below it, in many changes. */
int store_discard(struct store *store, uint64_t parent, const char *name);

/* ------------------------------------------------------- whole-tree work -- */

/* What long work tells its caller. Any member may be NULL. Called from the calling thread. */
struct store_observer {
    void *arg;
    /* Progress: of files (of every kind, directories too) and bytes in all. Totals are 0 until
     * they are known, and a good guess then. */
    void (*progress)(void *arg, uint64_t files, uint64_t bytes, uint64_t all_files,
                     uint64_t all_bytes);
    /* Something to tell the user about a path (skipped, damaged, ...), one line without its end.
     * Work that fails has told why: that was its last message. */
    void (*message)(void *arg, const char *path, const char *text);
    /* True: stop as soon as the store is whole. The call returns -EINTR, without a message. */
    bool (*stop)(void *arg);
};

struct store_work {
    uint64_t files;       /* names of regular files and symbolic links done */
    uint64_t directories; /* the same of directories */
    uint64_t bytes;       /* of content */
    uint64_t skipped;     /* names left out, with a message: special files, what vanished, ... */
    uint64_t problems;    /* store_check(): what is wrong. Else: those of the skipped ones that
                           * should have been copied and could not be */
};

/*
 * Copy the tree below host directory `from` into directory `to` of the store (a path in the store,
 * made if it is missing; NULL or "/" = the root), replacing what has the same name. Keeps modes,
 * owners, times, symbolic and hard links; `to` itself gets the attributes of `from` if it is new
 * or empty. Directories are merged; a directory never replaces something else, nor the reverse.
 * Interrupted, the store is whole and what was done stays.
 */
int store_import(struct store *store, const char *from, const char *to,
                 const struct store_observer *observer, struct store_work *work);

/*
 * The reverse: the file or the directory with all below it at `from`, a path in the store, into
 * host directory `to`, which is made if it is missing (then it gets the attributes of `from`). Host
 * files that are in the way are replaced by rename; directories are merged. Owners are restored by
 * root only. What the hash shows to be damaged is not written but told. Works beside a writer.
 */
int store_export(struct store *store, const char *from, const char *to,
                 const struct store_observer *observer, struct store_work *work);

/* Walk everything and verify every hash. 0 if the walk came to its end, whatever
 * it found: see work->problems. Works beside a writer. A damaged tree can end the process with a
 * signal (LMDB trusts its pages): run it in a child. */
int store_check(struct store *store, const struct store_observer *observer,
                struct store_work *work);

#endif
