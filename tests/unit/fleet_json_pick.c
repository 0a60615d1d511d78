#include "fleet/json_pick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const char text[] =
    " {\"a\":1, \"b\" : \"x\\\"y,}\" ,\"c\":{\"a\":2,\"d\":[1,{\"e\":\"]\"}]},"
    "\"empty\":\"\",\"list\":[],\"d\":null,\"last\": true }\n";

static void finds(const char *keyz, const char *valuez)
{
    struct moon_str value;
    assert_true(moon_json_pick(moon_strz(text), keyz, &value));
    assert_int_equal(value.len, strlen(valuez));
    assert_memory_equal(value.ptr, valuez, value.len);
}

static void picks_the_outermost(void **state)
{
    struct moon_str value;
    (void)state;
    finds("a", "1");
    finds("b", "x\\\"y,}");
    finds("c", "{\"a\":2,\"d\":[1,{\"e\":\"]\"}]}");
    finds("empty", "");
    finds("list", "[]");
    finds("d", "null");
    finds("last", "true");
    assert_false(moon_json_pick(moon_strz(text), "e", &value));
    assert_false(moon_json_pick(moon_strz(text), "", &value));
}

/* Cut anywhere it finds nothing wrong, and reads nothing behind the end. */
static void survives_half_of_it(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(text); len++) {
        static const char *const keys[] = {"a", "b", "empty", "last"};
        char *half = malloc(len > 0 ? len : 1);
        assert_non_null(half);
        struct moon_str value;
        memcpy(half, text, len);
        for (size_t i = 0; i < 4; i++) {
            if (moon_json_pick(moon_str(half, len), keys[i], &value))
                assert_true(value.ptr + value.len <= half + len);
        }
        free(half);
    }
    struct moon_str value;
    assert_false(moon_json_pick(MOON_STR("[1]"), "a", &value));
    assert_false(moon_json_pick(MOON_STR("{\"a\"}"), "a", &value));
    assert_false(moon_json_pick(MOON_STR("{\"a\\"), "a", &value));
    assert_false(moon_json_pick(MOON_STR("{\"a\":"), "a", &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_the_outermost),
        cmocka_unit_test(survives_half_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
