/* The shared tables: several limits at once, many keys in few slots, many
 * processes on one key, and a process that dies in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/limits.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define START (1000 * SECOND)

static struct moon_region *region;
static struct moon_limits *limits;

static struct moon_rate make(enum moon_rate_kind kind, uint32_t rate,
                             uint64_t period, uint32_t burst)
{
    struct moon_rate out;
    assert_true(moon_rate_make(kind, rate, period, burst, &out));
    return out;
}

static int open_small(void **state)
{
    (void)state;
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    limits = moon_limits_open(region, 1024, 2, 0);
    assert_non_null(limits);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    moon_limits_close(limits);
    moon_region_close(region);
    return 0;
}

static struct moon_limit_claim claim(const struct moon_rate *rate,
                                     const char *namez, const char *keyz)
{
    uint64_t salt = moon_limits_salt(limits, moon_strz(namez));
    return (struct moon_limit_claim){
        .rate = rate,
        .key = moon_limits_key(limits, salt, moon_strz(keyz)),
        .cost = 1,
    };
}

static bool take1(const struct moon_limit_claim *one, uint64_t now)
{
    struct moon_rate_result result;
    uint32_t which;
    return moon_limits_take(limits, one, 1, now, &result, &which);
}

static void keys_and_names_are_apart(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_TOKEN_BUCKET, 1, SECOND, 1);
    struct moon_limit_claim a = claim(&rate, "one", "a");
    struct moon_limit_claim b = claim(&rate, "one", "b");
    struct moon_limit_claim other = claim(&rate, "two", "a");
    assert_true(take1(&a, START));
    assert_false(take1(&a, START));
    assert_true(take1(&b, START));
    assert_true(take1(&other, START));
    moon_limits_reset(limits, &a);
    assert_true(take1(&a, START));
    /* Another handle, as another worker has one. */
    struct moon_limits *again = moon_limits_open(region, 1024, 2, 0);
    uint64_t salt = moon_limits_salt(again, MOON_STR("one"));
    assert_int_equal(moon_limits_key(again, salt, MOON_STR("a")), a.key);
    moon_limits_close(again);
}

static void several_are_taken_together_or_not_at_all(void **state)
{
    (void)state;
    struct moon_rate wide = make(MOON_RATE_TOKEN_BUCKET, 100, SECOND, 100);
    struct moon_rate tight = make(MOON_RATE_SLIDING_WINDOW, 3, SECOND, 0);
    struct moon_limit_claim claims[] = {claim(&wide, "wide", "k"),
                                        claim(&tight, "tight", "k")};
    struct moon_rate_result results[2];
    uint32_t which;
    for (int i = 0; i < 3; i++) {
        assert_true(
            moon_limits_take(limits, claims, 2, START, results, &which));
        assert_int_equal(which, 1);
        assert_int_equal(results[1].remaining, 2 - i);
    }
    for (int i = 0; i < 5; i++) {
        assert_false(
            moon_limits_take(limits, claims, 2, START, results, &which));
        assert_int_equal(which, 1);
        assert_true(results[0].allowed);
    }
    /* The refused ones took nothing of the wide one. */
    struct moon_rate_result result;
    moon_limits_peek(limits, &claims[0], START, &result);
    assert_int_equal(result.remaining, 97);
    moon_limits_peek(limits, &claims[1], START, &result);
    assert_false(result.allowed);
    assert_true(result.retry_ns > 0);
}

/* Ten times more keys than there are slots: who keeps within the limit is
 * never refused, and it is counted when somebody could have had too much. */
static void compliant_keys_are_never_refused(void **state)
{
    (void)state;
    struct moon_rate bucket = make(MOON_RATE_TOKEN_BUCKET, 1, SECOND, 2);
    struct moon_rate window = make(MOON_RATE_SLIDING_WINDOW, 2, SECOND, 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 10240; i++) {
            char key[32];
            (void)snprintf(key, sizeof(key), "key %d", i);
            struct moon_limit_claim a = claim(&bucket, "bucket", key);
            struct moon_limit_claim b = claim(&window, "window", key);
            uint64_t now =
                START + (uint64_t)round * 2 * SECOND + (uint64_t)i * 100000;
            assert_true(take1(&a, now));
            assert_true(take1(&b, now));
        }
    }
    assert_true(moon_limits_lost(limits) > 0);
}

static void an_idle_key_costs_nothing_to_forget(void **state)
{
    (void)state;
    struct moon_rate bucket = make(MOON_RATE_TOKEN_BUCKET, 1000, SECOND, 1);
    for (int i = 0; i < 10240; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "key %d", i);
        struct moon_limit_claim a = claim(&bucket, "bucket", key);
        assert_true(take1(&a, START + (unsigned)i * SECOND));
    }
    assert_int_equal(moon_limits_lost(limits), 0);
}

/* ---- processes ---- */

enum { PROCESSES = 4 };

/* On one key, at a clock that they turn together: never more than burst and
 * rate allow, and nothing lost. */
static void many_processes_share_one_limit(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_TOKEN_BUCKET, 20000, SECOND, 100);
    struct moon_limit_claim one = claim(&rate, "hot", "key");
    struct {
        _Atomic uint64_t now, passed;
    } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t pids[PROCESSES];
    atomic_store(&shared->now, START);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            uint64_t now;
            while ((now = atomic_fetch_add(&shared->now, 2000)) <
                   START + SECOND)
                atomic_fetch_add(&shared->passed, take1(&one, now));
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
    assert_true(atomic_load(&shared->passed) <= 100 + 20000);
    assert_true(atomic_load(&shared->passed) >= 20000);
    (void)munmap(shared, 4096);
}

/* Killed at any moment, also inside a lock, a process blocks nobody and leaves
 * nothing that refuses for ever. */
static void a_killed_process_blocks_nobody(void **state)
{
    (void)state;
    struct moon_rate rate = make(MOON_RATE_TOKEN_BUCKET, 1000000, SECOND, 10);
    struct moon_limit_claim claims[] = {
        claim(&rate, "a", "1"), claim(&rate, "b", "2"), claim(&rate, "c", "3")};
    for (int round = 0; round < 100; round++) {
        struct moon_rate_result results[3];
        uint32_t which;
        pid_t pid = fork();
        if (pid == 0) {
            for (;;)
                (void)moon_limits_take(limits, claims, 3, moon_limits_now_ns(),
                                       results, &which);
        }
        (void)usleep(500 + (useconds_t)round * 10);
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        uint64_t later = moon_limits_now_ns() + SECOND;
        assert_true(
            moon_limits_take(limits, claims, 3, later, results, &which));
        for (int i = 0; i < 3; i++)
            moon_limits_reset(limits, &claims[i]);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_small, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(keys_and_names_are_apart),
        T(several_are_taken_together_or_not_at_all),
        T(compliant_keys_are_never_refused),
        T(an_idle_key_costs_nothing_to_forget),
        T(many_processes_share_one_limit),
        T(a_killed_process_blocks_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
