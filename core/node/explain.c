#include "node/explain.h"

#include "base/nearest.h"
#include "http/fit.h"

#include <stdlib.h>

enum { SHOWN_MAX = 10 };

/* A route that was looked at. */
struct candidate {
    const struct moon_route *route;
    uint32_t methods; /* that it takes, HEAD where GET is */
    bool any;
    struct moon_fit fit;
    struct moon_pattern pattern;
};

struct candidates {
    struct candidate *items;
    size_t count, cap;
    bool no_memory;
};

/* ---- which routes come into question ---- */

static uint32_t methods_of(const struct moon_route *route, bool *any)
{
    uint32_t set = 0;
    struct moon_str rest = route->methods;
    *any = moon_str_eq(rest, MOON_STR("ANY"));
    while (rest.len > 0) {
        struct moon_str token = moon_str_cut(rest, ' ', &rest);
        set |= MOON_METHOD_BIT(moon_method_parse(token));
    }
    if ((set & MOON_METHOD_BIT(MOON_METHOD_GET)) != 0)
        set |= MOON_METHOD_BIT(MOON_METHOD_HEAD);
    return set;
}

static bool takes_method(const struct candidate *c, enum moon_method method)
{
    return c->any || (c->methods & MOON_METHOD_BIT(method)) != 0;
}

static struct candidate *add(struct candidates *list)
{
    if (list->count == list->cap) {
        size_t cap = list->cap == 0 ? 8 : list->cap * 2;
        struct candidate *items =
            realloc(list->items, cap * sizeof(list->items[0]));
        if (items == NULL) {
            list->no_memory = true;
            return NULL;
        }
        list->items = items;
        list->cap = cap;
    }
    return &list->items[list->count++];
}

static int by_order(const void *a, const void *b)
{
    const struct candidate *one = a, *two = b;
    uint32_t at;
    /* Those that fit first, as the router tries them; then the nearest. */
    if (one->fit.distance != two->fit.distance)
        return one->fit.distance < two->fit.distance ? -1 : 1;
    int order = one->fit.distance == 0
                    ? moon_pattern_order(&one->pattern, &two->pattern, &at)
                    : 0;
    if (order != 0)
        return order;
    if (one->any != two->any)
        return one->any ? 1 : -1;
    return one->route < two->route ? -1 : 1;
}

/* With a route found, those that fit, and those that would but for the type of
 * a value; without one also what is near. */
static void collect(struct moon_explain *e, bool near, struct candidates *list)
{
    for (uint32_t i = 0; i < e->app->route_count; i++) {
        char error[160];
        struct candidate *c = add(list);
        if (c == NULL)
            return;
        c->route = &e->app->routes[i];
        c->methods = methods_of(c->route, &c->any);
        bool parsed =
            moon_pattern_parse(c->route->pattern, &e->arena, &c->pattern, error,
                               sizeof(error)) == MOON_OK;
        if (parsed)
            c->fit = moon_fit_of(&c->pattern, &e->parts);
        bool wanted =
            parsed && (c->fit.kind == MOON_FIT_YES ||
                       (near ? moon_fit_is_near(&c->fit, &c->pattern, &e->parts)
                             : c->fit.kind == MOON_FIT_TYPE &&
                                   c->pattern.count == e->parts.count));
        if (!wanted)
            list->count--;
    }
    if (list->count > 0)
        qsort(list->items, list->count, sizeof(list->items[0]), by_order);
}

/* ---- why not ---- */

static void why_not(const struct moon_explain *e, const struct candidate *c,
                    const struct candidate *winner, struct moon_buf *text)
{
    char methods[MOON_METHODS_TEXT];
    uint32_t at;
    if (c->fit.kind != MOON_FIT_YES) {
        moon_fit_explain(&c->fit, &c->pattern, &e->parts, text);
    } else if (!takes_method(c, e->method)) {
        moon_buf_printf(text, "takes %.*s only",
                        MOON_STR_ARG(moon_methods_text(c->methods, methods)));
    } else if (winner != NULL && winner != c) {
        /* One path, one method: only an `any` loses to a named one. */
        if (moon_pattern_order(&winner->pattern, &c->pattern, &at) == 0)
            moon_buf_addz(text, "a route that names the method beats any");
        else
            moon_buf_printf(text, "%.*s beats %.*s",
                            MOON_STR_ARG(moon_part_kind(&winner->pattern, at)),
                            MOON_STR_ARG(moon_part_kind(&c->pattern, at)));
    }
}

static const struct candidate *find_winner(const struct moon_explain *e,
                                           const struct candidates *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (e->match.route != MOON_NO_ROUTE &&
            list->items[i].route == &e->app->routes[e->match.route])
            return &list->items[i];
    return NULL;
}

static void print_list(struct moon_explain *e, const char *titlez,
                       const struct candidates *list)
{
    const struct candidate *winner = find_winner(e, list);
    size_t shown = list->count < SHOWN_MAX ? list->count : SHOWN_MAX;
    int route_width = 0, source_width = 0;
    for (size_t i = 0; i < shown; i++) {
        const struct moon_route *r = list->items[i].route;
        int route = (int)(r->methods.len + 1 + r->pattern.len);
        route_width = route > route_width ? route : route_width;
        if ((int)r->source.len > source_width)
            source_width = (int)r->source.len;
    }
    (void)fprintf(e->out, "\n%s\n", titlez);
    for (size_t i = 0; i < shown; i++) {
        const struct candidate *c = &list->items[i];
        const struct moon_route *r = c->route;
        struct moon_buf why = {0};
        why_not(e, c, winner, &why);
        int used = fprintf(e->out, "%s %.*s %.*s", c == winner ? "  >" : "   ",
                           MOON_STR_ARG(r->methods), MOON_STR_ARG(r->pattern));
        (void)fprintf(e->out, "%*s%.*s", route_width + 4 - used + 2, "",
                      MOON_STR_ARG(r->source));
        if (why.len > 0)
            (void)fprintf(e->out, "%*s%.*s",
                          source_width - (int)r->source.len + 2, "",
                          MOON_STR_ARG(moon_buf_str(&why)));
        (void)fputc('\n', e->out);
        moon_buf_deinit(&why);
    }
    if (list->count > shown)
        (void)fprintf(e->out, "    and %zu more\n", list->count - shown);
}

/* ---- outcomes ---- */

static void say(struct moon_explain *e, const char *format, ...)
    MOON_PRINTF(2, 3);

static void say(struct moon_explain *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fprintf(e->out, "%.*s %.*s ", MOON_STR_ARG(e->method_text),
                  MOON_STR_ARG(e->path));
    (void)vfprintf(e->out, format, args);
    (void)fputc('\n', e->out);
    va_end(args);
}

static void say_status(struct moon_explain *e, int status, const char *whyz)
{
    const char *hookz = moon_explain_hook(e, status);
    say(e, "is answered %d: %s", status, whyz);
    if (hookz != NULL)
        (void)fprintf(e->out, "  shaped by      %s\n", hookz);
}

static void print_allow(struct moon_explain *e)
{
    char text[MOON_METHODS_TEXT];
    uint32_t allowed = e->match.allowed | MOON_METHOD_BIT(MOON_METHOD_OPTIONS);
    (void)fprintf(e->out, "  Allow          %.*s\n",
                  MOON_STR_ARG(moon_methods_text(allowed, text)));
}

static void explain_found(struct moon_explain *e, bool *answers)
{
    const struct moon_route *route = &e->app->routes[e->match.route];
    struct candidates list = {0};
    say(e, "runs the route %.*s %.*s", MOON_STR_ARG(route->methods),
        MOON_STR_ARG(route->pattern));
    *answers = moon_explain_route(e, route);
    collect(e, false, &list);
    if (list.count > 1)
        print_list(e, "Considered, in this order:", &list);
    free(list.items);
}

static void explain_not_found(struct moon_explain *e)
{
    struct candidates list = {0};
    if (e->parts.empty) {
        say_status(e, 404, "a path with an empty segment (//) matches nothing");
        return;
    }
    say_status(e, 404, "no route has this path");
    collect(e, true, &list);
    if (list.count > 0)
        print_list(e, "Nearest:", &list);
    else if (e->app->route_count == 0)
        (void)fprintf(e->out, "\nThe application has no routes.\n");
    else
        (void)fprintf(e->out,
                      "\nNone of the %u routes is near; moonshine routes "
                      "lists them.\n",
                      e->app->route_count);
    free(list.items);
}

static void explain_redirect(struct moon_explain *e)
{
    struct candidates list = {0};
    struct moon_buf to = {0};
    moon_path_other_slash(&e->parts, &to);
    say(e, "is answered 308: redirected to %.*s",
        MOON_STR_ARG(moon_buf_str(&to)));
    (void)fprintf(e->out, "  turned off by  moonshine.app { trailing_slash = "
                          "\"strict\" }\n");
    moon_buf_deinit(&to);
    collect(e, true, &list);
    if (list.count > 0)
        print_list(e, "The route there:", &list);
    free(list.items);
}

static void explain_method(struct moon_explain *e)
{
    struct candidates list = {0};
    if (e->method == MOON_METHOD_OPTIONS) {
        say(e, "is answered 204 by the server, without a route");
        print_allow(e);
    } else {
        say_status(e, 405, "no route of this path takes the method");
        print_allow(e);
    }
    collect(e, false, &list);
    print_list(e, "Considered:", &list);
    free(list.items);
}

/* The paths that net/app_handler answers before any route. */
static bool is_builtin(struct moon_str path)
{
    return moon_str_eq(path, MOON_STR("/-/live")) ||
           moon_str_eq(path, MOON_STR("/-/ready"));
}

static bool explain_match(struct moon_explain *e)
{
    bool safe = e->method == MOON_METHOD_GET || e->method == MOON_METHOD_HEAD;
    bool answers = false;
    if (is_builtin(e->normal))
        say(e, "is answered by the server itself");
    else if (e->match.route != MOON_NO_ROUTE)
        explain_found(e, &answers);
    else if (moon_str_eq(e->path, MOON_STR("*")))
        say(e, "is about the server itself and has no route");
    else if (e->match.allowed != 0)
        explain_method(e);
    else if (safe && e->match.slash_sibling && !e->app->strict_slash)
        explain_redirect(e);
    else
        explain_not_found(e);
    return answers;
}

bool moon_explain(const struct moon_app *app, const struct moon_config *config,
                  struct moon_str method, struct moon_str path, FILE *out)
{
    static struct moon_explain e; /* too large for a careful stack */
    struct moon_str query;
    e = (struct moon_explain){.app = app,
                              .config = config,
                              .method_text = method,
                              .method = moon_method_parse(method),
                              .path = moon_str_cut(path, '?', &query),
                              .out = out};
    moon_arena_init(&e.arena, NULL, 0);
    enum moon_err err =
        moon_router_match(app->router, e.method, e.path, &e.arena, &e.match);
    e.normal = e.path;
    if (err == MOON_OK && !moon_str_eq(e.path, MOON_STR("*"))) {
        err = moon_path_split(e.path, &e.arena, &e.parts);
        if (err == MOON_OK)
            err = moon_path_normalise(e.path, &e.arena, &e.normal);
    }
    bool answers = false;
    if (err == MOON_OK)
        answers = explain_match(&e);
    else if (err == MOON_ETOO_BIG)
        say_status(&e, 404, "more segments than any route can have");
    else
        say_status(&e, 400, "the path is malformed (a bad escape, or %00)");
    moon_arena_reset(&e.arena);
    return answers;
}
