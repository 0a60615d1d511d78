/* When a worker counts as overloaded, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "net/overload.h"

#define MS 1000000ull

enum { BEAT = 100, LAG = 400 };

struct clock {
    struct moon_overload overload;
    uint64_t now_ms;
};

static struct clock start(void)
{
    return (struct clock){.overload = {.threshold_ns = LAG * MS},
                          .now_ms = 1000};
}

/* The next beat comes so much too late; did it change anything? */
static bool beat_after(struct clock *clock, uint64_t late_ms, uint64_t slice_ms)
{
    clock->now_ms += BEAT + late_ms;
    const struct moon_turn turn = {.lag_ns = late_ms * MS,
                                   .slice_ns = slice_ms * MS,
                                   .due_ns = (clock->now_ms + BEAT) * MS};
    return moon_overload_beat(&clock->overload, &turn);
}

static bool beat(struct clock *clock, uint64_t late_ms)
{
    return beat_after(clock, late_ms, 0);
}

static void takes_two_late_beats(void **state)
{
    (void)state;
    struct clock clock = start();
    assert_false(beat(&clock, 0));
    assert_false(beat(&clock, 5000));
    assert_false(clock.overload.on);
    assert_false(beat(&clock, 0));
    assert_false(beat(&clock, LAG));
    assert_false(beat(&clock, LAG - 1));
    assert_false(beat(&clock, LAG));
    assert_true(beat(&clock, LAG));
    assert_true(clock.overload.on);
    assert_false(beat(&clock, LAG));
}

static void takes_more_than_one_slow_slice(void **state)
{
    (void)state;
    struct clock clock = start();
    for (int i = 0; i < 10; i++)
        assert_false(beat_after(&clock, 3 * LAG, 2 * LAG + 1));
    assert_false(beat_after(&clock, 3 * LAG, 2 * LAG));
    assert_true(beat_after(&clock, 3 * LAG, 2 * LAG));
}

/* What is run until half the threshold is used up may be one slice. */
static void goes_on_while_slices_fill_the_turn(void **state)
{
    (void)state;
    struct clock clock = start();
    (void)beat(&clock, LAG);
    assert_true(beat(&clock, LAG));
    for (int i = 0; i < 100; i++)
        assert_false(beat_after(&clock, LAG / 2, LAG / 2));
    assert_true(clock.overload.on);
}

static void ends_after_a_second_in_time(void **state)
{
    (void)state;
    struct clock clock = start();
    (void)beat(&clock, LAG);
    assert_true(beat(&clock, LAG));
    for (int i = 0; i < 9; i++)
        assert_false(beat(&clock, LAG / 4 - 1));
    assert_false(beat(&clock, LAG / 4)); /* begins anew */
    for (int i = 0; i < 9; i++)
        assert_false(beat(&clock, 0));
    assert_true(beat(&clock, 0));
    assert_false(clock.overload.on);
}

static void refuses_in_the_second_half_of_a_turn(void **state)
{
    (void)state;
    struct clock clock = start();
    (void)beat(&clock, LAG);
    (void)beat(&clock, LAG);
    uint64_t due = (clock.now_ms + BEAT) * MS;
    assert_false(moon_overload_refuses(&clock.overload, clock.now_ms * MS));
    assert_false(moon_overload_refuses(&clock.overload, due + LAG / 2 * MS));
    assert_true(moon_overload_refuses(&clock.overload, due + LAG / 2 * MS + 1));
}

static void can_be_off(void **state)
{
    (void)state;
    struct clock clock = start();
    (void)beat(&clock, LAG);
    assert_true(beat(&clock, LAG));
    clock.overload.threshold_ns = 0; /* another configuration */
    assert_true(beat(&clock, 5000));
    assert_false(clock.overload.on);
    assert_false(beat(&clock, 5000));
    assert_false(beat(&clock, 5000));
    assert_false(clock.overload.on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_two_late_beats),
        cmocka_unit_test(takes_more_than_one_slow_slice),
        cmocka_unit_test(goes_on_while_slices_fill_the_turn),
        cmocka_unit_test(ends_after_a_second_in_time),
        cmocka_unit_test(refuses_in_the_second_half_of_a_turn),
        cmocka_unit_test(can_be_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
