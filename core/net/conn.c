#include "net/server_state.h"

#include "base/clock.h"
#include "base/compiler.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool moon_conn_is_idle(const struct moon_conn *conn)
{
    return conn->cur == NULL && conn->answered == NULL && !conn->lingering &&
           moon_outq_pending(&conn->out) == 0;
}

uint64_t moon_conn_waited_ms(const struct moon_conn *conn, uint64_t timeout_ms)
{
    if (conn->timer.due == MOON_TIMER_OFF)
        return 0;
    uint64_t now_ms = uv_now(conn->server->loop);
    uint64_t due_ms = (uint64_t)conn->timer.due * MOON_WHEEL_TICK_MS;
    uint64_t left_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    return left_ms < timeout_ms ? timeout_ms - left_ms : 0;
}

static void on_poll(uv_poll_t *handle, int status, int events);
static void set_poll(struct moon_conn *conn, int events)
{
    if (MOON_LIKELY(conn->polled == events))
        return;
    conn->polled = (uint8_t)events;
    if (events == 0)
        uv_poll_stop(&conn->poll);
    else if (uv_poll_start(&conn->poll, events, on_poll) != 0)
        conn->broken = true;
}

/* What to wait for. Each change costs two system calls, so polling for input
 * goes on while a request runs, until input (or the end of it) comes that
 * nobody wants yet. Errors and a closed peer are reported whatever is asked
 * for; PRIORITIZED asks for nothing else. */
static void update_poll(struct moon_conn *conn)
{
    int events = 0;
    bool wants = moon_conn_wants_input(conn);
    if (wants)
        conn->quiet = false;
    if (wants || ((conn->polled & UV_READABLE) && !conn->quiet))
        events = UV_READABLE;
    if (!conn->hung)
        events |= UV_DISCONNECT;
    if (conn->blocked)
        events |= UV_WRITABLE;
    if (events == 0 && !conn->urgent)
        events = UV_PRIORITIZED;
    set_poll(conn, events);
}

void moon_conn_set_wait(struct moon_conn *conn, enum moon_wait wait,
                        uint64_t timeout_ms)
{
    conn->wait = (uint8_t)wait;
    if (wait == MOON_WAIT_NONE || timeout_ms == 0)
        moon_timer_clear(&conn->timer);
    else
        moon_wheel_set(&conn->server->wheel, &conn->timer,
                       uv_now(conn->server->loop) + timeout_ms);
}

/* Which deadline holds now. Those of the head, the body and the write start
 * when they begin or get on, not at each turn. */
static void update_wait(struct moon_conn *conn)
{
    const struct moon_server_config *config = &conn->server->config;
    const struct moon_netx *n = conn->cur;
    enum moon_wait wait = MOON_WAIT_NONE;
    uint64_t ms = 0;
    if (conn->blocked) {
        wait = MOON_WAIT_WRITE;
        ms = config->write_timeout_ms;
    } else if (MOON_UNLIKELY(conn->preface)) {
        wait = MOON_WAIT_PREFACE;
        ms = config->header_timeout_ms;
    } else if (n == NULL) {
        wait = MOON_WAIT_IDLE;
        ms = conn->requests == 0      ? config->header_timeout_ms
             : conn->server->draining ? conn->server->drain_idle_ms
                                      : config->keepalive_timeout_ms;
        if (ms == 0)
            ms = 1;
        moon_conn_set_wait(conn, wait, ms);
        return;
    } else if (n->x.state == MOON_X_HEAD) {
        wait = MOON_WAIT_HEAD;
        ms = config->header_timeout_ms;
    } else if (!n->input_done && moon_conn_wants_input(conn)) {
        wait = MOON_WAIT_BODY;
        ms = config->body_timeout_ms;
    }
    if (conn->wait == wait)
        return;
    moon_conn_set_wait(conn, wait, ms);
    if (MOON_UNLIKELY(wait == MOON_WAIT_BODY))
        conn->cur->body_due_ms = uv_now(conn->server->loop) + ms;
}

void moon_conn_linger(struct moon_conn *conn)
{
    uint64_t now = uv_now(conn->server->loop);
    conn->lingering = true;
    conn->linger_until =
        (uint32_t)(now + (conn->away ? MOON_AWAY_MS : MOON_LINGER_MS));
    moon_inbuf_drop(conn->server, conn->in);
    conn->in = NULL;
    shutdown(conn->fd, SHUT_WR);
    moon_conn_set_wait(conn, MOON_WAIT_LINGER,
                       conn->away ? MOON_AWAY_MS : MOON_LINGER_IDLE_MS);
    set_poll(conn, UV_READABLE);
}

/* All is answered and out, and no request may follow. Closing a socket with
 * unread input resets it, and the client may lose an answer that it has not
 * read yet: then say that we are done and take what still comes for a while. */
static void finish(struct moon_conn *conn)
{
    bool unread = conn->needs_linger ||
                  (conn->in != NULL && conn->in->start < conn->in->end);
    if (unread && !conn->eof)
        moon_conn_linger(conn);
    else
        moon_conn_close(conn);
}

void moon_conn_settle(struct moon_conn *conn)
{
    if (conn->dead || conn->lingering)
        return;
    conn->active = true;
    bool open = !conn->broken && moon_conn_flush(conn);
    conn->active = false;
    if (conn->dead)
        return;
    if (!open || conn->broken) {
        moon_conn_close(conn);
        return;
    }
    if (conn->cur == NULL && conn->answered == NULL && !conn->keep &&
        !conn->blocked) {
        finish(conn);
        return;
    }
    struct moon_inbuf *in = conn->in;
    if (in != NULL && conn->cur == NULL && in->start == in->end) {
        conn->in = NULL;
        moon_inbuf_drop(conn->server, in);
    }
    update_poll(conn);
    update_wait(conn);
}

/* The peer sends no more. Over a unix socket, or after a reset, the kernel
 * knows that it is gone; over TCP a close and a half close look the same, and
 * the answer to a probe tells. */
static void on_hangup(struct moon_conn *conn)
{
    struct pollfd pfd = {.fd = conn->fd, .events = 0};
    if (poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLHUP | POLLERR)) != 0) {
        conn->broken = true;
        return;
    }
    if (conn->hung) {
        /* Woken by urgent data: nothing but a write will tell us more. */
        conn->urgent = true;
        return;
    }
    conn->hung = true;
    moon_conn_probe(conn);
}

/* What comes before the first request, and after the last. */
static void on_special(struct moon_conn *conn, int events)
{
    if (conn->lingering) {
        moon_conn_linger_read(conn);
        return;
    }
    conn->server->now_ns = moon_clock_ns();
    conn->active = true;
    if (events & (UV_READABLE | UV_DISCONNECT))
        moon_preface_read(conn);
    conn->active = false;
    moon_conn_settle(conn);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct moon_conn *conn = MOON_CONTAINER(handle, struct moon_conn, poll);
    struct moon_server *server = conn->server;
    if (MOON_UNLIKELY(status < 0)) {
        conn->polled = 0; /* libuv stopped it */
        server->stats.resets++;
        moon_conn_close(conn);
        return;
    }
    if (MOON_UNLIKELY(conn->lingering || conn->preface)) {
        on_special(conn, events);
        return;
    }
    server->now_ns = moon_clock_ns();
    conn->active = true;
    if (events & UV_WRITABLE)
        conn->blocked = false; /* settle writes */
    if (events & UV_READABLE) {
        if (MOON_LIKELY(moon_conn_wants_input(conn)))
            moon_conn_read(conn);
        else
            conn->quiet = true;
    }
    bool news = (events & UV_PRIORITIZED) != 0 ||
                ((events & UV_DISCONNECT) != 0 && !conn->hung);
    if (MOON_UNLIKELY(news) && !conn->dead && !moon_conn_wants_input(conn))
        on_hangup(conn);
    conn->active = false;
    moon_conn_settle(conn);
}

void moon_conn_later(struct moon_conn *conn)
{
    if (!conn->active)
        moon_conn_requeue(conn);
}

void moon_conn_requeue(struct moon_conn *conn)
{
    if (conn->on_turn || conn->dead)
        return;
    struct moon_server *server = conn->server;
    conn->on_turn = true;
    conn->turn_next = NULL;
    *server->turn_tail = conn;
    server->turn_tail = &conn->turn_next;
    moon_server_wake(server);
}

static void conn_free(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    free(conn);
    server->open_handles--;
    moon_server_one_less(server);
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_conn *conn =
        MOON_CONTAINER((uv_poll_t *)handle, struct moon_conn, poll);
    conn->closed = true;
    if (!conn->on_turn) /* else the turn list still leads to it */
        conn_free(conn);
}

void moon_conn_run_turn(struct moon_server *server)
{
    struct moon_conn *list = server->turn;
    server->turn = NULL;
    server->turn_tail = &server->turn;
    server->now_ns = moon_clock_ns();
    while (list != NULL) {
        struct moon_conn *conn = list;
        list = conn->turn_next;
        conn->on_turn = false;
        if (conn->dead) {
            if (conn->closed)
                conn_free(conn);
            continue;
        }
        if (!conn->broken && !conn->lingering) {
            conn->active = true;
            moon_conn_run_input(conn);
            conn->active = false;
        }
        moon_conn_settle(conn);
    }
}

void moon_conn_on_timer(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    struct moon_netx *n = conn->cur;
    enum moon_wait wait = conn->wait;
    conn->wait = MOON_WAIT_NONE;
    if (wait != MOON_WAIT_IDLE && wait != MOON_WAIT_LINGER)
        server->stats.timeouts++;
    bool receiving =
        n != NULL && (n->x.state == MOON_X_HEAD || n->x.state == MOON_X_BODY);
    if ((wait == MOON_WAIT_HEAD || wait == MOON_WAIT_BODY) && receiving) {
        conn->active = true;
        moon_conn_refuse(conn, n, 408, "the request did not arrive in time");
        moon_conn_run_input(conn);
        conn->active = false;
        moon_conn_settle(conn);
        return;
    }
    /* What the kernel holds of an answer that nobody takes goes, too; else it
     * would stay for as long as the client likes. */
    conn->reset |= wait == MOON_WAIT_WRITE;
    moon_conn_close(conn);
}

void moon_conn_set_trust(struct moon_conn *conn)
{
    struct moon_peer *peer = &conn->peer;
    const struct moon_nets *nets = conn->server->config.trusted_proxies;
    if (peer->trust == MOON_PEER_VEILED)
        return;
    bool trusted =
        nets != NULL && moon_nets_contain(nets, peer->family, peer->addr);
    peer->trust = trusted ? MOON_PEER_TRUSTED : MOON_PEER_STRANGER;
}

void moon_conn_open(const struct moon_listener *listener, int fd,
                    const struct sockaddr *peer)
{
    struct moon_server *server = listener->server;
    struct moon_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL || uv_poll_init(server->loop, &conn->poll, fd) != 0) {
        free(conn);
        close(fd);
        return;
    }
    conn->server = server;
    conn->fd = fd;
    conn->keep = true;
    moon_peer_set(&conn->peer, peer);
    moon_conn_set_trust(conn);
    conn->preface = listener->proxy_protocol;
    if (conn->preface && !moon_preface_allowed(server, &conn->peer))
        conn->broken = true; /* settle closes it */
    moon_timer_init(&conn->timer, MOON_TIMER_CONN);
    conn->next = server->conns;
    if (conn->next != NULL)
        conn->next->prev = conn;
    server->conns = conn;
    server->conn_count++;
    server->open_handles++;
    server->stats.accepted++;
    if (!conn->broken && !moon_admission_enter(conn))
        return;
    moon_listener_share(server);
    moon_conn_settle(conn);
}

/* The exchange loses its connection. Whoever holds it is told, from here:
 * nothing of the application is on the stack. */
static void abandon(struct moon_netx *n)
{
    struct moon_server *server = n->server;
    struct moon_exchange *x = &n->x;
    void *ctx = server->handler.ctx;
    bool answered = x->state == MOON_X_ANSWERED;
    if (x->conn == NULL)
        return; /* its answer is out, and being reported */
    x->conn = NULL;
    if (n->holds & MOON_HOLD_OUTPUT)
        x->client_gone = true;
    if (!n->input_done && !x->body.complete)
        x->body.failed = true;
    if (!answered && x->held_by_app && !n->told_gone) {
        n->told_gone = true;
        server->handler.on_gone(ctx, x);
    }
    if (answered && (n->holds & MOON_HOLD_OUTPUT))
        server->handler.on_sent(ctx, x);
    moon_netx_drop(n, MOON_HOLD_OUTPUT);
}

void moon_conn_close(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    if (conn->dead)
        return;
    conn->dead = true;
    moon_timer_remove(&conn->timer);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    server->conn_count--;
    moon_admission_forget(conn);
    moon_outq_clear(&conn->out, &server->outpool);
    if (conn->reset) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    /* In this order: once closed, the number may be another connection's. */
    uv_close((uv_handle_t *)&conn->poll, on_closed);
    close(conn->fd);

    struct moon_netx *cur = conn->cur;
    conn->cur = NULL;
    while (conn->answered != NULL) {
        struct moon_netx *n = conn->answered;
        conn->answered = n->next;
        n->queued = false;
        if (n != cur)
            abandon(n);
    }
    if (cur != NULL) {
        bool last = cur->holds == MOON_HOLD_INPUT;
        if (!last)
            abandon(cur);
        moon_netx_drop(cur, MOON_HOLD_INPUT);
    }
    moon_inbuf_drop(server, conn->in);
    conn->in = NULL;
    moon_listener_share(server);
}
