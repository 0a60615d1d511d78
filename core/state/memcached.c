#include "state/memcached.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { BACKOFF_MS = 50, BACKOFF_MAX_MS = 1000, STEADY_MS = 1000, WHY = 160 };

enum state { CONNECTING, UP, DOWN };

/* A request; freed when it was answered. */
struct request {
    struct moon_memcached *server;
    moon_memcached_done *done;
    void *ctx;
};

struct moon_memcached {
    uv_loop_t *loop;
    struct moon_memcached_options o;
    enum state state;
    struct moon_wire *wire; /* that serves or is made; or NULL */
    uv_timer_t retry;
    uint64_t since_ms;
    uint32_t failures; /* in a row */
    uint32_t refs;     /* the owner's, the timer's, of each link and request */
    bool closed, said; /* that it is down */
    char why[WHY];
    size_t name_len;
    char name[300];
    char hostz[];
};

static void connect_to(struct moon_memcached *server);

static void unref(struct moon_memcached *server)
{
    if (--server->refs == 0)
        free(server);
}

/* ---- the circuit ---- */

static void set_state(struct moon_memcached *server, enum state state,
                      const char *whyz)
{
    server->state = state;
    server->since_ms = uv_now(server->loop);
    (void)snprintf(server->why, sizeof(server->why), "%s", whyz);
}

static void on_retry(uv_timer_t *timer)
{
    connect_to(timer->data);
}

static void go_down(struct moon_memcached *server, const char *whyz)
{
    uint32_t shift = server->failures < 5 ? server->failures : 5;
    uint64_t pause = BACKOFF_MS << shift;
    server->failures++;
    set_state(server, DOWN, whyz);
    if (!server->said)
        moon_log(MOON_LOG_WARN, "memcached %s is down: %s", server->name,
                 server->why);
    server->said = true;
    if (pause > BACKOFF_MAX_MS)
        pause = BACKOFF_MAX_MS;
    (void)uv_timer_start(&server->retry, on_retry, pause, 0);
}

static void on_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct moon_memcached *server = ctx;
    bool served = server->state == UP &&
                  uv_now(server->loop) - server->since_ms >= STEADY_MS;
    moon_wire_destroy(server->wire);
    server->wire = NULL;
    if (served)
        server->failures = 0; /* else the pauses grow, or it would flap */
    if (!served || err == MOON_ETIMEOUT) {
        go_down(server, whyz);
        return;
    }
    /* Mostly a restart, or an idle link that somebody cut. */
    connect_to(server);
}

static void on_gone(void *ctx)
{
    unref(ctx);
}

/* The link serves, if it speaks as it should. */
static void on_hello(void *ctx, struct moon_wire_result *result)
{
    struct moon_memcached *server = ctx;
    const struct moon_memcached_reply *reply = result->reply;
    if (server->closed || result->err != MOON_OK)
        return; /* on_down is told why */
    if (reply->status == MOON_MEMCACHED_STORED) {
        set_state(server, UP, "");
        if (server->said)
            moon_log(MOON_LOG_INFO, "memcached %s is up again", server->name);
        server->said = false;
        return;
    }
    char why[WHY];
    (void)snprintf(why, sizeof(why),
                   "it does not know meta commands (memcached 1.6): %.*s",
                   MOON_STR_ARG(reply->value));
    moon_wire_destroy(server->wire);
    server->wire = NULL;
    go_down(server, why);
}

static void connect_to(struct moon_memcached *server)
{
    const struct moon_wire_options options = {
        .host = moon_strz(server->hostz),
        .port = server->o.port,
        .connect_timeout_ms = server->o.connect_timeout_ms,
        .patience_ms = server->o.patience_ms,
        .max_pending = server->o.max_pending + 1,
        .max_out_bytes = server->o.max_bytes,
        .max_reply_bytes = server->o.max_reply_bytes,
        .codec = &moon_memcached_codec,
        .owner = {.ctx = server, .on_down = on_down, .on_gone = on_gone},
    };
    uint64_t ticket;
    if (server->state == UP)
        set_state(server, CONNECTING, "connecting");
    server->wire = moon_wire_create(server->loop, &options);
    if (server->wire == NULL) {
        go_down(server, moon_err_text(MOON_ENOMEM));
        return;
    }
    server->refs++;
    /* Lost for lack of memory, it stays as it is until the link breaks. */
    if (moon_wire_send(server->wire, MOON_STR("mn\r\n"), 1,
                       server->o.connect_timeout_ms, on_hello, server,
                       &ticket) != MOON_OK)
        moon_log(MOON_LOG_ERROR, "memcached %s: out of memory", server->name);
}

/* ---- requests ---- */

static void on_reply(void *ctx, struct moon_wire_result *result)
{
    struct request *request = ctx;
    struct moon_memcached *server = request->server;
    request->done(request->ctx, result->err, result->reply, result->whyz);
    free(request);
    unref(server);
}

enum moon_err moon_memcached_send(struct moon_memcached *server,
                                  struct moon_str bytes, uint64_t timeout_ms,
                                  moon_memcached_done *done, void *ctx)
{
    uint64_t ticket;
    if (server->closed || server->state == DOWN || server->wire == NULL)
        return MOON_ECLOSED;
    struct request *request = malloc(sizeof(*request));
    if (request == NULL)
        return MOON_ENOMEM;
    *request = (struct request){server, done, ctx};
    enum moon_err err = moon_wire_send(server->wire, bytes, 1, timeout_ms,
                                       on_reply, request, &ticket);
    if (err != MOON_OK) {
        free(request);
        return err;
    }
    server->refs++;
    return MOON_OK;
}

/* ---- life ---- */

struct moon_str moon_memcached_name(const struct moon_memcached *server)
{
    return moon_str(server->name, server->name_len);
}

const char *moon_memcached_down(const struct moon_memcached *server)
{
    return server->state == UP ? NULL : server->why;
}

struct moon_memcached *moon_memcached_open(
    uv_loop_t *loop, const struct moon_memcached_options *options)
{
    size_t len = strlen(options->hostz);
    struct moon_memcached *server = calloc(1, sizeof(*server) + len + 1);
    if (server == NULL)
        return NULL;
    server->loop = loop;
    server->o = *options;
    memcpy(server->hostz, options->hostz, len + 1);
    server->o.hostz = server->hostz;
    (void)snprintf(server->name, sizeof(server->name), "%s:%u", server->hostz,
                   options->port);
    server->name_len = strlen(server->name);
    server->refs = 2;
    server->retry.data = server;
    (void)uv_timer_init(loop, &server->retry);
    uv_unref((uv_handle_t *)&server->retry);
    set_state(server, CONNECTING, "connecting");
    connect_to(server);
    return server;
}

static void on_timer_closed(uv_handle_t *handle)
{
    unref(handle->data);
}

void moon_memcached_close(struct moon_memcached *server)
{
    server->closed = true;
    if (server->wire != NULL)
        moon_wire_destroy(server->wire);
    server->wire = NULL;
    uv_close((uv_handle_t *)&server->retry, on_timer_closed);
    unref(server);
}
