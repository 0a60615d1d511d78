#include "http/client.h"

#include "base/log.h"
#include "http/exchange.h"
#include "http/forwarded.h"

/* ---- a proxy that nobody told us of ---- */

#define V4(a, b, prefix)                                            \
    {                                                               \
        .addr = {[10] = 0xff, [11] = 0xff, [12] = (a), [13] = (b)}, \
        .bits = 96 + (prefix), .v4 = true                           \
    }

/* Where proxies are, and clients that are not proxies seldom. */
static struct moon_net near_nets[] = {
    V4(127, 0, 8),
    V4(10, 0, 8),
    V4(172, 16, 12),
    V4(192, 168, 16),
    V4(169, 254, 16),
    V4(100, 64, 10),
    {.addr = {[15] = 1}, .bits = 128},
    {.addr = {0xfc}, .bits = 7},
    {.addr = {0xfe, 0x80}, .bits = 10},
};

static bool is_near(const struct moon_peer *peer)
{
    const struct moon_nets near = {near_nets, MOON_COUNT(near_nets), true};
    return moon_nets_contain(&near, peer->family, peer->addr);
}

static bool has_field(const struct moon_exchange *x, bool rfc7239)
{
    struct moon_str unused;
    return moon_request_header(
        &x->req, rfc7239 ? MOON_STR("forwarded") : MOON_STR("x-forwarded-for"),
        0, &unused);
}

static bool may_complain(const struct moon_trust *trust)
{
    return trust->complained != NULL &&
           atomic_load_explicit(trust->complained, memory_order_relaxed) <
               trust->generation;
}

/* True for one caller of all workers. */
static bool is_first(const struct moon_trust *trust)
{
    uint64_t seen = atomic_exchange_explicit(
        trust->complained, trust->generation, memory_order_relaxed);
    return seen < trust->generation;
}

/* All users of an unknown proxy look like one, and share one limit; nobody
 * would see why. */
static void complain_of_stranger(struct moon_exchange *x)
{
    char text[MOON_IP_TEXT];
    if (!has_field(x, x->trust->rfc7239) || !is_near(&x->peer) ||
        !is_first(x->trust))
        return;
    struct moon_str ip = moon_peer_ip(&x->peer, text);
    moon_log(MOON_LOG_WARN,
             "%s from %.*s is ignored: that is not one of trusted_proxies. If "
             "a proxy of yours is there, all its users are one client now; set "
             "trusted_proxies = { \"%.*s\" }",
             x->trust->rfc7239 ? "Forwarded" : "X-Forwarded-For",
             MOON_STR_ARG(ip.len > 0 ? ip : MOON_STR("a unix socket")),
             MOON_STR_ARG(ip.len > 0 ? ip : MOON_STR("unix")));
}

/* A proxy that we believe speaks the other family. */
static void complain_of_family(struct moon_exchange *x)
{
    bool rfc7239 = x->trust->rfc7239;
    if (has_field(x, rfc7239) || !has_field(x, !rfc7239) || !is_first(x->trust))
        return;
    moon_log(MOON_LOG_WARN,
             "a trusted proxy sends %s, which is ignored: all its users are "
             "one client now; set forwarded = \"%s\", or have it send %s",
             rfc7239 ? "X-Forwarded-For" : "Forwarded",
             rfc7239 ? "x-forwarded" : "rfc7239",
             rfc7239 ? "Forwarded" : "X-Forwarded-For");
}

/* ---- the rule ---- */

static void believe(struct moon_exchange *x)
{
    struct moon_client *client = &x->client;
    const struct moon_trust *trust = x->trust;
    struct moon_forwarded said;
    if (trust->rfc7239)
        moon_forwarded_rfc7239(&x->req, trust->proxies, &x->peer, &x->arena,
                               &said);
    else
        moon_forwarded_x(&x->req, trust->proxies, &x->peer, &said);
    client->from = said.from;
    if (said.scheme.ptr != NULL)
        client->scheme = said.scheme;
    if (said.host.ptr != NULL)
        client->host = said.host;
}

void moon_client_find(struct moon_exchange *x)
{
    struct moon_client *client = &x->client;
    client->known = true;
    client->from = x->peer;
    client->scheme = MOON_STR("http");
    client->host = moon_request_str(&x->req, x->req.host);
    client->ip = MOON_STR_NONE;
    /* Half a head may lack the field that a proxy has added last. */
    if (x->trust == NULL || !x->in.head_done)
        return;
    bool trusted = x->peer.trust == MOON_PEER_TRUSTED;
    if (trusted)
        believe(x);
    if (MOON_UNLIKELY(may_complain(x->trust))) {
        if (trusted)
            complain_of_family(x);
        else if (x->peer.trust == MOON_PEER_STRANGER)
            complain_of_stranger(x);
    }
}
