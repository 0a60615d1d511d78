/* The last seconds of a node: how many requests, how many failed, how long
 * they took. Samples of the workers' counters, one a second, kept by the
 * master. */
#ifndef MOON_NODE_RECENT_H
#define MOON_NODE_RECENT_H

#include "node/shm.h"

enum { MOON_RECENT_SECONDS = 10 };

struct moon_recent_sample {
    uint64_t at_ms, answered, errors;
    uint64_t took[MOON_TOOK_BUCKETS];
};

struct moon_recent {
    struct moon_recent_sample samples[MOON_RECENT_SECONDS + 1]; /* a ring */
    uint32_t count, newest;
};

struct moon_recent_rates {
    double seconds; /* that were looked at; 0: none yet, and all is 0 */
    double requests_per_s, errors_per_s;
    /* Interpolated within the histogram's buckets; what took longer than the
     * last bound counts as that. 0 without requests. */
    double p50_s, p99_s;
};

/* Takes a sample if the last one is a second old; `now_ms` never falls. */
void moon_recent_tick(struct moon_recent *recent, const struct moon_shm *shm,
                      uint64_t now_ms);
/* From the oldest sample to now. */
void moon_recent_get(const struct moon_recent *recent,
                     const struct moon_shm *shm, uint64_t now_ms,
                     struct moon_recent_rates *out);

#endif
