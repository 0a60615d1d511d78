/* Queries and urlencoded forms, against a decoder that knows nothing but the
 * rules; and pairs that are written and read back. */
#include "fuzz.h"

#include "http/query.h"

#include <ctype.h>

static int hex(char ch)
{
    const char *digits = "0123456789abcdef";
    const char *at = ch == '\0' ? NULL : strchr(digits, tolower(ch));
    return at == NULL ? -1 : (int)(at - digits);
}

/* '+' is a space, "%XX" a byte, all else itself. */
static void decode(struct moon_str raw, struct moon_buf *out)
{
    for (size_t i = 0; i < raw.len; i++) {
        char ch = raw.ptr[i];
        if (ch == '+') {
            ch = ' ';
        } else if (ch == '%' && raw.len - i >= 3 && hex(raw.ptr[i + 1]) >= 0 &&
                   hex(raw.ptr[i + 2]) >= 0) {
            ch = (char)(hex(raw.ptr[i + 1]) * 16 + hex(raw.ptr[i + 2]));
            i += 2;
        }
        moon_buf_add_char(out, ch);
    }
}

static void check_decoded(struct moon_str raw, struct moon_str decoded)
{
    struct moon_buf expected = {0};
    decode(raw, &expected);
    FUZZ_CHECK(moon_str_eq(moon_buf_str(&expected), decoded));
    FUZZ_CHECK(decoded.len <= raw.len);
    moon_buf_deinit(&expected);
}

/* Each non-empty piece between '&' is a pair, in order, and there is nothing
 * else; *again is what the pairs are when written anew. */
static void check_pairs(struct moon_str text, struct moon_arena *arena,
                        struct moon_buf *again)
{
    struct moon_str rest = text, name, value;
    const char *at = text.ptr, *end = text.ptr + text.len;
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        struct moon_str pair = moon_str(at, (size_t)(stop - at));
        at = stop < end ? stop + 1 : end;
        if (pair.len == 0)
            continue;
        FUZZ_CHECK(moon_query_next(&rest, arena, &name, &value));
        const char *equals = memchr(pair.ptr, '=', pair.len);
        size_t len = equals == NULL ? pair.len : (size_t)(equals - pair.ptr);
        check_decoded(moon_str(pair.ptr, len), name);
        size_t skip = equals == NULL ? len : len + 1;
        check_decoded(moon_str(pair.ptr + skip, pair.len - skip), value);
        moon_percent_encode(name, again);
        moon_buf_add_char(again, '=');
        moon_percent_encode(value, again);
        moon_buf_add_char(again, '&');
    }
    FUZZ_CHECK(!moon_query_next(&rest, arena, &name, &value));
}

static void check_same(struct moon_str a, struct moon_str b,
                       struct moon_arena *arena)
{
    struct moon_str name, value, other_name, other_value;
    while (moon_query_next(&a, arena, &name, &value)) {
        FUZZ_CHECK(moon_query_next(&b, arena, &other_name, &other_value));
        FUZZ_CHECK(moon_str_eq(name, other_name));
        FUZZ_CHECK(moon_str_eq(value, other_value));
    }
    FUZZ_CHECK(!moon_query_next(&b, arena, &name, &value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_arena arena;
    struct moon_buf again = {0};
    struct moon_str text = fuzz_copy(fuzz_str(data, size));
    moon_arena_init(&arena, NULL, 0);
    check_pairs(text, &arena, &again);
    check_same(text, moon_buf_str(&again), &arena);
    moon_buf_deinit(&again);
    moon_arena_reset(&arena);
    fuzz_free(text);
    return 0;
}
