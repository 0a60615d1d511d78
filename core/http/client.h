/* Whose request it is: address, scheme and host after the trusted-proxy rule.
 *
 * Part of an exchange and found when something asks (a limit, the log, Lua),
 * through the functions of http/exchange.h; most requests never need it. Valid
 * until the exchange ends. Loop thread. */
#ifndef MOON_HTTP_CLIENT_H
#define MOON_HTTP_CLIENT_H

#include "base/nets.h"
#include "http/peer.h"

#include <stdatomic.h>

struct moon_exchange;

/* What a generation believes about its clients. Everything is borrowed and
 * outlives the exchanges that run on it. */
struct moon_trust {
    const struct moon_nets *proxies;
    bool rfc7239; /* Forwarded, not X-Forwarded-* */
    uint64_t generation;
    /* The last generation that complained about fields it has to ignore; of
     * all workers. NULL: never complain. */
    _Atomic uint64_t *complained;
};

struct moon_client {
    bool known; /* else nothing else here means anything */
    struct moon_peer from;
    struct moon_str scheme, host;
    struct moon_str ip; /* text of `from`, made when asked for; ptr NULL */
    char ip_text[MOON_IP_TEXT];
};

/* Fills in x->client. A request whose head did not arrive, or without a trust,
 * is its peer's. */
void moon_client_find(struct moon_exchange *x);

#endif
