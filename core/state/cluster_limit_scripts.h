/* What Redis runs for limits of the cluster; the arithmetic of state/rate.c.
 *
 * KEYS[1] the limit's key. Each answers {passes (1 or 0), remaining, delay,
 * retry (-1: never), reset}, times in microseconds. */
#ifndef MOON_STATE_CLUSTER_LIMIT_SCRIPTS_H
#define MOON_STATE_CLUSTER_LIMIT_SCRIPTS_H

/* ARGV: interval, quota, cost (below 0: given back), 1 to look only. */
extern const char moon_cluster_bucket_script[];
/* ARGV: window, quota, cost, 1 to look only. */
extern const char moon_cluster_window_script[];
/* ARGV: longest time, quota, the lease's name, 1 to look only. */
extern const char moon_cluster_leases_script[];

#endif
