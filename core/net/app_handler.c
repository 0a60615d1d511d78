#include "net/app_handler.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/tally.h"
#include "net/auto_answer.h"
#include "net/broken.h"
#include "net/route_tally.h"
#include "net/stages.h"
#include "vm/limit_gate.h"
#include "vm/quarantine_gate.h"

#include <stdlib.h>

struct moon_app_handler {
    struct moon_handler ops;
    struct moon_app_handler_options options;
    struct moon_generation *current;
    struct moon_broken broken; /* --dev: why the code on disk does not load */
    struct moon_overload overload;
};

/* A hook wants to answer in Lua: its chain runs as a route's would. */
static void run_hook(struct moon_exchange *x)
{
    x->ops->hold(x);
    moon_vm_run(x->generation->vm, x, x->chain);
}

static bool builtin(struct moon_app_handler *handler, struct moon_exchange *x)
{
    if (MOON_LIKELY(!moon_str_starts(x->path, MOON_STR("/-/"))))
        return false;
    if (moon_str_eq(x->path, MOON_STR("/-/live"))) {
        moon_auto_text(x, 200, MOON_STR("live\n"));
    } else if (moon_str_eq(x->path, MOON_STR("/-/ready"))) {
        const char *why = handler->options.not_ready != NULL
                              ? handler->options.not_ready(handler->options.ctx)
                              : NULL;
        moon_auto_text(x, why == NULL ? 200 : 503,
                       why == NULL ? MOON_STR("ready\n") : moon_strz(why));
    } else {
        return false;
    }
    return true;
}

static void plan_body(struct moon_exchange *x, const struct moon_config *config)
{
    const struct moon_route *route = x->route;
    uint64_t timeout_ms = config->timeout_ms;
    x->body.mode = MOON_BODY_BUFFER;
    x->body.limit_bytes = config->body_limit_bytes;
    if (route != NULL) {
        x->body.mode = route->body_mode;
        if (route->body_limit_bytes != UINT64_MAX)
            x->body.limit_bytes = route->body_limit_bytes;
        if (route->timeout_ms != 0)
            timeout_ms = route->timeout_ms;
    }
    if (timeout_ms != MOON_CONFIG_NONE)
        moon_server_set_timeout(x, timeout_ms);
}

static void enter_generation(struct moon_app_handler *handler,
                             struct moon_exchange *x)
{
    struct moon_generation *generation = handler->current;
    generation->exchanges++;
    x->generation = generation;
    x->generation_number = generation->number;
    x->app_table = moon_vm_app(generation->vm);
    x->scope = 0;
    x->chain = MOON_NO_CHAIN;
    x->auto_status = 0;
    x->trust = &generation->trust;
}

/* Route and scope of the request; MOON_EPROTO for a path that is none. */
static enum moon_err find_route(struct moon_exchange *x)
{
    struct moon_str raw = moon_request_str(&x->req, x->req.path);
    enum moon_err err = moon_router_match(x->app_table->router, x->req.method,
                                          raw, &x->arena, &x->match);
    x->path = raw;
    if (err == MOON_OK && !x->match.normal)
        err = moon_path_normalise(raw, &x->arena, &x->path);
    if (err != MOON_OK) {
        x->path = raw;
        x->match.route = MOON_NO_ROUTE;
        return err;
    }
    int owner =
        x->match.route != MOON_NO_ROUTE ? x->match.route : x->match.owner;
    if (owner != MOON_NO_ROUTE)
        x->scope = x->app_table->routes[owner].scope;
    else
        x->scope = moon_app_scope_of(x->app_table, x->path);
    return MOON_OK;
}

/* Not even an app:on(503) in Lua is asked: that is what there is no time for.
 * True: refused, and answered. */
static MOON_COLD bool refuse_overloaded(struct moon_exchange *x)
{
    moon_tally_add(MOON_TALLY_OVERLOAD_REFUSALS, 1);
    if (moon_response_add_static(&x->res, &x->arena, MOON_STR("Retry-After"),
                                 MOON_STR("1")) != MOON_OK)
        moon_log(MOON_LOG_WARN, "no memory for the headers of an error");
    moon_auto_error_in_c(x, 503, "The server is overloaded.");
    return true;
}

/* Answers in C, or says false: Lua must. */
static bool answer_early(struct moon_app_handler *handler,
                         struct moon_exchange *x, enum moon_err found)
{
    if (MOON_UNLIKELY(found == MOON_ENOMEM))
        return moon_auto_error(x, 503, NULL);
    if (MOON_UNLIKELY(found != MOON_OK))
        return moon_auto_error(x, 400, "The path is malformed.");
    if (builtin(handler, x))
        return true;
    if (MOON_UNLIKELY(moon_broken_is(&handler->broken))) {
        moon_broken_answer(x, &handler->broken);
        return true;
    }
    if (MOON_UNLIKELY(x->req.upgrade))
        return moon_auto_error(x, 501, "Upgrade is not supported.");
    if (x->match.route == MOON_NO_ROUTE) {
        /* "OPTIONS *" asks about the server itself. */
        if (x->req.method == MOON_METHOD_OPTIONS &&
            moon_str_eq(x->path, MOON_STR("*"))) {
            x->match.allowed = ~MOON_METHOD_BIT(MOON_METHOD_OTHER);
        }
        return moon_auto_no_route(x);
    }
    x->route = &x->app_table->routes[x->match.route];
    if (MOON_UNLIKELY(handler->overload.on) &&
        moon_overload_refuses(&handler->overload, moon_clock_ns()))
        return refuse_overloaded(x);
    if (x->route->chain == MOON_NO_CHAIN && x->route->dir_fd >= 0)
        return moon_auto_static(x);
    if (x->req.method == MOON_METHOD_OPTIONS && moon_stages_preflight(x)) {
        moon_auto_text(x, 204, MOON_STR_NONE);
        return true;
    }
    if (MOON_UNLIKELY(!moon_server_has_output_room(x)))
        return refuse_overloaded(x);
    x->chain = x->route->chain;
    return false;
}

/* Limits that need no Lua are decided before the body is read and before the
 * VM is entered. True: refused, and answered. */
static bool refuse_by_limit(struct moon_exchange *x)
{
    const struct moon_route *route = x->route;
    struct moon_limit_outcome outcome;
    enum moon_err err =
        moon_limit_gate(x, moon_vm_limits(x->generation->vm), route->limits,
                        NULL, route->limit_count, &outcome);
    if (err != MOON_OK)
        moon_log(MOON_LOG_WARN, "no room for the fields of a limit");
    x->delay_ns = outcome.delay_ns;
    if (!outcome.refused)
        return false;
    if (!moon_auto_error(x, outcome.status, NULL))
        run_hook(x);
    return true;
}

/* A route that is shut off. on(503) shapes the answer, else on_error, though
 * no Lua has failed now: these answers look like the failures before. */
static void refuse_by_quarantine(struct moon_exchange *x)
{
    int shaper = x->app_table->error_chain;
    if (shaper != MOON_NO_CHAIN &&
        moon_app_hook(x->app_table, x->scope, 503) == NULL) {
        x->chain = shaper;
        x->auto_status = x->res.status = 503;
        run_hook(x);
    } else if (!moon_auto_error(x, 503, NULL)) {
        run_hook(x);
    }
}

/* What may keep a request from its route; the limits first, for one that they
 * refuse is no probe. True: refused, and answered. */
static bool refuse(struct moon_exchange *x)
{
    const struct moon_quarantine_gate *gate = x->generation->quarantine;
    if (x->route->limit_count > 0 && refuse_by_limit(x))
        return true;
    if (gate == NULL || !moon_quarantine_gate_refuses(gate, x))
        return false;
    refuse_by_quarantine(x);
    return true;
}

static void on_head(void *ctx, struct moon_exchange *x)
{
    struct moon_app_handler *handler = ctx;
    enter_generation(handler, x);
    enum moon_err found = find_route(x);
    if (moon_stages_begin(x) != MOON_OK)
        found = MOON_ENOMEM;
    if (answer_early(handler, x, found))
        return;
    if (x->route != NULL && MOON_UNLIKELY(x->route->guarded) && refuse(x))
        return;
    plan_body(x, x->generation->config);
    if (MOON_UNLIKELY(x->req.content_length >= 0 &&
                      (uint64_t)x->req.content_length > x->body.limit_bytes)) {
        if (!moon_auto_error(x, 413, "The body is larger than allowed."))
            run_hook(x);
    }
}

/* The application holds it, but no task runs it: it waits for the cluster. */
static bool is_parked(const struct moon_exchange *x)
{
    return MOON_UNLIKELY(x->task == NULL) && x->held_by_app;
}

/* An error for a request that the application holds. */
static void answer_held(struct moon_exchange *x, int status,
                        const char *detailz)
{
    if (moon_auto_error(x, status, detailz))
        x->ops->release(x);
    else
        run_hook(x);
}

static void go_on(struct moon_exchange *x,
                  const struct moon_limit_outcome *outcome)
{
    if (outcome->delay_ns > x->delay_ns)
        x->delay_ns = outcome->delay_ns;
    if (!outcome->refused) {
        moon_vm_run(x->generation->vm, x, x->chain);
        return;
    }
    x->delay_ns = 0;
    answer_held(x, outcome->status, NULL);
}

static void on_run(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    struct moon_limit_outcome outcome;
    if (MOON_LIKELY(x->limits == NULL))
        moon_vm_run(x->generation->vm, x, x->chain);
    else if (!moon_limit_park(x, go_on, &outcome))
        go_on(x, &outcome);
}

static void on_readable(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    moon_vm_on_readable(x);
}

static void on_writable(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    moon_vm_on_writable(x);
}

static void on_sent(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    moon_vm_on_sent(x);
}

/* Unsafe methods run to their end: their work may be half done. */
static void on_gone(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    x->client_gone = true;
    if (is_parked(x)) {
        moon_limit_release(x);
        x->ops->release(x);
        return;
    }
    bool safe =
        x->req.method == MOON_METHOD_GET || x->req.method == MOON_METHOD_HEAD;
    if (safe || x->state == MOON_X_STREAM ||
        (x->route != NULL && x->route->cancel_on_disconnect))
        moon_vm_cancel(x, MOON_CANCEL_DISCONNECT);
    else { /* whoever waits for the response, or for more of the request */
        moon_vm_on_sent(x);
        moon_vm_on_readable(x);
    }
}

static void on_timeout(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    if (is_parked(x)) {
        moon_limit_release(x);
        answer_held(x, 503, "The request took too long.");
    } else if (x->held_by_app)
        moon_vm_cancel(x, MOON_CANCEL_TIMEOUT);
    else if (!moon_auto_error(x, 408, "The request took too long to arrive."))
        run_hook(x);
}

static void on_end(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    struct moon_generation *generation = x->generation;
    if (generation == NULL)
        return;
    if (x->status_sent != 0)
        moon_stages_log(x, generation->config);
    if (MOON_LIKELY(generation->tally != NULL))
        moon_route_tally_count(generation->tally, x);
    if (MOON_UNLIKELY(x->quarantine != NULL))
        moon_quarantine_gate_leave(generation->quarantine, x);
    if (MOON_UNLIKELY(x->limits != NULL)) /* it never ran */
        moon_limit_release(x);
    x->generation = NULL;
    generation->exchanges--;
    if (generation->exchanges == 0 && generation->on_unused != NULL)
        generation->on_unused(generation->ctx, generation);
}

static void on_bad_request(void *ctx, struct moon_exchange *x, int status,
                           const char *why)
{
    struct moon_app_handler *handler = ctx;
    if (x->generation == NULL) {
        enter_generation(handler, x);
        x->route = NULL;
        x->path = MOON_STR("-");
        if (moon_stages_begin(x) != MOON_OK)
            moon_log(MOON_LOG_WARN, "no memory for the headers of an error");
    }
    if (!moon_auto_error(x, status, why))
        run_hook(x);
}

struct moon_app_handler *moon_app_handler_create(
    const struct moon_app_handler_options *options)
{
    struct moon_app_handler *handler = calloc(1, sizeof(*handler));
    if (handler == NULL)
        return NULL;
    handler->options = *options;
    handler->ops = (struct moon_handler){
        .ctx = handler,
        .on_head = on_head,
        .on_run = on_run,
        .on_readable = on_readable,
        .on_writable = on_writable,
        .on_sent = on_sent,
        .on_gone = on_gone,
        .on_timeout = on_timeout,
        .on_end = on_end,
        .on_bad_request = on_bad_request,
    };
    return handler;
}

void moon_app_handler_destroy(struct moon_app_handler *handler)
{
    moon_broken_deinit(&handler->broken);
    free(handler);
}

const struct moon_handler *moon_app_handler_ops(
    struct moon_app_handler *handler)
{
    return &handler->ops;
}

void moon_app_handler_set_generation(struct moon_app_handler *handler,
                                     struct moon_generation *generation)
{
    handler->current = generation;
}

void moon_app_handler_set_broken(struct moon_app_handler *handler,
                                 struct moon_str text, struct moon_str facts)
{
    moon_broken_set(&handler->broken, text, facts);
}

void moon_app_handler_set_shed_lag(struct moon_app_handler *handler,
                                   uint64_t shed_lag_ms)
{
    handler->overload.threshold_ns = shed_lag_ms * 1000000u;
}

bool moon_app_handler_beat(struct moon_app_handler *handler,
                           const struct moon_turn *turn)
{
    return moon_overload_beat(&handler->overload, turn);
}

bool moon_app_handler_is_overloaded(const struct moon_app_handler *handler)
{
    return handler->overload.on;
}

static uint32_t clamp32(uint64_t value)
{
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

void moon_app_server_config(const struct moon_config *config,
                            struct moon_server_config *out)
{
    *out = (struct moon_server_config){
        .limits = {.request_line_bytes =
                       clamp32(config->request_line_limit_bytes),
                   .header_bytes = clamp32(config->header_limit_bytes),
                   .header_count = config->header_count},
        .header_timeout_ms = config->header_timeout_ms,
        .body_timeout_ms = config->body_timeout_ms,
        .write_timeout_ms = config->write_timeout_ms,
        .keepalive_timeout_ms = config->keepalive_timeout_ms,
        .body_buffer_bytes = config->body_buffer_bytes,
        .body_memory_bytes = config->body_memory_bytes,
        .output_memory_bytes = config->output_memory_bytes,
        .max_connections = config->max_connections,
        .max_connections_per_ip = config->max_connections_per_ip,
        .keepalive_requests = config->keepalive_requests,
        .temp_dirz = config->temp_dirz,
        .trusted_proxies = &config->trusted_proxies,
    };
}
