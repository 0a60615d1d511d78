#include "http/negotiate.h"

#include "http/token.h"

/* How closely a media range names a type; more is closer. */
enum fit { FIT_NONE, FIT_ANY, FIT_FAMILY, FIT_VARIANT, FIT_EXACT };

struct preference {
    struct moon_str type; /* the range, without its parameters */
    bool variant;         /* it has some, other than q */
    int quality;          /* in thousandths */
};

/* "0", "0.5", "1.000": at most three decimals (RFC 9110 section 12.4.2). */
static bool parse_quality(struct moon_str text, int *out)
{
    if (text.len == 0 || text.len > 5 || text.ptr[0] < '0' ||
        text.ptr[0] > '1' || (text.len > 1 && text.ptr[1] != '.'))
        return false;
    int value = (text.ptr[0] - '0') * 1000, unit = 100;
    for (size_t i = 2; i < text.len; i++, unit /= 10) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        value += (text.ptr[i] - '0') * unit;
    }
    *out = value;
    return value <= 1000;
}

/* Of the parameters only q is looked at: our offers have none. */
static bool parse_preference(struct moon_str element, struct preference *out)
{
    struct moon_str rest;
    out->type = moon_str_trim(moon_str_cut(element, ';', &rest));
    out->variant = false;
    out->quality = 1000;
    while (rest.len > 0) {
        struct moon_str value;
        struct moon_str param = moon_str_trim(moon_str_cut(rest, ';', &rest));
        struct moon_str name = moon_str_cut(param, '=', &value);
        if (moon_str_eq_nocase(name, MOON_STR("q")))
            return parse_quality(value, &out->quality);
        out->variant = out->variant || name.len > 0;
    }
    return true;
}

/* Who asks for a variant of a type is better served with the type than not at
 * all; what is said about the type itself counts first. */
static enum fit fit_of(const struct preference *preference,
                       struct moon_str offer)
{
    struct moon_str range = preference->type;
    if (moon_str_eq(range, MOON_STR("*/*")))
        return FIT_ANY;
    if (moon_str_eq_nocase(range, offer))
        return preference->variant ? FIT_VARIANT : FIT_EXACT;
    size_t family = range.len < 2 ? 0 : range.len - 1;
    if (family > 0 && range.ptr[family] == '*' &&
        range.ptr[family - 1] == '/' && offer.len > family &&
        moon_str_eq_nocase(moon_str(range.ptr, family),
                           moon_str(offer.ptr, family)))
        return FIT_FAMILY;
    return FIT_NONE;
}

/* The closest range decides about an offer, whatever its quality. */
static enum fit rate(struct moon_str accept, struct moon_str offer,
                     int *quality)
{
    struct moon_str element = MOON_STR_NONE;
    struct preference preference;
    enum fit best = FIT_NONE;
    *quality = 0;
    while (moon_list_next(&accept, &element)) {
        if (!parse_preference(element, &preference))
            continue;
        enum fit fit = fit_of(&preference, offer);
        if (fit > best) {
            best = fit;
            *quality = preference.quality;
        }
    }
    return best;
}

int moon_accept_best(struct moon_str accept, const struct moon_str *offers,
                     size_t count)
{
    int best = -1, best_quality = 0;
    enum fit best_fit = FIT_NONE;
    if (moon_str_trim(accept).len == 0)
        return count > 0 ? 0 : -1;
    for (size_t i = 0; i < count; i++) {
        int quality;
        enum fit fit = rate(accept, offers[i], &quality);
        if (quality > best_quality ||
            (quality == best_quality && quality > 0 && fit > best_fit)) {
            best = (int)i;
            best_quality = quality;
            best_fit = fit;
        }
    }
    return best;
}

struct etag {
    struct moon_str opaque; /* with its quotes */
    bool weak;
};

/* Takes the next entity tag off *rest; false at the end or at anything that is
 * none. A backslash is an ordinary byte in it. */
static bool next_etag(struct moon_str *rest, struct etag *out)
{
    const char *at = rest->ptr, *end = rest->ptr + rest->len;
    while (at < end && (*at == ',' || *at == ' ' || *at == '\t'))
        at++;
    out->weak = end - at > 2 && at[0] == 'W' && at[1] == '/';
    if (out->weak)
        at += 2;
    if (end - at < 2 || *at != '"')
        return false;
    const char *close = memchr(at + 1, '"', (size_t)(end - at) - 1);
    if (close == NULL)
        return false;
    out->opaque = moon_str(at, (size_t)(close - at) + 1);
    *rest = moon_str(close + 1, (size_t)(end - close) - 1);
    return true;
}

bool moon_etag_listed(struct moon_str list, struct moon_str etag, bool weak)
{
    struct etag own, other;
    if (moon_str_eq(moon_str_trim(list), MOON_STR("*")))
        return true;
    if (!next_etag(&etag, &own))
        return false;
    while (list.len > 0 && next_etag(&list, &other)) {
        if (moon_str_eq(own.opaque, other.opaque) &&
            (weak || (!own.weak && !other.weak)))
            return true;
    }
    return false;
}

static enum moon_range_result suffix(uint64_t count, uint64_t size,
                                     struct moon_range *out)
{
    if (count == 0 || size == 0)
        return MOON_RANGE_UNSATISFIABLE;
    uint64_t length = count < size ? count : size;
    *out = (struct moon_range){size - length, length};
    return MOON_RANGE_ONE;
}

enum moon_range_result moon_range_parse(struct moon_str value, uint64_t size,
                                        struct moon_range *out)
{
    struct moon_str spec, after;
    uint64_t from, to = UINT64_MAX;
    struct moon_str unit = moon_str_cut(value, '=', &spec);
    if (!moon_str_eq_nocase(unit, MOON_STR("bytes")))
        return MOON_RANGE_NONE;
    spec = moon_str_trim(spec);
    if (spec.len < 2 || memchr(spec.ptr, '-', spec.len) == NULL)
        return MOON_RANGE_NONE;
    struct moon_str before = moon_str_cut(spec, '-', &after);
    if (before.len == 0)
        return moon_str_to_u64(after, &to) ? suffix(to, size, out)
                                           : MOON_RANGE_NONE;
    if (!moon_str_to_u64(before, &from) ||
        (after.len > 0 && !moon_str_to_u64(after, &to)) || to < from)
        return MOON_RANGE_NONE;
    if (from >= size)
        return MOON_RANGE_UNSATISFIABLE;
    uint64_t last = to < size ? to : size - 1;
    *out = (struct moon_range){from, last - from + 1};
    return MOON_RANGE_ONE;
}
