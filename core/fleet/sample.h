/* What a node has counted, from its metrics; and what two samples say of the
 * time between them. */
#ifndef MOON_FLEET_SAMPLE_H
#define MOON_FLEET_SAMPLE_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"

#include <stdint.h>

enum { MOON_SAMPLE_BUCKETS = 64 };

struct moon_sample {
    uint64_t generation;
    uint64_t workers, connections;
    uint64_t requests; /* to routes, not those of health checks */
    uint64_t failures; /* of them: answered 5xx */
    /* Of how long requests took: how many took at most `bounds` seconds, the
     * last one is infinite. */
    uint32_t bucket_count;
    double bounds[MOON_SAMPLE_BUCKETS];
    uint64_t counts[MOON_SAMPLE_BUCKETS];
};

/* Reads the exposition of /-/metrics (the text format of Prometheus). */
void moon_sample_read(struct moon_sample *sample, struct moon_str metrics);

/* now - then, of what grows; the rest is `now`. A counter that became smaller
 * (the node was restarted) began anew. */
void moon_sample_since(const struct moon_sample *now,
                       const struct moon_sample *then, struct moon_sample *out);
/* Adds counts of another node. */
void moon_sample_add(struct moon_sample *to, const struct moon_sample *other);
/* 0 to 1; 0 without requests. */
double moon_sample_failed(const struct moon_sample *sample);
/* The time within which this share (0 to 1) of the requests was answered, in
 * seconds, as exact as the buckets are; negative: not known. */
double moon_sample_quantile(const struct moon_sample *sample, double share);

#endif
