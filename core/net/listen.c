#include "net/listen.h"

#include "base/compiler.h"
#include "net/port_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- listening ---- */

static enum moon_err fail(const struct moon_address *address, int fd, int sys,
                          const char *whyz, char *error, size_t error_size)
{
    if (fd >= 0)
        (void)close(fd);
    (void)snprintf(error, error_size, "cannot listen on %s: %s", address->textz,
                   whyz);
    return moon_err_from_errno(sys);
}

static enum moon_err fail_bind(const struct moon_address *address, int fd,
                               int sys, char *error, size_t error_size)
{
    char whyz[256];
    char ownerz[64];
    switch (sys) {
    case EADDRINUSE:
        if (moon_port_owner(address->port, ownerz, sizeof(ownerz)))
            (void)snprintf(whyz, sizeof(whyz),
                           "in use: %s listens there already; stop it or "
                           "choose another with --listen",
                           ownerz);
        else
            (void)snprintf(whyz, sizeof(whyz),
                           "in use: another process listens there already; "
                           "choose another with --listen");
        break;
    case EACCES:
        (void)snprintf(whyz, sizeof(whyz), "%s",
                       address->pathz[0] != '\0'
                           ? "no permission to create the socket"
                           : "ports below 1024 need root or "
                             "CAP_NET_BIND_SERVICE");
        break;
    case EADDRNOTAVAIL:
        (void)snprintf(whyz, sizeof(whyz), "this machine has no such address");
        break;
    case ENOENT:
        (void)snprintf(whyz, sizeof(whyz), "its directory does not exist");
        break;
    default:
        (void)snprintf(whyz, sizeof(whyz), "%s", strerror(sys));
    }
    return fail(address, fd, sys, whyz, error, error_size);
}

/* Makes way for a unix socket: nothing there, or one that nobody serves. */
static enum moon_err clear_path(const struct moon_address *address, char *error,
                                size_t error_size)
{
    struct stat st;
    if (lstat(address->pathz, &st) != 0)
        return MOON_OK; /* bind will say if that is not because it is new */
    if (!S_ISSOCK(st.st_mode))
        return fail(address, -1, EEXIST, "that file is not a socket", error,
                    error_size);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(address, -1, errno, strerror(errno), error, error_size);
    int status =
        connect(fd, (const struct sockaddr *)&address->sa, address->sa_len);
    int sys = errno;
    (void)close(fd);
    if (status == 0 || sys != ECONNREFUSED)
        return fail(address, -1, EADDRINUSE,
                    "in use: another process listens there already", error,
                    error_size);
    if (unlink(address->pathz) != 0 && errno != ENOENT)
        return fail(address, -1, errno, strerror(errno), error, error_size);
    return MOON_OK;
}

static int set_options(const struct moon_address *address, int fd)
{
    int on = 1;
    if (address->pathz[0] != '\0')
        return 0;
    int failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    /* [::]:8080 and :8080 are two addresses, on every system. */
    if (failed == 0 && address->sa.ss_family == AF_INET6)
        failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    return failed;
}

enum moon_err moon_listen_open(struct moon_address *address, int backlog,
                               int *fd, char *error, size_t error_size)
{
    *fd = -1;
    bool is_unix = address->pathz[0] != '\0';
    if (is_unix) {
        enum moon_err err = clear_path(address, error, error_size);
        if (err != MOON_OK)
            return err;
    }
    int sock = socket(address->sa.ss_family,
                      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0 || set_options(address, sock) != 0)
        return fail(address, sock, errno, strerror(errno), error, error_size);
    if (bind(sock, (struct sockaddr *)&address->sa, address->sa_len) != 0)
        return fail_bind(address, sock, errno, error, error_size);
    /* Before listen, so that nobody gets in through the wrong mode. */
    if (is_unix &&
        chmod(address->pathz, address->mode != 0 ? address->mode : 0666) != 0)
        return fail(address, sock, errno, strerror(errno), error, error_size);
    if (listen(sock, backlog) != 0)
        return fail_bind(address, sock, errno, error, error_size);
    if (!is_unix) {
        socklen_t len = sizeof(address->sa);
        if (getsockname(sock, (struct sockaddr *)&address->sa, &len) == 0)
            moon_address_print(address);
    }
    *fd = sock;
    return MOON_OK;
}

/* ---- sockets of others ---- */

/* What is wrong with it, or NULL. */
static const char *misfit(int fd)
{
    struct stat st;
    int value = 0;
    socklen_t len = sizeof(value);
    if (fstat(fd, &st) != 0)
        return "is not open";
    if (!S_ISSOCK(st.st_mode))
        return "is not a socket";
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) != 0 ||
        value != SOCK_STREAM)
        return "is not a stream socket";
    len = sizeof(value);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) != 0 ||
        value == 0)
        return "does not listen";
    return NULL;
}

static const char *name_unix(struct moon_address *address, socklen_t len)
{
    struct sockaddr_un un;
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    memcpy(&un, &address->sa, sizeof(un));
    size_t path_len = len > offset ? len - offset : 0;
    if (path_len == 0 || un.sun_path[0] == '\0')
        return "is a unix socket without a path";
    path_len = strnlen(un.sun_path, path_len);
    if (path_len >= sizeof(address->pathz))
        return "has too long a path";
    memcpy(address->pathz, un.sun_path, path_len);
    (void)snprintf(address->textz, sizeof(address->textz), "unix:%s",
                   address->pathz);
    return NULL;
}

static const char *name_socket(int fd, struct moon_address *address)
{
    socklen_t len = sizeof(address->sa);
    if (getsockname(fd, (struct sockaddr *)&address->sa, &len) != 0)
        return "has no address";
    address->sa_len = len;
    switch (address->sa.ss_family) {
    case AF_INET:
    case AF_INET6:
        moon_address_print(address);
        return NULL;
    case AF_UNIX:
        return name_unix(address, len);
    default:
        return "is neither TCP nor a unix socket";
    }
}

enum moon_err moon_listen_adopt(int fd, struct moon_address *address,
                                char *error, size_t error_size)
{
    *address = (struct moon_address){0};
    const char *wrongz = misfit(fd);
    if (wrongz == NULL)
        wrongz = name_socket(fd, address);
    if (wrongz != NULL) {
        (void)snprintf(error, error_size, "descriptor %d %s", fd, wrongz);
        return MOON_EINVAL;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        (void)snprintf(error, error_size, "descriptor %d: %s", fd,
                       strerror(errno));
        return MOON_ESYS;
    }
    return MOON_OK;
}

/* ---- connecting ---- */

static int wait_connected(int fd, uint64_t timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int wait_ms = timeout_ms > INT32_MAX ? -1 : (int)timeout_ms;
    int n;
    do {
        n = poll(&ready, 1, wait_ms);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n == 0 ? ETIMEDOUT : errno;
    int sys = 0;
    socklen_t len = sizeof(sys);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len) == 0 ? sys : errno;
}

enum moon_err moon_connect(const struct moon_address *address,
                           uint64_t timeout_ms, int *fd)
{
    *fd = -1;
    int sock = socket(address->sa.ss_family,
                      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return moon_err_from_errno(errno);
    int sys = 0;
    if (connect(sock, (const struct sockaddr *)&address->sa, address->sa_len) !=
        0)
        sys = errno == EINPROGRESS ? wait_connected(sock, timeout_ms) : errno;
    int flags = fcntl(sock, F_GETFL);
    if (sys == 0 &&
        (flags < 0 || fcntl(sock, F_SETFL, flags & ~O_NONBLOCK) != 0))
        sys = errno;
    if (sys != 0) {
        (void)close(sock);
        /* Nobody listens: the node is not there. */
        return sys == ECONNREFUSED ? MOON_ENOT_FOUND : moon_err_from_errno(sys);
    }
    *fd = sock;
    return MOON_OK;
}

bool moon_address_is_local(const struct moon_address *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    switch (address->sa.ss_family) {
    case AF_INET:
        memcpy(&v4, &address->sa, sizeof(v4));
        return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
    case AF_INET6:
        memcpy(&v6, &address->sa, sizeof(v6));
        return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
    default:
        return address->pathz[0] != '\0';
    }
}
