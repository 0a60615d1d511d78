#include "base/units.h"

#include <math.h>
#include <stdio.h>

struct unit {
    const char *namez;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"ms", 1},          {"s", 1000},        {"", 1000},
    {"m", 60 * 1000},   {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000},
    {"min", 60 * 1000},
};

static const struct unit sizes[] = {
    {"", 1},
    {"b", 1},
    {"k", 1 << 10},
    {"kb", 1 << 10},
    {"kib", 1 << 10},
    {"m", 1 << 20},
    {"mb", 1 << 20},
    {"mib", 1 << 20},
    {"g", 1 << 30},
    {"gb", 1 << 30},
    {"gib", 1 << 30},
    {"t", 1ull << 40},
    {"tb", 1ull << 40},
    {"tib", 1ull << 40},
};

/* Above this a double no longer holds every whole number. */
#define LIMIT 9007199254740992.0

/* Digits, at most one point, then a unit. No exponent, no sign, no hex. */
static bool parse(struct moon_str text, const struct unit *units, size_t count,
                  double *out)
{
    double value = 0, scale = 1;
    size_t at = 0, digits = 0;
    bool point = false;
    for (; at < text.len; at++) {
        char ch = text.ptr[at];
        if (ch == '.' && !point) {
            point = true;
        } else if (ch >= '0' && ch <= '9') {
            digits++;
            value = value * 10 + (ch - '0');
            if (point)
                scale *= 10;
        } else {
            break;
        }
    }
    if (digits == 0 || digits > 18)
        return false;
    struct moon_str name = moon_str(text.ptr + at, text.len - at);
    for (size_t i = 0; i < count; i++) {
        if (moon_str_eq_nocase(name, moon_strz(units[i].namez))) {
            *out = value * (double)units[i].factor / scale;
            return *out < LIMIT;
        }
    }
    return false;
}

enum moon_err moon_duration_parse(struct moon_str text, uint64_t *ms,
                                  char *error, size_t error_size)
{
    double value;
    if (!parse(moon_str_trim(text), durations, MOON_COUNT(durations), &value)) {
        (void)snprintf(error, error_size,
                       "\"%.*s\" is not a duration: use a number of seconds, "
                       "or one with ms, s, m, h or d (\"250ms\", \"30s\")",
                       MOON_STR_ARG(text));
        return MOON_EINVAL;
    }
    *ms = (uint64_t)ceil(value);
    return MOON_OK;
}

enum moon_err moon_size_parse(struct moon_str text, uint64_t *bytes,
                              char *error, size_t error_size)
{
    double value;
    if (!parse(moon_str_trim(text), sizes, MOON_COUNT(sizes), &value) ||
        value != floor(value)) {
        (void)snprintf(error, error_size,
                       "\"%.*s\" is not a size: use a number of bytes, or one "
                       "with k, m, g or t (\"64k\", \"10m\")",
                       MOON_STR_ARG(text));
        return MOON_EINVAL;
    }
    *bytes = (uint64_t)value;
    return MOON_OK;
}

static void format(uint64_t value, const struct unit *units, size_t count,
                   char *to, size_t size)
{
    const struct unit *best = units; /* its factor is 1 */
    for (size_t i = 1; i < count; i++) {
        if (value % units[i].factor == 0 && units[i].factor > best->factor)
            best = &units[i];
    }
    (void)snprintf(to, size, "%llu%s",
                   (unsigned long long)(value / best->factor), best->namez);
}

void moon_duration_format(uint64_t ms, char *to, size_t size)
{
    if (ms == 0)
        (void)snprintf(to, size, "0");
    else
        format(ms, durations, MOON_COUNT(durations), to, size);
}

void moon_size_format(uint64_t bytes, char *to, size_t size)
{
    if (bytes == 0)
        (void)snprintf(to, size, "0");
    else
        format(bytes, sizes, MOON_COUNT(sizes), to, size);
}
