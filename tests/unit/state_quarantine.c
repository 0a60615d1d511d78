/* Quarantine: when a route is shut off, tried and opened again, with a clock
 * that the test sets; and the table of cells that processes share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/quarantine_table.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct moon_quarantine_rule rule = {
    .failures = 3, .retry_ms = 1000, .lease_ms = 5000};

static struct moon_quarantine_cell cell;
static uint64_t now, retry;
static uint32_t probe;

static int fresh(void **state)
{
    (void)state;
    memset(&cell, 0, sizeof(cell));
    now = 100000;
    retry = 0;
    probe = 0;
    return 0;
}

static enum moon_quarantine_verdict ask(void)
{
    return moon_quarantine_ask(&cell, &rule, now, &retry, &probe);
}

static enum moon_quarantine_change tell(enum moon_quarantine_outcome outcome,
                                        uint64_t way, uint32_t number)
{
    struct moon_quarantine_end end = {.outcome = outcome,
                                      .probe = number,
                                      .way = way,
                                      .route = MOON_STR("GET /a"),
                                      .kind = MOON_STR("error"),
                                      .place = MOON_STR("app.lua:7"),
                                      .message = MOON_STR("boom")};
    return moon_quarantine_tell(&cell, &rule, now, &end);
}

static enum moon_quarantine_change fails(uint64_t way)
{
    return tell(MOON_QUARANTINE_FAILURE, way, 0);
}

static void shut_off(void)
{
    assert_int_equal(fails(1), MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(fails(1), MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(ask(), MOON_QUARANTINE_PASS);
    assert_int_equal(fails(1), MOON_QUARANTINE_SHUTS);
}

static void shuts_after_so_many(void **state)
{
    (void)state;
    shut_off();
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    assert_int_equal(retry, 1000);
    now += 400;
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    assert_int_equal(retry, 600);
    assert_int_equal(cell.since_ms, 100000);
    assert_string_equal(cell.route, "GET /a");
    assert_string_equal(cell.kind, "error");
    assert_string_equal(cell.place, "app.lua:7");
    assert_string_equal(cell.message, "boom");
}

static void success_and_another_way_reset(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        (void)fails(1);
        (void)fails(1);
        assert_int_equal(tell(MOON_QUARANTINE_SUCCESS, 0, 0),
                         MOON_QUARANTINE_UNCHANGED);
        assert_int_equal(cell.row, 0);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(fails(1), MOON_QUARANTINE_UNCHANGED);
        assert_int_equal(fails(1), MOON_QUARANTINE_UNCHANGED);
        assert_int_equal(fails(2), MOON_QUARANTINE_UNCHANGED);
    }
    assert_int_equal(ask(), MOON_QUARANTINE_PASS);
}

static void neither_leaves_the_count(void **state)
{
    (void)state;
    (void)fails(1);
    (void)fails(1);
    for (int i = 0; i < 20; i++)
        (void)tell(MOON_QUARANTINE_NEITHER, 0, 0);
    assert_int_equal(cell.row, 2);
    assert_int_equal(fails(1), MOON_QUARANTINE_SHUTS);
}

static void late_ones_change_nothing(void **state)
{
    (void)state;
    shut_off();
    assert_int_equal(fails(1), MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(tell(MOON_QUARANTINE_SUCCESS, 0, 0),
                     MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    assert_int_equal(cell.row, 3);
}

static void one_probe_reopens(void **state)
{
    (void)state;
    shut_off();
    now += 1000;
    assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
    assert_int_not_equal(probe, 0);
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    assert_int_equal(retry, MOON_QUARANTINE_PROBE_MS);
    assert_int_equal(tell(MOON_QUARANTINE_SUCCESS, 0, probe),
                     MOON_QUARANTINE_REOPENS);
    assert_int_equal(ask(), MOON_QUARANTINE_PASS);
    assert_int_equal(fails(1), MOON_QUARANTINE_UNCHANGED); /* from 0 again */
    assert_int_equal(cell.row, 1);
}

static void the_wait_doubles_up_to_16(void **state)
{
    static const uint64_t waits[] = {2000, 4000, 8000, 16000, 16000, 16000};
    (void)state;
    shut_off();
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        now = cell.next_ms;
        assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
        assert_int_equal(tell(MOON_QUARANTINE_FAILURE, 1, probe),
                         MOON_QUARANTINE_STAYS_SHUT);
        assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
        assert_int_equal(retry, waits[i]);
        assert_int_equal(cell.row, 4 + i);
    }
    assert_int_equal(cell.since_ms, 100000);
    now = cell.next_ms;
    assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
    assert_int_equal(tell(MOON_QUARANTINE_FAILURE, 2, probe),
                     MOON_QUARANTINE_STAYS_SHUT); /* another: the first wait */
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    assert_int_equal(retry, 1000);
    assert_int_equal(cell.row, 1);
}

static void a_probe_that_says_nothing_makes_room(void **state)
{
    (void)state;
    shut_off();
    now += 1000;
    assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
    uint32_t first = probe;
    assert_int_equal(tell(MOON_QUARANTINE_NEITHER, 0, probe),
                     MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
    assert_int_not_equal(probe, first);
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
}

static void a_lease_ends(void **state)
{
    (void)state;
    shut_off();
    now += 1000;
    assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
    uint32_t lost = probe;
    now += rule.lease_ms - 1;
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    now++;
    assert_int_equal(ask(), MOON_QUARANTINE_PROBE);
    /* What the first one says late: only good news. */
    assert_int_equal(tell(MOON_QUARANTINE_FAILURE, 1, lost),
                     MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(tell(MOON_QUARANTINE_NEITHER, 0, lost),
                     MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(ask(), MOON_QUARANTINE_REFUSE);
    assert_int_equal(tell(MOON_QUARANTINE_SUCCESS, 0, lost),
                     MOON_QUARANTINE_REOPENS);
    /* The other one is an ordinary request by now. */
    assert_int_equal(tell(MOON_QUARANTINE_FAILURE, 1, probe),
                     MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(cell.row, 1);
}

static void long_texts_are_cut(void **state)
{
    char text[400];
    (void)state;
    memset(text, 'x', sizeof(text));
    struct moon_str all = moon_str(text, sizeof(text));
    struct moon_quarantine_end end = {.outcome = MOON_QUARANTINE_FAILURE,
                                      .route = all,
                                      .kind = all,
                                      .place = all,
                                      .message = all};
    for (int i = 0; i < 3; i++)
        (void)moon_quarantine_tell(&cell, &rule, now, &end);
    assert_int_equal(moon_quarantine_text(cell.route, sizeof(cell.route)).len,
                     sizeof(cell.route));
    assert_int_equal(
        moon_quarantine_text(cell.message, sizeof(cell.message)).len,
        sizeof(cell.message));
}

/* ---- the table ---- */

static struct moon_region *region;
static struct moon_quarantine_table *table;

static int open_table(void **state)
{
    (void)fresh(state);
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    table = moon_quarantine_open(region);
    assert_non_null(table);
    return 0;
}

static int close_table(void **state)
{
    (void)state;
    moon_region_close(region);
    return 0;
}

static enum moon_quarantine_change leave(struct moon_quarantine_slot *slot,
                                         uint64_t generation)
{
    struct moon_quarantine_end end = {.outcome = MOON_QUARANTINE_FAILURE,
                                      .way = 1,
                                      .route = MOON_STR("GET /b")};
    return moon_quarantine_leave(table, slot, generation, &rule, now, &end,
                                 NULL);
}

static enum moon_quarantine_verdict enter(struct moon_quarantine_slot *slot,
                                          uint64_t generation)
{
    return moon_quarantine_enter(table, slot, generation, &rule, now, &retry,
                                 &probe);
}

static void one_cell_for_all_of_a_generation(void **state)
{
    (void)state;
    struct moon_quarantine_slot *one = moon_quarantine_claim(table, 7, 1);
    /* The same place in the table, another route. */
    struct moon_quarantine_slot *two =
        moon_quarantine_claim(table, 7 + MOON_QUARANTINE_CELLS, 1);
    assert_non_null(one);
    assert_ptr_not_equal(one, two);
    for (int i = 0; i < 3; i++)
        (void)leave(one, 1);
    assert_int_equal(enter(one, 1), MOON_QUARANTINE_REFUSE);
    assert_false(moon_quarantine_is_open(one));
    assert_true(moon_quarantine_is_quiet(two));
    assert_ptr_equal(moon_quarantine_claim(table, 7, 1), one);
    assert_int_equal(enter(one, 1), MOON_QUARANTINE_REFUSE);
    assert_int_equal(moon_quarantine_list(region, 1, NULL, NULL), 1);
    assert_int_equal(moon_quarantine_list(region, 2, NULL, NULL), 0);
}

static void a_new_generation_starts_clean(void **state)
{
    (void)state;
    struct moon_quarantine_slot *old = moon_quarantine_claim(table, 7, 1);
    for (int i = 0; i < 3; i++)
        (void)leave(old, 1);
    struct moon_quarantine_slot *next = moon_quarantine_claim(table, 7, 2);
    assert_int_equal(enter(next, 2), MOON_QUARANTINE_PASS);
    /* The one that is replaced holds until it is gone. */
    assert_int_equal(enter(old, 1), MOON_QUARANTINE_REFUSE);
    /* Two later its cell is another's: nothing it says matters. */
    assert_ptr_equal(moon_quarantine_claim(table, 7, 3), old);
    assert_int_equal(enter(old, 1), MOON_QUARANTINE_PASS);
    for (int i = 0; i < 3; i++)
        assert_int_equal(leave(old, 1), MOON_QUARANTINE_UNCHANGED);
    assert_int_equal(enter(old, 3), MOON_QUARANTINE_PASS);
}

static void a_full_table_says_so(void **state)
{
    (void)state;
    uint32_t got = 0;
    for (uint64_t i = 0; i < MOON_QUARANTINE_CELLS + 10; i++)
        got += moon_quarantine_claim(table, i, 1) != NULL;
    assert_int_equal(got, MOON_QUARANTINE_CELLS);
}

static void processes_count_together(void **state)
{
    (void)state;
    struct moon_quarantine_slot *slot = moon_quarantine_claim(table, 9, 1);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(leave(slot, 1) == (i == 2 ? MOON_QUARANTINE_SHUTS
                                            : MOON_QUARANTINE_UNCHANGED)
                      ? 0
                      : 1);
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    assert_int_equal(enter(slot, 1), MOON_QUARANTINE_REFUSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(shuts_after_so_many, fresh),
        cmocka_unit_test_setup(success_and_another_way_reset, fresh),
        cmocka_unit_test_setup(neither_leaves_the_count, fresh),
        cmocka_unit_test_setup(late_ones_change_nothing, fresh),
        cmocka_unit_test_setup(one_probe_reopens, fresh),
        cmocka_unit_test_setup(the_wait_doubles_up_to_16, fresh),
        cmocka_unit_test_setup(a_probe_that_says_nothing_makes_room, fresh),
        cmocka_unit_test_setup(a_lease_ends, fresh),
        cmocka_unit_test_setup(long_texts_are_cut, fresh),
        cmocka_unit_test_setup_teardown(one_cell_for_all_of_a_generation,
                                        open_table, close_table),
        cmocka_unit_test_setup_teardown(a_new_generation_starts_clean,
                                        open_table, close_table),
        cmocka_unit_test_setup_teardown(a_full_table_says_so, open_table,
                                        close_table),
        cmocka_unit_test_setup_teardown(processes_count_together, open_table,
                                        close_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
