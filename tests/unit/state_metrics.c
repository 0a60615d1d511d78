/* Metrics in shared memory: what is printed, who is forgotten when, the bounds,
 * and what is left when somebody dies in the middle or writes nonsense. */
#include "state/metrics_internal.h"

#include "base/random.h"
#include "state/region.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

enum { SLOTS = 4, MAX_SERIES = 20 };

static struct moon_metrics *m;
static struct moon_buf out;
static struct moon_region *region;
static int fd = -1;

static int set_up(void **state)
{
    (void)state;
    return moon_region_create(&region, &fd) != MOON_OK ||
           moon_metrics_open(region, MOON_METRICS_APP, SLOTS, MAX_SERIES, &m) !=
               MOON_OK;
}

static int tear_down(void **state)
{
    (void)state;
    moon_metrics_close(m);
    moon_region_close(region);
    moon_buf_deinit(&out);
    return close(fd);
}

/* ---- shorthands ---- */

static const double bounds[] = {0.5, 1, 10};

static enum moon_err declare_in(uint32_t slot, uint64_t generation,
                                enum moon_metric_kind kind, const char *namez,
                                const char *labelsz, uint32_t *number)
{
    bool histogram = kind == MOON_METRIC_HISTOGRAM;
    struct moon_metric_info info = {
        .kind = kind,
        .name = moon_strz(namez),
        .help = MOON_STR("Some help"),
        .labels = moon_strz(labelsz),
        .buckets = histogram ? bounds : NULL,
        .bucket_count = histogram ? MOON_COUNT(bounds) : 0,
    };
    return moon_metrics_declare(m, slot, generation, &info, number);
}

static uint32_t declare(enum moon_metric_kind kind, const char *namez,
                        const char *labelsz)
{
    uint32_t number;
    assert_int_equal(declare_in(0, 1, kind, namez, labelsz, &number), MOON_OK);
    return number;
}

/* Cell of one label value. */
static bool find(uint32_t number, const char *valuez, uint32_t *cell)
{
    struct moon_str value = moon_strz(valuez);
    return moon_metrics_find(m, number, &value, 1, cell);
}

static void add(uint32_t slot, uint32_t number, const char *valuez, double n)
{
    uint32_t cell;
    assert_true(find(number, valuez, &cell));
    moon_metrics_cells(m, slot)[cell] += n;
}

static const char *print(void)
{
    out.len = 0;
    moon_metrics_print(m, &out);
    moon_buf_add_char(&out, '\0');
    assert_false(out.failed);
    return out.ptr;
}

static void assert_has(const char *linez)
{
    if (strstr(print(), linez) == NULL)
        fail_msg("%s is not in\n%s", linez, out.ptr);
}

static void assert_has_not(const char *linez)
{
    if (strstr(print(), linez) != NULL)
        fail_msg("%s is in\n%s", linez, out.ptr);
}

/* ---- what is printed ---- */

static void prints_each_kind(void **state)
{
    (void)state;
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "");
    uint32_t g = declare(MOON_METRIC_GAUGE, "g", "a");
    uint32_t h = declare(MOON_METRIC_HISTOGRAM, "h", "");
    assert_string_equal(print(), "# HELP c_total Some help\n"
                                 "# TYPE c_total counter\n"
                                 "c_total 0\n"
                                 "# HELP g Some help\n"
                                 "# TYPE g gauge\n"
                                 "# HELP h Some help\n"
                                 "# TYPE h histogram\n"
                                 "h_bucket{le=\"0.5\"} 0\n"
                                 "h_bucket{le=\"1\"} 0\n"
                                 "h_bucket{le=\"10\"} 0\n"
                                 "h_bucket{le=\"+Inf\"} 0\n"
                                 "h_sum 0\n"
                                 "h_count 0\n");
    double *cells = moon_metrics_cells(m, 0);
    cells[moon_metrics_base(m, c)] += 3;
    add(0, g, "x", -1.5);
    for (double value = 0.25; value < 20; value *= 2)
        moon_metrics_observe(&cells[moon_metrics_base(m, h)], bounds,
                             MOON_COUNT(bounds), value);
    assert_string_equal(print(), "# HELP c_total Some help\n"
                                 "# TYPE c_total counter\n"
                                 "c_total 3\n"
                                 "# HELP g Some help\n"
                                 "# TYPE g gauge\n"
                                 "g{a=\"x\"} -1.5\n"
                                 "# HELP h Some help\n"
                                 "# TYPE h histogram\n"
                                 "h_bucket{le=\"0.5\"} 2\n"
                                 "h_bucket{le=\"1\"} 3\n"
                                 "h_bucket{le=\"10\"} 6\n"
                                 "h_bucket{le=\"+Inf\"} 7\n"
                                 "h_sum 31.75\n"
                                 "h_count 7\n");
}

static void prints_labels(void **state)
{
    (void)state;
    uint32_t cell;
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "a,b_2,c");
    const struct moon_str values[] = {
        MOON_STR("\"\\\n\t"), MOON_STR("\xc3\xa4\xff\xc3"), MOON_STR("")};
    assert_true(moon_metrics_find(m, c, values, 3, &cell));
    moon_metrics_cells(m, 0)[cell] = 1;
    assert_has("\nc_total{a=\"\\\"\\\\\\n\t\",b_2=\"\xc3\xa4\xef\xbf\xbd"
               "\xef\xbf\xbd\",c=\"\"} 1\n");
    uint32_t h = declare(MOON_METRIC_HISTOGRAM, "h", "route");
    assert_true(find(h, "/x", &cell));
    moon_metrics_observe(&moon_metrics_cells(m, 0)[cell], bounds, 3, 11);
    assert_has("h_bucket{route=\"/x\",le=\"10\"} 0\n"
               "h_bucket{route=\"/x\",le=\"+Inf\"} 1\n"
               "h_sum{route=\"/x\"} 11\n"
               "h_count{route=\"/x\"} 1\n");
}

static void prints_help(void **state)
{
    (void)state;
    uint32_t number;
    struct moon_metric_info info = {.kind = MOON_METRIC_GAUGE,
                                    .name = MOON_STR("g"),
                                    .help = MOON_STR("a\\b\n\"c\"")};
    assert_int_equal(moon_metrics_declare(m, 0, 1, &info, &number), MOON_OK);
    assert_has("# HELP g a\\\\b\\n\"c\"\n");
    /* The newest code's text stands. */
    info.help = MOON_STR("newer");
    assert_int_equal(moon_metrics_declare(m, 1, 2, &info, &number), MOON_OK);
    info.help = MOON_STR("older");
    assert_int_equal(moon_metrics_declare(m, 0, 1, &info, &number), MOON_OK);
    assert_has("# HELP g newer\n");
}

static void prints_numbers(void **state)
{
    static const struct {
        double value;
        const char *textz;
    } cases[] = {
        {0.1, "0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {9007199254740992, "9007199254740992"},
        {1e21, "1e+21"},
        {-0.25, "-0.25"},
        {HUGE_VAL, "+Inf"},
        {-HUGE_VAL, "-Inf"},
        {NAN, "NaN"},
    };
    (void)state;
    char line[64];
    uint32_t g = declare(MOON_METRIC_GAUGE, "g", "");
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        moon_metrics_cells(m, 0)[moon_metrics_base(m, g)] = cases[i].value;
        (void)snprintf(line, sizeof(line), "\ng %s\n", cases[i].textz);
        assert_has(line);
    }
}

/* ---- workers ---- */

static void sums_over_workers(void **state)
{
    (void)state;
    uint32_t number, again;
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "a");
    uint32_t g = declare(MOON_METRIC_GAUGE, "g", "a");
    for (uint32_t slot = 1; slot < 3; slot++) {
        assert_int_equal(
            declare_in(slot, 1, MOON_METRIC_COUNTER, "c_total", "a", &number),
            MOON_OK);
        assert_int_equal(number, c);
        assert_int_equal(
            declare_in(slot, 1, MOON_METRIC_GAUGE, "g", "a", &again), MOON_OK);
        assert_int_equal(again, g);
    }
    for (uint32_t slot = 0; slot < 3; slot++) {
        add(slot, c, "x", slot + 1);
        add(slot, g, "x", 10);
    }
    assert_has("c_total{a=\"x\"} 6\n");
    assert_has("g{a=\"x\"} 30\n");
    /* Gauges of a worker that is gone mean nothing any more. */
    moon_metrics_commit(m, 1);
    moon_metrics_end_worker(m, 1);
    assert_has("c_total{a=\"x\"} 6\n");
    assert_has("g{a=\"x\"} 20\n");
}

/* ---- generations ---- */

static void goes_on_across_generations(void **state)
{
    (void)state;
    uint32_t first, second;
    moon_metrics_commit(m, 1);
    first = declare(MOON_METRIC_COUNTER, "c_total", "a");
    add(0, first, "x", 5);
    assert_int_equal(
        declare_in(0, 2, MOON_METRIC_COUNTER, "c_total", "a", &second),
        MOON_OK);
    assert_int_equal(second, first);
    moon_metrics_commit(m, 2);
    moon_metrics_release(m, 0, &first, 1);
    add(0, second, "x", 1);
    assert_has("c_total{a=\"x\"} 6\n");
    /* No VM at all, because its only worker was killed. */
    moon_metrics_end_worker(m, 0);
    assert_has("c_total{a=\"x\"} 6\n");
    assert_int_equal(
        declare_in(0, 2, MOON_METRIC_COUNTER, "c_total", "a", &second),
        MOON_OK);
    assert_int_equal(second, first);
    assert_has("c_total{a=\"x\"} 6\n");
}

static void forgets_what_nobody_declares(void **state)
{
    (void)state;
    uint32_t kept;
    moon_metrics_commit(m, 1);
    uint32_t old = declare(MOON_METRIC_COUNTER, "old_total", "a");
    uint32_t base = declare(MOON_METRIC_COUNTER, "base_total", "");
    add(0, old, "x", 5);
    moon_metrics_cells(m, 0)[moon_metrics_base(m, base)] = 7;
    assert_int_equal(
        declare_in(0, 2, MOON_METRIC_COUNTER, "base_total", "", &kept),
        MOON_OK);
    moon_metrics_commit(m, 2);
    assert_has("old_total{a=\"x\"} 5\n"); /* its VM lingers */
    const uint32_t numbers[] = {old, base};
    moon_metrics_release(m, 0, numbers, 2);
    assert_has_not("old_total");
    assert_has("base_total 7\n");
    assert_int_equal(moon_metrics_series(m), 0);
    /* Its places are used anew, from zero. */
    uint32_t other;
    assert_int_equal(
        declare_in(0, 2, MOON_METRIC_COUNTER, "other_total", "b", &other),
        MOON_OK);
    assert_int_equal(other, old);
    add(0, other, "x", 0);
    assert_has("other_total{b=\"x\"} 0\n");
    assert_int_equal(moon_metric_series_end(m), 1);
}

static void forgets_code_that_was_refused(void **state)
{
    (void)state;
    uint32_t same, refused;
    moon_metrics_commit(m, 1);
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "");
    moon_metrics_cells(m, 0)[moon_metrics_base(m, c)] = 5;
    assert_int_equal(
        declare_in(0, 2, MOON_METRIC_COUNTER, "c_total", "", &same), MOON_OK);
    assert_int_equal(
        declare_in(0, 2, MOON_METRIC_GAUGE, "g_refused", "", &refused),
        MOON_OK);
    const uint32_t numbers[] = {same, refused};
    moon_metrics_release(m, 0, numbers, 2);
    assert_has_not("g_refused");
    assert_has("c_total 5\n");
}

/* Prometheus refuses a name that is there twice. */
static void one_shape_of_a_name(void **state)
{
    (void)state;
    uint32_t newer;
    moon_metrics_commit(m, 1);
    uint32_t old = declare(MOON_METRIC_COUNTER, "x", "");
    moon_metrics_cells(m, 0)[moon_metrics_base(m, old)] = 5;
    assert_int_equal(declare_in(0, 2, MOON_METRIC_GAUGE, "x", "a", &newer),
                     MOON_OK);
    assert_int_not_equal(newer, old);
    add(0, newer, "y", 1);
    assert_has("x 5\n"); /* what serves */
    assert_has_not("x{");
    moon_metrics_commit(m, 2);
    assert_has("x{a=\"y\"} 1\n");
    assert_has_not("x 5\n");
    assert_null(strstr(strstr(print(), "# TYPE x ") + 1, "# TYPE x "));
}

/* ---- bounds ---- */

static void the_rest_is_other(void **state)
{
    (void)state;
    char value[16];
    uint32_t cell, other, second;
    moon_metrics_commit(m, 1);
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "a");
    uint32_t g = declare(MOON_METRIC_GAUGE, "g", "a");
    for (int i = 0; i < MAX_SERIES; i++) {
        (void)snprintf(value, sizeof(value), "v%d", i);
        assert_true(find(c, value, &cell));
    }
    assert_int_equal(moon_metrics_series(m), MAX_SERIES);
    assert_true(moon_metrics_just_filled(m));
    assert_false(moon_metrics_just_filled(m));
    assert_has_not("other");
    assert_false(find(c, "one more", &other));
    assert_false(find(c, "two more", &second));
    assert_int_equal(other, second);
    moon_metrics_cells(m, 0)[other] += 2;
    assert_has("c_total{a=\"other\"} 2\n");
    assert_false(find(g, "x", &second)); /* each metric has its own */
    assert_int_not_equal(other, second);
    assert_true(find(c, "v7", &cell)); /* what is there stays */
    /* A metric without labels has a place of its own. */
    uint32_t plain = declare(MOON_METRIC_COUNTER, "plain_total", "");
    assert_true(moon_metrics_find(m, plain, NULL, 0, &cell));
    /* Room again, and full again. */
    uint32_t number;
    assert_int_equal(declare_in(0, 2, MOON_METRIC_GAUGE, "g", "a", &number),
                     MOON_OK);
    moon_metrics_commit(m, 2);
    const uint32_t numbers[] = {c, g};
    moon_metrics_release(m, 0, numbers, 2);
    assert_int_equal(moon_metrics_series(m), 0);
    assert_false(moon_metrics_just_filled(m));
    for (int i = 0; i < MAX_SERIES; i++) {
        (void)snprintf(value, sizeof(value), "w%d", i);
        assert_true(find(number, value, &cell));
        assert_int_equal(moon_metrics_cells(m, 0)[cell], 0);
    }
    assert_true(moon_metrics_just_filled(m));
}

static void long_values_are_other(void **state)
{
    (void)state;
    char value[MOON_METRIC_VALUES_MAX + 1];
    uint32_t cell;
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "a");
    memset(value, 'x', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    assert_false(find(c, value, &cell));
    assert_int_equal(cell, moon_metrics_base(m, c));
    value[MOON_METRIC_VALUES_MAX - 4] = '\0'; /* a="" fits beside it */
    assert_true(find(c, value, &cell));
    assert_has("xxx\"} 0\n");
    assert_false(moon_metrics_just_filled(m));
}

static void so_many_metrics(void **state)
{
    (void)state;
    char name[16];
    uint32_t number;
    for (int i = 0; i < MOON_METRICS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "m%d", i);
        (void)declare(MOON_METRIC_GAUGE, name, "");
    }
    assert_int_equal(
        declare_in(0, 1, MOON_METRIC_GAUGE, "one_more", "", &number),
        MOON_EFULL);
    assert_int_equal(declare_in(0, 1, MOON_METRIC_GAUGE, "m7", "", &number),
                     MOON_OK);
    assert_has("\nm999 0\n");
}

/* As a next binary on the same region would. */
static void is_found_again(void **state)
{
    (void)state;
    struct moon_metrics *first = m;
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "a"), number;
    add(0, c, "x", 5);
    assert_int_equal(
        moon_metrics_open(region, MOON_METRICS_APP, SLOTS, MAX_SERIES, &m),
        MOON_OK);
    moon_metrics_close(first);
    assert_int_equal(
        declare_in(1, 1, MOON_METRIC_COUNTER, "c_total", "a", &number),
        MOON_OK);
    assert_int_equal(number, c);
    add(1, number, "x", 1);
    assert_has("c_total{a=\"x\"} 6\n");
}

/* ---- what goes wrong ---- */

/* Declares, counts and releases until it is killed. */
static void churn(uint32_t slot, uint32_t always)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    for (uint64_t generation = 3;; generation++) {
        uint32_t numbers[5], cell;
        uint64_t random[2];
        char value[16];
        moon_random_fast(random);
        for (int i = 0; i < 5; i++) {
            if (declare_in(slot, generation, MOON_METRIC_COUNTER, names[i],
                           random[0] >> i & 1 ? "x" : "y",
                           &numbers[i]) != MOON_OK)
                _exit(1);
            (void)snprintf(value, sizeof(value), "%d", (int)(random[1] % 4));
            (void)find(numbers[i], value, &cell);
            moon_metrics_cells(m, slot)[cell] += 1;
        }
        if (find(always, "kept", &cell))
            moon_metrics_cells(m, slot)[cell] += 1;
        moon_metrics_release(m, slot, numbers, 5);
    }
}

static void survives_those_who_are_killed(void **state)
{
    (void)state;
    uint32_t cell;
    double before = 0;
    moon_metrics_commit(m, 1);
    uint32_t always = declare(MOON_METRIC_COUNTER, "always_total", "a");
    assert_true(find(always, "kept", &cell));
    for (int round = 0; round < 60; round++) {
        pid_t pids[2];
        for (uint32_t i = 0; i < 2; i++) {
            pids[i] = fork();
            assert_true(pids[i] >= 0);
            if (pids[i] == 0) {
                moon_random_reseed();
                churn(i + 1, always);
            }
        }
        (void)usleep(1000 + (useconds_t)round * 37 % 3000);
        for (uint32_t i = 0; i < 2; i++) {
            int status;
            assert_int_equal(kill(pids[i], SIGKILL), 0);
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFSIGNALED(status));
            moon_metrics_end_worker(m, i + 1);
        }
        assert_true(strstr(print(), "always_total{a=\"kept\"} ") != NULL);
        double now =
            strtod(strstr(print(), "always_total{a=\"kept\"} ") + 23, NULL);
        assert_true(now >= before);
        before = now;
    }
    assert_true(before > 60);
    /* The dead hold nothing: all but ours goes at the next change. */
    uint32_t number;
    assert_int_equal(declare_in(0, 1, MOON_METRIC_GAUGE, "last", "a", &number),
                     MOON_OK);
    assert_int_equal(moon_metrics_series(m), 1);
    assert_has_not("# TYPE a ");
    for (int i = 0; i < MAX_SERIES - 1; i++) {
        char value[16];
        (void)snprintf(value, sizeof(value), "%d", i);
        assert_true(find(number, value, &cell));
        assert_int_equal(moon_metrics_cells(m, 0)[cell], 0);
    }
    assert_false(find(number, "too many", &cell));
}

/* A process that is stopped in the middle must not hold up requests. */
static void nobody_waits_for_ever(void **state)
{
    (void)state;
    uint32_t cell;
    int status, ready[2];
    uint32_t c = declare(MOON_METRIC_COUNTER, "c_total", "a");
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)pthread_mutex_lock(&m->head->lock);
        (void)!write(ready[1], "x", 1);
        for (;;)
            (void)pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_false(find(c, "x", &cell));
    assert_int_equal(cell, moon_metrics_base(m, c));
    assert_has("c_total{a=\"other\"} 0\n"); /* the master never waits */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(find(c, "x", &cell));
    (void)close(ready[0]);
    (void)close(ready[1]);
}

/* A worker runs foreign code, and that can write anywhere. */
static void nonsense_does_no_harm(void **state)
{
    (void)state;
    (void)declare(MOON_METRIC_HISTOGRAM, "h", "a");
    size_t tables = (size_t)(m->cells - (char *)m->base);
    for (int round = 0; round < 30; round++) {
        char *from = (char *)&m->head->committed;
        size_t len = tables - (size_t)(from - (char *)m->base);
        moon_random_bytes(from, len);
        if (round % 3 == 0)
            memset(from, round % 2 == 0 ? 0xff : 'x', len);
        /* Records that look whole are read further. */
        for (uint32_t n = 0; n < MOON_METRICS_MAX; n++) {
            moon_metric_at(m, n)->kind = 1 + n % 3;
            atomic_store(&moon_metric_at(m, n)->seq, 2);
        }
        for (uint32_t i = 0; i < MAX_SERIES; i++)
            atomic_store(&m->series[i].seq, 2);
        (void)print();
        assert_true(moon_metrics_series(m) <= MAX_SERIES);
        moon_metrics_end_worker(m, 2);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(prints_each_kind),
        TEST(prints_labels),
        TEST(prints_help),
        TEST(prints_numbers),
        TEST(sums_over_workers),
        TEST(goes_on_across_generations),
        TEST(forgets_what_nobody_declares),
        TEST(forgets_code_that_was_refused),
        TEST(one_shape_of_a_name),
        TEST(the_rest_is_other),
        TEST(long_values_are_other),
        TEST(so_many_metrics),
        TEST(is_found_again),
        TEST(survives_those_who_are_killed),
        TEST(nobody_waits_for_ever),
        TEST(nonsense_does_no_harm),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
