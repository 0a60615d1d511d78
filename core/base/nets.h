/* A set of networks: "10.0.0.0/8", "::1", "2001:db8::/32", "unix".
 *
 * Pure text and bit work; filled once, then only read, so any thread may ask.
 * The owner deinits it. IPv4 and IPv4-mapped IPv6 addresses are the same, in
 * the set and in questions; no other IPv6 network holds an IPv4 address. */
#ifndef MOON_BASE_NETS_H
#define MOON_BASE_NETS_H

#include "base/buf.h"
#include "base/errcode.h"

struct moon_net {
    uint8_t addr[16]; /* IPv4 as mapped; no bits beyond the prefix */
    uint8_t bits;     /* of the prefix: of all 128 */
    bool v4;
};

/* Zero-initialised is empty. */
struct moon_nets {
    struct moon_net *items; /* owned */
    uint32_t count;
    bool unix_peers; /* "unix": whoever comes over a unix socket */
};

void moon_nets_deinit(struct moon_nets *nets);

/* MOON_EINVAL, and `why` names the text and what would be right. */
MOON_MUST_CHECK enum moon_err moon_nets_add(struct moon_nets *nets,
                                            struct moon_str text,
                                            struct moon_buf *why);

/* As `moon_nets_add` reads it, by comma. */
void moon_nets_print(const struct moon_nets *nets, struct moon_buf *out);

static inline bool moon_nets_empty(const struct moon_nets *nets)
{
    return nets->count == 0 && !nets->unix_peers;
}

/* `family` AF_INET (4 bytes at `addr`), AF_INET6 (16) or AF_UNIX (none). */
bool moon_nets_contain(const struct moon_nets *nets, int family,
                       const uint8_t *addr);

#endif
