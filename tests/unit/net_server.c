/* Server, connections and exchanges in one process with raw clients: who holds
 * what when things end at awkward moments. Run it under the sanitizers. */
#include "net/server.h"

#include "base/compiler.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { HELD_MAX = 8 };

struct world {
    uv_loop_t loop;
    struct moon_server *server;
    struct moon_server_config config;
    struct sockaddr_in addr;
    int listen_fd;
    struct moon_exchange *held[HELD_MAX];
    int held_count;
    int heads, runs, sents, gones, ends, bads, timeouts, writables, readables;
    bool freed;
    bool in_op; /* an operation is on the stack: no callback may come */
    int in_op_callbacks;
    bool close_all_in_run;
};

static void note(struct world *w, int *counter)
{
    ++*counter;
    w->in_op_callbacks += w->in_op;
}

static enum moon_err respond(struct world *w, struct moon_exchange *x,
                             int status, const char *textz)
{
    struct moon_out_body body = {.bytes = moon_strz(textz),
                                 .content_type = MOON_STR("text/plain"),
                                 .file_fd = -1};
    x->res.status = (uint16_t)status;
    w->in_op = true;
    enum moon_err err = x->ops->respond(x, &body);
    w->in_op = false;
    return err;
}

static void release(struct world *w, struct moon_exchange *x)
{
    w->in_op = true;
    x->ops->release(x);
    w->in_op = false;
}

static void on_head(void *ctx, struct moon_exchange *x)
{
    struct world *w = ctx;
    note(w, &w->heads);
    x->path = moon_request_str(&x->req, x->req.path);
    if (moon_str_eq(x->path, MOON_STR("/early")))
        (void)respond(w, x, 404, "early");
    if (moon_str_starts(x->path, MOON_STR("/up")))
        x->body.mode = MOON_BODY_STREAM;
    if (moon_str_eq(x->path, MOON_STR("/late")))
        moon_server_set_timeout(x, 20);
}

static void on_run(void *ctx, struct moon_exchange *x)
{
    struct world *w = ctx;
    note(w, &w->runs);
    if (w->close_all_in_run)
        moon_server_close_all(w->server);
    if (moon_str_eq(x->path, MOON_STR("/now"))) {
        (void)respond(w, x, 200, "now");
        release(w, x);
        return;
    }
    assert_true(w->held_count < HELD_MAX);
    w->held[w->held_count++] = x;
}

static void on_readable(void *ctx, struct moon_exchange *x)
{
    (void)x;
    note(ctx, &((struct world *)ctx)->readables);
}

static void on_writable(void *ctx, struct moon_exchange *x)
{
    (void)x;
    note(ctx, &((struct world *)ctx)->writables);
}

static void on_sent(void *ctx, struct moon_exchange *x)
{
    (void)x;
    note(ctx, &((struct world *)ctx)->sents);
}

static void on_gone(void *ctx, struct moon_exchange *x)
{
    assert_true(x->client_gone);
    note(ctx, &((struct world *)ctx)->gones);
}

static void on_timeout(void *ctx, struct moon_exchange *x)
{
    (void)x;
    note(ctx, &((struct world *)ctx)->timeouts);
}

static void on_end(void *ctx, struct moon_exchange *x)
{
    (void)x;
    note(ctx, &((struct world *)ctx)->ends);
}

static void on_bad_request(void *ctx, struct moon_exchange *x, int status,
                           const char *why)
{
    (void)x;
    (void)why;
    assert_true(status >= 400);
    note(ctx, &((struct world *)ctx)->bads);
}

static void on_freed(void *ctx)
{
    ((struct world *)ctx)->freed = true;
}

static int setup(void **state)
{
    static struct world w;
    w = (struct world){0};
    uv_loop_init(&w.loop);
    struct moon_handler handler = {
        .ctx = &w,
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
    w.config = (struct moon_server_config){
        .limits = {1000, 4000, 20},
        .header_timeout_ms = 10000,
        .body_timeout_ms = 10000,
        .write_timeout_ms = 10000,
        .keepalive_timeout_ms = 10000,
        .body_buffer_bytes = 1000,
        .body_memory_bytes = 100000,
        .temp_dirz = "/tmp",
    };
    w.server = moon_server_create(&w.loop, &handler, &w.config);
    w.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    w.addr = (struct sockaddr_in){.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(w.addr);
    struct sockaddr *sa = (struct sockaddr *)&w.addr;
    if (bind(w.listen_fd, sa, len) != 0 || listen(w.listen_fd, 64) != 0 ||
        getsockname(w.listen_fd, sa, &len) != 0 ||
        moon_server_listen(w.server, w.listen_fd, false) != MOON_OK)
        return -1;
    *state = &w;
    return 0;
}

static void tick(uv_timer_t *timer)
{
    ++*(int *)timer->data;
}

/* Runs the loop until the condition holds, at most five seconds. */
#define PUMP(w, cond)                           \
    do {                                        \
        int ticks_ = 0;                         \
        uv_timer_t timer_;                      \
        uv_timer_init(&(w)->loop, &timer_);     \
        timer_.data = &ticks_;                  \
        uv_timer_start(&timer_, tick, 1, 1);    \
        while (!(cond) && ticks_ < 5000)        \
            uv_run(&(w)->loop, UV_RUN_ONCE);    \
        bool held_ = (cond);                    \
        uv_close((uv_handle_t *)&timer_, NULL); \
        uv_run(&(w)->loop, UV_RUN_NOWAIT);      \
        assert_true(held_);                     \
    } while (0)

static int teardown(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < w->held_count; i++) {
        if (w->held[i] != NULL)
            release(w, w->held[i]);
    }
    if (!w->freed)
        moon_server_destroy(w->server, on_freed, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    close(w->listen_fd);
    assert_true(w->freed);
    assert_int_equal(w->in_op_callbacks, 0);
    return uv_loop_close(&w->loop);
}

static int client(struct world *w, const char *sendz)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&w->addr, sizeof(w->addr)),
                     0);
    size_t len = strlen(sendz);
    assert_int_equal(send(fd, sendz, len, MSG_NOSIGNAL), (ssize_t)len);
    return fd;
}

struct text {
    char bytes[65536];
    size_t len;
    bool eof;
};

/* What has arrived so far, NUL-terminated. */
static const char *seen(int fd, struct text *t)
{
    while (t->len < sizeof(t->bytes) - 1) {
        ssize_t n = recv(fd, t->bytes + t->len, sizeof(t->bytes) - 1 - t->len,
                         MSG_DONTWAIT);
        if (n <= 0) {
            t->eof = n == 0;
            break;
        }
        t->len += (size_t)n;
    }
    t->bytes[t->len] = '\0';
    return t->bytes;
}

static int count(const char *text, const char *word)
{
    int found = 0;
    for (; (text = strstr(text, word)) != NULL; text++)
        found++;
    return found;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: t\r\n\r\n"
#define SEEN(fd, word, n) (count(seen(fd, &text), word) == (n))
#define GONE(fd) (seen(fd, &text), text.eof)

static struct text text;

static void reset_text(void)
{
    text.len = 0;
    text.eof = false;
}

static void test_answers_and_ends(void **state)
{
    struct world *w = *state;
    reset_text();
    int fd = client(w, GET("/now") GET("/now"));
    PUMP(w, SEEN(fd, "now", 2));
    assert_int_equal(w->ends, 2);
    assert_int_equal(w->sents, 2);
    assert_int_equal(moon_server_exchanges(w->server), 0);
    assert_int_equal(moon_server_connections(w->server), 1);
    close(fd);
    PUMP(w, moon_server_connections(w->server) == 0);
    assert_int_equal(w->gones, 0);
}

static void test_next_waits_for_the_one_before(void **state)
{
    struct world *w = *state;
    reset_text();
    int fd = client(w, GET("/now") GET("/hold") GET("/now"));
    PUMP(w, w->held_count == 1);
    PUMP(w, SEEN(fd, "now", 1));
    assert_int_equal(w->runs, 2);
    (void)respond(w, w->held[0], 200, "held");
    PUMP(w, SEEN(fd, "now", 2));
    const char *first = strstr(text.bytes, "\r\n\r\nnow");
    assert_non_null(first);
    assert_non_null(strstr(first, "\r\n\r\nheld"));
    assert_int_equal(count(strstr(first, "held"), "now"), 1);
    assert_int_equal(w->ends, 2); /* the application still has one */
    release(w, w->held[0]);
    w->held[0] = NULL;
    PUMP(w, w->ends == 3);
    close(fd);
}

static void test_client_goes_while_held(void **state)
{
    struct world *w = *state;
    int fd = client(w, GET("/hold"));
    PUMP(w, w->held_count == 1);
    close(fd);
    PUMP(w, w->gones == 1); /* found out by the probe */
    struct moon_exchange *x = w->held[0];
    assert_null(x->conn);
    assert_int_equal(moon_server_connections(w->server), 0);
    assert_int_equal(respond(w, x, 200, "late"), MOON_ECLOSED);
    assert_int_equal(respond(w, x, 200, "late"), MOON_EEXISTS);
    assert_int_equal(w->ends, 0);
    release(w, x);
    w->held[0] = NULL;
    PUMP(w, w->ends == 1);
}

static void test_half_closed_client_gets_its_answer(void **state)
{
    struct world *w = *state;
    reset_text();
    int fd = client(w, GET("/hold"));
    shutdown(fd, SHUT_WR);
    PUMP(w, w->held_count == 1);
    PUMP(w, SEEN(fd, "100 Continue", 1));
    assert_int_equal(w->gones, 0);
    (void)respond(w, w->held[0], 200, "held");
    PUMP(w, SEEN(fd, "held", 1));
    PUMP(w, GONE(fd));
    assert_int_equal(w->sents, 1);
    close(fd);
}

static void test_released_without_an_answer(void **state)
{
    struct world *w = *state;
    reset_text();
    int fd = client(w, GET("/now") GET("/hold") GET("/now"));
    PUMP(w, w->held_count == 1);
    release(w, w->held[0]);
    w->held[0] = NULL;
    PUMP(w, GONE(fd));
    assert_int_equal(count(text.bytes, "HTTP/1.1 200"), 1);
    PUMP(w, w->ends == 2);
    close(fd);
}

static void test_stream_and_cut_off(void **state)
{
    struct world *w = *state;
    reset_text();
    int fd = client(w, GET("/hold"));
    PUMP(w, w->held_count == 1);
    struct moon_exchange *x = w->held[0];
    assert_int_equal(x->ops->stream_begin(x), MOON_OK);
    assert_int_equal(x->ops->stream_write(x, MOON_STR("part")), MOON_OK);
    PUMP(w, SEEN(fd, "4\r\npart\r\n", 1));
    x->ops->stream_end(x, false);
    PUMP(w, GONE(fd));
    assert_int_equal(count(text.bytes, "\r\n0\r\n"), 0);
    assert_int_equal(w->sents, 1);
    close(fd);
}

static void test_stream_waits_for_a_slow_reader(void **state)
{
    struct world *w = *state;
    static char block[32768];
    int fd = client(w, GET("/hold"));
    PUMP(w, w->held_count == 1);
    struct moon_exchange *x = w->held[0];
    assert_int_equal(x->ops->stream_begin(x), MOON_OK);
    size_t queued = 0;
    enum moon_err err = MOON_OK;
    while (err == MOON_OK && queued < 100u << 20) {
        err = x->ops->stream_write(x, moon_str(block, sizeof(block)));
        queued += sizeof(block);
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(err, MOON_EAGAIN);
    assert_int_equal(w->writables, 0);
    size_t got = 0;
    static char sink[65536];
    ssize_t n;
    PUMP(w, (n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT),
             got += n > 0 ? (size_t)n : 0, w->writables == 1));
    /* The client goes with the queue half full. */
    while (x->ops->stream_write(x, moon_str(block, sizeof(block))) == MOON_OK)
        continue;
    close(fd);
    PUMP(w, w->gones == 1);
    assert_int_equal(x->ops->stream_write(x, MOON_STR("x")), MOON_ECLOSED);
}

static void test_streamed_body(void **state)
{
    struct world *w = *state;
    struct moon_str got;
    int fd = client(w, "POST /up HTTP/1.1\r\nHost: t\r\n"
                       "Content-Length: 6\r\n\r\nabc");
    PUMP(w, w->held_count == 1);
    struct moon_exchange *x = w->held[0];
    assert_int_equal(x->ops->body_read(x, 2, &got), MOON_OK);
    assert_true(moon_str_eq(got, MOON_STR("ab")));
    assert_int_equal(x->ops->body_read(x, 10, &got), MOON_OK);
    assert_true(moon_str_eq(got, MOON_STR("c")));
    assert_int_equal(x->ops->body_read(x, 10, &got), MOON_EAGAIN);
    assert_int_equal(send(fd, "def", 3, 0), 3);
    PUMP(w, w->readables == 1);
    assert_int_equal(x->ops->body_read(x, 10, &got), MOON_OK);
    assert_true(moon_str_eq(got, MOON_STR("def")));
    assert_int_equal(x->ops->body_read(x, 10, &got), MOON_OK);
    assert_int_equal(got.len, 0);
    close(fd);
}

static void test_streamed_body_cut_off(void **state)
{
    struct world *w = *state;
    struct moon_str got;
    int fd = client(w, "POST /up HTTP/1.1\r\nHost: t\r\n"
                       "Content-Length: 6\r\n\r\n");
    PUMP(w, w->held_count == 1);
    struct moon_exchange *x = w->held[0];
    assert_int_equal(x->ops->body_read(x, 10, &got), MOON_EAGAIN);
    shutdown(fd, SHUT_WR);
    PUMP(w, w->readables == 1);
    assert_int_equal(x->ops->body_read(x, 10, &got), MOON_ECLOSED);
    close(fd);
}

static void test_body_memory_is_given_back(void **state)
{
    struct world *w = *state;
    w->config.body_memory_bytes = 3000;
    w->config.body_buffer_bytes = 100000;
    moon_server_configure(w->server, &w->config);
    char request[9000];
    int at = snprintf(request, sizeof(request),
                      "POST /now HTTP/1.1\r\nHost: t\r\n"
                      "Content-Length: 6000\r\n\r\n");
    memset(request + at, 'b', 6000);
    request[at + 6000] = '\0';
    for (int i = 0; i < 3; i++) {
        reset_text();
        int fd = client(w, request);
        PUMP(w, SEEN(fd, "HTTP/1.1 503", 1));
        close(fd);
    }
    w->config.body_memory_bytes = 20000;
    moon_server_configure(w->server, &w->config);
    for (int i = 0; i < 5; i++) {
        reset_text();
        int fd = client(w, request);
        PUMP(w, SEEN(fd, "HTTP/1.1 200", 1));
        close(fd);
    }
}

static void test_request_timeout(void **state)
{
    struct world *w = *state;
    reset_text();
    int fd = client(w, GET("/late"));
    PUMP(w, w->timeouts == 1);
    (void)respond(w, w->held[0], 503, "slow");
    PUMP(w, SEEN(fd, "slow", 1));
    close(fd);
}

static void test_partial_heads_are_no_requests(void **state)
{
    struct world *w = *state;
    int fd = client(w, "GET /now HTTP/1.1\r\nHo");
    PUMP(w, moon_server_exchanges(w->server) == 1);
    close(fd);
    PUMP(w, moon_server_connections(w->server) == 0);
    assert_int_equal(w->heads, 0);
    assert_int_equal(w->ends, 0);
    assert_int_equal(moon_server_exchanges(w->server), 0);
}

static void test_close_all_inside_a_callback(void **state)
{
    struct world *w = *state;
    reset_text();
    w->close_all_in_run = true;
    int other = client(w, GET("/hold"));
    int fd = client(w, GET("/now") GET("/now") GET("/now"));
    PUMP(w, GONE(fd));
    close(fd);
    close(other);
    PUMP(w, moon_server_connections(w->server) == 0);
}

static void test_destroy_while_held(void **state)
{
    struct world *w = *state;
    int one = client(w, GET("/now") GET("/hold") GET("/now"));
    int two = client(w, GET("/hold"));
    int three = client(w, "POST /now HTTP/1.1\r\nHost: t\r\n"
                          "Content-Length: 9\r\n\r\nabc");
    PUMP(w, w->held_count == 2 && w->heads == 4);
    moon_server_destroy(w->server, on_freed, w);
    PUMP(w, w->gones == 2);
    assert_false(w->freed); /* the application still holds two */
    for (int i = 0; i < 2; i++) {
        (void)respond(w, w->held[i], 200, "late");
        release(w, w->held[i]);
    }
    w->held_count = 0;
    PUMP(w, w->freed);
    assert_int_equal(w->ends, w->heads);
    close(one);
    close(two);
    close(three);
}

static void test_drain(void **state)
{
    struct world *w = *state;
    reset_text();
    int busy = client(w, GET("/hold") GET("/now"));
    PUMP(w, w->held_count == 1);
    int idle = client(w, GET("/now"));
    PUMP(w, w->sents == 1);
    int used = client(w, GET("/now"));
    PUMP(w, w->sents == 2);
    int queued = client(w, GET("/now"));
    moon_server_stop_accepting(w->server);
    moon_server_drain(w->server, 30);
    PUMP(w, SEEN(queued, "Connection: close", 1));
    reset_text();
    assert_int_equal(send(used, GET("/now"), strlen(GET("/now")), 0),
                     (ssize_t)strlen(GET("/now")));
    PUMP(w, SEEN(used, "Connection: close", 1));
    assert_true(w->held[0]->draining);
    (void)respond(w, w->held[0], 200, "held");
    reset_text();
    PUMP(w, SEEN(busy, "Connection: close", 1));
    PUMP(w, moon_server_connections(w->server) == 0);
    close(idle);
    close(busy);
    close(used);
    close(queued);
}

static void test_many_at_random(void **state)
{
    struct world *w = *state;
    const char *texts[] = {GET("/now") GET("/now"), GET("/early") GET("/now"),
                           "GET /now HTTP/1.1\r\n", "bad\r\n\r\n",
                           "POST /now HTTP/1.1\r\nHost: t\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n5\r\nab"};
    unsigned seed = 1;
    for (int i = 0; i < 300; i++) {
        seed = seed * 1103515245u + 12345u;
        int fd = client(w, texts[(seed >> 16) % MOON_COUNT(texts)]);
        for (unsigned n = (seed >> 20) % 6; n > 0; n--)
            uv_run(&w->loop, UV_RUN_NOWAIT);
        if (seed >> 30 & 1) {
            struct linger now = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        }
        close(fd);
    }
    PUMP(w, moon_server_connections(w->server) == 0);
    assert_int_equal(moon_server_exchanges(w->server), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_answers_and_ends),
        T(test_next_waits_for_the_one_before),
        T(test_client_goes_while_held),
        T(test_half_closed_client_gets_its_answer),
        T(test_released_without_an_answer),
        T(test_stream_and_cut_off),
        T(test_stream_waits_for_a_slow_reader),
        T(test_streamed_body),
        T(test_streamed_body_cut_off),
        T(test_body_memory_is_given_back),
        T(test_request_timeout),
        T(test_partial_heads_are_no_requests),
        T(test_close_all_inside_a_callback),
        T(test_destroy_while_held),
        T(test_drain),
        T(test_many_at_random),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
