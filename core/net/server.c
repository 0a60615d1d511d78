#include "net/server_state.h"

#include "base/compiler.h"

#include <stdlib.h>

/* prepare, idle, the accept timer and the wheel's */
enum { OWN_HANDLES = 4 };

enum { LOG_EVERY_MS = 1000 };

static void fire(struct moon_wheel *wheel, struct moon_timer *timer)
{
    struct moon_server *server = wheel->ctx;
    if (timer->kind == MOON_TIMER_CONN) {
        moon_conn_on_timer(MOON_CONTAINER(timer, struct moon_conn, timer));
        return;
    }
    struct moon_netx *n = MOON_CONTAINER(timer, struct moon_netx, timer);
    server->stats.timeouts++;
    struct moon_conn *conn = n->x.conn;
    server->handler.on_timeout(server->handler.ctx, &n->x);
    if (conn == NULL || conn->dead)
        return;
    if (n->x.state == MOON_X_BODY)
        moon_conn_refuse(conn, n, 408, "the request did not arrive in time");
    moon_conn_later(conn);
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

/* Runs before the loop sleeps. What is queued meanwhile waits until other
 * events had their turn, but not for one. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct moon_server *server =
        MOON_CONTAINER(prepare, struct moon_server, prepare);
    moon_conn_run_turn(server);
    moon_netx_run_ended(server);
    if (server->turn != NULL || server->ended != NULL) {
        uv_idle_start(&server->idle, on_idle);
        return;
    }
    server->turn_pending = false;
    uv_idle_stop(&server->idle);
    uv_prepare_stop(&server->prepare);
}

void moon_server_wake(struct moon_server *server)
{
    if (server->turn_pending)
        return;
    server->turn_pending = true;
    uv_prepare_start(&server->prepare, on_prepare);
}

struct moon_server *moon_server_create(uv_loop_t *loop,
                                       const struct moon_handler *handler,
                                       const struct moon_server_config *config)
{
    struct moon_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return NULL;
    server->loop = loop;
    server->handler = *handler;
    server->config = *config;
    server->turn_tail = &server->turn;
    uv_prepare_init(loop, &server->prepare);
    uv_idle_init(loop, &server->idle);
    uv_timer_init(loop, &server->accept_timer);
    moon_wheel_init(&server->wheel, loop, fire, server);
    server->open_handles = OWN_HANDLES;
    return server;
}

void moon_server_configure(struct moon_server *server,
                           const struct moon_server_config *config)
{
    server->config = *config;
    for (struct moon_conn *c = server->conns; c != NULL; c = c->next)
        moon_conn_set_trust(c);
    moon_admission_configure(server);
    moon_listener_share(server);
}

void moon_server_set_client_counts(struct moon_server *server,
                                   struct moon_client_counts *clients)
{
    server->clients = clients;
}

void moon_server_set_share(struct moon_server *server,
                           const struct moon_accept_share *share)
{
    server->has_share = share != NULL;
    if (share != NULL)
        server->share = *share;
    moon_listener_share(server);
}

void moon_server_drain(struct moon_server *server, uint64_t idle_ms)
{
    server->draining = true;
    server->drain_idle_ms = idle_ms;
    for (struct moon_exchange *x = server->exchanges; x != NULL; x = x->next)
        x->draining = true;
    struct moon_conn *next;
    for (struct moon_conn *conn = server->conns; conn != NULL; conn = next) {
        next = conn->next;
        if (!moon_conn_is_idle(conn))
            continue;
        if (idle_ms == 0)
            moon_conn_close(conn);
        else
            moon_conn_set_wait(conn, MOON_WAIT_IDLE, idle_ms);
    }
}

uint32_t moon_server_connections(const struct moon_server *server)
{
    return server->conn_count;
}

uint32_t moon_server_exchanges(const struct moon_server *server)
{
    return server->exchange_count;
}

struct moon_exchange *moon_server_first(const struct moon_server *server)
{
    return server->exchanges;
}

bool moon_server_may_log(const struct moon_server *server, uint64_t *last_ms)
{
    uint64_t now_ms = uv_now(server->loop);
    if (*last_ms != 0 && now_ms - *last_ms < LOG_EVERY_MS)
        return false;
    *last_ms = now_ms;
    return true;
}

bool moon_server_has_output_room(struct moon_exchange *x)
{
    struct moon_server *server = moon_netx(x)->server;
    return MOON_LIKELY(server->outpool.held <=
                       server->config.output_memory_bytes) ||
           moon_output_make_room(server);
}

const struct moon_server_stats *moon_server_get_stats(
    const struct moon_server *server)
{
    return &server->stats;
}

void moon_server_close_all(struct moon_server *server)
{
    while (server->conns != NULL)
        moon_conn_close(server->conns);
}

void moon_server_set_timeout(struct moon_exchange *x, uint64_t timeout_ms)
{
    struct moon_netx *n = moon_netx(x);
    if (timeout_ms == 0)
        moon_timer_clear(&n->timer);
    else
        moon_wheel_set(&n->server->wheel, &n->timer,
                       x->started_ns / 1000000 + timeout_ms);
}

static void on_own_closed(uv_handle_t *handle)
{
    struct moon_server *server = handle->data;
    if (--server->open_handles > 0)
        return;
    void (*closed)(void *ctx) = server->destroyed;
    void *ctx = server->destroyed_ctx;
    moon_netx_free_pool(server);
    moon_inbuf_free_pool(server);
    moon_outpool_deinit(&server->outpool);
    free(server);
    if (closed != NULL)
        closed(ctx);
}

static void close_own(struct moon_server *server, uv_handle_t *handle)
{
    handle->data = server;
    uv_close(handle, on_own_closed);
}

void moon_server_one_less(struct moon_server *server)
{
    if (!server->destroying || server->open_handles > OWN_HANDLES ||
        server->exchange_count > 0)
        return;
    server->destroying = false;
    moon_wheel_stop(&server->wheel);
    close_own(server, (uv_handle_t *)&server->prepare);
    close_own(server, (uv_handle_t *)&server->idle);
    close_own(server, (uv_handle_t *)&server->accept_timer);
    close_own(server, (uv_handle_t *)&server->wheel.timer);
}

void moon_server_destroy(struct moon_server *server, void (*closed)(void *ctx),
                         void *ctx)
{
    server->destroyed = closed;
    server->destroyed_ctx = ctx;
    server->destroying = true;
    moon_listener_close_all(server, false);
    moon_server_close_all(server);
    moon_server_one_less(server);
}
