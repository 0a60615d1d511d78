/* Socket activation: listening sockets that a service manager (systemd, or
 * anything that speaks its protocol) opened and passes to us, from descriptor
 * 3 on, named by LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.
 *
 * They replace the addresses in `listen`; one that is named "admin" replaces
 * `admin`. The manager keeps its own descriptors of them, so they outlive us:
 * nobody may shut them down. The master asks once, at its start. */
#ifndef MOON_NODE_ACTIVATION_H
#define MOON_NODE_ACTIVATION_H

#include "base/address.h"
#include "base/buf.h"
#include "node/inventory.h"

enum { MOON_ACTIVATION_FIRST = 3 };

struct moon_activated {
    int fd;
    struct moon_address address;
    char namez[64]; /* as the manager calls it; "" */
    bool admin;
};

struct moon_activation {
    struct moon_activated sockets[MOON_LISTEN_MAX + 1];
    uint32_t count;
};

/* What LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say (NULL: unset) to the
 * process `self`; `first_fd` is MOON_ACTIVATION_FIRST, but for tests. Nothing
 * for us: MOON_OK and a count of 0. Sockets that we cannot serve: MOON_EINVAL,
 * and `error` says which and what to do. */
MOON_MUST_CHECK enum moon_err moon_activation_read(
    const char *pidz, const char *countz, const char *namesz, int self,
    int first_fd, struct moon_activation *out, struct moon_buf *error);
/* The same from the environment, which forgets it: what we start must not
 * believe that it is meant. */
MOON_MUST_CHECK enum moon_err moon_activation_take(struct moon_activation *out,
                                                   struct moon_buf *error);

#endif
