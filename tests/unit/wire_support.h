/* A wire, and a peer that the test plays itself: what it says, when, and in
 * which pieces. */
#ifndef MOON_TESTS_WIRE_SUPPORT_H
#define MOON_TESTS_WIRE_SUPPORT_H

#include "state/redis_proto.h"
#include "state/wire.h"

#include "base/clock.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 10000, USERS = 64 };

static uv_loop_t loop;
static uv_timer_t keep;
static char path[] = "/tmp/moonshine-unit-XXXXXX";
static int listener;

/* ---- one connection and what it tells ---- */

struct side {
    struct moon_wire *wire;
    int peer; /* our end */
    enum moon_err down;
    uint32_t downs, gones, pushes;
    char why[96];
    bool destroy_when_down;
};

/* One request and what became of it. */
struct asked {
    struct side *side;
    uint32_t fired;
    enum moon_err err;
    bool untouched;
    char text[64];
    long long number;
    struct asked *cancels; /* in its callback */
    uint64_t ticket;
    bool destroys, asks;
};

static void on_down(void *ctx, enum moon_err err, const char *whyz)
{
    struct side *side = ctx;
    side->down = err;
    side->downs++;
    (void)snprintf(side->why, sizeof(side->why), "%s", whyz);
    if (side->destroy_when_down) {
        moon_wire_destroy(side->wire);
        side->wire = NULL;
    }
}

static bool on_push(void *ctx, const void *reply)
{
    struct side *side = ctx;
    if (!moon_str_eq(moon_redis_text(moon_redis_item(reply, 0)),
                     MOON_STR("message")))
        return false;
    side->pushes++;
    return true;
}

static void on_gone(void *ctx)
{
    struct side *side = ctx;
    side->gones++;
}

static void ask(struct side *side, struct asked *asked, uint64_t timeout_ms);

static void on_reply(void *ctx, struct moon_wire_result *result)
{
    static struct asked later;
    struct asked *asked = ctx;
    asked->fired++;
    asked->err = result->err;
    asked->untouched = result->untouched;
    if (result->err == MOON_OK) {
        redisReply *reply = result->reply;
        struct moon_str text = moon_redis_text(reply);
        asked->number = reply->integer;
        (void)snprintf(asked->text, sizeof(asked->text), "%.*s",
                       MOON_STR_ARG(text));
    } else {
        assert_null(result->reply);
        (void)snprintf(asked->text, sizeof(asked->text), "%s", result->whyz);
    }
    if (asked->cancels != NULL)
        moon_wire_cancel(asked->side->wire, asked->cancels->ticket, 1);
    if (asked->asks) {
        later = (struct asked){0};
        ask(asked->side, &later, 1000);
    }
    if (asked->destroys) {
        moon_wire_destroy(asked->side->wire);
        asked->side->wire = NULL;
    }
}

static void on_keep(uv_timer_t *timer)
{
    (void)timer;
}

/* As in a worker, where something always keeps the loop going. */
static void turn(void)
{
    (void)uv_timer_start(&keep, on_keep, 3600000, 0);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    (void)uv_timer_stop(&keep);
}

static void turns(int count)
{
    while (count-- > 0)
        turn();
}

#define await(condition)                                   \
    do {                                                   \
        uint64_t deadline = moon_clock_ms() + PATIENCE_MS; \
        while (!(condition) && moon_clock_ms() < deadline) \
            turn();                                        \
        assert_true(condition);                            \
    } while (0)

static struct moon_wire_options options(struct side *side)
{
    return (struct moon_wire_options){
        .host = moon_strz(path),
        .connect_timeout_ms = 1000,
        .patience_ms = 60000,
        .max_pending = 1000,
        .max_out_bytes = 1 << 20,
        .max_reply_bytes = 1 << 20,
        .codec = &moon_redis_codec,
        .owner = {side, on_down, on_push, on_gone},
    };
}

static void open_with(struct side *side, const struct moon_wire_options *o)
{
    *side = (struct side){.peer = -1};
    side->wire = moon_wire_create(&loop, o);
    assert_non_null(side->wire);
    side->peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(side->peer >= 0);
}

static void open_side(struct side *side)
{
    const struct moon_wire_options o = options(side);
    open_with(side, &o);
}

/* Ends it, and sees that nothing is left. */
static void shut(struct side *side)
{
    if (side->wire != NULL)
        moon_wire_destroy(side->wire);
    side->wire = NULL;
    if (side->peer >= 0)
        (void)close(side->peer);
    await(side->gones == 1);
    assert_int_equal(uv_loop_alive(&loop), 0);
}

static void ask(struct side *side, struct asked *asked, uint64_t timeout_ms)
{
    asked->side = side;
    assert_int_equal(moon_wire_send(side->wire, MOON_STR("PING\r\n"), 1,
                                    timeout_ms, on_reply, asked,
                                    &asked->ticket),
                     MOON_OK);
    assert_int_equal(asked->fired, 0);
}

static void say(struct side *side, const char *textz)
{
    assert_int_equal(send(side->peer, textz, strlen(textz), MSG_NOSIGNAL),
                     strlen(textz));
}

static size_t hear(struct side *side, char *to, size_t size)
{
    ssize_t n = recv(side->peer, to, size, 0);
    return n > 0 ? (size_t)n : 0;
}

static int set_up(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    (void)state;
    (void)uv_loop_init(&loop);
    (void)uv_timer_init(&loop, &keep);
    int made = mkstemp(path);
    if (made < 0 || close(made) != 0 || unlink(path) != 0)
        return -1;
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(listener, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
                   listen(listener, 4) != 0
               ? -1
               : 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)close(listener);
    (void)unlink(path);
    uv_close((uv_handle_t *)&keep, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

#endif
