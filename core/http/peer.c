#include "http/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

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

struct moon_str moon_peer_ip(const struct moon_peer *peer,
                             char text[MOON_IP_TEXT])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    int family = peer->family;
    const uint8_t *addr = peer->addr;
    if (family == AF_INET6 && memcmp(addr, mapped, sizeof(mapped)) == 0) {
        family = AF_INET;
        addr += sizeof(mapped);
    }
    if ((family != AF_INET && family != AF_INET6) ||
        inet_ntop(family, addr, text, MOON_IP_TEXT) == NULL)
        return MOON_STR("");
    return moon_strz(text);
}
