#include "node/recent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct moon_shm *make_shm(void)
{
    struct moon_shm *shm = NULL;
    int fd = -1;
    assert_int_equal(moon_shm_create(4, &shm, &fd), MOON_OK);
    return shm;
}

static void answer(struct moon_shm *shm, uint32_t slot, int bucket,
                   uint64_t count)
{
    moon_shm_add(&shm->slots[slot].counters[MOON_COUNTER_status_2xx], count);
    moon_shm_add(&shm->slots[slot].took[bucket], count);
}

static void test_nothing_yet(void **state)
{
    (void)state;
    struct moon_shm *shm = make_shm();
    struct moon_recent recent = {0};
    struct moon_recent_rates r;
    moon_recent_get(&recent, shm, 5000, &r);
    assert_true(r.seconds == 0 && r.requests_per_s == 0 && r.p99_s == 0);
    moon_recent_tick(&recent, shm, 5000);
    moon_recent_get(&recent, shm, 5000, &r);
    assert_true(r.seconds == 0);
    moon_recent_get(&recent, shm, 6000, &r);
    assert_true(r.seconds == 1 && r.requests_per_s == 0 && r.p50_s == 0);
    moon_shm_close(shm);
}

static void test_rates_are_those_of_all_workers(void **state)
{
    (void)state;
    struct moon_shm *shm = make_shm();
    struct moon_recent recent = {0};
    struct moon_recent_rates r;
    answer(shm, 0, 0, 1000); /* before: does not count */
    moon_recent_tick(&recent, shm, 1000);
    answer(shm, 0, 3, 60);
    answer(shm, 3, 3, 40);
    moon_shm_add(&shm->slots[1].counters[MOON_COUNTER_status_5xx], 10);
    moon_recent_get(&recent, shm, 3000, &r);
    assert_true(r.seconds == 2 && r.requests_per_s == 55);
    assert_true(r.errors_per_s == 5);
    moon_shm_close(shm);
}

static void test_quantiles_lie_in_their_buckets(void **state)
{
    (void)state;
    struct moon_shm *shm = make_shm();
    struct moon_recent recent = {0};
    struct moon_recent_rates r;
    moon_recent_tick(&recent, shm, 1000);
    answer(shm, 0, 3, 50); /* up to 1 ms */
    answer(shm, 1, 9, 50); /* up to 100 ms */
    moon_recent_get(&recent, shm, 2000, &r);
    assert_true(r.p50_s == 0.001);
    assert_true(r.p99_s > 0.098 && r.p99_s <= 0.1);
    answer(shm, 0, MOON_TOOK_BOUNDS, 1000); /* above the last bound */
    moon_recent_get(&recent, shm, 2000, &r);
    assert_true(r.p50_s == 10 && r.p99_s == 10);
    moon_shm_close(shm);
}

/* After the window is over, what happened before it is forgotten. */
static void test_the_window_moves(void **state)
{
    (void)state;
    struct moon_shm *shm = make_shm();
    struct moon_recent recent = {0};
    struct moon_recent_rates r;
    for (uint64_t ms = 0; ms <= 60000; ms += 100) {
        moon_recent_tick(&recent, shm, ms);
        if (ms == 30000)
            answer(shm, 0, 0, 100);
        if (ms == 35000) {
            moon_recent_get(&recent, shm, ms, &r);
            assert_true(r.seconds == MOON_RECENT_SECONDS);
            assert_true(r.requests_per_s == 10);
        }
    }
    moon_recent_get(&recent, shm, 60000, &r);
    assert_true(r.seconds == MOON_RECENT_SECONDS && r.requests_per_s == 0);
    moon_shm_close(shm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_yet),
        cmocka_unit_test(test_rates_are_those_of_all_workers),
        cmocka_unit_test(test_quantiles_lie_in_their_buckets),
        cmocka_unit_test(test_the_window_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
