#include "vm/json_number.h"

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

static bool is_moderate(double value)
{
    return value >= 1e-5 && value < 1e15;
}

/* The usual case: a fraction of at most 15 digits. A product below 1e15 is
 * less than a quarter from the integer it stands for, so rounding finds it, and
 * the division tells whether it reads back as the same double. The first hit
 * has the fewest digits. */
static bool decimal_short(double value, struct decimal *out)
{
    if (!is_moderate(value))
        return false;
    for (int scale = 1; scale <= EXACT_POWER; scale++) {
        double scaled = value * powers[scale];
        if (scaled >= 1e15)
            return false;
        uint64_t digits = (uint64_t)(scaled + 0.5);
        if ((double)digits / powers[scale] == value) {
            out->count = (int)write_u64(digits, out->digits);
            out->point = out->count - scale;
            return true;
        }
    }
    return false;
}

/* By the C library, with more and more digits until the text reads back. The
 * mark between the digits depends on the locale, so it is neither read nor
 * written: the mantissa goes back as an integer. */
static void decimal_long(double value, struct decimal *out)
{
    /* A subnormal number has fewer significant digits than the others; where
     * decimal_short has looked, 15 are too few. */
    int digits = value < DBL_MIN ? 1 : is_moderate(value) ? 16 : 15;
    for (; digits <= 17; digits++) {
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
    if (!decimal_short(value, &decimal))
        decimal_long(value, &decimal);
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
    double value = (double)mantissa;
    int64_t power = exponent + scale;
    if (count > 19 ||
        (power != 0 && (mantissa > (uint64_t)EXACT_INTEGER ||
                        power > EXACT_POWER || power < -EXACT_POWER)))
        value = read_long(digits, p, exponent);
    else if (power < 0)
        value /= powers[-power];
    else if (power > 0)
        value *= powers[power];
    if (isinf(value))
        return MOON_JSON_NUMBER_RANGE;
    *out = negative ? -value : value;
    return MOON_JSON_NUMBER_OK;
}
