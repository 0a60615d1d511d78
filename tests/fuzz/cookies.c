/* Cookies: what clients send, and what Set-Cookie says of values that an
 * application chose, which must come back as they were. */
#include "fuzz.h"

#include "http/query.h"
#include "http/token.h"

/* Every cookie is a piece of the field with no separator in it, further right
 * than the one before. */
static void check_read(struct moon_str field)
{
    struct moon_str rest = field, name, value;
    const char *at = field.ptr;
    while (moon_cookie_next(&rest, &name, &value)) {
        FUZZ_CHECK(name.len > 0);
        FUZZ_CHECK(fuzz_within(name, field) && fuzz_within(value, field));
        FUZZ_CHECK(name.ptr >= at);
        FUZZ_CHECK(value.ptr >= name.ptr + name.len);
        FUZZ_CHECK(memchr(name.ptr, ';', name.len) == NULL);
        FUZZ_CHECK(memchr(name.ptr, '=', name.len) == NULL);
        FUZZ_CHECK(value.len == 0 || memchr(value.ptr, ';', value.len) == NULL);
        FUZZ_CHECK(moon_str_eq(name, moon_str_trim(name)));
        at = value.ptr + value.len;
    }
    FUZZ_CHECK(rest.len == 0);
}

/* "name=value; Attribute..." as a browser takes it apart: the attributes are
 * those that were asked for, and no others. */
static void check_written(const struct moon_set_cookie *cookie,
                          struct moon_str text)
{
    struct moon_str rest, name, value, attribute;
    struct moon_str pair = moon_str_cut(text, ';', &rest);
    int count = 0, asked = (cookie->max_age_s >= 0) + (cookie->path.len > 0) +
                           (cookie->domain.len > 0) + cookie->secure +
                           cookie->http_only + (cookie->same_site.len > 0);
    FUZZ_CHECK(moon_str_is(text, MOON_CHAR_VALUE));
    FUZZ_CHECK(moon_cookie_next(&pair, &name, &value));
    FUZZ_CHECK(moon_str_eq(name, cookie->name));
    FUZZ_CHECK(moon_str_eq(value, cookie->value));
    FUZZ_CHECK(!moon_cookie_next(&pair, &name, &value));
    for (; rest.len > 0; count++) {
        attribute = moon_str_cut(rest, ';', &rest);
        FUZZ_CHECK(attribute.len > 1 && attribute.ptr[0] == ' ');
    }
    FUZZ_CHECK(count == asked);
}

static void check_write(struct fuzz_bytes *bytes)
{
    static const struct moon_str same_site[] = {
        {"", 0}, {"Strict", 6}, {"Lax", 3}, {"None", 4}, {"none", 4}};
    uint32_t flags = fuzz_byte(bytes);
    struct moon_set_cookie cookie = {
        .max_age_s =
            (flags & 1) ? (int64_t)fuzz_byte(bytes) << (flags % 50) : -1,
        .secure = (flags & 2) != 0,
        .http_only = (flags & 4) != 0,
        .same_site = same_site[fuzz_below(bytes, MOON_COUNT(same_site))],
        .name = fuzz_until(bytes, '\n'),
        .value = fuzz_until(bytes, '\n'),
        .path = fuzz_until(bytes, '\n'),
        .domain = fuzz_until(bytes, '\n'),
    };
    struct moon_buf text = {0};
    char error[200] = "";
    if (moon_set_cookie_write(&cookie, &text, error, sizeof(error)) == MOON_OK)
        check_written(&cookie, moon_buf_str(&text));
    else
        FUZZ_CHECK(error[0] != '\0' && text.len == 0);
    moon_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str field = fuzz_copy(fuzz_str(data, size));
    check_read(field);
    fuzz_free(field);
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    check_write(&bytes);
    return 0;
}
