/* Counts durations in buckets of at most 1.6 % width, from a nanosecond to
 * centuries; nothing is allocated. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_BUCKETS = 59 * HISTOGRAM_STEPS };

struct histogram {
    uint64_t total, largest_ns;
    uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

/* The duration that `share` (0 to 1) of all do not exceed, in microseconds;
 * 0 if there are none. */
double histogram_us(const struct histogram *h, double share);

#endif
