#include "node/explain.h"

#include "base/units.h"
#include "http/static_file.h"
#include "vm/quarantine_gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* One line, aligned; an empty name continues the one above. */
static void row(struct moon_explain *e, const char *namez, struct moon_str what,
                struct moon_str more)
{
    int gap = what.len < 26 ? 26 - (int)what.len : 0;
    (void)fprintf(e->out, "  %-14s %.*s", namez, MOON_STR_ARG(what));
    if (more.len > 0)
        (void)fprintf(e->out, "%*s  %.*s", gap, "", MOON_STR_ARG(more));
    (void)fputc('\n', e->out);
}

static void rowz(struct moon_explain *e, const char *namez, const char *whatz,
                 const char *morez)
{
    row(e, namez, moon_strz(whatz), moon_strz(morez));
}

/* ---- what it is given ---- */

static void print_params(struct moon_explain *e)
{
    static const char *const types[MOON_PARAM_TYPES] = {
        [MOON_PARAM_INT] = "<int>, a number in Lua",
        [MOON_PARAM_UUID] = "<uuid>",
        [MOON_PARAM_ALPHA] = "<alpha>",
        [MOON_PARAM_PLAIN] = "text",
        [MOON_PARAM_REST] = "the rest of the path",
    };
    for (uint32_t i = 0; i < e->match.param_count; i++) {
        const struct moon_param *param = &e->match.params[i];
        struct moon_buf text = {0};
        moon_buf_printf(&text, "%.*s = ", MOON_STR_ARG(param->name));
        if (param->type == MOON_PARAM_INT)
            moon_buf_add_str(&text, param->value);
        else
            moon_buf_add_json(&text, param->value);
        row(e, i == 0 ? "parameters" : "", moon_buf_str(&text),
            moon_strz(types[param->type]));
        moon_buf_deinit(&text);
    }
}

/* "name\tplace\n" for each of the chain, the handler last. */
static void print_chain(struct moon_explain *e, const struct moon_route *route)
{
    struct moon_str rest = route->chain_places;
    const char *titlez = "middleware";
    while (rest.len > 0) {
        struct moon_str place;
        struct moon_str line = moon_str_cut(rest, '\n', &rest);
        struct moon_str name = moon_str_cut(line, '\t', &place);
        if (rest.len == 0)
            titlez = "handler";
        row(e, titlez, name, place);
        titlez = "";
    }
}

/* ---- limits, and who set them ---- */

static void print_limit(struct moon_explain *e, const char *namez,
                        const char *valuez, bool own, uint32_t key)
{
    const char *fromz = "this route";
    if (!own && e->config->levels[key] == MOON_CONFIG_DEFAULT)
        fromz = "default";
    else if (!own)
        fromz = e->config->origins[key] != NULL ? e->config->origins[key]
                                                : "configuration";
    rowz(e, namez, valuez, fromz);
}

static void print_duration(struct moon_explain *e, const char *namez,
                           uint64_t own, uint64_t configured, uint32_t key)
{
    char text[32] = "none";
    uint64_t ms = own != 0 ? own : configured;
    if (ms != MOON_CONFIG_NONE)
        moon_duration_format(ms, text, sizeof(text));
    print_limit(e, namez, text, own != 0, key);
}

static void print_quarantine(struct moon_explain *e,
                             const struct moon_route *route)
{
    struct moon_quarantine_rule rule;
    char text[80], retry[32];
    if (!moon_quarantine_rule_of(route, e->config, &rule))
        return;
    moon_duration_format(rule.retry_ms, retry, sizeof(retry));
    (void)snprintf(text, sizeof(text), "%u failures, tried after %s",
                   rule.failures, retry);
    print_limit(e, "quarantine", text, route->quarantine == MOON_QUARANTINE_ON,
                MOON_CONFIG_KEY_quarantine_failures);
}

static void print_limits(struct moon_explain *e, const struct moon_route *route)
{
    static const char *const modes[] = {
        [MOON_BODY_BUFFER] = "buffer",
        [MOON_BODY_FILE] = "file",
        [MOON_BODY_STREAM] = "stream",
    };
    const struct moon_config *config = e->config;
    char text[32] = "none";
    print_duration(e, "timeout", route->timeout_ms, config->timeout_ms,
                   MOON_CONFIG_KEY_timeout_ms);
    print_duration(e, "cpu_limit", route->cpu_limit_ms, config->cpu_limit_ms,
                   MOON_CONFIG_KEY_cpu_limit_ms);
    print_duration(e, "stream_timeout", route->stream_timeout_ms,
                   config->stream_timeout_ms,
                   MOON_CONFIG_KEY_stream_timeout_ms);
    bool own = route->body_limit_bytes != UINT64_MAX;
    uint64_t bytes = own ? route->body_limit_bytes : config->body_limit_bytes;
    if (bytes != MOON_CONFIG_NONE)
        moon_size_format(bytes, text, sizeof(text));
    print_limit(e, "body_limit", text, own, MOON_CONFIG_KEY_body_limit_bytes);
    rowz(e, "body", modes[route->body_mode],
         route->body_mode == MOON_BODY_BUFFER ? "default" : "this route");
    print_quarantine(e, route);
    if (route->cancel_on_disconnect)
        rowz(e, "ends", "cancel_on_disconnect", "this route");
}

/* ---- stages ---- */

static void add_name(struct moon_buf *to, const char *namez)
{
    moon_buf_printf(to, "%s%s", to->len > 0 ? ", " : "", namez);
}

static void print_stages(struct moon_explain *e, int scope_id)
{
    const struct moon_scope_stages *in = &e->app->scopes[scope_id].stages;
    struct moon_buf text = {0};
    if (in->request_id == NULL ||
        (!in->request_id->off &&
         !moon_app_skips(&in->request_id->skip, e->normal)))
        add_name(&text, "request_id");
    if (in->security != NULL && !moon_app_skips(&in->security->skip, e->normal))
        add_name(&text, "security_headers");
    if (in->cors != NULL && !moon_app_skips(&in->cors->skip, e->normal))
        add_name(&text, "cors");
    bool logged = in->access_log == NULL ||
                  (!in->access_log->off &&
                   !moon_app_skips(&in->access_log->skip, e->normal));
    if (logged && e->config->log_access)
        add_name(&text, "access_log");
    row(e, "stages", text.len > 0 ? moon_buf_str(&text) : MOON_STR("none"),
        MOON_STR_NONE);
    moon_buf_deinit(&text);
}

const char *moon_explain_hook(struct moon_explain *e, int status)
{
    static char text[200];
    int owner =
        e->match.route != MOON_NO_ROUTE ? e->match.route : e->match.owner;
    int scope = owner != MOON_NO_ROUTE ? e->app->routes[owner].scope
                                       : moon_app_scope_of(e->app, e->normal);
    for (; scope != MOON_NO_SCOPE; scope = e->app->scopes[scope].parent) {
        const struct moon_scope *at = &e->app->scopes[scope];
        for (uint32_t i = 0; i < at->hook_count; i++) {
            if (at->hooks[i].status != status)
                continue;
            if (scope == 0)
                (void)snprintf(text, sizeof(text), "app:on(%d)", status);
            else
                (void)snprintf(text, sizeof(text), "on(%d) of the group %.*s",
                               status, MOON_STR_ARG(at->prefix));
            return text;
        }
    }
    return NULL;
}

/* ---- files ---- */

static bool print_file(struct moon_explain *e, const struct moon_route *route)
{
    char link[64], dir[4096];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", route->dir_fd);
    ssize_t len = readlink(link, dir, sizeof(dir));
    row(e, "directory", moon_str(dir, len > 0 ? (size_t)len : 0),
        MOON_STR_NONE);
    struct moon_static_file file;
    struct moon_str rest = MOON_STR_NONE;
    if (e->match.param_count > 0)
        rest = e->match.params[e->match.param_count - 1].value;
    enum moon_err err =
        moon_static_open(route->dir_fd, rest, route->index, &file);
    struct moon_str name =
        rest.len == 0 || rest.ptr[rest.len - 1] == '/' ? route->index : rest;
    if (err == MOON_ENOT_FOUND && route->fallback.len > 0) {
        name = route->fallback;
        err = moon_static_open(route->dir_fd, name, MOON_STR_NONE, &file);
    }
    if (err == MOON_OK)
        (void)close(file.fd);
    if (err == MOON_EAGAIN)
        rowz(e, "file", "a directory: redirected to the path with a slash", "");
    else if (err == MOON_OK)
        row(e, "file", name, MOON_STR_NONE);
    else
        rowz(e, "file", "there is no such file: answered 404", "");
    return err == MOON_OK || err == MOON_EAGAIN;
}

bool moon_explain_route(struct moon_explain *e, const struct moon_route *route)
{
    bool answers = true;
    if (!moon_str_eq(e->path, e->normal))
        row(e, "path", e->normal, MOON_STR("decoded"));
    if (route->name.len > 0)
        row(e, "name", route->name, MOON_STR_NONE);
    row(e, "source", route->source, MOON_STR_NONE);
    if (e->method == MOON_METHOD_HEAD &&
        moon_str_eq(route->methods, MOON_STR("GET")))
        rowz(e, "HEAD", "as GET; the server leaves the body out", "");
    print_params(e);
    print_chain(e, route);
    if (route->chain == MOON_NO_CHAIN && route->dir_fd >= 0)
        answers = print_file(e, route);
    else
        print_limits(e, route);
    print_stages(e, route->scope);
    return answers;
}
