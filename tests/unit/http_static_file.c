#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http/http_in.h"
#include "http/static_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A tree of its own: outer/secret, outer/root/... */
struct tree {
    char outer[64];
    int outer_fd, root_fd;
};

static void write_file(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(close(fd), 0);
}

static int make_tree(void **state)
{
    static struct tree tree;
    char target[96];
    strcpy(tree.outer, "/tmp/moonshine-static-XXXXXX");
    assert_non_null(mkdtemp(tree.outer));
    tree.outer_fd = open(tree.outer, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(tree.outer_fd, "root", 0700), 0);
    assert_int_equal(mkdirat(tree.outer_fd, "root-2", 0700), 0);
    tree.root_fd = openat(tree.outer_fd, "root", O_RDONLY | O_DIRECTORY);
    assert_true(tree.root_fd >= 0);
    write_file(tree.outer_fd, "secret", "secret");
    write_file(tree.outer_fd, "root-2/secret", "secret");
    int root = tree.root_fd;
    write_file(root, "a.txt", "0123456789");
    write_file(root, "empty", "");
    write_file(root, ".hidden", "secret");
    write_file(root, "a%2Fb", "escaped");
    assert_int_equal(mkdirat(root, "docs", 0700), 0);
    assert_int_equal(mkdirat(root, "bare", 0700), 0);
    assert_int_equal(mkdirat(root, ".git", 0700), 0);
    assert_int_equal(mkdirat(root, "odd", 0700), 0);
    assert_int_equal(mkdirat(root, "odd/index.html", 0700), 0);
    write_file(root, "docs/index.html", "index");
    write_file(root, ".git/config", "secret");
    assert_int_equal(symlinkat("docs/index.html", root, "in"), 0);
    assert_int_equal(symlinkat("../secret", root, "out"), 0);
    assert_int_equal(symlinkat("..", root, "up"), 0);
    assert_int_equal(symlinkat("/etc", root, "etc"), 0);
    assert_int_equal(symlinkat("loop", root, "loop"), 0);
    (void)snprintf(target, sizeof(target), "%s/root/a.txt", tree.outer);
    assert_int_equal(symlinkat(target, root, "absolute"), 0);
    (void)snprintf(target, sizeof(target), "%s/root-2/secret", tree.outer);
    assert_int_equal(symlinkat(target, root, "beside"), 0);
    assert_int_equal(mkfifoat(root, "fifo", 0600), 0);
    *state = &tree;
    return 0;
}

static int remove_tree(void **state)
{
    struct tree *tree = *state;
    static const char *const files[] = {"root/a.txt",
                                        "root/empty",
                                        "root/.hidden",
                                        "root/a%2Fb",
                                        "root/docs/index.html",
                                        "root/.git/config",
                                        "root/in",
                                        "root/out",
                                        "root/up",
                                        "root/etc",
                                        "root/loop",
                                        "root/absolute",
                                        "root/beside",
                                        "root/fifo",
                                        "root-2/secret",
                                        "secret"};
    static const char *const folders[] = {
        "root/docs", "root/bare", "root/.git", "root/odd/index.html",
        "root/odd",  "root-2",    "root"};
    for (size_t i = 0; i < MOON_COUNT(files); i++)
        assert_int_equal(unlinkat(tree->outer_fd, files[i], 0), 0);
    for (size_t i = 0; i < MOON_COUNT(folders); i++)
        assert_int_equal(unlinkat(tree->outer_fd, folders[i], AT_REMOVEDIR), 0);
    (void)close(tree->root_fd);
    (void)close(tree->outer_fd);
    return rmdir(tree->outer);
}

static void files_stay_below_the_root(void **state)
{
    const struct tree *tree = *state;
    static const struct {
        const char *path;
        enum moon_err want;
    } samples[] = {
        {"a.txt", MOON_OK},
        {"empty", MOON_OK},
        {"a%2Fb", MOON_OK},
        {"docs/index.html", MOON_OK},
        {"docs/", MOON_OK},
        {"in", MOON_OK},
        {"absolute", MOON_OK},
        {"docs", MOON_EAGAIN},
        {"bare", MOON_EAGAIN},
        {"bare/", MOON_ENOT_FOUND},
        {"", MOON_ENOT_FOUND},
        {"odd/", MOON_ENOT_FOUND},
        {"none", MOON_ENOT_FOUND},
        {"a.txt/", MOON_ENOT_FOUND},
        {"a.txt/x", MOON_ENOT_FOUND},
        {".hidden", MOON_ENOT_FOUND},
        {".git/config", MOON_ENOT_FOUND},
        {"docs/../a.txt", MOON_ENOT_FOUND},
        {"../secret", MOON_ENOT_FOUND},
        {"/etc/passwd", MOON_ENOT_FOUND},
        {"docs//index.html", MOON_ENOT_FOUND},
        {"out", MOON_ENOT_FOUND},
        {"up/secret", MOON_ENOT_FOUND},
        {"etc/passwd", MOON_ENOT_FOUND},
        {"beside", MOON_ENOT_FOUND},
        {"loop", MOON_ENOT_FOUND},
        {"fifo", MOON_ENOT_FOUND},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_static_file file;
        enum moon_err err =
            moon_static_open(tree->root_fd, moon_strz(samples[i].path),
                             MOON_STR("index.html"), &file);
        if (err != samples[i].want)
            fail_msg("%s gives %d", samples[i].path, err);
        if (err == MOON_OK)
            (void)close(file.fd);
    }
    struct moon_static_file file;
    assert_int_equal(moon_static_open(tree->root_fd, moon_str("a.txt\0", 6),
                                      MOON_STR_NONE, &file),
                     MOON_ENOT_FOUND);
    assert_int_equal(moon_static_open(tree->root_fd, MOON_STR("docs/"),
                                      MOON_STR_NONE, &file),
                     MOON_ENOT_FOUND);
    assert_int_equal(
        moon_static_open(tree->root_fd, MOON_STR("docs"), MOON_STR_NONE, &file),
        MOON_ENOT_FOUND);
    char long_path[5000];
    memset(long_path, 'a', sizeof(long_path));
    assert_int_equal(moon_static_open(tree->root_fd,
                                      moon_str(long_path, sizeof(long_path)),
                                      MOON_STR_NONE, &file),
                     MOON_ENOT_FOUND);
}

/* Plans the answer to a GET (or `method`) with these fields; "%E" stands for
 * the file's entity tag. Returns "status from+length range". */
static void plan(const struct moon_static_file *file, const char *method,
                 const char *fields, char text[256])
{
    char bytes[512];
    int at =
        snprintf(bytes, sizeof(bytes), "%s / HTTP/1.1\r\nHost: a\r\n", method);
    for (const char *from = fields; *from != '\0'; from++) {
        if (from[0] == '%' && from[1] == 'E') {
            at += sprintf(bytes + at, "%s", file->etag);
            from++;
        } else {
            bytes[at++] = *from;
        }
    }
    at += sprintf(bytes + at, "\r\n");
    struct moon_http_limits limits = {1000, 1000, 10};
    struct moon_http_in in;
    struct moon_request req;
    struct moon_arena arena;
    struct moon_response res;
    struct moon_static_plan out;
    struct moon_str range = MOON_STR("none"), value;
    size_t used;
    moon_arena_init(&arena, NULL, 0);
    moon_response_init(&res, NULL, 0);
    moon_http_in_start(&in, &req, &arena, &limits);
    assert_int_equal(moon_http_in_feed(&in, bytes, 0, (size_t)at, &used),
                     MOON_IN_HEAD);
    assert_int_equal(moon_static_plan(file, &req, &res, &arena, &out), MOON_OK);
    (void)moon_response_get(&res, MOON_STR("Content-Range"), 0, &range);
    assert_true(moon_response_get(&res, MOON_STR("ETag"), 0, &value));
    assert_true(moon_str_eq(value, moon_strz(file->etag)));
    assert_true(moon_response_get(&res, MOON_STR("Last-Modified"), 0, &value));
    assert_true(moon_response_get(&res, MOON_STR("Accept-Ranges"), 0, &value));
    (void)snprintf(text, 256, "%d %d+%d %.*s", out.status, (int)out.from,
                   (int)out.length, MOON_STR_ARG(range));
    moon_arena_reset(&arena);
}

#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define EXACT "Sun, 06 Nov 1994 08:49:37 GMT"
#define AFTER "Sun, 06 Nov 1994 08:49:38 GMT"

static void preconditions_are_weighed_in_order(void **state)
{
    const struct tree *tree = *state;
    static const struct {
        const char *method, *fields, *want;
    } samples[] = {
        {"GET", "", "200 0+10 none"},
        {"GET", "If-None-Match: %E\r\n", "304 0+0 none"},
        {"HEAD", "If-None-Match: \"x\", W/%E\r\n", "304 0+0 none"},
        {"GET", "If-None-Match: \"x\"\r\nIf-None-Match: %E\r\n",
         "304 0+0 none"},
        {"GET", "If-None-Match: *\r\n", "304 0+0 none"},
        {"POST", "If-None-Match: *\r\n", "200 0+10 none"},
        {"GET", "If-None-Match: \"x\"\r\n", "200 0+10 none"},
        {"GET", "If-None-Match: \"x\"\r\nIf-Modified-Since: " AFTER "\r\n",
         "200 0+10 none"},
        {"GET", "If-Modified-Since: " EXACT "\r\n", "304 0+0 none"},
        {"GET", "If-Modified-Since: " AFTER "\r\n", "304 0+0 none"},
        {"GET", "If-Modified-Since: " BEFORE "\r\n", "200 0+10 none"},
        {"GET", "If-Modified-Since: yesterday\r\n", "200 0+10 none"},
        {"GET", "If-Match: %E\r\n", "200 0+10 none"},
        {"GET", "If-Match: W/%E\r\n", "412 0+0 none"},
        {"GET", "If-Match: \"x\"\r\n", "412 0+0 none"},
        {"GET", "If-Match: \"x\"\r\nIf-None-Match: %E\r\n", "412 0+0 none"},
        {"GET", "If-Unmodified-Since: " EXACT "\r\n", "200 0+10 none"},
        {"GET", "If-Unmodified-Since: " BEFORE "\r\n", "412 0+0 none"},
        {"GET", "If-Match: %E\r\nIf-Unmodified-Since: " BEFORE "\r\n",
         "200 0+10 none"},
        {"GET", "Range: bytes=2-4\r\n", "206 2+3 bytes 2-4/10"},
        {"GET", "Range: bytes=-1\r\n", "206 9+1 bytes 9-9/10"},
        {"GET", "Range: bytes=10-\r\n", "416 0+0 bytes */10"},
        {"GET", "Range: bytes=0-1,3-4\r\n", "200 0+10 none"},
        {"HEAD", "Range: bytes=2-4\r\n", "200 0+10 none"},
        {"GET", "Range: bytes=2-4\r\nIf-None-Match: %E\r\n", "304 0+0 none"},
        {"GET", "Range: bytes=2-4\r\nIf-Range: %E\r\n", "206 2+3 bytes 2-4/10"},
        {"GET", "Range: bytes=2-4\r\nIf-Range: W/%E\r\n", "200 0+10 none"},
        {"GET", "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n", "200 0+10 none"},
        {"GET", "Range: bytes=2-4\r\nIf-Range: *\r\n", "200 0+10 none"},
        {"GET", "Range: bytes=2-4\r\nIf-Range: " EXACT "\r\n",
         "206 2+3 bytes 2-4/10"},
        {"GET", "Range: bytes=2-4\r\nIf-Range: " AFTER "\r\n", "200 0+10 none"},
    };
    const struct timespec times[2] = {{784111777, 5}, {784111777, 5}};
    struct moon_static_file file;
    char text[256];
    assert_int_equal(utimensat(tree->root_fd, "a.txt", times, 0), 0);
    assert_int_equal(moon_static_open(tree->root_fd, MOON_STR("a.txt"),
                                      MOON_STR_NONE, &file),
                     MOON_OK);
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        plan(&file, samples[i].method, samples[i].fields, text);
        if (strcmp(text, samples[i].want) != 0)
            fail_msg("%s gives '%s', not '%s'", samples[i].fields, text,
                     samples[i].want);
    }
    (void)close(file.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_stay_below_the_root),
        cmocka_unit_test(preconditions_are_weighed_in_order),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
