/* The end of a pipelined connection, from all sides, its beginning, and its
 * bounds. */
#include "wire_support.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
