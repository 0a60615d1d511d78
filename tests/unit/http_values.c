/* Reading and writing of values: query strings, cookies, Accept, entity tags,
 * ranges, and the built-in error bodies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http/masked_query.h"
#include "http/negotiate.h"
#include "http/problem.h"
#include "http/query.h"

static void assert_text(struct moon_buf *out, const char *want)
{
    moon_buf_add_char(out, '\0');
    assert_false(out->failed);
    assert_string_equal(out->ptr, want);
    moon_buf_deinit(out);
}

static void queries_are_split_and_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *query, *want;
    } samples[] = {
        {"", ""},
        {"a=1&b=2", "[a|1][b|2]"},
        {"a", "[a|]"},
        {"a=&=b&&=", "[a|][|b][|]"},
        {"a=b=c", "[a|b=c]"},
        {"a+b=c+d%2B%26", "[a b|c d+&]"},
        {"a=%zz&b=%4&c=%", "[a|%zz][b|%4][c|%]"},
        {"%61=%E2%82%AC", "[a|\xe2\x82\xac]"},
        {"a;b=1", "[a;b|1]"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_arena arena;
        struct moon_buf out = {0};
        struct moon_str name, value;
        struct moon_str rest = moon_strz(samples[i].query);
        moon_arena_init(&arena, NULL, 0);
        while (moon_query_next(&rest, &arena, &name, &value))
            moon_buf_printf(&out, "[%.*s|%.*s]", MOON_STR_ARG(name),
                            MOON_STR_ARG(value));
        assert_text(&out, samples[i].want);
        moon_arena_reset(&arena);
    }
}

static void secrets_in_queries_are_masked(void **state)
{
    (void)state;
    static const struct {
        const char *target, *want;
    } samples[] = {
        {"/", "/"},
        {"/a?", "/a?"},
        {"/a?b=c&author=d&page=2&pass", "/a?b=c&author=d&page=2&pass"},
        {"/a?token=x", "/a?token=***"},
        {"/a?b=1&access_token=x&c=2", "/a?b=1&access_token=***&c=2"},
        {"/a?ACCESS-TOKEN=x=y&", "/a?ACCESS-TOKEN=***&"},
        {"/a?accessToken=x&apiKey=y", "/a?accessToken=***&apiKey=***"},
        {"/a?%74oken=x&tok%65n=y&t%4Fken=z",
         "/a?%74oken=***&tok%65n=***&t%4Fken=***"},
        {"/a?user[password]=x&code=1", "/a?user[password]=***&code=***"},
        {"/a?token=&token=1", "/a?token=&token=***"},
        {"/a?%zz=1&&=2&+pin+=3", "/a?%zz=***&&=2&+pin+=***"},
        {"/a?b?token=x", "/a?b?token=***"},
        {"/a?X-Amz-Signature=1&sid=2", "/a?X-Amz-Signature=***&sid=***"},
        {"/token=x", "/token=x"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_arena arena;
        struct moon_buf out = {0};
        moon_arena_init(&arena, NULL, 0);
        moon_buf_add_str(
            &out, moon_masked_query(moon_strz(samples[i].target), &arena));
        assert_text(&out, samples[i].want);
        moon_arena_reset(&arena);
    }
}

static void cookies_are_split(void **state)
{
    (void)state;
    static const struct {
        const char *header, *want;
    } samples[] = {
        {"", ""},
        {"a=1; b=2", "[a|1][b|2]"},
        {"a=1;b=\"2\"", "[a|1][b|2]"},
        {" a = 1 ;; ; b", "[a|1]"},
        {"a=b=c; =x; d=", "[a|b=c][d|]"},
        {"a=\"; b=1", "[a|\"][b|1]"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_buf out = {0};
        struct moon_str name, value;
        struct moon_str rest = moon_strz(samples[i].header);
        while (moon_cookie_next(&rest, &name, &value))
            moon_buf_printf(&out, "[%.*s|%.*s]", MOON_STR_ARG(name),
                            MOON_STR_ARG(value));
        assert_text(&out, samples[i].want);
    }
}

static void set_cookie_is_written(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *path, *domain, *same_site;
        int64_t max_age;
        bool secure, http_only;
        const char *want; /* NULL: refused */
    } samples[] = {
        {"a", "b", "/", "", "Lax", -1, false, true,
         "a=b; Path=/; HttpOnly; SameSite=Lax"},
        {"a", "", "", "x.org", "", 0, true, false,
         "a=; Max-Age=0; Domain=x.org; Secure"},
        {"__Host-a", "b", "/", "", "None", 60, true, false,
         "__Host-a=b; Max-Age=60; Path=/; Secure; SameSite=None"},
        {"", "b", "/", "", "", -1, false, false, NULL},
        {"a b", "b", "/", "", "", -1, false, false, NULL},
        {"a=", "b", "/", "", "", -1, false, false, NULL},
        {"a", "b c", "/", "", "", -1, false, false, NULL},
        {"a", "b;c", "/", "", "", -1, false, false, NULL},
        {"a", "b,c", "/", "", "", -1, false, false, NULL},
        {"a", "\"b\"", "/", "", "", -1, false, false, NULL},
        {"a", "b\\", "/", "", "", -1, false, false, NULL},
        {"a", "b\r\nX: y", "/", "", "", -1, false, false, NULL},
        {"a", "b", "/;x", "", "", -1, false, false, NULL},
        {"a", "b", "/\n", "", "", -1, false, false, NULL},
        {"a", "b", "/", "x;y", "", -1, false, false, NULL},
        {"a", "b", "/", "", "lax", -1, false, false, NULL},
        {"a", "b", "/", "", "None", -1, false, false, NULL},
        {"__Secure-a", "b", "/", "", "", -1, false, false, NULL},
        {"__host-a", "b", "/", "", "", -1, false, false, NULL},
        {"__Host-a", "b", "/x", "", "", -1, true, false, NULL},
        {"__Host-a", "b", "/", "x.org", "", -1, true, false, NULL},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_buf out = {0};
        char error[256] = "";
        const struct moon_set_cookie cookie = {
            .name = moon_strz(samples[i].name),
            .value = moon_strz(samples[i].value),
            .path = moon_strz(samples[i].path),
            .domain = moon_strz(samples[i].domain),
            .same_site = moon_strz(samples[i].same_site),
            .max_age_s = samples[i].max_age,
            .secure = samples[i].secure,
            .http_only = samples[i].http_only,
        };
        enum moon_err err =
            moon_set_cookie_write(&cookie, &out, error, sizeof(error));
        if (samples[i].want == NULL) {
            assert_int_equal(err, MOON_EINVAL);
            assert_true(error[0] != '\0');
            assert_int_equal(out.len, 0);
        } else {
            assert_int_equal(err, MOON_OK);
            assert_text(&out, samples[i].want);
        }
    }
}

static void percent_encoding_round_trips(void **state)
{
    (void)state;
    char bytes[256];
    struct moon_arena arena;
    struct moon_buf out = {0};
    struct moon_str back;
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    moon_arena_init(&arena, NULL, 0);
    moon_percent_encode(moon_str(bytes, 256), &out);
    assert_int_equal(out.len, 66 + 190 * 3);
    assert_int_equal(
        moon_percent_decode(moon_buf_str(&out), true, &arena, &back), MOON_OK);
    assert_true(moon_str_eq(back, moon_str(bytes, 256)));
    assert_int_equal(moon_percent_decode(MOON_STR("a+b"), false, &arena, &back),
                     MOON_OK);
    assert_true(moon_str_eq(back, MOON_STR("a+b")));
    static const char *const bad[] = {"%", "%4", "%4g", "%g4", "a%"};
    for (size_t i = 0; i < MOON_COUNT(bad); i++)
        assert_int_equal(
            moon_percent_decode(moon_strz(bad[i]), false, &arena, &back),
            MOON_EPROTO);
    moon_buf_deinit(&out);
    moon_arena_reset(&arena);
}

static void accept_picks_the_best_offer(void **state)
{
    (void)state;
    static const struct moon_str offers[] = {
        {"application/json", 16}, {"text/html", 9}, {"text/plain", 10}};
    static const struct {
        const char *accept;
        int want;
    } samples[] = {
        {"", 0},
        {" ", 0},
        {"*/*", 0},
        {"text/html", 1},
        {"TEXT/HTML", 1},
        {"text/*", 1},
        {"text/*, text/plain", 2},
        {"text/html;q=0.5, application/json;q=0.6", 0},
        {"text/html;q=0.6, application/json;q=0.5", 1},
        {"text/html, application/json", 0},
        {"*/*, text/html", 1},
        {"*/*;q=0.1, text/html;q=0, text/plain;q=0.05", 0},
        {"application/json;q=0, */*", 1},
        {"text/html;level=1;q=0.7, text/plain;q=0.8", 2},
        {"text/html;v=\"a,b\", image/png", 1},
        {"text/html;level=1, text/html;q=0.3, text/plain;q=0.5", 2},
        {"text/plain;format=flowed;q=0.9, text/*;q=0.2, text/html", 1},
        {"text/html;level=1;q=0.4, text/*, text/plain;q=0.5", 2},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 1},
        {"image/png", -1},
        {"*/*;q=0", -1},
        {"text/html;q=2", -1},
        {"text/html;q=x, text/plain;q=0.001", 2},
        {"text", -1},
        {"/", -1},
        {"*", -1},
        {",,;;,q=,", -1},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        int got = moon_accept_best(moon_strz(samples[i].accept), offers,
                                   MOON_COUNT(offers));
        if (got != samples[i].want)
            fail_msg("%s gives %d", samples[i].accept, got);
    }
    assert_int_equal(moon_accept_best(MOON_STR(""), offers, 0), -1);
}

static void entity_tags_are_compared(void **state)
{
    (void)state;
    static const struct {
        const char *list, *etag;
        bool weak, want;
    } samples[] = {
        {"\"a\"", "\"a\"", false, true},
        {"\"a\"", "\"b\"", true, false},
        {"*", "\"a\"", false, true},
        {" * ", "\"a\"", false, true},
        {"\"b\", \"a\"", "\"a\"", false, true},
        {"\"b\",,W/\"a\"", "\"a\"", true, true},
        {"\"b\", W/\"a\"", "\"a\"", false, false},
        {"\"a\"", "W/\"a\"", true, true},
        {"\"a\"", "W/\"a\"", false, false},
        {"\"a,b\"", "\"a,b\"", false, true},
        {"\"x\\\", \"a\"", "\"a\"", false, true},
        {"a", "\"a\"", true, false},
        {"\"a", "\"a\"", true, false},
        {"", "\"a\"", true, false},
        {"W/", "\"a\"", true, false},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        if (moon_etag_listed(moon_strz(samples[i].list),
                             moon_strz(samples[i].etag),
                             samples[i].weak) != samples[i].want)
            fail_msg("%s in %s", samples[i].etag, samples[i].list);
    }
}

static void ranges_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        uint64_t size;
        enum moon_range_result want;
        uint64_t from, length;
    } samples[] = {
        {"bytes=0-0", 10, MOON_RANGE_ONE, 0, 1},
        {"bytes=2-5", 10, MOON_RANGE_ONE, 2, 4},
        {"Bytes=2-", 10, MOON_RANGE_ONE, 2, 8},
        {"bytes=2-99", 10, MOON_RANGE_ONE, 2, 8},
        {"bytes=-3", 10, MOON_RANGE_ONE, 7, 3},
        {"bytes=-99", 10, MOON_RANGE_ONE, 0, 10},
        {"bytes= 2-5 ", 10, MOON_RANGE_ONE, 2, 4},
        {"bytes=10-", 10, MOON_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 10, MOON_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, MOON_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-1", 0, MOON_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-18446744073709551615", 10, MOON_RANGE_ONE, 0, 10},
        {"bytes=5-2", 10, MOON_RANGE_NONE, 0, 0},
        {"bytes=0-1,4-5", 10, MOON_RANGE_NONE, 0, 0},
        {"bytes=-", 10, MOON_RANGE_NONE, 0, 0},
        {"bytes=a-b", 10, MOON_RANGE_NONE, 0, 0},
        {"bytes=5", 10, MOON_RANGE_NONE, 0, 0},
        {"bytes=", 10, MOON_RANGE_NONE, 0, 0},
        {"bytes=99999999999999999999-", 10, MOON_RANGE_NONE, 0, 0},
        {"lines=0-1", 10, MOON_RANGE_NONE, 0, 0},
        {"", 10, MOON_RANGE_NONE, 0, 0},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_range out = {0, 0};
        enum moon_range_result got = moon_range_parse(
            moon_strz(samples[i].value), samples[i].size, &out);
        if (got != samples[i].want || out.from != samples[i].from ||
            out.length != samples[i].length)
            fail_msg("%s of %d", samples[i].value, (int)samples[i].size);
    }
}

static void extensions_name_types(void **state)
{
    (void)state;
    static const struct {
        const char *path, *want;
    } samples[] = {
        {"a.html", "text/html; charset=utf-8"},
        {"/x/a.min.JS", "text/javascript; charset=utf-8"},
        {"a.png", "image/png"},
        {"a.woff2", "font/woff2"},
        {"a.tar.gz", "application/gzip"},
        {"a.json", "application/json"},
        {"html", "application/octet-stream"},
        {"a.b/html", "application/octet-stream"},
        {"a.", "application/octet-stream"},
        {"", "application/octet-stream"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++)
        assert_true(
            moon_str_eq(moon_content_type_of(moon_strz(samples[i].path)),
                        moon_strz(samples[i].want)));
}

static void problems_are_written(void **state)
{
    (void)state;
    struct moon_buf out = {0};
    struct moon_str type =
        moon_problem_write(404, MOON_STR("*/*"), MOON_STR_NONE, MOON_STR_NONE,
                           MOON_STR_NONE, &out);
    assert_true(moon_str_eq(type, MOON_STR("application/problem+json")));
    assert_text(&out, "{\"type\":\"about:blank\",\"title\":\"Not Found\","
                      "\"status\":404}\n");
    (void)moon_problem_write(422, MOON_STR("application/json, text/html"),
                             MOON_STR("a \"b\""), MOON_STR("{\"x\":\"y\"}"),
                             MOON_STR("id-1"), &out);
    assert_text(&out,
                "{\"type\":\"about:blank\",\"title\":\"Unprocessable Content\","
                "\"status\":422,\"detail\":\"a \\\"b\\\"\","
                "\"details\":{\"x\":\"y\"},\"request_id\":\"id-1\"}\n");
    type = moon_problem_write(400, MOON_STR("text/html,*/*;q=0.8"),
                              MOON_STR("<script>&'\""), MOON_STR("{}"),
                              MOON_STR("id-1"), &out);
    assert_true(moon_str_eq(type, MOON_STR("text/html; charset=utf-8")));
    assert_text(&out, "<!doctype html>\n<html lang=\"en\">\n"
                      "<meta charset=\"utf-8\">\n"
                      "<title>400 Bad Request</title>\n"
                      "<h1>400 Bad Request</h1>\n"
                      "<p>&lt;script&gt;&amp;&#39;&quot;</p>\n"
                      "<p><small>Request id-1</small></p>\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_are_split_and_decoded),
        cmocka_unit_test(secrets_in_queries_are_masked),
        cmocka_unit_test(cookies_are_split),
        cmocka_unit_test(set_cookie_is_written),
        cmocka_unit_test(percent_encoding_round_trips),
        cmocka_unit_test(accept_picks_the_best_offer),
        cmocka_unit_test(entity_tags_are_compared),
        cmocka_unit_test(ranges_are_read),
        cmocka_unit_test(extensions_name_types),
        cmocka_unit_test(problems_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
