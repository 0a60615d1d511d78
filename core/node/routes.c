#include "node/routes.h"

static void widen(size_t *width, struct moon_str s)
{
    if (s.len > *width)
        *width = s.len;
}

static void column(FILE *out, struct moon_str s, size_t width)
{
    (void)fprintf(out, "%.*s%*s", MOON_STR_ARG(s),
                  (int)(s.len < width ? width - s.len : 0) + 2, "");
}

static struct moon_str or_dash(struct moon_str s)
{
    return s.len > 0 ? s : MOON_STR("-");
}

void moon_routes_print(const struct moon_app *app, FILE *out)
{
    size_t methods = 6, pattern = 7, name = 4, middleware = 10;
    for (uint32_t i = 0; i < app->route_count; i++) {
        const struct moon_route *route = &app->routes[i];
        widen(&methods, route->methods);
        widen(&pattern, route->pattern);
        widen(&name, route->name);
        widen(&middleware, route->middleware);
    }
    column(out, MOON_STR("METHOD"), methods);
    column(out, MOON_STR("PATTERN"), pattern);
    column(out, MOON_STR("NAME"), name);
    column(out, MOON_STR("MIDDLEWARE"), middleware);
    (void)fprintf(out, "SOURCE\n");
    for (uint32_t i = 0; i < app->route_count; i++) {
        const struct moon_route *route = &app->routes[i];
        column(out, route->methods, methods);
        column(out, route->pattern, pattern);
        column(out, or_dash(route->name), name);
        column(out, or_dash(route->middleware), middleware);
        (void)fprintf(out, "%.*s\n", MOON_STR_ARG(route->source));
    }
}
