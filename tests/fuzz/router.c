/* Patterns against paths: the router's tree and a matcher that tries every
 * pattern must agree on the route, its parameters and what else is said.
 *
 * The input is lines: patterns (a letter before each says for which methods),
 * and paths to match, which begin with '?'. */
#include "fuzz.h"

#include "http/fit.h"
#include "http/router.h"

enum { ROUTES = 12, ERROR = 256 };

struct added {
    struct moon_pattern pattern;
    uint32_t methods;
    bool any;
};

struct world {
    struct moon_router *router;
    struct moon_arena arena;
    struct added routes[ROUTES];
    int count;
    struct moon_path path;
};

/* ---- the naive matcher ---- */

/* What a part of a pattern is worth against others; less wins. */
static int rank(const struct moon_pattern_part *part)
{
    if (!part->is_param)
        return 0;
    switch (part->type) {
    case MOON_PARAM_INT:
        return 1;
    case MOON_PARAM_UUID:
        return 2;
    case MOON_PARAM_ALPHA:
        return 3;
    case MOON_PARAM_PLAIN:
        return 4;
    default:
        return 5;
    }
}

/* The text of a rest: all segments from the nth on. */
static void rest_of(const struct moon_path *path, uint32_t nth,
                    struct moon_buf *out)
{
    for (uint32_t i = nth; i < path->count; i++) {
        for (size_t k = 0; k < path->segments[i].text.len; k++) {
            char ch = path->segments[i].text.ptr[k];
            if (ch == '/')
                moon_buf_addz(out, "%2F");
            else
                moon_buf_add_char(out, ch);
        }
        if (i + 1 < path->count || path->slash)
            moon_buf_add_char(out, '/');
    }
}

static bool fits(const struct moon_pattern *pattern,
                 const struct moon_path *path, bool slash)
{
    for (uint32_t i = 0; i < pattern->count; i++) {
        const struct moon_pattern_part *part = &pattern->parts[i];
        if (part->is_param && part->type == MOON_PARAM_REST)
            return i < path->count || slash;
        if (i == path->count)
            return false;
        struct moon_str text = path->segments[i].text;
        if (part->is_param ? !moon_param_fits(part->type, text)
                           : !moon_str_eq(part->text, text))
            return false;
    }
    return pattern->count == path->count && pattern->slash == slash;
}

/* Does `a` win over `b`, when both fit the same path? At the first part where
 * they differ; where one of them ends, that is no rest. */
static bool wins(const struct moon_pattern *a, const struct moon_pattern *b)
{
    for (uint32_t i = 0; i < a->count && i < b->count; i++) {
        if (rank(&a->parts[i]) != rank(&b->parts[i]))
            return rank(&a->parts[i]) < rank(&b->parts[i]);
    }
    return a->count < b->count;
}

static bool takes(const struct added *route, enum moon_method method)
{
    uint32_t methods = route->methods;
    if (methods & MOON_METHOD_BIT(MOON_METHOD_GET))
        methods |= MOON_METHOD_BIT(MOON_METHOD_HEAD);
    return route->any || (methods & MOON_METHOD_BIT(method)) != 0;
}

/* A route of the method itself wins over HEAD as GET, and that over any. */
static int method_rank(const struct added *route, enum moon_method method)
{
    if (route->any)
        return 2;
    return (route->methods & MOON_METHOD_BIT(method)) != 0 ? 0 : 1;
}

static int best(const struct world *w, enum moon_method method, bool slash)
{
    int found = MOON_NO_ROUTE;
    for (int i = 0; i < w->count; i++) {
        if (!fits(&w->routes[i].pattern, &w->path, slash) ||
            !takes(&w->routes[i], method))
            continue;
        const struct added *a = &w->routes[i];
        const struct added *b = found < 0 ? NULL : &w->routes[found];
        if (b == NULL || wins(&a->pattern, &b->pattern) ||
            (!wins(&b->pattern, &a->pattern) &&
             method_rank(a, method) < method_rank(b, method)))
            found = i;
    }
    return found;
}

static uint32_t allowed(const struct world *w)
{
    uint32_t methods = 0;
    for (int i = 0; i < w->count; i++) {
        if (fits(&w->routes[i].pattern, &w->path, w->path.slash))
            methods |= w->routes[i].methods;
    }
    if (methods & MOON_METHOD_BIT(MOON_METHOD_GET))
        methods |= MOON_METHOD_BIT(MOON_METHOD_HEAD);
    return methods;
}

/* What is told people about it is no other than what the router does. */
static void check_explained(const struct world *w)
{
    for (int i = 0; i < w->count; i++) {
        const struct moon_pattern *a = &w->routes[i].pattern;
        struct moon_buf text = {0};
        struct moon_fit fit = moon_fit_of(a, &w->path);
        bool fits_here = fits(a, &w->path, w->path.slash);
        FUZZ_CHECK((fit.kind == MOON_FIT_YES) == fits_here);
        FUZZ_CHECK(fits_here ? fit.distance == 0
                             : fit.at <= a->count || fit.at <= w->path.count);
        (void)moon_fit_is_near(&fit, a, &w->path);
        moon_fit_explain(&fit, a, &w->path, &text);
        FUZZ_CHECK((text.len > 0) != fits_here);
        moon_buf_deinit(&text);
        for (int k = 0; fits_here && k < w->count; k++) {
            const struct moon_pattern *b = &w->routes[k].pattern;
            uint32_t at = 0;
            if (!fits(b, &w->path, w->path.slash))
                continue;
            int order = moon_pattern_order(a, b, &at);
            FUZZ_CHECK((order < 0) == wins(a, b));
            FUZZ_CHECK((order > 0) == wins(b, a));
        }
    }
}

/* ---- comparing ---- */

static void check_params(const struct world *w, const struct moon_match *match)
{
    const struct moon_pattern *pattern = &w->routes[match->route].pattern;
    uint32_t nth = 0;
    /* An exact match need not fill in what there is none of. */
    FUZZ_CHECK(match->param_count == pattern->param_count);
    for (uint32_t i = 0; i < pattern->count; i++) {
        const struct moon_pattern_part *part = &pattern->parts[i];
        if (!part->is_param)
            continue;
        const struct moon_param *param = &match->params[nth++];
        FUZZ_CHECK(moon_str_eq(param->name, part->text));
        FUZZ_CHECK(param->type == part->type);
        struct moon_buf rest = {0};
        struct moon_str expected = MOON_STR_NONE;
        if (part->type == MOON_PARAM_REST) {
            rest_of(&w->path, i, &rest);
            expected = moon_buf_str(&rest);
        } else {
            expected = w->path.segments[i].text;
        }
        FUZZ_CHECK(moon_str_eq(param->value, expected));
        moon_buf_deinit(&rest);
    }
}

static bool param_of(void *ctx, struct moon_str name, struct moon_str *value)
{
    const struct moon_match *match = ctx;
    for (uint32_t i = 0; i < match->param_count; i++) {
        if (moon_str_eq(match->params[i].name, name)) {
            *value = match->params[i].value;
            return true;
        }
    }
    return false;
}

/* A URL made of what was matched leads to a route with the same values. */
static void check_url(struct world *w, struct moon_str pattern_text,
                      const struct moon_match *match)
{
    struct moon_buf url = {0};
    struct moon_match again;
    char error[ERROR];
    const struct moon_pattern *pattern = &w->routes[match->route].pattern;
    for (uint32_t i = 0; i < match->param_count; i++) {
        struct moon_str value = match->params[i].value;
        /* A rest shows %2F for a slash inside a segment, and so is not the
         * same as text; and it ends in an empty segment or begins with one
         * only where the path did. */
        if (match->params[i].type == MOON_PARAM_REST &&
            (value.len == 0 || memchr(value.ptr, '%', value.len) != NULL))
            return;
    }
    enum moon_err err =
        moon_router_url(pattern_text, param_of, (void *)(uintptr_t)match, &url,
                        error, sizeof(error));
    FUZZ_CHECK(err == MOON_OK);
    FUZZ_CHECK(moon_path_split(moon_buf_str(&url), &w->arena, &w->path) ==
               MOON_OK);
    FUZZ_CHECK(fits(pattern, &w->path, w->path.slash));
    FUZZ_CHECK(moon_router_match(w->router, MOON_METHOD_GET, moon_buf_str(&url),
                                 &w->arena, &again) == MOON_OK);
    moon_buf_deinit(&url);
}

static void check_match(struct world *w, enum moon_method method,
                        struct moon_str path, const struct moon_str *texts)
{
    struct moon_match match;
    enum moon_err split = moon_path_split(path, &w->arena, &w->path);
    enum moon_err err =
        moon_router_match(w->router, method, path, &w->arena, &match);
    if (split != MOON_OK || w->path.empty) {
        FUZZ_CHECK(err == MOON_OK || (err == split && err == MOON_EPROTO));
        FUZZ_CHECK(err != MOON_OK || match.route == MOON_NO_ROUTE);
        return;
    }
    FUZZ_CHECK(err == MOON_OK);
    if (method == MOON_METHOD_GET)
        check_explained(w);
    FUZZ_CHECK(match.route == best(w, method, w->path.slash));
    if (match.route != MOON_NO_ROUTE) {
        FUZZ_CHECK(match.any_method == w->routes[match.route].any);
        check_params(w, &match);
        check_url(w, texts[match.route], &match);
        return;
    }
    FUZZ_CHECK(match.allowed == allowed(w));
    FUZZ_CHECK((match.owner != MOON_NO_ROUTE) == (match.allowed != 0));
    bool sibling = match.allowed == 0 && w->path.count > 0 &&
                   best(w, method, !w->path.slash) != MOON_NO_ROUTE;
    FUZZ_CHECK(match.slash_sibling == sibling);
}

/* Would the tree call it a duplicate? Same shape, and a method in common. */
static bool is_duplicate(const struct added *a, const struct added *b)
{
    if (a->pattern.count != b->pattern.count ||
        a->pattern.slash != b->pattern.slash || a->any != b->any ||
        (!a->any && (a->methods & b->methods) == 0))
        return false;
    for (uint32_t i = 0; i < a->pattern.count; i++) {
        const struct moon_pattern_part *x = &a->pattern.parts[i];
        const struct moon_pattern_part *y = &b->pattern.parts[i];
        if (x->is_param != y->is_param || x->type != y->type ||
            (!x->is_param && !moon_str_eq(x->text, y->text)))
            return false;
    }
    return true;
}

static void add_route(struct world *w, char kind, struct moon_str text,
                      struct moon_str *texts)
{
    struct added *route = &w->routes[w->count];
    char error[ERROR] = "";
    int other;
    route->any = kind == 'a';
    route->methods = route->any ? 0 : 1u + (unsigned char)kind % 63u;
    bool duplicate = false;
    enum moon_err parsed = moon_pattern_parse(text, &w->arena, &route->pattern,
                                              error, sizeof(error));
    for (int i = 0; i < w->count && parsed == MOON_OK; i++)
        duplicate |= is_duplicate(&w->routes[i], route);
    enum moon_err err =
        moon_router_add(w->router, route->methods, route->any, text, w->count,
                        &other, error, sizeof(error));
    FUZZ_CHECK(parsed == MOON_OK || err == parsed);
    FUZZ_CHECK(parsed != MOON_OK ||
               err == (duplicate ? MOON_EEXISTS : MOON_OK));
    FUZZ_CHECK(err == MOON_OK || error[0] != '\0');
    FUZZ_CHECK((err == MOON_EEXISTS) == (other != MOON_NO_ROUTE));
    if (err == MOON_OK)
        texts[w->count++] = text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct moon_str texts[ROUTES];
    struct moon_str whole = fuzz_copy(fuzz_str(data, size));
    struct fuzz_bytes bytes = fuzz_bytes((const uint8_t *)whole.ptr, whole.len);
    w.count = 0;
    moon_arena_init(&w.arena, NULL, 0);
    w.router = moon_router_create();
    FUZZ_CHECK(w.router != NULL);
    while (fuzz_left(&bytes) > 0) {
        char kind = (char)fuzz_byte(&bytes);
        struct moon_str text = fuzz_until(&bytes, '\n');
        if (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL)
            continue; /* neither http_in nor an app lets one through */
        if (kind == '?') {
            for (int i = 0; i < MOON_METHOD_COUNT; i++)
                check_match(&w, (enum moon_method)i, text, texts);
        } else if (w.count < ROUTES) {
            add_route(&w, kind, text, texts);
        }
    }
    moon_router_destroy(w.router);
    moon_arena_reset(&w.arena);
    fuzz_free(whole);
    return 0;
}
