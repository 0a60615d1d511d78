/* The pipelined connection: order, deadlines, whose reply is whose. */
#include "wire_support.h"

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

/* Announced only: nobody has room made for two billion elements, and goes over
 * them, because of what one line says. */
static void too_many_elements(void **state)
{
    struct side side;
    struct asked asked = {0};
    (void)state;
    open_side(&side);
    ask(&side, &asked, 1000);
    turn();
    say(&side, "*1\r\n*2147483647\r\n");
    await(side.downs == 1);
    assert_int_equal(side.down, MOON_ETOO_BIG);
    assert_int_equal(asked.err, MOON_ETOO_BIG);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_order),
        cmocka_unit_test(writes_before_it_sleeps),
        cmocka_unit_test(takes_replies),
        cmocka_unit_test(huge_replies),
        cmocka_unit_test(too_large_replies),
        cmocka_unit_test(too_many_elements),
        cmocka_unit_test(late_replies_are_dropped),
        cmocka_unit_test(silence_ends_it),
        cmocka_unit_test(progress_is_not_silence),
        cmocka_unit_test(a_late_loop_reads_first),
        cmocka_unit_test(a_late_turn_counts_for_nobody),
        cmocka_unit_test(right_owner),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
