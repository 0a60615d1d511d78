#include "http/response.h"

#include "http/token.h"

enum { FIRST_FIELDS = 8 };

void moon_response_init(struct moon_response *res, struct moon_out_field *first,
                        uint32_t cap)
{
    *res = (struct moon_response){.fields = first, .field_cap = cap};
}

/* Framing and the connection belong to http_out. */
static bool is_reserved(struct moon_str name)
{
    switch (name.len) {
    case 4:
        return moon_str_eq_nocase(name, MOON_STR("Date"));
    case 10:
        return moon_str_eq_nocase(name, MOON_STR("Connection"));
    case 14:
        return moon_str_eq_nocase(name, MOON_STR("Content-Length"));
    case 17:
        return moon_str_eq_nocase(name, MOON_STR("Transfer-Encoding"));
    default:
        return false;
    }
}

static bool is_clean_value(struct moon_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        char ch = value.ptr[i];
        if (ch == '\r' || ch == '\n' || ch == '\0')
            return false;
    }
    return true;
}

static bool is_field(const struct moon_out_field *field, struct moon_str name)
{
    return moon_str_eq_nocase(field->name, name);
}

enum moon_err moon_response_grow(struct moon_response *res,
                                 struct moon_arena *arena)
{
    uint32_t cap = res->field_cap == 0 ? FIRST_FIELDS : res->field_cap * 2;
    struct moon_out_field *fields =
        moon_arena_alloc(arena, cap * sizeof(fields[0]));
    if (fields == NULL)
        return MOON_ENOMEM;
    if (res->field_count > 0)
        memcpy(fields, res->fields, res->field_count * sizeof(fields[0]));
    res->fields = fields;
    res->field_cap = cap;
    return MOON_OK;
}

static bool may_set(struct moon_str name)
{
    return moon_str_is_token(name) && !is_reserved(name);
}

/* Copies both, in one piece. */
static enum moon_err add_copy(struct moon_response *res,
                              struct moon_arena *arena, struct moon_str name,
                              struct moon_str value)
{
    if (!is_clean_value(value))
        return MOON_EINVAL;
    size_t left = MOON_RESPONSE_FIELDS_MAX - res->copied_bytes;
    if (name.len > left || value.len > left - name.len)
        return MOON_EFULL;
    char *copy = moon_arena_alloc(arena, name.len + value.len);
    if (copy == NULL)
        return MOON_ENOMEM;
    memcpy(copy, name.ptr, name.len);
    if (value.len > 0)
        memcpy(copy + name.len, value.ptr, value.len);
    res->copied_bytes += (uint32_t)(name.len + value.len);
    return moon_response_add_static(res, arena, moon_str(copy, name.len),
                                    moon_str(copy + name.len, value.len));
}

enum moon_err moon_response_add(struct moon_response *res,
                                struct moon_arena *arena, struct moon_str name,
                                struct moon_str value)
{
    return may_set(name) ? add_copy(res, arena, name, value) : MOON_EINVAL;
}

static bool has_field(const struct moon_response *res, struct moon_str name)
{
    for (uint32_t i = 0; i < res->field_count; i++) {
        if (is_field(&res->fields[i], name))
            return true;
    }
    return false;
}

static void remove_field(struct moon_response *res, struct moon_str name)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < res->field_count; i++) {
        if (!is_field(&res->fields[i], name))
            res->fields[kept++] = res->fields[i];
    }
    res->field_count = kept;
}

enum moon_err moon_response_set(struct moon_response *res,
                                struct moon_arena *arena, struct moon_str name,
                                struct moon_str value)
{
    if (!may_set(name))
        return MOON_EINVAL;
    if (value.ptr == NULL) {
        remove_field(res, name);
        return MOON_OK;
    }
    if (!has_field(res, name))
        return add_copy(res, arena, name, value);
    /* Added before the old ones go: a failure leaves all as it was. */
    uint32_t before = res->field_count;
    enum moon_err err = add_copy(res, arena, name, value);
    if (err != MOON_OK)
        return err;
    struct moon_out_field added = res->fields[before];
    remove_field(res, name);
    res->fields[res->field_count++] = added;
    return MOON_OK;
}

enum moon_err moon_response_set_static(struct moon_response *res,
                                       struct moon_arena *arena,
                                       struct moon_str name,
                                       struct moon_str value)
{
    for (uint32_t i = 0; i < res->field_count; i++) {
        if (res->fields[i].name.ptr == name.ptr) {
            res->fields[i].value = value;
            return MOON_OK;
        }
    }
    return moon_response_add_static(res, arena, name, value);
}

enum moon_err moon_response_put_static(struct moon_response *res,
                                       struct moon_arena *arena,
                                       struct moon_str name,
                                       struct moon_str value)
{
    remove_field(res, name);
    return moon_response_add_static(res, arena, name, value);
}

bool moon_response_get(const struct moon_response *res, struct moon_str name,
                       uint32_t nth, struct moon_str *out)
{
    for (uint32_t i = 0; i < res->field_count; i++) {
        if (is_field(&res->fields[i], name) && nth-- == 0) {
            *out = res->fields[i].value;
            return true;
        }
    }
    return false;
}

/* Content-Security-Policy protects whatever is shown, error pages too, and the
 * Content-Range of a 416 only tells the size of the file. */
static bool describes_content(const struct moon_out_field *field)
{
    char first = (char)(field->name.ptr[0] | 0x20);
    if (MOON_LIKELY(first != 'c' && first != 'e' && first != 'l'))
        return false;
    static const struct moon_str prefix = {"Content-", 8};
    static const struct moon_str policy = {"Content-Security-", 17};
    struct moon_str name = field->name;
    if (moon_str_eq_nocase(name, MOON_STR("ETag")) ||
        moon_str_eq_nocase(name, MOON_STR("Last-Modified")) ||
        moon_str_eq_nocase(name, MOON_STR("Cache-Control")))
        return true;
    if (name.len < prefix.len ||
        !moon_str_eq_nocase(moon_str(name.ptr, prefix.len), prefix))
        return false;
    if (moon_str_eq_nocase(name, MOON_STR("Content-Range")))
        return !moon_str_starts(field->value, MOON_STR("bytes */"));
    return name.len < policy.len ||
           !moon_str_eq_nocase(moon_str(name.ptr, policy.len), policy);
}

void moon_response_drop_content(struct moon_response *res)
{
    uint32_t kept = 0;
    while (kept < res->field_count && !describes_content(&res->fields[kept]))
        kept++;
    for (uint32_t i = kept; i < res->field_count; i++) {
        if (!describes_content(&res->fields[i]))
            res->fields[kept++] = res->fields[i];
    }
    res->field_count = kept;
}
