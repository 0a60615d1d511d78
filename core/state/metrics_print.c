/* Metrics as text: labels when a series is made, all of it when somebody asks.
 */
#include "state/metrics_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- labels ---- */

struct sink {
    char *at, *end;
    bool failed;
};

static void put(struct sink *sink, const char *bytes, size_t len)
{
    if (sink->failed || (size_t)(sink->end - sink->at) < len) {
        sink->failed = true;
        return;
    }
    memcpy(sink->at, bytes, len);
    sink->at += len;
}

static void put_value(struct sink *sink, struct moon_str value)
{
    while (value.len > 0) {
        char ch = value.ptr[0];
        size_t len = moon_utf8_len((const unsigned char *)value.ptr, value.len);
        if (len == 0) {
            put(sink, "\xef\xbf\xbd", 3);
            len = 1;
        } else if (ch == '\n') {
            put(sink, "\\n", 2);
        } else {
            if (ch == '\\' || ch == '"')
                put(sink, "\\", 1);
            put(sink, value.ptr, len);
        }
        value = moon_str(value.ptr + len, value.len - len);
    }
}

bool moon_metric_render(struct moon_str names, const struct moon_str *values,
                        uint32_t count, char *to, size_t size,
                        struct moon_str *out)
{
    struct sink sink = {.at = to, .end = to + size};
    for (uint32_t i = 0; i < count; i++) {
        struct moon_str name = moon_str_cut(names, ',', &names);
        put(&sink, ",", i > 0);
        put(&sink, name.ptr, name.len);
        put(&sink, "=\"", 2);
        put_value(&sink, values[i]);
        put(&sink, "\"", 1);
    }
    *out = moon_str(to, (size_t)(sink.at - to));
    return !sink.failed;
}

/* ---- reading what others write ---- */

/* A copy that nobody wrote to meanwhile; false: leave it out this time. */
static bool copy(const _Atomic uint32_t *seq, const void *from, void *to,
                 size_t size)
{
    for (int tries = 0; tries < 3; tries++) {
        uint32_t before = atomic_load_explicit(seq, memory_order_acquire);
        memcpy(to, from, size);
        atomic_thread_fence(memory_order_acquire);
        if ((before & 1) == 0 &&
            atomic_load_explicit(seq, memory_order_relaxed) == before)
            return true;
    }
    return false;
}

static bool copy_metric(const struct moon_metrics *m, uint32_t number,
                        struct moon_metric *to)
{
    const struct moon_metric *from = moon_metric_at(m, number);
    if (!copy(&from->seq, from, to, sizeof(*to)) || to->kind == 0 ||
        to->kind > MOON_METRIC_HISTOGRAM ||
        to->bucket_count > MOON_METRIC_BUCKETS_MAX ||
        to->label_count > MOON_METRIC_LABELS_MAX)
        return false;
    to->name[sizeof(to->name) - 1] = '\0';
    to->help[sizeof(to->help) - 1] = '\0';
    to->labels[sizeof(to->labels) - 1] = '\0';
    return !moon_metric_is_dead(m, from, to->first, to->last);
}

static double sum(const struct moon_metrics *m, uint32_t cell)
{
    double total = 0;
    for (uint32_t slot = 0; slot < m->slots; slot++)
        if (moon_metric_is_used(m, slot))
            total += atomic_load_explicit(&moon_metric_cells(m, slot)[cell],
                                          memory_order_relaxed);
    return total;
}

/* ---- lines ---- */

enum { NUMBER_SIZE = 40 };

static void format(double value, char text[NUMBER_SIZE])
{
    if (isnan(value) || isinf(value)) {
        (void)snprintf(text, NUMBER_SIZE, "%s",
                       isnan(value) ? "NaN"
                       : value > 0  ? "+Inf"
                                    : "-Inf");
        return;
    }
    /* 15 digits say most numbers, 17 all. */
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, NUMBER_SIZE, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

/* `more` is one label that is not the series' own, or empty. */
static void add_line(struct moon_buf *out, const char *namez,
                     const char *suffixz, struct moon_str labels,
                     struct moon_str more, double value)
{
    moon_buf_addz(out, namez);
    moon_buf_addz(out, suffixz);
    if (labels.len + more.len > 0) {
        moon_buf_add_char(out, '{');
        moon_buf_add_str(out, labels);
        moon_buf_addz(out, labels.len > 0 && more.len > 0 ? "," : "");
        moon_buf_add_str(out, more);
        moon_buf_add_char(out, '}');
    }
    char text[NUMBER_SIZE];
    format(value, text);
    moon_buf_add_char(out, ' ');
    moon_buf_addz(out, text);
    moon_buf_add_char(out, '\n');
}

static void add_bucket(struct moon_buf *out, const struct moon_metric *metric,
                       uint32_t i, struct moon_str labels, double value)
{
    char bound[NUMBER_SIZE], label[NUMBER_SIZE + 8];
    format(i < metric->bucket_count ? metric->buckets[i] : HUGE_VAL, bound);
    (void)snprintf(label, sizeof(label), "le=\"%s\"", bound);
    add_line(out, metric->name, "_bucket", labels, moon_strz(label), value);
}

static void add_series(const struct moon_metrics *m,
                       const struct moon_metric *metric, uint32_t place,
                       struct moon_str labels, struct moon_buf *out)
{
    uint32_t cell = moon_metric_cell(m, metric->kind, place);
    if (metric->kind != MOON_METRIC_HISTOGRAM) {
        add_line(out, metric->name, "", labels, MOON_STR_NONE, sum(m, cell));
        return;
    }
    double count = 0;
    for (uint32_t i = 0; i <= metric->bucket_count; i++) {
        count += sum(m, cell + i);
        add_bucket(out, metric, i, labels, count);
    }
    add_line(out, metric->name, "_sum", labels, MOON_STR_NONE,
             sum(m, cell + metric->bucket_count + 1));
    add_line(out, metric->name, "_count", labels, MOON_STR_NONE, count);
}

static void add_other(const struct moon_metrics *m,
                      const struct moon_metric *metric, uint32_t number,
                      struct moon_buf *out)
{
    struct moon_str values[MOON_METRIC_LABELS_MAX], text;
    char buffer[MOON_METRIC_LABEL_NAMES_MAX + MOON_METRIC_LABELS_MAX * 10];
    for (int i = 0; i < MOON_METRIC_LABELS_MAX; i++)
        values[i] = MOON_STR("other");
    if (moon_metric_render(moon_strz(metric->labels), values,
                           metric->label_count, buffer, sizeof(buffer), &text))
        add_series(m, metric, number, text, out);
}

static void add_head(const struct moon_metric *metric, struct moon_buf *out)
{
    static const char *const types[] = {"", "counter", "gauge", "histogram"};
    moon_buf_printf(out, "# HELP %s ", metric->name);
    for (const char *at = metric->help; *at != '\0'; at++) {
        if (*at == '\\' || *at == '\n')
            moon_buf_add_char(out, '\\');
        moon_buf_add_char(out, *at == '\n' ? 'n' : *at);
    }
    moon_buf_printf(out, "\n# TYPE %s %s\n", metric->name, types[metric->kind]);
}

/* ---- all of it ---- */

static bool is_before(const struct moon_metrics *m, const struct moon_metric *a,
                      const struct moon_metric *b)
{
    bool a_serves = moon_metric_serves(m, a->first, a->last);
    bool b_serves = moon_metric_serves(m, b->first, b->last);
    return a_serves != b_serves ? a_serves : a->last > b->last;
}

/* Other code that is alive declares it in another way, and has precedence. */
static bool is_replaced(const struct moon_metrics *m, uint32_t number,
                        const struct moon_metric *metric)
{
    struct moon_metric other;
    uint32_t end = moon_metric_end(m);
    for (uint32_t n = 0; n < end; n++) {
        if (n != number && moon_metric_at(m, n)->name[0] == metric->name[0] &&
            copy_metric(m, n, &other) &&
            strcmp(other.name, metric->name) == 0 &&
            (is_before(m, &other, metric) ||
             (n > number && !is_before(m, metric, &other))))
            return true;
    }
    return false;
}

/* The first series of each metric, and the next one of each series; numbers are
 * one more, 0 is the end. */
static void sort_series(const struct moon_metrics *m, uint32_t *first,
                        uint32_t *next, uint32_t series_end)
{
    for (uint32_t i = series_end; i-- > 0;) {
        uint32_t metric = m->series[i].metric;
        if (metric == 0 || metric > MOON_METRICS_MAX)
            continue;
        next[i] = first[metric - 1];
        first[metric - 1] = i + 1;
    }
}

static void add_metric(const struct moon_metrics *m, uint32_t number,
                       uint32_t first, const uint32_t *next,
                       struct moon_buf *out)
{
    struct moon_metric metric;
    struct moon_metric_series series;
    if (!copy_metric(m, number, &metric) || is_replaced(m, number, &metric))
        return;
    add_head(&metric, out);
    if (metric.label_count == 0)
        add_series(m, &metric, number, MOON_STR_NONE, out);
    else if (atomic_load(&metric.other) != 0)
        add_other(m, &metric, number, out);
    for (uint32_t at = first; at != 0; at = next[at - 1]) {
        const struct moon_metric_series *from = &m->series[at - 1];
        if (copy(&from->seq, from, &series, sizeof(series)) &&
            series.metric == number + 1 && series.len < sizeof(series.text))
            add_series(m, &metric, MOON_METRICS_MAX + at - 1,
                       moon_str(series.text, series.len), out);
    }
}

void moon_metrics_print(const struct moon_metrics *m, struct moon_buf *out)
{
    uint32_t first[MOON_METRICS_MAX] = {0};
    uint32_t end = moon_metric_end(m), series_end = moon_metric_series_end(m);
    uint32_t *next = calloc((size_t)series_end + 1, sizeof(*next));
    if (next == NULL)
        return;
    sort_series(m, first, next, series_end);
    for (uint32_t n = 0; n < end; n++)
        add_metric(m, n, first[n], next, out);
    free(next);
}
