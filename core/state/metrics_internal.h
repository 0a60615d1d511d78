/* Private to state/metrics*.c: what lies in the region.
 *
 * Records are the truth; marks, counts and the index are derived, and made anew
 * when somebody died in the middle. A record is odd while it is written, so
 * that it can be read without the mutex: copy it, and look whether `seq` has
 * moved. The geometry is in the private handle: the region is not believed. */
#ifndef MOON_STATE_METRICS_INTERNAL_H
#define MOON_STATE_METRICS_INTERNAL_H

#include "state/metrics.h"

#include <pthread.h>
#include <stdatomic.h>

/* Cells of one histogram: bounds, the rest, the sum. */
enum { MOON_METRIC_STRIDE = MOON_METRIC_BUCKETS_MAX + 2 };

struct moon_metric_head {
    pthread_mutex_t lock;
    _Atomic uint64_t committed;              /* generation */
    _Atomic uint32_t metric_end, series_end; /* no record from there on */
    _Atomic uint32_t series_count;
    _Atomic uint32_t filled; /* and somebody said so */
    unsigned char hash_key[16];
};

/* The place in its table is its number. */
struct moon_metric {
    _Atomic uint32_t seq;
    uint32_t kind; /* 0: free */
    uint32_t label_count, bucket_count;
    uint64_t first, last;   /* generations that declared it, with holes */
    _Atomic uint32_t other; /* its series "other" was used */
    char name[MOON_METRIC_NAME_MAX + 1];
    char help[MOON_METRIC_HELP_MAX + 1];
    char labels[MOON_METRIC_LABEL_NAMES_MAX + 1];
    double buckets[MOON_METRIC_BUCKETS_MAX];
    _Atomic uint32_t refs[]; /* VMs that declare it, by slot */
};

struct moon_metric_series {
    _Atomic uint32_t seq;
    uint32_t metric; /* number + 1; 0: free */
    uint64_t hash;
    uint32_t len;
    char text[MOON_METRIC_VALUES_MAX + 1]; /* method="GET",status="200" */
};

struct moon_metrics {
    void *base;
    size_t size;
    uint32_t slots, max_series, index_mask;
    struct moon_metric_head *head;
    char *metrics; /* records of metric_size */
    size_t metric_size;
    struct moon_metric_series *series;
    uint32_t *index;       /* of series by hash: place + 1, or 0 */
    _Atomic uint8_t *used; /* by slot: its cells were ever written */
    char *cells;           /* blocks of slot_size */
    size_t slot_size;
};

static inline struct moon_metric *moon_metric_at(const struct moon_metrics *m,
                                                 uint32_t number)
{
    return (struct moon_metric *)(void *)(m->metrics +
                                          (size_t)number * m->metric_size);
}

static inline _Atomic double *moon_metric_cells(const struct moon_metrics *m,
                                                uint32_t slot)
{
    return (_Atomic double *)(void *)(m->cells + (size_t)slot * m->slot_size);
}

/* The number of the first cell of a place: 0 to MOON_METRICS_MAX are the
 * metrics' own, the others those of series. */
static inline uint32_t moon_metric_cell(const struct moon_metrics *m,
                                        uint32_t kind, uint32_t place)
{
    uint32_t places = MOON_METRICS_MAX + m->max_series;
    return kind == MOON_METRIC_HISTOGRAM ? places + place * MOON_METRIC_STRIDE
                                         : place;
}

/* The generation that serves is one of those that declared it. */
bool moon_metric_serves(const struct moon_metrics *m, uint64_t first,
                        uint64_t last);
/* Neither a VM nor the generation that serves declares it. */
bool moon_metric_is_dead(const struct moon_metrics *m,
                         const struct moon_metric *metric, uint64_t first,
                         uint64_t last);

static inline bool moon_metric_is_used(const struct moon_metrics *m,
                                       uint32_t slot)
{
    return atomic_load_explicit(&m->used[slot], memory_order_relaxed) != 0;
}

/* Label names (with commas between) and values as they are printed, into `to`;
 * false if it is too small. Bytes that are not UTF-8 become U+FFFD. */
bool moon_metric_render(struct moon_str names, const struct moon_str *values,
                        uint32_t count, char *to, size_t size,
                        struct moon_str *out);

/* Marks, no larger than the tables are. */
uint32_t moon_metric_end(const struct moon_metrics *m);
uint32_t moon_metric_series_end(const struct moon_metrics *m);

#endif
