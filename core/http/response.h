/* The answer under construction: status and fields, until the head is written.
 *
 * Lives in the exchange; names and values are copied into the exchange's arena
 * when set. Content-Length, Transfer-Encoding, Connection and Date belong to
 * http_out and are refused here, as are names and values with CR, LF or NUL
 * (MOON_EINVAL). */
#ifndef MOON_HTTP_RESPONSE_H
#define MOON_HTTP_RESPONSE_H

#include "base/arena.h"
#include "base/errcode.h"

struct moon_out_field {
    struct moon_str name, value;
};

struct moon_response {
    uint16_t status; /* 0 until somebody sets it */
    bool close;      /* Connection: close asked for */
    uint32_t field_count, field_cap;
    uint32_t copied_bytes;         /* of names and values, replaced ones too */
    struct moon_out_field *fields; /* in the arena, or the owner's first */
};

/* Names and values of one response together: no client takes more, and an
 * endless loop of additions must end. */
enum { MOON_RESPONSE_FIELDS_MAX = 64 * 1024 };

/* `first` is room for `cap` fields that the owner lends; may be NULL and 0. */
void moon_response_init(struct moon_response *res, struct moon_out_field *first,
                        uint32_t cap);
/* Replaces all fields of that name (any case) by one; value.ptr NULL removes
 * them. MOON_EFULL beyond MOON_RESPONSE_FIELDS_MAX bytes. */
MOON_MUST_CHECK enum moon_err moon_response_set(struct moon_response *res,
                                                struct moon_arena *arena,
                                                struct moon_str name,
                                                struct moon_str value);
/* One more field of that name. */
MOON_MUST_CHECK enum moon_err moon_response_add(struct moon_response *res,
                                                struct moon_arena *arena,
                                                struct moon_str name,
                                                struct moon_str value);
/* Room for more fields. */
MOON_MUST_CHECK MOON_COLD enum moon_err moon_response_grow(
    struct moon_response *res, struct moon_arena *arena);
/* The same for names and values known to be clean and to outlive the
 * response (static text): nothing is checked or copied. */
MOON_MUST_CHECK static inline enum moon_err moon_response_add_static(
    struct moon_response *res, struct moon_arena *arena, struct moon_str name,
    struct moon_str value)
{
    if (MOON_UNLIKELY(res->field_count == res->field_cap)) {
        enum moon_err err = moon_response_grow(res, arena);
        if (err != MOON_OK)
            return err;
    }
    res->fields[res->field_count++] = (struct moon_out_field){name, value};
    return MOON_OK;
}
/* Likewise; replaces the value that the same static name (the very bytes) was
 * given before. */
MOON_MUST_CHECK enum moon_err moon_response_set_static(
    struct moon_response *res, struct moon_arena *arena, struct moon_str name,
    struct moon_str value);
/* Likewise; replaces whatever fields of that name there are. */
MOON_MUST_CHECK enum moon_err moon_response_put_static(
    struct moon_response *res, struct moon_arena *arena, struct moon_str name,
    struct moon_str value);
/* nth value of that name, borrowed until it is changed. */
bool moon_response_get(const struct moon_response *res, struct moon_str name,
                       uint32_t nth, struct moon_str *out);
/* Before an error answer: drops Content-*, ETag, Last-Modified and
 * Cache-Control, which described another body; keeps Content-Security-* and
 * the Content-Range of a 416. */
void moon_response_drop_content(struct moon_response *res);

#endif
