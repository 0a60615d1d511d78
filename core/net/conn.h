/* What the rest of the net room may know about a connection. */
#ifndef MOON_NET_CONN_H
#define MOON_NET_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct moon_conn;

/* Address of the other end, small enough to be kept by every connection. */
struct moon_peer {
    uint8_t addr[16]; /* network order; the first 4 for IPv4 */
    uint16_t port;
    uint8_t family; /* AF_INET, AF_INET6 or AF_UNIX */
};

void moon_peer_set(struct moon_peer *peer, const struct sockaddr *sa);

/* Borrowed until the connection closes; an exchange's conn may be NULL, so
 * ask in on_head. */
const struct moon_peer *moon_conn_peer(const struct moon_conn *conn);

#endif
