/* memcached://host[:11211][,host...]: one server, or several that share the
 * items. Pure text work. */
#ifndef MOON_STATE_MEMCACHED_URL_H
#define MOON_STATE_MEMCACHED_URL_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum { MOON_MEMCACHED_HOSTS_MAX = 32, MOON_MEMCACHED_HOST = 256 };

struct moon_memcached_url {
    struct {
        char hostz[MOON_MEMCACHED_HOST]; /* IPv6 without its brackets */
        uint16_t port;
    } hosts[MOON_MEMCACHED_HOSTS_MAX];
    uint32_t count; /* at least 1 */
};

/* MOON_EINVAL: `error` says what is wrong. */
MOON_MUST_CHECK enum moon_err moon_memcached_url_parse(
    struct moon_str text, struct moon_memcached_url *url, char *error,
    size_t error_size);

#endif
