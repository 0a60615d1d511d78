/* Metrics of the application: counters, gauges and histograms whose values
 * outlive the code that counts, and the worker it runs on.
 *
 * They lie in an extent of the node's region. A table of metrics and one of
 * series (a metric with its label values) are shared, under one robust mutex
 * that the master never takes. Each series has cells, a block of its own for
 * every worker, which only that worker writes: counting is a plain addition,
 * and the sum is made when somebody looks. Pages that nobody wrote cost
 * nothing.
 *
 * A VM declares its metrics and releases them when it is destroyed. One that no
 * VM declares, nor the generation that serves, is forgotten. A worker killed in
 * the middle of a change leaves a table that the next one repairs. Declaring,
 * finding and releasing may be called from any thread; a wait for the mutex
 * ends after a while. What stands in the region is checked before it is
 * printed, since workers run foreign code. */
#ifndef MOON_STATE_METRICS_H
#define MOON_STATE_METRICS_H

#include "base/buf.h"
#include "base/errcode.h"

enum moon_metric_kind {
    MOON_METRIC_COUNTER = 1,
    MOON_METRIC_GAUGE,
    MOON_METRIC_HISTOGRAM,
};

/* Lengths in bytes. A histogram's cells: what was at most each bound, what was
 * above the last one, the sum. */
enum {
    MOON_METRICS_MAX = 1000,
    MOON_METRIC_NAME_MAX = 127,
    MOON_METRIC_HELP_MAX = 255,
    MOON_METRIC_LABELS_MAX = 10,
    MOON_METRIC_LABEL_NAMES_MAX = 255,
    MOON_METRIC_BUCKETS_MAX = 30,
    MOON_METRIC_VALUES_MAX = 495, /* of one series, as printed */
};

struct moon_metrics;
struct moon_region; /* state/region.h */

struct moon_metric_info {
    enum moon_metric_kind kind;
    struct moon_str name, help; /* borrowed for the call, as all of it */
    struct moon_str labels;     /* their names, with commas between */
    const double *buckets;      /* rising */
    uint32_t bucket_count;
};

/* Two tables that a region has: the application's, and the node's own, whose
 * series never compete with those. */
#define MOON_METRICS_APP "metrics"
#define MOON_METRICS_NODE "node metrics"

/* The region's metrics of that name for `slots` workers and so many series with
 * labels, made by whoever comes first; the handle is of this process. The
 * region is borrowed for its life. MOON_ENOMEM: no room in it. */
MOON_MUST_CHECK enum moon_err moon_metrics_open(struct moon_region *region,
                                                const char *namez,
                                                uint32_t slots,
                                                uint32_t max_series,
                                                struct moon_metrics **out);
void moon_metrics_close(struct moon_metrics *metrics); /* NULL is fine */

/* ---- a worker, for one of its VMs ---- */

/* *number is its name from now on, until the VM releases it. One of the same
 * name, kind, labels and buckets goes on counting. MOON_EFULL: too many
 * metrics; MOON_ETIMEOUT: somebody holds the mutex. */
MOON_MUST_CHECK enum moon_err moon_metrics_declare(
    struct moon_metrics *metrics, uint32_t slot, uint64_t generation,
    const struct moon_metric_info *info, uint32_t *number);
void moon_metrics_release(struct moon_metrics *metrics, uint32_t slot,
                          const uint32_t *numbers, uint32_t count);
/* All cells of a worker; where a series' first one lies in them. */
double *moon_metrics_cells(struct moon_metrics *metrics, uint32_t slot);
uint32_t moon_metrics_base(const struct moon_metrics *metrics, uint32_t number);
/* The series with these label values, made if it is new. False: that cannot be
 * (as many as may be are there, the values are too long, somebody holds the
 * mutex), and *cell is the metric's series "other"; ask again the next time. */
bool moon_metrics_find(struct moon_metrics *metrics, uint32_t number,
                       const struct moon_str *values, uint32_t count,
                       uint32_t *cell);
/* True once, until there is room again: somebody should say so. */
bool moon_metrics_just_filled(struct moon_metrics *metrics);
uint32_t moon_metrics_max_series(const struct moon_metrics *metrics);
void moon_metrics_bump(double *cell, double more);
/* Of a histogram's cells. */
void moon_metrics_observe(double *cells, const double *buckets, uint32_t count,
                          double value);

/* ---- the master ---- */

/* This generation serves from now on. */
void moon_metrics_commit(struct moon_metrics *metrics, uint64_t generation);
/* The worker's process is gone: its gauges are 0, the rest stays. */
void moon_metrics_end_worker(struct moon_metrics *metrics, uint32_t slot);
/* Appends all as text, in the format of Prometheus (version 0.0.4). */
void moon_metrics_print(const struct moon_metrics *metrics,
                        struct moon_buf *out);
/* How many series with labels there are. */
uint32_t moon_metrics_series(const struct moon_metrics *metrics);

#endif
