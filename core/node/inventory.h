/* What one master hands to the next when a new binary takes over: descriptors
 * by number, and what goes on under the next one.
 *
 * It travels as text in a memfd, entries of "name values" that end in NUL. It
 * is read by another version than the one that wrote it: names and meanings
 * stay, an entry that a reader does not know is skipped, and what the first
 * entry says must be equal. Pure: nothing here opens or closes. */
#ifndef MOON_NODE_INVENTORY_H
#define MOON_NODE_INVENTORY_H

#include "base/buf.h"
#include "base/errcode.h"

#include <limits.h>

enum { MOON_LISTEN_MAX = 16 };

struct moon_inventory_socket {
    int fd;            /* -1: none */
    bool managed;      /* a service manager holds it, too */
    char wantedz[128]; /* as it was configured: perhaps with port 0 */
};

struct moon_inventory {
    char versionz[32]; /* of the binary that hands over */
    int pid;           /* of its master */
    uint64_t generation;
    uint32_t slot_first, slot_count; /* of its workers in the shared memory */
    uint32_t side;                   /* there, of its master */
    int channel_fd, shm_fd, region_fd, pid_fd; /* -1: none */
    char pid_pathz[PATH_MAX];
    char memory_dirz[PATH_MAX]; /* of sessions that end with the node; "" */
    struct moon_inventory_socket admin;
    struct moon_inventory_socket sockets[MOON_LISTEN_MAX];
    uint32_t socket_count;
};

/* No descriptor, all else 0. */
void moon_inventory_init(struct moon_inventory *inventory);
void moon_inventory_write(const struct moon_inventory *inventory,
                          struct moon_buf *out);
/* MOON_EPROTO: `error` says what is wrong. */
MOON_MUST_CHECK enum moon_err moon_inventory_read(
    struct moon_str bytes, struct moon_inventory *inventory,
    struct moon_buf *error);

#endif
