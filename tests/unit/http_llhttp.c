/* http_in beside llhttp in strict mode, as a second opinion: of random changes
 * to requests, what http_in takes, llhttp takes too, with the same body and
 * the same end. (Not the other way round: llhttp 8 takes folded lines, lines
 * that end in CR or LF alone, and more. Chunk extensions are left out: http_in
 * looks less closely at what it drops.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http_feed.h"

#include <llhttp.h>

static struct {
    size_t body_bytes, messages;
} seen;

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    (void)parser;
    (void)at;
    seen.body_bytes += len;
    return 0;
}

/* An upgrade must not change how the body is read. */
static int on_head(llhttp_t *parser)
{
    parser->upgrade = 0;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    (void)parser;
    seen.messages++;
    return HPE_PAUSED;
}

/* What llhttp makes of one message; false if it is not all of `bytes`. */
static bool is_whole_for_llhttp(struct moon_str bytes)
{
    static const llhttp_settings_t settings = {.on_body = on_body,
                                               .on_headers_complete = on_head,
                                               .on_message_complete =
                                                   on_complete};
    llhttp_t parser;
    seen.body_bytes = seen.messages = 0;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    llhttp_errno_t err = llhttp_execute(&parser, bytes.ptr, bytes.len);
    return err == HPE_PAUSED && seen.messages == 1 &&
           llhttp_get_error_pos(&parser) == bytes.ptr + bytes.len;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t mutate(char *to, const char *from, uint64_t *random)
{
    static const char bytes[] = "\r\n\t :,0a1\x7f\xc3/?*#\0=[-";
    size_t len = strlen(from);
    memcpy(to, from, len);
    for (uint64_t left = next_random(random) % 3 + 1; left > 0; left--)
        to[next_random(random) % len] =
            bytes[next_random(random) % (sizeof(bytes) - 1)];
    return len;
}

static void takes_no_more_than_llhttp(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "GET /c?d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET http://b:80/c HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
        "POST /a HTTP/1.0\r\nContent-Length: 3\r\nX: y \r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n1\r\n!\r\n0\r\nT: u\r\n\r\n",
    };
    char bytes[256];
    uint64_t random = 88172645463325252u;
    int taken = 0;
    for (int round = 0; round < 40000; round++) {
        struct feed feed;
        size_t len =
            mutate(bytes, texts[round % (int)MOON_COUNT(texts)], &random);
        feed_init(&feed, &feed_limits);
        feed_more(&feed, moon_str(bytes, len), len);
        struct moon_str method = feed_str(&feed, feed.req.method_text);
        if (feed.result == MOON_IN_COMPLETE &&
            moon_str_eq(method, moon_method_name(feed.req.method))) {
            struct moon_str message = {bytes, feed.used};
            taken++;
            if (!is_whole_for_llhttp(message) ||
                seen.body_bytes != feed.body.len)
                fail_msg("taken: %.*s", MOON_STR_ARG(message));
        }
        feed_deinit(&feed);
    }
    assert_true(taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_no_more_than_llhttp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
