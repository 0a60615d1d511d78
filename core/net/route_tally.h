/* Requests by route, method and status, and how long they took: cells in the
 * node's table of metrics (state/metrics.h), found once and then added to.
 *
 * A series exists from its first request on, under the pattern of the route,
 * so it goes on over reloads and deaths of workers. Requests that no route
 * took share "unmatched", whatever their path; the built-in health endpoints
 * are "health". Once the table is full, what is new is "other".
 *
 * One `moon_tally_table` a worker, one `moon_route_tally` a generation of code.
 * Loop thread only; the same cells are never written by another process. */
#ifndef MOON_NET_ROUTE_TALLY_H
#define MOON_NET_ROUTE_TALLY_H

#include "http/exchange.h"
#include "state/metrics.h"

/* Bounds of the time that requests take, rising; above the last is one more. */
enum { MOON_TOOK_BOUNDS = 16, MOON_TOOK_BUCKETS };
extern const double moon_took_bounds_s[MOON_TOOK_BOUNDS];

struct moon_tally_table {
    struct moon_metrics *metrics; /* borrowed, as `took` */
    uint32_t slot;
    _Atomic uint64_t *took; /* this worker's, over all routes: BUCKETS */
    uint32_t requests, duration, loop_lag; /* numbers of metrics */
};

/* Declares the metrics. `took` may be NULL (a probe). MOON_EFULL,
 * MOON_ETIMEOUT as moon_metrics_declare. */
MOON_MUST_CHECK enum moon_err moon_tally_table_open(
    struct moon_tally_table *table, struct moon_metrics *metrics, uint32_t slot,
    _Atomic uint64_t *took);
/* How late a turn of the loop was. */
void moon_tally_table_lag(const struct moon_tally_table *table, double lag_s);

struct moon_route_tally;

/* The table is borrowed for its life; NULL: no memory. */
MOON_MUST_CHECK struct moon_route_tally *moon_route_tally_create(
    const struct moon_tally_table *table, uint32_t routes);
void moon_route_tally_destroy(
    struct moon_route_tally *tally); /* NULL is fine */
/* It ends: status, elapsed_ns and route are what they will be. */
void moon_route_tally_count(struct moon_route_tally *tally,
                            const struct moon_exchange *x);

#endif
