#include "base/digits.h"

#include "base/compiler.h"

#include <string.h>

/* "00" to "99": two digits a division. */
static const char pairs[] = "00010203040506070809"
                            "10111213141516171819"
                            "20212223242526272829"
                            "30313233343536373839"
                            "40414243444546474849"
                            "50515253545556575859"
                            "60616263646566676869"
                            "70717273747576777879"
                            "80818283848586878889"
                            "90919293949596979899";

char *moon_put_u64(char *to, uint64_t value)
{
    char digits[MOON_DIGITS_MAX];
    size_t at = sizeof(digits);
    while (value >= 100) {
        at -= 2;
        memcpy(digits + at, pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, pairs + 2 * value, 2);
    } else {
        digits[--at] = (char)('0' + value);
    }
    memcpy(to, digits + at, sizeof(digits) - at);
    return to + (sizeof(digits) - at);
}

/* Of each byte of the lower half a byte pair: its high and its low four bits.
 */
static uint64_t spread(uint64_t x)
{
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    return (x >> 4 & 0x000f000f000f000fu) | (x & 0x000f000f000f000fu) << 8;
}

/* Eight numbers up to 15, each a byte. */
static uint64_t hex_of(uint64_t x)
{
    uint64_t letters = (x + 0x0606060606060606u) >> 4 & 0x0101010101010101u;
    return x + 0x3030303030303030u + letters * ('a' - '0' - 10);
}

char *moon_put_hex(char *to, const unsigned char *bytes, size_t len)
{
    for (; len >= 4; len -= 4, bytes += 4, to += 8)
        moon_store_le64(to,
                        hex_of(spread(moon_load_le32((const char *)bytes))));
    for (; len > 0; len--, bytes++, to += 2) {
        char both[8];
        moon_store_le64(both, hex_of(spread(*bytes)));
        memcpy(to, both, 2);
    }
    return to;
}
