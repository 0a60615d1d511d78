/* The PROXY protocol, versions 1 and 2: a header in front of all else that a
 * balancer sends to say whose connection it passes on. As haproxy.org's
 * proxy-protocol.txt describes it.
 *
 * Pure. Whoever may connect may write such a header, so only what trusted
 * peers send is to be read. */
#ifndef MOON_HTTP_PROXY_PROTOCOL_H
#define MOON_HTTP_PROXY_PROTOCOL_H

#include "http/peer.h"

enum {
    MOON_PROXY_V1_MAX = 107, /* with its line end */
    /* Of version 2. It could have 64 KB of extensions; nobody needs them. */
    MOON_PROXY_MAX = 4096,
};

enum moon_proxy_result {
    MOON_PROXY_MORE, /* all right so far */
    MOON_PROXY_DONE,
    MOON_PROXY_BAD,
};

/* `bytes` begin with the connection's first; the same ones come again with
 * more behind them after MOON_PROXY_MORE.
 *
 * DONE: *used bytes were the header, and *peer is the client, a stranger. A
 * proxy that does not tell (UNKNOWN, LOCAL, UNIX, anything but TCP) leaves the
 * address of *peer and makes it MOON_PEER_VEILED. BAD: *whyz is static. */
enum moon_proxy_result moon_proxy_protocol_read(struct moon_str bytes,
                                                size_t *used,
                                                struct moon_peer *peer,
                                                const char **whyz);

#endif
