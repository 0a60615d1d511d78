#include "node/trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { WINDOW = 30000 };

static struct moon_trial trial;
static struct moon_trial_counts counts;
static uint64_t now;

static int begin(void **state)
{
    (void)state;
    trial = (struct moon_trial){0};
    counts = (struct moon_trial_counts){0};
    now = 1000000;
    return 0;
}

/* So many requests within a second. */
static void pass(uint64_t requests, uint64_t failures)
{
    now += 1000;
    counts.requests += requests;
    counts.failures += failures;
    moon_trial_note(&trial, now, WINDOW, counts);
}

static void reload(void)
{
    moon_trial_begin(&trial, now, WINDOW, 0.05, counts);
}

static enum moon_verdict judge(struct moon_buf *text)
{
    text->len = 0;
    return moon_trial_judge(&trial, now, counts, text);
}

static void assert_text(const struct moon_buf *text, const char *wantedz)
{
    assert_int_equal(text->len, strlen(wantedz));
    assert_memory_equal(text->ptr, wantedz, text->len);
}

static void no_trial_no_verdict(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    pass(100, 100);
    assert_int_equal(judge(&text), MOON_VERDICT_NONE);
    assert_int_equal(text.len, 0);
}

static void good_code_passes_when_time_is_up(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    for (int i = 0; i < 100; i++)
        pass(100, 0);
    reload();
    for (int i = 0; i < 29; i++) {
        pass(100, 1);
        assert_int_equal(judge(&text), MOON_VERDICT_OPEN);
    }
    pass(100, 1);
    assert_int_equal(judge(&text), MOON_VERDICT_GOOD);
    assert_text(&text,
                "30 of 3000 requests failed in 30.0 s (1.0 %, before 0.0 %)");
    assert_int_equal(judge(&text), MOON_VERDICT_NONE);
    moon_buf_deinit(&text);
}

static void bad_code_is_seen_at_once(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    pass(1000, 1);
    reload();
    pass(4, 4); /* too few to tell */
    assert_int_equal(judge(&text), MOON_VERDICT_OPEN);
    pass(6, 1);
    assert_int_equal(judge(&text), MOON_VERDICT_BAD);
    assert_text(&text,
                "5 of 10 requests failed in 2.0 s (50.0 %, before 0.1 %)");
    assert_int_equal(judge(&text), MOON_VERDICT_NONE);
    moon_buf_deinit(&text);
}

static void what_failed_before_is_not_its_fault(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    for (int i = 0; i < 100; i++)
        pass(100, 40);
    reload();
    for (int i = 0; i < 29; i++) {
        pass(100, 50);
        assert_int_equal(judge(&text), MOON_VERDICT_OPEN);
    }
    pass(0, 0);
    assert_int_equal(judge(&text), MOON_VERDICT_GOOD);
    moon_buf_deinit(&text);
}

static void few_failures_before_excuse_nothing(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    pass(3, 3);
    reload();
    pass(10, 10);
    assert_int_equal(judge(&text), MOON_VERDICT_BAD);
    moon_buf_deinit(&text);
}

/* Trouble of long ago does not excuse it. */
static void only_the_last_windows_count(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    for (int i = 0; i < 100; i++)
        pass(100, 100);
    for (int i = 0; i < 100; i++)
        pass(100, 0);
    reload();
    pass(100, 20);
    assert_int_equal(judge(&text), MOON_VERDICT_BAD);
    moon_buf_deinit(&text);
}

static void without_requests_it_passes(void **state)
{
    (void)state;
    struct moon_buf text = {0};
    reload();
    now += WINDOW;
    assert_int_equal(judge(&text), MOON_VERDICT_GOOD);
    assert_text(&text,
                "0 of 0 requests failed in 30.0 s (0.0 %, before 0.0 %)");
    moon_buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(no_trial_no_verdict, begin),
        cmocka_unit_test_setup(good_code_passes_when_time_is_up, begin),
        cmocka_unit_test_setup(bad_code_is_seen_at_once, begin),
        cmocka_unit_test_setup(what_failed_before_is_not_its_fault, begin),
        cmocka_unit_test_setup(few_failures_before_excuse_nothing, begin),
        cmocka_unit_test_setup(only_the_last_windows_count, begin),
        cmocka_unit_test_setup(without_requests_it_passes, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
