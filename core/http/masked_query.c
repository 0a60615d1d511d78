#include "http/masked_query.h"

#include "http/query.h"

/* Longer names are none of these. */
enum { NAME_BYTES = 128 };

static const char mask[] = "***";

/* Words of a name ("access_token", "user[password]"), and what a word may end
 * in ("accessToken", "sessionid"). */
static const char *const words[] = {"auth", "code", "otp", "pass",   "pin",
                                    "pwd",  "sid",  "sig", "ticket", "jwt"};
static const char *const endings[] = {
    "token",         "secret",     "password",    "passwd",    "passphrase",
    "key",           "signature",  "session",     "sessionid", "sessid",
    "authorization", "credential", "credentials",
};

static bool ends_with(struct moon_str word, struct moon_str ending)
{
    return word.len >= ending.len && memcmp(word.ptr + word.len - ending.len,
                                            ending.ptr, ending.len) == 0;
}

static bool is_secret_word(struct moon_str word)
{
    for (size_t i = 0; i < MOON_COUNT(words); i++) {
        if (moon_str_eq(word, moon_strz(words[i])))
            return true;
    }
    for (size_t i = 0; i < MOON_COUNT(endings); i++) {
        if (ends_with(word, moon_strz(endings[i])))
            return true;
    }
    return false;
}

/* The name is raw; in small letters here. */
static bool is_secret(struct moon_str raw, struct moon_arena *arena)
{
    char name[NAME_BYTES];
    struct moon_str decoded;
    if (moon_percent_decode(raw, true, arena, &decoded) != MOON_OK)
        return true; /* whatever it is */
    if (decoded.len > sizeof(name))
        return false;
    size_t from = 0;
    for (size_t i = 0; i <= decoded.len; i++) {
        char ch = i < decoded.len ? decoded.ptr[i] : '\0';
        if (ch >= 'A' && ch <= 'Z')
            ch = (char)(ch | 0x20);
        if (i < decoded.len)
            name[i] = ch;
        if ((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9'))
            continue;
        if (is_secret_word(moon_str(name + from, i - from)))
            return true;
        from = i + 1;
    }
    return false;
}

/* The end of what stands for one value, and whether it is to be masked. */
static bool next_pair(struct moon_str query, size_t at, size_t *value,
                      size_t *end, struct moon_arena *arena)
{
    const char *stop = memchr(query.ptr + at, '&', query.len - at);
    *end = stop != NULL ? (size_t)(stop - query.ptr) : query.len;
    const char *equals = memchr(query.ptr + at, '=', *end - at);
    if (equals == NULL)
        return false;
    *value = (size_t)(equals - query.ptr) + 1;
    return *value < *end &&
           is_secret(moon_str(query.ptr + at, *value - 1 - at), arena);
}

struct moon_str moon_masked_query(struct moon_str target,
                                  struct moon_arena *arena)
{
    struct moon_str query;
    struct moon_str path = moon_str_cut(target, '?', &query);
    char *copy = NULL;
    size_t len = 0, done = 0, value, end;
    for (size_t at = 0; at < query.len; at = end + 1) {
        if (!next_pair(query, at, &value, &end, arena))
            continue;
        if (copy == NULL) { /* a value has a byte at least: three for one */
            copy = moon_arena_alloc(arena, target.len * 3);
            if (copy == NULL)
                return path;
            len = (size_t)(query.ptr - target.ptr);
            memcpy(copy, target.ptr, len);
        }
        memcpy(copy + len, query.ptr + done, value - done);
        len += value - done;
        memcpy(copy + len, mask, sizeof(mask) - 1);
        len += sizeof(mask) - 1;
        done = end;
    }
    if (copy == NULL)
        return target;
    memcpy(copy + len, query.ptr + done, query.len - done);
    return moon_str(copy, len + query.len - done);
}
