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
#define MOON_JSON_PLAIN(b) \
    ((b) >= 0x20 && (b) < 0x80 && (b) != '"' && (b) != '\\')
#define MOON_JSON_PLAIN4(b)                                                 \
    MOON_JSON_PLAIN(b), MOON_JSON_PLAIN((b) + 1), MOON_JSON_PLAIN((b) + 2), \
        MOON_JSON_PLAIN((b) + 3)
#define MOON_JSON_PLAIN16(b)                                                   \
    MOON_JSON_PLAIN4(b), MOON_JSON_PLAIN4((b) + 4), MOON_JSON_PLAIN4((b) + 8), \
        MOON_JSON_PLAIN4((b) + 12)
#define MOON_JSON_PLAIN64(b)                           \
    MOON_JSON_PLAIN16(b), MOON_JSON_PLAIN16((b) + 16), \
        MOON_JSON_PLAIN16((b) + 32), MOON_JSON_PLAIN16((b) + 48)

static const bool moon_json_plain[256] = {
    MOON_JSON_PLAIN64(0), MOON_JSON_PLAIN64(64), MOON_JSON_PLAIN64(128),
    MOON_JSON_PLAIN64(192)};

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

#endif
