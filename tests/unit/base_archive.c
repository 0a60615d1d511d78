#include "base/archive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void add(struct moon_archive_writer *writer, const char *namez,
                const char *bytesz)
{
    assert_int_equal(
        moon_archive_writer_add(writer, moon_strz(namez), moon_strz(bytesz)),
        MOON_OK);
}

static struct moon_archive_writer *make(size_t files, size_t bytes)
{
    struct moon_archive_writer *writer =
        moon_archive_writer_create(files, bytes);
    assert_non_null(writer);
    return writer;
}

static struct moon_archive *finish(struct moon_archive_writer *writer)
{
    struct moon_archive *archive;
    int fd;
    assert_int_equal(moon_archive_writer_finish(writer, &fd), MOON_OK);
    assert_int_equal(moon_archive_open(fd, &archive), MOON_OK);
    (void)close(fd);
    return archive;
}

static void finds_what_was_added(void **state)
{
    struct moon_archive_writer *writer = make(100, 100);
    struct moon_str name, bytes;
    (void)state;
    add(writer, "lib/b.lua", "return 2");
    add(writer, "app.lua", "return 1");
    add(writer, "empty", "");
    struct moon_archive *archive = finish(writer);
    assert_int_equal(moon_archive_count(archive), 3);
    assert_true(moon_archive_find(archive, MOON_STR("lib/b.lua"), &bytes));
    assert_true(moon_str_eq(bytes, MOON_STR("return 2")));
    assert_true(moon_archive_find(archive, MOON_STR("empty"), &bytes));
    assert_int_equal(bytes.len, 0);
    assert_false(moon_archive_find(archive, MOON_STR("lib"), &bytes));
    assert_false(moon_archive_find(archive, MOON_STR("zzz"), &bytes));
    moon_archive_entry(archive, 0, &name, &bytes);
    assert_true(moon_str_eq(name, MOON_STR("app.lua")));
    moon_archive_ref(archive);
    moon_archive_unref(archive);
    moon_archive_unref(archive);
}

static void an_empty_one_is_sound(void **state)
{
    struct moon_str bytes;
    (void)state;
    struct moon_archive *archive = finish(make(1, 1));
    assert_int_equal(moon_archive_count(archive), 0);
    assert_false(moon_archive_find(archive, MOON_STR("x"), &bytes));
    moon_archive_unref(archive);
}

static void limits_and_duplicates(void **state)
{
    struct moon_archive_writer *writer = make(2, 10);
    (void)state;
    add(writer, "a", "12345");
    assert_int_equal(
        moon_archive_writer_add(writer, MOON_STR("a"), MOON_STR("other")),
        MOON_EEXISTS);
    assert_int_equal(
        moon_archive_writer_add(writer, MOON_STR("b"), MOON_STR("123456")),
        MOON_ETOO_BIG);
    add(writer, "b", "12345");
    assert_int_equal(
        moon_archive_writer_add(writer, MOON_STR("c"), MOON_STR("")),
        MOON_ETOO_BIG);
    struct moon_archive *archive = finish(writer);
    assert_int_equal(moon_archive_count(archive), 2);
    moon_archive_unref(archive);
}

static void many_files(void **state)
{
    struct moon_archive_writer *writer = make(10000, 1 << 20);
    char namez[32];
    struct moon_str bytes;
    (void)state;
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(namez, sizeof(namez), "lib/%d.lua", i * 7919 % 10000);
        add(writer, namez, namez);
    }
    struct moon_archive *archive = finish(writer);
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(namez, sizeof(namez), "lib/%d.lua", i);
        assert_true(moon_archive_find(archive, moon_strz(namez), &bytes));
        assert_true(moon_str_eq(bytes, moon_strz(namez)));
    }
    moon_archive_unref(archive);
}

static void the_hash_tells_contents_apart(void **state)
{
    const char *const pairs[][2] = {
        {"app.lua", "return 1"},  {"app.lua", "return 2"},
        {"app.lua2", "return 1"}, {"app.lu", "areturn 1"},
        {"app.lua", ""},
    };
    char hashes[5][33];
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct moon_archive_writer *writer = make(9, 99);
        add(writer, pairs[i][0], pairs[i][1]);
        struct moon_archive *archive = finish(writer);
        moon_archive_hash(archive, hashes[i]);
        assert_int_equal(strlen(hashes[i]), 32);
        moon_archive_unref(archive);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(hashes[i], hashes[j]);
    }
}

static bool opens(const unsigned char *bytes, size_t len)
{
    struct moon_archive *archive;
    int fd = memfd_create("test", 0);
    assert_int_equal(write(fd, bytes, len), len);
    bool ok = moon_archive_open(fd, &archive) == MOON_OK;
    (void)close(fd);
    if (ok) {
        struct moon_str name, data;
        for (size_t i = 0; i < moon_archive_count(archive); i++) {
            moon_archive_entry(archive, i, &name, &data);
            assert_int_equal(name.ptr[name.len], 0);
            assert_int_equal(data.ptr[data.len], 0);
        }
        moon_archive_unref(archive);
    }
    return ok;
}

/* Every cut and every flipped bit of a small archive: refused, or all within
 * its bounds (ASan watches). */
static void damage_is_refused_or_harmless(void **state)
{
    struct moon_archive_writer *writer = make(9, 99);
    unsigned char bytes[512];
    struct stat st;
    int fd;
    (void)state;
    add(writer, "app.lua", "return 1");
    add(writer, "b.lua", "return 2");
    assert_int_equal(moon_archive_writer_finish(writer, &fd), MOON_OK);
    assert_int_equal(fstat(fd, &st), 0);
    size_t len = (size_t)st.st_size;
    assert_true(len < sizeof(bytes));
    assert_int_equal(pread(fd, bytes, len, 0), len);
    (void)close(fd);
    assert_true(opens(bytes, len));
    for (size_t cut = 0; cut < len; cut++)
        assert_false(opens(bytes, cut));
    for (size_t at = 0; at < len; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] ^= (unsigned char)(1 << bit);
            (void)opens(bytes, len);
            bytes[at] ^= (unsigned char)(1 << bit);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(an_empty_one_is_sound),
        cmocka_unit_test(limits_and_duplicates),
        cmocka_unit_test(many_files),
        cmocka_unit_test(the_hash_tells_contents_apart),
        cmocka_unit_test(damage_is_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
