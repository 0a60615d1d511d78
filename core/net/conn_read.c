#include "net/server_state.h"

#include "base/compiler.h"
#include "base/log.h"
#include "net/sys_io.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static uint32_t in_left(const struct moon_inbuf *in)
{
    return in == NULL ? 0 : in->end - in->fed;
}

/* Is there a use for more bytes now? Not while a request runs: what the client
 * sends on meanwhile waits in the kernel. */
bool moon_conn_wants_input(const struct moon_conn *conn)
{
    const struct moon_netx *n = conn->cur;
    if (conn->eof || conn->dead || conn->broken)
        return false;
    if (n == NULL)
        return conn->keep && in_left(conn->in) == 0 &&
               moon_outq_pending(&conn->out) < MOON_OUT_HIGH;
    switch (n->x.state) {
    case MOON_X_HEAD:
        return true;
    case MOON_X_BODY:
        return !n->input_done &&
               (MOON_LIKELY(n->spool == NULL) ||
                moon_spool_pending(n->spool) < MOON_SPOOL_HIGH);
    case MOON_X_RUNNING:
    case MOON_X_STREAM:
        return n->body_wanted && !n->input_done &&
               moon_body_unread(n) < MOON_STREAM_IN_HIGH;
    case MOON_X_ANSWERED:
        return !n->input_done && conn->keep;
    }
    return false;
}

void moon_conn_refuse(struct moon_conn *conn, struct moon_netx *n, int status,
                      const char *why)
{
    struct moon_server *server = conn->server;
    struct moon_exchange *x = &n->x;
    if (x->conn == NULL || x->state >= MOON_X_STREAM || x->held_by_app)
        return;
    conn->keep = false;
    conn->needs_linger = true;
    n->input_done = true;
    server->stats.bad_requests++;
    n->announced = true;
    if (n->in == NULL && conn->in != NULL) {
        n->in = conn->in;
        n->in->refs++;
    }
    server->handler.on_bad_request(server->handler.ctx, x, status, why);
    if (!conn->dead && x->state < MOON_X_STREAM && !x->held_by_app)
        moon_conn_answer_plain(n, status, why);
}

static void run(struct moon_conn *conn, struct moon_netx *n)
{
    struct moon_server *server = conn->server;
    n->x.state = MOON_X_RUNNING;
    n->x.held_by_app = true;
    n->x.run_ns = server->now_ns - n->x.started_ns;
    server->handler.on_run(server->handler.ctx, &n->x);
}

static const char *refusal(int status)
{
    return status == 413   ? "the request body is too large"
           : status == 503 ? "no room for the request body"
                           : "the request body was refused";
}

static bool has_body(const struct moon_request *req)
{
    return req->chunked || req->content_length > 0;
}

static void head_complete(struct moon_conn *conn, struct moon_netx *n)
{
    struct moon_server *server = conn->server;
    struct moon_exchange *x = &n->x;
    const struct moon_request *req = &x->req;
    uint32_t max_requests = server->config.keepalive_requests;
    conn->requests++;
    server->stats.requests++;
    n->in = conn->in;
    n->in->refs++;
    conn->keep = req->keep_alive && !server->draining &&
                 (max_requests == 0 || conn->requests < max_requests);
    n->input_done = !has_body(req);
    x->body.complete = n->input_done;
    n->announced = true;
    server->handler.on_head(server->handler.ctx, x);
    if (conn->dead || x->state >= MOON_X_STREAM || x->held_by_app)
        return;
    if (MOON_UNLIKELY(req->upgrade && n->input_done)) {
        moon_conn_refuse(conn, n, 501, "upgrades are not supported");
        return;
    }
    if (MOON_LIKELY(n->input_done && x->body.mode != MOON_BODY_FILE)) {
        run(conn, n);
        return;
    }
    x->state = MOON_X_BODY; /* step_body goes on */
    x->body.complete = false;
    if (n->input_done)
        return;
    n->body_wanted = true;
    if (req->content_length > 0 &&
        (uint64_t)req->content_length > x->body.limit_bytes) {
        moon_conn_refuse(conn, n, 413, "the request body is too large");
        return;
    }
    moon_http_in_set_sink(&x->in, moon_body_take, n);
    if (req->expect_continue && x->body.mode != MOON_BODY_STREAM &&
        in_left(conn->in) == 0)
        moon_conn_send_continue(conn, n);
}

/* Parses more of the head; false when bytes are missing. */
static bool feed_head(struct moon_conn *conn, struct moon_netx *n)
{
    struct moon_inbuf *in = conn->in;
    struct moon_exchange *x = &n->x;
    size_t used = 0;
    if (in_left(in) == 0)
        return false;
    enum moon_http_in_result result =
        moon_http_in_feed(&x->in, in->bytes + in->start, in->fed - in->start,
                          in->end - in->start, &used);
    in->fed += (uint32_t)used;
    if (MOON_UNLIKELY(result == MOON_IN_FAILED)) {
        moon_conn_refuse(conn, n, x->in.status, x->in.why);
        return true;
    }
    if (result == MOON_IN_MORE)
        return false;
    head_complete(conn, n);
    return true;
}

/* Feeds body bytes; *used of them belonged to the message. False when the
 * request was refused. */
static bool feed_body(struct moon_conn *conn, struct moon_netx *n,
                      const char *base, size_t from, size_t to, size_t *used)
{
    struct moon_http_in *in = &n->x.in;
    enum moon_http_in_result result =
        moon_http_in_feed(in, base, from, to, used);
    if (result == MOON_IN_FAILED) {
        conn->keep = false;
        conn->needs_linger = true;
        n->x.body.failed = true;
        if (n->x.held_by_app)
            n->input_done = true; /* body_read tells the application */
        else if (in->status != 0)
            moon_conn_refuse(conn, n, in->status, in->why);
        else
            moon_conn_refuse(conn, n, n->refuse, refusal(n->refuse));
        return false;
    }
    if (result == MOON_IN_COMPLETE) {
        n->input_done = true;
        if (n->x.body.mode == MOON_BODY_STREAM)
            n->x.body.complete = true;
    }
    return true;
}

static bool feed_body_buffered(struct moon_conn *conn, struct moon_netx *n)
{
    struct moon_inbuf *in = conn->in;
    size_t used = 0;
    if (in_left(in) == 0)
        return true;
    bool ok = feed_body(conn, n, in->bytes, in->fed, in->end, &used);
    in->fed += (uint32_t)used;
    return ok;
}

static void tell_readable(struct moon_netx *n)
{
    struct moon_server *server = n->server;
    if (!n->wants_input || n->x.conn == NULL || n->x.state > MOON_X_STREAM)
        return;
    if (moon_body_unread(n) == 0 && !n->x.body.complete && !n->x.body.failed)
        return;
    n->wants_input = false;
    server->handler.on_readable(server->handler.ctx, &n->x);
}

/* One step of a request whose head is there; false when it has to wait. */
static bool step_body(struct moon_conn *conn, struct moon_netx *n)
{
    if (!n->input_done && !feed_body_buffered(conn, n))
        return true;
    if (n->x.state != MOON_X_BODY)
        return true;
    if (n->x.body.mode != MOON_BODY_STREAM) {
        enum moon_err err =
            n->spool != NULL ? moon_spool_state(n->spool) : MOON_OK;
        if (n->input_done)
            err = moon_body_complete(n);
        if (err != MOON_OK && err != MOON_EAGAIN) {
            moon_conn_refuse(conn, n, 503, refusal(503));
            return true;
        }
        if (!n->x.body.complete)
            return false;
    }
    run(conn, n);
    return true;
}

/* The answer is given (or being written): is the request all consumed, so
 * that the next one may begin? */
static bool step_answered(struct moon_conn *conn, struct moon_netx *n)
{
    if (!n->input_done && conn->keep) {
        moon_http_in_set_sink(&n->x.in, moon_body_take, n);
        if (!feed_body_buffered(conn, n))
            return true;
    }
    if (!n->input_done) {
        if (conn->keep)
            return false;
        conn->needs_linger = true;
    }
    conn->cur = NULL;
    if (conn->in != NULL)
        conn->in->start = conn->in->fed;
    moon_netx_drop(n, MOON_HOLD_INPUT);
    return true;
}

static bool step(struct moon_conn *conn, struct moon_netx *n)
{
    switch (n->x.state) {
    case MOON_X_HEAD:
        return feed_head(conn, n);
    case MOON_X_BODY:
        return step_body(conn, n);
    case MOON_X_RUNNING:
    case MOON_X_STREAM:
        if (n->body_wanted && !n->input_done && in_left(conn->in) > 0 &&
            moon_body_unread(n) < MOON_STREAM_IN_HIGH) {
            feed_body_buffered(conn, n);
            tell_readable(n);
            return n->x.state == MOON_X_ANSWERED;
        }
        return false;
    case MOON_X_ANSWERED:
        return step_answered(conn, n);
    }
    return false;
}

void moon_conn_run_input(struct moon_conn *conn)
{
    int begun = 0;
    while (!conn->dead && !conn->broken) {
        if (conn->cur == NULL) {
            if (in_left(conn->in) == 0 || !conn->keep ||
                moon_outq_pending(&conn->out) >= MOON_OUT_HIGH)
                return;
            if (begun++ == MOON_PIPELINE_TURN) {
                /* The others first; settle writes what we have. */
                moon_conn_requeue(conn);
                return;
            }
            conn->cur = moon_netx_take(conn);
            if (conn->cur == NULL) {
                conn->broken = true;
                return;
            }
        }
        if (!step(conn, conn->cur))
            return;
    }
}

/* Room to read into behind the bytes of the current message. A buffer that
 * requests refer to is never moved. */
static struct moon_inbuf *make_room(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    struct moon_inbuf *in = conn->in;
    if (in == NULL)
        return conn->in = moon_inbuf_take(server, MOON_READ_BYTES);
    uint32_t have = in->end - in->start;
    if (in->refs == 1 && have == 0)
        in->start = in->fed = in->end = 0;
    if (in->end < in->cap && (have > 0 || in->end < in->cap / 2))
        return in;
    uint32_t fed = in->fed - in->start;
    if (in->refs == 1 && in->start > 0) {
        memmove(in->bytes, in->bytes + in->start, have);
    } else {
        uint32_t cap = have > in->cap / 2 ? in->cap * 2 : in->cap;
        struct moon_inbuf *more = moon_inbuf_take(server, cap);
        if (more == NULL)
            return NULL;
        memcpy(more->bytes, in->bytes + in->start, have);
        moon_inbuf_drop(server, in);
        conn->in = in = more;
    }
    in->start = 0;
    in->fed = fed;
    in->end = have;
    return in;
}

ssize_t moon_conn_read_fd(struct moon_conn *conn, char *to, size_t len)
{
    ssize_t n;
    do {
        n = moon_sys_read(conn->fd, to, len);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        conn->server->stats.bytes_in += (size_t)n;
        return n;
    }
    if (n == 0) {
        conn->eof = conn->hung = true;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        conn->server->stats.resets++;
        conn->broken = true;
    }
    return -1;
}

/* The client sends no more. What it left unfinished cannot be answered; what
 * is answered already goes out before the connection closes. */
static void on_eof(struct moon_conn *conn)
{
    struct moon_netx *n = conn->cur;
    conn->keep = false;
    if (n == NULL || n->input_done)
        return;
    if (n->x.state == MOON_X_HEAD || n->x.state == MOON_X_BODY) {
        conn->broken = conn->answered == NULL;
        if (conn->answered != NULL) {
            /* Earlier answers are still on their way. */
            conn->cur = NULL;
            n->x.conn = NULL;
            n->x.client_gone = true;
            moon_netx_drop(n, MOON_HOLD_OUTPUT);
            moon_netx_drop(n, MOON_HOLD_INPUT);
        }
        return;
    }
    n->input_done = true;
    if (n->x.state < MOON_X_ANSWERED) {
        n->x.body.failed = true;
        tell_readable(n);
    }
}

/* More of the body came: a later deadline. What the application reads as it
 * comes may come slowly; a body that others wait for has to get on, or a byte
 * now and then would hold everything for as long as the client likes. */
static void body_progress(struct moon_conn *conn, struct moon_netx *n,
                          size_t bytes)
{
    const struct moon_server *server = conn->server;
    if (conn->wait != MOON_WAIT_BODY)
        return; /* it begins when this is worked off */
    if (n->x.body.mode == MOON_BODY_STREAM) {
        conn->wait = MOON_WAIT_NONE; /* begins again */
        return;
    }
    uint64_t timeout_ms = server->config.body_timeout_ms;
    uint64_t most_ms = uv_now(server->loop) + timeout_ms;
    n->body_due_ms += bytes * 1000u / MOON_BODY_RATE;
    if (n->body_due_ms > most_ms)
        n->body_due_ms = most_ms;
    if (timeout_ms != 0)
        moon_wheel_set(&conn->server->wheel, &conn->timer, n->body_due_ms);
}

/* Bytes of a body that are not kept in the read buffer. */
static void read_body(struct moon_conn *conn, struct moon_netx *n)
{
    struct moon_server *server = conn->server;
    ssize_t got =
        moon_conn_read_fd(conn, server->scratch, sizeof(server->scratch));
    if (got < 0)
        return;
    size_t used = 0;
    body_progress(conn, n, (size_t)got);
    feed_body(conn, n, server->scratch, 0, (size_t)got, &used);
    size_t left = (size_t)got - used;
    if (left > 0 && n->input_done) {
        /* The next request came along with the last of the body. */
        uint32_t cap = MOON_READ_BYTES;
        while (cap < left)
            cap *= 2;
        struct moon_inbuf *in = moon_inbuf_take(server, cap);
        if (in == NULL) {
            conn->broken = true;
            return;
        }
        memcpy(in->bytes, server->scratch + used, left);
        in->end = (uint32_t)left;
        moon_inbuf_drop(server, conn->in);
        conn->in = in;
    }
    tell_readable(n);
}

/* A body that fits behind its head in the read buffer is read there, and needs
 * no copy. */
static bool fits_behind(const struct moon_conn *conn, const struct moon_netx *n)
{
    const struct moon_inbuf *in = conn->in;
    const struct moon_exchange *x = &n->x;
    return x->state == MOON_X_BODY && in != NULL && in == n->in &&
           !x->req.chunked && x->body.mode == MOON_BODY_BUFFER &&
           x->body.memory.len == 0 &&
           (uint64_t)x->req.content_length - x->body.size <= in->cap - in->end;
}

void moon_conn_read(struct moon_conn *conn)
{
    struct moon_netx *n = conn->cur;
    if (n != NULL && n->x.state != MOON_X_HEAD && !fits_behind(conn, n)) {
        read_body(conn, n);
    } else {
        bool body = n != NULL && n->x.state == MOON_X_BODY;
        struct moon_inbuf *in = body ? conn->in : make_room(conn);
        if (in == NULL) {
            conn->broken = true;
            return;
        }
        ssize_t got =
            moon_conn_read_fd(conn, in->bytes + in->end, in->cap - in->end);
        if (got > 0) {
            in->end += (uint32_t)got;
            if (body)
                body_progress(conn, n, (size_t)got);
        }
    }
    if (MOON_UNLIKELY(conn->eof))
        on_eof(conn);
    moon_conn_run_input(conn);
}

void moon_conn_linger_read(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    ssize_t got =
        moon_conn_read_fd(conn, server->scratch, sizeof(server->scratch));
    uint32_t now = (uint32_t)uv_now(server->loop);
    if (conn->eof || conn->broken || (int32_t)(now - conn->linger_until) >= 0)
        moon_conn_close(conn);
    else if (got > 0)
        moon_conn_set_wait(conn, MOON_WAIT_LINGER,
                           conn->away ? MOON_AWAY_MS : MOON_LINGER_IDLE_MS);
}
