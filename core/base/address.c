#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

static enum moon_err refuse(struct moon_str text, const char *whyz, char *error,
                            size_t error_size)
{
    (void)snprintf(error, error_size,
                   "\"%.*s\" is not an address: %s (127.0.0.1:8080, :8080, "
                   "8080, [::1]:8080, unix:/path)",
                   MOON_STR_ARG(text), whyz);
    return MOON_EINVAL;
}

static enum moon_err parse_unix(struct moon_str text, struct moon_address *out,
                                char *error, size_t error_size)
{
    struct moon_str path = moon_str(text.ptr + 5, text.len - 5);
    struct sockaddr_un *sa = (struct sockaddr_un *)&out->sa;
    if (path.len == 0 || path.ptr[0] != '/')
        return refuse(text, "a unix socket needs an absolute path", error,
                      error_size);
    _Static_assert(sizeof(out->pathz) == sizeof(sa->sun_path), "same room");
    if (path.len >= sizeof(out->pathz))
        return refuse(text, "the path of a unix socket has at most 107 bytes",
                      error, error_size);
    if (memchr(path.ptr, '\0', path.len) != NULL)
        return refuse(text, "it contains a NUL byte", error, error_size);
    sa->sun_family = AF_UNIX;
    memcpy(sa->sun_path, path.ptr, path.len);
    memcpy(out->pathz, path.ptr, path.len);
    out->sa_len = sizeof(*sa);
    (void)snprintf(out->textz, sizeof(out->textz), "unix:%s", out->pathz);
    return MOON_OK;
}

void moon_address_print(struct moon_address *address)
{
    char hostz[INET6_ADDRSTRLEN] = "";
    if (address->sa.ss_family == AF_INET6) {
        struct sockaddr_in6 *sa = (struct sockaddr_in6 *)&address->sa;
        (void)inet_ntop(AF_INET6, &sa->sin6_addr, hostz, sizeof(hostz));
        address->port = ntohs(sa->sin6_port);
        (void)snprintf(address->textz, sizeof(address->textz), "[%s]:%u", hostz,
                       address->port);
    } else {
        struct sockaddr_in *sa = (struct sockaddr_in *)&address->sa;
        (void)inet_ntop(AF_INET, &sa->sin_addr, hostz, sizeof(hostz));
        address->port = ntohs(sa->sin_port);
        (void)snprintf(address->textz, sizeof(address->textz), "%s:%u", hostz,
                       address->port);
    }
}

static bool set_host(struct moon_address *out, struct moon_str host,
                     bool brackets, uint16_t port)
{
    char hostz[INET6_ADDRSTRLEN] = "";
    if (host.len >= sizeof(hostz))
        return false;
    if (host.len > 0)
        memcpy(hostz, host.ptr, host.len);
    if (brackets) {
        struct sockaddr_in6 *sa = (struct sockaddr_in6 *)&out->sa;
        sa->sin6_family = AF_INET6;
        sa->sin6_port = htons(port);
        out->sa_len = sizeof(*sa);
        return inet_pton(AF_INET6, hostz, &sa->sin6_addr) == 1;
    }
    struct sockaddr_in *sa = (struct sockaddr_in *)&out->sa;
    sa->sin_family = AF_INET;
    sa->sin_port = htons(port);
    out->sa_len = sizeof(*sa);
    if (host.len == 0 || moon_str_eq(host, MOON_STR("*"))) {
        sa->sin_addr.s_addr = htonl(INADDR_ANY);
        return true;
    }
    return inet_pton(AF_INET, hostz, &sa->sin_addr) == 1;
}

enum moon_err moon_address_parse(struct moon_str text, struct moon_address *out,
                                 char *error, size_t error_size)
{
    *out = (struct moon_address){0};
    if (moon_str_starts(text, MOON_STR("unix:")))
        return parse_unix(text, out, error, error_size);
    struct moon_str host = MOON_STR_NONE, port = text;
    for (size_t i = text.len; i > 0; i--) {
        if (text.ptr[i - 1] == ':') {
            host = moon_str(text.ptr, i - 1);
            port = moon_str(text.ptr + i, text.len - i);
            break;
        }
    }
    uint64_t number;
    if (!moon_str_to_u64(port, &number))
        return refuse(text, "it has no port", error, error_size);
    if (number > 65535)
        return refuse(text, "a port is at most 65535", error, error_size);
    bool brackets =
        host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (brackets)
        host = moon_str(host.ptr + 1, host.len - 2);
    else if (host.len > 0 && memchr(host.ptr, ':', host.len) != NULL)
        return refuse(text, "an IPv6 address stands in brackets", error,
                      error_size);
    if (!set_host(out, host, brackets, (uint16_t)number))
        return refuse(text,
                      brackets ? "that is no IPv6 address"
                               : "names are not looked up, give a numeric "
                                 "IPv4 address",
                      error, error_size);
    moon_address_print(out);
    return MOON_OK;
}
