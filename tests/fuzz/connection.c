/* Whole connections: the server with a handler that answers what it was asked,
 * over a socket pair; sent at once and in pieces, which must give the same
 * answers. Each answer is well-formed, in order and to its own request, after
 * the last there is nothing, and when the client is gone nothing is left.
 *
 * Input that begins with "PROXY " or the mark of version 2 comes through a
 * proxy; a path says how it is answered (see on_run). */
#include "answers.h"
#include "fuzz.h"

#include "net/server_state.h"

#include <sys/un.h>
#include <unistd.h>

enum { HELD = 64, MOST_BYTES = 3000, BYTEWISE = 150 };

struct world {
    uv_loop_t loop;
    struct moon_server *server;
    struct moon_nets trusted;
    struct moon_listener listener;
    struct moon_exchange *held[HELD]; /* answered in the next turn */
    int held_count;
    int heads, ends, bad;
};

static struct world w;

/* ---- the application ---- */

static bool asked_for(const struct moon_exchange *x, const char *z)
{
    return moon_str_starts(moon_request_str(&x->req, x->req.path),
                           moon_strz(z));
}

/* The answer names what it answers; "X-M" is the method, for the reader. */
static void answer(struct moon_exchange *x, int status)
{
    struct moon_buf text = {0};
    struct moon_str method = moon_request_str(&x->req, x->req.method_text);
    x->res.status = (uint16_t)status;
    FUZZ_CHECK(moon_response_set(&x->res, &x->arena, MOON_STR("X-M"), method) ==
               MOON_OK);
    moon_buf_add_str(&text, method);
    moon_buf_add_char(&text, ' ');
    moon_buf_add_str(&text, moon_request_str(&x->req, x->req.target));
    moon_buf_printf(&text, " %llu", (unsigned long long)x->body.size);
    moon_buf_add_str(&text, x->body.bytes);
    struct moon_out_body body = {.bytes = moon_buf_str(&text),
                                 .content_type = MOON_STR("text/plain"),
                                 .file_fd = -1};
    enum moon_err err = x->ops->respond(x, &body);
    FUZZ_CHECK(err == MOON_OK || err == MOON_ECLOSED);
    moon_buf_deinit(&text);
}

static void answer_in_pieces(struct moon_exchange *x)
{
    x->res.status = 200;
    FUZZ_CHECK(moon_response_set(
                   &x->res, &x->arena, MOON_STR("X-M"),
                   moon_request_str(&x->req, x->req.method_text)) == MOON_OK);
    if (x->ops->stream_begin(x) == MOON_OK) {
        (void)x->ops->stream_write(x, MOON_STR("in "));
        (void)x->ops->stream_write(x, moon_request_str(&x->req, x->req.target));
        x->ops->stream_end(x, true);
    }
    x->ops->release(x);
}

/* Reads what there is of a streamed body; answers at its end. One that goes
 * wrong is refused by us if it got that far, else by the server. */
static void read_up(struct moon_exchange *x)
{
    struct moon_str piece;
    enum moon_err err;
    while ((err = x->ops->body_read(x, 7, &piece)) == MOON_OK && piece.len > 0)
        FUZZ_CHECK(piece.len <= 7);
    if (err == MOON_EAGAIN)
        return;
    answer(x, err == MOON_OK ? 200 : 400);
    x->ops->release(x);
}

static void on_head(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    w.heads++;
    x->body.limit_bytes = 1000;
    if (asked_for(x, "/early"))
        answer(x, 404);
    else if (asked_for(x, "/up"))
        x->body.mode = MOON_BODY_STREAM;
}

static void on_run(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    if (asked_for(x, "/up")) {
        read_up(x);
    } else if (asked_for(x, "/pieces")) {
        answer_in_pieces(x);
    } else if (asked_for(x, "/later") && w.held_count < HELD) {
        w.held[w.held_count++] = x;
    } else {
        if (!asked_for(x, "/none"))
            answer(x, 200);
        x->ops->release(x);
    }
}

static void on_readable(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    read_up(x);
}

/* Whoever is held is still answered, to nobody. */
static void on_gone(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    FUZZ_CHECK(x->client_gone);
    if (asked_for(x, "/up"))
        x->ops->release(x);
}

static void ignore(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    (void)x;
}

static void on_end(void *ctx, struct moon_exchange *x)
{
    (void)ctx;
    (void)x;
    w.ends++;
}

static void on_bad_request(void *ctx, struct moon_exchange *x, int status,
                           const char *why)
{
    (void)ctx;
    (void)x;
    FUZZ_CHECK(status >= 400 && status < 600 && why != NULL);
    w.bad++;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const struct moon_handler handler = {
        .on_head = on_head,
        .on_run = on_run,
        .on_readable = on_readable,
        .on_writable = ignore,
        .on_sent = ignore,
        .on_gone = on_gone,
        .on_timeout = ignore,
        .on_end = on_end,
        .on_bad_request = on_bad_request,
    };
    struct moon_server_config config = {
        .limits = {200, 600, 8},
        .header_timeout_ms = 3600000,
        .body_timeout_ms = 3600000,
        .write_timeout_ms = 3600000,
        .keepalive_timeout_ms = 3600000,
        .body_buffer_bytes = 500,
        .body_memory_bytes = 1000000,
        .keepalive_requests = 20,
        .temp_dirz = "/tmp",
        .trusted_proxies = &w.trusted,
    };
    fuzz_be_quiet();
    w.trusted.unix_peers = true;
    FUZZ_CHECK(uv_loop_init(&w.loop) == 0);
    w.server = moon_server_create(&w.loop, &handler, &config);
    FUZZ_CHECK(w.server != NULL);
    w.listener.server = w.server;
    return 0;
}

/* ---- the client ---- */

static void answer_held(void)
{
    int count = w.held_count;
    w.held_count = 0;
    for (int i = 0; i < count; i++) {
        answer(w.held[i], 200);
        w.held[i]->ops->release(w.held[i]);
    }
}

static void hear(int fd, struct moon_buf *heard)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        moon_buf_add(heard, bytes, (size_t)n);
}

static void turn(int fd, struct moon_buf *heard, uv_run_mode mode)
{
    (void)uv_run(&w.loop, mode);
    answer_held();
    hear(fd, heard);
}

/* Sends all of it, `step` bytes at once (0: at random), then no more, and waits
 * until the server closes. */
static struct moon_buf talk(struct moon_str bytes, size_t step, uint64_t seed)
{
    static const struct sockaddr_un peer = {.sun_family = AF_UNIX};
    struct moon_buf heard = {0};
    int fds[2];
    w.heads = w.ends = w.bad = 0;
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                          0, fds) == 0);
    moon_conn_open(&w.listener, fds[1], (const struct sockaddr *)&peer);
    for (size_t at = 0; at < bytes.len;) {
        size_t len = step > 0 ? step : 1 + fuzz_random(&seed) % 80;
        len = len < bytes.len - at ? len : bytes.len - at;
        ssize_t n = send(fds[0], bytes.ptr + at, len, MSG_NOSIGNAL);
        if (n <= 0)
            break; /* closed on us */
        at += (size_t)n;
        turn(fds[0], &heard, UV_RUN_NOWAIT);
    }
    for (int i = 0; i < 3; i++)
        turn(fds[0], &heard, UV_RUN_NOWAIT);
    (void)shutdown(fds[0], SHUT_WR);
    while (moon_server_connections(w.server) > 0)
        turn(fds[0], &heard, UV_RUN_ONCE);
    hear(fds[0], &heard);
    (void)close(fds[0]);
    while (moon_server_exchanges(w.server) > 0 || w.held_count > 0) {
        answer_held();
        (void)uv_run(&w.loop, UV_RUN_ONCE);
    }
    FUZZ_CHECK(w.heads <= w.ends + w.bad);
    FUZZ_CHECK(w.server->body_memory == 0);
    return heard;
}

static struct moon_buf answers(struct moon_str bytes, size_t step,
                               uint64_t seed)
{
    struct moon_buf told = {0};
    struct moon_buf heard = talk(bytes, step, seed);
    answers_read(moon_buf_str(&heard), &told);
    moon_buf_deinit(&heard);
    return told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str bytes = fuzz_str(data, size);
    if (size > MOST_BYTES)
        return 0;
    w.listener.proxy_protocol =
        moon_str_starts(bytes, MOON_STR("PROXY ")) ||
        moon_str_starts(bytes, MOON_STR("\r\n\r\n\0\r\nQUIT\n"));
    struct moon_buf whole = answers(bytes, size, 0);
    for (size_t step = size < BYTEWISE ? 1 : 0;; step--) {
        struct moon_buf cut = answers(bytes, step, fuzz_seed(bytes));
        if (!moon_str_eq(moon_buf_str(&whole), moon_buf_str(&cut)))
            (void)fprintf(stderr, "whole:\n%.*s\ncut:\n%.*s\n",
                          MOON_STR_ARG(moon_buf_str(&whole)),
                          MOON_STR_ARG(moon_buf_str(&cut)));
        FUZZ_CHECK(moon_str_eq(moon_buf_str(&whole), moon_buf_str(&cut)));
        moon_buf_deinit(&cut);
        if (step == 0)
            break;
    }
    moon_buf_deinit(&whole);
    return 0;
}
