/* What the parent of `moonshine test` makes of its children's events. */
#include "node/test_coverage.h"
#include "node/test_files.h"
#include "node/test_junit.h"
#include "node/test_print.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define EVENT(file, event, number, literal) \
    moon_test_file_event(file, event, number, 1500000, MOON_STR(literal))

static struct moon_test_file sample(void)
{
    struct moon_test_file file = {.namez = "spec/a_spec.lua"};
    EVENT(&file, MOON_TEST_LOG, MOON_LOG_INFO, "while loading");
    EVENT(&file, MOON_TEST_PLAN, 3, "");
    EVENT(&file, MOON_TEST_BEGIN, 1, "one passes\0spec/a_spec.lua:2");
    EVENT(&file, MOON_TEST_LOG, MOON_LOG_INFO, "fine");
    EVENT(&file, MOON_TEST_LOG, MOON_LOG_WARN, "careful\n    trace: x");
    EVENT(&file, MOON_TEST_END, MOON_TEST_PASSED, "");
    EVENT(&file, MOON_TEST_BEGIN, 1, "two & <three>\0spec/a_spec.lua:5");
    EVENT(&file, MOON_TEST_END, MOON_TEST_FAILED,
          "assertion\0lib/x.lua:7\0bad\nworse\0    x = 1\0- 1\n+ 2\0stack");
    return file;
}

static char *printed(struct moon_test_file *file)
{
    static char text[4096];
    struct moon_test_print print;
    char *bytes = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&bytes, &len);
    assert_non_null(out);
    moon_test_print_init(&print, out, file, 1);
    moon_test_print_marks(&print);
    moon_test_print_summary(&print, 1.25);
    (void)fclose(out);
    (void)snprintf(text, sizeof(text), "%s", bytes);
    free(bytes);
    return text;
}

static void events_become_an_account(void **state)
{
    (void)state;
    struct moon_test_file file = sample();
    struct moon_test_sums sums = {0};
    moon_test_file_sum(&file, &sums);
    assert_int_equal(sums.tests, 2);
    assert_int_equal(sums.by_outcome[MOON_TEST_PASSED], 1);
    assert_int_equal(sums.by_outcome[MOON_TEST_FAILED], 1);
    assert_int_equal(file.planned, 3);
    assert_int_equal(file.begun, 2);
    assert_null(moon_test_file_running(&file));
    file.done = true;
    assert_string_equal(
        printed(&file),
        "+-\n1 success / 1 failure / 0 errors / 0 pending : 1.250 seconds\n"
        "\nFailure -> lib/x.lua:7\ntwo & <three>\nbad\nworse\n"
        "     7 |     x = 1\n(- expected, + actual)\n- 1\n+ 2\nstack\n");
    moon_test_file_deinit(&file);
}

/* A child may send anything, in any order. */
static void events_that_make_no_sense(void **state)
{
    (void)state;
    struct moon_test_file file = {.namez = "x_spec.lua"};
    EVENT(&file, MOON_TEST_END, MOON_TEST_PASSED, "");
    EVENT(&file, MOON_TEST_STEP, 0, "x");
    EVENT(&file, MOON_TEST_BEGIN, 1, "no place");
    EVENT(&file, MOON_TEST_BEGIN, 1, "within another\0x:1");
    EVENT(&file, MOON_TEST_LOG, 99, "loud");
    EVENT(&file, MOON_TEST_END, 77, "a\0b\0c\0d\0e\0f\0g\0h");
    EVENT(&file, MOON_TEST_END, MOON_TEST_PASSED, "");
    assert_int_equal(file.count, 1);
    assert_int_equal(file.cases[0]->outcome, MOON_TEST_ERROR);
    assert_true(
        moon_str_eq(file.cases[0]->parts[MOON_TEST_TRACE], MOON_STR("f")));
    assert_int_equal(file.cases[0]->place.len, 0);
    moon_test_file_deinit(&file);
}

static void what_the_child_could_not_say(void **state)
{
    (void)state;
    struct moon_test_file file = {.namez = "x_spec.lua", .done = true};
    moon_test_file_fail(&file, "load", "the application does not load",
                        MOON_STR("app.lua:3: no such: thing"));
    EVENT(&file, MOON_TEST_BEGIN, 1, "crashes\0x_spec.lua:9");
    moon_test_file_fail(&file, "crash", "", MOON_STR("app.lua: it ended"));
    assert_string_equal(
        printed(&file),
        "**\n0 successes / 0 failures / 2 errors / 0 pending : 1.250 "
        "seconds\n\nError -> app.lua:3\nthe application does not load\nno "
        "such: "
        "thing\n\nError -> x_spec.lua:9\ncrashes\napp.lua: it ended\n");
    moon_test_file_deinit(&file);
}

static void junit_is_escaped(void **state)
{
    (void)state;
    struct moon_test_file file = sample();
    struct moon_buf out = {0};
    moon_buf_add_str(&file.output, MOON_STR("a\x01\xff\xef\xbf\xbf]]>\n"));
    EVENT(&file, MOON_TEST_BEGIN, 1, "later\0x:1");
    EVENT(&file, MOON_TEST_END, MOON_TEST_PENDING, "pending\0x:1\0\"when\"");
    moon_test_junit(&out, &file, 1, 2);
    moon_buf_add_char(&out, '\0');
    assert_string_equal(
        out.ptr,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<testsuites tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" "
        "time=\"2.000000\">\n"
        "<testsuite name=\"spec/a_spec.lua\" tests=\"3\" failures=\"1\" "
        "errors=\"0\" skipped=\"1\" time=\"0.000000\">\n"
        "<testcase classname=\"spec.a_spec\" name=\"one passes\" "
        "file=\"spec/a_spec.lua\" line=\"2\" time=\"0.001500\">\n"
        "<system-out>info   fine\nwarn   careful\n    trace: x\n</system-out>\n"
        "</testcase>\n"
        "<testcase classname=\"spec.a_spec\" name=\"two &amp; &lt;three&gt;\" "
        "file=\"spec/a_spec.lua\" line=\"5\" time=\"0.001500\">\n"
        "<failure type=\"assertion\" message=\"bad&#10;worse\">lib/x.lua:7\n"
        "bad\nworse\n    x = 1\n- 1\n+ 2\nstack\n</failure>\n</testcase>\n"
        "<testcase classname=\"spec.a_spec\" name=\"later\" file=\"x\" "
        "line=\"1\" time=\"0.001500\">\n"
        "<skipped message=\"&quot;when&quot;\"/>\n</testcase>\n"
        "<system-out>info   while loading\n</system-out>\n"
        "<system-err>a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd]]&gt;\n"
        "</system-err>\n</testsuite>\n</testsuites>\n");
    moon_buf_deinit(&out);
    moon_test_file_deinit(&file);
}

static void coverage_is_put_together(void **state)
{
    (void)state;
    struct moon_test_coverage coverage = {0};
    char *bytes = NULL;
    size_t len = 0;
    moon_test_coverage_add(&coverage,
                           MOON_STR("file moonshine/app.lua\ncan 1-9\nran 1\n"
                                    "file b.lua\ncan 1-3 9 300-301\nran 1 9\n"
                                    "file empty.lua\ncan\nran\n"));
    moon_test_coverage_add(&coverage, MOON_STR("file a.lua\ncan 2\nran 2\n"
                                               "file b.lua\ncan 1-3 9 300-301\n"
                                               "ran 2\nrubbish\nran x 7-\n"));
    FILE *out = open_memstream(&bytes, &len);
    assert_non_null(out);
    moon_test_coverage_print(&coverage, out);
    (void)fclose(out);
    assert_string_equal(bytes, "\nfile        lines     ran          missed\n"
                               "a.lua           1       1  100.0%\n"
                               "b.lua           6       3   50.0%  3, 300-301\n"
                               "empty.lua       0       0  100.0%\n"
                               "total           7       4   57.1%\n");
    free(bytes);
    moon_test_coverage_deinit(&coverage);
}

static void touch(const char *dirz, const char *namez)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dirz, namez);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
}

static void spec_files_are_found(void **state)
{
    (void)state;
    char dirz[] = "/tmp/moonshine-specs-XXXXXX", inner[128], link[128];
    struct moon_test_paths paths = {0};
    struct moon_buf error = {0};
    assert_non_null(mkdtemp(dirz));
    (void)snprintf(inner, sizeof(inner), "%s/spec", dirz);
    assert_int_equal(mkdir(inner, 0700), 0);
    static const char *const names[] = {"spec/b_spec.lua", "spec/a_spec.lua",
                                        "spec/helper.lua", "spec/.c_spec.lua",
                                        "spec/_spec.lua",  "top_spec.lua"};
    for (size_t i = 0; i < MOON_COUNT(names); i++)
        touch(dirz, names[i]);
    /* Two names of one file are two files. */
    (void)snprintf(link, sizeof(link), "%s/spec/d_spec.lua", dirz);
    assert_int_equal(symlink("a_spec.lua", link), 0);
    assert_int_equal(moon_test_paths_add(&paths, dirz, "spec", &error),
                     MOON_OK);
    assert_int_equal(paths.count, 3);
    assert_string_equal(paths.namez[0], "spec/a_spec.lua");
    assert_string_equal(paths.namez[1], "spec/b_spec.lua");
    assert_string_equal(paths.namez[2], "spec/d_spec.lua");
    assert_int_equal(moon_test_paths_add(&paths, dirz, "top_spec.lua", &error),
                     MOON_OK);
    assert_int_equal(
        moon_test_paths_add(&paths, dirz, "spec/b_spec.lua", &error), MOON_OK);
    assert_int_equal(paths.count, 4);
    assert_int_equal(moon_test_paths_add(&paths, inner, dirz, &error), MOON_OK);
    assert_int_equal(paths.count, 8);
    assert_int_equal(paths.namez[0][0], '/');
    assert_string_equal(paths.namez[1], "a_spec.lua");
    assert_int_equal(moon_test_paths_add(&paths, dirz, "none", &error),
                     MOON_ENOT_FOUND);
    assert_true(moon_str_eq(moon_buf_str(&error),
                            MOON_STR("none: No such file or directory")));
    moon_test_paths_deinit(&paths);
    moon_buf_deinit(&error);
    (void)unlink(link);
    for (size_t i = 0; i < MOON_COUNT(names); i++) {
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/%s", dirz, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(inner);
    (void)rmdir(dirz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_become_an_account),
        cmocka_unit_test(events_that_make_no_sense),
        cmocka_unit_test(what_the_child_could_not_say),
        cmocka_unit_test(junit_is_escaped),
        cmocka_unit_test(coverage_is_put_together),
        cmocka_unit_test(spec_files_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
