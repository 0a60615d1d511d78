/* Which process listens on a TCP port? For the message when it is taken.
 *
 * Reads /proc, so it knows only what this user may see. Blocking; used once,
 * on the way out. */
#ifndef MOON_NET_PORT_OWNER_H
#define MOON_NET_PORT_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "nginx (process 1234)" into `to`; false if it cannot tell. */
bool moon_port_owner(uint16_t port, char *to, size_t size);

#endif
