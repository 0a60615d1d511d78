/* Rate limits against an exact reference, over random arrivals on a simulated
 * clock. The references keep what the definitions say, at any price: a bucket
 * with a rational level, a log of every request of a window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/rate.h"

#include <math.h>

#define SECOND 1000000000ull
#define START (1000 * SECOND)

static uint64_t seed = 88172645463325252ull;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static struct moon_rate make(enum moon_rate_kind kind, uint32_t rate,
                             uint64_t period, uint32_t burst)
{
    struct moon_rate out;
    assert_true(moon_rate_make(kind, rate, period, burst, &out));
    return out;
}

/* Takes if it may. */
static struct moon_rate_result take(const struct moon_rate *rate,
                                    struct moon_rate_state *state, uint64_t now,
                                    uint32_t cost)
{
    struct moon_rate_result result;
    struct moon_rate_state next;
    moon_rate_check(rate, state, now, cost, &next, &result);
    if (result.allowed)
        *state = next;
    return result;
}

/* ---- the token bucket: a level that refills ---- */

static void token_bucket_is_a_bucket(void **state)
{
    (void)state;
    static const struct {
        uint32_t rate, burst;
        uint64_t period;
    } samples[] = {{5, 10, SECOND},          {1, 1, SECOND},
                   {1000, 50, SECOND},       {7, 3, 3 * SECOND},
                   {100, 1000, 60 * SECOND}, {3, 2, 7}};
    for (size_t i = 0; i + 1 < MOON_COUNT(samples); i++) {
        struct moon_rate rate = make(MOON_RATE_TOKEN_BUCKET, samples[i].rate,
                                     samples[i].period, samples[i].burst);
        struct moon_rate_state kept = {0};
        uint64_t now = START, spent = 0;
        /* The level in units of 1/interval token, so that it is exact. */
        uint64_t full = samples[i].burst * rate.interval_ns, level = full;
        for (int n = 0; n < 20000; n++) {
            uint64_t gap = random64() % (3 * rate.interval_ns);
            if (n % 1000 == 0)
                gap = random64() % (2 * full + 1);
            uint32_t cost = n % 7 == 0 ? 1 + (uint32_t)(random64() % 3) : 1;
            now += gap;
            level = full - level > gap ? level + gap : full;
            bool fits = cost * rate.interval_ns <= level;
            struct moon_rate_result got = take(&rate, &kept, now, cost);
            assert_int_equal(got.allowed, fits);
            assert_int_equal(got.delay_ns, 0);
            if (fits)
                level -= cost * rate.interval_ns;
            spent += fits ? cost : 0;
            assert_int_equal(got.remaining, level / rate.interval_ns);
            assert_int_equal(got.reset_ns, full - level);
            if (!fits && cost <= samples[i].burst) {
                /* Not a nanosecond too early, nor too late. */
                struct moon_rate_state copy = kept;
                assert_false(
                    take(&rate, &copy, now + got.retry_ns - 1, cost).allowed);
                assert_true(
                    take(&rate, &copy, now + got.retry_ns, cost).allowed);
            }
        }
        double bound = samples[i].burst + (double)(now - START) /
                                              (double)samples[i].period *
                                              samples[i].rate;
        assert_true((double)spent <= bound);
    }
}

/* ---- the leaky bucket: a queue with one server ---- */

static void leaky_bucket_is_a_queue(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_LEAKY_BUCKET, 10, SECOND, 5);
    struct moon_rate_state kept = {0};
    uint64_t now = START, next_departure = 0, last = 0;
    for (int n = 0; n < 20000; n++) {
        now += random64() % (2 * rate.interval_ns);
        uint64_t departure = next_departure > now ? next_departure : now;
        /* Those that wait before it: at most the queue. */
        bool fits = departure - now <= 5 * rate.interval_ns;
        struct moon_rate_result got = take(&rate, &kept, now, 1);
        assert_int_equal(got.allowed, fits);
        if (!fits)
            continue;
        assert_int_equal(now + got.delay_ns, departure);
        assert_true(last == 0 || departure - last >= rate.interval_ns);
        last = departure;
        next_departure = departure + rate.interval_ns;
    }
    struct moon_rate strict = make(MOON_RATE_LEAKY_BUCKET, 10, SECOND, 0);
    kept = (struct moon_rate_state){0};
    assert_true(take(&strict, &kept, START, 1).allowed);
    assert_false(take(&strict, &kept, START + SECOND / 10 - 1, 1).allowed);
    assert_true(take(&strict, &kept, START + SECOND / 10, 1).allowed);
}

/* ---- the sliding window ---- */

static void window_weighs_two_counts(void **state)
{
    (void)state;
    enum { QUOTA = 20, MAX = 20000 };
    static uint64_t passed[MAX];
    const uint64_t window = 10 * SECOND;
    struct moon_rate rate = make(MOON_RATE_SLIDING_WINDOW, QUOTA, window, 0);
    struct moon_rate_state kept = {0};
    uint64_t now = START + 1;
    size_t count = 0;
    for (int n = 0; n < 15000; n++) {
        now += n % 500 == 0 ? random64() % (3 * window) : random64() % SECOND;
        uint64_t begin = now - now % window;
        double before = 0, current = 0;
        for (size_t i = count; i-- > 0 && passed[i] + 2 * window > now;) {
            current += passed[i] >= begin;
            before += passed[i] < begin && passed[i] >= begin - window;
        }
        double left = (double)(begin + window - now) / (double)window;
        bool fits = current + ceil(before * left - 1e-9) + 1 <= QUOTA;
        struct moon_rate_result got = take(&rate, &kept, now, 1);
        assert_int_equal(got.allowed, fits);
        if (fits && count < MAX)
            passed[count++] = now;
        if (!fits) {
            struct moon_rate_state copy = kept;
            assert_true(take(&rate, &copy, now + got.retry_ns, 1).allowed);
            if (got.retry_ns > 1000)
                assert_false(
                    take(&rate, &kept, now + got.retry_ns - 1000, 1).allowed);
        }
        struct moon_rate_state copy = kept;
        got = take(&rate, &copy, now + got.reset_ns, 1);
        assert_true(got.allowed && got.remaining == QUOTA - 1);
    }
    /* Never more than two windows' worth may lie in any window's length. */
    for (size_t i = 0; i + 2 * QUOTA < count; i++)
        assert_true(passed[i + 2 * QUOTA] - passed[i] >= window);
}

/* ---- edges ---- */

static void looking_takes_nothing(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_TOKEN_BUCKET, 1, SECOND, 3);
    struct moon_rate_state kept = {0};
    for (int i = 0; i < 5; i++)
        assert_int_equal(take(&rate, &kept, START, 0).remaining, 3);
    assert_int_equal(take(&rate, &kept, START, 2).remaining, 1);
    assert_false(take(&rate, &kept, START, 4).allowed);
    assert_int_equal(take(&rate, &kept, START, 4).retry_ns,
                     MOON_RATE_PERIOD_MAX_NS);
}

static void a_changed_or_torn_state_is_bounded(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_TOKEN_BUCKET, 10, SECOND, 10);
    struct moon_rate_state torn = {.at_ns = UINT64_MAX};
    struct moon_rate_result got = take(&rate, &torn, START, 1);
    assert_false(got.allowed);
    assert_int_equal(got.retry_ns, SECOND / 10);
    rate = make(MOON_RATE_SLIDING_WINDOW, 10, SECOND, 0);
    torn = (struct moon_rate_state){
        .at_ns = START, .now_count = UINT32_MAX, .before_count = UINT32_MAX};
    got = take(&rate, &torn, START + 1, 1);
    assert_false(got.allowed);
    assert_true(got.retry_ns <= 2 * SECOND);
}

/* What was refused elsewhere leaves no trace: as if it had never come. */
static void undoing_leaves_no_trace(void **state)
{
    (void)state;
    static const enum moon_rate_kind kinds[] = {MOON_RATE_TOKEN_BUCKET,
                                                MOON_RATE_LEAKY_BUCKET,
                                                MOON_RATE_SLIDING_WINDOW};
    for (size_t k = 0; k < MOON_COUNT(kinds); k++) {
        struct moon_rate rate =
            make(kinds[k], 20, SECOND,
                 kinds[k] == MOON_RATE_SLIDING_WINDOW ? 0 : 10);
        struct moon_rate_state kept = {0}, plain = {0}, back;
        uint64_t now = START;
        for (int n = 0; n < 20000; n++) {
            now += random64() % (SECOND / 10);
            uint32_t cost = 1 + (uint32_t)(random64() % 3);
            if (n % 3 == 0 && take(&rate, &kept, now, cost).allowed) {
                moon_rate_undo(&rate, &kept, now, cost, &back);
                kept = back;
            }
            struct moon_rate_result a = take(&rate, &kept, now, 1);
            struct moon_rate_result b = take(&rate, &plain, now, 1);
            assert_int_equal(a.allowed, b.allowed);
            assert_int_equal(a.remaining, b.remaining);
            assert_int_equal(a.delay_ns, b.delay_ns);
        }
    }
    /* Late, in the next window: it counts no more for that one's weight. */
    struct moon_rate window = make(MOON_RATE_SLIDING_WINDOW, 10, SECOND, 0);
    struct moon_rate_state kept = {0}, back;
    assert_true(take(&window, &kept, START, 10).allowed);
    moon_rate_undo(&window, &kept, START + SECOND, 10, &back);
    assert_int_equal(take(&window, &back, START + SECOND, 0).remaining, 10);
    /* More than there is: nothing is owed. */
    struct moon_rate bucket = make(MOON_RATE_TOKEN_BUCKET, 1, SECOND, 10);
    kept = (struct moon_rate_state){.at_ns = SECOND};
    moon_rate_undo(&bucket, &kept, START, 5, &back);
    assert_int_equal(back.at_ns, 0);
}

/* Nodes with a share each let through no more than the whole, nor much less,
 * and go on from what the whole remembers. */
static void shares_are_the_whole(void **state)
{
    (void)state;
    enum { NODES = 3 };
    static const enum moon_rate_kind kinds[] = {MOON_RATE_TOKEN_BUCKET,
                                                MOON_RATE_LEAKY_BUCKET,
                                                MOON_RATE_SLIDING_WINDOW};
    for (size_t k = 0; k < MOON_COUNT(kinds); k++) {
        uint32_t burst = kinds[k] == MOON_RATE_LEAKY_BUCKET ? 29 : 30;
        struct moon_rate whole = make(kinds[k], 30, SECOND, burst), share;
        struct moon_rate_state kept[NODES] = {{0}};
        uint64_t passed = 0;
        moon_rate_share(&whole, NODES, &share);
        assert_int_equal(share.quota, 10);
        for (uint64_t at = 0; at < 10 * SECOND; at += SECOND / 1000) {
            for (int i = 0; i < NODES; i++)
                passed += take(&share, &kept[i], START + at, 1).allowed;
        }
        assert_true(passed <= 30 + 10 * 30);
        assert_true(passed >= 9 * 30);
        /* A bucket that was full of use as a whole is so for its share. */
        struct moon_rate_state used = {0};
        while (take(&whole, &used, START, 1).allowed)
            continue;
        assert_false(take(&share, &used, START, 1).allowed);
    }
    struct moon_rate few = make(MOON_RATE_TOKEN_BUCKET, 2, SECOND, 2), one;
    moon_rate_share(&few, 5, &one);
    assert_int_equal(one.quota, 1);
    moon_rate_share(&few, 1, &one);
    assert_memory_equal(&one, &few, sizeof(one));
    struct moon_rate at_once = make(MOON_RATE_CONCURRENCY, 9, SECOND, 0);
    moon_rate_share(&at_once, 3, &one);
    assert_int_equal(one.quota, 3);
}

static void concurrency_is_a_count(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_CONCURRENCY, 3, 60 * SECOND, 0);
    struct moon_rate_result got;
    for (uint32_t used = 0; used < 6; used++) {
        moon_rate_check_concurrency(&rate, used, 1, &got);
        assert_int_equal(got.allowed, used < 3);
        assert_int_equal(got.remaining, used < 3 ? 2 - used : 0);
        assert_int_equal(got.retry_ns, used < 3 ? 0 : SECOND);
    }
    moon_rate_check_concurrency(&rate, 0, 4, &got);
    assert_false(got.allowed);
    assert_int_equal(got.retry_ns, MOON_RATE_PERIOD_MAX_NS);
}

static void makes_only_what_can_hold(void **state)
{
    (void)state;
    struct moon_rate out;
    enum moon_rate_kind bucket = MOON_RATE_TOKEN_BUCKET;
    assert_true(moon_rate_make(bucket, MOON_RATE_MAX, SECOND, 1, &out));
    assert_false(moon_rate_make(bucket, 2 * MOON_RATE_MAX, SECOND, 1, &out));
    assert_false(moon_rate_make(bucket, 0, SECOND, 1, &out));
    assert_false(moon_rate_make(bucket, 1, 0, 1, &out));
    assert_false(moon_rate_make(bucket, 1, SECOND, 0, &out));
    assert_true(moon_rate_make(bucket, 1, 366 * 86400 * SECOND, 1, &out));
    assert_false(moon_rate_make(bucket, 1, 366 * 86400 * SECOND, 2, &out));
    assert_true(moon_rate_make(MOON_RATE_LEAKY_BUCKET, 1, SECOND, 0, &out));
    assert_int_equal(out.quota, 1);
    /* Three a second are not a third of a nanosecond too fast. */
    assert_true(moon_rate_make(bucket, 3, SECOND, 1, &out));
    assert_int_equal(out.interval_ns, 333333334);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token_bucket_is_a_bucket),
        cmocka_unit_test(leaky_bucket_is_a_queue),
        cmocka_unit_test(window_weighs_two_counts),
        cmocka_unit_test(looking_takes_nothing),
        cmocka_unit_test(a_changed_or_torn_state_is_bounded),
        cmocka_unit_test(undoing_leaves_no_trace),
        cmocka_unit_test(shares_are_the_whole),
        cmocka_unit_test(concurrency_is_a_count),
        cmocka_unit_test(makes_only_what_can_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
