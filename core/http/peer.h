/* Address of the other end of a connection, small enough to be kept by every
 * connection and copied into every exchange. */
#ifndef MOON_HTTP_PEER_H
#define MOON_HTTP_PEER_H

#include "base/str.h"

#include <stdint.h>
#include <sys/socket.h>

/* Whether what it says about its clients is believed. */
enum moon_peer_trust {
    MOON_PEER_STRANGER,
    MOON_PEER_TRUSTED, /* it is one of trusted_proxies */
    MOON_PEER_VEILED,  /* a proxy that does not say who is behind it: never */
};

struct moon_peer {
    uint8_t addr[16]; /* network order; the first 4 for IPv4 */
    uint16_t port;
    uint8_t family; /* AF_INET, AF_INET6 or AF_UNIX */
    uint8_t trust;  /* enum moon_peer_trust */
};

enum { MOON_IP_TEXT = 48 };

/* A stranger, at first. */
void moon_peer_set(struct moon_peer *peer, const struct sockaddr *sa);

/* An address as inet_pton takes it for that family, and nothing beside it; sets
 * family and addr. */
bool moon_peer_parse_ip(int family, struct moon_str text,
                        struct moon_peer *out);
/* 1 to 5 digits, at most 65535. */
bool moon_peer_parse_port(struct moon_str text, uint16_t *port);

/* What of its address tells one client from another: the four bytes of IPv4, or
 * the first eight of IPv6, a /64, which is the least that one customer has.
 * Empty (ptr NULL) for a unix socket; borrowed from `peer`. */
struct moon_str moon_peer_network(const struct moon_peer *peer);

/* "192.0.2.1" or "2001:db8::1", an IPv4-mapped address as IPv4, empty for a
 * unix socket; written into `text`, which the result borrows. */
struct moon_str moon_peer_ip(const struct moon_peer *peer,
                             char text[MOON_IP_TEXT]);

#endif
