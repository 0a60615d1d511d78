/* Numbers and bytes as text, against printf. */
#include "base/digits.h"

#include "base/compiler.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void check(uint64_t value)
{
    char ours[MOON_DIGITS_MAX + 1], theirs[MOON_DIGITS_MAX + 1];
    char *end = moon_put_u64(ours, value);
    *end = '\0';
    (void)snprintf(theirs, sizeof(theirs), "%" PRIu64, value);
    assert_string_equal(ours, theirs);
}

static void numbers(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 20000; value++)
        check(value);
    for (uint64_t power = 1; power < UINT64_MAX / 10; power *= 10) {
        check(power - 1);
        check(power);
        check(power + 1);
    }
    check(UINT64_MAX);
}

static void bytes(void **state)
{
    unsigned char all[256];
    char ours[2 * sizeof(all)], theirs[3];
    (void)state;
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (unsigned char)i;
    assert_ptr_equal(moon_put_hex(ours, all, sizeof(all)), ours + sizeof(ours));
    for (size_t i = 0; i < sizeof(all); i++) {
        (void)snprintf(theirs, sizeof(theirs), "%02x", all[i]);
        assert_memory_equal(ours + 2 * i, theirs, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
