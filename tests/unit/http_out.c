#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http/http_date.h"
#include "http/http_out.h"
#include "http/method.h"
#include "http/status.h"

static void methods_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < MOON_METHOD_OTHER; i++) {
        struct moon_str name = moon_method_name((enum moon_method)i);
        assert_int_equal(moon_method_parse(name), i);
    }
    static const char *const others[] = {"",     "get",    "GE",      "GETS",
                                         "PIT",  "POSE",   "PATCHES", "TRACE",
                                         "HEAP", "DELETES"};
    for (size_t i = 0; i < MOON_COUNT(others); i++)
        assert_int_equal(moon_method_parse(moon_strz(others[i])),
                         MOON_METHOD_OTHER);
}

static void statuses_have_reasons(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *reason;
    } samples[] = {
        {100, "Continue"},  {200, "OK"},
        {404, "Not Found"}, {511, "Network Authentication Required"},
        {299, "Unknown"},   {99, "Unknown"},
        {-1, "Unknown"},    {512, "Unknown"},
        {1000, "Unknown"},
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++)
        assert_true(moon_str_eq(moon_status_reason(samples[i].status),
                                moon_strz(samples[i].reason)));
}

struct fixture {
    struct moon_arena arena;
    struct moon_response res;
    struct moon_buf out;
};

static void begin(struct fixture *fix)
{
    moon_arena_init(&fix->arena, NULL, 0);
    moon_response_init(&fix->res, NULL, 0);
    fix->out = (struct moon_buf){0};
}

static void end(struct fixture *fix)
{
    moon_arena_reset(&fix->arena);
    moon_buf_deinit(&fix->out);
}

static enum moon_err set(struct fixture *fix, const char *name,
                         const char *value)
{
    struct moon_str v = value == NULL ? MOON_STR_NONE : moon_strz(value);
    return moon_response_set(&fix->res, &fix->arena, moon_strz(name), v);
}

static enum moon_err add(struct fixture *fix, const char *name,
                         const char *value)
{
    return moon_response_add(&fix->res, &fix->arena, moon_strz(name),
                             moon_strz(value));
}

/* The fields as "name=value;...". */
static void assert_fields(struct fixture *fix, const char *want)
{
    struct moon_buf text = {0};
    for (uint32_t i = 0; i < fix->res.field_count; i++)
        moon_buf_printf(&text, "%.*s=%.*s;",
                        MOON_STR_ARG(fix->res.fields[i].name),
                        MOON_STR_ARG(fix->res.fields[i].value));
    moon_buf_add_char(&text, '\0');
    assert_string_equal(text.ptr, want);
    moon_buf_deinit(&text);
}

static void response_keeps_fields(void **state)
{
    (void)state;
    struct fixture fix;
    struct moon_str out;
    begin(&fix);
    assert_int_equal(set(&fix, "A", "1"), MOON_OK);
    assert_int_equal(add(&fix, "b", "2"), MOON_OK);
    assert_int_equal(add(&fix, "B", "3"), MOON_OK);
    assert_fields(&fix, "A=1;b=2;B=3;");
    assert_true(moon_response_get(&fix.res, MOON_STR("B"), 1, &out));
    assert_true(moon_str_eq(out, MOON_STR("3")));
    assert_false(moon_response_get(&fix.res, MOON_STR("B"), 2, &out));
    assert_int_equal(set(&fix, "B", "4"), MOON_OK);
    assert_fields(&fix, "A=1;B=4;");
    assert_int_equal(set(&fix, "a", NULL), MOON_OK);
    assert_fields(&fix, "B=4;");
    assert_int_equal(set(&fix, "B", ""), MOON_OK);
    assert_fields(&fix, "B=;");
    for (int i = 0; i < 100; i++)
        assert_int_equal(add(&fix, "C", "5"), MOON_OK);
    assert_int_equal(fix.res.field_count, 101);
    end(&fix);
}

static void response_refuses_what_would_split_it(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "A B",
                                        "A:",
                                        "A\r\n",
                                        "Content-Length",
                                        "transfer-encoding",
                                        "CONNECTION",
                                        "Date",
                                        "\xc3\xa9"};
    static const char *const values[] = {"a\r\nB: c", "a\n", "\r"};
    struct fixture fix;
    begin(&fix);
    for (size_t i = 0; i < MOON_COUNT(names); i++) {
        assert_int_equal(set(&fix, names[i], "x"), MOON_EINVAL);
        assert_int_equal(add(&fix, names[i], "x"), MOON_EINVAL);
    }
    for (size_t i = 0; i < MOON_COUNT(values); i++)
        assert_int_equal(set(&fix, "A", values[i]), MOON_EINVAL);
    assert_int_equal(moon_response_add(&fix.res, &fix.arena, MOON_STR("A"),
                                       moon_str("a\0b", 3)),
                     MOON_EINVAL);
    assert_int_equal(fix.res.field_count, 0);
    end(&fix);
}

static void error_answers_drop_content_fields(void **state)
{
    (void)state;
    struct fixture fix;
    begin(&fix);
    static const char *const names[] = {
        "Content-Type",  "content-language", "ETag",
        "Last-Modified", "Cache-Control",    "Set-Cookie",
        "X-Etag",        "Content",          "Content-Security-Policy"};
    for (size_t i = 0; i < MOON_COUNT(names); i++)
        assert_int_equal(add(&fix, names[i], ""), MOON_OK);
    assert_int_equal(add(&fix, "Content-Range", "bytes 0-1/2"), MOON_OK);
    assert_int_equal(add(&fix, "Content-Range", "bytes */2"), MOON_OK);
    moon_response_drop_content(&fix.res);
    assert_fields(&fix, "Set-Cookie=;X-Etag=;Content=;Content-Security-Policy=;"
                        "Content-Range=bytes */2;");
    end(&fix);
}

/* The head with the time of its Date replaced by "D". */
static void assert_head(struct fixture *fix, struct moon_out_head head,
                        const char *want)
{
    struct moon_buf text = {0};
    fix->out.len = 0;
    moon_http_out_head(&fix->out, &fix->res, &head);
    assert_false(fix->out.failed);
    moon_buf_add_char(&fix->out, '\0');
    char *date = strstr(fix->out.ptr, "Date: ");
    assert_non_null(date);
    time_t when;
    assert_true(moon_http_date_parse(moon_str(date + 6, 29), &when));
    moon_buf_add(&text, fix->out.ptr, (size_t)(date - fix->out.ptr));
    moon_buf_addz(&text, "D");
    moon_buf_addz(&text, date + 35);
    moon_buf_add_char(&text, '\0');
    assert_string_equal(text.ptr, want);
    moon_buf_deinit(&text);
}

static void heads_are_written(void **state)
{
    (void)state;
    struct fixture fix;
    const struct moon_str plain = MOON_STR("text/plain");
    begin(&fix);
    fix.res.status = 200;
    assert_head(&fix,
                (struct moon_out_head){MOON_OUT_LENGTH, 13, true, 1, plain},
                "HTTP/1.1 200 OK\r\nD\r\nContent-Type: text/plain\r\n"
                "Content-Length: 13\r\n\r\n");
    assert_head(&fix,
                (struct moon_out_head){MOON_OUT_CHUNKED, 0, false, 1, plain},
                "HTTP/1.1 200 OK\r\nD\r\nContent-Type: text/plain\r\n"
                "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    assert_head(&fix,
                (struct moon_out_head){MOON_OUT_LENGTH, UINT64_MAX, true, 0,
                                       MOON_STR_NONE},
                "HTTP/1.1 200 OK\r\nD\r\nContent-Length: 18446744073709551615"
                "\r\nConnection: keep-alive\r\n\r\n");
    assert_head(
        &fix, (struct moon_out_head){MOON_OUT_CLOSE, 0, true, 1, MOON_STR_NONE},
        "HTTP/1.1 200 OK\r\nD\r\nConnection: close\r\n\r\n");
    fix.res.status = 299;
    fix.res.close = true;
    assert_int_equal(add(&fix, "content-TYPE", "a/b"), MOON_OK);
    assert_int_equal(add(&fix, "X", ""), MOON_OK);
    assert_head(&fix, (struct moon_out_head){MOON_OUT_NONE, 0, true, 1, plain},
                "HTTP/1.1 299 Unknown\r\nD\r\ncontent-TYPE: a/b\r\nX: \r\n"
                "Connection: close\r\n\r\n");
    end(&fix);
}

static void lengths_are_written(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {
        0,    1,     9,     10,    11,    19,     90,         99,        100,
        101,  109,   110,   999,   1000,  1001,   1009,       1090,      5070,
        9999, 10000, 10001, 65535, 99999, 100000, 4294967296, UINT64_MAX};
    struct fixture fix;
    begin(&fix);
    fix.res.status = 200;
    for (size_t i = 0; i < MOON_COUNT(lengths); i++) {
        char want[120];
        (void)snprintf(want, sizeof(want),
                       "HTTP/1.1 200 OK\r\nD\r\nContent-Length: %llu\r\n\r\n",
                       (unsigned long long)lengths[i]);
        assert_head(&fix,
                    (struct moon_out_head){MOON_OUT_LENGTH, lengths[i], true, 1,
                                           MOON_STR_NONE},
                    want);
    }
    end(&fix);
}

static void chunk_sizes_are_written(void **state)
{
    (void)state;
    struct moon_buf out = {0};
    moon_http_out_chunk_begin(&out, 1);
    moon_http_out_chunk_begin(&out, 0xabc0);
    moon_http_out_chunk_begin(&out, SIZE_MAX);
    assert_true(moon_str_eq(moon_buf_str(&out),
                            MOON_STR("1\r\nabc0\r\nffffffffffffffff\r\n")));
    moon_buf_deinit(&out);
}

static void dates_round_trip(void **state)
{
    (void)state;
    static const struct {
        time_t when;
        const char *text;
    } samples[] = {
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {951782399, "Mon, 28 Feb 2000 23:59:59 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    char text[30];
    time_t when;
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        moon_http_date_write(samples[i].when, text);
        assert_string_equal(text, samples[i].text);
        assert_true(moon_http_date_parse(moon_strz(text), &when));
        assert_int_equal(when, samples[i].when);
    }
    moon_http_date_write(INT64_MAX, text);
    assert_string_equal(text, samples[4].text);
}

static void dates_are_read_in_three_formats(void **state)
{
    (void)state;
    static const char *const good[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994", "Mon Nov 06 08:49:37 1994"};
    static const char *const bad[] = {
        "",
        "Sun",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nox 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "784111777",
    };
    time_t when;
    for (size_t i = 0; i < MOON_COUNT(good); i++) {
        assert_true(moon_http_date_parse(moon_strz(good[i]), &when));
        assert_int_equal(when, 784111777);
    }
    for (size_t i = 0; i < MOON_COUNT(bad); i++)
        assert_false(moon_http_date_parse(moon_strz(bad[i]), &when));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods_have_names),
        cmocka_unit_test(statuses_have_reasons),
        cmocka_unit_test(response_keeps_fields),
        cmocka_unit_test(response_refuses_what_would_split_it),
        cmocka_unit_test(error_answers_drop_content_fields),
        cmocka_unit_test(heads_are_written),
        cmocka_unit_test(lengths_are_written),
        cmocka_unit_test(chunk_sizes_are_written),
        cmocka_unit_test(dates_round_trip),
        cmocka_unit_test(dates_are_read_in_three_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
