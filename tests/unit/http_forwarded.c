/* What is believed of X-Forwarded-* and Forwarded, and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "http/forwarded.h"
#include "http_feed.h"

#include <arpa/inet.h>

static struct moon_nets nets_of(const char *listz)
{
    struct moon_nets nets = {0};
    struct moon_buf why = {0};
    struct moon_str rest = moon_strz(listz);
    while (rest.len > 0) {
        struct moon_str one = moon_str_cut(rest, ' ', &rest);
        assert_int_equal(moon_nets_add(&nets, one, &why), MOON_OK);
    }
    moon_buf_deinit(&why);
    return nets;
}

static struct moon_peer peer_of(const char *textz)
{
    struct moon_peer peer = {.family = AF_UNIX};
    if (inet_pton(AF_INET, textz, peer.addr) == 1)
        peer.family = AF_INET;
    else if (inet_pton(AF_INET6, textz, peer.addr) == 1)
        peer.family = AF_INET6;
    return peer;
}

enum family { X, RFC };

/* "address port scheme host" of a request with these header lines; "-" for
 * nothing. */
static void ask(enum family family, const char *trustedz, const char *peerz,
                struct moon_str lines, char out[400])
{
    struct feed *feed = malloc(sizeof(*feed));
    struct moon_buf request = {0};
    struct moon_nets nets = nets_of(trustedz);
    struct moon_peer peer = peer_of(peerz);
    struct moon_forwarded said;
    char ip[MOON_IP_TEXT];
    assert_non_null(feed);
    moon_buf_addz(&request, "GET / HTTP/1.1\r\nHost: own\r\n");
    moon_buf_add_str(&request, lines);
    moon_buf_addz(&request, "\r\n");
    feed_init(feed, &feed_limits);
    feed_more(feed, moon_buf_str(&request), request.len);
    if (!feed->in.head_done) {
        /* Not a request at all: nobody is asked. */
        (void)snprintf(out, 400, "refused");
    } else {
        if (family == X)
            moon_forwarded_x(&feed->req, &nets, &peer, &said);
        else
            moon_forwarded_rfc7239(&feed->req, &nets, &peer, &feed->arena,
                                   &said);
        struct moon_str from = moon_peer_ip(&said.from, ip);
        if (from.len == 0)
            from = MOON_STR("unix");
        (void)snprintf(
            out, 400, "%.*s %u %.*s %.*s", MOON_STR_ARG(from), said.from.port,
            MOON_STR_ARG(said.scheme.ptr != NULL ? said.scheme : MOON_STR("-")),
            MOON_STR_ARG(said.host.ptr != NULL ? said.host : MOON_STR("-")));
    }
    moon_nets_deinit(&nets);
    moon_buf_deinit(&request);
    feed_deinit(feed);
    free(feed);
}

struct row {
    const char *linesz, *expectedz;
};

static void check(enum family family, const char *trustedz, const char *peerz,
                  const struct row *rows, size_t count)
{
    char out[400];
    for (size_t i = 0; i < count; i++) {
        ask(family, trustedz, peerz, moon_strz(rows[i].linesz), out);
        if (strcmp(out, rows[i].expectedz) != 0)
            print_message("%s", rows[i].linesz);
        assert_string_equal(out, rows[i].expectedz);
    }
}

#define NETS "10.0.0.0/8 2001:db8::/32 unix"

static void walks_x_forwarded_for_from_the_right(void **state)
{
    static const struct row rows[] = {
        {"", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1 0 - -"},
        {"x-FORWARDED-for:192.0.2.1\r\n", "192.0.2.1 0 - -"},
        /* What the client sent itself is on the left. */
        {"X-Forwarded-For: 1.2.3.4, 192.0.2.1\r\n", "192.0.2.1 0 - -"},
        {"X-Forwarded-For: 1.2.3.4, 192.0.2.1, 10.0.0.2 , 10.9.9.9\r\n",
         "192.0.2.1 0 - -"},
        /* Several lines are one list. */
        {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 192.0.2.1\r\n"
         "X-Forwarded-For: 10.0.0.2\r\n",
         "192.0.2.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For:\r\n",
         "192.0.2.1 0 - -"},
        {"X-Forwarded-For: ,, 192.0.2.1 ,, ,\r\n", "192.0.2.1 0 - -"},
        /* Nobody but proxies: the first of them. */
        {"X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3 0 - -"},
        /* Ports and IPv6, as balancers write them. */
        {"X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1 4711 - -"},
        {"X-Forwarded-For: 2a00::1\r\n", "2a00::1 0 - -"},
        {"X-Forwarded-For: [2a00::1]\r\n", "2a00::1 0 - -"},
        {"X-Forwarded-For: [2a00::1]:65535\r\n", "2a00::1 65535 - -"},
        {"X-Forwarded-For: 2a00::1, 2001:db8::5\r\n", "2a00::1 0 - -"},
        {"X-Forwarded-For: ::ffff:192.0.2.1, ::ffff:10.0.0.9\r\n",
         "192.0.2.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1, unix:\r\n", "192.0.2.1 0 - -"},
        /* Malformed: believed up to there. */
        {"X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.2\r\n", "10.0.0.2 0 - -"},
        {"X-Forwarded-For: 192.0.2.1, 10.0.0.256\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1:70000\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1:\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: [2a00::1\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: [2a00::1]4\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: [192.0.2.1]\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: 0300.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: fe80::1%eth0\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1 10.0.0.1\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: \"192.0.2.1\"\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-For: 1111111111111111111111111111111111111111111111\r\n",
         "10.0.0.1 0 - -"},
        /* The other family, and names that look alike. */
        {"Forwarded: for=192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"X_Forwarded_For: 192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"X-Forwarded-Forr: 192.0.2.1\r\n", "10.0.0.1 0 - -"},
    };
    (void)state;
    check(X, NETS, "10.0.0.1", rows, MOON_COUNT(rows));
}

static void believes_scheme_and_host_of_the_last(void **state)
{
    static const struct row rows[] = {
        {"X-Forwarded-Proto: https\r\n", "unix 0 https -"},
        {"X-Forwarded-Proto: HTTPS\r\n", "unix 0 https -"},
        {"X-Forwarded-Proto: http, https\r\n", "unix 0 https -"},
        {"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
         "unix 0 http -"},
        {"X-Forwarded-Proto: ftp\r\n", "unix 0 - -"},
        {"X-Forwarded-Proto: https, x\r\n", "unix 0 - -"},
        {"X-Forwarded-Proto:\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: a.example:8443\r\n", "unix 0 - a.example:8443"},
        {"X-Forwarded-Host: evil, a.example\r\n", "unix 0 - a.example"},
        {"X-Forwarded-Host: [2001:db8::1]:8080\r\n",
         "unix 0 - [2001:db8::1]:8080"},
        {"X-Forwarded-Host: a.example:\r\n", "unix 0 - a.example:"},
        {"X-Forwarded-Host: a/b\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: a b\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: u@a\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: a:b\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: :80\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: [::1\r\n", "unix 0 - -"},
        {"X-Forwarded-Host: \"a\"\r\n", "unix 0 - -"},
        {"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
         "X-Forwarded-Host: a\r\n",
         "192.0.2.7 0 https a"},
    };
    (void)state;
    check(X, NETS, "unix", rows, MOON_COUNT(rows));
}

static void reads_forwarded(void **state)
{
    static const struct row rows[] = {
        /* The examples of RFC 7239 section 4. */
        {"Forwarded: for=\"_gazonk\"\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: For=\"[2001:db8:cafe::17]:4711\"\r\n",
         "2001:db8:cafe::17 4711 - -"},
        {"Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43\r\n",
         "192.0.2.60 0 http -"},
        {"Forwarded: for=192.0.2.43, for=198.51.100.17\r\n",
         "198.51.100.17 0 - -"},
        /* Scheme and host: of the first proxy that is believed. */
        {"Forwarded: for=192.0.2.1;proto=https;host=a.example,"
         "for=10.0.0.2;proto=http;host=inner\r\n",
         "192.0.2.1 0 https a.example"},
        {"Forwarded: for=1.2.3.4;proto=https;host=evil\r\n"
         "Forwarded: for=192.0.2.1;proto=http, for=10.0.0.2;host=inner\r\n",
         "192.0.2.1 0 http inner"},
        {"Forwarded: FOR=192.0.2.1;PROTO=HTTPS;HOST=A.example\r\n",
         "192.0.2.1 0 https A.example"},
        {"Forwarded: host=\"a.example:8443\";for=\"192.0.2.1:80\"\r\n",
         "192.0.2.1 80 - a.example:8443"},
        {"Forwarded: for=\"192.0.2.1:_port\"\r\n", "192.0.2.1 0 - -"},
        {"Forwarded: for=\"\\1\\92.0.2.1\";host=\"a\\.b\"\r\n",
         "192.0.2.1 0 - a.b"},
        {"Forwarded: for=192.0.2.1;ext=\"a,b;c=\\\"d\\\"\"\r\n",
         "192.0.2.1 0 - -"},
        {"Forwarded: , ,for=192.0.2.1, ,\r\n", "192.0.2.1 0 - -"},
        {"Forwarded: for=192.0.2.1 ; proto=https\t;;\r\n",
         "192.0.2.1 0 https -"},
        {"Forwarded: proto=https\r\n", "10.0.0.1 0 https -"},
        /* A client that is not named ends the walk. */
        {"Forwarded: for=192.0.2.1, for=unknown, for=10.0.0.2\r\n",
         "10.0.0.2 0 - -"},
        {"Forwarded: for=192.0.2.1, for=_hidden;proto=https\r\n",
         "10.0.0.1 0 https -"},
        {"Forwarded: for=1.2.3.4, by=10.0.0.2\r\n", "10.0.0.1 0 - -"},
        /* A quoted comma or semicolon divides nothing. */
        {"Forwarded: for=\"1.2.3.4, for=192.0.2.1\"\r\n", "10.0.0.1 0 - -"},
        /* Malformed: the field says nothing. */
        {"Forwarded: for=2001:db8::1\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=\"2001:db8::1\"\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=\"192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=\"192.0.2.1\\\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=192.0.2.1;for=192.0.2.2\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for =192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for= 192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: =192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: 192.0.2.1\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=\"192.0.2.1\"x\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: for=192.0.2.1\r\nForwarded: \"\r\n", "10.0.0.1 0 - -"},
        {"Forwarded: \"\r\nForwarded: for=192.0.2.1\r\n", "192.0.2.1 0 - -"},
        {"Forwarded: for=192.0.2.1;proto=\"ht tp\";host=\"a b\"\r\n",
         "192.0.2.1 0 - -"},
        {"X-Forwarded-For: 192.0.2.1\r\n", "10.0.0.1 0 - -"},
    };
    (void)state;
    check(RFC, NETS, "10.0.0.1", rows, MOON_COUNT(rows));
}

/* A list that goes on for ever is believed for so many proxies. */
static void long_lists_end(void **state)
{
    char out[400];
    (void)state;
    for (int family = X; family <= RFC; family++) {
        for (int hops = MOON_FORWARDED_HOPS - 2; hops < 300; hops += 7) {
            struct moon_buf lines = {0};
            moon_buf_addz(&lines, family == X ? "X-Forwarded-For: 192.0.2.1"
                                              : "Forwarded: for=192.0.2.1");
            for (int i = hops; i > 0; i--)
                moon_buf_printf(
                    &lines, family == X ? ", 10.0.%d.%d" : ", for=10.0.%d.%d",
                    i / 250, i % 250);
            moon_buf_addz(&lines, "\r\n");
            ask((enum family)family, NETS, "10.0.0.1", moon_buf_str(&lines),
                out);
            assert_string_equal(out, hops < MOON_FORWARDED_HOPS
                                         ? "192.0.2.1 0 - -"
                                         : "10.0.0.32 0 - -");
            moon_buf_deinit(&lines);
        }
    }
}

static void assert_sound(char *out)
{
    if (strcmp(out, "refused") == 0)
        return;
    struct moon_str scheme, host, rest;
    struct moon_str ip = moon_str_cut(moon_strz(out), ' ', &rest);
    struct moon_str port = moon_str_cut(rest, ' ', &rest);
    scheme = moon_str_cut(rest, ' ', &host);
    out[ip.len] = '\0';
    assert_int_not_equal(peer_of(out).family, AF_UNIX);
    assert_true(port.len > 0 && port.len <= 5);
    assert_true(moon_str_eq(scheme, MOON_STR("-")) ||
                moon_str_eq(scheme, MOON_STR("https")) ||
                moon_str_eq(scheme, MOON_STR("http")));
    assert_true(host.len > 0);
    for (size_t i = 0; i < host.len; i++)
        assert_null(memchr(" \t\",\\/@", host.ptr[i], 7));
}

/* Whatever is made of good fields by chance: what comes out is an address, a
 * known scheme or none, a host that could be one; no byte outside is read
 * (under ASan). */
static void survives_noise(void **state)
{
    static const char *const pieces[] = {
        "for=",      "\"",    "\\", ",",   ";",    "=",    "unknown",    "_x",
        "192.0.2.1", "[",     "]",  ":",   "::1",  " ",    "proto=",     "host",
        "10.0.0.7",  "https", "\t", "a.b", "4711", "\xe4", "2001:db8::1"};
    char out[400];
    uint32_t seed = 1;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct moon_buf lines = {0};
        bool rfc = round % 2 != 0;
        for (int field = 0; field < 1 + round % 3; field++) {
            moon_buf_addz(&lines, rfc               ? "Forwarded: "
                                  : round % 8 == 0  ? "X-Forwarded-Host: "
                                  : round % 16 == 2 ? "X-Forwarded-Proto: "
                                                    : "X-Forwarded-For: ");
            for (unsigned i = 0; i < 12; i++) {
                seed = seed * 1664525u + 1013904223u;
                moon_buf_addz(&lines,
                              pieces[(seed >> 16) % MOON_COUNT(pieces)]);
            }
            moon_buf_addz(&lines, "\r\n");
        }
        ask(rfc ? RFC : X, NETS, "10.0.0.1", moon_buf_str(&lines), out);
        assert_sound(out);
        moon_buf_deinit(&lines);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks_x_forwarded_for_from_the_right),
        cmocka_unit_test(believes_scheme_and_host_of_the_last),
        cmocka_unit_test(reads_forwarded),
        cmocka_unit_test(long_lists_end),
        cmocka_unit_test(survives_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
