/* What `moonshine route` prints: which route takes a request, what it runs with
 * which limits, and why no other route does; or why there is none.
 *
 * Asks the same router and tables that requests are answered with. Runs in the
 * probe, once; may be slow. */
#ifndef MOON_NODE_EXPLAIN_H
#define MOON_NODE_EXPLAIN_H

#include "base/config.h"
#include "http/app.h"

#include <stdio.h>

struct moon_explain {
    const struct moon_app *app;
    const struct moon_config *config;
    struct moon_str method_text, path; /* as asked for, without a query */
    enum moon_method method;
    struct moon_arena arena;
    struct moon_match match;
    struct moon_path parts;
    struct moon_str normal; /* decoded, without dot segments */
    FILE *out;
};

/* Does a route of the application answer? `path` may carry a query. */
bool moon_explain(const struct moon_app *app, const struct moon_config *config,
                  struct moon_str method, struct moon_str path, FILE *out);

/* explain_route.c: parameters, middleware, limits and stages of the route that
 * was found. False if it will find nothing to send: a file that is not
 * there. */
bool moon_explain_route(struct moon_explain *e, const struct moon_route *route);
/* The group or the app that shapes a status, in words; NULL: nobody does. */
const char *moon_explain_hook(struct moon_explain *e, int status);

#endif
