/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes that rot on the disk are told when they are read, and by name. */
#include "support.h"

#include "store/extent.h"
#include "store/record.h"
#include "store/verify.h"

#define ROOT STORE_ROOT_ID
#define EXTENT ((size_t)128 << 10)

/* Turn a byte of data.mdb over; through the store's own descriptor, since closing any other
 * would drop LMDB's locks. */
static void rot(struct store *store, off_t at)
{
    char byte;
    assert_int_equal(pread(env_fd(store->env), &byte, 1, at), 1);
    byte = (char)~byte;
    assert_int_equal(pwrite(env_fd(store->env), &byte, 1, at), 1);
}

/* Where the payload of a record has its byte `offset`. */
static off_t place_of(struct store *store, uint64_t id, uint64_t offset)
{
    assert_int_equal(store_sync(store), 0);
    struct layout_record record;
    MDB_val payload;
    struct span span;
    struct view *view = begin_read(store);
    assert_int_equal(record_get(store, view, id, &record, &payload), 0);
    off_t place;
    if (record.place == LAYOUT_INLINE) {
        place = env_offset(store->env, view->txn, payload.mv_data) + (off_t)offset;
    } else {
        assert_int_equal(content_locate(store, view, record.link, record.size, offset, 1, &span, 1),
                         1);
        place = span.offset;
    }
    end_read(store, view);
    return place;
}

static uint64_t damages(struct store *store)
{
    struct store_stat stat;
    must(store_stat(store, false, &stat) == 0);
    return stat.damages;
}

/* A warning that names the file; the next one is new again. */
static void assert_warned(struct fixture *fixture, const char *path)
{
    with_mutex(&fixture->lock);
    if (strstr(fixture->warning, path) == NULL || strstr(fixture->warning, "damaged") == NULL)
        fail_msg("\"%s\" does not name %s", fixture->warning, path);
    fixture->warning[0] = '\0';
}

static void assert_not_warned(struct fixture *fixture)
{
    with_mutex(&fixture->lock);
    assert_string_equal(fixture->warning, "");
}

static void damage_of_every_kind_of_payload_is_told_by_name(void **state)
{
    struct fixture *fixture = *state;
    const size_t sizes[] = {1, 1926, 1927, 4080, 4081, EXTENT, 3 * EXTENT + 5};
    uint64_t directory = make_directory(fixture->store, ROOT, "some where");
    for (size_t i = 0; i < array_length(sizes); i++) {
        char name[16], path[64], *found = malloc(sizes[i]);
        snprintf(name, sizeof(name), "%zu", sizes[i]);
        snprintf(path, sizeof(path), "some where/%zu", sizes[i]);
        char *bytes = random_bytes(i, sizes[i]);
        uint64_t id = write_file(fixture->store, directory, name, bytes, sizes[i]);
        const size_t spots[] = {0, sizes[i] / 2, sizes[i] - 1};
        for (size_t j = 0; j < array_length(spots); j++) {
            fixture_reopen(fixture); /* what was verified is forgotten */
            struct store *store = fixture->store;
            off_t place = place_of(store, id, spots[j]);
            rot(store, place);
            assert_int_equal(store_read(store, id, found, sizes[i], 0), -EIO);
            assert_warned(fixture, path);
            /* A part of it that is whole is refused as well. */
            assert_int_equal(store_read(store, id, found, 1, (off_t)spots[j]), -EIO);
            assert_warned(fixture, path);
            assert_int_equal(damages(store), 2);
            rot(store, place);
            assert_int_equal(store_read(store, id, found, sizes[i], 0), sizes[i]);
            assert_memory_equal(found, bytes, sizes[i]);
            assert_not_warned(fixture);
        }
        free(bytes);
        free(found);
    }
}

static void damaged_target_is_told(void **state)
{
    struct fixture *fixture = *state;
    struct store_attr attr;
    char target[3001], found[3000];
    memset(target, 't', 3000);
    for (int length = 6; length <= 3000; length += 2994) {
        target[length] = '\0';
        assert_int_equal(store_symlink(fixture->store, ROOT, length == 6 ? "short" : "long", target,
                                       &OWNER_FILE, &attr),
                         0);
        target[length] = 't';
        off_t place = place_of(fixture->store, attr.id, 3);
        rot(fixture->store, place);
        assert_int_equal(store_read(fixture->store, attr.id, found, sizeof(found), 0), -EIO);
        assert_warned(fixture, length == 6 ? "short" : "long");
        rot(fixture->store, place);
        assert_int_equal(store_read(fixture->store, attr.id, found, sizeof(found), 0), length);
    }
}

static void damage_in_one_extent_leaves_the_others(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    char *bytes = random_bytes(1, 3 * EXTENT), *found = malloc(3 * EXTENT);
    uint64_t id = write_file(store, ROOT, "a", bytes, 3 * EXTENT);
    off_t place = place_of(store, id, EXTENT + 77);
    rot(store, place);
    assert_int_equal(store_read(store, id, found, EXTENT, 0), EXTENT);
    assert_memory_equal(found, bytes, EXTENT);
    assert_int_equal(store_read(store, id, found, EXTENT, 2 * EXTENT), EXTENT);
    assert_memory_equal(found, bytes + 2 * EXTENT, EXTENT);
    assert_not_warned(fixture);
    assert_int_equal(store_read(store, id, found, 3 * EXTENT, 0), -EIO);
    assert_warned(fixture, "a");
    assert_int_equal(store_read(store, id, found, 1, EXTENT), -EIO);
    assert_warned(fixture, "a");
    rot(store, place);
    free(bytes);
    free(found);
}

/* Of an extent only the pieces that are read are looked at, and the others are found sound later.
 */
static void damage_in_one_piece_leaves_the_others(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    const size_t size = 20 << 20, piece = LAYOUT_PIECE_LEAST; /* extents of 1 MiB */
    char *bytes = random_bytes(1, size), *found = malloc(size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    off_t places[] = {place_of(store, id, 5 * piece + 1), place_of(store, id, (2 << 20) - 1)};
    for (size_t i = 0; i < array_length(places); i++)
        rot(store, places[i]);
    const struct {
        off_t offset;
        size_t size;
        bool sound;
    } reads[] = {
        {0, 5 * piece, true},
        {6 * piece, (1 << 20) - 6 * piece, true},
        {5 * piece - 1, 1, true},
        {5 * piece, 1, false},
        {6 * piece - 1, 2, false},
        {5 * piece - 1, 3, false},
        {6 * piece + 10, 2, true},
        {1 << 20, (1 << 20) - piece, true},
        {(2 << 20) - 10, 20, false},
        {2 << 20, 18 << 20, true},
        {0, size, false},
    };
    for (size_t i = 0; i < array_length(reads); i++) {
        ssize_t n = store_read(store, id, found, reads[i].size, reads[i].offset);
        assert_int_equal(n, reads[i].sound ? (ssize_t)reads[i].size : -EIO);
        if (reads[i].sound) {
            assert_memory_equal(found, bytes + reads[i].offset, reads[i].size);
            assert_not_warned(fixture);
        } else {
            assert_warned(fixture, "a");
        }
    }
    for (size_t i = 0; i < array_length(places); i++)
        rot(store, places[i]);
    assert_true(holds(store, id, bytes, size));
    free(bytes);
    free(found);
}

/* Past the cache or not: the same bytes and the same errors, aligned and not. */
static void direct_reads_are_verified_too(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    char why[STORE_WHY_MAX];
    const size_t size = (9 << 20) + 4097;
    void *found = NULL;
    char *bytes = random_bytes(1, size);
    uint64_t id = write_file(store, ROOT, "a", bytes, size);
    assert_int_equal(posix_memalign(&found, 4096, size + 8192), 0);
    assert_int_equal(store_read_direct(store, why), 0);
    struct random random = random_new(5);
    for (unsigned i = 0; i < scaled(300, 50); i++) {
        bool aligned = i % 3 != 0;
        size_t offset = random_below(&random, size), length = 1 + random_below(&random, 1 << 20);
        offset &= aligned ? ~(size_t)4095 : ~(size_t)0;
        length = aligned ? (length + 4095) & ~(size_t)4095 : length;
        size_t expected = offset + length < size ? length : size - offset;
        assert_int_equal(store_read(store, id, found, length, (off_t)offset), expected);
        assert_memory_equal(found, bytes + offset, expected);
    }
    assert_int_equal(store_read(store, id, found, size + 8192, 0), size);
    assert_memory_equal(found, bytes, size);
    /* Both descriptors see one file. */
    uint64_t second = write_file(store, ROOT, "b", bytes, size);
    off_t place = place_of(store, second, 3 << 20);
    rot(store, place);
    assert_int_equal(fdatasync(env_fd(store->env)), 0);
    assert_int_equal(store_read(store, second, found, 1 << 20, 2 << 20), 1 << 20);
    assert_int_equal(store_read(store, second, found, 1 << 20, 3 << 20), -EIO);
    assert_warned(fixture, "b");
    rot(store, place);
    free(bytes);
    free(found);
}

static void what_was_verified_is_remembered_by_extent(void **state)
{
    (void)state;
    struct verified *verified = verified_new();
    assert_int_equal(verified_pieces(verified, 100, 0), 0);
    verified_add(verified, 100, 0, 5);
    verified_add(verified, 100, 0, 8);
    verified_add(verified, 100, 4096, 1);
    assert_int_equal(verified_pieces(verified, 100, 0), 13);
    assert_int_equal(verified_pieces(verified, 100, 4096), 1);
    assert_int_equal(verified_pieces(verified, 101, 0), 0);
    assert_int_equal(verified_verdict(verified, 100), VERDICT_NONE);
    verified_judge(verified, 100, VERDICT_SOUND);
    assert_int_equal(verified_verdict(verified, 100), VERDICT_SOUND);
    verified_judge(verified, 100, VERDICT_DAMAGED);
    assert_int_equal(verified_verdict(verified, 100), VERDICT_DAMAGED);
    /* Who comes later to a full table pushes out, and is never taken for another. */
    for (uint64_t content = 200; content < 200000; content++)
        verified_add(verified, content, 0, content);
    for (uint64_t content = 200; content < 200000; content++) {
        uint64_t pieces = verified_pieces(verified, content, 0);
        assert_true(pieces == 0 || pieces == content);
    }
    verified_free(verified);
}

static void wrong_header_is_damage(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    char *bytes = random_bytes(1, 5000), found[5000];
    uint64_t id = write_file(store, ROOT, "a", bytes, 5000);
    off_t header = place_of(store, id, 0) - 4080;
    const off_t fields[] = {0, 8, 16, 24, 39}; /* content, offset, length, hash, its end */
    for (size_t i = 0; i < array_length(fields); i++) {
        rot(store, header + fields[i]);
        assert_int_equal(store_read(store, id, found, 5000, 0), -EIO);
        assert_warned(fixture, "a");
        rot(store, header + fields[i]);
    }
    assert_true(holds(store, id, bytes, 5000));
    free(bytes);
}

/* Another version's page in place of ours: its own hash is right. */
static void extent_of_another_content_is_damage(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    char *bytes = random_bytes(1, 10000), page[2][8192], found[5000];
    uint64_t a = write_file(store, ROOT, "a", bytes, 4090);
    uint64_t b = write_file(store, ROOT, "b", bytes + 5000, 4090);
    off_t places[2] = {place_of(store, a, 0) - 4080, place_of(store, b, 0) - 4080};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pread(env_fd(store->env), page[i], 8176, places[i]), 8176);
    assert_int_equal(pwrite(env_fd(store->env), page[1], 8176, places[0]), 8176);
    assert_int_equal(store_read(store, a, found, 5000, 0), -EIO);
    assert_warned(fixture, "a");
    assert_int_equal(store_read(store, b, found, 5000, 0), 4090);
    assert_int_equal(pwrite(env_fd(store->env), page[0], 8176, places[0]), 8176);
    free(bytes);
}

static struct store_stat stat_of(struct store *store)
{
    struct store_stat stat;
    must(store_stat(store, false, &stat) == 0);
    return stat;
}

/* Damage that comes after the first read is found by who looks each time. */
static void later_damage_is_found_by_looking_always(void **state)
{
    struct fixture *fixture = *state;
    char *bytes = random_bytes(1, 2 * EXTENT), *found = malloc(2 * EXTENT);
    uint64_t id = write_file(fixture->store, ROOT, "a", bytes, 2 * EXTENT);
    const enum store_verify whens[] = {STORE_VERIFY_FIRST, STORE_VERIFY_ALWAYS};
    for (size_t i = 0; i < array_length(whens); i++) {
        fixture->options.verify = whens[i];
        fixture_reopen(fixture);
        struct store *store = fixture->store;
        assert_true(holds(store, id, bytes, 2 * EXTENT));
        off_t place = place_of(store, id, EXTENT + 9);
        rot(store, place);
        bool looks = whens[i] == STORE_VERIFY_ALWAYS;
        assert_int_equal(store_read(store, id, found, 10, EXTENT), looks ? -EIO : 10);
        assert_int_equal(stat_of(store).damages, looks);
        if (looks)
            assert_warned(fixture, "a");
        rot(store, place);
    }
    free(bytes);
    free(found);
}

static void nobody_looks_if_told_never_to(void **state)
{
    struct fixture *fixture = *state;
    const size_t sizes[] = {100, 3000, EXTENT + 1};
    fixture->options.verify = STORE_VERIFY_NEVER;
    fixture_reopen(fixture);
    struct store *store = fixture->store;
    for (size_t i = 0; i < array_length(sizes); i++) {
        char *bytes = random_bytes(i, sizes[i]), *found = malloc(sizes[i]);
        uint64_t id = write_file(store, ROOT, "a", bytes, sizes[i]);
        off_t place = place_of(store, id, 50);
        rot(store, place);
        assert_int_equal(store_read(store, id, found, sizes[i], 0), sizes[i]);
        assert_int_equal(found[50], (char)~bytes[50]);
        rot(store, place);
        free(bytes);
        free(found);
    }
    assert_int_equal(stat_of(store).verified, 0);
    assert_int_equal(stat_of(store).damages, 0);
    assert_not_warned(fixture);
}

static void what_was_compared_is_counted(void **state)
{
    struct fixture *fixture = *state;
    char *bytes = random_bytes(1, 2 * EXTENT);
    uint64_t small = write_file(fixture->store, ROOT, "small", bytes, 100);
    uint64_t large = write_file(fixture->store, ROOT, "large", bytes, 2 * EXTENT);
    for (int always = 0; always < 2; always++) {
        char found[100];
        fixture->options.verify = always ? STORE_VERIFY_ALWAYS : STORE_VERIFY_FIRST;
        fixture_reopen(fixture);
        struct store *store = fixture->store;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(store_read(store, small, found, 100, 0), 100);
            assert_int_equal(store_read(store, large, found, 10, EXTENT - 5), 10);
        }
        struct store_stat stat = stat_of(store);
        uint64_t pieces = always ? 6 : 2;
        assert_int_equal(stat.verified, 3 + pieces);
        assert_int_equal(stat.verified_bytes, 3 * 100 + pieces * LAYOUT_PIECE_LEAST);
    }
    free(bytes);
}

static void what_is_gone_is_no_damage(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    assert_true(verify_is_gone(store, 123456));
    assert_int_equal(verify_report(store, 123456, 0, "nothing"), -ENOENT);
    uint64_t id = write_file(store, ROOT, "a", "x", 1);
    assert_false(verify_is_gone(store, id));
    assert_int_equal(damages(store), 0);
    assert_not_warned(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(damage_of_every_kind_of_payload_is_told_by_name),
        test_with_store(damaged_target_is_told),
        test_with_store(damage_in_one_extent_leaves_the_others),
        test_with_store(damage_in_one_piece_leaves_the_others),
        test_with_store(direct_reads_are_verified_too),
        cmocka_unit_test(what_was_verified_is_remembered_by_extent),
        test_with_store(wrong_header_is_damage),
        test_with_store(extent_of_another_content_is_damage),
        test_with_store(later_damage_is_found_by_looking_always),
        test_with_store(nobody_looks_if_told_never_to),
        test_with_store(what_was_compared_is_counted),
        test_with_store(what_is_gone_is_no_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
