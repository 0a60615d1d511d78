/* Addresses and listening sockets: parse "127.0.0.1:8080", ":8080", "8080",
 * "[::1]:8080", "unix:/path", open them, name them. Blocking only in bind and
 * listen; used by the master (which keeps the sockets) and the commands. */
#ifndef MOON_NET_LISTEN_H
#define MOON_NET_LISTEN_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <sys/socket.h>

struct moon_address {
    struct sockaddr_storage sa;
    socklen_t sa_len;
    char textz[128]; /* canonical, as in messages */
    char pathz[108]; /* unix socket's path, else "" */
    uint16_t port;   /* 0 for unix; the real one after binding port 0 */
    uint32_t mode;   /* of a unix socket when opened; 0 means 0666 */
};

/* Names are not resolved: numeric addresses only, and no host (or "*") is all
 * IPv4 addresses, as in nginx. MOON_EINVAL, and `error` says what is wrong
 * and how an address looks. */
MOON_MUST_CHECK enum moon_err moon_address_parse(struct moon_str text,
                                                 struct moon_address *out,
                                                 char *error,
                                                 size_t error_size);

/* A non-blocking, close-on-exec listening socket in *fd. Port in use: says who
 * (if it can tell) and what to do. A stale unix socket (nobody accepts) is
 * replaced, a live one is "in use". Fills in the port when it was 0. */
MOON_MUST_CHECK enum moon_err moon_listen_open(struct moon_address *address,
                                               int backlog, int *fd,
                                               char *error, size_t error_size);

/* A blocking, connected client socket (commands talk to the admin socket). */
MOON_MUST_CHECK enum moon_err moon_connect(const struct moon_address *address,
                                           uint64_t timeout_ms, int *fd);

#endif
