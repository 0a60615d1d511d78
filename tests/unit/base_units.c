#include "base/nearest.h"
#include "base/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char error[200];

static void durations(void **state)
{
    static const struct {
        const char *textz;
        uint64_t ms;
    } good[] = {
        {"0", 0},       {"1", 1000},       {"0.5", 500},      {"250ms", 250},
        {"30s", 30000}, {"5m", 300000},    {"12h", 43200000}, {"7d", 604800000},
        {" 2s ", 2000}, {"1.5h", 5400000}, {"0.0001", 1},     {"2S", 2000},
    };
    static const char *const bad[] = {
        "",
        "s",
        "-1",
        "1x",
        "1 s",
        "1e3",
        "0x10",
        "1.2.3",
        ".",
        "1w",
        "nan",
        "inf",
        "9999999999999999999",
        "1,5",
        "ms",
    };
    uint64_t ms;
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(good); i++) {
        assert_int_equal(moon_duration_parse(moon_strz(good[i].textz), &ms,
                                             error, sizeof(error)),
                         MOON_OK);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < MOON_COUNT(bad); i++) {
        error[0] = '\0';
        assert_int_equal(
            moon_duration_parse(moon_strz(bad[i]), &ms, error, sizeof(error)),
            MOON_EINVAL);
        assert_non_null(strstr(error, "is not a duration"));
    }
}

static void sizes(void **state)
{
    static const struct {
        const char *textz;
        uint64_t bytes;
    } good[] = {
        {"0", 0},           {"512", 512},      {"64k", 65536},  {"64K", 65536},
        {"64kb", 65536},    {"10m", 10485760}, {"1g", 1 << 30}, {"1.5k", 1536},
        {"2t", 2ull << 40}, {"3MiB", 3 << 20}, {"7b", 7},
    };
    static const char *const bad[] = {
        "", "k", "-1", "1.0001k", "1x", "1 k", "0x10", "99999999t", "1.5"};
    uint64_t bytes;
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(good); i++) {
        assert_int_equal(moon_size_parse(moon_strz(good[i].textz), &bytes,
                                         error, sizeof(error)),
                         MOON_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < MOON_COUNT(bad); i++) {
        error[0] = '\0';
        assert_int_equal(
            moon_size_parse(moon_strz(bad[i]), &bytes, error, sizeof(error)),
            MOON_EINVAL);
        assert_non_null(strstr(error, "is not a size"));
    }
}

static void formats_parse_back(void **state)
{
    static const uint64_t values[] = {0,     1,       250,   999,       1000,
                                      1500,  60000,   90000, 86400000,  1024,
                                      65536, 1 << 20, 1536,  3ull << 40};
    char text[40];
    uint64_t back;
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(values); i++) {
        moon_duration_format(values[i], text, sizeof(text));
        assert_int_equal(
            moon_duration_parse(moon_strz(text), &back, error, sizeof(error)),
            MOON_OK);
        assert_int_equal(back, values[i]);
        moon_size_format(values[i], text, sizeof(text));
        assert_int_equal(
            moon_size_parse(moon_strz(text), &back, error, sizeof(error)),
            MOON_OK);
        assert_int_equal(back, values[i]);
    }
    moon_duration_format(30000, text, sizeof(text));
    assert_string_equal(text, "30s");
    moon_size_format(65536, text, sizeof(text));
    assert_string_equal(text, "64k");
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(moon_edit_distance(MOON_STR(""), MOON_STR("")), 0);
    assert_int_equal(moon_edit_distance(MOON_STR("abc"), MOON_STR("")), 3);
    assert_int_equal(
        moon_edit_distance(MOON_STR("kitten"), MOON_STR("sitting")), 3);
    assert_int_equal(
        moon_edit_distance(MOON_STR("wrokers"), MOON_STR("workers")), 1);
    char longest[200];
    memset(longest, 'a', sizeof(longest));
    assert_true(moon_edit_distance(moon_str(longest, 200), MOON_STR("a")) ==
                SIZE_MAX);
}

static const char *nearest(const char *wantedz)
{
    static const char *const known[] = {"workers", "listen", "redis.timeout",
                                        "log.level", "header_timeout"};
    struct moon_nearest best;
    moon_nearest_init(&best, moon_strz(wantedz));
    for (size_t i = 0; i < MOON_COUNT(known); i++)
        moon_nearest_offer(&best, moon_strz(known[i]));
    return moon_nearest_found(&best) ? best.best.ptr : "";
}

static void the_nearest_name(void **state)
{
    (void)state;
    assert_string_equal(nearest("wrokers"), "workers");
    assert_string_equal(nearest("worker"), "workers");
    assert_string_equal(nearest("lissten"), "listen");
    assert_string_equal(nearest("level"), "log.level");
    assert_string_equal(nearest("header_timout"), "header_timeout");
    assert_string_equal(nearest("banana"), "");
    assert_string_equal(nearest(""), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),          cmocka_unit_test(sizes),
        cmocka_unit_test(formats_parse_back), cmocka_unit_test(distances),
        cmocka_unit_test(the_nearest_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
