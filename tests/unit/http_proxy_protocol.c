/* PROXY protocol headers, versions 1 and 2: good ones, bad ones, each of them
 * cut everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "http/proxy_protocol.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define CRC "\x3d\x33\x20\x15"
#define V4_ADDR "\xc0\0\2\1\x0a\0\0\7\x12\x67\x01\xbb"

enum { TEXT = 200 };

/* Reads a copy that ends where the bytes do, so that ASan sees more. */
static enum moon_proxy_result read_part(struct moon_str bytes, size_t len,
                                        size_t *used, struct moon_peer *peer,
                                        const char **whyz)
{
    char *copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy + 1, bytes.ptr, len);
    enum moon_proxy_result result =
        moon_proxy_protocol_read(moon_str(copy + 1, len), used, peer, whyz);
    free(copy);
    return result;
}

/* "more", "bad WHY" or "USED ADDRESS PORT TRUST"; every shorter beginning must
 * be "more", or "bad" if all of it is. */
static void check(struct moon_str bytes, const char *expectedz)
{
    char out[TEXT], ip[MOON_IP_TEXT];
    const char *whyz;
    size_t used;
    struct moon_peer peer = {.addr = {10, 0, 0, 1}, .family = AF_INET};
    struct moon_peer unused = peer;
    enum moon_proxy_result result =
        read_part(bytes, bytes.len, &used, &peer, &whyz);
    if (result == MOON_PROXY_DONE) {
        struct moon_str text = moon_peer_ip(&peer, ip);
        (void)snprintf(out, TEXT, "%zu %.*s %u %s", used, MOON_STR_ARG(text),
                       peer.port,
                       peer.trust == MOON_PEER_VEILED     ? "veiled"
                       : peer.trust == MOON_PEER_STRANGER ? "stranger"
                                                          : "trusted");
    } else {
        (void)snprintf(out, TEXT, "%s%s",
                       result == MOON_PROXY_MORE ? "more" : "bad ",
                       result == MOON_PROXY_MORE ? "" : whyz);
    }
    assert_string_equal(out, expectedz);
    size_t whole = result == MOON_PROXY_DONE ? used : bytes.len;
    for (size_t len = 0; len < whole; len++) {
        enum moon_proxy_result part =
            read_part(bytes, len, &used, &unused, &whyz);
        assert_true(part == MOON_PROXY_MORE ||
                    (part == MOON_PROXY_BAD && result == MOON_PROXY_BAD));
    }
}

static void reads_lines(void **state)
{
    static const char *const cases[][2] = {
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711 443\r\nGET /",
         "40 192.0.2.1 4711 stranger"},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
         "56 255.255.255.255 65535 stranger"},
        {"PROXY TCP6 2001:db8::1 ::1 0 0\r\n", "32 2001:db8::1 0 stranger"},
        {"PROXY TCP6 ffff:f...f:ffff ::1 0 0\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY UNKNOWN\r\n", "15 10.0.0.1 0 veiled"},
        {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         "107 10.0.0.1 0 veiled"},
        {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535x\r\n",
         "bad the PROXY line has no end in 107 bytes"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711 443", "more"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711 443\r", "more"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711 443\n",
         "bad the PROXY line ends without CR"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711 443 1\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 4711 443 \r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4  192.0.2.1 10.0.0.7 4711 443\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP6 192.0.2.1 10.0.0.7 4711 443\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 65536 443\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4 192.0.2.1 10.0.0.7 -1 443\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP4 192.0.2.256 10.0.0.7 4711 443\r\n",
         "bad the PROXY line has a malformed address or port"},
        {"PROXY TCP5 192.0.2.1 10.0.0.7 4711 443\r\n",
         "bad the PROXY line is not for TCP4, TCP6 or UNKNOWN"},
        {"PROXY \r\n", "bad the PROXY line is not for TCP4, TCP6 or UNKNOWN"},
        {"PROXY \n", "bad the PROXY line ends without CR"},
        {"PROXY\r\n", "bad it does not begin with a PROXY header"},
        {"proxy TCP4 192.0.2.1 10.0.0.7 4711 443\r\n",
         "bad it does not begin with a PROXY header"},
        {"GET / HTTP/1.1\r\n", "bad it does not begin with a PROXY header"},
        {"POST / HTTP/1.1\r\n", "bad it does not begin with a PROXY header"},
        {"", "more"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++)
        check(moon_strz(cases[i][0]), cases[i][1]);
}

#define BYTES(text) moon_str(text, sizeof(text) - 1)

static void reads_binary(void **state)
{
    const struct {
        struct moon_str bytes;
        const char *expectedz;
    } cases[] = {
        {BYTES(SIG "\x21\x11\0\x0c" V4_ADDR "GET /"),
         "28 192.0.2.1 4711 stranger"},
        {BYTES(SIG "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
                   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\x50\0\x51"),
         "52 2001:db8::1 80 stranger"},
        /* Extensions are skipped. */
        {BYTES(SIG "\x21\x11\0\x14" V4_ADDR "\1\0\2h2\4\0\0"),
         "36 192.0.2.1 4711 stranger"},
        {BYTES(SIG "\x21\x11\0\x0f" V4_ADDR "\1\0\2"),
         "bad an extension of the PROXY header is cut off"},
        {BYTES(SIG "\x21\x11\0\x0d" V4_ADDR "\4"),
         "bad an extension of the PROXY header is cut off"},
        /* The checksum, by another implementation. */
        {BYTES(SIG "\x21\x11\0\x13" V4_ADDR "\3\0\4" CRC),
         "35 192.0.2.1 4711 stranger"},
        {BYTES(SIG "\x21\x11\0\x13" V4_ADDR "\3\0\4\0\0\0\0"),
         "bad the checksum of the PROXY header is wrong"},
        {BYTES(SIG "\x21\x11\0\x12" V4_ADDR "\3\0\3\0\0\0"),
         "bad the checksum of the PROXY header is malformed"},
        /* A client that is not told. */
        {BYTES(SIG "\x20\0\0\0"), "16 10.0.0.1 0 veiled"},
        {BYTES(SIG "\x20\x11\0\x0c" V4_ADDR), "28 10.0.0.1 0 veiled"},
        {BYTES(SIG "\x21\0\0\3abc"), "19 10.0.0.1 0 veiled"},
        {BYTES(SIG "\x21\x12\0\x0c" V4_ADDR), "28 10.0.0.1 0 veiled"},
        {BYTES(SIG "\x21\x10\0\x0c" V4_ADDR), "28 10.0.0.1 0 veiled"},
        /* Malformed. */
        {BYTES(SIG "\x21\x11\0\x0b" V4_ADDR),
         "bad the PROXY header has no room for its addresses"},
        {BYTES(SIG "\x21\x21\0\x0c" V4_ADDR),
         "bad the PROXY header has no room for its addresses"},
        {BYTES(SIG "\x21\x31\0\x0c" V4_ADDR),
         "bad the PROXY header has no room for its addresses"},
        {BYTES(SIG "\x21\x41\0\x0c" V4_ADDR),
         "bad the PROXY header has an unknown address family"},
        {BYTES(SIG "\x21\x13\0\x0c" V4_ADDR),
         "bad the PROXY header has an unknown address family"},
        {BYTES(SIG "\x22\x11\0\x0c" V4_ADDR),
         "bad the PROXY header has an unknown version or command"},
        {BYTES(SIG "\x11\x11\0\x0c" V4_ADDR),
         "bad the PROXY header has an unknown version or command"},
        {BYTES(SIG "\x21\x11\xff\xff" V4_ADDR),
         "bad the PROXY header is longer than 4096 bytes"},
        {BYTES(SIG "\x21\x11\0\x0d" V4_ADDR), "more"},
        {BYTES("\r\n\r\n\0\r\nQUIX"),
         "bad it does not begin with a PROXY header"},
        {BYTES("\r\n\r\nGET / HTTP/1.1\r\n"),
         "bad it does not begin with a PROXY header"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++)
        check(cases[i].bytes, cases[i].expectedz);
}

static void reads_a_unix_client_and_the_longest(void **state)
{
    char bytes[MOON_PROXY_MAX + 1] = SIG "\x21\x31\0\xd8";
    (void)state;
    check(moon_str(bytes, 16 + 216), "232 10.0.0.1 0 veiled");
    memcpy(bytes + 12, "\x21\x11\x0f\xf0", 4);
    memcpy(bytes + 16, V4_ADDR, 12);
    memcpy(bytes + 28, "\4\x0f\xe1", 3); /* NOOP up to the end */
    check(moon_str(bytes, MOON_PROXY_MAX), "4096 192.0.2.1 4711 stranger");
    memcpy(bytes + 14, "\x0f\xf1", 2);
    check(moon_str(bytes, MOON_PROXY_MAX + 1),
          "bad the PROXY header is longer than 4096 bytes");
}

/* Good headers with bytes changed by chance: never more used than there are,
 * and (under ASan) never more read. */
static void survives_noise(void **state)
{
    static const char v2[] =
        SIG "\x21\x11\0\x18" V4_ADDR "\3\0\4\0\0\0\0\2\0\2ab"
            "GET";
    static const char v1[] = "PROXY TCP4 192.0.2.1 10.0.0.7 4711 443\r\nGET";
    uint32_t seed = 7;
    int done = 0, bad = 0;
    (void)state;
    for (int round = 0; round < 200000; round++) {
        char bytes[64];
        bool text = round % 2 != 0;
        size_t len = text ? sizeof(v1) - 1 : sizeof(v2) - 1, used;
        memcpy(bytes, text ? v1 : v2, len);
        /* The mark stays, most of the time. */
        size_t from = round % 16 < 2 ? 0 : text ? 6 : 12;
        for (int i = 0; i < 1 + round % 3; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[from + (seed >> 8) % (len - from)] = (char)(seed >> 24);
        }
        struct moon_peer peer = {.family = AF_INET};
        const char *whyz;
        switch (read_part(moon_str(bytes, len), len, &used, &peer, &whyz)) {
        case MOON_PROXY_DONE:
            done++;
            assert_true(used > 0 && used <= len);
            break;
        case MOON_PROXY_BAD:
            bad++;
            assert_non_null(whyz);
            break;
        case MOON_PROXY_MORE:
            break;
        }
    }
    assert_true(done > 1000 && bad > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_lines),
        cmocka_unit_test(reads_binary),
        cmocka_unit_test(reads_a_unix_client_and_the_longest),
        cmocka_unit_test(survives_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
