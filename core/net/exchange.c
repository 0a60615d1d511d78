#include "net/server_state.h"

#include <stdlib.h>
#include <unistd.h>

struct moon_inbuf *moon_inbuf_take(struct moon_server *server, uint32_t cap)
{
    struct moon_inbuf *in = server->free_in;
    if (MOON_LIKELY(cap == MOON_READ_BYTES && in != NULL)) {
        server->free_in = in->next_free;
        server->free_in_count--;
        MOON_UNPOISON(in->bytes, in->cap);
    } else {
        in = malloc(sizeof(*in) + cap);
        if (in == NULL)
            return NULL;
        in->cap = cap;
    }
    in->refs = 1;
    in->start = in->fed = in->end = 0;
    return in;
}

void moon_inbuf_drop(struct moon_server *server, struct moon_inbuf *in)
{
    if (in == NULL || --in->refs > 0)
        return;
    if (in->cap != MOON_READ_BYTES ||
        server->free_in_count >= MOON_INBUF_POOL) {
        free(in);
        return;
    }
    MOON_POISON(in->bytes, in->cap);
    in->next_free = server->free_in;
    server->free_in = in;
    server->free_in_count++;
}

void moon_inbuf_free_pool(struct moon_server *server)
{
    while (server->free_in != NULL) {
        struct moon_inbuf *in = server->free_in;
        server->free_in = in->next_free;
        free(in);
    }
    server->free_in_count = 0;
}

static struct moon_netx *netx_create(struct moon_server *server)
{
    struct moon_netx *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return NULL;
    n->server = server;
    n->x.ops = &moon_conn_ops;
    n->x.body.fd = -1;
    moon_timer_init(&n->timer, MOON_TIMER_EXCHANGE);
    moon_arena_init(&n->x.arena, n->block, sizeof(n->block));
    return n;
}

/* Every field but the large arrays, which their counters guard. */
static void netx_reset(struct moon_netx *n, struct moon_conn *conn)
{
    struct moon_exchange *x = &n->x;
    x->conn = conn;
    x->peer = conn->peer;
    x->held_by_app = false;
    x->state = MOON_X_HEAD;
    moon_response_init(&x->res, n->fields, MOON_COUNT(n->fields));
    x->body = (struct moon_request_body){.limit_bytes = 1024 * 1024, .fd = -1};
    x->generation = NULL;
    x->app_table = NULL;
    x->route = NULL;
    x->scope = 0;
    x->delay_ns = 0;
    x->match.route = MOON_NO_ROUTE;
    x->match.allowed = 0;
    x->match.any_method = false;
    x->match.owner = MOON_NO_ROUTE;
    x->match.slash_sibling = false;
    x->match.param_count = 0;
    x->trust = NULL;
    x->client.known = false;
    x->path = x->request_id = MOON_STR_NONE;
    x->task = NULL;
    x->session = NULL;
    x->quarantine = NULL;
    x->limits = NULL;
    x->client_gone = false;
    x->draining = n->server->draining;
    x->started_ns = n->server->now_ns;
    x->elapsed_ns = x->run_ns = x->head_ns = x->blocked_ns = 0;
    x->streamed = false;
    x->bytes_out = 0;
    x->status_sent = 0;
    x->wait_what = NULL;
    n->in = NULL;
    n->next = NULL;
    n->out_end = 0;
    n->read_at = 0;
    n->spool = NULL;
    n->memory_counted = 0;
    n->refuse = 0;
    n->holds = MOON_HOLD_INPUT | MOON_HOLD_OUTPUT;
    n->announced = n->input_done = n->body_wanted = false;
    n->queued = n->chunked_out = false;
    n->no_content = n->wants_input = n->wants_output = false;
    n->told_gone = n->continue_sent = n->probed = false;
}

struct moon_netx *moon_netx_take(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    struct moon_netx *n = server->free_x;
    if (MOON_LIKELY(n != NULL)) {
        server->free_x = n->next;
        server->free_x_count--;
    } else if ((n = netx_create(server)) == NULL) {
        return NULL;
    }
    netx_reset(n, conn);
    struct moon_exchange *x = &n->x;
    moon_http_in_start(&x->in, &x->req, &x->arena, &server->config.limits);
    x->prev = NULL;
    x->next = server->exchanges;
    if (x->next != NULL)
        x->next->prev = x;
    server->exchanges = x;
    server->exchange_count++;
    return n;
}

static void netx_free(struct moon_netx *n)
{
    moon_timer_remove(&n->timer);
    free(n);
}

void moon_netx_end(struct moon_netx *n)
{
    struct moon_server *server = n->server;
    struct moon_exchange *x = &n->x;
    moon_timer_clear(&n->timer);
    if (MOON_UNLIKELY(x->elapsed_ns == 0))
        x->elapsed_ns = server->now_ns - x->started_ns;
    if (n->announced)
        server->handler.on_end(server->handler.ctx, x);
    if (x->prev != NULL)
        x->prev->next = x->next;
    else
        server->exchanges = x->next;
    if (x->next != NULL)
        x->next->prev = x->prev;
    server->exchange_count--;
    moon_body_release(n);
    moon_inbuf_drop(server, n->in);
    n->in = NULL;
    moon_arena_reset(&x->arena);
    if (MOON_UNLIKELY(server->free_x_count >= MOON_EXCHANGE_POOL)) {
        netx_free(n);
    } else {
        n->next = server->free_x;
        server->free_x = n;
        server->free_x_count++;
    }
    if (MOON_UNLIKELY(server->destroying))
        moon_server_one_less(server);
}

void moon_netx_released(struct moon_netx *n)
{
    struct moon_server *server = n->server;
    n->x.held_by_app = false;
    if (n->holds != 0)
        return;
    n->next = server->ended;
    server->ended = n;
    moon_server_wake(server);
}

void moon_netx_run_ended(struct moon_server *server)
{
    while (server->ended != NULL) {
        struct moon_netx *n = server->ended;
        server->ended = n->next;
        moon_netx_end(n);
    }
}

void moon_netx_free_pool(struct moon_server *server)
{
    while (server->free_x != NULL) {
        struct moon_netx *n = server->free_x;
        server->free_x = n->next;
        netx_free(n);
    }
    server->free_x_count = 0;
}
