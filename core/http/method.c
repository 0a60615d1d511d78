#include "http/method.h"

static const struct moon_str names[MOON_METHOD_COUNT] = {
#define X(name) {#name, sizeof(#name) - 1},
    MOON_METHOD_MAP(X)
#undef X
};

static enum moon_method only(enum moon_method method, struct moon_str token)
{
    const char *name = names[method].ptr;
    return memcmp(name, token.ptr, token.len) == 0 ? method : MOON_METHOD_OTHER;
}

/* Length and first letter leave one candidate. */
enum moon_method moon_method_parse(struct moon_str token)
{
    switch (token.len) {
    case 3:
        return only(token.ptr[0] == 'G' ? MOON_METHOD_GET : MOON_METHOD_PUT,
                    token);
    case 4:
        return only(token.ptr[0] == 'P' ? MOON_METHOD_POST : MOON_METHOD_HEAD,
                    token);
    case 5:
        return only(MOON_METHOD_PATCH, token);
    case 6:
        return only(MOON_METHOD_DELETE, token);
    case 7:
        return only(MOON_METHOD_OPTIONS, token);
    default:
        return MOON_METHOD_OTHER;
    }
}

struct moon_str moon_method_name(enum moon_method method)
{
    return (unsigned)method < MOON_METHOD_COUNT ? names[method]
                                                : names[MOON_METHOD_OTHER];
}

struct moon_str moon_methods_text(uint32_t set, char to[MOON_METHODS_TEXT])
{
    size_t len = 0;
    for (int m = 0; m < MOON_METHOD_OTHER; m++) {
        if ((set & MOON_METHOD_BIT(m)) == 0)
            continue;
        if (len > 0) {
            memcpy(to + len, ", ", 2);
            len += 2;
        }
        memcpy(to + len, names[m].ptr, names[m].len);
        len += names[m].len;
    }
    return moon_str(to, len);
}
