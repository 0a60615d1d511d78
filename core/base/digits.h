/* Numbers and bytes as text where printf would be most of the work. Pure; any
 * thread. */
#ifndef MOON_BASE_DIGITS_H
#define MOON_BASE_DIGITS_H

#include <stddef.h>
#include <stdint.h>

enum { MOON_DIGITS_MAX = 20 }; /* of 64 bits in decimal */

/* In decimal; what is behind the last digit. No NUL. */
char *moon_put_u64(char *to, uint64_t value);

/* Two small hexadecimal digits for each byte; what is behind them. No NUL. */
char *moon_put_hex(char *to, const unsigned char *bytes, size_t len);

#endif
