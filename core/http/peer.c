#include "http/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

enum { MAPPED_AT = 12 }; /* where IPv4 is in a mapped address */

void moon_peer_set(struct moon_peer *peer, const struct sockaddr *sa)
{
    *peer = (struct moon_peer){.family = (uint8_t)sa->sa_family};
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        memcpy(peer->addr, &in.sin_addr, 4);
        peer->port = ntohs(in.sin_port);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        memcpy(peer->addr, &in6.sin6_addr, 16);
        peer->port = ntohs(in6.sin6_port);
    } else {
        peer->family = AF_UNIX;
    }
}

bool moon_peer_parse_ip(int family, struct moon_str text, struct moon_peer *out)
{
    char textz[INET6_ADDRSTRLEN];
    if (text.len == 0 || text.len >= sizeof(textz) ||
        memchr(text.ptr, '\0', text.len) != NULL)
        return false;
    memcpy(textz, text.ptr, text.len);
    textz[text.len] = '\0';
    out->family = (uint8_t)family;
    return inet_pton(family, textz, out->addr) == 1;
}

bool moon_peer_parse_port(struct moon_str text, uint16_t *port)
{
    unsigned number = 0;
    if (text.len == 0 || text.len > 5)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        number = number * 10 + (unsigned)(text.ptr[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

static bool is_mapped(const struct moon_peer *peer)
{
    static const uint8_t mapped[MAPPED_AT] = {[10] = 0xff, [11] = 0xff};
    return peer->family == AF_INET6 &&
           memcmp(peer->addr, mapped, sizeof(mapped)) == 0;
}

struct moon_str moon_peer_network(const struct moon_peer *peer)
{
    const char *bytes = (const char *)peer->addr;
    if (peer->family == AF_INET)
        return moon_str(bytes, 4);
    if (is_mapped(peer))
        return moon_str(bytes + MAPPED_AT, 4);
    return peer->family == AF_INET6 ? moon_str(bytes, 8) : MOON_STR_NONE;
}

struct moon_str moon_peer_ip(const struct moon_peer *peer,
                             char text[MOON_IP_TEXT])
{
    int family = peer->family;
    const uint8_t *addr = peer->addr;
    if (is_mapped(peer)) {
        family = AF_INET;
        addr += MAPPED_AT;
    }
    if ((family != AF_INET && family != AF_INET6) ||
        inet_ntop(family, addr, text, MOON_IP_TEXT) == NULL)
        return MOON_STR("");
    return moon_strz(text);
}
