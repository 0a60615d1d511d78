/* A request's fields, one after the other, for targets that make some. */
#ifndef MOON_TESTS_FUZZ_FIELDS_H
#define MOON_TESTS_FUZZ_FIELDS_H

#include "fuzz.h"

#include "http/request.h"

enum { FUZZ_FIELDS = 12 };

/* Starts as {0}; fuzz_fields_deinit frees the text. */
struct fuzz_fields {
    struct moon_buf text; /* what the spans are in */
    struct moon_field list[FUZZ_FIELDS];
    uint32_t count;
};

static inline bool fuzz_fields_full(const struct fuzz_fields *fields)
{
    return fields->count == FUZZ_FIELDS;
}

static inline struct moon_span fuzz_fields_text(struct fuzz_fields *fields,
                                                struct moon_str text)
{
    struct moon_span span = {(uint32_t)fields->text.len, (uint32_t)text.len};
    moon_buf_add_str(&fields->text, text);
    return span;
}

/* There must be room. */
static inline void fuzz_fields_add(struct fuzz_fields *fields,
                                   struct moon_str name, struct moon_str value)
{
    struct moon_field *field = &fields->list[fields->count++];
    field->name = fuzz_fields_text(fields, name);
    field->value = fuzz_fields_text(fields, value);
}

static inline void fuzz_fields_deinit(struct fuzz_fields *fields)
{
    moon_buf_deinit(&fields->text);
}

#endif
