/* The shortcut for plain heads: which it takes, and that it finds what llhttp
 * finds. A head that comes in two pieces goes by llhttp. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http_feed.h"

#include "http/head_plain.h"

#define BROWSER                                              \
    "GET /a/b%20c?x=1&y=%C3%A9&z HTTP/1.1\r\n"               \
    "Host: www.example.com:8080\r\n"                         \
    "Connection: keep-alive\r\n"                             \
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko \r\n" \
    "Accept: text/html,*/*;q=0.8\r\n"                        \
    "Accept-Encoding: gzip, deflate\r\n"                     \
    "Cookie: id=abc; theme=\"dark\"\r\n"                     \
    "\r\n"
#define SHORT "GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n"

static const char *const plain[] = {
    BROWSER,
    SHORT,
    "GET /?? HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET //a/../b HTTP/1.1\r\nHost: x\r\nX-Empty-Not: .\r\n\r\n",
    "GET /a HTTP/1.1\r\nHOST: x\r\nx: y  z\r\n\r\nGET /b HTTP/1.1\r\n",
};

static const char *const not_plain[] = {
    "",
    "GET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r",
    "GET / HTTP/1.1\r\n\r\n                    ", /* no Host */
    "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: abcdef\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: abcdef\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "get / HTTP/1.1\r\nHost: x12345\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: x1234\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: x12345\r\n\r\n",
    "GET / HTTP/1.1\nHost: x12345\r\n\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\nA: bcdefg\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA : bcd\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n: bcdef\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA:bcdef\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA:  bcd\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n     ",
    "GET / HTTP/1.1\r\nHost: x\r\nA: b\tc\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA: \xc3\xa9\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nA: b\x01z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\nabcde",
    "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nProxy-Connection: close\r\n\r\n",
};

static uint32_t shortcut(const char *textz, uint32_t most_fields)
{
    struct moon_request req;
    struct moon_http_in in;
    size_t len = strlen(textz);
    char *copy = malloc(len + 1); /* as long as it is, for ASan */
    assert_non_null(copy);
    memcpy(copy + 1, textz, len);
    moon_http_in_start(&in, &req, NULL, &feed_limits);
    uint32_t behind = moon_head_plain(&req, most_fields, copy + 1, 0, len);
    if (behind == 0) {
        assert_int_equal(req.field_count, 0);
        assert_int_equal(req.host.len + req.path.len + req.target.len, 0);
        assert_false(req.keep_alive);
    }
    free(copy);
    return behind;
}

static void takes_plain_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(plain); i++)
        assert_int_equal(shortcut(plain[i], MOON_FIELDS_INLINE),
                         strstr(plain[i], "\r\n\r\n") + 4 - plain[i]);
}

static void leaves_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(not_plain); i++)
        assert_int_equal(shortcut(not_plain[i], MOON_FIELDS_INLINE), 0);
    assert_int_equal(shortcut(BROWSER, 5), 0);
    assert_int_not_equal(shortcut(BROWSER, 6), 0);
}

/* What comes of it whole, and in two pieces. */
static void compare(struct moon_str bytes,
                    const struct moon_http_limits *limits)
{
    static struct feed whole, pieces;
    feed_init(&whole, limits);
    feed_all(&whole, bytes, bytes.len);
    feed_init(&pieces, limits);
    feed_all(&pieces, bytes, 3);
    if (strcmp(whole.text, pieces.text) != 0)
        fail_msg("%.*s\ngives %s\nand   %s", MOON_STR_ARG(bytes), whole.text,
                 pieces.text);
    feed_deinit(&whole);
    feed_deinit(&pieces);
}

/* Every byte of a head replaced by every other one, left out, and doubled. */
static void finds_what_llhttp_finds(void **state)
{
    (void)state;
    static const char *const heads[] = {BROWSER, SHORT};
    char text[512];
    for (size_t h = 0; h < MOON_COUNT(heads); h++) {
        size_t len = strlen(heads[h]);
        for (size_t at = 0; at < len; at++) {
            memcpy(text, heads[h], len);
            for (int byte = 0; byte < 256; byte++) {
                text[at] = (char)byte;
                compare(moon_str(text, len), &feed_limits);
            }
            memcpy(text + at, heads[h] + at + 1, len - at - 1);
            compare(moon_str(text, len - 1), &feed_limits);
            memcpy(text + at, heads[h] + at, 1);
            memcpy(text + at + 1, heads[h] + at, len - at);
            compare(moon_str(text, len + 1), &feed_limits);
        }
    }
}

static void holds_the_same_limits(void **state)
{
    (void)state;
    struct moon_str head = MOON_STR(BROWSER);
    for (uint32_t bytes = 1; bytes < head.len + 8; bytes++) {
        compare(head, &(struct moon_http_limits){bytes, 32768, 100});
        compare(head, &(struct moon_http_limits){8192, bytes, 100});
    }
    for (uint32_t count = 1; count < 8; count++)
        compare(head, &(struct moon_http_limits){8192, 32768, count});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_plain_heads),
        cmocka_unit_test(leaves_the_rest),
        cmocka_unit_test(finds_what_llhttp_finds),
        cmocka_unit_test(holds_the_same_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
