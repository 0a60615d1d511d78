#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http_feed.h"

struct sample {
    const char *bytes;
    const char *want; /* a prefix of what comes out */
};

static void check(const struct sample *samples, size_t count)
{
    char text[FEED_TEXT];
    for (size_t i = 0; i < count; i++) {
        struct moon_str bytes = moon_strz(samples[i].bytes);
        feed_every_way(bytes, &feed_limits, text);
        if (strncmp(text, samples[i].want, strlen(samples[i].want)) != 0)
            fail_msg("%s\n  gives %s\n  not   %s", samples[i].bytes, text,
                     samples[i].want);
    }
}

#define CHECK(samples) check(samples, MOON_COUNT(samples))
#define H "Host: a\r\n"

static void takes_what_is_well_formed(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n",
         "done GET //// 1.1 host=a keep cl=-1 Host=[a] body=[] used=27"},
        {"GET /a/b?c=d&e HTTP/1.0\r\n\r\n",
         "done GET //a/b/c=d&e/ 1.0 host= cl=-1 body=[] used=27"},
        {"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n",
         "done GET //// 1.1 host=a keep cl=-1 Host=[a] body=[] used=31"},
        {"GET / HTTP/1.1\r\nHost:\r\nA: \t b \t \r\nC:\r\nD:   \r\n\r\n",
         "done GET //// 1.1 host= keep cl=-1 Host=[] A=[b] C=[] D=[] body"},
        {"PROPFIND /? HTTP/1.1\r\n" H "\r\n", "done PROPFIND //// 1.1"},
        {"GET / HTTP/1.1\r\nHost:0\r\n\r\n",
         "done GET //// 1.1 host=0 keep cl=-1 Host=[0] body=[] used=26"},
        {"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
         "done GET //// 1.1 host=[::1]:80 keep"},
        {"GET / HTTP/1.1\r\n" H "X: caf\xc3\xa9\r\n\r\n",
         "done GET //// 1.1 host=a keep cl=-1 Host=[a] X=[caf\xc3\xa9]"},
    };
    CHECK(samples);
}

static void refuses_malformed_lines(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"GET / HTTP/1.1\n" H "\r\n", "400"},
        {"GET / HTTP/1.1\r" H "\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\n\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A: b\rC: d\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A: b\nC: d\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A:\r\n c\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A:\r\n \r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A: b\n c\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n " H "\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H ": b\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A(: b\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "A: \x7f\r\n\r\n", "400"},
        {"GET  / HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET /  HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET / HTTP/1.1 \r\n" H "\r\n", "400"},
        {" GET / HTTP/1.1\r\n" H "\r\n", "400"},
        {"\nGET / HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET\t/ HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET / http/1.1\r\n" H "\r\n", "400"},
        {"GET / RTSP/1.0\r\n" H "\r\n", "400"},
        {"SOURCE / ICE/1.0\r\n" H "\r\n", "400"},
        {"GET /\r\n" H "\r\n", "400"},
        {"GET /\r\n\r\n", "400"},
        {"GET /a b HTTP/1.1\r\n" H "\r\n", "400"},
        {"G(T / HTTP/1.1\r\n" H "\r\n", "400"},
    };
    CHECK(samples);
    static const char nul[] = "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n";
    char text[FEED_TEXT];
    feed_every_way(moon_str(nul, sizeof(nul) - 1), &feed_limits, text);
    assert_memory_equal(text, "400", 3);
}

static void knows_versions_and_methods(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"GET / HTTP/2.0\r\n" H "\r\n", "505"},
        {"GET / HTTP/1.2\r\n" H "\r\n", "505"},
        {"GET / HTTP/3.0\r\n" H "\r\n", "505"},
        {"GET / HTTP/0.9\r\n" H "\r\n", "505"},
        {"GET / HTTP/x.1\r\n" H "\r\n", "400"},
        {"GET / HTTP/1\r\n" H "\r\n", "400"},
        {"GET / HTTP/1.11\r\n" H "\r\n", "400"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
        {"FOO / HTTP/1.1\r\n" H "\r\n", "done FOO"},
        {"get / HTTP/1.1\r\n" H "\r\n", "done get"},
        {"GETS / HTTP/1.1\r\n" H "\r\n", "done GETS"},
        {"\x16\x03\x01", "400"},
        {"CONNECT a:80 HTTP/1.1\r\n" H "\r\n", "501"},
    };
    CHECK(samples);
}

static void reads_all_forms_of_target(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "done OPTIONS /*// 1.1 host=a"},
        {"GET * HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET http://b:80/c?d HTTP/1.1\r\n" H "\r\n",
         "done GET //c/d/ 1.1 host=b:80 keep"},
        {"GET HTTPS://b?d HTTP/1.1\r\n" H "\r\n",
         "done GET ///d/ 1.1 host=b keep"},
        {"GET http://b HTTP/1.1\r\n" H "\r\n", "done GET //// 1.1 host=b"},
        {"GET http://b HTTP/1.1\r\n\r\n", "400 no Host"},
        {"GET http:///c HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET http://u@b/c HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET ftp://b/c HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET a HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET a:80 HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET ?a HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET /a#b HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", "400"},
        {"GET //a//b HTTP/1.1\r\n" H "\r\n", "done GET ///a//b// 1.1"},
    };
    CHECK(samples);
}

static void wants_one_host(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"GET / HTTP/1.1\r\n\r\n", "400 no Host"},
        {"GET / HTTP/1.0\r\n\r\n", "done"},
        {"GET / HTTP/1.1\r\n" H H "\r\n", "400 more than one Host"},
        {"GET / HTTP/1.0\r\n" H H "\r\n", "400 more than one Host"},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "done"},
        {"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400 malformed Host"},
        {"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "done"},
    };
    CHECK(samples);
}

static void reads_connection(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"GET / HTTP/1.1\r\n" H "Connection: Close\r\n\r\n",
         "done GET //// 1.1 host=a cl"},
        {"GET / HTTP/1.1\r\n" H "Connection: x,, close ,y\r\n\r\n",
         "done GET //// 1.1 host=a cl"},
        {"GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n",
         "done GET //// 1.1 host=a keep cl"},
        {"GET / HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n",
         "done GET //// 1.0 host=a keep cl"},
        {"GET / HTTP/1.0\r\n" H
         "Connection: keep-alive\r\nConnection: close\r\n\r\n",
         "done GET //// 1.0 host=a cl"},
        {"GET / HTTP/1.1\r\n" H "Expect: 100-Continue\r\n\r\n",
         "done GET //// 1.1 host=a keep expect cl"},
        {"GET / HTTP/1.0\r\n" H "Expect: 100-continue\r\n\r\n",
         "done GET //// 1.0 host=a cl"},
    };
    CHECK(samples);
}

/* The bytes of an upgraded protocol never count as part of this message, and
 * a body is still a body. */
static void never_switches_protocols(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {"GET / HTTP/1.1\r\n" H
         "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\nxyz",
         "done GET //// 1.1 host=a keep upgrade cl=-1 Host=[a] "
         "Upgrade=[websocket] Connection=[Upgrade] body=[] used=68"},
        {"POST / HTTP/1.1\r\n" H
         "Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nxyz",
         "done POST //// 1.1 host=a keep upgrade cl=2 Host=[a] Upgrade=[h2c] "
         "Connection=[Upgrade] Content-Length=[2] body=[xy] used=84"},
        {"GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n",
         "done GET //// 1.1 host=a keep cl=-1"},
    };
    CHECK(samples);
}

#define POST "POST / HTTP/1.1\r\n" H
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static void reads_bodies(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {POST "Content-Length: 5\r\n\r\nhelloGET",
         "done POST //// 1.1 host=a keep cl=5 Host=[a] Content-Length=[5] "
         "body=[hello] used=52"},
        {POST "Content-Length: 0\r\n\r\nx",
         "done POST //// 1.1 host=a keep cl=0 Host=[a] Content-Length=[0] "
         "body=[] used=47"},
        {POST "Content-Length: 5\r\n\r\nhell",
         "head POST //// 1.1 host=a keep cl=5"},
        {CHUNKED "5\r\nhello\r\n06\r\n world\r\n000\r\n\r\nGET",
         "done POST //// 1.1 host=a keep chunked cl=-1 Host=[a] "
         "Transfer-Encoding=[chunked] body=[hello world] used=85"},
        {CHUNKED "a;b;d=\"e f\"\r\n0123456789\r\n0;x\r\nT: u\r\nV:\r\n\r\n",
         "done POST //// 1.1 host=a keep chunked cl=-1 Host=[a] "
         "Transfer-Encoding=[chunked] body=[0123456789]"},
        {CHUNKED "0\r\n", "head"},
    };
    CHECK(samples);
}

static void refuses_malformed_chunks(void **state)
{
    (void)state;
    static const struct sample samples[] = {
        {CHUNKED "\r\n", "400"},
        {CHUNKED "+1\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "-1\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "0x1\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1_0\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED " 1\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1 \r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1 ;x\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x=y;\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x=\"y\";\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x=y;;z\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x=\"\x7f\"\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED ";x\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1\r\na\n0\r\n\r\n", "400"},
        {CHUNKED "1\r\naa\r\n0\r\n\r\n", "400"},
        {CHUNKED "1\ra\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x\ny\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x\ry\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;x;\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;;x\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;=x\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "1;\x01\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "0000000000000001\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "ffffffffffffffffff\r\na\r\n0\r\n\r\n", "400"},
        {CHUNKED "0\r\nA b: c\r\n\r\n", "400"},
        {CHUNKED "0\r\nA: b\r\n c\r\n\r\n", "400"},
        {CHUNKED "0\r\nA: b\n\r\n", "400"},
        {CHUNKED "0\r\nA: b\x01\r\n\r\n", "400"},
        {CHUNKED "0\r\n: b\r\n\r\n", "400"},
        {CHUNKED "0\r\nA: b\r\n\n", "400"},
        {CHUNKED "0\r\nContent-Length: 3\r\n\r\n", "400"},
        {CHUNKED "0\r\ntransfer-encoding: chunked\r\n\r\n", "400"},
        {CHUNKED "0\r\nHOST: b\r\n\r\n", "400"},
        {CHUNKED "0\r\nTransfer-Encodings: b\r\n\r\n", "done"},
    };
    CHECK(samples);
}

/* Where two servers might see different ends of a message (RFC 9112 section
 * 11.2). */
static void refuses_ambiguous_framing(void **state)
{
    (void)state;
#define CL "Content-Length: 3\r\n"
#define TE "Transfer-Encoding: chunked\r\n"
    static const struct sample samples[] = {
        {POST CL TE "\r\n0\r\n\r\n", "400"},
        {POST TE CL "\r\n0\r\n\r\n", "400"},
        {POST CL CL "\r\nabc", "400"},
        {POST CL "Content-Length: 4\r\n\r\nabcd", "400"},
        {POST "Content-Length: 3, 3\r\n\r\nabc", "400"},
        {POST "Content-Length: +3\r\n\r\nabc", "400"},
        {POST "Content-Length: -3\r\n\r\nabc", "400"},
        {POST "Content-Length: 0x3\r\n\r\nabc", "400"},
        {POST "Content-Length: 3 3\r\n\r\nabc", "400"},
        {POST "Content-Length: 3.0\r\n\r\nabc", "400"},
        {POST "Content-Length:\r\n\r\nabc", "400"},
        {POST "Content-Length: 18446744073709551616\r\n\r\n", "400"},
        {POST "Content-Length: 9223372036854775808\r\n\r\n", "400"},
        {POST "Content-Length: 9223372036854775807\r\n\r\n", "head"},
        {POST "Content-Length : 3\r\n\r\nabc", "400"},
        {POST "Content-Length\t: 3\r\n\r\nabc", "400"},
        {POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding: identity\r\n\r\n", "400"},
        {POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
        {POST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400"},
        {POST TE TE "\r\n0\r\n\r\n", "400"},
        {POST TE "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n", "400"},
        {POST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "done"},
        {"POST / HTTP/1.0\r\n" TE "\r\n0\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" H "X: y\r\n" CL "\r\nabc", "done GET"},
    };
    CHECK(samples);
}

/* Writes a request whose line and fields have exactly these lengths. */
static struct moon_str sized(char *out, size_t line, size_t fields)
{
    size_t at = 0;
    at += (size_t)sprintf(out + at, "GET /");
    while (at < line - 9)
        out[at++] = 'a';
    at += (size_t)sprintf(out + at, " HTTP/1.1\r\n");
    size_t end = at + fields;
    at += (size_t)sprintf(out + at, H "X: ");
    while (at < end - 2)
        out[at++] = 'b';
    at += (size_t)sprintf(out + at, "\r\n\r\n");
    return moon_str(out, at);
}

static void limits_are_exact(void **state)
{
    (void)state;
    static const struct {
        size_t line, fields;
        const char *want;
    } samples[] = {
        {60, 40, "done"},
        {61, 40, "414 request line too long"},
        {60, 41, "431 header fields too large"},
        {61, 41, "414 request line too long"},
        {20, 40, "done"},
        {20, 41, "431 header fields too large"},
        {200, 200, "414 request line too long"},
        {20, 200, "431 header fields too large"},
    };
    const struct moon_http_limits limits = {60, 40, 100};
    char bytes[1024], text[FEED_TEXT];
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        feed_every_way(sized(bytes, samples[i].line, samples[i].fields),
                       &limits, text);
        text[strlen(samples[i].want)] = '\0';
        assert_string_equal(text, samples[i].want);
    }
    feed_every_way(MOON_STR("FOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO"
                            "OOOOOOOOOOOOOOOOOOOOOOOOOOOOOOOO"),
                   &limits, text);
    assert_string_equal(text, "414 request line too long");
}

static struct moon_str with_fields(char *out, int count)
{
    int at = sprintf(out, "GET / HTTP/1.1\r\n" H);
    for (int i = 1; i < count; i++)
        at += sprintf(out + at, "X-%d: %d\r\n", i, i);
    at += sprintf(out + at, "\r\n");
    return moon_str(out, (size_t)at);
}

static void counts_fields(void **state)
{
    (void)state;
    struct moon_http_limits limits = {8192, 32768, 0};
    char bytes[4096], text[FEED_TEXT];
    for (int count = 1; count <= 100; count += 9) {
        limits.header_count = (uint32_t)count;
        feed_every_way(with_fields(bytes, count), &limits, text);
        assert_memory_equal(text, "done", 4);
        feed_every_way(with_fields(bytes, count + 1), &limits, text);
        assert_string_equal(text, "431 too many header fields");
    }
}

static void bounds_chunk_framing(void **state)
{
    (void)state;
    const struct moon_http_limits limits = {60, 60, 3};
    static const struct {
        size_t extra;
        const char *format, *want;
    } samples[] = {
        {60, CHUNKED "1;%s\r\na\r\n0\r\n\r\n", "done"},
        {61, CHUNKED "1;%s\r\na\r\n0\r\n\r\n", "431"},
        {58, CHUNKED "1\r\na\r\n0\r\nA:%s\r\n\r\n", "done"},
        {59, CHUNKED "1\r\na\r\n0\r\nA:%s\r\n\r\n", "431"},
        {0, CHUNKED "0\r\nA:\r\nB:\r\nC:\r\n%s\r\n", "done"},
        {0, CHUNKED "0\r\nA:\r\nB:\r\nC:\r\nD:\r\n%s\r\n", "431"},
    };
    char extra[64], bytes[256], text[FEED_TEXT];
    for (size_t i = 0; i < MOON_COUNT(samples); i++) {
        memset(extra, 'x', samples[i].extra);
        extra[samples[i].extra] = '\0';
        int len = snprintf(bytes, sizeof(bytes), samples[i].format, extra);
        feed_every_way(moon_str(bytes, (size_t)len), &limits, text);
        text[strlen(samples[i].want)] = '\0';
        assert_string_equal(text, samples[i].want);
    }
}

static enum moon_err refuse_body(void *ctx, struct moon_str piece)
{
    *(size_t *)ctx += piece.len;
    return MOON_ETOO_BIG;
}

static void stops_when_the_sink_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {
        POST "Content-Length: 9\r\n\r\n012345678",
        CHUNKED "9\r\n012345678\r\n0\r\n\r\n",
    };
    for (size_t i = 0; i < MOON_COUNT(texts); i++) {
        struct feed feed;
        size_t seen = 0, used, more;
        struct moon_str bytes = moon_strz(texts[i]);
        feed_init(&feed, &feed_limits);
        assert_int_equal(
            moon_http_in_feed(&feed.in, bytes.ptr, 0, bytes.len, &used),
            MOON_IN_HEAD);
        assert_true(moon_http_in_expects_body(&feed.in));
        moon_http_in_set_sink(&feed.in, refuse_body, &seen);
        assert_int_equal(
            moon_http_in_feed(&feed.in, bytes.ptr, used, bytes.len, &more),
            MOON_IN_FAILED);
        assert_int_equal(seen, 9);
        assert_int_equal(feed.in.status, 0);
        assert_int_equal(
            moon_http_in_feed(&feed.in, bytes.ptr, used, bytes.len, &more),
            MOON_IN_FAILED);
        feed_deinit(&feed);
    }
}

static void starts_anywhere_in_a_buffer(void **state)
{
    (void)state;
    static const char bytes[] = "GET /one HTTP/1.1\r\n" H "\r\n"
                                "GET /two HTTP/1.1\r\n" H "\r\n";
    struct feed feed;
    size_t from = 0, used;
    static const char *const paths[] = {"/one", "/two"};
    for (int i = 0; i < 2; i++) {
        feed_init(&feed, &feed_limits);
        assert_int_equal(
            moon_http_in_feed(&feed.in, bytes, from, sizeof(bytes) - 1, &used),
            MOON_IN_HEAD);
        from += used;
        assert_false(moon_http_in_expects_body(&feed.in));
        assert_int_equal(moon_http_in_feed(&feed.in, NULL, 0, 0, &used),
                         MOON_IN_COMPLETE);
        assert_int_equal(used, 0);
        assert_true(
            moon_str_eq(feed_str(&feed, feed.req.path), moon_strz(paths[i])));
        feed_deinit(&feed);
    }
    assert_int_equal(from, sizeof(bytes) - 1);
}

/* Requests with a few bytes changed at random (the same ones every time):
 * what comes out must not depend on the splits, and nothing may be read beyond
 * the bytes given. */
static void splits_make_no_difference(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "GET http://b:80/c?d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "\r\nPOST /a HTTP/1.0\r\nContent-Length: 3\r\nX: y \r\n\r\nabcdef",
        CHUNKED "5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: u\r\n\r\nGET",
    };
    static const char bytes[] = "\r\n\t :;,0a\x7f\xc3/?*#\0=[";
    const struct moon_http_limits limits = {28, 28, 2};
    char text[FEED_TEXT], copy[256];
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 3000; round++) {
        const char *from = texts[round % (int)MOON_COUNT(texts)];
        size_t len = strlen(from);
        memcpy(copy, from, len);
        for (int change = 0; change <= round % 3; change++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            copy[random % len] = bytes[(random >> 32) % (sizeof(bytes) - 1)];
        }
        feed_every_way(moon_str(copy, len),
                       round % 2 == 0 ? &limits : &feed_limits, text);
    }
}

static void finds_fields_without_case(void **state)
{
    (void)state;
    static const char bytes[] =
        "GET / HTTP/1.1\r\n" H "X-One: 1\r\nx-two: 2\r\nX-ONE: 3\r\n\r\n";
    struct feed feed;
    struct moon_str out;
    feed_init(&feed, &feed_limits);
    feed_all(&feed, moon_str(bytes, sizeof(bytes) - 1), 7);
    assert_true(moon_request_header(&feed.req, MOON_STR("x-one"), 0, &out));
    assert_true(moon_str_eq(out, MOON_STR("1")));
    assert_true(moon_request_header(&feed.req, MOON_STR("x-one"), 1, &out));
    assert_true(moon_str_eq(out, MOON_STR("3")));
    assert_false(moon_request_header(&feed.req, MOON_STR("x-one"), 2, &out));
    assert_false(moon_request_header(&feed.req, MOON_STR("x-on"), 0, &out));
    feed_deinit(&feed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_well_formed),
        cmocka_unit_test(refuses_malformed_lines),
        cmocka_unit_test(knows_versions_and_methods),
        cmocka_unit_test(reads_all_forms_of_target),
        cmocka_unit_test(wants_one_host),
        cmocka_unit_test(reads_connection),
        cmocka_unit_test(never_switches_protocols),
        cmocka_unit_test(reads_bodies),
        cmocka_unit_test(refuses_malformed_chunks),
        cmocka_unit_test(refuses_ambiguous_framing),
        cmocka_unit_test(limits_are_exact),
        cmocka_unit_test(counts_fields),
        cmocka_unit_test(bounds_chunk_framing),
        cmocka_unit_test(stops_when_the_sink_refuses),
        cmocka_unit_test(starts_anywhere_in_a_buffer),
        cmocka_unit_test(splits_make_no_difference),
        cmocka_unit_test(finds_fields_without_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
