#include "http/head_plain.h"

#include "http/token.h"

/* Eight bytes at a time: the high bit of each that is below `low`, or DEL, or
 * not ASCII; maybe also of bytes behind the first such. */
static uint64_t unusual_bytes(uint64_t word, char low)
{
    const uint64_t ones = 0x0101010101010101u, high = ones << 7;
    uint64_t below = (word - ones * (unsigned char)low) & ~word;
    return (below | word | (word + ones)) & high;
}

/* The first byte from `at` that is below `low`, or DEL, or not ASCII; `end` if
 * there is none. */
static const char *skip_visible(const char *at, const char *end, char low)
{
    for (; end - at >= (ptrdiff_t)sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t found = unusual_bytes(moon_load_le64(at), low);
        if (found != 0)
            return at + (unsigned)MOON_CTZ64(found) / 8;
    }
    while (at < end && *at >= low && *at < 0x7f)
        at++;
    return at;
}

/* "GET", a target and a version: where the next line begins; NULL if it is
 * anything else. */
static const char *request_line(struct moon_request *req, const char *base,
                                const char *at, const char *end)
{
    static const char method[] = {'G', 'E', 'T', ' '};
    static const char version[] = {' ', 'H', 'T', 'T',  'P', '/',
                                   '1', '.', '1', '\r', '\n'};
    if (end - at < 16 || memcmp(at, method, sizeof(method)) != 0)
        return NULL;
    const char *target = at + sizeof(method);
    const char *behind = skip_visible(target, end, '!');
    if (end - behind < (ptrdiff_t)sizeof(version) || *target != '/' ||
        memcmp(behind, version, sizeof(version)) != 0)
        return NULL;
    const char *next = behind + sizeof(version);
    req->target = (struct moon_span){(uint32_t)(target - base),
                                     (uint32_t)(behind - target)};
    req->method = MOON_METHOD_GET;
    enum moon_head found = moon_head_request_line(req, (uint32_t)(at - base),
                                                  (uint32_t)(next - base));
    return found == MOON_HEAD_OK ? next : NULL;
}

/* One field line at `at`: where the next one begins; NULL if it is not
 * plain. */
static const char *field_line(struct moon_field *field, const char *base,
                              const char *at, const char *end)
{
    const char *name = at;
    while (at < end && moon_char_is(*at, MOON_CHAR_TOKEN))
        at++;
    if (at == name || end - at < 5 || at[0] != ':' || at[1] != ' ' ||
        at[2] <= ' ')
        return NULL;
    const char *value = at + 2;
    const char *behind = skip_visible(value, end, ' ');
    if (end - behind < 2 || behind[0] != '\r' || behind[1] != '\n')
        return NULL;
    field->name =
        (struct moon_span){(uint32_t)(name - base), (uint32_t)(at - name)};
    at = behind;
    while (at[-1] == ' ')
        at--;
    field->value =
        (struct moon_span){(uint32_t)(value - base), (uint32_t)(at - value)};
    return behind + 2;
}

/* Does a field say how the message goes on? Besides Connection, which has a
 * function. */
static bool is_framing(struct moon_str name)
{
    switch (name.len) {
    case 6:
        return moon_str_eq_nocase(name, MOON_STR("expect"));
    case 7:
        return moon_str_eq_nocase(name, MOON_STR("upgrade"));
    case 14:
        return moon_str_eq_nocase(name, MOON_STR("content-length"));
    case 16:
        return moon_str_eq_nocase(name, MOON_STR("proxy-connection"));
    case 17:
        return moon_str_eq_nocase(name, MOON_STR("transfer-encoding"));
    default:
        return false;
    }
}

/* The field lines and the empty line: the offset behind them, or 0. */
static uint32_t field_lines(struct moon_request *req, uint32_t most,
                            const char *at, const char *end)
{
    const char *base = req->base;
    struct moon_head_notes notes = {0};
    while (*at != '\r') {
        struct moon_field *field = &req->fields[req->field_count];
        if (req->field_count == most)
            return 0;
        at = field_line(field, base, at, end);
        if (at == NULL || at == end)
            return 0;
        req->field_count++;
        struct moon_str name = moon_request_str(req, field->name);
        if (is_framing(name))
            return 0;
        if (moon_head_may_know(name) &&
            moon_head_field(req, &notes, field) != MOON_HEAD_OK)
            return 0;
    }
    if (end - at < 2 || at[1] != '\n' ||
        moon_head_end(req, &notes) != MOON_HEAD_OK)
        return 0;
    return (uint32_t)(at + 2 - base);
}

uint32_t moon_head_plain(struct moon_request *req, uint32_t most_fields,
                         const char *base, size_t from, size_t to)
{
    const char *end = base + to;
    req->base = base;
    const char *at = request_line(req, base, base + from, end);
    uint32_t behind =
        at == NULL || at == end ? 0 : field_lines(req, most_fields, at, end);
    if (behind == 0) {
        req->method = MOON_METHOD_OTHER;
        req->method_text = req->target = (struct moon_span){0};
        req->path = req->query = req->host = (struct moon_span){0};
        req->minor = 1;
        req->keep_alive = false;
        req->field_count = 0;
    }
    return behind;
}
