#include "http/proxy_protocol.h"

#include "base/compiler.h"

static enum moon_proxy_result bad(const char **whyz, const char *textz)
{
    *whyz = textz;
    return MOON_PROXY_BAD;
}

/* ---- version 1: a line of text ---- */

/* Exactly one space after each word; ptr NULL: there is no such word. */
static struct moon_str next_word(struct moon_str *line)
{
    struct moon_str word = moon_str_cut(*line, ' ', line);
    return word.len > 0 ? word : MOON_STR_NONE;
}

static bool read_addresses(struct moon_str line, int family,
                           struct moon_peer *peer)
{
    struct moon_peer from = {.trust = MOON_PEER_STRANGER}, to = {0};
    struct moon_str source = next_word(&line);
    struct moon_str target = next_word(&line);
    struct moon_str source_port = next_word(&line);
    if (!moon_peer_parse_ip(family, source, &from) ||
        !moon_peer_parse_ip(family, target, &to) ||
        !moon_peer_parse_port(source_port, &from.port) ||
        !moon_peer_parse_port(line, &to.port))
        return false;
    *peer = from;
    return true;
}

static enum moon_proxy_result read_v1(struct moon_str bytes, size_t *used,
                                      struct moon_peer *peer, const char **whyz)
{
    size_t most = bytes.len < MOON_PROXY_V1_MAX ? bytes.len : MOON_PROXY_V1_MAX;
    const char *end = memchr(bytes.ptr, '\n', most);
    if (end == NULL && most == MOON_PROXY_V1_MAX)
        return bad(whyz, "the PROXY line has no end in 107 bytes");
    if (end == NULL)
        return MOON_PROXY_MORE;
    size_t len = (size_t)(end - bytes.ptr);
    if (bytes.ptr[len - 1] != '\r')
        return bad(whyz, "the PROXY line ends without CR");
    struct moon_str line = moon_str(bytes.ptr, len - 1);
    (void)next_word(&line); /* PROXY */
    struct moon_str protocol = next_word(&line);
    *used = len + 1;
    if (moon_str_eq(protocol, MOON_STR("UNKNOWN"))) {
        peer->trust = MOON_PEER_VEILED;
        return MOON_PROXY_DONE; /* whatever else the line has */
    }
    int family = moon_str_eq(protocol, MOON_STR("TCP4"))   ? AF_INET
                 : moon_str_eq(protocol, MOON_STR("TCP6")) ? AF_INET6
                                                           : AF_UNSPEC;
    if (family == AF_UNSPEC)
        return bad(whyz, "the PROXY line is not for TCP4, TCP6 or UNKNOWN");
    if (!read_addresses(line, family, peer))
        return bad(whyz, "the PROXY line has a malformed address or port");
    return MOON_PROXY_DONE;
}

/* ---- version 2: binary ---- */

enum {
    V2_HEAD = 16, /* signature, version and command, family, length */
    V2_LOCAL = 0,
    V2_PROXY = 1,
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21,
    V2_TLV = 3, /* type and length */
    V2_CRC32C = 0x03,
};

static uint32_t be16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

/* Castagnoli's, bit by bit: few headers have one, and they are short. */
static uint32_t crc32c(const uint8_t *bytes, size_t len, size_t hole)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= i >= hole && i < hole + 4 ? 0 : bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* The extensions behind the addresses: skipped, but for the checksum. */
static const char *check_tlvs(const uint8_t *bytes, size_t at, size_t len)
{
    while (at < len) {
        if (len - at < V2_TLV)
            return "an extension of the PROXY header is cut off";
        size_t size = be16(bytes + at + 1), value = at + V2_TLV;
        if (size > len - value)
            return "an extension of the PROXY header is cut off";
        if (bytes[at] == V2_CRC32C) {
            if (size != 4)
                return "the checksum of the PROXY header is malformed";
            uint32_t said = be16(bytes + value) << 16 | be16(bytes + value + 2);
            if (said != crc32c(bytes, len, value))
                return "the checksum of the PROXY header is wrong";
        }
        at = value + size;
    }
    return NULL;
}

static enum moon_proxy_result read_v2(struct moon_str bytes, size_t *used,
                                      struct moon_peer *peer, const char **whyz)
{
    static const uint8_t room[] = {0, 12, 36, 216}; /* by address family */
    const uint8_t *at = (const uint8_t *)bytes.ptr;
    if (bytes.len < V2_HEAD)
        return MOON_PROXY_MORE;
    unsigned command = at[12] & 15u, family = at[13] >> 4;
    size_t len = V2_HEAD + be16(at + 14);
    if (at[12] >> 4 != 2 || command > V2_PROXY)
        return bad(whyz, "the PROXY header has an unknown version or command");
    if (len > MOON_PROXY_MAX)
        return bad(whyz, "the PROXY header is longer than 4096 bytes");
    if (command == V2_PROXY &&
        (family >= MOON_COUNT(room) || (at[13] & 15u) > 2))
        return bad(whyz, "the PROXY header has an unknown address family");
    if (bytes.len < len)
        return MOON_PROXY_MORE;
    *used = len;
    if (command == V2_LOCAL || family == 0) {
        peer->trust = MOON_PEER_VEILED; /* a check of the balancer's own */
        return MOON_PROXY_DONE;
    }
    if (len - V2_HEAD < room[family])
        return bad(whyz, "the PROXY header has no room for its addresses");
    *whyz = check_tlvs(at, V2_HEAD + (size_t)room[family], len);
    if (*whyz != NULL)
        return MOON_PROXY_BAD;
    bool v4 = at[13] == V2_TCP4;
    if (!v4 && at[13] != V2_TCP6) {
        peer->trust = MOON_PEER_VEILED;
        return MOON_PROXY_DONE;
    }
    size_t size = v4 ? 4 : 16;
    *peer = (struct moon_peer){.family = v4 ? AF_INET : AF_INET6};
    memcpy(peer->addr, at + V2_HEAD, size);
    peer->port = (uint16_t)be16(at + V2_HEAD + 2 * size);
    return MOON_PROXY_DONE;
}

/* ---- either ---- */

enum moon_proxy_result moon_proxy_protocol_read(struct moon_str bytes,
                                                size_t *used,
                                                struct moon_peer *peer,
                                                const char **whyz)
{
    static const char v1[] = "PROXY ";
    static const char v2[] = "\r\n\r\n\0\r\nQUIT\n";
    const size_t v1_len = sizeof(v1) - 1, v2_len = sizeof(v2) - 1;
    *used = 0;
    *whyz = NULL;
    if (bytes.len == 0)
        return MOON_PROXY_MORE;
    bool text = bytes.ptr[0] == v1[0];
    size_t mark = text ? v1_len : v2_len;
    size_t have = bytes.len < mark ? bytes.len : mark;
    if (memcmp(bytes.ptr, text ? v1 : v2, have) != 0)
        return bad(whyz, "it does not begin with a PROXY header");
    if (have < mark)
        return MOON_PROXY_MORE;
    return text ? read_v1(bytes, used, peer, whyz)
                : read_v2(bytes, used, peer, whyz);
}
