/* Listening sockets: open them, or connect to one. Blocking in bind, listen
 * and connect only; used by the master (which keeps the sockets) and the
 * commands. */
#ifndef MOON_NET_LISTEN_H
#define MOON_NET_LISTEN_H

#include "base/address.h"

/* Reached from this machine only: loopback or a unix socket. */
bool moon_address_is_local(const struct moon_address *address);

/* A non-blocking, close-on-exec listening socket in *fd. Port in use: says who
 * (if it can tell) and what to do. A stale unix socket (nobody accepts) is
 * replaced, a live one is "in use". Fills in the port when it was 0. */
MOON_MUST_CHECK enum moon_err moon_listen_open(struct moon_address *address,
                                               int backlog, int *fd,
                                               char *error, size_t error_size);

/* A socket that somebody else has opened: checks that it is a listening stream
 * socket, TCP or unix with a path, makes it non-blocking and close-on-exec, and
 * fills in its address. `error` gets what it is instead. */
MOON_MUST_CHECK enum moon_err moon_listen_adopt(int fd,
                                                struct moon_address *address,
                                                char *error, size_t error_size);

/* A blocking, connected client socket (commands talk to the admin socket).
 * MOON_ENOT_FOUND when nobody listens. */
MOON_MUST_CHECK enum moon_err moon_connect(const struct moon_address *address,
                                           uint64_t timeout_ms, int *fd);

#endif
