/* From a name or a path to a connected socket, without blocking the loop.
 *
 * Names are resolved on libuv's thread pool, numeric addresses at once; each
 * address is tried in turn, with an equal share of the time that is left. One
 * moon_dial is one attempt to connect, owned by this module; its creator may
 * cancel it until `done` fired. Loop thread only. Fails with MOON_ETIMEOUT at
 * the deadline and with MOON_ESYS for what the system says, told as text. */
#ifndef MOON_LINK_DIAL_H
#define MOON_LINK_DIAL_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

#include <uv.h>

#define MOON_DIAL_ERROR_SIZE 64

struct moon_dial;

/* Fires once, unless cancelled. `fd` is transferred (-1 on failure); `whyz` is
 * borrowed for the call. */
typedef void moon_dial_done(void *ctx, enum moon_err err, int fd,
                            const char *whyz);

/* `port` 0: `host` is the path of a unix socket. MOON_OK: connected at once,
 * *fd is transferred. MOON_EAGAIN: *out is under way and `done` will fire.
 * Else it failed at once, and `error` (MOON_DIAL_ERROR_SIZE bytes) says why. */
MOON_MUST_CHECK enum moon_err moon_dial_start(
    uv_loop_t *loop, struct moon_str host, uint16_t port, uint64_t timeout_ms,
    moon_dial_done *done, void *ctx, struct moon_dial **out, int *fd,
    char *error);
/* It will not fire; freed when libuv lets go. */
void moon_dial_cancel(struct moon_dial *dial);

/* What applications compare with: "timeout", "connection refused", "host not
 * found" for a libuv code, NUL-terminated into `to`. */
void moon_dial_describe(int uv_code, char *to, size_t size);

#endif
