/* Files that stay open: what a hit gives, and what ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "http/open_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGE = MOON_OPEN_FILES_BYTES + 1 };

static char folder[] = "/tmp/moonshine-open-files-XXXXXX";
static int root;
static struct moon_open_files *files;
static uint64_t now_ms = 1000000;

static void write_file(const char *name, const char *text, size_t len)
{
    int fd = openat(root, name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    assert_int_equal(close(fd), 0);
}

static enum moon_err get(const char *path, struct moon_open_file *out)
{
    return moon_open_files_get(files, now_ms, root, moon_strz(path),
                               MOON_STR("index.html"), out);
}

/* Asks once; was it given from memory? */
static bool is_kept(const char *path, const char *content)
{
    struct moon_open_file open;
    char text[64];
    assert_int_equal(get(path, &open), MOON_OK);
    assert_int_equal(open.file.size, strlen(content));
    if (open.bytes.ptr != NULL) {
        assert_int_equal(open.file.fd, -1);
        assert_true(moon_str_eq(open.bytes, moon_strz(content)));
        return true;
    }
    ssize_t n = read(open.file.fd, text, sizeof(text));
    assert_int_equal(close(open.file.fd), 0);
    assert_true(moon_str_eq(moon_str(text, (size_t)n), moon_strz(content)));
    return false;
}

/* A file that was just written is not kept; this waits until it is. */
static void wait_until_kept(const char *path, const char *content)
{
    uint64_t deadline_ns = moon_clock_ns() + 30000000000u;
    while (!is_kept(path, content)) {
        assert_true(moon_clock_ns() < deadline_ns);
        (void)usleep(10000);
    }
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    root = open(folder, O_RDONLY | O_DIRECTORY);
    assert_true(root >= 0);
    files = moon_open_files_create();
    assert_non_null(files);
    assert_int_equal(mkdirat(root, "docs", 0700), 0);
    write_file("docs/index.html", "index", 5);
    write_file("a.txt", "first", 5);
    write_file("b.txt", "other", 5);
    write_file("empty", "", 0);
    char *large = calloc(1, LARGE);
    write_file("large", large, LARGE);
    free(large);
    wait_until_kept("a.txt", "first");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    moon_open_files_destroy(files);
    char command[96];
    (void)snprintf(command, sizeof(command), "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
    return close(root);
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void kept_ones_are_given(void **state)
{
    (void)state;
    wait_until_kept("a.txt", "first");
    assert_true(is_kept("a.txt", "first"));
    wait_until_kept("b.txt", "other");
    wait_until_kept("docs/", "index");
    wait_until_kept("empty", "");
}

static void a_large_one_is_given_as_a_descriptor(void **state)
{
    (void)state;
    struct moon_open_file first, second;
    assert_int_equal(get("large", &first), MOON_OK);
    assert_int_equal(get("large", &second), MOON_OK);
    assert_null(first.bytes.ptr);
    assert_null(second.bytes.ptr);
    assert_int_not_equal(first.file.fd, second.file.fd);
    assert_int_equal(first.file.size, LARGE);
    assert_int_equal(close(first.file.fd), 0);
    char byte;
    assert_int_equal(pread(second.file.fd, &byte, 1, LARGE - 1), 1);
    assert_int_equal(close(second.file.fd), 0);
}

static void what_moon_static_open_refuses_is_refused(void **state)
{
    (void)state;
    struct moon_open_file open;
    assert_int_equal(get("missing", &open), MOON_ENOT_FOUND);
    assert_int_equal(get("docs", &open), MOON_EAGAIN);
    assert_int_equal(get("../a.txt", &open), MOON_ENOT_FOUND);
}

static void a_change_shows_at_once(void **state)
{
    (void)state;
    struct moon_open_file open;
    wait_until_kept("a.txt", "first");
    write_file("a.txt", "FIRST", 5); /* in place, of the same length */
    assert_false(is_kept("a.txt", "FIRST"));
    wait_until_kept("a.txt", "FIRST");

    write_file("new", "renamed", 7);
    assert_int_equal(renameat(root, "new", root, "a.txt"), 0);
    assert_false(is_kept("a.txt", "renamed"));
    wait_until_kept("a.txt", "renamed");

    assert_int_equal(renameat(root, "a.txt", root, "moved"), 0);
    assert_int_equal(get("a.txt", &open), MOON_ENOT_FOUND);
    wait_until_kept("moved", "renamed");
    assert_int_equal(unlinkat(root, "moved", 0), 0);
    assert_int_equal(get("moved", &open), MOON_ENOT_FOUND);
    write_file("a.txt", "first", 5);
}

static void a_moved_directory_shows_in_time(void **state)
{
    (void)state;
    struct moon_open_file open;
    wait_until_kept("docs/index.html", "index");
    assert_int_equal(renameat(root, "docs", root, "away"), 0);
    now_ms += MOON_OPEN_FILES_MS;
    assert_int_equal(get("docs/index.html", &open), MOON_ENOT_FOUND);
    assert_int_equal(renameat(root, "away", root, "docs"), 0);
}

static void descriptors_are_given_back(void **state)
{
    (void)state;
    now_ms += MOON_OPEN_FILES_MS;
    moon_open_files_sweep(files, now_ms);
    int before = count_descriptors();
    wait_until_kept("b.txt", "other");
    wait_until_kept("docs/index.html", "index");
    assert_int_equal(count_descriptors(), before + 2);
    moon_open_files_sweep(files, now_ms + MOON_OPEN_FILES_MS - 1);
    assert_int_equal(count_descriptors(), before + 2);
    moon_open_files_sweep(files, now_ms + MOON_OPEN_FILES_MS);
    assert_int_equal(count_descriptors(), before);
}

static void names_of_any_number_share_the_places(void **state)
{
    (void)state;
    char name[32];
    int before = count_descriptors();
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "file-%d", i);
        write_file(name, name, strlen(name));
    }
    wait_until_kept("file-299", "file-299");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300; i++) {
            (void)snprintf(name, sizeof(name), "file-%d", i);
            (void)is_kept(name, name);
        }
    }
    assert_in_range(count_descriptors(), before, before + MOON_OPEN_FILES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_ones_are_given),
        cmocka_unit_test(a_large_one_is_given_as_a_descriptor),
        cmocka_unit_test(what_moon_static_open_refuses_is_refused),
        cmocka_unit_test(a_change_shows_at_once),
        cmocka_unit_test(a_moved_directory_shows_in_time),
        cmocka_unit_test(descriptors_are_given_back),
        cmocka_unit_test(names_of_any_number_share_the_places),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
