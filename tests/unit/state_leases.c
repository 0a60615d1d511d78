/* Leases of concurrency: counted over processes, given back, ended by their
 * time, and by the death of their holder at any moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/leases.h"
#include "state/limits.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define START (1000 * SECOND)

enum { SLOTS = 3, KEYS = 1024 };

static struct moon_region *region;
static struct moon_limits *limits[SLOTS];

/* Handles of several workers in one process: each fills its own slot. */
static int open_all(void **state)
{
    (void)state;
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    for (uint32_t i = 0; i < SLOTS; i++) {
        limits[i] = moon_limits_open(region, KEYS, SLOTS, i);
        assert_non_null(limits[i]);
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < SLOTS; i++)
        moon_limits_close(limits[i]);
    moon_region_close(region);
    return 0;
}

static struct moon_rate at_once(uint32_t max, uint64_t lease_ns)
{
    struct moon_rate rate;
    assert_true(moon_rate_make(MOON_RATE_CONCURRENCY, max, lease_ns, 0, &rate));
    return rate;
}

static struct moon_limit_claim claim(const struct moon_rate *rate,
                                     const char *keyz)
{
    return (struct moon_limit_claim){
        .rate = rate,
        .key = moon_limits_key(limits[0], 1, moon_strz(keyz)),
        .cost = 1,
    };
}

/* The lease, or 0 if it was refused. */
static uint32_t take(int worker, const struct moon_limit_claim *one,
                     uint64_t now)
{
    struct moon_rate_result result;
    uint32_t which;
    bool allowed =
        moon_limits_take(limits[worker], one, 1, now, &result, &which);
    assert_int_equal(allowed, result.lease != 0);
    return result.lease;
}

static void as_many_as_may_be_and_no_more(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(3, 60 * SECOND);
    struct moon_limit_claim a = claim(&rate, "a"), b = claim(&rate, "b");
    uint32_t first = take(0, &a, START), second = take(1, &a, START);
    assert_true(first > 0 && second > 0);
    assert_true(take(2, &a, START) > 0);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(take(i, &a, START), 0);
    assert_true(take(0, &b, START) > 0); /* keys are apart */
    moon_limits_give(limits[1], a.key, second);
    assert_true(take(0, &a, START) > 0);
    assert_int_equal(take(1, &a, START), 0);
    moon_limits_give(limits[0], a.key, first);
    moon_limits_give(limits[0], a.key, first); /* twice is harmless */
    assert_true(take(2, &a, START) > 0);
    assert_int_equal(take(2, &a, START), 0);
    moon_limits_reset(limits[0], &a);
    assert_true(take(2, &a, START) > 0);
}

static void what_a_refusal_says(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(2, 60 * SECOND);
    struct moon_limit_claim a = claim(&rate, "a");
    struct moon_rate_result result;
    uint32_t which;
    for (uint32_t left = 2; left-- > 0;) {
        assert_true(moon_limits_take(limits[0], &a, 1, START, &result, &which));
        assert_int_equal(result.remaining, left);
    }
    assert_false(moon_limits_take(limits[0], &a, 1, START, &result, &which));
    assert_int_equal(result.retry_ns, SECOND);
    moon_limits_peek(limits[1], &a, START, &result);
    assert_false(result.allowed);
}

static void a_lease_ends_at_its_time(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(2, 10 * SECOND);
    struct moon_limit_claim a = claim(&rate, "a");
    uint32_t late = take(0, &a, START);
    assert_true(take(1, &a, START + 5 * SECOND) > 0);
    assert_int_equal(take(1, &a, START + 10 * SECOND - 1), 0);
    assert_true(take(1, &a, START + 10 * SECOND) > 0);
    assert_int_equal(take(1, &a, START + 10 * SECOND), 0);
    /* Its holder comes to its end after all: that frees nobody else's. */
    moon_limits_give(limits[0], a.key, late);
    assert_int_equal(take(0, &a, START + 10 * SECOND), 0);
}

static void several_limits_are_taken_together(void **state)
{
    (void)state;
    struct moon_rate wide = at_once(100, 60 * SECOND), tight;
    assert_true(moon_rate_make(MOON_RATE_TOKEN_BUCKET, 1, SECOND, 1, &tight));
    struct moon_limit_claim claims[] = {claim(&wide, "wide"),
                                        claim(&tight, "tight")};
    struct moon_rate_result results[2], result;
    uint32_t which;
    assert_true(moon_limits_take(limits[0], claims, 2, START, results, &which));
    assert_false(
        moon_limits_take(limits[0], claims, 2, START, results, &which));
    assert_int_equal(which, 1);
    assert_int_equal(results[0].lease, 0);
    moon_limits_peek(limits[0], &claims[0], START, &result);
    assert_int_equal(result.remaining, 99);
}

/* What the master does when a worker is gone, and what the next one in the same
 * place does. */
static void the_dead_hold_nothing(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(4, 600 * SECOND);
    struct moon_limit_claim a = claim(&rate, "a");
    assert_true(take(0, &a, START) > 0);
    for (int i = 0; i < 3; i++)
        assert_true(take(1, &a, START) > 0);
    assert_int_equal(take(2, &a, START), 0);
    moon_leases_end_worker(region, SLOTS, 1);
    for (int i = 0; i < 3; i++)
        assert_true(take(2, &a, START) > 0);
    assert_int_equal(take(2, &a, START), 0);
    moon_limits_close(limits[2]);
    limits[2] = moon_limits_open(region, KEYS, SLOTS, 2);
    assert_non_null(limits[2]);
    for (int i = 0; i < 3; i++)
        assert_true(take(2, &a, START) > 0);
    assert_int_equal(take(2, &a, START), 0);
}

/* Killed in the middle of taking and giving back, a worker takes none of it
 * with it, and blocks nobody. */
static void killed_at_any_moment(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(8, 600 * SECOND);
    struct moon_limit_claim a = claim(&rate, "a");
    uint32_t kept = take(0, &a, START);
    assert_true(kept > 0);
    for (int round = 0; round < 100; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct moon_limits *mine = moon_limits_open(region, KEYS, SLOTS, 1);
            struct moon_rate_result results[5];
            uint32_t which;
            while (mine != NULL) {
                for (int i = 0; i < 5; i++)
                    (void)moon_limits_take(mine, &a, 1, START, &results[i],
                                           &which);
                for (int i = 0; i < 4; i++)
                    moon_limits_give(mine, a.key, results[i].lease);
                moon_limits_give(mine, a.key, results[4].lease);
            }
            _exit(1);
        }
        assert_true(pid > 0);
        (void)usleep(500 + (useconds_t)round * 20);
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        moon_leases_end_worker(region, SLOTS, 1);
        uint32_t leases[7];
        for (int i = 0; i < 7; i++)
            assert_true((leases[i] = take(2, &a, START)) > 0);
        assert_int_equal(take(2, &a, START), 0);
        for (int i = 0; i < 7; i++)
            moon_limits_give(limits[2], a.key, leases[i]);
    }
}

/* A worker has so many leases; what comes then is not counted, and not
 * refused. */
static void more_than_a_worker_can_hold(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(100000, 600 * SECOND);
    struct moon_limit_claim a = claim(&rate, "a");
    struct moon_rate_result result;
    uint32_t which;
    for (int i = 0; i < MOON_LEASES_MAX; i++)
        assert_true(take(0, &a, START) > 0);
    assert_int_equal(moon_limits_lost(limits[0]), 0);
    assert_true(moon_limits_take(limits[0], &a, 1, START, &result, &which));
    assert_int_equal(result.lease, 0);
    assert_int_equal(moon_limits_lost(limits[0]), 1);
    moon_limits_peek(limits[1], &a, START, &result);
    assert_int_equal(result.remaining, 100000 - MOON_LEASES_MAX);
}

/* Random takes and gives of all workers against a plain count. */
static void agrees_with_a_plain_count(void **state)
{
    (void)state;
    struct moon_rate rate = at_once(20, 600 * SECOND);
    struct held {
        int worker;
        uint32_t lease;
    } held[20];
    uint32_t count = 0;
    uint64_t seed = 88172645463325252ull;
    struct moon_limit_claim a = claim(&rate, "a");
    for (int n = 0; n < 100000; n++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        int worker = (int)(seed % SLOTS);
        if (seed >> 32 & 1) {
            uint32_t lease = take(worker, &a, START);
            assert_int_equal(lease != 0, count < 20);
            if (lease != 0)
                held[count++] = (struct held){worker, lease};
        } else if (count > 0) {
            uint32_t at = (uint32_t)(seed >> 40) % count;
            moon_limits_give(limits[held[at].worker], a.key, held[at].lease);
            held[at] = held[--count];
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(as_many_as_may_be_and_no_more), T(what_a_refusal_says),
        T(a_lease_ends_at_its_time),      T(several_limits_are_taken_together),
        T(the_dead_hold_nothing),         T(killed_at_any_moment),
        T(more_than_a_worker_can_hold),   T(agrees_with_a_plain_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
