/* SPDX-License-Identifier: BSD-2-Clause */
/* Layers over a table: what is seen through them is what would be there if they were merged. */
#include "support.h"

#define KEYS 200
#define NOTHING 0

/* What each key has: by layer, NOTHING is "says nothing"; and as it is seen. */
struct model {
    unsigned seen[KEYS]; /* NOTHING: there is no such key */
};

struct key {
    char text[8];
    MDB_val value;
};

static void make_key(unsigned number, struct key *key)
{
    /* Of several lengths, some the beginning of others. */
    int length = snprintf(key->text, sizeof(key->text), "%u", number);
    key->value = (MDB_val){(size_t)length, key->text};
}

static unsigned read_value(const MDB_val *value)
{
    unsigned number;
    assert_int_equal(value->mv_size, sizeof(number));
    memcpy(&number, value->mv_data, sizeof(number));
    return number;
}

static void set(struct view *view, MDB_dbi table, unsigned number, unsigned value)
{
    struct key key;
    void *room;
    make_key(number, &key);
    assert_int_equal(view_put(view, table, &key.value, sizeof(value), &room), 0);
    memcpy(room, &value, sizeof(value));
}

static void change_some(struct view *view, MDB_dbi table, struct random *random,
                        struct model *model)
{
    for (int i = 0; i < KEYS / 3; i++) {
        unsigned number = (unsigned)random_below(random, KEYS);
        struct key key;
        make_key(number, &key);
        if (random_below(random, 3) > 0) {
            model->seen[number] = 1 + (unsigned)random_below(random, 1000000);
            set(view, table, number, model->seen[number]);
        } else {
            int r = view_remove(view, table, &key.value);
            assert_true(r == 0 || (r == -ENOENT && model->seen[number] == NOTHING));
            model->seen[number] = NOTHING;
        }
    }
}

static void assert_single(struct view *view, MDB_dbi table, const struct model *model)
{
    for (unsigned number = 0; number < KEYS; number++) {
        struct key key;
        MDB_val value;
        make_key(number, &key);
        int r = view_get(view, table, &key.value, &value);
        assert_int_equal(r, model->seen[number] == NOTHING ? -ENOENT : 0);
        if (r == 0)
            assert_int_equal(read_value(&value), model->seen[number]);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* From `from` on, in the order of keys, each once. */
static void assert_listing(struct view *view, MDB_dbi table, const struct model *model,
                           const char *from)
{
    static char texts[KEYS][8];
    const char *expected[KEYS];
    size_t count = 0;
    for (unsigned number = 0; number < KEYS; number++) {
        snprintf(texts[number], sizeof(texts[number]), "%u", number);
        if (model->seen[number] != NOTHING && strcmp(texts[number], from) >= 0)
            expected[count++] = texts[number];
    }
    qsort(expected, count, sizeof(expected[0]), by_text);

    struct view_cursor cursor;
    const MDB_val start = {strlen(from), (void *)from};
    MDB_val key, value;
    int r = view_seek(view, table, &start, &cursor, &key, &value);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(r, 0);
        assert_int_equal(key.mv_size, strlen(expected[i]));
        assert_memory_equal(key.mv_data, expected[i], key.mv_size);
        assert_int_equal(read_value(&value), model->seen[strtoul(expected[i], NULL, 10)]);
        r = view_next(&cursor, &key, &value);
    }
    assert_int_equal(r, -ENOENT);
    view_cursor_close(&cursor);
}

static void assert_seen(struct view *view, MDB_dbi table, const struct model *model)
{
    assert_single(view, table, model);
    for (const char *const *from =
             (const char *const[]){"!", "0", "1", "155", "9", "99", "x", NULL};
         *from != NULL; from++)
        assert_listing(view, table, model, *from);
}

static void layers_hide_what_is_below(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    MDB_dbi table = store->tables.extents; /* any that the store leaves alone meanwhile */
    struct random random = random_new(1);
    for (unsigned round = 0; round < scaled(30, 5); round++) {
        struct model model = {{NOTHING}};
        struct layer old = {0}, new = {0};
        struct view *view = begin_change(store);
        change_some(view, table, &random, &model);
        assert_seen(view, table, &model);

        view->changes = &old;
        view->layers[0] = &old;
        change_some(view, table, &random, &model);
        assert_seen(view, table, &model);

        view->changes = &new;
        view->layers[0] = &new;
        view->layers[1] = &old;
        change_some(view, table, &random, &model);
        assert_seen(view, table, &model);

        layer_merge(&old, &new);
        assert_true(layer_empty(&new));
        assert_int_equal(new.bytes, 0);
        view->layers[0] = &old;
        view->layers[1] = NULL;
        assert_seen(view, table, &model);
        layer_clear(&old);
        assert_int_equal(old.bytes, 0);
        abort_change(view);
    }
}

static void tables_are_kept_apart(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct layer layer = {0};
    struct view *view = begin_change(store);
    view->changes = &layer;
    view->layers[0] = &layer;
    struct model none = {{NOTHING}}, some = {{NOTHING}};
    some.seen[7] = 70;
    set(view, store->tables.contents, 7, 70);
    assert_seen(view, store->tables.contents, &some);
    assert_seen(view, store->tables.extents, &none);
    layer_clear(&layer);
    abort_change(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(layers_hide_what_is_below),
        test_with_store(tables_are_kept_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
