#include "http/router.h"

#include "http/pattern.h"
#include "http/query.h"

#include <stdio.h>
#include <stdlib.h>

/* A route as registered: names and types of its parameters, in order. */
struct route {
    int id;
    uint32_t param_count;
    struct moon_str names[MOON_PARAMS_MAX];
    enum moon_param_type types[MOON_PARAMS_MAX];
};

/* What is registered on one path. */
struct terminal {
    const struct route *by_method[MOON_METHOD_COUNT];
    const struct route *any;
    const struct route *first; /* owns the path when no method fits */
};

struct child {
    struct moon_segment segment;
    struct node *node; /* NULL: a free slot */
};

struct node {
    struct terminal *plain;   /* for the path without a slash at its end */
    struct terminal *slashed; /* with one */
    struct terminal *rest;    /* for the rest of a path, empty or not */
    uint32_t child_count, child_mask;
    struct child *children; /* open addressing; NULL while there is none */
    struct node *params[MOON_PARAM_REST]; /* by type */
};

/* A whole path without parameters. */
struct exact {
    struct moon_str path;
    uint32_t hash;
    struct terminal *terminal; /* NULL: a free slot */
};

struct moon_router {
    struct moon_arena arena; /* nodes, tables, routes, texts */
    struct node *root;
    uint32_t exact_count, exact_mask;
    struct exact *exact; /* open addressing; NULL while there is none */
};

static void *alloc_zero(struct moon_router *router, size_t size)
{
    void *piece = moon_arena_alloc(&router->arena, size);
    if (piece != NULL)
        memset(piece, 0, size);
    return piece;
}

struct moon_router *moon_router_create(void)
{
    struct moon_router *router = malloc(sizeof(*router));
    if (router == NULL)
        return NULL;
    *router = (struct moon_router){0};
    moon_arena_init(&router->arena, NULL, 0);
    router->root = alloc_zero(router, sizeof(*router->root));
    if (router->root == NULL) {
        free(router);
        return NULL;
    }
    return router;
}

void moon_router_destroy(struct moon_router *router)
{
    if (router == NULL)
        return;
    moon_arena_reset(&router->arena);
    free(router);
}

/* The slot of a segment, or the free one where it belongs. */
static struct child *slot_of(struct child *children, uint32_t mask,
                             const struct moon_segment *segment)
{
    uint32_t at = segment->hash & mask;
    while (children[at].node != NULL &&
           !(children[at].segment.hash == segment->hash &&
             moon_str_eq(children[at].segment.text, segment->text)))
        at = (at + 1) & mask;
    return &children[at];
}

static struct node *find_child(const struct node *node,
                               const struct moon_segment *segment)
{
    if (node->children == NULL)
        return NULL;
    return slot_of(node->children, node->child_mask, segment)->node;
}

/* At most half full, so that a search ends soon. */
static bool grow_children(struct moon_router *router, struct node *node)
{
    uint32_t cap = node->children == NULL ? 4 : (node->child_mask + 1) * 2;
    struct child *children = alloc_zero(router, cap * sizeof(children[0]));
    if (children == NULL)
        return false;
    for (uint32_t i = 0; node->children != NULL && i <= node->child_mask; i++) {
        const struct child *old = &node->children[i];
        if (old->node != NULL)
            *slot_of(children, cap - 1, &old->segment) = *old;
    }
    node->children = children;
    node->child_mask = cap - 1;
    return true;
}

static struct node *add_child(struct moon_router *router, struct node *node,
                              struct moon_str text)
{
    struct moon_segment segment = {text, moon_segment_hash(text)};
    struct node *child = find_child(node, &segment);
    if (child != NULL)
        return child;
    if ((node->children == NULL ||
         (node->child_count + 1) * 2 > node->child_mask + 1) &&
        !grow_children(router, node))
        return NULL;
    child = alloc_zero(router, sizeof(*child));
    if (child == NULL)
        return NULL;
    *slot_of(node->children, node->child_mask, &segment) =
        (struct child){segment, child};
    node->child_count++;
    return child;
}

static struct node *add_param(struct moon_router *router, struct node *node,
                              enum moon_param_type type)
{
    if (node->params[type] == NULL)
        node->params[type] = alloc_zero(router, sizeof(*node));
    return node->params[type];
}

/* Where the routes of a pattern belong; NULL when memory is out. */
static struct terminal **add_path(struct moon_router *router,
                                  const struct moon_pattern *pattern)
{
    struct node *node = router->root;
    for (uint32_t i = 0; i < pattern->count && node != NULL; i++) {
        const struct moon_pattern_part *part = &pattern->parts[i];
        if (!part->is_param)
            node = add_child(router, node, part->text);
        else if (part->type == MOON_PARAM_REST)
            return &node->rest;
        else
            node = add_param(router, node, part->type);
    }
    if (node == NULL)
        return NULL;
    return pattern->slash ? &node->slashed : &node->plain;
}

/* Eight bytes at a time; the last, or the first, may overlap. */
static uint32_t hash_path(struct moon_str path)
{
    const uint64_t factor = 0x9e3779b97f4a7c15u;
    uint64_t hash = path.len;
    const char *end = path.ptr + path.len;
    for (const char *at = path.ptr; end - at > 8; at += 8) {
        hash = (hash ^ moon_load_le64(at)) * factor;
        hash ^= hash >> 32;
    }
    uint64_t last = 0;
    if (path.len >= 8)
        last = moon_load_le64(end - 8);
    else if (path.len >= 4)
        last =
            (uint64_t)moon_load_le32(path.ptr) << 32 | moon_load_le32(end - 4);
    else
        for (const char *at = path.ptr; at < end; at++)
            last = last << 8 | (unsigned char)*at;
    return (uint32_t)(((hash ^ last) * factor) >> 32);
}

static struct exact *exact_slot(struct exact *table, uint32_t mask,
                                uint32_t hash, struct moon_str path)
{
    uint32_t at = hash & mask;
    while (table[at].terminal != NULL &&
           !(table[at].hash == hash && moon_str_eq(table[at].path, path)))
        at = (at + 1) & mask;
    return &table[at];
}

static bool grow_exact(struct moon_router *router)
{
    uint32_t cap = router->exact == NULL ? 16 : (router->exact_mask + 1) * 2;
    struct exact *table = alloc_zero(router, cap * sizeof(table[0]));
    if (table == NULL)
        return false;
    for (uint32_t i = 0; router->exact != NULL && i <= router->exact_mask;
         i++) {
        const struct exact *old = &router->exact[i];
        if (old->terminal != NULL)
            *exact_slot(table, cap - 1, old->hash, old->path) = *old;
    }
    router->exact = table;
    router->exact_mask = cap - 1;
    return true;
}

/* Static segments win at every step, so a path that is a pattern, byte by
 * byte, needs no walk. Patterns with escapes are left to that: their text is
 * not what a path looks like. */
static bool add_exact(struct moon_router *router, struct moon_str pattern,
                      struct terminal *terminal)
{
    if (memchr(pattern.ptr, '%', pattern.len) != NULL)
        return true;
    if ((router->exact == NULL ||
         (router->exact_count + 1) * 2 > router->exact_mask + 1) &&
        !grow_exact(router))
        return false;
    uint32_t hash = hash_path(pattern);
    *exact_slot(router->exact, router->exact_mask, hash, pattern) =
        (struct exact){pattern, hash, terminal};
    router->exact_count++;
    return true;
}

/* The terminal of a pattern, made if it is new; NULL when memory is out. */
static struct terminal *add_terminal(struct moon_router *router,
                                     const struct moon_pattern *pattern,
                                     struct moon_str text)
{
    struct terminal **at = add_path(router, pattern);
    if (at == NULL || *at != NULL)
        return at == NULL ? NULL : *at;
    struct terminal *terminal = alloc_zero(router, sizeof(*terminal));
    if (terminal == NULL ||
        (pattern->param_count == 0 && !add_exact(router, text, terminal)))
        return NULL;
    *at = terminal;
    return terminal;
}

static const struct route *create_route(struct moon_router *router,
                                        const struct moon_pattern *pattern,
                                        int id)
{
    struct route *route = alloc_zero(router, sizeof(*route));
    if (route == NULL)
        return NULL;
    route->id = id;
    for (uint32_t i = 0; i < pattern->count; i++) {
        if (!pattern->parts[i].is_param)
            continue;
        route->names[route->param_count] = pattern->parts[i].text;
        route->types[route->param_count++] = pattern->parts[i].type;
    }
    return route;
}

static enum moon_err attach(struct terminal *terminal,
                            const struct route *route, uint32_t methods,
                            bool any, int *other)
{
    const struct route *taken = any ? terminal->any : NULL;
    for (int i = 0; i < MOON_METHOD_COUNT && !any; i++) {
        if ((methods & MOON_METHOD_BIT(i)) && terminal->by_method[i] != NULL)
            taken = terminal->by_method[i];
    }
    if (taken != NULL) {
        *other = taken->id;
        return MOON_EEXISTS;
    }
    if (any)
        terminal->any = route;
    for (int i = 0; i < MOON_METHOD_COUNT && !any; i++) {
        if (methods & MOON_METHOD_BIT(i))
            terminal->by_method[i] = route;
    }
    if (terminal->first == NULL)
        terminal->first = route;
    return MOON_OK;
}

enum moon_err moon_router_add(struct moon_router *router, uint32_t methods,
                              bool any, struct moon_str pattern, int id,
                              int *other, char *error, size_t error_size)
{
    struct moon_pattern parsed;
    struct moon_str copy = moon_arena_copy(&router->arena, pattern);
    *other = MOON_NO_ROUTE;
    if (copy.ptr == NULL)
        return MOON_ENOMEM;
    enum moon_err err =
        moon_pattern_parse(copy, &router->arena, &parsed, error, error_size);
    if (err != MOON_OK)
        return err;
    struct terminal *terminal = add_terminal(router, &parsed, copy);
    const struct route *route = create_route(router, &parsed, id);
    if (terminal == NULL || route == NULL)
        return MOON_ENOMEM;
    err = attach(terminal, route, methods, any, other);
    if (err == MOON_EEXISTS)
        (void)snprintf(error, error_size, "registered already");
    return err;
}

/* One match under way. */
struct search {
    enum moon_method method;
    struct moon_str raw;
    struct moon_arena *arena;
    const struct moon_path *path;
    struct moon_match *out;
    const struct route *route; /* what was found */
    bool no_memory;
};

static const struct route *by_method(const struct terminal *terminal,
                                     enum moon_method method)
{
    const struct route *route = terminal->by_method[method];
    if (route == NULL && method == MOON_METHOD_HEAD)
        route = terminal->by_method[MOON_METHOD_GET];
    return route == NULL ? terminal->any : route;
}

/* The path fits; notes which methods would, if this one does not. */
static bool try_terminal(struct search *search, const struct terminal *terminal)
{
    if (terminal == NULL)
        return false;
    search->route = by_method(terminal, search->method);
    struct moon_match *out = search->out;
    if (search->route != NULL) {
        out->any_method = search->route == terminal->any;
        return true;
    }
    for (int i = 0; i < MOON_METHOD_COUNT; i++) {
        if (terminal->by_method[i] != NULL)
            out->allowed |= MOON_METHOD_BIT(i);
    }
    if (terminal->by_method[MOON_METHOD_GET] != NULL)
        out->allowed |= MOON_METHOD_BIT(MOON_METHOD_HEAD);
    if (out->owner == MOON_NO_ROUTE)
        out->owner = terminal->first->id;
    return false;
}

static bool try_rest(struct search *search, const struct node *node,
                     uint32_t depth)
{
    if (node->rest == NULL || !try_terminal(search, node->rest))
        return false;
    struct moon_str value =
        moon_path_join(search->path, search->raw, depth, search->arena);
    search->no_memory = value.ptr == NULL;
    search->out->params[search->out->param_count++].value = value;
    return true;
}

static bool descend(struct search *search, const struct node *node,
                    uint32_t depth);

static bool try_params(struct search *search, const struct node *node,
                       uint32_t depth)
{
    static const enum moon_param_type order[] = {
        MOON_PARAM_INT, MOON_PARAM_UUID, MOON_PARAM_ALPHA, MOON_PARAM_PLAIN};
    struct moon_match *out = search->out;
    struct moon_str value = search->path->segments[depth].text;
    for (size_t i = 0; i < MOON_COUNT(order); i++) {
        const struct node *next = node->params[order[i]];
        if (next == NULL || !moon_param_fits(order[i], value))
            continue;
        out->params[out->param_count++].value = value;
        if (descend(search, next, depth + 1))
            return true;
        out->param_count--;
    }
    return false;
}

/* Every node is reached by one way only, so the work is bounded by the tree,
 * and in practice by the few branches whose segments fit. */
static bool descend(struct search *search, const struct node *node,
                    uint32_t depth)
{
    const struct moon_path *path = search->path;
    if (depth == path->count) {
        if (!path->slash)
            return try_terminal(search, node->plain);
        return try_terminal(search, node->slashed) ||
               try_rest(search, node, depth);
    }
    const struct node *next = find_child(node, &path->segments[depth]);
    if (next != NULL && descend(search, next, depth + 1))
        return true;
    return try_params(search, node, depth) || try_rest(search, node, depth);
}

/* Does the path have a route once its last slash is added or removed? */
static bool has_sibling(const struct moon_router *router,
                        const struct search *search,
                        const struct moon_path *path)
{
    struct moon_match match = {.owner = MOON_NO_ROUTE};
    struct moon_path other = *path;
    struct search again = *search;
    if (path->count == 0)
        return false;
    other.slash = !path->slash;
    again.path = &other;
    again.out = &match;
    return descend(&again, router->root, 0) && !again.no_memory;
}

static bool match_exact(const struct moon_router *router,
                        enum moon_method method, struct moon_str path,
                        struct moon_match *out)
{
    if (router->exact == NULL)
        return false;
    const struct terminal *terminal =
        exact_slot(router->exact, router->exact_mask, hash_path(path), path)
            ->terminal;
    if (terminal == NULL)
        return false;
    const struct route *route = by_method(terminal, method);
    if (route == NULL)
        return false;
    out->route = route->id;
    out->any_method = route == terminal->any;
    out->normal = true; /* as patterns are */
    return true;
}

enum moon_err moon_router_match(const struct moon_router *router,
                                enum moon_method method, struct moon_str path,
                                struct moon_arena *arena,
                                struct moon_match *out)
{
    struct moon_path parts;
    out->route = out->owner = MOON_NO_ROUTE;
    out->allowed = 0;
    out->any_method = out->slash_sibling = out->normal = false;
    out->param_count = 0;
    if (path.len == 0 || path.ptr[0] != '/' ||
        match_exact(router, method, path, out))
        return MOON_OK;
    enum moon_err err = moon_path_split(path, arena, &parts);
    if (err == MOON_ETOO_BIG || (err == MOON_OK && parts.empty))
        return MOON_OK;
    if (err != MOON_OK)
        return err;
    out->normal = !parts.changed;
    struct search search = {.method = method,
                            .raw = path,
                            .arena = arena,
                            .path = &parts,
                            .out = out};
    if (!descend(&search, router->root, 0)) {
        out->slash_sibling =
            out->allowed == 0 && has_sibling(router, &search, &parts);
        return MOON_OK;
    }
    out->route = search.route->id;
    for (uint32_t i = 0; i < out->param_count; i++) {
        out->params[i].name = search.route->names[i];
        out->params[i].type = search.route->types[i];
    }
    return search.no_memory ? MOON_ENOMEM : MOON_OK;
}

/* A rest keeps its slashes. */
static void put_rest(struct moon_str value, struct moon_buf *out)
{
    while (value.len > 0) {
        struct moon_str rest;
        struct moon_str part = moon_str_cut(value, '/', &rest);
        moon_percent_encode(part, out);
        if (part.len < value.len)
            moon_buf_add_char(out, '/');
        value = rest;
    }
}

static enum moon_err put_part(const struct moon_pattern_part *part,
                              moon_param_get *get, void *ctx,
                              struct moon_buf *out, char *error,
                              size_t error_size)
{
    struct moon_str value = part->text;
    moon_buf_add_char(out, '/');
    if (part->is_param && !get(ctx, part->text, &value)) {
        if (part->type == MOON_PARAM_REST)
            return MOON_OK;
        (void)snprintf(error, error_size, "parameter '%.*s' is missing",
                       MOON_STR_ARG(part->text));
        return MOON_EINVAL;
    }
    bool dots =
        moon_str_eq(value, MOON_STR(".")) || moon_str_eq(value, MOON_STR(".."));
    if (part->is_param && (dots || !moon_param_fits(part->type, value))) {
        (void)snprintf(error, error_size,
                       "parameter '%.*s' does not fit: '%.*s'",
                       MOON_STR_ARG(part->text), MOON_STR_ARG(value));
        return MOON_EINVAL;
    }
    if (part->is_param && part->type == MOON_PARAM_REST)
        put_rest(value, out);
    else
        moon_percent_encode(value, out);
    return MOON_OK;
}

enum moon_err moon_router_url(struct moon_str pattern, moon_param_get *get,
                              void *ctx, struct moon_buf *out, char *error,
                              size_t error_size)
{
    struct moon_pattern parsed;
    struct moon_arena arena;
    moon_arena_init(&arena, NULL, 0);
    enum moon_err err =
        moon_pattern_parse(pattern, &arena, &parsed, error, error_size);
    for (uint32_t i = 0; i < parsed.count && err == MOON_OK; i++)
        err = put_part(&parsed.parts[i], get, ctx, out, error, error_size);
    if (err == MOON_OK && parsed.slash)
        moon_buf_add_char(out, '/');
    moon_arena_reset(&arena);
    if (err == MOON_OK && out->failed)
        err = MOON_ENOMEM;
    return err;
}
