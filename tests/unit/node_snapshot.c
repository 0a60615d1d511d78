/* Snapshots of an application's directory, and the versions kept of them. */
#include "node/keep.h"
#include "node/snapshot.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char home[512];
    struct moon_buf dir, error;
};

static char *at(struct fixture *f, const char *namez)
{
    static char path[1100];
    (void)snprintf(path, sizeof(path), "%s/%s", f->home, namez);
    return path;
}

static void put(struct fixture *f, const char *namez, const char *textz)
{
    FILE *file = fopen(at(f, namez), "w");
    assert_non_null(file);
    assert_true(fputs(textz, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void make_dir(struct fixture *f, const char *namez)
{
    assert_int_equal(mkdir(at(f, namez), 0700), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->home, sizeof(f->home), "/tmp/moonshine-unit-XXXXXX");
    if (mkdtemp(f->home) == NULL)
        return -1;
    put(f, "app.lua", "return 1");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char line[600];
    (void)snprintf(line, sizeof(line), "rm -rf %s", f->home);
    int failed = system(line);
    moon_buf_deinit(&f->dir);
    moon_buf_deinit(&f->error);
    free(f);
    return failed;
}

static struct moon_archive *take(struct fixture *f, const char *configz)
{
    struct moon_snapshot_source source = {
        .app_dirz = f->home, .app_filez = "app.lua", .configz = configz};
    struct moon_archive *archive = NULL;
    int fd = -1;
    f->dir.len = f->error.len = 0;
    if (moon_snapshot_take(&source, &fd, &f->dir, &f->error) != MOON_OK) {
        assert_int_equal(fd, -1);
        assert_true(f->error.len > 0);
        return NULL;
    }
    assert_int_equal(moon_archive_open(fd, &archive), MOON_OK);
    (void)close(fd);
    return archive;
}

static bool has(const struct moon_archive *archive, const char *namez,
                const char *textz)
{
    struct moon_str bytes;
    return moon_archive_find(archive, moon_strz(namez), &bytes) &&
           moon_str_eq(bytes, moon_strz(textz));
}

static bool error_has(struct fixture *f, const char *textz)
{
    moon_buf_add_char(&f->error, '\0');
    return strstr(f->error.ptr, textz) != NULL;
}

static void test_takes_code_and_views_only(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "lib");
    make_dir(f, "views");
    make_dir(f, "views/mail");
    make_dir(f, "public");
    make_dir(f, ".git");
    make_dir(f, "node_modules");
    put(f, "lib/a.lua", "a");
    put(f, "views/x.html", "x");
    put(f, "views/mail/y.txt", "y");
    put(f, "public/big.css", "no");
    put(f, "public/run.lua", "yes");
    put(f, ".git/config.lua", "no");
    put(f, ".hidden.lua", "no");
    put(f, "node_modules/z.lua", "no");
    put(f, ".lua", "no");
    assert_int_equal(mkfifo(at(f, "fifo.lua"), 0600), 0);
    assert_int_equal(symlink("nowhere", at(f, "dangling.lua")), 0);
    assert_int_equal(symlink("lib/a.lua", at(f, "linked.lua")), 0);
    struct moon_archive *archive = take(f, NULL);
    assert_non_null(archive);
    assert_int_equal(moon_archive_count(archive), 6);
    assert_true(has(archive, "app.lua", "return 1"));
    assert_true(has(archive, "lib/a.lua", "a"));
    assert_true(has(archive, "linked.lua", "a"));
    assert_true(has(archive, "views/x.html", "x"));
    assert_true(has(archive, "views/mail/y.txt", "y"));
    assert_true(has(archive, "public/run.lua", "yes"));
    moon_archive_unref(archive);
}

static void test_config_from_elsewhere_wins(void **state)
{
    struct fixture *f = *state;
    char other[1100];
    put(f, "config.lua", "workers = 1");
    put(f, "other.conf", "workers = 2");
    (void)snprintf(other, sizeof(other), "%s", at(f, "other.conf"));
    struct moon_archive *archive = take(f, other);
    assert_true(has(archive, "config.lua", "workers = 2"));
    moon_archive_unref(archive);
    assert_null(take(f, "/nowhere/config.lua"));
    assert_true(error_has(f, "/nowhere/config.lua"));
}

static void test_link_to_a_release_is_resolved(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "r1");
    put(f, "r1/app.lua", "one");
    assert_int_equal(symlink("r1", at(f, "current")), 0);
    struct fixture g = *f;
    assert_true(strlen(at(f, "current")) < sizeof(g.home));
    strcpy(g.home, at(f, "current"));
    struct moon_archive *archive = take(&g, NULL);
    assert_true(has(archive, "app.lua", "one"));
    moon_buf_add_char(&g.dir, '\0');
    assert_non_null(strstr(g.dir.ptr, "/r1"));
    moon_archive_unref(archive);
    f->dir = g.dir;
    f->error = g.error;
}

static void test_says_what_is_missing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(unlink(at(f, "app.lua")), 0);
    assert_null(take(f, NULL));
    assert_true(error_has(f, "app.lua"));
}

static void test_refuses_a_tree_without_end(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "lib");
    assert_int_equal(symlink("..", at(f, "lib/up")), 0);
    assert_null(take(f, NULL));
    assert_true(error_has(f, "nested too deep"));
}

static void test_refuses_too_many_files(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "lib");
    for (int i = 0; i <= MOON_SNAPSHOT_FILES; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "lib/%d.lua", i);
        put(f, name, "");
    }
    assert_null(take(f, NULL));
    assert_true(error_has(f, "too large"));
}

static void test_refuses_too_many_bytes(void **state)
{
    struct fixture *f = *state;
    put(f, "huge.lua", "");
    assert_int_equal(truncate(at(f, "huge.lua"), MOON_SNAPSHOT_BYTES + 1L), 0);
    assert_null(take(f, NULL));
    assert_true(error_has(f, "MiB"));
}

static bool differs(struct fixture *f, const struct moon_archive *archive)
{
    struct moon_snapshot_source source = {.app_dirz = f->home,
                                          .app_filez = "app.lua"};
    f->error.len = 0;
    return moon_snapshot_differs(&source, archive, &f->error);
}

static void test_outside_files_join_and_are_compared(void **state)
{
    struct fixture *f = *state;
    struct moon_buf names = {0};
    int fd = -1;
    put(f, "words.txt", "hello");
    put(f, "far.so", "far");
    struct moon_archive *base = take(f, NULL), *all = NULL;
    moon_buf_addz(&names, "words.txt");
    moon_buf_add_char(&names, '\0');
    moon_buf_addz(&names, at(f, "far.so"));
    moon_buf_add_char(&names, '\0');
    assert_int_equal(moon_snapshot_extend(base, f->home, moon_buf_str(&names),
                                          &fd, &f->error),
                     MOON_OK);
    assert_int_equal(moon_archive_open(fd, &all), MOON_OK);
    (void)close(fd);
    assert_true(has(all, "words.txt", "hello"));
    assert_true(has(all, at(f, "far.so"), "far"));
    assert_true(has(all, "app.lua", "return 1"));
    assert_false(differs(f, all));
    put(f, "words.txt", "bye");
    assert_true(differs(f, all));
    assert_true(error_has(f, "words.txt changed"));
    put(f, "words.txt", "hello");
    put(f, "new.lua", "");
    assert_true(differs(f, all));
    assert_true(error_has(f, "new.lua is new"));
    assert_int_equal(unlink(at(f, "new.lua")), 0);
    assert_int_equal(unlink(at(f, "far.so")), 0);
    assert_true(differs(f, all));
    assert_int_equal(moon_snapshot_extend(base, f->home, moon_buf_str(&names),
                                          &fd, &f->error),
                     MOON_ENOT_FOUND);
    assert_int_equal(fd, -1);
    moon_archive_unref(base);
    moon_archive_unref(all);
    moon_buf_deinit(&names);
}

/* ---- kept versions ---- */

static void keep(struct fixture *f, int dir, const char *textz)
{
    int temp = -1, source = -1;
    put(f, "version", textz);
    source = open(at(f, "version"), O_RDONLY);
    assert_int_equal(moon_keep_begin(dir, 7, &temp), MOON_OK);
    assert_int_equal(moon_keep_write(temp, source), MOON_OK);
    assert_int_equal(moon_keep_commit(dir, 7), MOON_OK);
    (void)close(temp);
    (void)close(source);
}

static void check_kept(int dir, uint32_t nth, const char *textz)
{
    char text[64] = "";
    int fd = -1;
    assert_int_equal(moon_keep_get(dir, nth, &fd), MOON_OK);
    assert_true(read(fd, text, sizeof(text) - 1) >= 0);
    assert_string_equal(text, textz);
    (void)close(fd);
}

static void test_keeps_the_newest_three(void **state)
{
    struct fixture *f = *state;
    int dir = -1, fd = -1;
    assert_int_equal(moon_keep_open(f->home, "node-1", &dir, &f->error),
                     MOON_OK);
    assert_int_equal(moon_keep_count(dir), 0);
    assert_int_equal(moon_keep_get(dir, 0, &fd), MOON_ENOT_FOUND);
    static const char *const texts[] = {"one", "two", "three", "four", "five"};
    for (size_t i = 0; i < MOON_COUNT(texts); i++)
        keep(f, dir, texts[i]);
    assert_int_equal(moon_keep_count(dir), MOON_KEEP_COUNT);
    check_kept(dir, 0, "five");
    check_kept(dir, 2, "three");
    assert_int_equal(moon_keep_get(dir, 3, &fd), MOON_ENOT_FOUND);
    moon_keep_drop(dir, 1); /* rolled back from "five" */
    check_kept(dir, 0, "four");
    keep(f, dir, "six");
    check_kept(dir, 0, "six");
    check_kept(dir, 1, "four");
    check_kept(dir, 2, "three");
    (void)close(dir);
}

static void test_unfinished_versions_do_not_count(void **state)
{
    struct fixture *f = *state;
    int dir = -1, temp = -1, other = -1;
    assert_int_equal(moon_keep_open(f->home, "n", &dir, &f->error), MOON_OK);
    assert_int_equal(moon_keep_begin(dir, 7, &temp), MOON_OK);
    assert_int_equal(moon_keep_begin(dir, 8, &other), MOON_OK);
    assert_int_equal(moon_keep_count(dir), 0);
    moon_keep_clean(dir, 7); /* what 8 left is gone, ours is not */
    assert_int_equal(moon_keep_commit(dir, 8), MOON_ENOT_FOUND);
    assert_int_equal(moon_keep_commit(dir, 7), MOON_OK);
    assert_int_equal(moon_keep_begin(dir, 7, &temp), MOON_OK);
    moon_keep_abort(dir, 7);
    assert_int_equal(moon_keep_commit(dir, 7), MOON_ENOT_FOUND);
    assert_int_equal(moon_keep_count(dir), 1);
    (void)close(temp);
    (void)close(other);
    (void)close(dir);
}

static void test_state_dir_that_cannot_be(void **state)
{
    struct fixture *f = *state;
    int dir = -1;
    assert_int_not_equal(moon_keep_open("/proc/nothing", "n", &dir, &f->error),
                         MOON_OK);
    assert_int_equal(dir, -1);
    assert_true(error_has(f, "/proc/nothing/snapshots/n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_takes_code_and_views_only),
        TEST(test_config_from_elsewhere_wins),
        TEST(test_link_to_a_release_is_resolved),
        TEST(test_says_what_is_missing),
        TEST(test_refuses_a_tree_without_end),
        TEST(test_refuses_too_many_files),
        TEST(test_refuses_too_many_bytes),
        TEST(test_outside_files_join_and_are_compared),
        TEST(test_keeps_the_newest_three),
        TEST(test_unfinished_versions_do_not_count),
        TEST(test_state_dir_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
