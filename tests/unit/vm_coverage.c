/* Which lines can run, which ran, and what the report says of it. */
#include "vm_support.h"

#include "base/buf.h"
#include "vm/coverage.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct moon_archive *archive_of(const char *textz)
{
    struct moon_archive *archive;
    struct moon_archive_writer *writer =
        moon_archive_writer_create(10, 1 << 20);
    assert_non_null(writer);
    const struct {
        const char *namez, *textz;
    } files[] = {
        {"app.lua", textz},           {"config.lua", "workers = 1"},
        {"spec/a_spec.lua", "x = 1"}, {"views/x.html", "<p>"},
        {"bad.lua", "not Lua"},       {"lua_modules/x.lua", "x = 1"},
    };
    for (size_t i = 0; i < MOON_COUNT(files); i++)
        assert_int_equal(moon_archive_writer_add(writer,
                                                 moon_strz(files[i].namez),
                                                 moon_strz(files[i].textz)),
                         MOON_OK);
    int fd;
    assert_int_equal(moon_archive_writer_finish(writer, &fd), MOON_OK);
    assert_int_equal(moon_archive_open(fd, &archive), MOON_OK);
    (void)close(fd);
    return archive;
}

/* Loads app.lua of the archive under its counter, and runs it. */
static void run(const char *textz, uint64_t generation)
{
    struct vm vm;
    struct moon_archive *archive = archive_of(textz);
    vm_create(&vm, NULL, true, 0, 0);
    moon_coverage_open(vm.L, &vm.trap, archive, generation);
    assert_int_equal(
        moon_safepoint_load(vm.L, moon_strz(textz), "@app.lua", NULL), 0);
    assert_int_equal(lua_pcall(vm.L, 0, 0, 0), 0);
    vm_destroy(&vm);
    moon_archive_unref(archive);
}

static char *report(void)
{
    static char text[65536];
    int fd = memfd_create("report", MFD_CLOEXEC);
    assert_true(fd >= 0);
    moon_coverage_to(fd);
    moon_coverage_write();
    ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(len >= 0);
    text[len] = '\0';
    (void)close(fd);
    return text;
}

static void expect_app(const char *wantedz)
{
    const char *text = report();
    size_t len = strlen(wantedz);
    if (strncmp(text, wantedz, len) != 0)
        fail_msg("wanted:\n%s\ngot:\n%.300s", wantedz, text);
}

static void lines_of_the_application(void **state)
{
    (void)state;
    run("local function twice(n)\n"  /* 1: nothing happens here */
        "    local m = n * 2\n"      /* 2 */
        "    if m > 10 then\n"       /* 3 */
        "        return 10\n"        /* 4: does not run */
        "    end\n"                  /* 5: only closes */
        "    return m\n"             /* 6 */
        "end\n"                      /* 7: only closes */
        "local list = {\n"           /* 8 */
        "    1,\n"                   /* 9: a constant */
        "}\n"                        /* 10 */
        "for i = 1, 3 do\n"          /* 11 */
        "    list[i] = twice(i)\n"   /* 12 */
        "end\n"                      /* 13 */
        "-- a comment\n"             /* 14 */
        "local never = function()\n" /* 15 */
        "    error('never')\n"       /* 16: does not run */
        "end\n",                     /* 17 */
        1);
    expect_app("file app.lua\ncan 2-4 6 8 11-12 16\nran 2-3 6 8 11-12\n"
               "file moonshine/");
    assert_non_null(strstr(report(), "\nfile moonshine/wait.lua\ncan 2-"));
    assert_null(strstr(report(), "spec/"));
}

static void every_line_of_straight_code_runs(void **state)
{
    (void)state;
    run("local t = { 1, 2 }\n"
        "local sum = 0\n"
        "for _, v in ipairs(t) do\n"
        "    sum = sum + v\n"
        "end\n"
        "while sum < 10 do\n"
        "    sum = sum + 1\n"
        "    if sum == 5 then\n"
        "        goto done\n"
        "    end\n"
        "end\n"
        "::done::\n"
        "repeat\n"
        "    sum = sum - 1\n"
        "until sum < 0\n"
        "local f = coroutine.wrap(function(a)\n"
        "    local b = coroutine.yield(a)\n"
        "    return a + b\n"
        "end)\n"
        "f(\n"
        "    1\n"
        ")\n"
        "assert(f(2) == 3 and not pcall(error) and\n"
        "    select('#', 1, 2) == 2)\n"
        "return sum\n",
        2);
    const char *text = report();
    char can[200], ran[200];
    assert_int_equal(
        sscanf(text, "file app.lua\ncan %199[^\n]\nran %199[^\n]", can, ran),
        2);
    assert_string_equal(can, ran);
    assert_int_equal(strncmp(can, "1-4 6-9 ", 8), 0);
}

/* Other lines under the same name: what ran of the old ones is forgotten; the
 * same lines again keep what ran. */
static void new_code_starts_anew(void **state)
{
    (void)state;
    run("local a = 1\nlocal b = 2\n", 3);
    expect_app("file app.lua\ncan 1-2\nran 1-2\n");
    run("if select('#', ...) > 0 then\n    error('x')\nend\n", 4);
    expect_app("file app.lua\ncan 1-2\nran 1\n");
    run("if select('#', ...) > 0 then\n    error('x')\nend\n", 5);
    expect_app("file app.lua\ncan 1-2\nran 1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_the_application),
        cmocka_unit_test(every_line_of_straight_code_runs),
        cmocka_unit_test(new_code_starts_anew),
    };
    /* The framework's files are read from where the caller says, else from the
     * program; both are the same here. */
    (void)unsetenv("MOONSHINE_LUA");
    (void)unsetenv("MOONSHINE_COVERAGE");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
