/* A host and maybe a port, as in a URL: "redis", "redis:6380", "[::1]:6380".
 * Pure text work; names are not resolved. */
#ifndef MOON_BASE_HOST_PORT_H
#define MOON_BASE_HOST_PORT_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

/* `host` is borrowed from the text, without brackets, and not empty. `port` is
 * the default if none is given. MOON_EINVAL: *whyz (static) says why. */
MOON_MUST_CHECK enum moon_err moon_host_port_parse(struct moon_str text,
                                                   uint16_t default_port,
                                                   struct moon_str *host,
                                                   uint16_t *port,
                                                   const char **whyz);

#endif
