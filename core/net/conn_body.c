#include "net/server_state.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    uint64_t have = n->x.body.memory.cap + n->incoming.cap;
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
    if (n->memory_counted > 0) {
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

static int open_unlinked(const char *dirz)
{
    int fd = open(dirz, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    /* Not every file system can do that. */
    char pathz[512];
    int len = snprintf(pathz, sizeof(pathz), "%s/moonshine-XXXXXX", dirz);
    if (len < 0 || (size_t)len >= sizeof(pathz))
        return -1;
    fd = mkostemp(pathz, O_CLOEXEC);
    if (fd >= 0)
        unlink(pathz);
    return fd;
}

static enum moon_err refuse(struct moon_netx *n, uint16_t status,
                            enum moon_err err)
{
    n->refuse = status;
    return err;
}

static enum moon_err write_all(struct moon_netx *n, struct moon_str bytes)
{
    while (bytes.len > 0) {
        ssize_t got = write(n->x.body.fd, bytes.ptr, bytes.len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            moon_log(MOON_LOG_ERROR, "cannot spool a request body: %s",
                     strerror(errno));
            return refuse(n, 503, MOON_EFULL);
        }
        bytes.ptr += got;
        bytes.len -= (size_t)got;
    }
    return MOON_OK;
}

/* From memory to a file: what has come so far, then all the rest. */
static enum moon_err begin_spool(struct moon_netx *n)
{
    struct moon_request_body *body = &n->x.body;
    const char *dirz = n->server->config.temp_dirz;
    body->fd = open_unlinked(dirz != NULL ? dirz : "/tmp");
    if (body->fd < 0) {
        moon_log(MOON_LOG_ERROR, "cannot spool a request body in %s: %s",
                 dirz != NULL ? dirz : "/tmp", strerror(errno));
        return refuse(n, 503, MOON_ESYS);
    }
    struct moon_str have =
        body->memory.len > 0 ? moon_buf_str(&body->memory) : body->bytes;
    enum moon_err err = write_all(n, have);
    body->bytes = MOON_STR_NONE;
    moon_buf_deinit(&body->memory);
    n->server->body_memory -= n->memory_counted;
    n->memory_counted = 0;
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
    if (body->fd < 0 && (body->mode == MOON_BODY_FILE ||
                         body->size > n->server->config.body_buffer_bytes)) {
        enum moon_err err = begin_spool(n);
        if (err != MOON_OK)
            return err;
    }
    return body->fd >= 0 ? write_all(n, piece) : take_buffered(n, piece);
}

bool moon_body_complete(struct moon_netx *n)
{
    struct moon_request_body *body = &n->x.body;
    body->complete = true;
    if (body->mode == MOON_BODY_STREAM)
        return true;
    if (body->mode == MOON_BODY_FILE && body->fd < 0 &&
        begin_spool(n) != MOON_OK)
        return false;
    if (body->fd >= 0)
        return lseek(body->fd, 0, SEEK_SET) == 0;
    if (body->memory.len > 0)
        body->bytes = moon_buf_str(&body->memory);
    return true;
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
