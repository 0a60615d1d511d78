/* Accept: what is chosen is on offer, and accepted by a reading that looks at
 * one element after the other. */
#include "fuzz.h"

#include "http/negotiate.h"
#include "http/token.h"

static const struct moon_str offers[] = {
    MOON_STR("text/html"),
    MOON_STR("application/json"),
    MOON_STR("text/plain"),
};

/* Does any element but those of quality 0 name the type, its family, or all? */
static bool is_named(struct moon_str accept, struct moon_str offer)
{
    struct moon_str element, rest;
    struct moon_str family = moon_str_cut(offer, '/', &rest);
    while (moon_list_next(&accept, &element)) {
        struct moon_str type = moon_str_trim(moon_str_cut(element, ';', &rest));
        if (moon_str_eq(type, MOON_STR("*/*")) ||
            moon_str_eq_nocase(type, offer))
            return true;
        if (type.len == family.len + 2 &&
            moon_str_eq_nocase(moon_str(type.ptr, family.len), family) &&
            moon_str_eq(moon_str(type.ptr + family.len, 2), MOON_STR("/*")))
            return true;
    }
    return false;
}

/* Elements of a list lie in it, in order, trimmed and not empty. */
static void check_list(struct moon_str list)
{
    struct moon_str rest = list, element;
    const char *at = list.ptr;
    while (moon_list_next(&rest, &element)) {
        FUZZ_CHECK(fuzz_within(element, list) && element.len > 0);
        FUZZ_CHECK(element.ptr >= at);
        FUZZ_CHECK(moon_str_eq(element, moon_str_trim(element)));
        at = element.ptr + element.len;
    }
    FUZZ_CHECK(rest.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str accept = fuzz_copy(fuzz_str(data, size));
    check_list(accept);
    int best = moon_accept_best(accept, offers, MOON_COUNT(offers));
    FUZZ_CHECK(best >= -1 && best < (int)MOON_COUNT(offers));
    bool empty = moon_str_trim(accept).len == 0;
    FUZZ_CHECK(!empty || best == 0);
    FUZZ_CHECK(best < 0 || empty || is_named(accept, offers[best]));
    for (size_t i = 0; i < MOON_COUNT(offers); i++) {
        /* Alone it is chosen if it is acceptable at all. */
        int alone = moon_accept_best(accept, &offers[i], 1);
        FUZZ_CHECK(alone == 0 || best != (int)i);
        FUZZ_CHECK(alone < 0 || best >= 0);
    }
    fuzz_free(accept);
    return 0;
}
