/* PROXY headers: as bytes come, and as a balancer would write them. */
#include "fuzz.h"

#include "http/proxy_protocol.h"

#include <arpa/inet.h>

struct outcome {
    enum moon_proxy_result result;
    size_t used;
    struct moon_peer peer;
};

static const struct moon_peer before = {
    .family = AF_INET, .addr = {192, 0, 2, 9}, .port = 9, .trust = 1};

static struct outcome read_header(struct moon_str bytes)
{
    struct outcome o = {.peer = before};
    const char *whyz = NULL;
    struct moon_str copy = fuzz_copy(bytes);
    o.result = moon_proxy_protocol_read(copy, &o.used, &o.peer, &whyz);
    fuzz_free(copy);
    FUZZ_CHECK((o.result == MOON_PROXY_BAD) == (whyz != NULL));
    FUZZ_CHECK(o.used <= bytes.len);
    if (o.result == MOON_PROXY_DONE) {
        FUZZ_CHECK(o.used > 0 && o.used <= MOON_PROXY_MAX);
        FUZZ_CHECK(o.peer.trust != MOON_PEER_TRUSTED);
        FUZZ_CHECK(o.peer.family == AF_INET || o.peer.family == AF_INET6);
        if (o.peer.trust == MOON_PEER_VEILED)
            FUZZ_CHECK(memcmp(o.peer.addr, before.addr, 16) == 0);
    } else {
        FUZZ_CHECK(memcmp(&o.peer, &before, sizeof(before)) == 0);
    }
    if (o.result == MOON_PROXY_MORE)
        FUZZ_CHECK(bytes.len < MOON_PROXY_MAX);
    return o;
}

/* Whatever the split: until the result stands, "more"; from then on, that. */
static void check_prefixes(struct moon_str bytes, const struct outcome *whole)
{
    bool decided = false;
    size_t most = bytes.len < 300 ? bytes.len : 300;
    for (size_t len = 0; len <= most; len++) {
        struct outcome o = read_header(moon_str(bytes.ptr, len));
        FUZZ_CHECK(!decided || o.result != MOON_PROXY_MORE);
        if (o.result == MOON_PROXY_MORE)
            continue;
        decided = true;
        FUZZ_CHECK(o.result == whole->result);
        FUZZ_CHECK(o.used == whole->used || o.result == MOON_PROXY_BAD);
        FUZZ_CHECK(memcmp(&o.peer, &whole->peer, sizeof(o.peer)) == 0);
    }
    FUZZ_CHECK(decided || bytes.len > most || whole->result == MOON_PROXY_MORE);
}

/* The same address in a version 1 line. */
static void check_line(const struct moon_peer *peer)
{
    char ip[INET6_ADDRSTRLEN], line[MOON_PROXY_V1_MAX + 1];
    bool v4 = peer->family == AF_INET;
    if (inet_ntop(peer->family, peer->addr, ip, sizeof(ip)) == NULL)
        return;
    int len =
        snprintf(line, sizeof(line), "PROXY TCP%d %s %s %u 80\r\n", v4 ? 4 : 6,
                 ip, v4 ? "192.0.2.1" : "2001:db8::1", peer->port);
    struct outcome o = read_header(moon_str(line, (size_t)len));
    FUZZ_CHECK(o.result == MOON_PROXY_DONE && o.used == (size_t)len);
    FUZZ_CHECK(o.peer.family == peer->family && o.peer.port == peer->port);
    FUZZ_CHECK(memcmp(o.peer.addr, peer->addr, v4 ? 4 : 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str bytes = fuzz_str(data, size);
    struct outcome whole = read_header(bytes);
    check_prefixes(bytes, &whole);
    if (whole.result == MOON_PROXY_DONE &&
        whole.peer.trust == MOON_PEER_STRANGER)
        check_line(&whole.peer);
    return 0;
}
