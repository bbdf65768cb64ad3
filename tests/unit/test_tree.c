/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names: making, moving, removing them, what it does to links, parents and times, and every
 * errno on the way. Once by what store.h says, and once against the host's filesystem.
 */
#include "support.h"

#include "store/tree.h"

#define ROOT STORE_ROOT_ID

static const char *const bad_long_name =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
    "4567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
    "89012345678901234567890123456789012345678901234567890123456789012345"; /* 256 bytes */

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* -------------------------------------------------------------------- making -- */

static void new_records_are_as_ordered(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_owner owner = {07123, 11, 22};
    struct store_attr attr;
    assert_int_equal(store_create(store, ROOT, "f", &owner, &attr), 0);
    assert_int_equal(attr.mode, S_IFREG | 07123);
    assert_int_equal(attr.uid, 11);
    assert_int_equal(attr.gid, 22);
    assert_int_equal(attr.nlink, 1);
    assert_int_equal(attr.size, 0);
    assert_int_equal(attr.parent, 0);
    assert_false(attr.sealed);
    assert_false(attr.held);
    assert_true(attr.id >= STORE_FIRST_ID);
    assert_int_equal(attr.id, id_of(store, ROOT, "f"));

    owner.mode = S_IFREG | 01755; /* type bits are not the caller's to choose */
    assert_int_equal(store_mkdir(store, ROOT, "d", &owner, &attr), 0);
    assert_int_equal(attr.mode, S_IFDIR | 01755);
    assert_int_equal(attr.nlink, 1);
    assert_int_equal(attr.parent, ROOT);
    assert_false(attr.sealed);

    assert_int_equal(store_symlink(store, ROOT, "l", "target", &owner, &attr), 0);
    assert_int_equal(attr.mode, S_IFLNK | 0777);
    assert_int_equal(attr.size, 6);
    assert_int_equal(attr.uid, 11);

    assert_int_equal(store_tmpfile(store, ROOT, &owner, &attr), 0);
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(attr.mode, S_IFREG | 01755);
}

static void ids_are_never_given_out_twice(void **state)
{
    struct fixture *fixture = *state;
    uint64_t last = 0;
    for (int i = 0; i < 30; i++) {
        uint64_t id = i % 2 ? make_directory(fixture->store, ROOT, "x")
                            : write_file(fixture->store, ROOT, "x", "y", 1);
        assert_true(id > last);
        last = id;
        assert_int_equal(i % 2 ? store_rmdir(fixture->store, ROOT, "x")
                               : store_unlink(fixture->store, ROOT, "x"),
                         0);
        if (i % 5 == 0)
            fixture_reopen(fixture);
    }
}

static void name_that_exists_is_eexist(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t file = write_file(store, ROOT, "f", "x", 1);
    make_directory(store, ROOT, "d");
    static const char *const names[] = {"f", "d"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(store_create(store, ROOT, names[i], &OWNER_FILE, &attr), -EEXIST);
        assert_int_equal(store_mkdir(store, ROOT, names[i], &OWNER_DIR, &attr), -EEXIST);
        assert_int_equal(store_symlink(store, ROOT, names[i], "t", &OWNER_FILE, &attr), -EEXIST);
        assert_int_equal(store_link(store, file, ROOT, names[i], &attr), -EEXIST);
    }
    assert_true(holds(store, file, "x", 1));
}

struct refusal {
    uint64_t parent;
    const char *name;
    int error;
};

static void names_and_parents_that_cannot_be_are_refused(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t file = write_file(store, ROOT, "f", "x", 1);
    uint64_t directory = make_directory(store, ROOT, "d");
    const struct refusal refusals[] = {
        {ROOT, bad_long_name, -ENAMETOOLONG},
        {ROOT, "", -ENOENT},
        {ROOT, STORE_CONTROL_NAME, -EPERM},
        {file, "x", -ENOTDIR},
        {123456, "x", -ENOENT},
        {STORE_CONTROL_ID, "x", -ENOENT},
        {STORE_STATS_ID, "x", -ENOENT},
    };
    for (size_t i = 0; i < array_length(refusals); i++) {
        const struct refusal *r = &refusals[i];
        assert_int_equal(store_create(store, r->parent, r->name, &OWNER_FILE, &attr), r->error);
        assert_int_equal(store_mkdir(store, r->parent, r->name, &OWNER_DIR, &attr), r->error);
        assert_int_equal(store_symlink(store, r->parent, r->name, "t", &OWNER_FILE, &attr),
                         r->error);
        assert_int_equal(store_link(store, file, r->parent, r->name, &attr), r->error);
        assert_int_equal(store_rename(store, ROOT, "f", r->parent, r->name, 0), r->error);
        assert_int_equal(store_rename(store, ROOT, "d", r->parent, r->name, 0), r->error);
    }
    assert_int_equal(store_tmpfile(store, file, &OWNER_FILE, &attr), -ENOTDIR);
    assert_int_equal(store_tmpfile(store, 123456, &OWNER_FILE, &attr), -ENOENT);
    /* Elsewhere the reserved name is a name like others. */
    assert_int_equal(store_create(store, directory, STORE_CONTROL_NAME, &OWNER_FILE, &attr), 0);
    assert_int_equal(examine(store).records, 5);
}

static void looking_up_what_is_not_there(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t file = write_file(store, ROOT, "f", "x", 1);
    assert_int_equal(store_lookup(store, ROOT, "g", &attr), -ENOENT);
    assert_int_equal(store_lookup(store, ROOT, "", &attr), -ENOENT);
    assert_int_equal(store_lookup(store, ROOT, bad_long_name, &attr), -ENAMETOOLONG);
    assert_int_equal(store_lookup(store, file, "g", &attr), -ENOTDIR);
    assert_int_equal(store_lookup(store, 123456, "g", &attr), -ENOENT);
    assert_int_equal(store_getattr(store, 123456, &attr), -ENOENT);
    assert_int_equal(store_getattr(store, 0, &attr), -ENOENT);
}

static void staging_is_a_directory_above_all_users(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr = attr_of(store, STORE_STAGING_ID);
    assert_int_equal(attr.mode, S_IFDIR | 01777);
    assert_int_equal(attr.parent, STORE_CONTROL_ID);
    assert_int_equal(attr_of(store, ROOT).parent, ROOT);
    assert_int_equal(store_in_staging(store, STORE_STAGING_ID), 1);
    assert_int_equal(store_in_staging(store, ROOT), 0);
    uint64_t one = make_directory(store, STORE_STAGING_ID, "1");
    uint64_t two = make_directory(store, one, "2");
    assert_int_equal(store_in_staging(store, two), 1);
    assert_int_equal(store_rename(store, STORE_STAGING_ID, "1", ROOT, "1", 0), 0);
    assert_int_equal(store_in_staging(store, two), 0);
    assert_int_equal(store_in_staging(store, 123456), -ENOENT);
}

/* ---------------------------------------------------------------- set-gid -- */

static void set_gid_directory_hands_its_group_down(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_owner owner = {02770, 1, 77};
    struct store_attr attr;
    assert_int_equal(store_mkdir(store, ROOT, "d", &owner, &attr), 0);
    uint64_t directory = attr.id;
    owner = (struct store_owner){0644, 5, 6};
    assert_int_equal(store_create(store, directory, "f", &owner, &attr), 0);
    assert_int_equal(attr.uid, 5);
    assert_int_equal(attr.gid, 77);
    assert_int_equal(attr.mode, S_IFREG | 0644);
    assert_int_equal(store_symlink(store, directory, "l", "t", &owner, &attr), 0);
    assert_int_equal(attr.gid, 77);
    assert_int_equal(store_tmpfile(store, directory, &owner, &attr), 0);
    assert_int_equal(attr.gid, 77);
    assert_int_equal(store_mkdir(store, directory, "sub", &owner, &attr), 0);
    assert_int_equal(attr.gid, 77);
    assert_int_equal(attr.mode, S_IFDIR | 02644);
    /* Not what only moves in. */
    uint64_t file = write_file(store, ROOT, "f", "x", 1);
    assert_int_equal(store_rename(store, ROOT, "f", directory, "g", 0), 0);
    assert_int_equal(attr_of(store, file).gid, 1000);
}

/* -------------------------------------------------------------------- links -- */

static void links_are_counted(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t file = write_file(store, ROOT, "a", "x", 1);
    uint64_t directory = make_directory(store, ROOT, "d");
    for (uint32_t i = 2; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(store_link(store, file, directory, name, &attr), 0);
        assert_int_equal(attr.id, file);
        assert_int_equal(attr.nlink, i);
        assert_int_equal(id_of(store, directory, name), file);
    }
    assert_int_equal(store_unlink(store, ROOT, "a"), 0);
    assert_int_equal(attr_of(store, file).nlink, 8);
    assert_int_equal(store_rmdir(store, ROOT, "d"), -ENOTEMPTY);
    /* A name that is replaced is a link less. */
    write_file(store, directory, "2", "y", 1);
    assert_int_equal(attr_of(store, file).nlink, 7);
    assert_true(holds(store, file, "x", 1));
}

static void directories_have_one_name(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t directory = make_directory(store, ROOT, "d");
    assert_int_equal(store_link(store, directory, ROOT, "e", &attr), -EPERM);
    assert_int_equal(store_link(store, ROOT, ROOT, "e", &attr), -EPERM);
    assert_int_equal(store_link(store, 123456, ROOT, "e", &attr), -ENOENT);
    make_directory(store, directory, "sub");
    assert_int_equal(attr_of(store, directory).nlink, 1);
}

static void symlinks_can_be_linked_too(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    assert_int_equal(store_symlink(store, ROOT, "l", "t", &OWNER_FILE, &attr), 0);
    assert_int_equal(store_link(store, attr.id, ROOT, "m", &attr), 0);
    assert_int_equal(attr.nlink, 2);
    assert_int_equal(attr.mode, S_IFLNK | 0777);
}

static void two_names_of_one_file_stay_when_one_is_moved_over_the_other(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t file = write_file(store, ROOT, "a", "x", 1);
    assert_int_equal(store_link(store, file, ROOT, "b", &attr), 0);
    assert_int_equal(store_rename(store, ROOT, "a", ROOT, "b", 0), 0);
    assert_int_equal(store_rename(store, ROOT, "a", ROOT, "a", 0), 0);
    assert_int_equal(store_rename(store, ROOT, "a", ROOT, "b", STORE_RENAME_EXCHANGE), 0);
    assert_int_equal(store_rename(store, ROOT, "a", ROOT, "a", STORE_RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(id_of(store, ROOT, "a"), file);
    assert_int_equal(id_of(store, ROOT, "b"), file);
    assert_int_equal(attr_of(store, file).nlink, 2);
}

/* ------------------------------------------------------------------ removal -- */

static void removal_wants_the_right_kind(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t file = write_file(store, ROOT, "f", "x", 1);
    uint64_t directory = make_directory(store, ROOT, "d");
    assert_int_equal(store_symlink(store, directory, "l", "t", &OWNER_FILE, &attr), 0);
    assert_int_equal(store_unlink(store, ROOT, "d"), -EISDIR);
    assert_int_equal(store_rmdir(store, ROOT, "f"), -ENOTDIR);
    assert_int_equal(store_rmdir(store, directory, "l"), -ENOTDIR);
    assert_int_equal(store_rmdir(store, ROOT, "d"), -ENOTEMPTY);
    assert_int_equal(store_unlink(store, ROOT, "none"), -ENOENT);
    assert_int_equal(store_rmdir(store, ROOT, "none"), -ENOENT);
    assert_int_equal(store_unlink(store, ROOT, bad_long_name), -ENAMETOOLONG);
    assert_int_equal(store_rmdir(store, ROOT, bad_long_name), -ENAMETOOLONG);
    assert_int_equal(store_unlink(store, file, "x"), -ENOTDIR);
    assert_int_equal(store_rmdir(store, file, "x"), -ENOTDIR);
    assert_int_equal(store_rename(store, file, "x", ROOT, "y", 0), -ENOTDIR);
    assert_int_equal(store_unlink(store, directory, "l"), 0);
    assert_int_equal(store_rmdir(store, ROOT, "d"), 0);
    assert_int_equal(store_unlink(store, ROOT, "f"), 0);
}

/* ------------------------------------------------------------------- rename -- */

enum kind { NONE, FILE_1, FILE_2, LINK, EMPTY_1, EMPTY_2, FULL_1, FULL_2, KINDS };

static const char *const kind_names[] = {"none",    "file-1",  "file-2", "link",
                                         "empty-1", "empty-2", "full-1", "full-2"};

static bool is_directory(enum kind kind)
{
    return kind >= EMPTY_1;
}

/* What rename(2) says. */
static int expected_error(enum kind old, enum kind new, unsigned flags)
{
    if (old == NONE)
        return -ENOENT;
    if (new == NONE)
        return flags & STORE_RENAME_EXCHANGE ? -ENOENT : 0;
    if (flags & STORE_RENAME_NOREPLACE)
        return -EEXIST;
    if (old == new || (flags & STORE_RENAME_EXCHANGE))
        return 0;
    if (is_directory(old) != is_directory(new))
        return is_directory(old) ? -ENOTDIR : -EISDIR;
    return new == FULL_1 || new == FULL_2 ? -ENOTEMPTY : 0;
}

struct place {
    uint64_t parent;
    const char *name;
};

/* Makes one of each in `parent`; `ids` are theirs. */
static void make_kinds(struct store *store, uint64_t parent, uint64_t ids[KINDS])
{
    struct store_attr attr;
    ids[NONE] = 0;
    ids[FILE_1] = write_file(store, parent, "file-1", "1", 1);
    ids[FILE_2] = write_file(store, parent, "file-2", "2", 1);
    assert_int_equal(store_symlink(store, parent, "link", "t", &OWNER_FILE, &attr), 0);
    ids[LINK] = attr.id;
    for (int kind = EMPTY_1; kind < KINDS; kind++)
        ids[kind] = make_directory(store, parent, kind_names[kind]);
    make_directory(store, ids[FULL_1], "in 1");
    write_file(store, ids[FULL_2], "in 2", "x", 1);
}

static void check_rename(struct store *store, enum kind old, enum kind new, unsigned flags,
                         bool other_directory)
{
    char name[32];
    static unsigned rounds;
    uint64_t old_ids[KINDS], new_ids[KINDS];
    snprintf(name, sizeof(name), "round %u", rounds++);
    uint64_t from = make_directory(store, ROOT, name), to = from;
    make_kinds(store, from, old_ids);
    memcpy(new_ids, old_ids, sizeof(new_ids));
    if (other_directory) {
        to = make_directory(store, from, "other");
        make_kinds(store, to, new_ids);
    }
    int expected = expected_error(old, new, flags);
    if (other_directory && flags == 0 && old != NONE && new == old)
        expected = old >= FULL_1 ? -ENOTEMPTY : 0; /* the same kind, but another one */
    int r = store_rename(store, from, kind_names[old], to, kind_names[new], flags);
    if (r != expected)
        fail_msg("%s to %s, flags %u: %d, not %d", kind_names[old], kind_names[new], flags, r,
                 expected);

    bool moved = r == 0 && (old_ids[old] != new_ids[new]);
    bool exchanged = moved && (flags & STORE_RENAME_EXCHANGE);
    uint64_t at_old = id_of(store, from, kind_names[old]);
    uint64_t at_new = id_of(store, to, kind_names[new]);
    assert_int_equal(at_new, moved ? old_ids[old] : new_ids[new]);
    if (old != NONE)
        assert_int_equal(at_old, !moved ? old_ids[old] : exchanged ? new_ids[new] : 0);
    if (moved && is_directory(old))
        assert_int_equal(attr_of(store, old_ids[old]).parent, to);
    if (exchanged && is_directory(new))
        assert_int_equal(attr_of(store, new_ids[new]).parent, from);
}

static void rename_of_every_kind_to_every_kind(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const unsigned flags[] = {0, STORE_RENAME_NOREPLACE, STORE_RENAME_EXCHANGE};
    for (enum kind old = NONE; old < KINDS; old++)
        for (enum kind new = NONE; new < KINDS; new ++)
            for (size_t i = 0; i < array_length(flags); i++)
                for (int other = 0; other < 2; other++)
                    check_rename(store, old, new, flags[i], other);
    (void)examine(store);
}

static void directory_does_not_move_into_itself(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const unsigned exchange = STORE_RENAME_EXCHANGE;
    uint64_t a = make_directory(store, ROOT, "a");
    uint64_t b = make_directory(store, a, "b");
    uint64_t c = make_directory(store, b, "c");
    write_file(store, c, "f", "x", 1);
    assert_int_equal(store_rename(store, ROOT, "a", a, "x", 0), -EINVAL);
    assert_int_equal(store_rename(store, ROOT, "a", c, "x", 0), -EINVAL);
    assert_int_equal(store_rename(store, ROOT, "a", b, "c", 0), -EINVAL);
    assert_int_equal(store_rename(store, ROOT, "a", b, "c", exchange), -EINVAL);
    assert_int_equal(store_rename(store, b, "c", ROOT, "a", exchange), -EINVAL);
    assert_int_equal(store_rename(store, c, "f", ROOT, "a", exchange), -EINVAL);
    assert_int_equal(store_rename(store, b, "c", ROOT, "a", 0), -ENOTEMPTY);
    assert_int_equal(store_rename(store, ROOT, "a", a, "b", 0), -EINVAL);
    assert_int_equal(store_rename(store, a, "b", ROOT, "b", 0), 0);
    assert_int_equal(store_rename(store, ROOT, "a", c, "a", 0), 0);
    assert_int_equal(attr_of(store, a).parent, c);
    assert_int_equal(examine(store).records, 6);
}

static void reserved_name_is_nobodys(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const unsigned exchange = STORE_RENAME_EXCHANGE;
    uint64_t directory = make_directory(store, ROOT, "d");
    write_file(store, directory, STORE_CONTROL_NAME, "x", 1);
    assert_int_equal(
        store_rename(store, directory, STORE_CONTROL_NAME, ROOT, STORE_CONTROL_NAME, 0), -EPERM);
    assert_int_equal(store_rename(store, ROOT, "d", ROOT, STORE_CONTROL_NAME, exchange), -EPERM);
    assert_true(store_rename(store, ROOT, STORE_CONTROL_NAME, ROOT, "x", 0) < 0);
    assert_true(store_rename(store, ROOT, STORE_CONTROL_NAME, ROOT, "d", exchange) < 0);
    assert_true(store_unlink(store, ROOT, STORE_CONTROL_NAME) < 0);
    assert_true(store_rmdir(store, ROOT, STORE_CONTROL_NAME) < 0);
    assert_int_equal(store_rename(store, directory, STORE_CONTROL_NAME, ROOT, "free", 0), 0);
}

/* -------------------------------------------------------------------- times -- */

struct moment {
    struct store_attr directory, other, record;
};

static struct moment look(struct store *store, uint64_t directory, uint64_t other, uint64_t record)
{
    /* Until the clock has moved on, what follows could not be told from what was. */
    struct timespec now, start;
    clock_gettime(CLOCK_REALTIME, &start);
    do
        clock_gettime(CLOCK_REALTIME, &now);
    while (!later(now, start));
    return (struct moment){attr_of(store, directory), attr_of(store, other),
                           attr_of(store, record)};
}

static void names_change_the_times_of_their_directories(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t d = make_directory(store, ROOT, "d"), e = make_directory(store, ROOT, "e");
    uint64_t f = write_file(store, ROOT, "f", "x", 1);
    for (int step = 0; step < 9; step++) {
        struct moment before = look(store, d, e, f);
        int r = step == 0   ? store_create(store, d, "a", &OWNER_FILE, &attr)
                : step == 1 ? store_mkdir(store, d, "b", &OWNER_DIR, &attr)
                : step == 2 ? store_symlink(store, d, "c", "t", &OWNER_FILE, &attr)
                : step == 3 ? store_link(store, f, d, "f", &attr)
                : step == 4 ? store_rename(store, d, "a", d, "A", 0)
                : step == 5 ? store_rename(store, d, "f", e, "f", 0)
                : step == 6 ? store_rename(store, d, "b", e, "f", STORE_RENAME_EXCHANGE)
                : step == 7 ? store_unlink(store, d, "c")
                            : store_rmdir(store, e, "f");
        assert_int_equal(r, 0);
        struct moment after = look(store, d, e, f);
        bool in_d = step != 8, in_e = step == 5 || step == 6 || step == 8;
        bool of_f = step == 3 || step == 5 || step == 6;
        assert_int_equal(later(after.directory.mtime, before.directory.mtime), in_d);
        assert_int_equal(later(after.directory.ctime, before.directory.ctime), in_d);
        assert_int_equal(later(after.other.mtime, before.other.mtime), in_e);
        assert_int_equal(later(after.other.ctime, before.other.ctime), in_e);
        assert_int_equal(later(after.record.ctime, before.record.ctime), of_f);
        assert_false(later(after.record.mtime, before.record.mtime));
        assert_false(later(after.directory.atime, before.directory.atime));
        assert_false(later(after.directory.btime, before.directory.btime));
    }
}

static void failing_changes_leave_the_times(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t d = make_directory(store, ROOT, "d"), e = make_directory(store, d, "e");
    uint64_t f = write_file(store, d, "f", "x", 1);
    struct moment before = look(store, d, e, f);
    assert_int_equal(store_create(store, d, "f", &OWNER_FILE, &attr), -EEXIST);
    assert_int_equal(store_unlink(store, d, "e"), -EISDIR);
    assert_int_equal(store_rename(store, d, "f", d, "e", 0), -EISDIR);
    assert_int_equal(store_rename(store, d, "e", d, "f", 0), -ENOTDIR);
    assert_int_equal(store_rename(store, d, "f", d, "f", 0), 0);
    struct moment after = look(store, d, e, f);
    assert_memory_equal(&before.directory.mtime, &after.directory.mtime, sizeof(struct timespec));
    assert_memory_equal(&before.other.ctime, &after.other.ctime, sizeof(struct timespec));
    assert_memory_equal(&before.record.ctime, &after.record.ctime, sizeof(struct timespec));
}

/* ------------------------------------------------------------------ listings -- */

struct listing {
    unsigned count;
    uint64_t ids[64];
    mode_t types[64];
    off_t next[64];
    struct store_attr attrs[64];
    unsigned room;
};

static bool note(void *arg, const char *name, uint64_t id, mode_t type, off_t next,
                 const struct store_attr *attr)
{
    struct listing *listing = arg;
    if (listing->count == listing->room)
        return false;
    must(name[0] != '\0' && next > STORE_CURSOR_MIN);
    listing->ids[listing->count] = id;
    listing->types[listing->count] = type;
    listing->next[listing->count] = next;
    listing->attrs[listing->count++] = attr == NULL ? (struct store_attr){0} : *attr;
    return true;
}

static void assert_same_attr(const struct store_attr *a, const struct store_attr *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->mode, b->mode);
    assert_int_equal(a->full_mode, b->full_mode);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->blocks, b->blocks);
    assert_int_equal(a->nlink, b->nlink);
    assert_int_equal(a->parent, b->parent);
    assert_int_equal(a->sealed, b->sealed);
    assert_memory_equal(&a->mtime, &b->mtime, sizeof(a->mtime));
    assert_memory_equal(a->hash, b->hash, sizeof(a->hash));
}

static void listing_tells_attributes_of_all_kinds(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct store_attr attr;
    uint64_t d = make_directory(store, ROOT, "d");
    write_file(store, d, "sealed", "x", 1);
    write_unsealed(store, d, "unsealed", "xyz", 3);
    write_unsealed(store, d, "empty", "", 0);
    make_directory(store, d, "sub");
    assert_int_equal(store_symlink(store, d, "link", "t", &OWNER_FILE, &attr), 0);
    for (int with_attr = 0; with_attr < 2; with_attr++) {
        struct listing whole = {.room = 64};
        assert_int_equal(store_readdir(store, d, 0, with_attr, note, &whole), 0);
        assert_int_equal(whole.count, 5);
        for (unsigned i = 0; i < whole.count; i++) {
            struct store_attr expected = attr_of(store, whole.ids[i]);
            assert_int_equal(whole.types[i], expected.mode & S_IFMT);
            if (with_attr)
                assert_same_attr(&whole.attrs[i], &expected);
        }
        struct listing rest = {.room = 64};
        assert_int_equal(store_readdir(store, d, whole.next[1], with_attr, note, &rest), 0);
        assert_int_equal(rest.count, 3);
        assert_int_equal(rest.ids[0], whole.ids[2]);
        struct listing few = {.room = 2};
        assert_int_equal(store_readdir(store, d, 0, with_attr, note, &few), 0);
        assert_int_equal(few.count, 2);
    }
    struct listing none = {.room = 64};
    assert_int_equal(store_readdir(store, d, INT64_MAX, true, note, &none), 0);
    assert_int_equal(store_readdir(store, id_of(store, d, "sub"), 0, true, note, &none), 0);
    assert_int_equal(none.count, 0);
    assert_int_equal(store_readdir(store, id_of(store, d, "link"), 0, true, note, &none), -ENOTDIR);
    assert_int_equal(store_readdir(store, 123456, 0, true, note, &none), -ENOENT);
}

/* --------------------------------------------------- against the host's own -- */

#define POOL 5 /* names, in each directory */

struct twin {
    struct store *store;
    struct random random;
    char root[300]; /* the host's side */
    uint64_t serial;
};

/* A directory that exists on both sides, up to 4 deep. */
struct spot {
    char path[600]; /* the host's */
    uint64_t parent;
    char name[16];
};

static struct spot random_spot(struct twin *twin)
{
    struct spot spot = {.parent = ROOT};
    snprintf(spot.path, sizeof(spot.path), "%s", twin->root);
    for (int depth = 0;; depth++) {
        struct store_attr attr;
        snprintf(spot.name, sizeof(spot.name), "%u", (unsigned)random_below(&twin->random, POOL));
        size_t length = strlen(spot.path);
        snprintf(spot.path + length, sizeof(spot.path) - length, "/%s", spot.name);
        if (depth == 3 || random_below(&twin->random, 3) == 0 ||
            store_lookup(twin->store, spot.parent, spot.name, &attr) != 0 || !S_ISDIR(attr.mode))
            return spot;
        spot.parent = attr.id;
    }
}

static int host_result(int rc)
{
    return rc < 0 ? -errno : 0;
}

static int host_create(const char *path, uint64_t serial)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -errno;
    must(write(fd, &serial, sizeof(serial)) == sizeof(serial));
    return host_result(close(fd));
}

static int our_create(struct twin *twin, const struct spot *spot)
{
    struct store_attr attr;
    int r = store_create(twin->store, spot->parent, spot->name, &OWNER_FILE, &attr);
    if (r == 0)
        must(store_write(twin->store, attr.id, &twin->serial, 8, 0) == 8);
    return r < 0 ? r : store_seal(twin->store, attr.id);
}

static int our_link(struct twin *twin, const struct spot *from, const struct spot *to)
{
    struct store_attr attr;
    int r = store_lookup(twin->store, from->parent, from->name, &attr);
    return r < 0 ? r : store_link(twin->store, attr.id, to->parent, to->name, &attr);
}

static bool is_above(const char *path, const char *below)
{
    size_t length = strlen(path);
    return strncmp(path, below, length) == 0 && below[length] == '/';
}

static void step_on_both_sides(struct twin *twin)
{
    struct spot a = random_spot(twin), b = random_spot(twin);
    struct store_attr attr;
    unsigned flags = 0;
    int ours = 0, host = 0;
    twin->serial++;
    switch (random_below(&twin->random, 10)) {
    case 0:
        ours = our_create(twin, &a);
        host = host_create(a.path, twin->serial);
        break;
    case 1:
    case 2:
        ours = store_mkdir(twin->store, a.parent, a.name, &OWNER_DIR, &attr);
        host = host_result(mkdir(a.path, 0755));
        break;
    case 3:
        ours = store_symlink(twin->store, a.parent, a.name, b.name, &OWNER_FILE, &attr);
        host = host_result(symlink(b.name, a.path));
        break;
    case 4:
        /* Of directories: the kernel looks at the new name first, and asks us last. */
        if (store_lookup(twin->store, a.parent, a.name, &attr) == 0 && S_ISDIR(attr.mode))
            return;
        ours = our_link(twin, &a, &b);
        host = host_result(link(a.path, b.path));
        break;
    case 5:
        ours = store_unlink(twin->store, a.parent, a.name);
        host = host_result(unlink(a.path));
        break;
    case 6:
        ours = store_rmdir(twin->store, a.parent, a.name);
        host = host_result(rmdir(a.path));
        break;
    case 8:
        flags = STORE_RENAME_NOREPLACE;
        goto rename;
    case 9:
        flags = STORE_RENAME_EXCHANGE;
        goto rename;
    default:
    rename:
        if (is_above(b.path, a.path))
            return; /* the kernel refuses that itself, by an order of its own */
        ours = store_rename(twin->store, a.parent, a.name, b.parent, b.name, flags);
        host = host_result(renameat2(AT_FDCWD, a.path, AT_FDCWD, b.path, flags));
    }
    if (ours != host)
        fail_msg("step %lu on %s (and %s): %s, the host says %s", twin->serial, a.path, b.path,
                 strerror(-ours), strerror(-host));
}

static unsigned compare_directories(struct twin *twin, const char *path, uint64_t id)
{
    unsigned found = 0;
    for (unsigned i = 0; i < POOL; i++) {
        char name[16], below[600], target[16] = "", ours[16] = "";
        struct stat st;
        struct store_attr attr;
        uint64_t serial = 0;
        snprintf(name, sizeof(name), "%u", i);
        snprintf(below, sizeof(below), "%.500s/%s", path, name);
        int host = host_result(lstat(below, &st));
        assert_int_equal(store_lookup(twin->store, id, name, &attr), host);
        if (host < 0)
            continue;
        found++;
        assert_int_equal(attr.mode & S_IFMT, st.st_mode & S_IFMT);
        if (S_ISDIR(st.st_mode)) {
            found += compare_directories(twin, below, attr.id);
            continue;
        }
        assert_int_equal(attr.nlink, st.st_nlink);
        if (S_ISLNK(st.st_mode)) {
            assert_true(readlink(below, target, sizeof(target)) > 0);
            assert_true(store_read(twin->store, attr.id, ours, sizeof(ours), 0) > 0);
            assert_string_equal(target, ours);
        } else {
            int fd = open(below, O_RDONLY);
            assert_int_equal(read(fd, &serial, sizeof(serial)), sizeof(serial));
            close(fd);
            assert_true(holds(twin->store, attr.id, &serial, sizeof(serial)));
        }
    }
    return found;
}

static void random_changes_do_what_the_host_does(void **state)
{
    struct fixture *fixture = *state;
    struct twin twin = {.store = fixture->store, .random = random_new(3)};
    snprintf(twin.root, sizeof(twin.root), "%s/host", fixture->directory);
    assert_int_equal(mkdir(twin.root, 0755), 0);
    unsigned most = 0;
    for (unsigned n = 0; n < scaled(4000, 1000); n++) {
        step_on_both_sides(&twin);
        if (n % 100 == 0) {
            unsigned found = compare_directories(&twin, twin.root, ROOT);
            most = found > most ? found : most;
            assert_true(examine(twin.store).entries == found);
        }
    }
    assert_true(most > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(new_records_are_as_ordered),
        test_with_store(ids_are_never_given_out_twice),
        test_with_store(name_that_exists_is_eexist),
        test_with_store(names_and_parents_that_cannot_be_are_refused),
        test_with_store(looking_up_what_is_not_there),
        test_with_store(staging_is_a_directory_above_all_users),
        test_with_store(set_gid_directory_hands_its_group_down),
        test_with_store(links_are_counted),
        test_with_store(directories_have_one_name),
        test_with_store(symlinks_can_be_linked_too),
        test_with_store(two_names_of_one_file_stay_when_one_is_moved_over_the_other),
        test_with_store(removal_wants_the_right_kind),
        test_with_store(rename_of_every_kind_to_every_kind),
        test_with_store(directory_does_not_move_into_itself),
        test_with_store(reserved_name_is_nobodys),
        test_with_store(names_change_the_times_of_their_directories),
        test_with_store(failing_changes_leave_the_times),
        test_with_store(listing_tells_attributes_of_all_kinds),
        test_with_store(random_changes_do_what_the_host_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
