/* Method and path to a route: built while an app loads, then frozen.
 *
 * A tree of segments owned by the generation. Static segments beat typed ones
 * (<int> <uuid> <alpha>), typed beat plain, plain beat catch-all, whatever the
 * order of registration, with backtracking; matching allocates nothing unless
 * something must be decoded, and its cost does not grow with the number of
 * routes. So no route can take all paths of another one. Paths are split at raw
 * '/', each segment percent-decoded, then compared, so /%61dmin is /admin and
 * %2F never splits. Dot segments (%2e counts) are resolved first; empty
 * segments do not match; a bad escape or NUL is malformed. */
#ifndef MOON_HTTP_ROUTER_H
#define MOON_HTTP_ROUTER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/errcode.h"
#include "http/method.h"
#include "http/path.h"
#include "http/pattern.h"

enum { MOON_NO_ROUTE = -1 };

struct moon_param {
    struct moon_str name;  /* the router's */
    struct moon_str value; /* decoded; in the path or the arena given */
    enum moon_param_type type;
};

struct moon_match {
    int route;        /* id, or MOON_NO_ROUTE */
    uint32_t allowed; /* when route is NO_ROUTE: METHOD_BITs that would match
                         this path, for 405 and OPTIONS; HEAD is included where
                         GET is */
    bool any_method;  /* the route found takes every method */
    int owner;        /* when route is NO_ROUTE but allowed != 0: id of a route
                         on that path (for its scope), else NO_ROUTE */
    bool slash_sibling; /* no match, but one exists with the trailing slash
                           added or removed */
    bool normal;        /* the path is known to need no normalising; false says
                           nothing */
    uint32_t param_count;
    struct moon_param params[MOON_PARAMS_MAX];
};

struct moon_router;

MOON_MUST_CHECK struct moon_router *moon_router_create(void);
void moon_router_destroy(struct moon_router *router); /* NULL is fine */

/* Adds `pattern` for the methods in the set (all of them and unknown tokens
 * when `any`) under `id` (>= 0). On failure `error` says what is wrong with
 * the pattern; on a duplicate MOON_EEXISTS and *other is the id of the route
 * that has it. The pattern is copied. */
MOON_MUST_CHECK enum moon_err moon_router_add(struct moon_router *router,
                                              uint32_t methods, bool any,
                                              struct moon_str pattern, int id,
                                              int *other, char *error,
                                              size_t error_size);

/* `path` is raw, as on the wire, starting with '/' ("*" matches nothing).
 * Decoded segments that differ from the raw bytes are placed in the arena. A
 * rest keeps "%2F" where its value would otherwise gain a separator.
 * MOON_EPROTO: malformed (400). MOON_OK otherwise, also when nothing
 * matches. */
MOON_MUST_CHECK enum moon_err moon_router_match(
    const struct moon_router *router, enum moon_method method,
    struct moon_str path, struct moon_arena *arena, struct moon_match *out);

/* Value of a pattern's parameter for moon_router_url; false if missing. */
typedef bool moon_param_get(void *ctx, struct moon_str name,
                            struct moon_str *value);
/* Appends the percent-encoded path of a pattern filled from `get`; what is
 * missing or does not fit its type is named in `error`. */
MOON_MUST_CHECK enum moon_err moon_router_url(struct moon_str pattern,
                                              moon_param_get *get, void *ctx,
                                              struct moon_buf *out, char *error,
                                              size_t error_size);

#endif
