/* The URL of a Redis: one server, a unix socket, sentinels or a cluster.
 *
 *   redis://[[user]:pass@]host[:6379][/db]
 *   redis+unix://[[user]:pass@]/path[?db=0]
 *   redis+sentinel://[[user]:pass@]h1[:26379],h2,h3/master[/db]
 *   redis+cluster://[[user]:pass@]h1[:6379],h2
 *
 * In names and passwords / @ % and control characters are percent-encoded,
 * and so is : in a user. Pure text work; the result is the
 * caller's. No message quotes what may be part of a password. */
#ifndef MOON_STATE_REDIS_URL_H
#define MOON_STATE_REDIS_URL_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum moon_redis_kind {
    MOON_REDIS_SINGLE, /* also a unix socket: port 0, the host is the path */
    MOON_REDIS_SENTINEL,
    MOON_REDIS_CLUSTER,
};

enum { MOON_REDIS_HOSTS_MAX = 32, MOON_REDIS_DB_MAX = 999999 };

struct moon_redis_host {
    const char *hostz; /* IPv6 without its brackets */
    uint16_t port;
};

struct moon_redis_url {
    enum moon_redis_kind kind;
    struct moon_redis_host hosts[MOON_REDIS_HOSTS_MAX];
    uint32_t host_count;           /* at least 1 */
    const char *userz, *passwordz; /* "" when not given */
    const char *masterz;           /* of sentinels, else "" */
    uint32_t db;
    const char *shownz; /* the URL without its password, for messages */
    char text[];        /* what the pointers point into */
};

/* *out is freed with free(). MOON_EINVAL: `error` says what is wrong and how
 * it should look. */
MOON_MUST_CHECK enum moon_err moon_redis_url_parse(struct moon_str text,
                                                   struct moon_redis_url **out,
                                                   char *error,
                                                   size_t error_size);

#endif
