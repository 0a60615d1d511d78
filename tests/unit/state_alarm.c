/* Several deadlines on one timer. */
#include "state/alarm.h"

#include "base/clock.h"
#include "base/compiler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PATIENCE_MS = 10000 };

struct bell {
    struct moon_alarm alarm;
    uint32_t rang, order;
    struct bell *clears;
    bool again; /* sets itself for "at once", the first time */
};

static uv_loop_t loop;
static uv_timer_t keep;
static struct moon_alarms alarms;
static uint32_t rings;

static void on_ring(struct moon_alarm *alarm)
{
    struct bell *bell = MOON_CONTAINER(alarm, struct bell, alarm);
    bell->rang++;
    bell->order = ++rings;
    assert_false(moon_alarm_is_set(alarm));
    if (bell->clears != NULL)
        moon_alarm_clear(&bell->clears->alarm);
    if (bell->again && bell->rang == 1)
        moon_alarm_set(&alarms, alarm, 0, on_ring);
}

static void on_keep(uv_timer_t *timer)
{
    (void)timer;
}

/* One turn of the loop, as where something always keeps it going. */
static void turn(void)
{
    (void)uv_timer_start(&keep, on_keep, PATIENCE_MS, 0);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    (void)uv_timer_stop(&keep);
}

static void await(const struct bell *bell, uint32_t times)
{
    uint64_t deadline = moon_clock_ms() + PATIENCE_MS;
    while (bell->rang < times && moon_clock_ms() < deadline)
        turn();
    assert_int_equal(bell->rang, times);
}

static void in_order(void **state)
{
    struct bell late = {0}, early = {0}, never = {0}, moved = {0};
    (void)state;
    rings = 0;
    moon_alarm_set(&alarms, &late.alarm, 30, on_ring);
    moon_alarm_set(&alarms, &never.alarm, 5, on_ring);
    moon_alarm_set(&alarms, &early.alarm, 10, on_ring);
    moon_alarm_set(&alarms, &moved.alarm, 1, on_ring);
    moon_alarm_set(&alarms, &moved.alarm, 20, on_ring);
    moon_alarm_clear(&never.alarm);
    moon_alarm_clear(&never.alarm);
    /* It alone keeps no loop alive. */
    assert_int_equal(uv_loop_alive(&loop), 0);
    await(&late, 1);
    assert_int_equal(never.rang, 0);
    assert_int_equal(early.order, 1);
    assert_int_equal(moved.order, 2);
    assert_int_equal(late.order, 3);
}

static void changed_by_one_another(void **state)
{
    struct bell victim = {0}, killer = {.clears = &victim};
    struct bell again = {.again = true};
    (void)state;
    moon_alarm_set(&alarms, &killer.alarm, 0, on_ring);
    moon_alarm_set(&alarms, &victim.alarm, 0, on_ring);
    await(&killer, 1);
    assert_int_equal(victim.rang, 0);
    /* "At once" is the next round, so that a round has an end. */
    moon_alarm_set(&alarms, &again.alarm, 0, on_ring);
    await(&again, 1);
    await(&again, 2);
}

static void for_ever(void **state)
{
    struct bell never = {0}, soon = {0};
    (void)state;
    moon_alarm_set(&alarms, &never.alarm, UINT64_MAX, on_ring);
    moon_alarm_set(&alarms, &soon.alarm, 1, on_ring);
    await(&soon, 1);
    assert_int_equal(never.rang, 0);
    moon_alarm_clear(&never.alarm);
}

static int set_up(void **state)
{
    (void)state;
    (void)uv_loop_init(&loop);
    (void)uv_timer_init(&loop, &keep);
    moon_alarms_init(&alarms, &loop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    uv_close((uv_handle_t *)&alarms.timer, NULL);
    uv_close((uv_handle_t *)&keep, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(changed_by_one_another),
        cmocka_unit_test(for_ever),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
