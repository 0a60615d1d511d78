#include "base/config.h"

#include "base/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char error[600];

static struct moon_config *create(void)
{
    struct moon_config *config = moon_config_create();
    assert_non_null(config);
    return config;
}

static enum moon_err set_at(struct moon_config *config, const char *keyz,
                            const char *valuez, enum moon_config_level level,
                            const char *originz)
{
    error[0] = '\0';
    return moon_config_set(config, moon_strz(keyz), moon_strz(valuez), level,
                           originz, error, sizeof(error));
}

static enum moon_err set(struct moon_config *config, const char *keyz,
                         const char *valuez)
{
    return set_at(config, keyz, valuez, MOON_CONFIG_FILE, "config.lua");
}

static const char *print(const struct moon_config *config, uint32_t index,
                         bool masked)
{
    static char text[512];
    struct moon_buf out = {0};
    moon_config_print(config, index, masked, &out);
    (void)snprintf(text, sizeof(text), "%.*s",
                   MOON_STR_ARG(moon_buf_str(&out)));
    moon_buf_deinit(&out);
    return text;
}

static uint32_t key_index(const char *keyz)
{
    uint32_t index = 0;
    while (strcmp(moon_config_key(index), keyz) != 0)
        index++;
    return index;
}

static void documented_defaults(void **state)
{
    struct moon_config *c = create();
    (void)state;
    assert_int_equal(c->listen.count, 1);
    assert_string_equal(c->listen.items[0], "127.0.0.1:8080");
    assert_int_equal(c->request_line_limit_bytes, 8192);
    assert_int_equal(c->header_limit_bytes, 32768);
    assert_int_equal(c->header_count, 100);
    assert_int_equal(c->body_limit_bytes, 1 << 20);
    assert_int_equal(c->body_buffer_bytes, 65536);
    assert_int_equal(c->header_timeout_ms, 10000);
    assert_int_equal(c->keepalive_timeout_ms, 75000);
    assert_true(c->stream_timeout_ms == MOON_CONFIG_NONE);
    assert_int_equal(c->cpu_limit_ms, 250);
    assert_int_equal(c->linger_ms, 3600000);
    assert_int_equal(c->max_generations, 3);
    assert_int_equal(c->keepalive_requests, 0);
    assert_true(c->rollback_window_ms == MOON_CONFIG_NONE);
    assert_int_equal(c->session_idle_ms, 1800000);
    assert_int_equal(c->redis_timeout_ms, 250);
    assert_true(c->log_access);
    assert_string_equal(c->log_filez, "stderr");
    assert_string_equal(c->app_jsonz, "{}");
    assert_string_equal(c->userz, "");
    moon_config_destroy(c);
}

/* Whatever a key prints, setting it gives the same again. */
static void every_key_prints_what_it_parses(void **state)
{
    struct moon_config *config = create();
    char text[512];
    (void)state;
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        (void)snprintf(text, sizeof(text), "%s", print(config, i, false));
        assert_int_equal(set(config, moon_config_key(i), text), MOON_OK);
        assert_string_equal(print(config, i, false), text);
    }
    assert_null(moon_config_key(MOON_CONFIG_KEYS));
    moon_config_destroy(config);
}

static void good_values(void **state)
{
    static const char *const cases[][3] = {
        {"workers", "4", "4"},
        {"workers", "auto", "auto"},
        {"timeout", "2", "2s"},
        {"timeout", "0.25", "250ms"},
        {"timeout", "none", "none"},
        {"timeout", "false", "none"},
        {"body_limit", "10m", "10m"},
        {"max_connections_per_ip", "off", "none"},
        {"log.level", "DEBUG", "debug"},
        {"log.access", "false", "off"},
        {"proxy_protocol", "on", "on"},
        {"proxy_protocol", ":8080, unix:/a", ":8080,unix:/a"},
        {"proxy_protocol", "false", "off"},
        {"session.cookie.secure", "true", "on"},
        {"listen", ":8080, unix:/run/x.sock", ":8080,unix:/run/x.sock"},
        {"trusted_proxies", "10.0.0.0/8, ::1,unix", "10.0.0.0/8,::1,unix"},
        {"shared", "a=1m,b=64k", "a=1m,b=64k"},
        {"rollback.error_ratio", "0.25", "0.25"},
        {"session.url", "memory:", "memory:"},
        {"session.url", "redis+sentinel://h1:26379,h2,h3/mymaster/0",
         "redis+sentinel://h1:26379,h2,h3/mymaster/0"},
        {"app", "{\"a\":1}", "{\"a\":1}"},
    };
    struct moon_config *config = create();
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        assert_int_equal(set(config, cases[i][0], cases[i][1]), MOON_OK);
        assert_string_equal(print(config, key_index(cases[i][0]), false),
                            cases[i][2]);
    }
    assert_int_equal(set(config, "shared.c", "2m"), MOON_OK);
    assert_int_equal(set(config, "shared.a", "3m"), MOON_OK);
    assert_string_equal(print(config, key_index("shared"), false),
                        "a=3m,b=64k,c=2m");
    moon_config_destroy(config);
}

static void errors_say_where_and_what(void **state)
{
    static const char *const cases[][3] = {
        {"workers", "many",
         "config.lua: workers = \"many\": expected a whole number of 1..256 "
         "or auto"},
        {"workers", "0", "1..256 or auto"},
        {"workers", "-1", "1..256"},
        {"workers", "1e3", "1..256"},
        {"header_timeout", "soon", "expected a duration"},
        {"header_timeout", "none", "of 10ms..1d"},
        {"header_limit", "1", "of 256..16m"},
        {"log.level", "loud", "expected debug, info, warn or error"},
        {"log.access", "maybe", "expected true or false"},
        {"trusted_proxies", "::1,10.0.0.0/33,unix", "\"10.0.0.0/33\" has a"},
        {"trusted_proxies", "example.com", "\"example.com\" is no address"},
        {"trusted_proxies", "::1,,unix", "\"\" is no address"},
        {"proxy_protocol", "yes", "\"yes\" is not an address"},
        {"forwarded", "both", "expected x-forwarded or rfc7239"},
        {"listen", ":1,,:2", "expected a list"},
        {"listen", ":1,foo", "is not an address: it has no port"},
        {"admin", "unix:rel", "absolute path"},
        {"name", "../x", "expected at most 64 letters"},
        {"user", "a b", "expected at most 64 letters"},
        {"rollback.error_ratio", "1.5", "expected a ratio of 0 to 1"},
        {"rollback.error_ratio", "nan", "expected a ratio"},
        {"session.url", "rediss://h", "TLS tunnel"},
        {"session.url", "http://h", "expected a URL that starts with lmdb:"},
        {"redis.url", "redis://", "expected a URL"},
        {"redis.url", "memory:", "expected a URL"},
        {"shared", "a=1", "4k..1t"},
        {"shared.x", "lots", "4k..1t"},
        {"app", "[]", "expected a table"},
        {"log.file", "a\nb", "control"},
        {"wrokers", "4",
         "config.lua: wrokers is not a known key; did you mean \"workers\"?"},
        {"session", "memory:", "is a table with session.url"},
        {"log.levle", "info", "did you mean \"log.level\"?"},
        {"banana", "1", "config.lua: banana is not a known key"},
    };
    struct moon_config *config = create();
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        assert_int_equal(set(config, cases[i][0], cases[i][1]), MOON_EINVAL);
        if (strstr(error, cases[i][2]) == NULL)
            fail_msg("%s = %s: %s", cases[i][0], cases[i][1], error);
    }
    assert_int_equal(config->header_limit_bytes, 32768); /* as it was */
    moon_config_destroy(config);
}

static void layers(void **state)
{
    struct moon_config *config = create();
    (void)state;
    assert_int_equal(
        set_at(config, "workers", "3", MOON_CONFIG_OPTION, "--workers"),
        MOON_OK);
    assert_int_equal(
        set_at(config, "workers", "2", MOON_CONFIG_ENV, "MOONSHINE_WORKERS"),
        MOON_OK);
    assert_int_equal(set(config, "workers", "1"), MOON_OK);
    assert_int_equal(config->workers, 3);
    assert_string_equal(config->origins[MOON_CONFIG_KEY_workers], "--workers");
    /* Wrong below is wrong all the same. */
    assert_int_equal(set(config, "workers", "x"), MOON_EINVAL);
    assert_int_equal(config->workers, 3);
    assert_int_equal(
        set_at(config, "log.level", "debug", MOON_CONFIG_DEFAULT, "--dev"),
        MOON_OK);
    assert_int_equal(config->log_level, 0);
    assert_int_equal(set(config, "log.level", "warn"), MOON_OK);
    assert_int_equal(config->log_level, 2);
    assert_int_equal(set(config, "shared.a", "1m"), MOON_OK);
    assert_int_equal(
        set_at(config, "shared.b", "2m", MOON_CONFIG_OPTION, "--set"), MOON_OK);
    assert_string_equal(print(config, key_index("shared"), false), "b=2m");
    assert_int_equal(set_at(config, "app", "{}", MOON_CONFIG_OPTION, "--set"),
                     MOON_EINVAL);
    moon_config_destroy(config);
}

static void environment(void **state)
{
    struct moon_config *config = create();
    char pathz[] = "/tmp/moonshine-token-XXXXXX";
    (void)state;
    int fd = mkstemp(pathz);
    assert_int_equal(write(fd, "s3cret\n", 7), 7);
    (void)close(fd);
    (void)setenv("MOONSHINE_SESSION_URL", "memory:", 1);
    (void)setenv("MOONSHINE_LISTEN", ":1,:2", 1);
    (void)setenv("MOONSHINE_ADMIN_TOKEN_FILE", pathz, 1);
    (void)setenv("MOONSHINE_TIMEOUT", "", 1);
    (void)setenv("MOONSHINE_APP", "/srv/app", 1);
    assert_int_equal(moon_config_apply_env(config, error, sizeof(error)),
                     MOON_OK);
    assert_string_equal(config->session_urlz, "memory:");
    assert_int_equal(config->listen.count, 2);
    assert_string_equal(config->admin_tokenz, "s3cret");
    assert_int_equal(config->timeout_ms, 30000);
    (void)setenv("MOONSHINE_ADMIN_TOKEN", "x", 1);
    assert_int_equal(moon_config_apply_env(config, error, sizeof(error)),
                     MOON_EINVAL);
    assert_non_null(strstr(error, "both MOONSHINE_ADMIN_TOKEN and"));
    (void)unsetenv("MOONSHINE_ADMIN_TOKEN");
    (void)unlink(pathz);
    assert_int_equal(moon_config_apply_env(config, error, sizeof(error)),
                     MOON_EINVAL);
    assert_non_null(strstr(error, "cannot read"));
    (void)unsetenv("MOONSHINE_ADMIN_TOKEN_FILE");
    (void)setenv("MOONSHINE_HEADER_COUNT", "x", 1);
    assert_int_equal(moon_config_apply_env(config, error, sizeof(error)),
                     MOON_EINVAL);
    assert_non_null(strstr(error, "MOONSHINE_HEADER_COUNT: header_count"));
    (void)unsetenv("MOONSHINE_HEADER_COUNT");
    (void)unsetenv("MOONSHINE_SESSION_URL");
    (void)unsetenv("MOONSHINE_LISTEN");
    (void)unsetenv("MOONSHINE_TIMEOUT");
    (void)unsetenv("MOONSHINE_APP");
    moon_config_destroy(config);
}

static const char *mask(const char *urlz)
{
    static char text[200];
    struct moon_buf out = {0};
    moon_config_mask_url(moon_strz(urlz), &out);
    (void)snprintf(text, sizeof(text), "%.*s",
                   MOON_STR_ARG(moon_buf_str(&out)));
    moon_buf_deinit(&out);
    return text;
}

static void secrets_are_masked(void **state)
{
    struct moon_config *config = create();
    (void)state;
    assert_string_equal(mask("redis://user:p@ss@h:1/0"), "redis://***@h:1/0");
    assert_string_equal(mask("redis://h:1/0"), "redis://h:1/0");
    assert_string_equal(mask("redis+unix:///r.sock?db=0&password=x"),
                        "redis+unix:///r.sock?db=0&password=***");
    assert_string_equal(mask("lmdb:"), "lmdb:");
    assert_string_equal(mask(""), "");
    assert_int_equal(set(config, "admin_token", "hush"), MOON_OK);
    assert_string_equal(print(config, key_index("admin_token"), true), "***");
    assert_string_equal(print(config, key_index("admin_token"), false), "hush");
    assert_int_equal(set(config, "redis.url", "redis://:hush@h"), MOON_OK);
    assert_string_equal(print(config, key_index("redis.url"), true),
                        "redis://***@h");
    assert_int_equal(set(config, "redis.url", "rediss://:hush@h"), MOON_EINVAL);
    assert_null(strstr(error, "hush"));
    assert_int_equal(set(config, "admin_token", "hu\nsh"), MOON_EINVAL);
    assert_null(strstr(error, "hu"));
    assert_int_equal(set(config, "secrets.new", "0123456789abcde"),
                     MOON_EINVAL);
    assert_non_null(strstr(error, "***: expected at least 16 characters"));
    assert_null(strstr(error, "0123"));
    assert_int_equal(set(config, "secrets.new", "0123456789abcdef"), MOON_OK);
    assert_string_equal(print(config, key_index("secrets.new"), true), "***");
    moon_config_destroy(config);
}

static void survives_the_way_to_another_process(void **state)
{
    struct moon_config *config = create(), *copy;
    struct moon_buf bytes = {0}, again = {0};
    (void)state;
    assert_int_equal(set(config, "shared", "a=1m"), MOON_OK);
    assert_int_equal(set(config, "app", "{\"x\":[1,2]}"), MOON_OK);
    assert_int_equal(
        set_at(config, "listen", ":1,:2", MOON_CONFIG_OPTION, "--listen"),
        MOON_OK);
    assert_int_equal(moon_config_finish(config, error, sizeof(error)), MOON_OK);
    moon_config_serialise(config, &bytes);
    assert_int_equal(
        moon_config_parse(moon_buf_str(&bytes), &copy, error, sizeof(error)),
        MOON_OK);
    moon_config_serialise(copy, &again);
    assert_true(moon_str_eq(moon_buf_str(&bytes), moon_buf_str(&again)));
    assert_int_equal(copy->levels[MOON_CONFIG_KEY_listen], MOON_CONFIG_OPTION);
    moon_config_destroy(copy);
    for (size_t cut = 1; cut < bytes.len; cut += 7) {
        enum moon_err err = moon_config_parse(moon_str(bytes.ptr, cut), &copy,
                                              error, sizeof(error));
        if (err == MOON_OK)
            moon_config_destroy(copy);
    }
    assert_int_equal(
        moon_config_parse(MOON_STR("rubbish"), &copy, error, sizeof(error)),
        MOON_EPROTO);
    assert_null(copy);
    moon_buf_deinit(&again);
    moon_buf_deinit(&bytes);
    moon_config_destroy(config);
}

static void restart_keys(void **state)
{
    struct moon_config *a = create(), *b = create();
    struct moon_buf out = {0};
    (void)state;
    assert_int_equal(moon_config_restart_keys(a, b, &out), 0);
    assert_int_equal(set(b, "timeout", "1s"), MOON_OK);
    assert_int_equal(set(b, "workers", "7"), MOON_OK);
    assert_int_equal(set(b, "listen", ":1"), MOON_OK);
    assert_int_equal(moon_config_restart_keys(a, b, &out), 2);
    assert_true(moon_str_eq(moon_buf_str(&out), MOON_STR("listen, workers")));
    moon_buf_deinit(&out);
    moon_config_destroy(a);
    moon_config_destroy(b);
}

static struct moon_config *finished(const char *keyz, const char *valuez)
{
    struct moon_config *config = create();
    assert_int_equal(set(config, keyz, valuez), MOON_OK);
    assert_int_equal(moon_config_finish(config, error, sizeof(error)), MOON_OK);
    return config;
}

static void derived_defaults(void **state)
{
    (void)state;
    (void)setenv("RUNTIME_DIRECTORY", "/run/a:/run/b", 1);
    (void)unsetenv("STATE_DIRECTORY");
    (void)setenv("XDG_STATE_HOME", "/home/x/state", 1);
    struct moon_config *c = finished("redis.url", "redis://h");
    assert_true(c->workers >= 1);
    assert_true(c->memory_limit_bytes >= 16 << 20);
    assert_true(c->memory_limit_bytes <= 512 << 20);
    assert_true(c->max_connections >= 16);
    assert_string_equal(c->session_urlz, "redis://h");
    assert_string_equal(c->limits_urlz, "redis://h");
    assert_string_equal(c->cluster_urlz, "redis://h");
    assert_string_equal(c->namez, "node-8080");
    assert_string_equal(c->run_dirz, "/run/a");
    assert_string_equal(c->state_dirz, "/home/x/state/moonshine");
    assert_string_equal(c->adminz, "");
    moon_config_destroy(c);
    c = finished("listen", "[::1]:0");
    assert_string_equal(c->session_urlz, "lmdb:");
    assert_string_equal(c->namez, "");
    assert_int_equal(moon_config_set_port(c, 4711), MOON_OK);
    assert_string_equal(c->namez, "node-4711");
    assert_int_equal(moon_config_set_port(c, 1), MOON_OK);
    assert_string_equal(c->namez, "node-4711");
    moon_config_destroy(c);
    c = finished("listen", "unix:/run/my-shop.sock");
    assert_string_equal(c->namez, "node-my_shop");
    moon_config_destroy(c);
    c = finished("temp_dir", "tmp");
    assert_int_equal(set_at(c, "log.file", "x.log", MOON_CONFIG_OPTION, "-"),
                     MOON_OK);
    assert_int_equal(moon_config_resolve_paths(c, "/srv/app"), MOON_OK);
    assert_string_equal(c->temp_dirz, "/srv/app/tmp");
    assert_int_equal(c->log_filez[0], '/');
    assert_null(strstr(c->log_filez, "/srv/app"));
    moon_config_destroy(c);
    (void)unsetenv("RUNTIME_DIRECTORY");
    (void)unsetenv("XDG_STATE_HOME");
}

static void rules_between_keys(void **state)
{
    static const char *const cases[][3] = {
        {"listen", "", "listen is empty"},
        {"listen", ":1,:1", "twice"},
        {"proxy_protocol", "on", "proxy_protocol needs trusted_proxies"},
        {"admin", "127.0.0.1:9000", "admin_token"},
        {"secrets.old", "0123456789abcdef", "secrets.new"},
        {"request_memory", "1t", "memory_limit"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_config *config = create();
        assert_int_equal(set(config, cases[i][0], cases[i][1]), MOON_OK);
        assert_int_equal(moon_config_finish(config, error, sizeof(error)),
                         MOON_EINVAL);
        assert_non_null(strstr(error, cases[i][2]));
        moon_config_destroy(config);
    }
}

static void proxy_listeners_are_listeners(void **state)
{
    /* Which of the three speak it, or what is wrong. */
    static const struct {
        const char *valuez, *errorz;
        bool speaks[3];
    } cases[] = {
        {":8081", NULL, {false, true, false}},
        {"0.0.0.0:8081,unix:/run/a.sock", NULL, {false, true, true}},
        {"on", NULL, {true, true, true}},
        {"off", NULL, {false, false, false}},
        {"127.0.0.1:8081", "not one of listen", {false}},
        {":8081,:8082", "not one of listen", {false}},
        {"unix:/run/b.sock", "not one of listen", {false}},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_config *config = create();
        assert_int_equal(set(config, "listen", ":8080,:8081,unix:/run/a.sock"),
                         MOON_OK);
        assert_int_equal(set(config, "trusted_proxies", "unix"), MOON_OK);
        assert_int_equal(set(config, "proxy_protocol", cases[i].valuez),
                         MOON_OK);
        enum moon_err err = moon_config_finish(config, error, sizeof(error));
        assert_int_equal(err, cases[i].errorz == NULL ? MOON_OK : MOON_EINVAL);
        if (cases[i].errorz != NULL)
            assert_non_null(strstr(error, cases[i].errorz));
        for (uint32_t j = 0; err == MOON_OK && j < 3; j++)
            assert_int_equal(moon_config_is_proxied(config, j),
                             cases[i].speaks[j]);
        moon_config_destroy(config);
    }
}

static void put(const char *dirz, const char *namez, const char *textz)
{
    char pathz[200];
    (void)mkdir(dirz, 0700);
    (void)snprintf(pathz, sizeof(pathz), "%s/%s", dirz, namez);
    FILE *file = fopen(pathz, "we");
    assert_non_null(file);
    (void)fputs(textz, file);
    (void)fclose(file);
}

static void drop(const char *dirz, const char *namez)
{
    char pathz[200];
    (void)snprintf(pathz, sizeof(pathz), "%s/%s", dirz, namez);
    (void)unlink(pathz);
    (void)rmdir(dirz);
}

static void control_groups(void **state)
{
    char rootz[] = "/tmp/moonshine-cgroup-XXXXXX", az[80], bz[80];
    (void)state;
    assert_non_null(mkdtemp(rootz));
    assert_true(moon_cgroup_memory("0::/a/b\n", rootz) == UINT64_MAX);
    assert_true(moon_cgroup_cpu_milli("", rootz) == UINT64_MAX);
    /* Version 2: the parent's limit binds. */
    (void)snprintf(az, sizeof(az), "%s/a", rootz);
    (void)snprintf(bz, sizeof(bz), "%s/a/b", rootz);
    put(az, "memory.max", "1048576\n");
    put(bz, "memory.max", "max\n");
    put(bz, "cpu.max", "150000 100000\n");
    assert_int_equal(moon_cgroup_memory("0::/a/b\n", rootz), 1048576);
    assert_int_equal(moon_cgroup_cpu_milli("0::/a/b\n", rootz), 1500);
    assert_int_equal(moon_cgroup_cpu_milli("0::/not/here\n", rootz),
                     UINT64_MAX);
    drop(bz, "cpu.max");
    drop(bz, "memory.max");
    drop(az, "memory.max");
    /* Version 1, as a container sees it: only the root is there. */
    (void)snprintf(az, sizeof(az), "%s/cpu", rootz);
    put(az, "cpu.cfs_quota_us", "50000\n");
    put(az, "cpu.cfs_period_us", "100000\n");
    assert_int_equal(
        moon_cgroup_cpu_milli("3:cpu,cpuacct:/docker/1\n0::/x\n", rootz), 500);
    put(az, "cpu.cfs_quota_us", "-1\n");
    assert_true(moon_cgroup_cpu_milli("3:cpu:/\n", rootz) == UINT64_MAX);
    drop(az, "cpu.cfs_quota_us");
    drop(az, "cpu.cfs_period_us");
    (void)rmdir(rootz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented_defaults),
        cmocka_unit_test(every_key_prints_what_it_parses),
        cmocka_unit_test(good_values),
        cmocka_unit_test(errors_say_where_and_what),
        cmocka_unit_test(layers),
        cmocka_unit_test(environment),
        cmocka_unit_test(secrets_are_masked),
        cmocka_unit_test(survives_the_way_to_another_process),
        cmocka_unit_test(restart_keys),
        cmocka_unit_test(derived_defaults),
        cmocka_unit_test(rules_between_keys),
        cmocka_unit_test(proxy_listeners_are_listeners),
        cmocka_unit_test(control_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
