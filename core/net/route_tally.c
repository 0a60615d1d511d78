#include "net/route_tally.h"

#include "base/compiler.h"
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Cells found so far, by what they count: open addressing, grown at half. */
struct entry {
    uint64_t key; /* 0: free */
    double *cell;
};

enum { FIRST_BITS = 6, LAST_BITS = 16 };
/* What has no route of its own; the app's routes follow. */
enum { UNMATCHED, HEALTH, OWN_ROUTES };

/* Of one route. Most of its requests are like the one before. */
struct route_cells {
    uint64_t key; /* of the last one; 0: none yet */
    double *cell; /* which counts those */
    double *took; /* NULL: not found yet */
};

struct moon_route_tally {
    const struct moon_tally_table *table;
    struct entry *entries;
    uint32_t bits, count;
    struct route_cells routes[];
};

/* In nanoseconds, so that a request costs comparisons of integers. Most end
 * early: what is fast meets few bounds. */
static const uint64_t bounds_ns[MOON_TOOK_BOUNDS] = {
    100000,     250000,     500000,     1000000,     2500000,   5000000,
    10000000,   25000000,   50000000,   100000000,   250000000, 500000000,
    1000000000, 2500000000, 5000000000, 10000000000,
};

const double moon_took_bounds_s[MOON_TOOK_BOUNDS] = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10,
};

static const double lag_bounds_s[] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1,
                                      0.25,  0.5,   1,    2.5,   5,    10};

/* ---- the worker's ---- */

static enum moon_err declare(struct moon_tally_table *table,
                             const struct moon_metric_info *info,
                             uint32_t *number)
{
    return moon_metrics_declare(table->metrics, table->slot, 0, info, number);
}

enum moon_err moon_tally_table_open(struct moon_tally_table *table,
                                    struct moon_metrics *metrics, uint32_t slot,
                                    _Atomic uint64_t *took)
{
    static _Atomic uint64_t unseen[MOON_TOOK_BUCKETS];
    const struct moon_metric_info requests = {
        .kind = MOON_METRIC_COUNTER,
        .name = MOON_STR("moonshine_route_requests_total"),
        .help = MOON_STR("Requests by route, method and status; status none: "
                         "the client left before the answer"),
        .labels = MOON_STR("route,method,status")};
    const struct moon_metric_info duration = {
        .kind = MOON_METRIC_HISTOGRAM,
        .name = MOON_STR("moonshine_route_duration_seconds"),
        .help = MOON_STR("First byte of the request to last byte of the answer "
                         "in the kernel, streamed answers left out"),
        .labels = MOON_STR("route"),
        .buckets = moon_took_bounds_s,
        .bucket_count = MOON_TOOK_BOUNDS};
    const struct moon_metric_info lag = {
        .kind = MOON_METRIC_HISTOGRAM,
        .name = MOON_STR("moonshine_loop_lag_seconds"),
        .help = MOON_STR("How late a timer of 100 ms fired on a worker's loop"),
        .buckets = lag_bounds_s,
        .bucket_count = MOON_COUNT(lag_bounds_s)};
    *table = (struct moon_tally_table){
        .metrics = metrics, .slot = slot, .took = took != NULL ? took : unseen};
    enum moon_err err = declare(table, &requests, &table->requests);
    if (err == MOON_OK)
        err = declare(table, &duration, &table->duration);
    if (err == MOON_OK)
        err = declare(table, &lag, &table->loop_lag);
    return err;
}

void moon_tally_table_lag(const struct moon_tally_table *table, double lag_s)
{
    moon_metrics_observe(moon_metrics_cells(table->metrics, table->slot) +
                             moon_metrics_base(table->metrics, table->loop_lag),
                         lag_bounds_s, MOON_COUNT(lag_bounds_s), lag_s);
}

/* ---- the generation's ---- */

struct moon_route_tally *moon_route_tally_create(
    const struct moon_tally_table *table, uint32_t routes)
{
    size_t all = (size_t)routes + OWN_ROUTES;
    struct moon_route_tally *tally =
        calloc(1, sizeof(*tally) + all * sizeof(tally->routes[0]));
    if (tally == NULL)
        return NULL;
    tally->table = table;
    tally->bits = FIRST_BITS;
    tally->entries = calloc((size_t)1 << FIRST_BITS, sizeof(struct entry));
    if (tally->entries == NULL) {
        free(tally);
        return NULL;
    }
    return tally;
}

void moon_route_tally_destroy(struct moon_route_tally *tally)
{
    if (tally != NULL)
        free(tally->entries);
    free(tally);
}

static double *find_cell(const struct moon_tally_table *table, uint32_t metric,
                         const struct moon_str *labels, uint32_t count)
{
    uint32_t cell;
    if (!moon_metrics_find(table->metrics, metric, labels, count, &cell) &&
        moon_metrics_just_filled(table->metrics))
        moon_log(MOON_LOG_WARN,
                 "metrics: the node's own have metrics.max_series (%u) series; "
                 "from now on new routes are counted as \"other\"",
                 moon_metrics_max_series(table->metrics));
    return moon_metrics_cells(table->metrics, table->slot) + cell;
}

static struct moon_str route_label(const struct moon_exchange *x,
                                   uint32_t route)
{
    return route >= OWN_ROUTES ? x->route->pattern
           : route == HEALTH   ? MOON_STR("health")
                               : MOON_STR("unmatched");
}

static struct entry *place_of(struct entry *entries, uint32_t bits,
                              uint64_t key)
{
    uint64_t mask = ((uint64_t)1 << bits) - 1;
    uint64_t at = key * 0x9e3779b97f4a7c15u >> (64 - bits);
    while (entries[at].key != key && entries[at].key != 0)
        at = (at + 1) & mask;
    return &entries[at];
}

/* False: full, and no larger one to be had; what is new is looked up anew. */
static bool make_room(struct moon_route_tally *tally)
{
    uint32_t size = (uint32_t)1 << tally->bits;
    if (tally->count < size / 2)
        return true;
    struct entry *larger = NULL;
    if (tally->bits < LAST_BITS)
        larger = calloc((size_t)size * 2, sizeof(*larger));
    if (larger == NULL)
        return tally->count < size - 1;
    for (uint32_t i = 0; i < size; i++)
        if (tally->entries[i].key != 0)
            *place_of(larger, tally->bits + 1, tally->entries[i].key) =
                tally->entries[i];
    free(tally->entries);
    tally->entries = larger;
    tally->bits++;
    return true;
}

static double *add_cell(struct moon_route_tally *tally,
                        const struct moon_exchange *x, uint32_t route,
                        uint64_t key)
{
    char status[8] = "none";
    if (x->status_sent != 0)
        (void)snprintf(status, sizeof(status), "%u", x->status_sent);
    const struct moon_str labels[] = {route_label(x, route),
                                      moon_method_name(x->req.method),
                                      moon_strz(status)};
    double *cell = find_cell(tally->table, tally->table->requests, labels,
                             MOON_COUNT(labels));
    if (make_room(tally)) {
        *place_of(tally->entries, tally->bits, key) =
            (struct entry){.key = key, .cell = cell};
        tally->count++;
    }
    return cell;
}

MOON_COLD static double *add_took(struct moon_route_tally *tally,
                                  const struct moon_exchange *x, uint32_t route)
{
    struct moon_str label = route_label(x, route);
    tally->routes[route].took =
        find_cell(tally->table, tally->table->duration, &label, 1);
    return tally->routes[route].took;
}

/* The cell of requests of another method or status than the last one's. */
MOON_COLD static double *change_cell(struct moon_route_tally *tally,
                                     const struct moon_exchange *x,
                                     uint32_t route, uint64_t key)
{
    const struct entry *entry = place_of(tally->entries, tally->bits, key);
    double *cell =
        entry->key == key ? entry->cell : add_cell(tally, x, route, key);
    tally->routes[route].key = key;
    tally->routes[route].cell = cell;
    return cell;
}

/* Others read it meanwhile; nobody else writes it. */
static void add(double *cell, double more)
{
    _Atomic double *at = (_Atomic double *)cell;
    double now = atomic_load_explicit(at, memory_order_relaxed);
    atomic_store_explicit(at, now + more, memory_order_relaxed);
}

void moon_route_tally_count(struct moon_route_tally *tally,
                            const struct moon_exchange *x)
{
    uint32_t route = UNMATCHED;
    if (MOON_LIKELY(x->route != NULL))
        route = (uint32_t)x->match.route + OWN_ROUTES;
    else if (x->status_sent != 404 && moon_str_starts(x->path, MOON_STR("/-/")))
        route = HEALTH;
    /* Statuses end at 999, methods at 7; the bit between makes it no zero. */
    uint64_t key = (uint64_t)route << 14 | 1u << 13 |
                   (unsigned)x->req.method << 10 | x->status_sent;
    const struct route_cells *cells = &tally->routes[route];
    double *cell = cells->cell;
    if (MOON_UNLIKELY(cells->key != key))
        cell = change_cell(tally, x, route, key);
    add(cell, 1);
    if (x->streamed || x->status_sent == 0)
        return;
    uint32_t i = 0;
    while (i < MOON_TOOK_BOUNDS && x->elapsed_ns > bounds_ns[i])
        i++;
    double *took = cells->took;
    if (MOON_UNLIKELY(took == NULL))
        took = add_took(tally, x, route);
    add(&took[i], 1);
    add(&took[MOON_TOOK_BUCKETS], (double)x->elapsed_ns * 1e-9);
    _Atomic uint64_t *all = &tally->table->took[i];
    atomic_store_explicit(all,
                          atomic_load_explicit(all, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}
