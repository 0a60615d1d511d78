/* llhttp is as strict as it can be: it was compiled so, and no lenience is on
 * in any state of a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http_feed.h"

_Static_assert(LLHTTP_STRICT_MODE == 1, "the header says another mode");

static llhttp_errno_t parse(const char *textz)
{
    llhttp_t parser;
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    return llhttp_execute(&parser, textz, strlen(textz));
}

/* The mode is one of the library's, not only of its header: these pass in the
 * other one. */
static void library_is_strict(void **state)
{
    (void)state;
    assert_int_equal(parse("GET /\xc3\xa9 HTTP/1.1\r\n\r\n"), HPE_INVALID_URL);
    assert_int_equal(parse("GET /\tHTTP/1.1\r\n\r\n"), HPE_INVALID_URL);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), HPE_OK);
}

static void no_lenience_is_on(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "ODD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1;a=b\r\na\r\n0\r\nA: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: b\r\nConnection: upgrade\r\n"
        "Content-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    };
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        struct moon_str bytes = moon_strz(samples[i]);
        struct feed feed;
        feed_init(&feed, &feed_limits);
        assert_int_equal(feed.in.parser.lenient_flags, 0);
        for (size_t to = 1; to <= bytes.len; to++) {
            feed_more(&feed, bytes, to);
            assert_int_equal(feed.in.parser.lenient_flags, 0);
        }
        assert_true(feed.result == MOON_IN_COMPLETE ||
                    feed.result == MOON_IN_FAILED);
        feed_deinit(&feed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(library_is_strict),
        cmocka_unit_test(no_lenience_is_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
