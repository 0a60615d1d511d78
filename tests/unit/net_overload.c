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
static bool beat(struct clock *clock, uint64_t late_ms)
{
    clock->now_ms += BEAT + late_ms;
    return moon_overload_beat(&clock->overload, late_ms * MS,
                              (clock->now_ms + BEAT) * MS);
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
        cmocka_unit_test(ends_after_a_second_in_time),
        cmocka_unit_test(refuses_in_the_second_half_of_a_turn),
        cmocka_unit_test(can_be_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
