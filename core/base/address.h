/* Addresses that a socket listens on or connects to: "127.0.0.1:8080",
 * ":8080", "8080", "[::1]:8080", "unix:/path".
 *
 * Pure text work; names are not resolved. The caller owns the struct. */
#ifndef MOON_BASE_ADDRESS_H
#define MOON_BASE_ADDRESS_H

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

/* Numeric addresses only, and no host (or "*") is all IPv4 addresses, as in
 * nginx. MOON_EINVAL, and `error` says what is wrong and how an address
 * looks. */
MOON_MUST_CHECK enum moon_err moon_address_parse(struct moon_str text,
                                                 struct moon_address *out,
                                                 char *error,
                                                 size_t error_size);

/* Text and port anew from the socket address, which must be IPv4 or IPv6. */
void moon_address_print(struct moon_address *address);

#endif
