/* The shared dictionary against a plain one, at its bounds, in several
 * processes, and with some of them killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/dict.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct moon_region *region;
static struct moon_dict *dict;

static int open_dict(void **state)
{
    (void)state;
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    dict = moon_dict_open(region, "test", 1 << 20);
    assert_non_null(dict);
    return 0;
}

static int close_dict(void **state)
{
    (void)state;
    moon_dict_close(dict);
    moon_region_close(region);
    return 0;
}

static enum moon_err set(const char *keyz, struct moon_str text, uint64_t ttl,
                         uint64_t now)
{
    struct moon_dict_value value = {.type = MOON_DICT_STRING, .text = text};
    return moon_dict_set(dict, moon_strz(keyz), &value, ttl, false, now);
}

static enum moon_err add(const char *keyz, const char *textz, uint64_t now)
{
    struct moon_dict_value value = {.type = MOON_DICT_STRING,
                                    .text = moon_strz(textz)};
    return moon_dict_set(dict, moon_strz(keyz), &value, 0, true, now);
}

/* "text", "#number", "?boolean" or "-". */
static void expect(const char *keyz, const char *wantz, uint64_t now)
{
    struct moon_buf text = {0};
    struct moon_dict_value value;
    char got[64] = "-";
    if (moon_dict_get(dict, moon_strz(keyz), now, &text, &value) == MOON_OK) {
        if (value.type == MOON_DICT_STRING)
            (void)snprintf(got, sizeof(got), "%.*s", MOON_STR_ARG(value.text));
        else
            (void)snprintf(got, sizeof(got), "%c%g",
                           value.type == MOON_DICT_NUMBER ? '#' : '?',
                           value.number);
    }
    assert_string_equal(got, wantz);
    moon_buf_deinit(&text);
}

static void values_are_kept(void **state)
{
    (void)state;
    struct moon_dict_value number = {.type = MOON_DICT_NUMBER, .number = 1.5};
    struct moon_dict_value yes = {.type = MOON_DICT_BOOLEAN, .number = 1};
    double sum, zero = 0;
    expect("a", "-", 1);
    assert_int_equal(set("a", MOON_STR("one"), 0, 1), MOON_OK);
    assert_int_equal(set("b", MOON_STR(""), 0, 1), MOON_OK);
    expect("a", "one", 1);
    expect("b", "", 1);
    assert_int_equal(set("a", MOON_STR("another, longer one"), 0, 1), MOON_OK);
    expect("a", "another, longer one", 1);
    assert_int_equal(add("a", "x", 1), MOON_EEXISTS);
    assert_int_equal(add("c", "x", 1), MOON_OK);
    assert_int_equal(moon_dict_set(dict, MOON_STR("n"), &number, 0, false, 1),
                     MOON_OK);
    assert_int_equal(moon_dict_set(dict, MOON_STR("y"), &yes, 0, false, 1),
                     MOON_OK);
    expect("n", "#1.5", 1);
    expect("y", "?1", 1);
    assert_int_equal(moon_dict_incr(dict, MOON_STR("n"), 2, NULL, 0, 1, &sum),
                     MOON_OK);
    assert_true(sum == 3.5);
    assert_int_equal(moon_dict_incr(dict, MOON_STR("m"), 2, NULL, 0, 1, &sum),
                     MOON_ENOT_FOUND);
    assert_int_equal(moon_dict_incr(dict, MOON_STR("m"), 2, &zero, 0, 1, &sum),
                     MOON_OK);
    expect("m", "#2", 1);
    assert_int_equal(moon_dict_incr(dict, MOON_STR("a"), 2, &zero, 0, 1, &sum),
                     MOON_EINVAL);
    assert_true(moon_dict_delete(dict, MOON_STR("a"), 1));
    assert_false(moon_dict_delete(dict, MOON_STR("a"), 1));
    expect("a", "-", 1);
    assert_false(moon_dict_delete_if(dict, MOON_STR("c"), MOON_STR("y"), 1));
    assert_true(moon_dict_delete_if(dict, MOON_STR("c"), MOON_STR("x"), 1));
    expect("c", "-", 1);
}

static void keys_are_bytes(void **state)
{
    (void)state;
    struct moon_dict_value value = {.type = MOON_DICT_STRING,
                                    .text = moon_str("\0\xff", 2)};
    struct moon_buf text = {0};
    assert_int_equal(
        moon_dict_set(dict, moon_str("a\0b", 3), &value, 0, false, 1), MOON_OK);
    assert_int_equal(moon_dict_set(dict, MOON_STR(""), &value, 0, false, 1),
                     MOON_OK);
    expect("a", "-", 1);
    assert_int_equal(moon_dict_get(dict, moon_str("a\0b", 3), 1, &text, &value),
                     MOON_OK);
    assert_true(moon_str_eq(value.text, moon_str("\0\xff", 2)));
    moon_buf_deinit(&text);
}

static void entries_expire(void **state)
{
    (void)state;
    double sum, zero = 0;
    assert_int_equal(set("a", MOON_STR("x"), 100, 1000), MOON_OK);
    expect("a", "x", 1099);
    expect("a", "-", 1100);
    assert_int_equal(set("a", MOON_STR("x"), 100, 1000), MOON_OK);
    assert_int_equal(add("a", "y", 1100), MOON_OK);
    expect("a", "y", 100000);
    /* Counting does not lengthen a life. */
    assert_int_equal(
        moon_dict_incr(dict, MOON_STR("n"), 1, &zero, 100, 1000, &sum),
        MOON_OK);
    assert_int_equal(
        moon_dict_incr(dict, MOON_STR("n"), 1, &zero, 100, 1099, &sum),
        MOON_OK);
    expect("n", "#2", 1099);
    expect("n", "-", 1100);
}

/* What is read lives on while a thousand times its room is written. */
static void what_is_read_is_kept(void **state)
{
    (void)state;
    char key[32], big[1000];
    memset(big, 'x', sizeof(big));
    assert_int_equal(set("hot", MOON_STR("kept"), 0, 1), MOON_OK);
    assert_int_equal(set("cold", MOON_STR("lost"), 0, 1), MOON_OK);
    for (int i = 0; i < 100000; i++) {
        (void)snprintf(key, sizeof(key), "key %d", i);
        assert_int_equal(set(key, moon_str(big, (size_t)i % 1000), 0, 1),
                         MOON_OK);
        if (i % 50 == 0)
            expect("hot", "kept", 1);
    }
    expect("hot", "kept", 1);
    expect("cold", "-", 1);
}

static void what_is_too_big_is_refused(void **state)
{
    (void)state;
    static char big[1 << 20];
    memset(big, 'x', sizeof(big));
    assert_int_equal(set("a", MOON_STR("before"), 0, 1), MOON_OK);
    assert_int_equal(set("a", moon_str(big, sizeof(big)), 0, 1), MOON_ETOO_BIG);
    assert_int_equal(set("a", moon_str(big, SIZE_MAX / 2), 0, 1),
                     MOON_ETOO_BIG);
    expect("a", "before", 1);
    struct moon_dict_value value = {.type = MOON_DICT_NUMBER};
    assert_int_equal(moon_dict_set(dict, moon_str(big, MOON_DICT_KEY_MAX + 1),
                                   &value, 0, false, 1),
                     MOON_ETOO_BIG);
    assert_null(moon_dict_open(region, "small", MOON_DICT_MIN_BYTES - 1));
    struct moon_dict *least =
        moon_dict_open(region, "least", MOON_DICT_MIN_BYTES);
    assert_non_null(least);
    moon_dict_close(least);
}

/* Against a plain table, while nothing has to be forgotten. */
static void behaves_as_a_table(void **state)
{
    (void)state;
    enum { KEYS = 500 };
    static struct {
        bool there;
        uint64_t expires;
        uint32_t text;
    } want[KEYS];
    uint32_t seed = 1;
    uint64_t now = 1000;
    memset(want, 0, sizeof(want));
    for (int i = 0; i < 200000; i++) {
        char key[32], text[32];
        seed = seed * 1664525u + 1013904223u;
        uint32_t at = (seed >> 8) % KEYS, what = (seed >> 20) % 8;
        now += (seed >> 28) == 0;
        (void)snprintf(key, sizeof(key), "key %u", at);
        if (want[at].there && want[at].expires != 0 && want[at].expires <= now)
            want[at].there = false;
        if (what < 3) {
            uint64_t ttl = what == 0 ? 50 : 0;
            (void)snprintf(text, sizeof(text), "%u", seed);
            assert_int_equal(set(key, moon_strz(text), ttl, now), MOON_OK);
            want[at].there = true;
            want[at].text = seed;
            want[at].expires = ttl == 0 ? 0 : now + ttl;
        } else if (what == 3) {
            assert_int_equal(moon_dict_delete(dict, moon_strz(key), now),
                             want[at].there);
            want[at].there = false;
        } else {
            (void)snprintf(text, sizeof(text), "%u", want[at].text);
            expect(key, want[at].there ? text : "-", now);
        }
    }
}

static void a_second_handle_sees_the_same(void **state)
{
    (void)state;
    struct moon_dict *other = moon_dict_open(region, "test", 1 << 20);
    struct moon_buf text = {0};
    struct moon_dict_value value;
    assert_int_equal(set("a", MOON_STR("x"), 0, 1), MOON_OK);
    assert_int_equal(moon_dict_get(other, MOON_STR("a"), 1, &text, &value),
                     MOON_OK);
    moon_dict_close(other);
    other = moon_dict_open(region, "test", 1 << 21);
    assert_int_equal(moon_dict_get(other, MOON_STR("a"), 1, &text, &value),
                     MOON_ENOT_FOUND);
    moon_dict_close(other);
    moon_buf_deinit(&text);
}

static void no_increment_is_lost(void **state)
{
    (void)state;
    enum { PROCESSES = 4, TIMES = 20000 };
    pid_t pids[PROCESSES];
    double sum, zero = 0;
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            bool ok = true;
            for (int n = 0; n < TIMES; n++) {
                ok &= moon_dict_incr(dict, MOON_STR("n"), 1, &zero, 0, 1,
                                     &sum) == MOON_OK;
                ok &= set("other", MOON_STR("filler"), 0, 1) == MOON_OK;
            }
            _exit(ok ? 0 : 1);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    expect("n", "#80000", 1);
}

/* Writers killed at any moment: every value that is found is whole, and the
 * next writer is not held up. */
static void killed_writers_leave_no_ruins(void **state)
{
    (void)state;
    static char a[5000], b[5000];
    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    for (int round = 0; round < 100; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (uint32_t i = 0;; i++) {
                bool odd = (i & 1) != 0;
                if (set("torn", moon_str(odd ? a : b, 1 + i % 5000), 0, 1) !=
                    MOON_OK)
                    _exit(1);
            }
        }
        (void)usleep(500 + (useconds_t)round * 20);
        (void)kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        struct moon_buf text = {0};
        struct moon_dict_value value;
        if (moon_dict_get(dict, MOON_STR("torn"), 1, &text, &value) ==
                MOON_OK &&
            !moon_str_eq(value.text, MOON_STR("whole"))) {
            assert_true(value.text.len >= 1 && value.text.len <= 5000);
            assert_memory_equal(value.text.ptr,
                                value.text.ptr[0] == 'a' ? a : b,
                                value.text.len);
        }
        moon_buf_deinit(&text);
        assert_int_equal(set("torn", MOON_STR("whole"), 0, 1), MOON_OK);
        expect("torn", "whole", 1);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_dict, close_dict)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(values_are_kept),
        T(keys_are_bytes),
        T(entries_expire),
        T(what_is_read_is_kept),
        T(what_is_too_big_is_refused),
        T(behaves_as_a_table),
        T(a_second_handle_sees_the_same),
        T(no_increment_is_lost),
        T(killed_writers_leave_no_ruins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
