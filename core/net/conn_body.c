#include "net/server_state.h"

#include <unistd.h>

size_t moon_body_unread(const struct moon_netx *n)
{
    return n->incoming.len + n->x.body.memory.len - n->read_at;
}

/* Memory of bodies is bounded over all requests. Counted when it grows; given
 * back when the exchange ends. */
static bool count_memory(struct moon_netx *n)
{
    struct moon_server *server = n->server;
    uint64_t have = n->x.body.memory.cap + n->incoming.cap +
                    (n->spool != NULL ? moon_spool_memory(n->spool) : 0);
    if (have <= n->memory_counted)
        return true;
    server->body_memory += have - n->memory_counted;
    n->memory_counted = have;
    return server->config.body_memory_bytes == 0 ||
           server->body_memory <= server->config.body_memory_bytes;
}

void moon_body_release(struct moon_netx *n)
{
    struct moon_request_body *body = &n->x.body;
    if (n->spool != NULL) {
        moon_spool_end(n->spool, NULL);
        n->spool = NULL;
    }
    /* A mark of failure alone would refuse the body of the next one here. */
    if (n->memory_counted > 0 || n->incoming.failed) {
        moon_buf_deinit(&body->memory);
        moon_buf_deinit(&n->incoming);
        n->server->body_memory -= n->memory_counted;
        n->memory_counted = 0;
    }
    if (body->fd >= 0) {
        close(body->fd);
        body->fd = -1;
    }
}

static enum moon_err refuse(struct moon_netx *n, uint16_t status,
                            enum moon_err err)
{
    n->refuse = status;
    return err;
}

/* More of the file is written: read on, run the request, or refuse it. */
static void on_spooled(void *ctx)
{
    struct moon_netx *n = ctx;
    if (n->x.conn != NULL)
        moon_conn_requeue(n->x.conn);
}

static enum moon_err add_to_spool(struct moon_netx *n, struct moon_str piece)
{
    enum moon_err err = moon_spool_add(n->spool, piece);
    if (err == MOON_OK && !count_memory(n))
        err = MOON_ENOMEM;
    return err == MOON_OK ? MOON_OK : refuse(n, 503, err);
}

/* From memory to a file: what has come so far, then all the rest. */
static enum moon_err begin_spool(struct moon_netx *n)
{
    struct moon_request_body *body = &n->x.body;
    const char *dirz = n->server->config.temp_dirz;
    n->spool = moon_spool_create(n->server->loop, dirz != NULL ? dirz : "/tmp",
                                 on_spooled, n);
    if (n->spool == NULL)
        return refuse(n, 503, MOON_ENOMEM);
    struct moon_str have =
        body->memory.len > 0 ? moon_buf_str(&body->memory) : body->bytes;
    enum moon_err err = add_to_spool(n, have);
    body->bytes = MOON_STR_NONE;
    moon_buf_deinit(&body->memory);
    return err;
}

static enum moon_err append(struct moon_netx *n, struct moon_buf *buf,
                            struct moon_str piece)
{
    moon_buf_add_str(buf, piece);
    if (buf->failed || !count_memory(n))
        return refuse(n, 503, MOON_ENOMEM);
    return MOON_OK;
}

static enum moon_err take_buffered(struct moon_netx *n, struct moon_str piece)
{
    struct moon_request_body *body = &n->x.body;
    const struct moon_inbuf *in = n->in;
    if (body->memory.len == 0 && piece.ptr >= in->bytes &&
        piece.ptr < in->bytes + in->cap &&
        (body->bytes.len == 0 ||
         piece.ptr == body->bytes.ptr + body->bytes.len)) {
        /* It lies in the read buffer as it is. */
        if (body->bytes.len == 0)
            body->bytes.ptr = piece.ptr;
        body->bytes.len += piece.len;
        return MOON_OK;
    }
    enum moon_err err = MOON_OK;
    if (body->memory.len == 0 && body->bytes.len > 0) {
        err = append(n, &body->memory, body->bytes);
        body->bytes = MOON_STR_NONE;
    }
    return err != MOON_OK ? err : append(n, &body->memory, piece);
}

enum moon_err moon_body_take(void *ctx, struct moon_str piece)
{
    struct moon_netx *n = ctx;
    struct moon_request_body *body = &n->x.body;
    if (n->x.state == MOON_X_ANSWERED)
        return MOON_OK; /* nobody wants it any more */
    body->size += piece.len;
    if (body->size > body->limit_bytes)
        return refuse(n, 413, MOON_ETOO_BIG);
    if (body->mode == MOON_BODY_STREAM)
        return append(n, &n->incoming, piece);
    if (n->spool == NULL &&
        (body->mode == MOON_BODY_FILE ||
         body->size > n->server->config.body_buffer_bytes)) {
        enum moon_err err = begin_spool(n);
        if (err != MOON_OK)
            return err;
    }
    return n->spool != NULL ? add_to_spool(n, piece) : take_buffered(n, piece);
}

enum moon_err moon_body_complete(struct moon_netx *n)
{
    struct moon_request_body *body = &n->x.body;
    enum moon_err err = MOON_OK;
    if (body->mode == MOON_BODY_FILE && n->spool == NULL && body->fd < 0)
        err = begin_spool(n);
    if (err == MOON_OK && n->spool != NULL) {
        err = moon_spool_state(n->spool);
        if (err == MOON_OK) {
            moon_spool_end(n->spool, &body->fd);
            n->spool = NULL;
        } else if (err != MOON_EAGAIN) {
            err = refuse(n, 503, err);
        }
    }
    if (err != MOON_OK)
        return err;
    if (body->memory.len > 0 && body->mode != MOON_BODY_STREAM)
        body->bytes = moon_buf_str(&body->memory);
    body->complete = true;
    return MOON_OK;
}

/* The application reads from one buffer while the next fills, so that what it
 * was given stays where it is until it asks again. */
enum moon_err moon_body_read(struct moon_exchange *x, size_t max,
                             struct moon_str *out)
{
    struct moon_netx *n = moon_netx(x);
    struct moon_buf *memory = &x->body.memory;
    *out = MOON_STR_NONE;
    if (x->body.mode != MOON_BODY_STREAM)
        return MOON_EINVAL;
    if (n->read_at == memory->len) {
        struct moon_buf empty = *memory;
        empty.len = 0;
        *memory = n->incoming;
        n->incoming = empty;
        n->read_at = 0;
    }
    size_t have = memory->len - n->read_at;
    if (have > 0) {
        size_t take = have < max ? have : max;
        *out = moon_str(memory->ptr + n->read_at, take);
        n->read_at += take;
        if (x->conn != NULL && !n->input_done)
            moon_conn_later(x->conn); /* room for more */
        return MOON_OK;
    }
    if (x->body.complete)
        return MOON_OK;
    if (n->refuse == 413)
        return MOON_ETOO_BIG;
    if (x->body.failed || x->conn == NULL)
        return MOON_ECLOSED;
    n->wants_input = true;
    if (x->req.expect_continue && x->body.size == 0) {
        moon_conn_send_continue(x->conn, n);
        moon_conn_later(x->conn);
    }
    return MOON_EAGAIN;
}
