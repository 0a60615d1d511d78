/* The wheel: never early, in order, lazily moved, and asleep when unused. */
#include "net/timer_wheel.h"

#include "base/compiler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { COUNT = 20 };

struct item {
    struct moon_timer timer;
    uint64_t due_ms, fired_ms;
};

struct world {
    uv_loop_t loop;
    struct moon_wheel wheel;
    struct item items[COUNT];
    int fired;
    struct moon_timer *remove; /* by the first callback */
    struct moon_timer *set;    /* again, by the first callback */
};

static void on_fire(struct moon_wheel *wheel, struct moon_timer *timer)
{
    struct world *w = wheel->ctx;
    struct item *item = MOON_CONTAINER(timer, struct item, timer);
    item->fired_ms = uv_now(&w->loop);
    w->fired++;
    if (w->remove != NULL)
        moon_timer_remove(w->remove);
    w->remove = NULL;
    if (w->set != NULL)
        moon_wheel_set(wheel, w->set, uv_now(&w->loop) + 10);
    w->set = NULL;
}

static int setup(void **state)
{
    static struct world w;
    w = (struct world){0};
    uv_loop_init(&w.loop);
    moon_wheel_init(&w.wheel, &w.loop, on_fire, &w);
    for (int i = 0; i < COUNT; i++)
        moon_timer_init(&w.items[i].timer, 0);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    moon_wheel_stop(&w->wheel);
    uv_close((uv_handle_t *)&w->wheel.timer, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    return uv_loop_close(&w->loop);
}

static void set(struct world *w, int i, uint64_t ms)
{
    w->items[i].due_ms = uv_now(&w->loop) + ms;
    moon_wheel_set(&w->wheel, &w->items[i].timer, w->items[i].due_ms);
}

static void test_fires_all_and_none_early(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < COUNT; i++)
        set(w, i, (uint64_t)(i * 37 % 200));
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->fired, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_true(w->items[i].fired_ms >= w->items[i].due_ms);
    /* Nothing is left, so nothing keeps the loop awake. */
    assert_int_equal(w->wheel.armed, MOON_TIMER_OFF);
}

static void test_cleared_does_not_fire(void **state)
{
    struct world *w = *state;
    set(w, 0, 10);
    set(w, 1, 20);
    moon_timer_clear(&w->items[0].timer);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->fired, 1);
    assert_int_equal(w->items[0].fired_ms, 0);
    assert_null(w->items[0].timer.link); /* dropped on the way */
}

static void test_later_deadline_moves(void **state)
{
    struct world *w = *state;
    set(w, 0, 1);
    set(w, 0, 200);
    set(w, 1, 1);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->fired, 2);
    assert_true(w->items[0].fired_ms >= w->items[0].due_ms);
}

static void test_earlier_deadline_counts(void **state)
{
    struct world *w = *state;
    set(w, 0, 3600 * 1000);
    set(w, 0, 1);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->fired, 1);
}

static void test_beyond_the_horizon(void **state)
{
    struct world *w = *state;
    /* The same slot, one turn of the wheel later. */
    uint64_t turn = (uint64_t)MOON_WHEEL_SLOTS * MOON_WHEEL_TICK_MS;
    set(w, 0, 70);
    set(w, 1, 70 + turn);
    while (w->fired == 0)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(w->fired, 1);
    assert_int_equal(w->items[1].fired_ms, 0);
    assert_non_null(w->items[1].timer.link);
    moon_timer_remove(&w->items[1].timer);
}

static void test_callbacks_may_remove_and_set(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++)
        set(w, i, 10); /* one slot; the last one set is looked at first */
    w->remove = &w->items[1].timer;
    w->set = &w->items[2].timer;
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->items[1].fired_ms, 0);
    assert_int_equal(w->fired, 3); /* 2 twice, 0 once */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_fires_all_and_none_early), T(test_cleared_does_not_fire),
        T(test_later_deadline_moves),     T(test_earlier_deadline_counts),
        T(test_beyond_the_horizon),       T(test_callbacks_may_remove_and_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
