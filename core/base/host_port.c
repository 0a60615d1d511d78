#include "base/host_port.h"

enum moon_err moon_host_port_parse(struct moon_str text, uint16_t default_port,
                                   struct moon_str *host, uint16_t *port,
                                   const char **whyz)
{
    struct moon_str rest = MOON_STR_NONE;
    uint64_t number = default_port;
    bool has_port;
    if (text.len > 0 && text.ptr[0] == '[') {
        *host = moon_str_cut(moon_str(text.ptr + 1, text.len - 1), ']', &rest);
        has_port = rest.len > 0;
        *whyz = "an IPv6 address is written [::1] or [::1]:6379";
        if (host->len + 2 > text.len || (has_port && rest.ptr[0] != ':'))
            return MOON_EINVAL;
        if (has_port)
            rest = moon_str(rest.ptr + 1, rest.len - 1);
    } else {
        has_port = memchr(text.ptr, ':', text.len) != NULL;
        *host = moon_str_cut(text, ':', &rest);
    }
    *whyz = "a port must be a number from 1 to 65535";
    if (has_port && (rest.len > 5 || !moon_str_to_u64(rest, &number) ||
                     number == 0 || number > UINT16_MAX))
        return MOON_EINVAL;
    *whyz = "a host is missing";
    if (host->len == 0)
        return MOON_EINVAL;
    *port = (uint16_t)number;
    return MOON_OK;
}
