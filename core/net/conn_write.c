#include "net/server_state.h"

#include "base/clock.h"
#include "base/compiler.h"
#include "base/log.h"
#include "http/http_out.h"
#include "http/status.h"

#include <unistd.h>

/* The exchange's connection, if it can still take output. */
static struct moon_conn *live_conn(const struct moon_exchange *x)
{
    struct moon_conn *conn = x->conn;
    return conn == NULL || conn->dead || conn->broken ? NULL : conn;
}

static enum moon_err give_up(struct moon_conn *conn, enum moon_err err)
{
    conn->broken = true;
    moon_conn_later(conn);
    return err;
}

/* From now on these answers wait for their client. */
static void note_blocked(const struct moon_conn *conn)
{
    uint64_t now = moon_clock_ns();
    for (struct moon_netx *n = conn->answered; n != NULL; n = n->next)
        if (n->x.blocked_ns == 0)
            n->x.blocked_ns = now - n->x.started_ns;
}

/* Writes without reporting anything, so it may be called from an operation. */
static enum moon_err write_now(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    if (conn->blocked || moon_outq_pending(&conn->out) == 0)
        return MOON_OK;
    uint64_t before = conn->out.sent;
    enum moon_err err = moon_outq_write(&conn->out, &server->outpool, conn->fd);
    server->stats.bytes_out += conn->out.sent - before;
    if (MOON_LIKELY(err == MOON_OK))
        return MOON_OK;
    if (err == MOON_EAGAIN) {
        conn->blocked = true;
        note_blocked(conn);
        if (conn->out.sent != before)
            conn->wait = MOON_WAIT_NONE; /* progress: a new deadline */
        return MOON_OK;
    }
    if (err == MOON_ECLOSED)
        server->stats.resets++;
    else
        moon_log(MOON_LOG_WARN, "a response was cut off: %s",
                 moon_err_text(err));
    conn->broken = true;
    return MOON_ECLOSED;
}

static void answer_is_out(struct moon_conn *conn, struct moon_netx *n)
{
    struct moon_server *server = conn->server;
    conn->answered = n->next;
    if (conn->answered == NULL)
        conn->answered_tail = NULL;
    n->queued = false;
    n->x.conn = NULL;
    n->x.elapsed_ns = server->now_ns - n->x.started_ns;
    server->handler.on_sent(server->handler.ctx, &n->x);
    moon_netx_drop(n, MOON_HOLD_OUTPUT);
}

bool moon_conn_flush(struct moon_conn *conn)
{
    struct moon_server *server = conn->server;
    if (write_now(conn) != MOON_OK)
        return false;
    if (conn->answered != NULL) /* its handler and the write took time */
        server->now_ns = moon_clock_ns();
    while (conn->answered != NULL &&
           conn->answered->out_end <= conn->out.sent && !conn->dead)
        answer_is_out(conn, conn->answered);
    struct moon_netx *n = conn->cur;
    if (n != NULL && n->wants_output && !conn->dead &&
        moon_outq_pending(&conn->out) < MOON_OUT_LOW) {
        n->wants_output = false;
        moon_conn_requeue(conn); /* for what is written now */
        server->handler.on_writable(server->handler.ctx, &n->x);
    }
    return true;
}

/* After this answer, can the connection be used again? What the client still
 * sends of a refused body is read and dropped if it is little. */
static bool may_keep(const struct moon_conn *conn, const struct moon_netx *n)
{
    const struct moon_request *req = &n->x.req;
    if (!conn->keep || n->x.res.close || conn->server->draining)
        return false;
    if (n->input_done)
        return true;
    if (n->x.body.mode == MOON_BODY_STREAM && n->body_wanted)
        return true; /* decided when both are through */
    if (req->chunked || (req->expect_continue && !n->continue_sent))
        return false;
    return (uint64_t)req->content_length - n->x.in.body_bytes <=
           MOON_DISCARD_MAX;
}

/* Begins the answer: the head, in the buffer at the end of the output, which
 * the caller commits. NULL when memory is out. */
static struct moon_buf *begin_head(struct moon_conn *conn, struct moon_netx *n,
                                   struct moon_out_head *head)
{
    struct moon_exchange *x = &n->x;
    struct moon_server *server = conn->server;
    struct moon_buf *buf = moon_outq_open(&conn->out, &server->outpool);
    if (MOON_UNLIKELY(buf == NULL))
        return NULL;
    bool keep = may_keep(conn, n) && head->framing != MOON_OUT_CLOSE;
    conn->keep = keep;
    head->keep_alive = keep;
    head->minor = x->req.minor;
    moon_http_out_head(buf, &x->res, head);
    uint16_t status = x->res.status;
    x->status_sent = status;
    if (status < 600)
        server->stats.status_class[status / 100]++;
    return buf;
}

/* The body is complete; what follows in the queue belongs to others. */
static void answered(struct moon_conn *conn, struct moon_netx *n)
{
    n->x.state = MOON_X_ANSWERED;
    n->out_end = conn->out.queued;
    n->next = NULL;
    n->queued = true;
    if (conn->answered == NULL)
        conn->answered = n;
    else
        conn->answered_tail->next = n;
    conn->answered_tail = n;
    moon_timer_clear(&n->timer);
    moon_conn_later(conn);
}

static void drop_file(struct moon_out_body *body)
{
    if (body->file_fd >= 0)
        close(body->file_fd);
    body->file_fd = -1;
}

static void check_status(struct moon_exchange *x)
{
    if (x->res.status == 0)
        x->res.status = 200;
    else if (x->res.status < 200 || x->res.status > 999)
        x->res.status = 500;
}

/* A large body goes to the kernel from where it is. */
static enum moon_err add_large(struct moon_conn *conn, struct moon_str bytes)
{
    struct moon_server *server = conn->server;
    if (conn->blocked)
        return moon_outq_add(&conn->out, &server->outpool, bytes);
    uint64_t before = conn->out.sent;
    enum moon_err err =
        moon_outq_add_through(&conn->out, &server->outpool, conn->fd, bytes);
    server->stats.bytes_out += conn->out.sent - before;
    return err;
}

/* Head and body in one go; a small body lands in the same buffer. */
static enum moon_err queue_answer(struct moon_conn *conn, struct moon_netx *n,
                                  struct moon_out_head *head,
                                  struct moon_out_body *body, bool content)
{
    struct moon_outpool *pool = &conn->server->outpool;
    struct moon_exchange *x = &n->x;
    struct moon_buf *buf = begin_head(conn, n, head);
    if (MOON_UNLIKELY(buf == NULL))
        return MOON_ENOMEM;
    bool small = content && body->bytes.len <= MOON_OUT_INLINE;
    if (MOON_LIKELY(small && body->file_fd < 0)) {
        moon_buf_add_str(buf, body->bytes);
        x->bytes_out = body->bytes.len;
        return moon_outq_commit(&conn->out, &conn->server->outpool);
    }
    enum moon_err err = moon_outq_commit(&conn->out, &conn->server->outpool);
    if (err != MOON_OK || !content)
        return err;
    if (body->file_fd < 0) {
        x->bytes_out = body->bytes.len;
        return add_large(conn, body->bytes);
    }
    int fd = body->file_fd;
    body->file_fd = -1;
    x->bytes_out = body->file_length;
    return moon_outq_add_file(&conn->out, pool, fd, body->file_from,
                              body->file_length);
}

static enum moon_err op_respond(struct moon_exchange *x,
                                struct moon_out_body *body)
{
    struct moon_netx *n = moon_netx(x);
    struct moon_conn *conn = live_conn(x);
    if (x->state >= MOON_X_STREAM || conn == NULL) {
        enum moon_err err =
            x->state >= MOON_X_STREAM ? MOON_EEXISTS : MOON_ECLOSED;
        x->state = MOON_X_ANSWERED;
        drop_file(body);
        return err;
    }
    check_status(x);
    bool content = moon_status_has_body(x->res.status);
    struct moon_out_head head = {
        .framing = content ? MOON_OUT_LENGTH : MOON_OUT_NONE,
        .content_length =
            body->file_fd >= 0 ? body->file_length : body->bytes.len,
        .content_type = body->content_type,
    };
    enum moon_err err = queue_answer(
        conn, n, &head, body, content && x->req.method != MOON_METHOD_HEAD);
    drop_file(body);
    if (MOON_UNLIKELY(err != MOON_OK))
        return give_up(conn, err);
    answered(conn, n);
    return MOON_OK;
}

static enum moon_err op_stream_begin(struct moon_exchange *x)
{
    struct moon_netx *n = moon_netx(x);
    struct moon_conn *conn = live_conn(x);
    if (x->state >= MOON_X_STREAM)
        return MOON_EEXISTS;
    if (conn == NULL)
        return MOON_ECLOSED;
    check_status(x);
    /* It may read the body while it answers: last chance to ask for it. */
    if (x->req.expect_continue && n->body_wanted && x->body.size == 0)
        moon_conn_send_continue(conn, n);
    x->streamed = true;
    struct moon_out_head head = {.framing = MOON_OUT_NONE};
    if (moon_status_has_body(x->res.status))
        head.framing = x->req.minor > 0 ? MOON_OUT_CHUNKED : MOON_OUT_CLOSE;
    n->no_content =
        head.framing == MOON_OUT_NONE || x->req.method == MOON_METHOD_HEAD;
    n->chunked_out = head.framing == MOON_OUT_CHUNKED && !n->no_content;
    struct moon_buf *buf = begin_head(conn, n, &head);
    enum moon_err err =
        buf == NULL ? MOON_ENOMEM
                    : moon_outq_commit(&conn->out, &conn->server->outpool);
    if (MOON_UNLIKELY(err != MOON_OK))
        return give_up(conn, err);
    x->state = MOON_X_STREAM;
    x->head_ns = moon_clock_ns() - x->started_ns;
    moon_conn_later(conn);
    return MOON_OK;
}

static enum moon_err add_piece(struct moon_conn *conn, struct moon_netx *n,
                               struct moon_str bytes)
{
    struct moon_outpool *pool = &conn->server->outpool;
    if (!n->chunked_out)
        return moon_outq_add(&conn->out, pool, bytes);
    struct moon_buf *buf = moon_outq_open(&conn->out, pool);
    if (buf == NULL)
        return MOON_ENOMEM;
    moon_http_out_chunk_begin(buf, bytes.len);
    enum moon_err err = moon_outq_commit(&conn->out, &conn->server->outpool);
    if (err == MOON_OK)
        err = moon_outq_add(&conn->out, pool, bytes);
    if (err == MOON_OK)
        err = moon_outq_add(&conn->out, pool, MOON_OUT_CHUNK_END);
    return err;
}

static enum moon_err op_stream_write(struct moon_exchange *x,
                                     struct moon_str bytes)
{
    struct moon_netx *n = moon_netx(x);
    struct moon_conn *conn = live_conn(x);
    if (conn == NULL) {
        x->client_gone = true;
        return MOON_ECLOSED;
    }
    if (x->state != MOON_X_STREAM)
        return MOON_EINVAL;
    if (n->no_content || bytes.len == 0)
        return MOON_OK;
    enum moon_err err = add_piece(conn, n, bytes);
    if (MOON_UNLIKELY(err != MOON_OK))
        return give_up(conn, err);
    x->bytes_out += bytes.len;
    moon_conn_later(conn);
    if (moon_outq_pending(&conn->out) >= MOON_OUT_EAGER &&
        write_now(conn) != MOON_OK) {
        x->client_gone = true;
        return MOON_ECLOSED;
    }
    if (moon_outq_pending(&conn->out) < MOON_OUT_HIGH)
        return MOON_OK;
    n->wants_output = true;
    return MOON_EAGAIN;
}

static void op_stream_flush(struct moon_exchange *x)
{
    struct moon_conn *conn = live_conn(x);
    if (conn == NULL || x->state != MOON_X_STREAM)
        return;
    /* settle reports, and closes what turns out to be broken */
    moon_conn_later(conn);
    if (write_now(conn) != MOON_OK)
        x->client_gone = true;
}

/* Leaves the body unfinished: without the last chunk, or with a reset where
 * the end of the connection would be the end of the body. */
static void cut_off(struct moon_conn *conn, struct moon_netx *n)
{
    conn->keep = false;
    if (n->x.state == MOON_X_STREAM && !n->chunked_out && !n->no_content)
        conn->reset = true;
    answered(conn, n);
}

static void op_stream_end(struct moon_exchange *x, bool complete)
{
    struct moon_netx *n = moon_netx(x);
    struct moon_conn *conn = live_conn(x);
    if (x->state != MOON_X_STREAM)
        return;
    if (conn == NULL) {
        x->state = MOON_X_ANSWERED;
        return;
    }
    if (!complete) {
        cut_off(conn, n);
        return;
    }
    if (n->chunked_out && moon_outq_add(&conn->out, &conn->server->outpool,
                                        MOON_OUT_LAST_CHUNK) != MOON_OK) {
        conn->broken = true;
        moon_conn_later(conn);
        return;
    }
    answered(conn, n);
}

static void op_release(struct moon_exchange *x)
{
    struct moon_netx *n = moon_netx(x);
    struct moon_conn *conn = live_conn(x);
    if (!x->held_by_app)
        return;
    if (conn != NULL && x->state < MOON_X_ANSWERED)
        cut_off(conn, n);
    moon_netx_released(n);
}

/* What the client still sends of the body is skipped after the answer, if it
 * is little enough to keep the connection (may_keep). */
static void op_hold(struct moon_exchange *x)
{
    struct moon_netx *n = moon_netx(x);
    x->held_by_app = true;
    x->state = MOON_X_RUNNING;
    n->body_wanted = false;
    x->body.failed = !x->body.complete;
}

const struct moon_exchange_ops moon_conn_ops = {
    .respond = op_respond,
    .stream_begin = op_stream_begin,
    .stream_write = op_stream_write,
    .stream_flush = op_stream_flush,
    .stream_end = op_stream_end,
    .body_read = moon_body_read,
    .hold = op_hold,
    .release = op_release,
};

void moon_conn_answer_plain(struct moon_netx *n, int status, const char *why)
{
    struct moon_exchange *x = &n->x;
    struct moon_out_body body = {.file_fd = -1};
    char text[160];
    int len = snprintf(text, sizeof(text), "%s\n", why);
    x->res.status = (uint16_t)status;
    body.bytes = moon_str(text, (size_t)len);
    body.content_type = MOON_STR("text/plain; charset=utf-8");
    if (op_respond(x, &body) != MOON_OK && x->conn != NULL)
        x->conn->broken = true;
}

static void add_text(struct moon_conn *conn, struct moon_str text)
{
    if (moon_outq_add(&conn->out, &conn->server->outpool, text) != MOON_OK)
        conn->broken = true;
}

void moon_conn_send_continue(struct moon_conn *conn, struct moon_netx *n)
{
    if (n->x.req.minor == 0 || n->continue_sent || n->x.status_sent != 0)
        return;
    n->continue_sent = true;
    add_text(conn, MOON_OUT_CONTINUE);
}

/* Something harmless that a half-closed client skips and a closed one answers
 * with a reset: an interim response (RFC 9110 section 15.2), or within a
 * chunked body a leading zero of the next chunk's size. */
void moon_conn_probe(struct moon_conn *conn)
{
    struct moon_netx *n = conn->cur;
    if (n == NULL || n->probed || n->x.req.minor == 0 || conn->blocked ||
        conn->peer.family == AF_UNIX)
        return;
    if (n->x.state == MOON_X_RUNNING)
        add_text(conn, MOON_OUT_CONTINUE);
    else if (n->x.state == MOON_X_STREAM && n->chunked_out)
        add_text(conn, MOON_STR("0"));
    n->probed = true;
}
