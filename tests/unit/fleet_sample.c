/* What a node's metrics say, and what the time between two of them was like. */
#include "fleet/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define REQUESTS "moonshine_route_requests_total"

static struct moon_sample sample(const char *textz)
{
    struct moon_sample out;
    moon_sample_read(&out, moon_strz(textz));
    return out;
}

static void reads_what_it_knows(void **state)
{
    (void)state;
    struct moon_sample s = sample(
        "# HELP moonshine_route_requests_total requests\n"
        "# TYPE moonshine_route_requests_total counter\n" REQUESTS
        "{route=\"/a}\\\"b\",method=\"GET\",status=\"200\"} 30\n" REQUESTS
        "{route=\"/a}\\\"b\",method=\"GET\",status=\"500\"} 8\n" REQUESTS
        "{route=\"/c\",method=\"GET\",status=\"503\"} 2\n" REQUESTS
        "{route=\"/c\",method=\"GET\",status=\"none\"} 2\n" REQUESTS
        "{route=\"health\",method=\"GET\",status=\"503\"} 7\n"
        "moonshine_generation 7\n"
        "moonshine_workers 4\n"
        "moonshine_connections 9\n"
        "other_requests_total 1000\n"
        "nonsense\n" REQUESTS "{route=\"open 5\n" REQUESTS " NaN\n" REQUESTS
        " -4\n");
    assert_int_equal(s.generation, 7);
    assert_int_equal(s.workers, 4);
    assert_int_equal(s.connections, 9);
    assert_int_equal(s.requests, 42);
    assert_int_equal(s.failures, 10);
    assert_true(fabs(moon_sample_failed(&s) - 10.0 / 42) < 1e-9);
    assert_true(moon_sample_quantile(&s, 0.5) < 0);
}

#define BUCKET "moonshine_route_duration_seconds_bucket"

static void tells_how_long_requests_took(void **state)
{
    (void)state;
    struct moon_sample s =
        sample(BUCKET "{route=\"/a\",le=\"NaN\"} 7\n" BUCKET
                      "{route=\"/a\",le=\"-1\"} 7\n" BUCKET
                      "{route=\"/a\",le=\"0.001\"} 50\n" BUCKET
                      "{route=\"/a\",le=\"0.01\"} 90\n" BUCKET
                      "{route=\"/a\",le=\"+Inf\"} 90\n" BUCKET
                      "{route=\"/b\",le=\"0.001\"} 0\n" BUCKET
                      "{route=\"/b\",le=\"0.01\"} 9\n" BUCKET
                      "{route=\"/b\",le=\"+Inf\"} 10\n");
    assert_int_equal(s.bucket_count, 3);
    assert_int_equal(s.counts[0], 50);
    assert_int_equal(s.counts[1], 99);
    assert_int_equal(s.counts[2], 100);
    assert_true(fabs(moon_sample_quantile(&s, 0.25) - 0.0005) < 1e-9);
    assert_true(fabs(moon_sample_quantile(&s, 0.5) - 0.001) < 1e-9);
    assert_true(fabs(moon_sample_quantile(&s, 0.99) - 0.01) < 1e-9);
    assert_true(fabs(moon_sample_quantile(&s, 1) - 0.01) < 1e-9);
}

static void counts_what_is_new(void **state)
{
    (void)state;
    struct moon_sample then =
        sample(REQUESTS " 100\n" BUCKET "{le=\"1\"} 60\n" BUCKET
                        "{le=\"+Inf\"} 100\n");
    struct moon_sample now =
        sample("moonshine_generation 3\n" REQUESTS " 130\n" BUCKET
               "{le=\"1\"} 90\n" BUCKET "{le=\"+Inf\"} 130\n");
    struct moon_sample between;
    moon_sample_since(&now, &then, &between);
    assert_int_equal(between.requests, 30);
    assert_int_equal(between.generation, 3);
    assert_int_equal(between.counts[0], 30);
    assert_int_equal(between.counts[1], 30);
    /* Restarted meanwhile. */
    now = sample(REQUESTS " 5\n");
    moon_sample_since(&now, &then, &between);
    assert_int_equal(between.requests, 5);
    assert_int_equal(between.bucket_count, 0);
}

static void adds_up_nodes(void **state)
{
    (void)state;
    struct moon_sample all = {0};
    struct moon_sample one = sample(
        REQUESTS " 3\n" BUCKET "{le=\"1\"} 2\n" BUCKET "{le=\"+Inf\"} 3\n");
    moon_sample_add(&all, &one);
    moon_sample_add(&all, &one);
    assert_int_equal(all.requests, 6);
    assert_int_equal(all.counts[0], 4);
    assert_int_equal(all.counts[1], 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_knows),
        cmocka_unit_test(tells_how_long_requests_took),
        cmocka_unit_test(counts_what_is_new),
        cmocka_unit_test(adds_up_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
