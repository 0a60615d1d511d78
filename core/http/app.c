#include "http/app.h"

#include <stdlib.h>
#include <unistd.h>

enum { APP_FIRST_ENTRIES = 8 };

enum moon_err moon_app_init(struct moon_app *app)
{
    *app = (struct moon_app){.error_chain = MOON_NO_CHAIN};
    moon_arena_init(&app->arena, NULL, 0);
    app->router = moon_router_create();
    if (app->router == NULL)
        return MOON_ENOMEM;
    int root;
    if (moon_app_add_scope(app, MOON_NO_SCOPE, MOON_STR_NONE, &root) == NULL) {
        moon_app_deinit(app);
        return MOON_ENOMEM;
    }
    return MOON_OK;
}

void moon_app_deinit(struct moon_app *app)
{
    for (uint32_t i = 0; i < app->route_count; i++) {
        if (app->routes[i].dir_fd >= 0)
            close(app->routes[i].dir_fd);
    }
    free(app->routes);
    free(app->scopes);
    moon_router_destroy(app->router);
    moon_arena_reset(&app->arena);
    *app = (struct moon_app){0};
}

/* Room for one more entry of `size` bytes; the array may move. */
static void *grow(void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap)
        return array;
    uint32_t wanted = *cap == 0 ? APP_FIRST_ENTRIES : *cap * 2;
    void *moved = realloc(array, wanted * size);
    if (moved != NULL)
        *cap = wanted;
    return moved;
}

struct moon_route *moon_app_add_route(struct moon_app *app, int *id)
{
    struct moon_route *routes = grow(app->routes, app->route_count,
                                     &app->route_cap, sizeof *app->routes);
    if (routes == NULL)
        return NULL;
    app->routes = routes;
    *id = (int)app->route_count;
    struct moon_route *route = &routes[app->route_count++];
    *route = (struct moon_route){
        .chain = MOON_NO_CHAIN,
        .body_limit_bytes = UINT64_MAX,
        .dir_fd = -1,
    };
    return route;
}

struct moon_scope *moon_app_add_scope(struct moon_app *app, int parent,
                                      struct moon_str prefix, int *id)
{
    struct moon_scope *scopes = grow(app->scopes, app->scope_count,
                                     &app->scope_cap, sizeof *app->scopes);
    if (scopes == NULL)
        return NULL;
    app->scopes = scopes;
    struct moon_str copy = moon_arena_copy(&app->arena, prefix);
    if (copy.ptr == NULL)
        return NULL;
    *id = (int)app->scope_count;
    struct moon_scope *scope = &scopes[app->scope_count++];
    *scope = (struct moon_scope){.parent = parent, .prefix = copy};
    scope->cors.max_age_s = -1;
    return scope;
}

void moon_app_seal(struct moon_app *app)
{
    static const struct moon_scope_stages none = {0};
    for (uint32_t i = 0; i < app->scope_count; i++) {
        struct moon_scope *scope = &app->scopes[i];
        /* Parents come before their groups. */
        scope->stages = scope->parent == MOON_NO_SCOPE
                            ? none
                            : app->scopes[scope->parent].stages;
        if (scope->cors.set)
            scope->stages.cors = &scope->cors;
        if (scope->security.set)
            scope->stages.security = &scope->security;
        if (scope->access_log.set)
            scope->stages.access_log = &scope->access_log;
        if (scope->request_id.set)
            scope->stages.request_id = &scope->request_id;
    }
}

static bool holds(struct moon_str prefix, struct moon_str path)
{
    if (!moon_str_starts(path, prefix))
        return false;
    if (prefix.len == path.len || prefix.len == 0)
        return true;
    return prefix.ptr[prefix.len - 1] == '/' || path.ptr[prefix.len] == '/';
}

int moon_app_scope_of(const struct moon_app *app, struct moon_str path)
{
    int best = 0;
    for (uint32_t i = 1; i < app->scope_count; i++) {
        struct moon_str prefix = app->scopes[i].prefix;
        /* Of groups with one prefix the first decides. */
        if (holds(prefix, path) && prefix.len > app->scopes[best].prefix.len)
            best = (int)i;
    }
    return best;
}

const struct moon_status_hook *moon_app_hook(const struct moon_app *app,
                                             int scope, int status)
{
    while (scope >= 0) {
        const struct moon_scope *at = &app->scopes[scope];
        for (uint32_t i = 0; i < at->hook_count; i++) {
            if (at->hooks[i].status == status)
                return &at->hooks[i];
        }
        scope = at->parent;
    }
    return NULL;
}

bool moon_app_skips(const struct moon_strs *skip, struct moon_str path)
{
    for (uint32_t i = 0; i < skip->count; i++) {
        struct moon_str pattern = skip->items[i];
        if (pattern.len > 0 && pattern.ptr[pattern.len - 1] == '*') {
            pattern.len--;
            if (moon_str_starts(path, pattern))
                return true;
        } else if (moon_str_eq(pattern, path)) {
            return true;
        }
    }
    return false;
}
