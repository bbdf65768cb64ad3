/* SPDX-License-Identifier: BSD-2-Clause */
/* Names in directories: their bytes, their order, cursors, and names that share a place. */
#include "support.h"

#include <xxhash.h>

#include "store/entry.h"

#define DIR ((uint64_t)70)

struct name {
    char text[STORE_NAME_MAX + 1];
};

static struct entry file(uint64_t id)
{
    return (struct entry){id, S_IFREG};
}

static void put(struct store *store, uint64_t parent, const char *name, uint64_t id)
{
    struct view *view = begin_change(store);
    struct entry entry = file(id);
    assert_int_equal(entry_put(store, view, parent, name, &entry), 0);
    commit_change(store, view);
}

static int removed(struct store *store, uint64_t parent, const char *name)
{
    struct view *view = begin_change(store);
    int r = entry_remove(store, view, parent, name);
    commit_change(store, view);
    return r;
}

/* The id that a name leads to, or the errno. */
static int64_t get(struct store *store, uint64_t parent, const char *name)
{
    struct entry entry;
    struct view *view = begin_read(store);
    int r = entry_get(store, view, parent, name, &entry);
    end_read(store, view);
    return r < 0 ? r : (int64_t)entry.id;
}

/* --------------------------------------------------------------- listing -- */

struct listed {
    struct name names[4096];
    uint64_t ids[4096], next[4096];
    size_t count, room; /* stops when there is no room */
};

static bool note(void *arg, const char *name, const struct entry *entry, uint64_t next)
{
    struct listed *listed = arg;
    assert_int_equal(entry->type, S_IFREG);
    if (listed->count == listed->room)
        return false;
    assert_true(listed->count < array_length(listed->names));
    snprintf(listed->names[listed->count].text, sizeof(struct name), "%s", name);
    listed->ids[listed->count] = entry->id;
    listed->next[listed->count++] = next;
    return true;
}

static struct listed *list(struct store *store, uint64_t parent, uint64_t cursor, size_t room)
{
    struct listed *listed = calloc(1, sizeof(*listed));
    listed->room = room;
    struct view *view = begin_read(store);
    assert_int_equal(entry_list(store, view, parent, cursor, note, listed), 0);
    end_read(store, view);
    return listed;
}

static void check_count(struct store *store, uint64_t parent, size_t expected)
{
    struct listed *listed = list(store, parent, 0, SIZE_MAX);
    assert_int_equal(listed->count, expected);
    free(listed);
}

/* ----------------------------------------------------------------- names -- */

static void name_leads_where_it_was_put_last(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    assert_int_equal(get(store, DIR, "a"), -ENOENT);
    put(store, DIR, "a", 100);
    assert_int_equal(get(store, DIR, "a"), 100);
    put(store, DIR, "a", 101);
    assert_int_equal(get(store, DIR, "a"), 101);
    assert_int_equal(get(store, DIR + 1, "a"), -ENOENT);
    assert_int_equal(get(store, DIR, "A"), -ENOENT);
    assert_int_equal(removed(store, DIR, "a"), 0);
    assert_int_equal(removed(store, DIR, "a"), -ENOENT);
    assert_int_equal(get(store, DIR, "a"), -ENOENT);
}

static void type_is_kept(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK};
    struct view *view = begin_change(store);
    for (size_t i = 0; i < array_length(types); i++) {
        struct entry entry = {200 + i, types[i] | 0644}, found;
        assert_int_equal(entry_put(store, view, DIR, "x", &entry), 0);
        assert_int_equal(entry_get(store, view, DIR, "x", &found), 0);
        assert_int_equal(found.type, types[i]);
    }
    assert_int_equal(entry_remove(store, view, DIR, "x"), 0);
    commit_change(store, view);
}

static void names_have_1_to_255_bytes(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char name[300];
    for (size_t length = 1; length <= 255; length++) {
        memset(name, 'n', length);
        name[length] = '\0';
        put(store, DIR, name, 1000 + length);
    }
    for (size_t length = 1; length <= 255; length++) {
        memset(name, 'n', length);
        name[length] = '\0';
        assert_int_equal(get(store, DIR, name), 1000 + length);
    }
    check_count(store, DIR, 255);

    memset(name, 'n', 256);
    name[256] = '\0';
    const struct entry entry = file(1);
    struct view *view = begin_change(store);
    assert_int_equal(entry_put(store, view, DIR, name, &entry), -ENAMETOOLONG);
    assert_int_equal(entry_remove(store, view, DIR, name), -ENAMETOOLONG);
    assert_int_equal(entry_put(store, view, DIR, "", &entry), -ENOENT);
    commit_change(store, view);
    assert_int_equal(get(store, DIR, name), -ENAMETOOLONG);
    assert_int_equal(get(store, DIR, ""), -ENOENT);
    check_count(store, DIR, 255);
}

static void names_have_all_bytes_but_slash_and_nul(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (int c = 1; c < 256; c++) {
        const char name[] = {(char)c, (char)(256 - c), '\0'};
        if (c != '/')
            put(store, DIR, name, 1000 + (unsigned)c);
    }
    struct listed *listed = list(store, DIR, 0, SIZE_MAX);
    assert_int_equal(listed->count, 254);
    for (size_t i = 0; i < listed->count; i++) {
        int c = (unsigned char)listed->names[i].text[0];
        assert_int_equal(listed->ids[i], 1000 + c);
        assert_int_equal((unsigned char)listed->names[i].text[1], 256 - c);
        assert_int_equal(strlen(listed->names[i].text), 2);
        assert_int_equal(get(store, DIR, listed->names[i].text), 1000 + c);
    }
    free(listed);
}

/* --------------------------------------------------------------- listing -- */

static void directory_without_entries_is_empty(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    put(store, DIR - 1, "before", 1);
    put(store, DIR + 1, "behind", 1);
    struct view *view = begin_read(store);
    assert_int_equal(entry_none(store, view, DIR), 1);
    assert_int_equal(entry_none(store, view, DIR + 1), 0);
    end_read(store, view);
    check_count(store, DIR, 0);
    put(store, DIR, "x", 1);
    view = begin_read(store);
    assert_int_equal(entry_none(store, view, DIR), 0);
    end_read(store, view);
}

static void fill(struct store *store, unsigned count)
{
    struct view *view = begin_change(store);
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        struct entry entry = file(1000 + i);
        snprintf(name, sizeof(name), "file-%u", i);
        assert_int_equal(entry_put(store, view, DIR, name, &entry), 0);
        /* Neighbours that must not be listed. */
        assert_int_equal(entry_put(store, view, DIR - 1, name, &entry), 0);
        assert_int_equal(entry_put(store, view, DIR + 1, name, &entry), 0);
    }
    commit_change(store, view);
}

static void listing_has_all_in_the_order_of_places(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    fill(store, 3000);
    struct listed *listed = list(store, DIR, 0, SIZE_MAX);
    assert_int_equal(listed->count, 3000);
    bool seen[3000] = {false};
    uint64_t last = 0;
    for (size_t i = 0; i < listed->count; i++) {
        uint64_t place = entry_place(listed->names[i].text, strlen(listed->names[i].text));
        assert_true(place >= STORE_CURSOR_MIN && place < INT64_MAX);
        assert_true(place > last);
        assert_int_equal(listed->next[i], place + 1);
        assert_false(seen[listed->ids[i] - 1000]);
        seen[listed->ids[i] - 1000] = true;
        last = place;
    }
    free(listed);
}

static void pieces_of_any_size_make_the_whole(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    fill(store, 500);
    struct listed *whole = list(store, DIR, 0, SIZE_MAX);
    const size_t pieces[] = {1, 2, 7, 499, 500, 501};
    for (size_t p = 0; p < array_length(pieces); p++) {
        uint64_t cursor = 0;
        size_t done = 0;
        for (;;) {
            struct listed *piece = list(store, DIR, cursor, pieces[p]);
            for (size_t i = 0; i < piece->count; i++)
                assert_string_equal(piece->names[i].text, whole->names[done + i].text);
            done += piece->count;
            cursor = piece->count > 0 ? piece->next[piece->count - 1] : 0;
            bool end = piece->count == 0;
            free(piece);
            if (end)
                break;
        }
        assert_int_equal(done, whole->count);
    }
    free(whole);
}

static void cursors_outlive_changes_and_restarts(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture->store, 200);
    struct listed *whole = list(fixture->store, DIR, 0, SIZE_MAX);
    for (size_t i = 1; i + 1 < whole->count; i += 20) {
        /* Removed behind the cursor, replaced before it and after it. */
        assert_int_equal(removed(fixture->store, DIR, whole->names[i].text), 0);
        put(fixture->store, DIR, whole->names[i + 1].text, 77777);
        put(fixture->store, DIR, whole->names[i - 1].text, 88888);
        if (i % 3 == 0)
            fixture_reopen(fixture);
        struct listed *rest = list(fixture->store, DIR, whole->next[i], SIZE_MAX);
        assert_int_equal(rest->count, whole->count - i - 1);
        assert_string_equal(rest->names[0].text, whole->names[i + 1].text);
        assert_int_equal(rest->ids[0], 77777);
        assert_int_equal(rest->next[0], whole->next[i + 1]);
        free(rest);
    }
    free(whole);
}

/* ---------------------------------------------------- names that share a place -- */

/*
 * For 4 to 8 bytes XXH3-64 is a bijection of the bytes (xxhash.h: XXH3_len_4to8_64b). Undone, it
 * gives the name for a hash, and as the place leaves out the hash's last bit, each place has
 * a second name.
 */
#define PRIME_MX2 UINT64_C(0x9FB21C651E98DF25)

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t inverse(uint64_t odd)
{
    uint64_t x = odd; /* right in 3 bits; each step doubles them */
    for (int i = 0; i < 5; i++)
        x *= 2 - odd * x;
    return x;
}

/* Undo XXH3_rrmxmx(): the words that it mixed into `hash`. */
static uint64_t unmix(uint64_t hash, uint64_t length)
{
    uint64_t h = hash ^ hash >> 28 ^ hash >> 56;
    h *= inverse(PRIME_MX2);
    h ^= (h >> 35) + length; /* the upper 35 bits are as they were */
    h *= inverse(PRIME_MX2);
    /* h = x ^ rotl(x, 49) ^ rotl(x, 24), a matrix whose order is 64: apply it 63 times more. */
    for (int i = 0; i < 63; i++)
        h ^= rotate(h, 49) ^ rotate(h, 24);
    return h;
}

/* The name of 8 bytes with this hash; false if it has bytes that names don't have. */
static bool name_with_hash(uint64_t hash, struct name *name)
{
    static const char known[] = "12345678";
    uint32_t low, high;
    memcpy(&low, known, sizeof(low));
    memcpy(&high, known + 4, sizeof(high));
    uint64_t flip = unmix(XXH3_64bits(known, 8), 8) ^ (high + ((uint64_t)low << 32));

    uint64_t word = unmix(hash, 8) ^ flip;
    low = (uint32_t)(word >> 32);
    high = (uint32_t)word;
    memcpy(name->text, &low, sizeof(low));
    memcpy(name->text + 4, &high, sizeof(high));
    name->text[8] = '\0';
    assert_true(XXH3_64bits(name->text, 8) == hash);
    return memchr(name->text, '\0', 8) == NULL && memchr(name->text, '/', 8) == NULL;
}

/* Makes a pair of names with one place. */
static void make_twins(struct random *random, struct name twins[2])
{
    uint64_t hash;
    do
        hash = random_next(random);
    while (!name_with_hash(hash, &twins[0]) || !name_with_hash(hash ^ 1, &twins[1]));
    assert_true(entry_place(twins[0].text, 8) == entry_place(twins[1].text, 8));
}

static void twins_are_two_names(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct random random = random_new(1);
    for (int i = 0; i < 20; i++) {
        struct name twins[2];
        make_twins(&random, twins);
        put(store, DIR, twins[0].text, 1);
        assert_int_equal(get(store, DIR, twins[1].text), -ENOENT);
        put(store, DIR, twins[1].text, 2);
        assert_int_equal(get(store, DIR, twins[0].text), 1);
        assert_int_equal(get(store, DIR, twins[1].text), 2);
        check_count(store, DIR, 2);
        assert_int_equal(removed(store, DIR, twins[0].text), 0);
        assert_int_equal(get(store, DIR, twins[1].text), 2);
        assert_int_equal(removed(store, DIR, twins[1].text), 0);
    }
}

/* No name is lost to a cursor, whatever the size of the pieces; the price is that a
 * name before its twin can come twice. */
static void listing_that_stops_between_twins_loses_none(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct random random = random_new(2);
    for (uint64_t i = 0; i < 50; i++) {
        struct name twins[2];
        make_twins(&random, twins);
        put(store, DIR, twins[0].text, 1000 + 2 * i);
        put(store, DIR, twins[1].text, 1001 + 2 * i);
    }
    for (size_t piece_size = 2; piece_size < 9; piece_size++) {
        unsigned seen[100] = {0};
        uint64_t cursor = 0;
        for (size_t n = 1; n > 0;) {
            struct listed *piece = list(store, DIR, cursor, piece_size);
            n = piece->count;
            for (size_t i = 0; i < n; i++)
                seen[piece->ids[i] - 1000]++;
            cursor = n > 0 ? piece->next[n - 1] : 0;
            free(piece);
        }
        for (size_t i = 0; i < 100; i++)
            assert_in_range(seen[i], 1, 2);
    }
    struct listed *whole = list(store, DIR, 0, SIZE_MAX);
    assert_int_equal(whole->count, 100);
    free(whole);
}

static void places_keep_to_their_limits(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct name name;
    size_t low = 0, high = 0;
    for (uint64_t hash = 0; hash < 18; hash++) {
        if (name_with_hash(hash, &name)) {
            assert_int_equal(entry_place(name.text, 8), STORE_CURSOR_MIN);
            put(store, DIR, name.text, 1000 + hash);
            low++;
        }
        if (name_with_hash(UINT64_MAX - hash % 4, &name)) {
            assert_int_equal(entry_place(name.text, 8), INT64_MAX - 1);
            put(store, DIR, name.text, 2000 + hash % 4);
            high = hash < 4 ? high + 1 : high;
        }
    }
    assert_true(low >= 2 && high >= 1);
    struct listed *listed = list(store, DIR, 0, SIZE_MAX);
    assert_int_equal(listed->count, low + high);
    assert_int_equal(listed->next[low - 1], STORE_CURSOR_MIN + 1);
    assert_int_equal(listed->next[low + high - 1], INT64_MAX);
    free(listed);
    listed = list(store, DIR, INT64_MAX, SIZE_MAX);
    assert_int_equal(listed->count, 0);
    free(listed);
}

/* Names and ids as the tests like them are no sound tree: the examination is not for them. */
static int teardown(void **state)
{
    fixture_close(*state);
    return fixture_teardown(state);
}

int main(void)
{
#define test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, teardown)
    const struct CMUnitTest tests[] = {
        test(name_leads_where_it_was_put_last),
        test(type_is_kept),
        test(names_have_1_to_255_bytes),
        test(names_have_all_bytes_but_slash_and_nul),
        test(directory_without_entries_is_empty),
        test(listing_has_all_in_the_order_of_places),
        test(pieces_of_any_size_make_the_whole),
        test(cursors_outlive_changes_and_restarts),
        test(twins_are_two_names),
        test(listing_that_stops_between_twins_loses_none),
        test(places_keep_to_their_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
