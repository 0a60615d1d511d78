#include "histogram.h"

#include <stddef.h>

/* Below 64 a bucket each; above, 64 buckets for each power of two. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS) {
        return (size_t)ns;
    }
    unsigned shift = 63U - (unsigned)__builtin_clzll(ns) - 6U;
    return (size_t)((uint64_t)shift * HISTOGRAM_STEPS + (ns >> shift));
}

static double upper_ns(size_t bucket)
{
    if (bucket < HISTOGRAM_STEPS) {
        return (double)bucket;
    }
    size_t shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = bucket - shift * HISTOGRAM_STEPS;
    return (double)(((step + 1) << shift) - 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->count[bucket_of(ns)]++;
    h->total++;
    if (ns > h->largest_ns) {
        h->largest_ns = ns;
    }
}

double histogram_us(const struct histogram *h, double share)
{
    double goal = share * (double)h->total;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->count[i];
        if (h->count[i] != 0 && (double)seen >= goal) {
            double ns = upper_ns(i), most = (double)h->largest_ns;
            return (ns < most ? ns : most) / 1000;
        }
    }
    return 0;
}
