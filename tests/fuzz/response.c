/* Fields that an application sets, with whatever it got from a client in them:
 * one well-formed head comes out, with these fields and no others. Lines of
 * name=value; a first letter '+' adds, '-' removes, all else replaces. */
#include "answers.h"
#include "fuzz.h"

#include "http/http_out.h"
#include "http/response.h"

enum { ASKED = 40 };

static struct moon_str trimmed(struct moon_str s)
{
    return moon_str_trim(s);
}

static bool is_clean(struct moon_str s)
{
    return s.len == 0 || (memchr(s.ptr, '\r', s.len) == NULL &&
                          memchr(s.ptr, '\n', s.len) == NULL &&
                          memchr(s.ptr, '\0', s.len) == NULL);
}

static void set_field(struct moon_response *res, struct moon_arena *arena,
                      char how, struct moon_str line)
{
    struct moon_str value, got, name = moon_str_cut(line, '=', &value);
    enum moon_err err = MOON_OK;
    struct moon_str copy = fuzz_copy(value);
    if (how == '+')
        err = moon_response_add(res, arena, name, copy);
    else
        err = moon_response_set(res, arena, name,
                                how == '-' ? MOON_STR_NONE : copy);
    fuzz_free(copy);
    FUZZ_CHECK(err == MOON_OK || err == MOON_EINVAL || err == MOON_EFULL);
    if (err != MOON_OK)
        return;
    FUZZ_CHECK(how == '-' || is_clean(value));
    bool there = moon_response_get(res, name, 0, &got);
    FUZZ_CHECK(there == (how != '-'));
    FUZZ_CHECK(how == '+' || how == '-' || moon_str_eq(got, value));
}

/* Each field of the response has a line of its own, in order; what else is
 * there was not asked for by the application. */
static void check_lines(struct moon_str head, const struct moon_response *res)
{
    struct moon_str rest = head;
    uint32_t nth = 0;
    (void)moon_str_cut(rest, '\n', &rest);
    while (rest.len > 2 && nth < res->field_count) {
        struct moon_str line = moon_str_cut(rest, '\n', &rest), value;
        FUZZ_CHECK(line.len > 0 && line.ptr[line.len - 1] == '\r');
        line.len--;
        struct moon_str name = moon_str_cut(line, ':', &value);
        const struct moon_out_field *field = &res->fields[nth];
        if (moon_str_eq(name, field->name) &&
            moon_str_eq(trimmed(value), trimmed(field->value)))
            nth++;
    }
    FUZZ_CHECK(nth == res->field_count);
}

static void check_head(const struct moon_response *res, uint8_t choice)
{
    struct moon_buf out = {0}, told = {0};
    const struct moon_out_head head = {
        .framing = MOON_OUT_LENGTH,
        .content_length = 0,
        .keep_alive = (choice & 1) != 0,
        .minor = (choice & 2) != 0,
        .content_type = MOON_STR("text/plain"),
    };
    moon_http_out_head(&out, res, &head);
    FUZZ_CHECK(!out.failed);
    /* The same behind it again is two answers, not one or three. */
    struct moon_str text = moon_buf_str(&out);
    check_lines(text, res);
    answers_read(text, &told);
    FUZZ_CHECK(memchr(told.ptr, '\n', told.len) == told.ptr + told.len - 1);
    moon_buf_deinit(&out);
    moon_buf_deinit(&told);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    struct moon_arena arena;
    struct moon_response res;
    uint8_t choice = fuzz_byte(&bytes);
    moon_arena_init(&arena, NULL, 0);
    moon_response_init(&res, NULL, 0);
    res.status = (uint16_t)(200 + choice % 100);
    for (int i = 0; i < ASKED && fuzz_left(&bytes) > 0; i++) {
        char how = (char)fuzz_byte(&bytes);
        set_field(&res, &arena, how, fuzz_until(&bytes, '\x1e'));
    }
    check_head(&res, choice);
    moon_response_drop_content(&res);
    check_head(&res, choice);
    moon_arena_reset(&arena);
    return 0;
}
