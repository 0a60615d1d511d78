#include "node/admin_guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

/* Without an Authorization field every request is a wrong guess. */
static enum moon_admin_verdict guess(struct moon_admin_guard *guard, int family,
                                     const char *address, uint64_t now_ms)
{
    static struct moon_exchange x;
    memset(&x, 0, sizeof(x));
    x.peer.family = (uint8_t)family;
    memcpy(x.peer.addr, address, family == AF_INET ? 4 : 16);
    return moon_admin_guard_check(guard, &x, MOON_STR("token"), now_ms);
}

static void test_ten_then_one_a_second(void **state)
{
    (void)state;
    static struct moon_admin_guard guard;
    for (int i = 0; i < 10; i++)
        assert_int_equal(guess(&guard, AF_INET, "\1\2\3\4", 1000),
                         MOON_ADMIN_WRONG);
    assert_int_equal(guess(&guard, AF_INET, "\1\2\3\4", 1999),
                     MOON_ADMIN_TOO_MANY);
    assert_int_equal(guess(&guard, AF_INET, "\1\2\3\4", 2001),
                     MOON_ADMIN_WRONG);
    assert_int_equal(guess(&guard, AF_INET, "\1\2\3\4", 2002),
                     MOON_ADMIN_TOO_MANY);
    assert_int_equal(guess(&guard, AF_INET, "\1\2\3\5", 2002),
                     MOON_ADMIN_WRONG);
    assert_int_equal(guard.denied, 14);
    for (int i = 0; i < 10; i++) /* no more than ten come back */
        assert_int_equal(guess(&guard, AF_INET, "\1\2\3\4", 900000),
                         MOON_ADMIN_WRONG);
    assert_int_equal(guess(&guard, AF_INET, "\1\2\3\4", 900000),
                     MOON_ADMIN_TOO_MANY);
}

static void test_ipv6_counts_by_network(void **state)
{
    (void)state;
    static struct moon_admin_guard guard;
    static char one[16] = "\x20\1\xd\xb8\0\0\0\1\0\0\0\0\0\0\0\1";
    for (int i = 0; i < 10; i++) {
        one[15] = (char)i;
        assert_int_equal(guess(&guard, AF_INET6, one, 1), MOON_ADMIN_WRONG);
    }
    assert_int_equal(guess(&guard, AF_INET6, one, 1), MOON_ADMIN_TOO_MANY);
    one[7] = 2;
    assert_int_equal(guess(&guard, AF_INET6, one, 1), MOON_ADMIN_WRONG);
}

/* More addresses than places: the one that was quiet longest is forgotten. */
static void test_a_full_table(void **state)
{
    (void)state;
    static struct moon_admin_guard guard;
    char address[4] = {10, 0, 0, 0};
    for (int i = 0; i <= 10; i++)
        (void)guess(&guard, AF_INET, "\1\1\1\1", 5000);
    for (int i = 0; i < MOON_ADMIN_GUESSERS; i++) {
        address[3] = (char)i;
        assert_int_equal(guess(&guard, AF_INET, address, 5001 + (uint64_t)i),
                         MOON_ADMIN_WRONG);
    }
    assert_int_equal(guess(&guard, AF_INET, "\1\1\1\1", 5100),
                     MOON_ADMIN_WRONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_then_one_a_second),
        cmocka_unit_test(test_ipv6_counts_by_network),
        cmocka_unit_test(test_a_full_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
