/* SPDX-License-Identifier: BSD-2-Clause */
/* Large payloads: written, found at every offset, aligned in the file, cleared, and missed when
 * gone. */
#include "support.h"

#include <xxhash.h>

#include "store/extent.h"
#include "store/orphan.h"

#define EXTENT ((size_t)128 << 10)
#define SPANS 256

/* Content of all boundaries of the layout at 4,096. */
static const size_t sizes[] = {
    1,          1926,       1927,    2014,           2015,           4079,
    4080,       4081,       4096,    4097,           8191,           8192,
    8193,       EXTENT - 1, EXTENT,  EXTENT + 1,     2 * EXTENT - 1, 2 * EXTENT,
    5 * EXTENT, 300001,     1000003, 4 * EXTENT + 1,
};

struct content {
    uint64_t id;
    char *bytes;
    size_t size;
    uint64_t offset; /* how far it is written */
    XXH3_state_t *hash;
};

static struct content new_content(uint64_t id, size_t size)
{
    struct content content = {id, random_bytes(id * 31 + size, size), size, 0, XXH3_createState()};
    XXH3_128bits_reset(content.hash);
    return content;
}

static void free_content(struct content *content)
{
    free(content->bytes);
    XXH3_freeState(content->hash);
}

/* One transaction's worth; true at the end. */
static bool write_step(struct store *store, struct content *content)
{
    struct payload payload = {.fd = host_file(content->bytes, content->size),
                              .size = content->size};
    struct view *view = begin_change(store);
    uint64_t next = 0;
    assert_int_equal(
        content_write(store, view, content->id, &payload, content->offset, content->hash, &next),
        0);
    commit_change(store, view);
    close(payload.fd);
    assert_true(next > content->offset && next <= content->size);
    content->offset = next;
    return next == content->size;
}

static struct content written(struct store *store, uint64_t id, size_t size)
{
    struct content content = new_content(id, size);
    while (!write_step(store, &content))
        ;
    return content;
}

/* What content_locate() says is where the bytes are, and covers all that exists. */
static void check_range(struct store *store, const struct content *content, uint64_t offset,
                        size_t length)
{
    struct span spans[SPANS];
    size_t end = offset + length < content->size ? offset + length : content->size;
    size_t expected = offset < end ? end - offset : 0;
    struct view *view = begin_read(store);
    int n = content_locate(store, view, content->id, content->size, offset, length, spans, SPANS);
    end_read(store, view);
    assert_in_range(n, expected > 0, SPANS);
    char *found = malloc(expected + 1);
    size_t done = 0;
    for (int i = 0; i < n; i++) {
        assert_true(spans[i].length > 0 && spans[i].length <= expected - done);
        if (content->size > layout_packed_max(store->page_size))
            assert_int_equal((spans[i].offset - (off_t)(offset + done)) % 4096, 0);
        assert_int_equal(pread(env_fd(store->env), found + done, spans[i].length, spans[i].offset),
                         spans[i].length);
        done += spans[i].length;
    }
    assert_int_equal(done, expected);
    if (expected > 0)
        assert_memory_equal(found, content->bytes + offset, expected);
    free(found);
}

static void check_all(struct store *store, const struct content *content)
{
    check_range(store, content, 0, content->size);
    check_range(store, content, 0, content->size + 100000);
    check_range(store, content, content->size, 10);
    check_range(store, content, content->size + 1, 10);
    check_range(store, content, (uint64_t)1 << 40, 10);
    check_range(store, content, content->size - 1, 1);
    check_range(store, content, 0, 0);
    const size_t edges[] = {1,          2014,   2015,       4080,           4095,          4096,
                            EXTENT - 1, EXTENT, EXTENT + 1, 2 * EXTENT - 1, 3 * EXTENT + 1};
    for (size_t i = 0; i < array_length(edges); i++)
        for (size_t j = 0; j < array_length(edges); j++)
            check_range(store, content, edges[i], edges[j]);
}

static uint64_t extents(struct store *store)
{
    MDB_stat stat;
    struct view *view = begin_read(store);
    assert_int_equal(mdb_stat(view->txn, store->tables.extents, &stat), 0);
    end_read(store, view);
    return stat.ms_entries;
}

static void clear(struct store *store, uint64_t content)
{
    int r = 1;
    while (r == 1) {
        struct view *view = begin_change(store);
        r = content_clear(store, view, content);
        commit_change(store, view);
    }
    assert_int_equal(r, 0);
}

/* --------------------------------------------------------------- contents -- */

static void content_of_every_size_is_found_at_every_offset(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content contents[array_length(sizes)];
    for (size_t i = 0; i < array_length(sizes); i++)
        contents[i] = written(store, 100 + i, sizes[i]);
    for (size_t i = 0; i < array_length(sizes); i++) {
        uint8_t expected[16], digest[16];
        hash_bytes(contents[i].bytes, sizes[i], expected);
        hash_finish(contents[i].hash, digest);
        assert_memory_equal(digest, expected, 16);
        check_all(store, &contents[i]);
    }
    struct random random = random_new(1);
    for (unsigned n = 0; n < scaled(2000, 300); n++) {
        const struct content *content = &contents[random_below(&random, array_length(sizes))];
        check_range(store, content, random_below(&random, content->size + 10),
                    random_below(&random, content->size + 10));
    }
    for (size_t i = 0; i < array_length(sizes); i++) {
        clear(store, 100 + i);
        free_content(&contents[i]);
    }
    assert_int_equal(extents(store), 0);
}

static void assert_zero(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        assert_int_equal(bytes[i], 0);
}

/* docs/format.md's promise to readers who map the file. */
static void values_have_the_documented_form(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (size_t i = 0; i < array_length(sizes); i++) {
        struct content content = written(store, 100 + i, sizes[i]);
        struct layout_extent_key key = {htobe64(content.id), 0};
        MDB_val k = {sizeof(key), &key}, v;
        struct view *view = begin_read(store);
        assert_int_equal(mdb_get(view->txn, store->tables.extents, &k, &v), 0);
        size_t length = sizes[i] < EXTENT ? sizes[i] : EXTENT;
        if (sizes[i] <= 4080) {
            assert_int_equal(v.mv_size, sizes[i] < 2015 ? 2015 : sizes[i]);
            assert_memory_equal(v.mv_data, content.bytes, sizes[i]);
            assert_zero((char *)v.mv_data + sizes[i], v.mv_size - sizes[i]);
        } else {
            struct layout_extent header;
            memcpy(&header, v.mv_data, sizeof(header));
            assert_int_equal(v.mv_size, 4080 + (length + 4095) / 4096 * 4096);
            assert_int_equal(header.content, content.id);
            assert_int_equal(header.offset, 0);
            assert_int_equal(header.length, length);
            size_t pieces =
                length > LAYOUT_PIECE_LEAST ? (length + (32 << 10) - 1) / (32 << 10) : 0;
            assert_int_equal(header.pieces, pieces);
            size_t used = sizeof(header) + 8 * pieces;
            assert_zero((char *)v.mv_data + used, 4080 - used);
            assert_memory_equal((char *)v.mv_data + 4080, content.bytes, length);
            assert_zero((char *)v.mv_data + 4080 + length, v.mv_size - 4080 - length);
        }
        end_read(store, view);
        clear(store, content.id);
        free_content(&content);
    }
}

/* Large records have fewer and larger extents; the writer's transactions are filled by whole ones.
 */
static void extents_grow_with_the_record(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    assert_int_equal(extent_bytes(store, 1), 128 << 10);
    assert_int_equal(extent_bytes(store, 4 << 20), 128 << 10);
    assert_int_equal(extent_bytes(store, (4 << 20) + 1), 256 << 10);
    assert_int_equal(extent_bytes(store, 64 << 20), 2 << 20);
    assert_int_equal(extent_bytes(store, (uint64_t)1 << 30), EXTENT_MOST);
    assert_int_equal(extent_bytes(store, STORE_FILE_MAX), EXTENT_MOST);
    assert_int_equal(CONTENT_STEP % EXTENT_MOST, 0);
    for (size_t length = 1; length <= EXTENT_MOST; length = length * 3 + 1)
        assert_in_range((length + layout_piece(length) - 1) / layout_piece(length), 1, 64);
    assert_int_equal(layout_piece(2 << 20), 32 << 10);
    assert_int_equal(layout_piece((2 << 20) + 1), 64 << 10);
}

static void large_content_takes_several_transactions(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t size = 2 * CONTENT_STEP + EXTENT + 17;
    struct content content = new_content(100, size);
    assert_false(write_step(store, &content));
    assert_int_equal(content.offset, CONTENT_STEP);
    assert_int_equal(content.offset % EXTENT_MOST, 0);
    assert_false(write_step(store, &content));
    assert_true(write_step(store, &content));
    check_all(store, &content);
    check_range(store, &content, CONTENT_STEP - 5, 10);
    check_range(store, &content, 2 * CONTENT_STEP - 1, 2);

    uint8_t expected[16], digest[16];
    hash_bytes(content.bytes, size, expected);
    hash_finish(content.hash, digest);
    assert_memory_equal(digest, expected, 16);

    uint64_t all = extents(store);
    struct view *view = begin_change(store);
    assert_int_equal(content_clear(store, view, 100), 1);
    commit_change(store, view);
    assert_in_range(extents(store), 1, all - 1);
    clear(store, 100);
    assert_int_equal(extents(store), 0);
    free_content(&content);
}

/* Sizes of a whole number of transactions have no empty extent at the end. */
static void whole_steps_have_no_empty_extent(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content content = new_content(100, CONTENT_STEP);
    assert_true(write_step(store, &content));
    assert_int_equal(extents(store), CONTENT_STEP / extent_bytes(store, CONTENT_STEP));
    check_all(store, &content);
    clear(store, 100);
    free_content(&content);
}

/* Two that are written in turns: their keys and pages interleave. */
static void interleaved_contents_do_not_mix(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content contents[3];
    for (size_t i = 0; i < 3; i++)
        contents[i] = new_content(200 - i, 2 * CONTENT_STEP + 1000 * i);
    for (bool done = false; !done;) {
        done = true;
        for (size_t i = 0; i < 3; i++)
            if (contents[i].offset < contents[i].size)
                done = write_step(store, &contents[i]) && done;
    }
    for (size_t i = 0; i < 3; i++)
        check_all(store, &contents[i]);
    clear(store, 199);
    check_all(store, &contents[0]);
    check_all(store, &contents[2]);
    clear(store, 200);
    clear(store, 198);
    for (size_t i = 0; i < 3; i++)
        free_content(&contents[i]);
}

/* Neighbours in the table must not be taken for parts of a content. */
static void clearing_leaves_the_neighbours(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content before = written(store, 255, 300000), behind = written(store, 257, 4000);
    clear(store, 256);
    assert_int_equal(extents(store), 4);
    check_all(store, &before);
    check_all(store, &behind);
    clear(store, 255);
    clear(store, 257);
    free_content(&before);
    free_content(&behind);
}

/* Large contents stay where they are while others come and go. */
static void places_outlive_churn(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content kept = written(store, 5000, 3 * EXTENT + 5);
    struct span before[8], after[8];
    struct view *view = begin_read(store);
    assert_int_equal(content_locate(store, view, kept.id, kept.size, 0, kept.size, before, 8), 4);
    end_read(store, view);
    struct random random = random_new(2);
    for (unsigned n = 0; n < scaled(300, 60); n++) {
        uint64_t id = random_below(&random, 2) ? 4000 + n % 20 : 6000 + n % 20;
        clear(store, id);
        struct content other = written(store, id, 1 + random_below(&random, 3 * EXTENT));
        check_range(store, &other, 0, other.size);
        free_content(&other);
    }
    view = begin_read(store);
    assert_int_equal(content_locate(store, view, kept.id, kept.size, 0, kept.size, after, 8), 4);
    end_read(store, view);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(before[i].offset, after[i].offset);
        assert_int_equal(before[i].length, after[i].length);
    }
    check_all(store, &kept);
    clear(store, 5000);
    for (uint64_t i = 0; i < 20; i++) {
        clear(store, 4000 + i);
        clear(store, 6000 + i);
    }
    free_content(&kept);
}

/* ----------------------------------------------------------------- locate -- */

static int locate(struct store *store, uint64_t content, uint64_t size, uint64_t offset,
                  size_t length, int max)
{
    struct span spans[SPANS];
    struct view *view = begin_read(store);
    int n = content_locate(store, view, content, size, offset, length, spans, max);
    end_read(store, view);
    return n;
}

static void locate_gives_at_most_what_was_asked_for(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content content = written(store, 100, 5 * EXTENT);
    assert_int_equal(locate(store, 100, content.size, 0, content.size, 3), 3);
    assert_int_equal(locate(store, 100, content.size, EXTENT - 1, 2, 8), 2);
    assert_int_equal(locate(store, 100, content.size, EXTENT - 1, 1, 8), 1);
    assert_int_equal(locate(store, 100, content.size, EXTENT, EXTENT, 8), 1);
    assert_int_equal(locate(store, 100, content.size, 0, 0, 8), 0);
    clear(store, 100);
    free_content(&content);
}

static void remove_extent(struct store *store, uint64_t content, uint64_t offset)
{
    struct layout_extent_key key = {htobe64(content), htobe64(offset)};
    MDB_val k = {sizeof(key), &key};
    struct view *view = begin_change(store);
    assert_int_equal(mdb_del(view->txn, store->tables.extents, &k, NULL), 0);
    commit_change(store, view);
}

static void missing_extent_is_eio(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t size = 4 * EXTENT;
    assert_int_equal(locate(store, 100, size, 0, 1, 8), -EIO); /* nothing at all */
    struct content before = written(store, 99, size), content = written(store, 100, size),
                   behind = written(store, 101, size);
    remove_extent(store, 100, EXTENT);
    assert_int_equal(locate(store, 100, size, 0, EXTENT, 8), 1);
    assert_int_equal(locate(store, 100, size, 0, EXTENT + 1, 8), -EIO);
    assert_int_equal(locate(store, 100, size, EXTENT, 1, 8), -EIO);
    assert_int_equal(locate(store, 100, size, 2 * EXTENT - 1, 1, 8), -EIO);
    assert_int_equal(locate(store, 100, size, 2 * EXTENT, 1, 8), 1);
    remove_extent(store, 100, 3 * EXTENT);
    assert_int_equal(locate(store, 100, size, 3 * EXTENT, 1, 8), -EIO);
    assert_int_equal(locate(store, 100, size, 2 * EXTENT, 2 * EXTENT, 8), -EIO);
    remove_extent(store, 100, 0);
    assert_int_equal(locate(store, 100, size, 0, 1, 8), -EIO);
    /* The last of the table: behind it there is nothing to stand on. */
    clear(store, 101);
    assert_int_equal(locate(store, 100, size, 3 * EXTENT, 1, 8), -EIO);
    clear(store, 100);
    assert_int_equal(locate(store, 100, size, 0, 1, 8), -EIO);
    clear(store, 99);
    free_content(&before);
    free_content(&content);
    free_content(&behind);
}

static void extent_that_is_too_short_is_eio(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content content = written(store, 100, 4080);
    assert_int_equal(locate(store, 100, 4081, 0, 4081, 8), -EIO);
    assert_int_equal(locate(store, 100, 3 * EXTENT, 0, 1, 8), -EIO);
    clear(store, 100);
    free_content(&content);
    content = written(store, 100, EXTENT);
    assert_int_equal(locate(store, 100, 3 * EXTENT, 0, EXTENT, 8), 1);
    assert_int_equal(locate(store, 100, 3 * EXTENT, EXTENT, 1, 8), -EIO);
    clear(store, 100);
    free_content(&content);
}

/* ----------------------------------------------------------------- errors -- */

static void file_that_shrank_is_enodata(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const size_t cases[] = {3000, 5000, 3 * EXTENT};
    for (size_t i = 0; i < array_length(cases); i++) {
        char *bytes = random_bytes(i, cases[i]);
        struct payload payload = {.fd = host_file(bytes, cases[i] - 1), .size = cases[i]};
        XXH3_state_t *hash = XXH3_createState();
        XXH3_128bits_reset(hash);
        uint64_t next;
        struct view *view = begin_change(store);
        assert_int_equal(content_write(store, view, 100, &payload, 0, hash, &next), -ENODATA);
        abort_change(view);
        assert_int_equal(payload_read(&payload, 0, bytes, cases[i]), -ENODATA);
        assert_int_equal(payload_read(&payload, 1, bytes, cases[i] - 2), 0);
        XXH3_freeState(hash);
        close(payload.fd);
        free(bytes);
    }
    struct payload closed = {.fd = -1, .size = 10};
    char byte;
    assert_int_equal(payload_read(&closed, 0, &byte, 1), -EBADF);
    assert_int_equal(payload_read(&closed, 0, &byte, 0), 0);
}

static void payload_can_be_in_memory(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct content content = new_content(100, 2 * EXTENT + 3);
    struct payload payload = {.fd = -1, .bytes = content.bytes, .size = content.size};
    struct view *view = begin_change(store);
    assert_int_equal(content_write(store, view, 100, &payload, 0, content.hash, &content.offset),
                     0);
    commit_change(store, view);
    assert_int_equal(content.offset, content.size);
    check_all(store, &content);
    clear(store, 100);
    free_content(&content);
}

static void content_is_entered_once(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint8_t hash[16] = {1, 2, 3};
    struct view *view = begin_change(store);
    assert_int_equal(content_leave(store, view, 100, 5000, hash), 0); /* half written */
    assert_int_equal(content_enter(store, view, 100, 5000, hash), 0);
    assert_int_equal(content_enter(store, view, 100, 5000, hash), -EEXIST);
    assert_int_equal(content_enter(store, view, 101, 5000, hash), 0); /* the same bytes twice */
    assert_int_equal(content_leave(store, view, 100, 5000, hash), 0);
    assert_int_equal(content_enter(store, view, 100, 5000, hash), 0);
    abort_change(view);
}

/* Not where the pages of this machine lie: a store of another one. */
static void contents_are_aligned_with_larger_pages_too(void **state)
{
    struct fixture *fixture = *state;
    for (long page = 8192; page <= 32768; page *= 2) {
        snprintf(fixture->path, sizeof(fixture->path), "%s/%ld", fixture->directory, page);
        pretend_page_size(page);
        fixture_open(fixture);
        pretend_page_size(0);
        fixture_reopen(fixture);
        assert_int_equal(fixture->store->page_size, page);
        size_t own = layout_own_page((size_t)page), packed = layout_packed_max((size_t)page);
        const size_t edges[] = {fixture->store->inline_max,
                                own - 1,
                                own,
                                packed,
                                packed + 1,
                                (size_t)page,
                                EXTENT + 1,
                                3 * EXTENT - 1};
        for (size_t i = 0; i < array_length(edges); i++) {
            for (size_t size = edges[i]; size <= edges[i] + 1; size++) {
                char name[32];
                snprintf(name, sizeof(name), "%zu-%zu", i, size);
                char *bytes = random_bytes(size, size);
                uint64_t id = write_file(fixture->store, STORE_ROOT_ID, name, bytes, size);
                assert_true(holds(fixture->store, id, bytes, size));
                free(bytes);
            }
        }
        (void)examine(fixture->store);
        fixture_close(fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_store(content_of_every_size_is_found_at_every_offset),
        test_with_store(values_have_the_documented_form),
        test_with_store(extents_grow_with_the_record),
        test_with_store(large_content_takes_several_transactions),
        test_with_store(whole_steps_have_no_empty_extent),
        test_with_store(interleaved_contents_do_not_mix),
        test_with_store(clearing_leaves_the_neighbours),
        test_with_store(places_outlive_churn),
        test_with_store(locate_gives_at_most_what_was_asked_for),
        test_with_store(missing_extent_is_eio),
        test_with_store(extent_that_is_too_short_is_eio),
        test_with_store(file_that_shrank_is_enodata),
        test_with_store(payload_can_be_in_memory),
        test_with_store(content_is_entered_once),
        test_with_directory(contents_are_aligned_with_larger_pages_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
