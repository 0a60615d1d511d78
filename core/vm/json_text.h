/* What both halves of the JSON codec know about the bytes of a string.
 *
 * Private to core/vm/json_*.c; pure functions, nothing can fail. */
#ifndef MOON_VM_JSON_TEXT_H
#define MOON_VM_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A byte that stands for itself in a JSON string: ASCII, not a control
 * character, not a quote, not a backslash. */
static inline bool moon_json_is_plain(unsigned char b)
{
    return b >= 0x20 && b < 0x80 && b != '"' && b != '\\';
}

/* True if none of the eight bytes needs a look; bytes are tested all at once,
 * by the borrow that subtracting leaves in the top bit of each. */
static inline bool moon_json_is_plain8(const unsigned char *s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t w;
    memcpy(&w, s, sizeof(w));
    uint64_t quote = w ^ (ones * '"');
    uint64_t slash = w ^ (ones * '\\');
    uint64_t odd = w | (w - ones * 0x20) | (quote - ones) | (slash - ones);
    return (odd & (ones * 0x80)) == 0;
}

/* How many bytes from `s` on are plain. */
static inline size_t moon_json_plain_run(const unsigned char *s, size_t len)
{
    size_t n = 0;
    while (len - n >= 8 && moon_json_is_plain8(s + n))
        n += 8;
    while (n < len && moon_json_is_plain(s[n]))
        n++;
    return n;
}

#endif
