#include "fleet/json_pick.h"

/* Past the string that begins at `at`. */
static size_t skip_string(struct moon_str json, size_t at)
{
    for (at++; at < json.len && json.ptr[at] != '"'; at++)
        if (json.ptr[at] == '\\')
            at++;
    return at + 1;
}

static size_t skip_space(struct moon_str json, size_t at)
{
    while (at < json.len && memchr(" \t\r\n", json.ptr[at], 4) != NULL)
        at++;
    return at;
}

/* Past the value that begins at `at`. */
static size_t skip_value(struct moon_str json, size_t at)
{
    int depth = 0;
    while (at < json.len) {
        char ch = json.ptr[at];
        if (ch == '"') {
            at = skip_string(json, at);
        } else if (depth == 0 && (ch == ',' || ch == '}')) {
            return at;
        } else {
            depth += (ch == '{' || ch == '[') - (ch == '}' || ch == ']');
            at++;
        }
        if (depth == 0 && (ch == '"' || ch == '}' || ch == ']'))
            return at;
    }
    return json.len;
}

bool moon_json_pick(struct moon_str json, const char *keyz,
                    struct moon_str *value)
{
    size_t at = skip_space(json, 0);
    if (at >= json.len || json.ptr[at] != '{')
        return false;
    for (;;) {
        at = skip_space(json, at + 1); /* behind the brace, or a comma */
        if (at >= json.len || json.ptr[at] != '"')
            return false;
        size_t end = skip_string(json, at);
        if (end > json.len)
            return false;
        struct moon_str key = moon_str(json.ptr + at + 1, end - at - 2);
        at = skip_space(json, end);
        if (at >= json.len || json.ptr[at] != ':')
            return false;
        at = skip_space(json, at + 1);
        end = skip_value(json, at);
        if (at >= json.len || end > json.len)
            return false;
        if (moon_str_eq(key, moon_strz(keyz))) {
            *value = moon_str_trim(moon_str(json.ptr + at, end - at));
            if (value->len >= 2 && value->ptr[0] == '"')
                *value = moon_str(value->ptr + 1, value->len - 2);
            return value->len > 0 || json.ptr[at] == '"';
        }
        at = skip_space(json, end);
        if (at >= json.len || json.ptr[at] != ',')
            return false;
    }
}
