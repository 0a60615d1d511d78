#include "vm/config_eval.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char error[1100];

static enum moon_err eval(struct moon_config *config, const char *textz)
{
    error[0] = '\0';
    return moon_config_eval(config, moon_strz(textz), "config.lua", error,
                            sizeof(error));
}

static struct moon_config *good(const char *textz)
{
    struct moon_config *config = moon_config_create();
    assert_non_null(config);
    if (eval(config, textz) != MOON_OK)
        fail_msg("%s", error);
    return config;
}

static void returned_and_assigned_tables(void **state)
{
    static const char *const texts[] = {
        "return { workers = 4, timeout = '2s', cpu_limit = 0.1,\n"
        "  listen = { ':1', ':2' }, log = { level = 'warn', access = false },\n"
        "  session = { cookie = { secure = true } }, trusted_proxies = {},\n"
        "  shared = { hits = '1m' }, stream_timeout = false,\n"
        "  app = { title = 'x', list = { 1, 2 }, on = true } }",
        "workers = 4 timeout = '2s' cpu_limit = 0.1\n"
        "listen = { ':1', ':2' } log = { level = 'warn', access = false }\n"
        "session = { cookie = { secure = true } } trusted_proxies = {}\n"
        "shared = { hits = 2^20 } stream_timeout = 'none'\n"
        "app = { title = 'x', list = { 1, 2 }, on = true }",
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(texts); i++) {
        struct moon_config *c = good(texts[i]);
        assert_int_equal(c->workers, 4);
        assert_int_equal(c->timeout_ms, 2000);
        assert_int_equal(c->cpu_limit_ms, 100);
        assert_int_equal(c->listen.count, 2);
        assert_string_equal(c->listen.items[1], ":2");
        assert_int_equal(c->log_level, 2);
        assert_false(c->log_access);
        assert_int_equal(c->session_cookie_secure, MOON_SECURE_ON);
        assert_true(c->stream_timeout_ms == MOON_CONFIG_NONE);
        assert_int_equal(c->shared.count, 1);
        assert_int_equal(c->shared.items[0].bytes, 1 << 20);
        assert_non_null(strstr(c->app_jsonz, "\"list\":[1,2]"));
        assert_int_equal(c->levels[MOON_CONFIG_KEY_workers], MOON_CONFIG_FILE);
        moon_config_destroy(c);
    }
    moon_config_destroy(good(""));
    moon_config_destroy(good("-- nothing\nreturn {}"));
    moon_config_destroy(good("session = {} app = {}"));
}

static void it_may_compute(void **state)
{
    (void)setenv("MOONSHINE_TEST_PORT", "81", 1);
    struct moon_config *c =
        good("local port = env('MOONSHINE_TEST_PORT') or '80'\n"
             "if env('MOONSHINE_TEST_NOT') then workers = 9 end\n"
             "listen = (':%d'):format(tonumber(port))\n"
             "workers = math.max(1, 2)\n");
    (void)state;
    assert_string_equal(c->listen.items[0], ":81");
    assert_int_equal(c->workers, 2);
    assert_string_equal(c->origins[MOON_CONFIG_KEY_listen], "config.lua:3");
    moon_config_destroy(c);
    (void)unsetenv("MOONSHINE_TEST_PORT");
}

static void errors_name_file_line_and_key(void **state)
{
    static const char *const cases[][2] = {
        {"workers = ", "config.lua:1: unexpected symbol"},
        {"\n\nworkers = 'many'", "config.lua:3: workers = \"many\": expected"},
        {"return {\n  log = { levle = 'x' } }",
         "config.lua:2: log.levle is not a known key; did you mean "
         "\"log.level\"?"},
        {"x = 1\nx.y.z = 2", "config.lua:2: attempt to index"},
        {"error('no way')", "config.lua:1: no way"},
        {"error({})", "config.lua: "},
        {"timeout = function() end", "config.lua:1: timeout is a function"},
        {"listen = { ':1', a = 1 }", "mixes a list"},
        {"listen = { {} }", "no plain value"},
        {"listen = { 'a,b' }", "comma"},
        {"return 7", "config.lua: returns a number"},
        {"error({})", "config.lua: raised an error that is not text"},
        {"helper = 1\nreturn {}", "assigns the global \"helper\""},
        {"app = 7", "app is not a table"},
        {"app = { a = { b = print } }", "unexpected"},
        {"app = { a = { b = env } }", ".a.b"},
        {"app = { 1, 2 }", "expected a table"},
        {"[1] = 2", "config.lua:1:"},
        {"return { [1.5] = 2 }", "config.lua: a key of the table it returns"},
        {"t = {} t.t = t", "nested too deeply"},
        {"io.open('/etc/passwd')", "attempt to index"},
        {"os.exit(3)", "attempt to index"},
        {"require 'ffi'", "attempt to call"},
        {"load('return 1')", "attempt to call"},
        {"debug.sethook()", "attempt to index"},
        {"\033LJ\002", "attempt to load"},
        {"while true do end", "config.lua:1: took longer than 1 s"},
        {"while true do pcall(function() while true do end end) end",
         "took longer than 1 s"},
        {"local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
         "needs more than 64 MiB"},
        {"x = ('x'):rep(1e9)", "needs more than 64 MiB"},
        {"workers = 0/0", "1..256"},
        {"workers = -1", "1..256"},
        {"workers = 1.5", "1..256"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_config *config = moon_config_create();
        if (strcmp(cases[i][1], "unexpected") == 0) {
            /* There is no print: the field is nil, so all is well. */
            assert_int_equal(eval(config, cases[i][0]), MOON_OK);
        } else {
            assert_int_not_equal(eval(config, cases[i][0]), MOON_OK);
            if (strstr(error, cases[i][1]) == NULL)
                fail_msg("%s: %s", cases[i][0], error);
        }
        moon_config_destroy(config);
    }
}

static void options_stay_above_the_file(void **state)
{
    struct moon_config *config = moon_config_create();
    (void)state;
    assert_int_equal(moon_config_set(config, MOON_STR("workers"), MOON_STR("3"),
                                     MOON_CONFIG_OPTION, "--workers", error,
                                     sizeof(error)),
                     MOON_OK);
    assert_int_equal(eval(config, "workers = 4 header_count = 7"), MOON_OK);
    assert_int_equal(config->workers, 3);
    assert_int_equal(config->header_count, 7);
    moon_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returned_and_assigned_tables),
        cmocka_unit_test(it_may_compute),
        cmocka_unit_test(errors_name_file_line_and_key),
        cmocka_unit_test(options_stay_above_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
