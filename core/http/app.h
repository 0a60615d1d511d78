/* What an application declared, frozen: routes, scopes and the stages that run
 * in C. Filled while the app loads (by the vm room), then read-only, so that
 * the network side routes, refuses and decorates responses without Lua.
 *
 * Owned by the generation's VM; everything in it lives in its arena. A scope is
 * the app (index 0) or a group; what a scope leaves unset its parent decides.
 * A chain is the number of a composed handler, a function of Lua (vm_run). */
#ifndef MOON_HTTP_APP_H
#define MOON_HTTP_APP_H

#include "http/router.h"

#include <stdint.h>

enum moon_body_mode { MOON_BODY_BUFFER, MOON_BODY_FILE, MOON_BODY_STREAM };

/* Is a route shut off when it fails again and again? vm/quarantine_gate.h */
enum moon_quarantine_mode {
    MOON_QUARANTINE_CONFIGURED,
    MOON_QUARANTINE_ON,
    MOON_QUARANTINE_OFF,
};

enum { MOON_NO_CHAIN = -1, MOON_NO_SCOPE = -1, MOON_ROUTE_LIMITS = 8 };

struct moon_route {
    int scope;
    int chain;                    /* MOON_NO_CHAIN for a static directory */
    struct moon_str pattern;      /* whole, with the groups' prefixes */
    struct moon_str name;         /* may be empty */
    struct moon_str source;       /* "app.lua:12" */
    struct moon_str methods;      /* "GET POST", for `routes` */
    struct moon_str middleware;   /* "timed, require_login", for `routes` */
    struct moon_str chain_places; /* probe: a line "name\tplace\n" each, the
                                     handler last; for `route` */
    uint64_t timeout_ms;          /* 0: the configured one */
    uint64_t stream_timeout_ms;
    uint64_t body_limit_bytes; /* UINT64_MAX: the configured one */
    uint32_t cpu_limit_ms;     /* 0: the configured one */
    enum moon_quarantine_mode quarantine;
    uint32_t quarantine_failures; /* 0: as configured */
    uint64_t quarantine_retry_ms; /* likewise */
    /* Limits that need no Lua and come before all that does: numbers that the
     * vm room knows. */
    uint16_t limits[MOON_ROUTE_LIMITS];
    uint8_t limit_count;
    bool guarded; /* something may refuse it: a limit, quarantine */
    enum moon_body_mode body_mode;
    bool cancel_on_disconnect; /* beyond GET, HEAD and streams */
    /* app:static */
    int dir_fd; /* -1 unless static; owned by the app */
    struct moon_str index, fallback;
    struct moon_str cache_control; /* ready as a field's value; or empty */
};

/* What answers a status in a scope. Neither: the parent decides. */
struct moon_status_hook {
    int status;
    int chain;            /* Lua, with the scope's middleware around it */
    struct moon_str body; /* or fixed bytes, no Lua */
    struct moon_str content_type;
};

struct moon_strs {
    struct moon_str *items;
    uint32_t count;
};

struct moon_cors {
    bool set, credentials, any_origin;
    struct moon_strs origins, skip;
    struct moon_str methods, headers; /* ready as field values; may be empty */
    int64_t max_age_s;                /* -1: not sent */
};

struct moon_security_headers {
    bool set;
    struct moon_str csp, hsts, frame; /* ready as field values; empty: off */
    struct moon_strs skip;
};

struct moon_access_log {
    bool set, off;
    struct moon_strs skip;
};

struct moon_request_id {
    bool set, off;
    struct moon_str header; /* "X-Request-Id" */
    struct moon_strs skip;
};

/* What holds in a scope: what itself or the nearest parent sets; NULL: none. */
struct moon_scope_stages {
    const struct moon_cors *cors;
    const struct moon_security_headers *security;
    const struct moon_access_log *access_log;
    const struct moon_request_id *request_id;
};

struct moon_scope {
    int parent;
    struct moon_str prefix;
    struct moon_cors cors;
    struct moon_security_headers security;
    struct moon_access_log access_log;
    struct moon_request_id request_id;
    struct moon_scope_stages stages; /* from moon_app_seal on */
    struct moon_status_hook *hooks;
    uint32_t hook_count;
};

struct moon_app {
    struct moon_arena arena;
    struct moon_router *router;
    struct moon_route *routes; /* malloc'd array, index = route id */
    struct moon_scope *scopes;
    uint32_t route_count, route_cap, scope_count, scope_cap;
    bool strict_slash; /* no 308 to a trailing-slash sibling */
    int error_chain;   /* what on_error makes of an answer that quarantine
                          gives, or MOON_NO_CHAIN: there is no on_error */
    bool generation_header;
};

MOON_MUST_CHECK enum moon_err moon_app_init(struct moon_app *app);
void moon_app_deinit(struct moon_app *app);

/* New zeroed entries with the right defaults; NULL when memory is out. The
 * pointer is valid until the next one is added. */
MOON_MUST_CHECK struct moon_route *moon_app_add_route(struct moon_app *app,
                                                      int *id);
MOON_MUST_CHECK struct moon_scope *moon_app_add_scope(struct moon_app *app,
                                                      int parent,
                                                      struct moon_str prefix,
                                                      int *id);

/* All is declared: finds what holds in each scope, once for all requests. */
void moon_app_seal(struct moon_app *app);

/* The deepest scope whose prefix holds `path` (for automatic answers to paths
 * that no route owns). 0 at least. */
int moon_app_scope_of(const struct moon_app *app, struct moon_str path);

/* The hook for a status: of the scope or the nearest parent; NULL if none. */
const struct moon_status_hook *moon_app_hook(const struct moon_app *app,
                                             int scope, int status);

/* Does a path match one of the patterns? A pattern is an exact path or ends in
 * '*' and then is a prefix. */
bool moon_app_skips(const struct moon_strs *skip, struct moon_str path);

#endif
