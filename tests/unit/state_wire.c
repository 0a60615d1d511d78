/* The pipelined connection against a peer that this program plays itself: what
 * it says, when, and in which pieces. */
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

/* ---- order ---- */

static void answers_in_order(void **state)
{
    struct side side;
    struct asked asked[3] = {0};
    char heard[64];
    (void)state;
    open_side(&side);
    for (int i = 0; i < 3; i++)
        ask(&side, &asked[i], 1000);
    assert_int_equal(moon_wire_pending(side.wire), 3);
    assert_int_equal(hear(&side, heard, sizeof(heard)), 0); /* not yet */
    turn();
    /* One write for all that was queued in a turn. */
    assert_int_equal(hear(&side, heard, sizeof(heard)), 18);
    say(&side, ":1\r\n:2\r\n:");
    await(asked[1].fired == 1);
    assert_int_equal(asked[2].fired, 0);
    say(&side, "3\r\n");
    await(asked[2].fired == 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(asked[i].number, i + 1);
    shut(&side);
    assert_int_equal(side.downs, 0);
}

/* A request alone is written in the turn in which it was made, also one that is
 * made while the loop prepares to sleep. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct asked *asked = prepare->data;
    (void)uv_prepare_stop(prepare);
    ask(asked->side, asked, 1000);
}

static void writes_before_it_sleeps(void **state)
{
    struct side side;
    struct asked asked = {.side = &side};
    uv_prepare_t prepare;
    char heard[16];
    (void)state;
    open_side(&side);
    turns(2);
    (void)uv_prepare_init(&loop, &prepare);
    prepare.data = &asked;
    (void)uv_prepare_start(&prepare, on_prepare);
    turn();
    /* Would the loop sleep now? */
    assert_int_equal(uv_backend_timeout(&loop), 0);
    turn();
    assert_int_equal(hear(&side, heard, sizeof(heard)), 6);
    say(&side, "+OK\r\n");
    await(asked.fired == 1);
    uv_close((uv_handle_t *)&prepare, NULL);
    shut(&side);
}

static void takes_replies(void **state)
{
    struct side side;
    struct asked asked[2] = {0};
    (void)state;
    open_side(&side);
    /* Two replies for one request. */
    asked[0].side = &side;
    assert_int_equal(moon_wire_send(side.wire, MOON_STR("A\r\nB\r\n"), 2, 1000,
                                    on_reply, &asked[0], &asked[0].ticket),
                     MOON_OK);
    ask(&side, &asked[1], 1000);
    turn();
    say(&side, "+a\r\n+b\r\n+c\r\n");
    await(asked[1].fired == 1);
    assert_int_equal(asked[0].fired, 2);
    assert_string_equal(asked[0].text, "b");
    assert_string_equal(asked[1].text, "c");
    shut(&side);
}

static void huge_replies(void **state)
{
    struct side side;
    struct asked asked = {0}, next = {0};
    enum { BYTES = 700000 };
    char *huge = malloc(BYTES + 32);
    (void)state;
    assert_non_null(huge);
    int len = snprintf(huge, 32, "$%d\r\n", BYTES);
    memset(huge + len, 'x', BYTES);
    memcpy(huge + len + BYTES, "\r\n+OK\r\n", 7);
    open_side(&side);
    ask(&side, &asked, 5000);
    ask(&side, &next, 5000);
    turn();
    size_t all = (size_t)len + BYTES + 7;
    for (size_t at = 0; at < all; turn()) {
        ssize_t n = send(side.peer, huge + at, all - at, MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
    }
    await(next.fired == 1);
    assert_int_equal(asked.err, MOON_OK);
    assert_string_equal(next.text, "OK");
    shut(&side);
    free(huge);
}

static void too_large_replies(void **state)
{
    struct side side;
    struct asked asked = {0}, next = {0};
    (void)state;
    struct moon_wire_options o = options(&side);
    o.max_reply_bytes = 100;
    open_with(&side, &o);
    ask(&side, &asked, 1000);
    ask(&side, &next, 1000);
    turn();
    say(&side, "$1000\r\n");
    turns(3);
    assert_int_equal(asked.fired, 0);
    for (int i = 0; i < 10; i++)
        say(&side, "xxxxxxxxxx");
    await(side.downs == 1);
    assert_int_equal(side.down, MOON_ETOO_BIG);
    assert_string_equal(side.why, "a reply of more than 100 bytes");
    /* Whose reply it was knows it; the other may try elsewhere. */
    assert_int_equal(asked.err, MOON_ETOO_BIG);
    assert_int_equal(next.err, MOON_ECLOSED);
    shut(&side);
}

/* ---- time ---- */

static void late_replies_are_dropped(void **state)
{
    struct side side;
    struct asked slow = {0}, quick = {0}, next = {0};
    (void)state;
    open_side(&side);
    ask(&side, &quick, 20);
    ask(&side, &slow, 5000);
    await(quick.fired == 1);
    assert_int_equal(quick.err, MOON_ETIMEOUT);
    assert_int_equal(slow.fired, 0);
    assert_int_equal(moon_wire_pending(side.wire), 2);
    say(&side, ":1\r\n:2\r\n");
    await(slow.fired == 1);
    assert_int_equal(slow.number, 2);
    assert_int_equal(quick.fired, 1);
    ask(&side, &next, 5000);
    turn();
    say(&side, ":3\r\n");
    await(next.fired == 1);
    assert_int_equal(next.number, 3);
    assert_int_equal(side.downs, 0);
    shut(&side);
}

static void silence_ends_it(void **state)
{
    struct side side;
    struct asked first = {0}, second = {0};
    (void)state;
    struct moon_wire_options o = options(&side);
    o.patience_ms = 50;
    open_with(&side, &o);
    uint64_t began = moon_clock_ms();
    ask(&side, &first, 10); /* impatient: twice 50 ms count */
    ask(&side, &second, 5000);
    await(first.fired == 1);
    assert_int_equal(side.downs, 0);
    await(side.downs == 1);
    assert_true(moon_clock_ms() - began >= 100);
    assert_int_equal(side.down, MOON_ETIMEOUT);
    assert_int_equal(first.fired, 1);
    assert_int_equal(second.fired, 1);
    assert_int_equal(second.err, MOON_ETIMEOUT);
    assert_string_equal(second.text, "no answer");
    shut(&side);
}

/* As long as something comes the connection is not dead. */
static void progress_is_not_silence(void **state)
{
    struct side side;
    struct asked asked[6] = {0};
    uint64_t until;
    (void)state;
    struct moon_wire_options o = options(&side);
    o.patience_ms = 250;
    open_with(&side, &o);
    for (int i = 0; i < 6; i++)
        ask(&side, &asked[i], 200);
    for (int i = 0; i < 5; i++) {
        until = moon_clock_ms() + 150; /* 750 in all, and 500 is too long */
        await(moon_clock_ms() >= until);
        say(&side, ":1\r\n");
    }
    await(moon_wire_pending(side.wire) == 1);
    assert_int_equal(asked[4].fired, 1);
    assert_int_equal(asked[4].err, MOON_ETIMEOUT);
    assert_int_equal(side.downs, 0);
    shut(&side);
}

/* The loop was held up for longer than the deadlines, but the answers are in
 * the socket. */
static void a_late_loop_reads_first(void **state)
{
    struct side side;
    struct asked asked = {0};
    (void)state;
    open_side(&side);
    ask(&side, &asked, 30);
    turn();
    say(&side, ":1\r\n");
    uint64_t until = moon_clock_ms() + 150;
    while (moon_clock_ms() < until)
        ; /* as a request that computes */
    await(asked.fired == 1);
    assert_int_equal(asked.err, MOON_OK);
    assert_int_equal(side.downs, 0);
    shut(&side);
}

/* The same, in the turn in which it was asked for: nothing was written yet. */
static void a_late_turn_counts_for_nobody(void **state)
{
    struct side side;
    struct asked asked = {0};
    (void)state;
    open_side(&side);
    turns(2);
    ask(&side, &asked, 100);
    uint64_t until = moon_clock_ms() + 200;
    while (moon_clock_ms() < until)
        ;
    turn();
    assert_int_equal(asked.fired, 0);
    say(&side, ":1\r\n");
    await(asked.fired == 1);
    assert_int_equal(asked.err, MOON_OK);
    shut(&side);
}

/* ---- the end, from all sides ---- */

static void cancelled(void **state)
{
    struct side side;
    struct asked asked[3] = {0};
    (void)state;
    open_side(&side);
    for (int i = 0; i < 3; i++)
        ask(&side, &asked[i], 1000);
    moon_wire_cancel(side.wire, asked[0].ticket, 1);
    asked[1].cancels = &asked[2];
    turn();
    say(&side, ":1\r\n:2\r\n:3\r\n");
    await(moon_wire_pending(side.wire) == 0);
    assert_int_equal(asked[0].fired, 0);
    assert_int_equal(asked[1].number, 2);
    assert_int_equal(asked[2].fired, 0);
    /* A ticket that is over is nobody else's. */
    moon_wire_cancel(side.wire, asked[0].ticket, 3);
    shut(&side);
}

static void closed_by_the_peer(void **state)
{
    struct side side;
    struct asked asked[2] = {0};
    (void)state;
    open_side(&side);
    ask(&side, &asked[0], 1000);
    ask(&side, &asked[1], 1000);
    turn();
    say(&side, "+OK\r\n+half");
    (void)close(side.peer);
    side.peer = -1;
    await(side.downs == 1);
    assert_int_equal(asked[0].err, MOON_OK);
    assert_int_equal(asked[1].err, MOON_ECLOSED);
    assert_false(asked[1].untouched);
    assert_int_equal(asked[1].fired, 1);
    struct asked more = {0};
    assert_int_equal(moon_wire_send(side.wire, MOON_STR("X"), 1, 10, on_reply,
                                    &more, &more.ticket),
                     MOON_ECLOSED);
    shut(&side);
    assert_int_equal(side.downs, 1);
}

static void destroyed_from_outside(void **state)
{
    struct side side;
    struct asked asked[3] = {0};
    (void)state;
    open_side(&side);
    for (int i = 0; i < 3; i++)
        ask(&side, &asked[i], 1000);
    moon_wire_cancel(side.wire, asked[1].ticket, 1);
    moon_wire_destroy(side.wire);
    side.wire = NULL;
    assert_int_equal(asked[0].fired, 0); /* never from inside a call */
    await(side.gones == 1);
    assert_int_equal(asked[0].fired, 1);
    assert_int_equal(asked[1].fired, 0);
    assert_int_equal(asked[2].fired, 1);
    assert_int_equal(asked[2].err, MOON_ECLOSED);
    assert_true(asked[2].untouched);
    assert_int_equal(side.downs, 0);
    shut(&side);
}

static void destroyed_in_a_callback(void **state)
{
    struct side side;
    struct asked asked[3] = {{.destroys = true}};
    (void)state;
    open_side(&side);
    for (int i = 0; i < 3; i++)
        ask(&side, &asked[i], 1000);
    turn();
    say(&side, ":1\r\n:2\r\n:3\r\n");
    await(side.gones == 1);
    assert_int_equal(asked[0].err, MOON_OK);
    assert_int_equal(asked[1].fired, 1);
    assert_int_equal(asked[1].err, MOON_ECLOSED);
    assert_int_equal(asked[2].fired, 1);
    assert_int_equal(side.downs, 0);
    shut(&side);
}

static void destroyed_while_it_fails(void **state)
{
    struct side side;
    struct asked asked[2] = {0};
    (void)state;
    open_side(&side);
    side.destroy_when_down = true;
    ask(&side, &asked[0], 10);
    ask(&side, &asked[1], 1000);
    (void)close(side.peer);
    side.peer = -1;
    await(side.gones == 1);
    assert_int_equal(side.downs, 1);
    assert_int_equal(asked[0].fired, 1);
    assert_int_equal(asked[1].fired, 1);
    shut(&side);
    /* In the callback of a deadline. */
    struct asked late[2] = {{.destroys = true}};
    open_side(&side);
    ask(&side, &late[0], 10);
    ask(&side, &late[1], 10);
    await(side.gones == 1);
    assert_int_equal(late[0].err, MOON_ETIMEOUT);
    assert_int_equal(late[1].fired, 1);
    shut(&side);
}

static void asks_in_a_callback(void **state)
{
    struct side side;
    struct asked asked[2] = {{.asks = true}};
    (void)state;
    open_side(&side);
    ask(&side, &asked[0], 1000);
    ask(&side, &asked[1], 1000);
    turn();
    say(&side, ":1\r\n:2\r\n");
    await(asked[1].fired == 1);
    assert_int_equal(moon_wire_pending(side.wire), 1);
    shut(&side);
}

static void finishes(void **state)
{
    struct side side;
    struct asked asked = {0};
    (void)state;
    open_side(&side);
    ask(&side, &asked, 1000);
    turn();
    moon_wire_finish(side.wire);
    uint64_t ticket;
    assert_int_equal(
        moon_wire_send(side.wire, MOON_STR("X"), 1, 10, NULL, NULL, &ticket),
        MOON_ECLOSED);
    turns(3);
    assert_int_equal(side.downs, 0);
    say(&side, ":1\r\n");
    await(side.downs == 1);
    assert_int_equal(side.down, MOON_OK);
    assert_int_equal(asked.err, MOON_OK);
    shut(&side);
    /* At once if nothing is under way. */
    open_side(&side);
    moon_wire_finish(side.wire);
    assert_int_equal(side.downs, 0);
    await(side.downs == 1);
    shut(&side);
}

static void nonsense(void **state)
{
    struct side side;
    struct asked asked = {0};
    (void)state;
    open_side(&side);
    turns(2);
    say(&side, "+hello\r\n");
    await(side.downs == 1);
    assert_int_equal(side.down, MOON_EPROTO);
    assert_string_equal(side.why, "a reply that nobody asked for");
    shut(&side);
    open_side(&side);
    ask(&side, &asked, 1000);
    turn();
    say(&side, "HTTP/1.1 200 OK\r\n");
    await(side.downs == 1);
    assert_int_equal(side.down, MOON_EPROTO);
    assert_int_equal(asked.err, MOON_EPROTO);
    shut(&side);
}

static void messages(void **state)
{
    struct side side;
    struct asked asked = {0};
    (void)state;
    open_side(&side);
    ask(&side, &asked, 1000);
    turn();
    say(&side, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n+OK\r\n");
    await(asked.fired == 1);
    assert_int_equal(side.pushes, 1);
    assert_string_equal(asked.text, "OK");
    say(&side, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
    await(side.pushes == 2);
    shut(&side);
}

/* ---- connecting, and bounds ---- */

static void cannot_connect(void **state)
{
    struct side side = {.peer = -1};
    struct asked asked = {0};
    (void)state;
    struct moon_wire_options o = options(&side);
    o.host = MOON_STR("/nowhere/at/all");
    side.wire = moon_wire_create(&loop, &o);
    assert_non_null(side.wire);
    assert_int_equal(side.downs, 0); /* never from inside a call */
    ask(&side, &asked, 1000);
    await(side.downs == 1);
    assert_int_equal(side.down, MOON_ESYS);
    assert_string_equal(side.why, "no such file or directory");
    assert_int_equal(asked.err, MOON_ESYS);
    assert_true(asked.untouched);
    shut(&side);
    /* Destroyed before it could tell. */
    side = (struct side){.peer = -1};
    side.wire = moon_wire_create(&loop, &o);
    shut(&side);
    assert_int_equal(side.downs, 0);
}

static void bounded(void **state)
{
    struct side side;
    struct asked asked[5] = {0};
    uint64_t ticket;
    char big[200];
    (void)state;
    struct moon_wire_options o = options(&side);
    o.max_pending = 4;
    o.max_out_bytes = 100;
    open_with(&side, &o);
    memset(big, 'x', sizeof(big));
    assert_int_equal(moon_wire_send(side.wire, moon_str(big, 101), 1, 10, NULL,
                                    NULL, &ticket),
                     MOON_ETOO_BIG);
    for (int i = 0; i < 3; i++)
        ask(&side, &asked[i], 1000);
    assert_int_equal(
        moon_wire_send(side.wire, MOON_STR("X"), 2, 10, NULL, NULL, &ticket),
        MOON_EFULL);
    assert_int_equal(moon_wire_send(side.wire, moon_str(big, 90), 1, 10, NULL,
                                    NULL, &ticket),
                     MOON_EFULL);
    ask(&side, &asked[3], 1000);
    /* Places of cancelled ones count until their reply came. */
    moon_wire_cancel(side.wire, asked[0].ticket, 4);
    assert_int_equal(
        moon_wire_send(side.wire, MOON_STR("X"), 1, 10, NULL, NULL, &ticket),
        MOON_EFULL);
    turn();
    say(&side, ":1\r\n:2\r\n:3\r\n:4\r\n");
    await(moon_wire_pending(side.wire) == 0);
    ask(&side, &asked[4], 1000);
    shut(&side);
    assert_int_equal(asked[4].fired, 1);
    assert_int_equal(asked[0].fired, 0);
}

/* A peer that does not read: what does not fit is written when it does. */
static void slow_reader(void **state)
{
    struct side side;
    struct asked asked = {0};
    enum { BYTES = 900000 };
    char *big = calloc(1, BYTES);
    char heard[4096];
    size_t got = 0;
    (void)state;
    assert_non_null(big);
    open_side(&side);
    asked.side = &side;
    assert_int_equal(moon_wire_send(side.wire, moon_str(big, BYTES), 1, 5000,
                                    on_reply, &asked, &asked.ticket),
                     MOON_OK);
    turns(3);
    assert_int_equal(moon_wire_send(side.wire, moon_str(big, BYTES), 1, 5000,
                                    on_reply, &asked, &asked.ticket),
                     MOON_EFULL);
    while (got < BYTES) {
        size_t n = hear(&side, heard, sizeof(heard));
        got += n;
        turn();
    }
    say(&side, "+OK\r\n");
    await(asked.fired == 1);
    shut(&side);
    free(big);
}

/* ---- many, at random ---- */

static uint32_t seed = 20240607;

static uint32_t random_below(uint32_t limit)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % limit;
}

/* Each request carries a number, the peer says it back in pieces. Some are
 * cancelled, some are late: whoever hears something hears its own number. */
static void right_owner(void **state)
{
    static struct asked asked[2000];
    struct side side;
    struct moon_buf in = {0}, out = {0};
    char bytes[4096];
    uint32_t sent = 0, cancelled_count = 0;
    (void)state;
    open_side(&side);
    while (sent < MOON_COUNT(asked) || moon_wire_pending(side.wire) > 0) {
        for (uint32_t i = random_below(20);
             i > 0 && sent < MOON_COUNT(asked) &&
             moon_wire_pending(side.wire) < USERS;
             i--) {
            char line[16];
            int len = snprintf(line, sizeof(line), "%u\n", sent);
            asked[sent] = (struct asked){.side = &side, .number = -1};
            assert_int_equal(
                moon_wire_send(side.wire, moon_str(line, (size_t)len), 1,
                               random_below(4) == 0 ? 1 : 60000, on_reply,
                               &asked[sent], &asked[sent].ticket),
                MOON_OK);
            sent++;
        }
        if (sent > 0 && random_below(3) == 0) {
            struct asked *one =
                &asked[sent - 1 - random_below(sent < 10 ? sent : 10)];
            if (one->fired == 0 && one->err == MOON_OK) {
                moon_wire_cancel(side.wire, one->ticket, 1);
                one->err = MOON_ECANCELED;
                cancelled_count++;
            }
        }
        turn();
        size_t n = hear(&side, bytes, sizeof(bytes));
        moon_buf_add(&in, bytes, n);
        struct moon_str rest = moon_str(in.ptr, in.len);
        while (rest.len > 0 && memchr(rest.ptr, '\n', rest.len) != NULL) {
            struct moon_str line = moon_str_cut(rest, '\n', &rest);
            moon_buf_printf(&out, ":%.*s\r\n", MOON_STR_ARG(line));
        }
        memmove(in.ptr, rest.ptr, rest.len);
        in.len = rest.len;
        size_t piece = random_below(64);
        piece = piece < out.len ? piece : out.len;
        if (piece > 0) {
            ssize_t w = send(side.peer, out.ptr, piece, MSG_NOSIGNAL);
            assert_int_equal(w, piece);
            memmove(out.ptr, out.ptr + piece, out.len - piece);
            out.len -= piece;
        }
    }
    for (uint32_t i = 0; i < sent; i++) {
        bool was_cancelled = asked[i].err == MOON_ECANCELED;
        assert_int_equal(asked[i].fired, was_cancelled ? 0 : 1);
        if (asked[i].err == MOON_OK)
            assert_int_equal(asked[i].number, i);
        else if (!was_cancelled)
            assert_int_equal(asked[i].err, MOON_ETIMEOUT);
    }
    assert_true(cancelled_count > 50);
    assert_int_equal(side.downs, 0);
    moon_buf_deinit(&in);
    moon_buf_deinit(&out);
    shut(&side);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_order),
        cmocka_unit_test(writes_before_it_sleeps),
        cmocka_unit_test(takes_replies),
        cmocka_unit_test(huge_replies),
        cmocka_unit_test(too_large_replies),
        cmocka_unit_test(late_replies_are_dropped),
        cmocka_unit_test(silence_ends_it),
        cmocka_unit_test(progress_is_not_silence),
        cmocka_unit_test(a_late_loop_reads_first),
        cmocka_unit_test(a_late_turn_counts_for_nobody),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(closed_by_the_peer),
        cmocka_unit_test(destroyed_from_outside),
        cmocka_unit_test(destroyed_in_a_callback),
        cmocka_unit_test(destroyed_while_it_fails),
        cmocka_unit_test(asks_in_a_callback),
        cmocka_unit_test(finishes),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(messages),
        cmocka_unit_test(cannot_connect),
        cmocka_unit_test(bounded),
        cmocka_unit_test(slow_reader),
        cmocka_unit_test(right_owner),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
