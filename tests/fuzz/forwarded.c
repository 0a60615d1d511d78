/* What trusted proxies say in X-Forwarded-* and Forwarded. The input is lines:
 * values of X-Forwarded-For, -Proto, -Host and Forwarded, by their first
 * letter. */
#include "fields.h"

#include "http/forwarded.h"
#include "http/token.h"

/* As http_in leaves fields: trimmed, and without control bytes. */
static void read_lines(struct fuzz_fields *lines, struct fuzz_bytes *bytes)
{
    while (fuzz_left(bytes) > 0 && !fuzz_fields_full(lines)) {
        char kind = (char)fuzz_byte(bytes);
        struct moon_str value = moon_str_trim(fuzz_until(bytes, '\n'));
        if (!moon_str_is(value, MOON_CHAR_VALUE))
            continue;
        struct moon_str name = kind == 'p'   ? MOON_STR("X-Forwarded-Proto")
                               : kind == 'h' ? MOON_STR("x-forwarded-host")
                               : kind == 'f' ? MOON_STR("Forwarded")
                                             : MOON_STR("X-Forwarded-For");
        fuzz_fields_add(lines, name, value);
    }
}

/* The last address of X-Forwarded-For, found from the left. */
static struct moon_str last_of(const struct moon_request *req,
                               struct moon_str name)
{
    struct moon_str last = MOON_STR_NONE, value;
    for (uint32_t i = 0; moon_request_header(req, name, i, &value); i++) {
        while (value.len > 0) {
            struct moon_str element =
                moon_str_trim(moon_str_cut(value, ',', &value));
            if (element.len > 0)
                last = element;
        }
    }
    return last;
}

static void check(const struct moon_forwarded *found,
                  const struct moon_peer *peer)
{
    FUZZ_CHECK(found->scheme.len == 0 ||
               moon_str_eq(found->scheme, MOON_STR("http")) ||
               moon_str_eq(found->scheme, MOON_STR("https")));
    for (size_t i = 0; i < found->host.len; i++)
        FUZZ_CHECK(strchr(" \t,\"\\/@?#<>", found->host.ptr[i]) == NULL);
    FUZZ_CHECK(found->from.family == AF_INET ||
               found->from.family == AF_INET6 ||
               found->from.family == peer->family);
    char text[MOON_IP_TEXT];
    struct moon_str ip = moon_peer_ip(&found->from, text);
    FUZZ_CHECK(ip.len < MOON_IP_TEXT);
}

/* With nobody else trusted the last address is the client, if it is one at
 * all; nothing further left is believed. */
static void check_alone(const struct moon_request *req,
                        const struct moon_peer *peer)
{
    struct moon_nets nobody = {0};
    struct moon_forwarded found;
    struct moon_peer last;
    moon_forwarded_x(req, &nobody, peer, &found);
    check(&found, peer);
    struct moon_str text = last_of(req, MOON_STR("x-forwarded-for"));
    if (!moon_peer_parse_ip(AF_INET, text, &last) &&
        !moon_peer_parse_ip(AF_INET6, text, &last))
        return;
    FUZZ_CHECK(found.from.family == last.family);
    size_t size = last.family == AF_INET ? 4 : 16;
    FUZZ_CHECK(memcmp(found.from.addr, last.addr, size) == 0);
    struct moon_str scheme = last_of(req, MOON_STR("x-forwarded-proto"));
    FUZZ_CHECK((found.scheme.len > 0) ==
               (moon_str_eq_nocase(scheme, MOON_STR("http")) ||
                moon_str_eq_nocase(scheme, MOON_STR("https"))));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    struct fuzz_fields lines = {0};
    struct moon_arena arena;
    struct moon_buf why = {0};
    struct moon_nets trusted = {0};
    struct moon_forwarded found, again;
    struct moon_peer peer = {.family = AF_INET, .addr = {10, 0, 0, 1}};
    moon_arena_init(&arena, NULL, 0);
    FUZZ_CHECK(moon_nets_add(&trusted, MOON_STR("10.0.0.0/8"), &why) ==
               MOON_OK);
    FUZZ_CHECK(moon_nets_add(&trusted, MOON_STR("fd00::/8"), &why) == MOON_OK);
    read_lines(&lines, &bytes);
    struct moon_str text = fuzz_copy(moon_buf_str(&lines.text));
    struct moon_request req = {
        .base = text.ptr, .field_count = lines.count, .fields = lines.list};
    check_alone(&req, &peer);
    moon_forwarded_x(&req, &trusted, &peer, &found);
    check(&found, &peer);
    moon_forwarded_rfc7239(&req, &trusted, &peer, &arena, &found);
    check(&found, &peer);
    moon_forwarded_rfc7239(&req, &trusted, &peer, &arena, &again);
    FUZZ_CHECK(moon_str_eq(found.host, again.host));
    FUZZ_CHECK(memcmp(&found.from, &again.from, sizeof(found.from)) == 0);
    fuzz_free(text);
    fuzz_fields_deinit(&lines);
    moon_nets_deinit(&trusted);
    moon_buf_deinit(&why);
    moon_arena_reset(&arena);
    return 0;
}
