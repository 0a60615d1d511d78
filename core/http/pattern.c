#include "http/pattern.h"

#include "http/query.h"

#include <stdio.h>

static const struct {
    const char *name;
    enum moon_param_type type;
} types[] = {
    {"int", MOON_PARAM_INT},
    {"uuid", MOON_PARAM_UUID},
    {"alpha", MOON_PARAM_ALPHA},
};

struct failure {
    char *text;
    size_t size;
};

static MOON_PRINTF(2, 3) enum moon_err
    refuse(const struct failure *failure, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(failure->text, failure->size, format, args);
    va_end(args);
    return MOON_EINVAL;
}

static bool is_letter(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
}

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool is_hex(char ch)
{
    return is_digit(ch) || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F');
}

static bool fits_int(struct moon_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.ptr[i]))
            return false;
    }
    return value.len >= 1 && value.len <= 15;
}

static bool fits_uuid(struct moon_str value)
{
    if (value.len != 36)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        if (hyphen ? value.ptr[i] != '-' : !is_hex(value.ptr[i]))
            return false;
    }
    return true;
}

static bool fits_alpha(struct moon_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (!is_letter(value.ptr[i]))
            return false;
    }
    return value.len > 0;
}

bool moon_param_fits(enum moon_param_type type, struct moon_str value)
{
    switch (type) {
    case MOON_PARAM_INT:
        return fits_int(value);
    case MOON_PARAM_UUID:
        return fits_uuid(value);
    case MOON_PARAM_ALPHA:
        return fits_alpha(value);
    case MOON_PARAM_PLAIN:
        return value.len > 0;
    case MOON_PARAM_REST:
    case MOON_PARAM_TYPES:
        break;
    }
    return true;
}

static bool is_name(struct moon_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        if (!is_letter(ch) && ch != '_' && (i == 0 || !is_digit(ch)))
            return false;
    }
    return name.len > 0;
}

/* "name<type>" after the colon. */
static enum moon_err parse_type(struct moon_pattern_part *part,
                                const struct failure *failure)
{
    struct moon_str type;
    const char *open = memchr(part->text.ptr, '<', part->text.len);
    part->type = MOON_PARAM_PLAIN;
    if (open == NULL)
        return MOON_OK;
    size_t before = (size_t)(open - part->text.ptr);
    struct moon_str given = moon_str(open, part->text.len - before);
    type = moon_str(open + 1, given.len - 1);
    part->text.len = before;
    if (type.len > 0 && type.ptr[type.len - 1] == '>') {
        type.len--;
        for (size_t i = 0; i < MOON_COUNT(types); i++) {
            if (moon_str_eq(type, moon_strz(types[i].name))) {
                part->type = types[i].type;
                return MOON_OK;
            }
        }
    }
    return refuse(failure,
                  "parameter '%.*s': the type must be <int>, <uuid> "
                  "or <alpha>, not %.*s",
                  MOON_STR_ARG(part->text), MOON_STR_ARG(given));
}

static enum moon_err parse_param(struct moon_pattern *out,
                                 struct moon_pattern_part *part,
                                 struct moon_str text,
                                 const struct failure *failure)
{
    part->is_param = true;
    part->text = moon_str(text.ptr + 1, text.len - 1);
    part->type = MOON_PARAM_REST;
    if (text.ptr[0] == ':') {
        enum moon_err err = parse_type(part, failure);
        if (err != MOON_OK)
            return err;
    }
    if (!is_name(part->text))
        return refuse(failure, "'%.*s' needs a name of letters, digits and _",
                      MOON_STR_ARG(text));
    if (++out->param_count > MOON_PARAMS_MAX)
        return refuse(failure, "more than %d parameters", MOON_PARAMS_MAX);
    for (uint32_t i = 0; i < out->count; i++) {
        if (out->parts[i].is_param &&
            moon_str_eq(out->parts[i].text, part->text))
            return refuse(failure, "two parameters are named '%.*s'",
                          MOON_STR_ARG(part->text));
    }
    return MOON_OK;
}

static enum moon_err parse_static(struct moon_pattern_part *part,
                                  struct moon_str text,
                                  struct moon_arena *arena,
                                  const struct failure *failure)
{
    enum moon_err err = moon_percent_decode(text, false, arena, &part->text);
    if (err == MOON_ENOMEM)
        return err;
    if (err != MOON_OK || memchr(part->text.ptr, '\0', part->text.len) != NULL)
        return refuse(failure, "bad escape in '%.*s' (a %% is written %%25)",
                      MOON_STR_ARG(text));
    if (moon_str_eq(part->text, MOON_STR(".")) ||
        moon_str_eq(part->text, MOON_STR("..")))
        return refuse(failure, "dot segments never match");
    if (memchr(text.ptr, '?', text.len) != NULL ||
        memchr(text.ptr, '#', text.len) != NULL)
        return refuse(failure, "a pattern is a path, without ? and #");
    return MOON_OK;
}

static enum moon_err parse_part(struct moon_pattern *out, struct moon_str text,
                                struct moon_arena *arena,
                                const struct failure *failure)
{
    if (text.len == 0)
        return refuse(failure, "empty segments never match");
    if (out->count == MOON_SEGMENTS_MAX)
        return refuse(failure, "more than %d segments", MOON_SEGMENTS_MAX);
    struct moon_pattern_part *part = &out->parts[out->count];
    *part = (struct moon_pattern_part){0};
    bool param = text.ptr[0] == ':' || text.ptr[0] == '*';
    enum moon_err err = param ? parse_param(out, part, text, failure)
                              : parse_static(part, text, arena, failure);
    out->count++;
    return err;
}

enum moon_err moon_pattern_parse(struct moon_str pattern,
                                 struct moon_arena *arena,
                                 struct moon_pattern *out, char *error,
                                 size_t error_size)
{
    const struct failure failure = {error, error_size};
    struct moon_str rest;
    out->count = out->param_count = 0;
    out->slash = false;
    if (pattern.len == 0 || pattern.ptr[0] != '/')
        return refuse(&failure, "a pattern starts with /");
    (void)moon_str_cut(pattern, '/', &rest);
    while (!out->slash) {
        if (rest.len == 0) {
            out->slash = true;
            break;
        }
        bool more = memchr(rest.ptr, '/', rest.len) != NULL;
        struct moon_str text = moon_str_cut(rest, '/', &rest);
        enum moon_err err = parse_part(out, text, arena, &failure);
        if (err != MOON_OK)
            return err;
        if (!more)
            break;
        if (text.ptr[0] == '*')
            return refuse(&failure, "'%.*s' must be the last segment",
                          MOON_STR_ARG(text));
    }
    return MOON_OK;
}
