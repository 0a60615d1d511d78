/* Bytes as pointer and length: never owned, never NUL-terminated.
 *
 * A moon_str borrows; the function that hands one out says until when.
 * NUL-terminated text exists only at the edges to the OS and to libraries, in
 * variables whose name ends in z. */
#ifndef MOON_BASE_STR_H
#define MOON_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct moon_str {
    const char *ptr;
    size_t len;
};

#define MOON_STR(literal) \
    ((struct moon_str){(literal), sizeof("" literal "") - 1})
/* Of a char array that holds text. */
#define MOON_STR_OF(array) ((struct moon_str){(array), sizeof(array) - 1})
#define MOON_STR_NONE ((struct moon_str){NULL, 0})
/* For printf: "%.*s". */
#define MOON_STR_ARG(s) (int)(s).len, (s).ptr

static inline struct moon_str moon_str(const char *ptr, size_t len)
{
    return (struct moon_str){ptr, len};
}

static inline struct moon_str moon_strz(const char *z)
{
    return (struct moon_str){z, strlen(z)};
}

static inline bool moon_str_eq(struct moon_str a, struct moon_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII only, as HTTP compares header names and tokens. */
bool moon_bytes_eq_nocase(const char *a, const char *b, size_t len);
static inline bool moon_str_eq_nocase(struct moon_str a, struct moon_str b)
{
    return a.len == b.len && moon_bytes_eq_nocase(a.ptr, b.ptr, a.len);
}

static inline bool moon_str_starts(struct moon_str s, struct moon_str prefix)
{
    return s.len >= prefix.len &&
           (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/* Without leading and trailing spaces and tabs. */
struct moon_str moon_str_trim(struct moon_str s);

/* Cuts `s` at the first `sep`: returns what is before it and leaves what is
 * after it in *rest; without a `sep`, all of it and *rest is empty. */
struct moon_str moon_str_cut(struct moon_str s, char sep,
                             struct moon_str *rest);

/* Decimal digits only, no sign, no space; false on overflow or other bytes. */
bool moon_str_to_u64(struct moon_str s, uint64_t *out);

/* Length of the well-formed UTF-8 sequence (RFC 3629) at `s`, where `left`
 * bytes are, at least one; 0 if there is none. */
size_t moon_utf8_len(const unsigned char *s, size_t left);
/* The code point of a well-formed sequence of that length. */
uint32_t moon_utf8_decode(const unsigned char *s, size_t len);
/* Does it show something else than what is there, or steer what shows it:
 * controls (C0, C1, DEL), line separators, what turns the direction of writing
 * around, what is not seen at all? */
bool moon_utf8_misleads(uint32_t code);

#endif
