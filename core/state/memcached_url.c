#include "state/memcached_url.h"

#include "base/host_port.h"

#include <stdio.h>

enum { PORT = 11211 };

static enum moon_err add_host(struct moon_memcached_url *url,
                              struct moon_str text, const char **whyz)
{
    struct moon_str host;
    uint16_t port;
    enum moon_err err = moon_host_port_parse(text, PORT, &host, &port, whyz);
    if (err != MOON_OK)
        return err;
    *whyz = "at most 32 hosts, each of at most 255 bytes";
    if (url->count == MOON_MEMCACHED_HOSTS_MAX ||
        host.len >= MOON_MEMCACHED_HOST)
        return MOON_EINVAL;
    (void)snprintf(url->hosts[url->count].hostz, MOON_MEMCACHED_HOST, "%.*s",
                   MOON_STR_ARG(host));
    url->hosts[url->count++].port = port;
    return MOON_OK;
}

enum moon_err moon_memcached_url_parse(struct moon_str text,
                                       struct moon_memcached_url *url,
                                       char *error, size_t error_size)
{
    struct moon_str scheme = MOON_STR("memcached://"), rest = MOON_STR_NONE;
    const char *whyz = "";
    enum moon_err err = MOON_EINVAL;
    url->count = 0;
    if (moon_str_starts(text, scheme)) {
        rest = moon_str(text.ptr + scheme.len, text.len - scheme.len);
        if (rest.len > 0 && rest.ptr[rest.len - 1] == '/')
            rest.len--;
        if (memchr(rest.ptr, '@', rest.len) != NULL)
            whyz = "it has no passwords here";
        else
            err = MOON_OK;
    }
    bool more = true;
    while (err == MOON_OK && more) {
        more = memchr(rest.ptr, ',', rest.len) != NULL;
        err = add_host(url, moon_str_cut(rest, ',', &rest), &whyz);
    }
    if (err != MOON_OK)
        (void)snprintf(error, error_size,
                       "%s%sa memcached URL is memcached://host[:11211]"
                       "[,host...]",
                       whyz, whyz[0] != '\0' ? ": " : "");
    return err;
}
