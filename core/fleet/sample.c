#include "fleet/sample.h"

#include <math.h>
#include <stdlib.h>

/* ---- reading ---- */

struct line {
    struct moon_str name, labels;
    double value;
};

static bool to_double(struct moon_str text, double *out)
{
    char copy[64], *end;
    if (text.len == 0 || text.len >= sizeof(copy))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *out = strtod(copy, &end);
    return *end == '\0';
}

/* name{labels} value; quoted labels may hold anything but a bare quote. */
static bool parse_line(struct moon_str text, struct line *line)
{
    size_t at = 0;
    bool quoted = false;
    while (at < text.len && text.ptr[at] != '{' && text.ptr[at] != ' ')
        at++;
    line->name = moon_str(text.ptr, at);
    line->labels = MOON_STR_NONE;
    if (at < text.len && text.ptr[at] == '{') {
        size_t begin = ++at;
        for (; at < text.len && (quoted || text.ptr[at] != '}'); at++) {
            if (quoted && text.ptr[at] == '\\')
                at++;
            else if (text.ptr[at] == '"')
                quoted = !quoted;
        }
        if (at >= text.len)
            return false;
        line->labels = moon_str(text.ptr + begin, at - begin);
        at++;
    }
    struct moon_str value = moon_str(text.ptr + at, text.len - at);
    return line->name.len > 0 && to_double(moon_str_trim(value), &line->value);
}

/* The value of a label, as it is written; simple names and values only. */
static struct moon_str label(struct moon_str labels, const char *namez)
{
    size_t len = strlen(namez);
    for (size_t at = 0; at + len + 2 <= labels.len; at++) {
        if ((at > 0 && labels.ptr[at - 1] != ',') ||
            memcmp(labels.ptr + at, namez, len) != 0 ||
            labels.ptr[at + len] != '=' || labels.ptr[at + len + 1] != '"')
            continue;
        struct moon_str rest =
            moon_str(labels.ptr + at + len + 2, labels.len - at - len - 2);
        return moon_str_cut(rest, '"', &rest);
    }
    return MOON_STR_NONE;
}

/* Series of one histogram have the same bounds, whatever their labels. */
static void add_bucket(struct moon_sample *sample, const struct line *line)
{
    struct moon_str text = label(line->labels, "le");
    double bound = INFINITY;
    if (!moon_str_eq(text, MOON_STR("+Inf")) &&
        (!to_double(text, &bound) || !(bound >= 0))) /* NaN neither */
        return;
    uint32_t i = 0;
    while (i < sample->bucket_count && sample->bounds[i] < bound)
        i++;
    if (i == sample->bucket_count || sample->bounds[i] > bound) {
        if (sample->bucket_count == MOON_SAMPLE_BUCKETS)
            return;
        for (uint32_t k = sample->bucket_count++; k > i; k--) {
            sample->bounds[k] = sample->bounds[k - 1];
            sample->counts[k] = sample->counts[k - 1];
        }
        sample->bounds[i] = bound;
        sample->counts[i] = 0;
    }
    sample->counts[i] += (uint64_t)line->value;
}

static void add_requests(struct moon_sample *sample, const struct line *line)
{
    struct moon_str status = label(line->labels, "status");
    sample->requests += (uint64_t)line->value;
    if (moon_str_starts(status, MOON_STR("5")))
        sample->failures += (uint64_t)line->value;
}

static bool is(const struct line *line, const char *namez)
{
    return moon_str_eq(line->name, moon_strz(namez));
}

void moon_sample_read(struct moon_sample *sample, struct moon_str metrics)
{
    *sample = (struct moon_sample){0};
    while (metrics.len > 0) {
        struct moon_str text = moon_str_cut(metrics, '\n', &metrics);
        struct line line;
        if (text.len == 0 || text.ptr[0] == '#' || !parse_line(text, &line) ||
            !(line.value >= 0 && line.value < 0x1p53))
            continue;
        uint64_t value = (uint64_t)line.value;
        /* Whoever asks whether a node is well says nothing about the code. */
        if (moon_str_eq(label(line.labels, "route"), MOON_STR("health")))
            continue;
        if (is(&line, "moonshine_generation"))
            sample->generation = value;
        else if (is(&line, "moonshine_workers"))
            sample->workers += value;
        else if (is(&line, "moonshine_connections"))
            sample->connections += value;
        else if (is(&line, "moonshine_route_duration_seconds_bucket"))
            add_bucket(sample, &line);
        else if (is(&line, "moonshine_route_requests_total"))
            add_requests(sample, &line);
    }
}

/* ---- comparing ---- */

static uint64_t grown(uint64_t now, uint64_t then)
{
    return now >= then ? now - then : now;
}

void moon_sample_since(const struct moon_sample *now,
                       const struct moon_sample *then, struct moon_sample *out)
{
    *out = *now;
    out->requests = grown(now->requests, then->requests);
    out->failures = grown(now->failures, then->failures);
    for (uint32_t i = 0, k = 0; i < now->bucket_count; i++) {
        while (k < then->bucket_count && then->bounds[k] < now->bounds[i])
            k++;
        if (k < then->bucket_count && then->bounds[k] <= now->bounds[i])
            out->counts[i] = grown(now->counts[i], then->counts[k]);
    }
}

void moon_sample_add(struct moon_sample *to, const struct moon_sample *other)
{
    to->workers += other->workers;
    to->connections += other->connections;
    to->requests += other->requests;
    to->failures += other->failures;
    if (to->bucket_count == 0) {
        to->bucket_count = other->bucket_count;
        memcpy(to->bounds, other->bounds, sizeof(to->bounds));
    }
    /* Nodes of one version have the same buckets. */
    for (uint32_t i = 0; i < to->bucket_count && i < other->bucket_count; i++)
        to->counts[i] += other->counts[i];
}

double moon_sample_failed(const struct moon_sample *sample)
{
    if (sample->failures == 0)
        return 0;
    if (sample->failures >= sample->requests)
        return 1;
    return (double)sample->failures / (double)sample->requests;
}

double moon_sample_quantile(const struct moon_sample *sample, double share)
{
    uint32_t last = sample->bucket_count;
    if (last == 0 || sample->counts[last - 1] == 0)
        return -1;
    double rank = share * (double)sample->counts[last - 1];
    uint32_t i = 0;
    while (i + 1 < last && (double)sample->counts[i] < rank)
        i++;
    double low = i > 0 ? sample->bounds[i - 1] : 0;
    if (isinf(sample->bounds[i]))
        return low;
    double below = i > 0 ? (double)sample->counts[i - 1] : 0;
    double in = (double)sample->counts[i] - below;
    return in <= 0 ? sample->bounds[i]
                   : low + (sample->bounds[i] - low) * (rank - below) / in;
}
