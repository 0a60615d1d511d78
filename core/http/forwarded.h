/* What proxies say about the client of a request: X-Forwarded-For, -Proto and
 * -Host, or Forwarded (RFC 7239); one family, never both.
 *
 * Pure. Anybody may send these fields, and each proxy appends to what it got,
 * so they are read from the right, as far as those who wrote them are trusted;
 * what is malformed or goes on for too long is believed up to there. */
#ifndef MOON_HTTP_FORWARDED_H
#define MOON_HTTP_FORWARDED_H

#include "base/arena.h"
#include "base/nets.h"
#include "http/peer.h"
#include "http/request.h"

/* Proxies in a row that are believed. */
enum { MOON_FORWARDED_HOPS = 32 };

struct moon_forwarded {
    struct moon_peer from;  /* the client: the first address, from the right,
                               that is not trusted; else the last one read */
    struct moon_str scheme; /* "http" or "https", static; or none */
    struct moon_str host;   /* as Host may be; or none. Borrowed of the request
                               or the arena */
};

/* The request came from `peer`, which must be trusted. X-Forwarded-Proto and
 * -Host are the last proxy's to say: the last element counts. */
void moon_forwarded_x(const struct moon_request *req,
                      const struct moon_nets *trusted,
                      const struct moon_peer *peer, struct moon_forwarded *out);

/* The same of Forwarded. Each element says what one proxy has seen: scheme and
 * host come from the first element, from the left, that is believed and says
 * them. */
void moon_forwarded_rfc7239(const struct moon_request *req,
                            const struct moon_nets *trusted,
                            const struct moon_peer *peer,
                            struct moon_arena *arena,
                            struct moon_forwarded *out);

#endif
