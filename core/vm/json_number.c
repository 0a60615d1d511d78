#include "vm/json_number.h"

#include "base/compiler.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Up to here a double holds every integer, and every power of ten that is
 * listed: one multiplication or division of such two rounds correctly. */
#define EXACT_INTEGER 9007199254740992.0
#define EXACT_POWER 22

static const double powers[EXACT_POWER + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* 17 digits tell all doubles apart; a uint64_t has up to 20. */
#define MAX_DIGITS 20

/* A positive number as 0.DIGITS times ten to `point`. */
struct decimal {
    char digits[MAX_DIGITS];
    int count;
    int point;
};

static size_t write_u64(uint64_t value, char *to)
{
    size_t len = 1;
    for (uint64_t rest = value; rest >= 10; rest /= 10)
        len++;
    for (char *at = to + len - 1; at > to; at--) {
        *at = (char)('0' + value % 10);
        value /= 10;
    }
    *to = (char)('0' + value);
    return len;
}

/* The usual case: a fraction of at most 15 digits. A product below 1e15 is
 * less than a quarter from the integer it stands for, so rounding finds it, and
 * the division tells whether it reads back as the same double. The first hit
 * has the fewest digits. Without one, *scale is what makes 16 digits. */
static bool decimal_short(double value, struct decimal *out, int *scale)
{
    int at = 1;
    for (double scaled; (scaled = value * powers[at]) < 1e15; at++) {
        uint64_t digits = (uint64_t)(scaled + 0.5);
        if ((double)digits / powers[at] == value) {
            out->count = (int)write_u64(digits, out->digits);
            out->point = out->count - at;
            return true;
        }
    }
    *scale = at;
    return false;
}

static moon_u128 power_of_ten(int exponent)
{
    moon_u128 power = 1;
    while (exponent-- > 0)
        power *= 10;
    return power;
}

/* 16 digits, or 17 if those do not read back. The value is mantissa / 2^shift,
 * and times a power of ten that is an integer of at most 126 bits before the
 * shift, so all of this is exact. */
static void decimal_exact(double value, int scale, struct decimal *out)
{
    int exponent;
    uint64_t mantissa = (uint64_t)ldexp(frexp(value, &exponent), DBL_MANT_DIG);
    int shift = DBL_MANT_DIG - exponent;
    moon_u128 power = power_of_ten(scale);
    moon_u128 exact = mantissa * power;
    uint64_t digits = (uint64_t)(exact >> shift);
    uint64_t last = digits % 10;
    uint64_t shorter = digits - last + (last >= 5 ? 10 : 0);
    moon_u128 candidate = (moon_u128)shorter << shift;
    bool above = candidate > exact;
    moon_u128 twice = 2 * (above ? candidate - exact : exact - candidate);
    /* Doubles are `power` apart here, and half of that below a power of two;
     * midway the even one is read. */
    if (!above && mantissa == UINT64_C(1) << (DBL_MANT_DIG - 1))
        twice *= 2;
    if (twice < power || (twice == power && mantissa % 2 == 0))
        digits = shorter;
    else
        digits += (uint64_t)(exact >> (shift - 1)) & 1;
    out->count = (int)write_u64(digits, out->digits);
    out->point = out->count - scale;
}

/* Very small and very large ones: by the C library, with more and more digits
 * until the text reads back. The mark between the digits depends on the locale,
 * so it is neither read nor written: the mantissa goes back as an integer. */
static void decimal_long(double value, struct decimal *out)
{
    /* A subnormal number has fewer significant digits than the others. */
    for (int digits = value < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        char text[64], again[64];
        (void)snprintf(text, sizeof(text), "%.*e", digits - 1, value);
        const char *e = strchr(text, 'e');
        out->count = 0;
        for (const char *p = text; p < e && out->count < digits; p++) {
            if (*p >= '0' && *p <= '9')
                out->digits[out->count++] = *p;
        }
        out->point = atoi(e + 1) + 1;
        (void)snprintf(again, sizeof(again), "%.*se%d", out->count, out->digits,
                       out->point - out->count);
        if (digits == 17 || strtod(again, NULL) == value)
            break;
    }
}

static void to_decimal(double value, struct decimal *out)
{
    int scale;
    if (value < 1e-5 || value >= 1e15)
        decimal_long(value, out);
    else if (!decimal_short(value, out, &scale))
        decimal_exact(value, scale + 1, out);
    while (out->count > 1 && out->digits[out->count - 1] == '0')
        out->count--;
}

static char *copy(char *to, const char *from, int len)
{
    memcpy(to, from, (size_t)len);
    return to + len;
}

static char *zeros(char *to, int len)
{
    memset(to, '0', (size_t)len);
    return to + len;
}

static char *write_decimal(const struct decimal *d, char *to)
{
    if (d->point > 21 || d->point < -5) {
        *to++ = d->digits[0];
        if (d->count > 1) {
            *to++ = '.';
            to = copy(to, d->digits + 1, d->count - 1);
        }
        int exponent = d->point - 1;
        *to++ = 'e';
        *to++ = exponent < 0 ? '-' : '+';
        return to + write_u64((uint64_t)abs(exponent), to);
    }
    if (d->point <= 0) {
        to = copy(to, "0.", 2);
        to = zeros(to, -d->point);
        return copy(to, d->digits, d->count);
    }
    if (d->point >= d->count) {
        to = copy(to, d->digits, d->count);
        return zeros(to, d->point - d->count);
    }
    to = copy(to, d->digits, d->point);
    *to++ = '.';
    return copy(to, d->digits + d->point, d->count - d->point);
}

size_t moon_json_number_write(double value, char *to)
{
    char *at = to;
    if (signbit(value)) {
        *at++ = '-';
        value = -value;
    }
    if (value <= EXACT_INTEGER && (double)(uint64_t)value == value)
        return (size_t)(at - to) + write_u64((uint64_t)value, at);
    struct decimal decimal;
    to_decimal(value, &decimal);
    return (size_t)(write_decimal(&decimal, at) - to);
}

static bool is_digit(const char *at, const char *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

/* No double needs more digits than this to be told from its neighbours; what
 * follows matters only by being zero or not. */
#define DIGITS_THAT_MATTER 770

/* Hands any well-formed number to strtod, rewritten without a decimal mark
 * because the locale decides what strtod takes for one. */
static double read_long(const char *at, const char *end, int64_t exponent)
{
    char text[DIGITS_THAT_MATTER + 32];
    size_t count = 0;
    bool fraction = false, more = false;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        if (count == DIGITS_THAT_MATTER) {
            more = more || *at != '0';
            exponent += !fraction;
            continue;
        }
        if (count > 0 || *at != '0')
            text[count++] = *at;
        exponent -= fraction;
    }
    if (more) {
        text[count++] = '1';
        exponent--;
    }
    if (count == 0)
        return 0;
    if (exponent > 99999)
        exponent = 99999;
    if (exponent < -99999)
        exponent = -99999;
    (void)snprintf(text + count, sizeof(text) - count, "e%d", (int)exponent);
    return strtod(text, NULL);
}

/* Powers up to this fit in 64 bits, so that a quotient of 128 by it has bits
 * enough to be rounded once. */
#define QUOTIENT_POWER 19

/* mantissa / 10^power. What the division leaves only breaks ties, so it may
 * stand in the lowest bit. */
static double read_quotient(uint64_t mantissa, int power)
{
    int shift = 64;
    moon_u128 dividend = (moon_u128)mantissa << shift;
    for (; dividend >> 127 == 0; shift++)
        dividend <<= 1;
    moon_u128 divisor = power_of_ten(power);
    moon_u128 quotient = dividend / divisor;
    if (quotient * divisor != dividend)
        quotient |= 1;
    return ldexp((double)quotient, -shift);
}

/* Digits go into *mantissa, and *count of them, until 19 are there. */
static const char *read_digits(const char *at, const char *end,
                               uint64_t *mantissa, int *count)
{
    for (; is_digit(at, end); at++) {
        if (*mantissa == 0 && *at == '0')
            continue;
        if (*count < 19)
            *mantissa = *mantissa * 10 + (uint64_t)(*at - '0');
        *count += *count < MAX_DIGITS;
    }
    return at;
}

/* The exponent behind 'e', at *at; false if there is no digit. */
static bool read_exponent(const char **at, const char *end, int64_t *out)
{
    const char *p = *at;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    *at = p;
    if (!is_digit(p, end))
        return false;
    int64_t value = 0;
    for (; is_digit(p, end); p++) {
        /* Far beyond any text length, so that 0.00...1e... still adds up. */
        if (value < INT64_C(1000000000000000))
            value = value * 10 + (*p - '0');
    }
    *at = p;
    *out = negative ? -value : value;
    return true;
}

/* `count` digits times a power of ten, when that can be had cheaply and
 * correctly rounded; else -1. */
static double to_double(uint64_t mantissa, int count, int64_t power)
{
    if (count > 19 || power > EXACT_POWER || power < -EXACT_POWER)
        return -1;
    if (power == 0)
        return (double)mantissa;
    if (mantissa <= (uint64_t)EXACT_INTEGER)
        return power < 0 ? (double)mantissa / powers[-power]
                         : (double)mantissa * powers[power];
    if (power < 0 && power >= -QUOTIENT_POWER)
        return read_quotient(mantissa, (int)-power);
    return -1;
}

enum moon_json_number moon_json_number_read(const char **at, const char *end,
                                            double *out)
{
    const char *p = *at;
    bool negative = p < end && *p == '-';
    if (negative)
        p++;
    const char *digits = p;
    uint64_t mantissa = 0;
    int64_t exponent = 0, scale = 0;
    int count = 0;
    *at = p;
    if (!is_digit(p, end))
        return MOON_JSON_NUMBER_MALFORMED;
    /* Digits behind a zero are the caller's unexpected bytes. */
    p = *p == '0' ? p + 1 : read_digits(p, end, &mantissa, &count);
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        *at = p;
        if (!is_digit(p, end))
            return MOON_JSON_NUMBER_MALFORMED;
        p = read_digits(p, end, &mantissa, &count);
        scale = fraction - p;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        *at = p + 1;
        if (!read_exponent(at, end, &exponent))
            return MOON_JSON_NUMBER_MALFORMED;
        p = *at;
    }
    *at = p;
    double value = to_double(mantissa, count, exponent + scale);
    if (value < 0)
        value = read_long(digits, p, exponent);
    if (isinf(value))
        return MOON_JSON_NUMBER_RANGE;
    *out = negative ? -value : value;
    return MOON_JSON_NUMBER_OK;
}
