#include "state/metrics_internal.h"

#include "base/clock.h"
#include "base/random.h"
#include "state/region.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <time.h>

/* LAYOUT grows with each change of what lies in the region. */
enum { LAYOUT = 1, PAGE = 4096, LINE = 64 };

/* Requests wait for the mutex, too, so they do not wait long. */
enum { FIND_WAIT_MS = 100, DECLARE_WAIT_MS = 5000, PAUSE_NS = 20000 };

/* ---- the region ---- */

/* The next `size` bytes from a multiple of `align` on; NULL while only the sum
 * is wanted. */
static void *take(char *base, size_t *at, size_t size, size_t align)
{
    size_t from = (*at + align - 1) / align * align;
    *at = from + size;
    return base == NULL ? NULL : base + from;
}

static void lay_out(struct moon_metrics *m, char *base)
{
    size_t places = (size_t)MOON_METRICS_MAX + m->max_series, at = 0;
    size_t buckets = 2;
    while (buckets < 2 * (size_t)m->max_series)
        buckets *= 2;
    m->index_mask = (uint32_t)buckets - 1;
    m->metric_size = sizeof(struct moon_metric) + m->slots * sizeof(uint32_t);
    m->metric_size = (m->metric_size + LINE - 1) / LINE * LINE;
    m->slot_size = places * (1 + MOON_METRIC_STRIDE) * sizeof(double);
    m->slot_size = (m->slot_size + PAGE - 1) / PAGE * PAGE;
    m->head = take(base, &at, sizeof(*m->head), LINE);
    m->used = take(base, &at, m->slots, LINE);
    m->index = take(base, &at, buckets * sizeof(*m->index), LINE);
    m->metrics = take(base, &at, MOON_METRICS_MAX * m->metric_size, LINE);
    m->series = take(base, &at, m->max_series * sizeof(*m->series), LINE);
    m->cells = take(base, &at, m->slots * m->slot_size, PAGE);
    m->size = at;
}

static void init_head(void *at, size_t size, void *ctx)
{
    struct moon_metric_head *head = at; /* it is the first thing */
    (void)size;
    (void)ctx;
    moon_robust_init(&head->lock);
    moon_random_bytes(head->hash_key, sizeof(head->hash_key));
}

enum moon_err moon_metrics_open(struct moon_region *region, const char *namez,
                                uint32_t slots, uint32_t max_series,
                                struct moon_metrics **out)
{
    struct moon_metrics *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return MOON_ENOMEM;
    m->slots = slots;
    m->max_series = max_series;
    lay_out(m, NULL);
    m->base =
        moon_region_extent(region, namez, LAYOUT, m->size, init_head, NULL);
    if (m->base == NULL) {
        free(m);
        return MOON_ENOMEM;
    }
    lay_out(m, m->base);
    *out = m;
    return MOON_OK;
}

void moon_metrics_close(struct moon_metrics *m)
{
    free(m);
}

/* ---- records ---- */

static uint32_t at_most(const _Atomic uint32_t *word, uint32_t max)
{
    uint32_t value = atomic_load_explicit(word, memory_order_acquire);
    return value < max ? value : max;
}

uint32_t moon_metric_end(const struct moon_metrics *m)
{
    return at_most(&m->head->metric_end, MOON_METRICS_MAX);
}

uint32_t moon_metric_series_end(const struct moon_metrics *m)
{
    return at_most(&m->head->series_end, m->max_series);
}

static void begin_write(_Atomic uint32_t *seq)
{
    uint32_t now = atomic_load_explicit(seq, memory_order_relaxed);
    atomic_store_explicit(seq, now | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void end_write(_Atomic uint32_t *seq)
{
    uint32_t now = atomic_load_explicit(seq, memory_order_relaxed);
    atomic_store_explicit(seq, (now | 1) + 1, memory_order_release);
}

static bool is_half_written(const _Atomic uint32_t *seq)
{
    return (atomic_load_explicit(seq, memory_order_relaxed) & 1) != 0;
}

static void set_zero(_Atomic double *cell)
{
    /* Not written without need: a page that is all zero need not be there. */
    if (atomic_load_explicit(cell, memory_order_relaxed) != 0)
        atomic_store_explicit(cell, 0, memory_order_relaxed);
}

static void clear_cells(struct moon_metrics *m, uint32_t slot, uint32_t kind,
                        uint32_t place)
{
    uint32_t count = kind == MOON_METRIC_HISTOGRAM ? MOON_METRIC_STRIDE : 1;
    _Atomic double *cells = moon_metric_cells(m, slot);
    for (uint32_t i = 0; i < count; i++)
        set_zero(&cells[moon_metric_cell(m, kind, place) + i]);
}

/* Also what a record may have been the name of before it broke. */
static void clear_place(struct moon_metrics *m, uint32_t place)
{
    for (uint32_t slot = 0; slot < m->slots; slot++) {
        if (!moon_metric_is_used(m, slot))
            continue;
        clear_cells(m, slot, MOON_METRIC_COUNTER, place);
        clear_cells(m, slot, MOON_METRIC_HISTOGRAM, place);
    }
}

static void free_series(struct moon_metrics *m, uint32_t i)
{
    struct moon_metric_series *series = &m->series[i];
    clear_place(m, MOON_METRICS_MAX + i);
    begin_write(&series->seq);
    series->metric = 0;
    end_write(&series->seq);
}

static void free_metric(struct moon_metrics *m, uint32_t number)
{
    struct moon_metric *metric = moon_metric_at(m, number);
    clear_place(m, number);
    begin_write(&metric->seq);
    metric->kind = 0;
    end_write(&metric->seq);
}

/* ---- the index ---- */

static uint64_t hash_of(const struct moon_metrics *m, uint32_t number,
                        struct moon_str text)
{
    uint64_t hash;
    _Static_assert(sizeof(hash) == crypto_shorthash_BYTES, "one word");
    (void)crypto_shorthash((unsigned char *)&hash,
                           (const unsigned char *)text.ptr, text.len,
                           m->head->hash_key);
    return hash ^ (number + 1) * 0x9e3779b97f4a7c15u;
}

static void add_to_index(struct moon_metrics *m, uint32_t i)
{
    uint32_t at = (uint32_t)m->series[i].hash & m->index_mask;
    while (m->index[at] != 0)
        at = (at + 1) & m->index_mask;
    m->index[at] = i + 1;
}

static void make_index(struct moon_metrics *m)
{
    uint32_t count = 0, end = moon_metric_series_end(m);
    memset(m->index, 0, ((size_t)m->index_mask + 1) * sizeof(*m->index));
    for (uint32_t i = 0; i < end; i++) {
        if (m->series[i].metric == 0)
            continue;
        add_to_index(m, i);
        count++;
    }
    atomic_store(&m->head->series_count, count);
    if (count < m->max_series)
        atomic_store(&m->head->filled, 0);
}

static bool look_up(const struct moon_metrics *m, uint32_t number,
                    uint64_t hash, struct moon_str text, uint32_t *i)
{
    uint32_t at = (uint32_t)hash & m->index_mask;
    for (; m->index[at] != 0; at = (at + 1) & m->index_mask) {
        *i = m->index[at] - 1;
        const struct moon_metric_series *series = &m->series[*i];
        if (series->hash == hash && series->metric == number + 1 &&
            moon_str_eq(text, moon_str(series->text, series->len)))
            return true;
    }
    return false;
}

/* ---- who goes ---- */

bool moon_metric_serves(const struct moon_metrics *m, uint64_t first,
                        uint64_t last)
{
    uint64_t now = atomic_load(&m->head->committed);
    return first <= now && now <= last;
}

bool moon_metric_is_dead(const struct moon_metrics *m,
                         const struct moon_metric *metric, uint64_t first,
                         uint64_t last)
{
    if (moon_metric_serves(m, first, last))
        return false;
    for (uint32_t slot = 0; slot < m->slots; slot++)
        if (atomic_load(&metric->refs[slot]) != 0)
            return false;
    return true;
}

/* Forgets metrics that are dead, with their series. */
static void sweep(struct moon_metrics *m)
{
    bool dead[MOON_METRICS_MAX] = {false};
    uint32_t end = moon_metric_end(m), series_end = moon_metric_series_end(m);
    bool any = false;
    for (uint32_t n = 0; n < end; n++) {
        const struct moon_metric *metric = moon_metric_at(m, n);
        dead[n] = metric->kind != 0 &&
                  moon_metric_is_dead(m, metric, metric->first, metric->last);
        any = any || dead[n];
    }
    if (!any)
        return;
    for (uint32_t i = 0; i < series_end; i++) {
        uint32_t metric = m->series[i].metric;
        if (metric != 0 && metric <= end && dead[metric - 1])
            free_series(m, i);
    }
    for (uint32_t n = 0; n < end; n++)
        if (dead[n])
            free_metric(m, n);
    make_index(m);
}

/* ---- the mutex ---- */

/* Somebody was killed while holding it. */
static void repair(struct moon_metrics *m)
{
    uint32_t end = moon_metric_end(m), series_end = moon_metric_series_end(m);
    for (uint32_t n = 0; n < end; n++)
        if (is_half_written(&moon_metric_at(m, n)->seq))
            free_metric(m, n);
    for (uint32_t i = 0; i < series_end; i++) {
        const struct moon_metric_series *series = &m->series[i];
        if (is_half_written(&series->seq) ||
            (series->metric != 0 &&
             (series->metric > end ||
              moon_metric_at(m, series->metric - 1)->kind == 0)))
            free_series(m, i);
    }
    make_index(m);
}

static bool lock(struct moon_metrics *m, uint32_t wait_ms)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    uint64_t until = 0;
    int code;
    /* Whoever has it keeps it for microseconds, unless he is stopped. */
    while ((code = pthread_mutex_trylock(&m->head->lock)) == EBUSY) {
        uint64_t now = moon_clock_ms();
        until = until != 0 ? until : now + wait_ms;
        if (now >= until)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    if (code == EOWNERDEAD) {
        repair(m);
        code = pthread_mutex_consistent(&m->head->lock);
    }
    return code == 0;
}

static void unlock(struct moon_metrics *m)
{
    moon_robust_unlock(&m->head->lock);
}

/* ---- declaring ---- */

static bool has_shape(const struct moon_metric *metric,
                      const struct moon_metric_info *info)
{
    return metric->kind == (uint32_t)info->kind &&
           metric->bucket_count == info->bucket_count &&
           moon_str_eq(moon_strz(metric->name), info->name) &&
           moon_str_eq(moon_strz(metric->labels), info->labels) &&
           (info->bucket_count == 0 ||
            memcmp(metric->buckets, info->buckets,
                   info->bucket_count * sizeof(double)) == 0);
}

static void copy_text(char *to, size_t size, struct moon_str text)
{
    if (text.len >= size)
        text.len = size - 1;
    if (text.len > 0)
        memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
}

static void write_metric(struct moon_metric *metric,
                         const struct moon_metric_info *info,
                         uint64_t generation)
{
    begin_write(&metric->seq);
    metric->kind = (uint32_t)info->kind;
    metric->label_count = info->labels.len > 0;
    for (size_t i = 0; i < info->labels.len; i++)
        metric->label_count += info->labels.ptr[i] == ',';
    metric->bucket_count = info->bucket_count;
    if (info->bucket_count > 0)
        memcpy(metric->buckets, info->buckets,
               info->bucket_count * sizeof(double));
    metric->first = metric->last = generation;
    atomic_store(&metric->other, 0);
    copy_text(metric->name, sizeof(metric->name), info->name);
    copy_text(metric->help, sizeof(metric->help), info->help);
    copy_text(metric->labels, sizeof(metric->labels), info->labels);
    end_write(&metric->seq);
}

/* It is there already: the newer code's help is the better one. */
static void renew_metric(struct moon_metric *metric,
                         const struct moon_metric_info *info,
                         uint64_t generation)
{
    begin_write(&metric->seq);
    if (generation < metric->first)
        metric->first = generation;
    if (generation >= metric->last) {
        metric->last = generation;
        copy_text(metric->help, sizeof(metric->help), info->help);
    }
    end_write(&metric->seq);
}

static bool find_metric(const struct moon_metrics *m,
                        const struct moon_metric_info *info, uint32_t *number)
{
    uint32_t end = moon_metric_end(m);
    for (*number = 0; *number < end; (*number)++)
        if (has_shape(moon_metric_at(m, *number), info))
            return true;
    return false;
}

static bool take_metric(struct moon_metrics *m, uint32_t *number)
{
    uint32_t end = moon_metric_end(m);
    for (*number = 0; *number < end; (*number)++)
        if (moon_metric_at(m, *number)->kind == 0)
            return true;
    if (end == MOON_METRICS_MAX)
        return false;
    atomic_store(&m->head->metric_end, end + 1);
    return true;
}

enum moon_err moon_metrics_declare(struct moon_metrics *m, uint32_t slot,
                                   uint64_t generation,
                                   const struct moon_metric_info *info,
                                   uint32_t *number)
{
    enum moon_err err = MOON_OK;
    if (!lock(m, DECLARE_WAIT_MS))
        return MOON_ETIMEOUT;
    sweep(m);
    if (find_metric(m, info, number))
        renew_metric(moon_metric_at(m, *number), info, generation);
    else if (take_metric(m, number))
        write_metric(moon_metric_at(m, *number), info, generation);
    else
        err = MOON_EFULL;
    if (err == MOON_OK) {
        atomic_store(&m->used[slot], 1);
        (void)atomic_fetch_add(&moon_metric_at(m, *number)->refs[slot], 1);
    }
    unlock(m);
    return err;
}

void moon_metrics_release(struct moon_metrics *m, uint32_t slot,
                          const uint32_t *numbers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)atomic_fetch_sub(&moon_metric_at(m, numbers[i])->refs[slot], 1);
    if (count > 0 && lock(m, DECLARE_WAIT_MS)) {
        sweep(m);
        unlock(m);
    }
}

/* ---- counting ---- */

double *moon_metrics_cells(struct moon_metrics *m, uint32_t slot)
{
    return (double *)moon_metric_cells(m, slot);
}

uint32_t moon_metrics_base(const struct moon_metrics *m, uint32_t number)
{
    return moon_metric_cell(m, moon_metric_at(m, number)->kind, number);
}

static bool take_series(struct moon_metrics *m, uint32_t *i)
{
    uint32_t end = moon_metric_series_end(m);
    uint32_t count = atomic_load(&m->head->series_count);
    if (count >= m->max_series)
        return false;
    for (*i = 0; count < end && *i < end; (*i)++)
        if (m->series[*i].metric == 0)
            return true;
    *i = end;
    atomic_store(&m->head->series_end, end + 1);
    return true;
}

static bool add_series(struct moon_metrics *m, uint32_t number, uint64_t hash,
                       struct moon_str text, uint32_t *i)
{
    if (!take_series(m, i))
        return false;
    struct moon_metric_series *series = &m->series[*i];
    begin_write(&series->seq);
    series->metric = number + 1;
    series->hash = hash;
    series->len = (uint32_t)text.len;
    memcpy(series->text, text.ptr, text.len);
    end_write(&series->seq);
    add_to_index(m, *i);
    (void)atomic_fetch_add(&m->head->series_count, 1);
    return true;
}

bool moon_metrics_find(struct moon_metrics *m, uint32_t number,
                       const struct moon_str *values, uint32_t count,
                       uint32_t *cell)
{
    struct moon_metric *metric = moon_metric_at(m, number);
    char buffer[MOON_METRIC_VALUES_MAX];
    struct moon_str text;
    uint32_t i;
    bool found = false;
    *cell = moon_metrics_base(m, number);
    if (metric->label_count == 0)
        return true;
    if (moon_metric_render(moon_strz(metric->labels), values, count, buffer,
                           sizeof(buffer), &text) &&
        lock(m, FIND_WAIT_MS)) {
        uint64_t hash = hash_of(m, number, text);
        found = look_up(m, number, hash, text, &i) ||
                add_series(m, number, hash, text, &i);
        unlock(m);
    }
    if (found)
        *cell = moon_metric_cell(m, metric->kind, MOON_METRICS_MAX + i);
    else
        atomic_store(&metric->other, 1);
    return found;
}

bool moon_metrics_just_filled(struct moon_metrics *m)
{
    return atomic_load(&m->head->series_count) >= m->max_series &&
           atomic_exchange(&m->head->filled, 1) == 0;
}

uint32_t moon_metrics_max_series(const struct moon_metrics *m)
{
    return m->max_series;
}

/* Others read it meanwhile; nobody else writes it. */
void moon_metrics_bump(double *cell, double more)
{
    _Atomic double *at = (_Atomic double *)cell;
    double now = atomic_load_explicit(at, memory_order_relaxed);
    atomic_store_explicit(at, now + more, memory_order_relaxed);
}

void moon_metrics_observe(double *cells, const double *buckets, uint32_t count,
                          double value)
{
    uint32_t i = 0;
    while (i < count && value > buckets[i])
        i++;
    moon_metrics_bump(&cells[i], 1);
    moon_metrics_bump(&cells[count + 1], value);
}

/* ---- the master ---- */

void moon_metrics_commit(struct moon_metrics *m, uint64_t generation)
{
    atomic_store(&m->head->committed, generation);
}

void moon_metrics_end_worker(struct moon_metrics *m, uint32_t slot)
{
    uint32_t end = moon_metric_end(m), series_end = moon_metric_series_end(m);
    for (uint32_t n = 0; n < end; n++) {
        struct moon_metric *metric = moon_metric_at(m, n);
        atomic_store(&metric->refs[slot], 0);
        if (metric->kind == MOON_METRIC_GAUGE)
            clear_cells(m, slot, MOON_METRIC_GAUGE, n);
    }
    for (uint32_t i = 0; i < series_end; i++) {
        uint32_t metric = m->series[i].metric;
        if (metric != 0 && metric <= end &&
            moon_metric_at(m, metric - 1)->kind == MOON_METRIC_GAUGE)
            clear_cells(m, slot, MOON_METRIC_GAUGE, MOON_METRICS_MAX + i);
    }
}

uint32_t moon_metrics_series(const struct moon_metrics *m)
{
    return at_most(&m->head->series_count, m->max_series);
}
