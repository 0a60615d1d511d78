#include "net/auto_answer.h"

#include "http/path.h"
#include "http/problem.h"
#include "net/generation.h"
#include "net/stages.h"

#include <unistd.h>

static void send_body(struct moon_exchange *x, int status,
                      struct moon_str bytes, struct moon_str type)
{
    struct moon_out_body body = {
        .bytes = bytes, .content_type = type, .file_fd = -1};
    x->res.status = (uint16_t)status;
    (void)x->ops->respond(x, &body);
}

static const struct moon_status_hook *hook_of(const struct moon_exchange *x,
                                              int status)
{
    return x->app_table != NULL ? moon_app_hook(x->app_table, x->scope, status)
                                : NULL;
}

void moon_auto_error_in_c(struct moon_exchange *x, int status,
                          const char *detailz)
{
    const struct moon_status_hook *hook = hook_of(x, status);
    moon_response_drop_content(&x->res);
    if (hook != NULL && hook->chain == MOON_NO_CHAIN) {
        send_body(x, status, hook->body, hook->content_type);
        return;
    }
    static _Thread_local struct moon_buf text; /* kept: these must be cheap */
    struct moon_str accept = MOON_STR_NONE;
    (void)moon_request_header(&x->req, MOON_STR("accept"), 0, &accept);
    struct moon_str type = moon_problem_write(
        status, accept, detailz != NULL ? moon_strz(detailz) : MOON_STR_NONE,
        MOON_STR_NONE, x->request_id, &text);
    if (MOON_UNLIKELY(text.failed)) /* half of a text is none */
        send_body(x, status, MOON_STR_NONE, MOON_STR_NONE);
    else
        send_body(x, status, moon_buf_str(&text), type);
    moon_buf_clear(&text);
}

bool moon_auto_error(struct moon_exchange *x, int status, const char *detailz)
{
    const struct moon_status_hook *hook = hook_of(x, status);
    if (hook != NULL && hook->chain != MOON_NO_CHAIN) {
        x->chain = hook->chain;
        x->auto_status = (uint16_t)status;
        x->res.status = (uint16_t)status;
        return false;
    }
    moon_auto_error_in_c(x, status, detailz);
    return true;
}

void moon_auto_text(struct moon_exchange *x, int status, struct moon_str text)
{
    send_body(x, status, text, MOON_STR("text/plain; charset=utf-8"));
}

/* OPTIONS is answered for every path that exists. */
static enum moon_err set_allow(struct moon_exchange *x)
{
    char text[MOON_METHODS_TEXT];
    uint32_t allowed = x->match.allowed | MOON_METHOD_BIT(MOON_METHOD_OPTIONS);
    return moon_response_set(&x->res, &x->arena, MOON_STR("Allow"),
                             moon_methods_text(allowed, text));
}

/* To the sibling with or without the trailing slash. */
static bool redirect_slash(struct moon_exchange *x)
{
    struct moon_str query = moon_request_str(&x->req, x->req.query);
    struct moon_path path;
    struct moon_buf to = {0};
    if (moon_path_split(moon_request_str(&x->req, x->req.path), &x->arena,
                        &path) != MOON_OK)
        return false;
    moon_path_other_slash(&path, &to);
    if (query.len > 0)
        moon_buf_printf(&to, "?%.*s", MOON_STR_ARG(query));
    bool set = !to.failed &&
               moon_response_set(&x->res, &x->arena, MOON_STR("Location"),
                                 moon_buf_str(&to)) == MOON_OK;
    moon_buf_deinit(&to);
    if (set)
        send_body(x, 308, MOON_STR_NONE, MOON_STR_NONE);
    return set;
}

bool moon_auto_no_route(struct moon_exchange *x)
{
    const struct moon_match *match = &x->match;
    bool exists = match->allowed != 0 || match->any_method;
    if (exists && x->req.method == MOON_METHOD_OPTIONS) {
        bool preflight = moon_stages_preflight(x);
        if (!preflight && set_allow(x) != MOON_OK)
            return moon_auto_error(x, 503, NULL);
        send_body(x, 204, MOON_STR_NONE, MOON_STR_NONE);
        return true;
    }
    if (exists) {
        if (set_allow(x) != MOON_OK)
            return moon_auto_error(x, 503, NULL);
        return moon_auto_error(x, 405, NULL);
    }
    bool safe =
        x->req.method == MOON_METHOD_GET || x->req.method == MOON_METHOD_HEAD;
    if (safe && match->slash_sibling && !x->app_table->strict_slash &&
        redirect_slash(x))
        return true;
    return moon_auto_error(x, 404, NULL);
}

/* Which file answers: `name` is what its type is told by. */
static enum moon_err open_static(const struct moon_exchange *x,
                                 struct moon_open_file *file,
                                 struct moon_str *name, bool *fallback)
{
    const struct moon_route *route = x->route;
    struct moon_open_files **files = &x->generation->open_files;
    uint64_t now_ms = x->started_ns / 1000000;
    struct moon_str rest = MOON_STR_NONE;
    if (*files == NULL && (*files = moon_open_files_create()) == NULL)
        return MOON_ENOMEM;
    if (x->match.param_count > 0)
        rest = x->match.params[x->match.param_count - 1].value;
    bool directory = rest.len == 0 || rest.ptr[rest.len - 1] == '/';
    *name = directory ? route->index : rest;
    *fallback = false;
    enum moon_err err = moon_open_files_get(*files, now_ms, route->dir_fd, rest,
                                            route->index, file);
    if (err != MOON_ENOT_FOUND || route->fallback.len == 0)
        return err;
    *name = route->fallback;
    *fallback = true;
    return moon_open_files_get(*files, now_ms, route->dir_fd, route->fallback,
                               MOON_STR_NONE, file);
}

/* The fallback stands for any path: a cache must ask before it shows it. */
static enum moon_err set_cache_control(struct moon_exchange *x, bool fallback)
{
    struct moon_str value = x->route->cache_control;
    if (value.len == 0)
        return MOON_OK;
    return moon_response_put_static(&x->res, &x->arena,
                                    MOON_STR("Cache-Control"),
                                    fallback ? MOON_STR("no-cache") : value);
}

static void send_file(struct moon_exchange *x,
                      const struct moon_open_file *open,
                      const struct moon_static_plan *plan,
                      struct moon_str content_type)
{
    struct moon_out_body body = {.file_fd = open->file.fd,
                                 .file_from = plan->from,
                                 .file_length = plan->length,
                                 .content_type = content_type};
    if (open->bytes.ptr != NULL)
        body.bytes =
            moon_str(open->bytes.ptr + plan->from, (size_t)plan->length);
    x->res.status = (uint16_t)plan->status;
    (void)x->ops->respond(x, &body);
}

bool moon_auto_static(struct moon_exchange *x)
{
    struct moon_open_file open;
    struct moon_static_plan plan;
    struct moon_str name;
    bool fallback;
    enum moon_err err = open_static(x, &open, &name, &fallback);
    if (err == MOON_EAGAIN)
        return redirect_slash(x) ? true : moon_auto_error(x, 503, NULL);
    if (err != MOON_OK)
        return moon_auto_error(
            x, err == MOON_EFULL || err == MOON_ENOMEM ? 503 : 404, NULL);
    err = moon_static_plan(&open.file, &x->req, &x->res, &x->arena, &plan);
    if (err == MOON_OK)
        err = set_cache_control(x, fallback);
    bool content = err == MOON_OK && (plan.status == 200 || plan.status == 206);
    if (!content && open.file.fd >= 0) {
        (void)close(open.file.fd);
        open.file.fd = -1;
    }
    if (err != MOON_OK || plan.status == 412 || plan.status == 416)
        return moon_auto_error(x, err != MOON_OK ? 503 : plan.status, NULL);
    send_file(x, &open, &plan, moon_content_type_of(name));
    return true;
}
