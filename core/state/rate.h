/* The arithmetic of rate limits: no memory, no clock, no I/O. Times are
 * nanoseconds of one clock that never goes back, handed in.
 *
 * Token and leaky bucket are GCRA (ITU-T I.371, as in redis-cell): one word
 * per key, the theoretical arrival time. A request moves it by `interval`;
 * while it is no further ahead of now than `quota` intervals there is room. A
 * token bucket lets `quota` pass at once. A leaky bucket lets one pass, and
 * delays the others so that they leave at the rate. The interval is rounded up:
 * a limit never lets more through than it says.
 *
 * A sliding window counts what passed in this window and in the one before,
 * which weighs as much as it still overlaps: "1000 a day" without the jump at
 * midnight.
 *
 * A limit of concurrency is no matter of time: how many are there is counted
 * elsewhere (state/leases.h), and judged here. */
#ifndef MOON_STATE_RATE_H
#define MOON_STATE_RATE_H

#include "base/compiler.h"

#include <stdbool.h>

enum moon_rate_kind {
    MOON_RATE_TOKEN_BUCKET,
    MOON_RATE_LEAKY_BUCKET,
    MOON_RATE_SLIDING_WINDOW,
    MOON_RATE_CONCURRENCY,
};

/* Frozen once made. */
struct moon_rate {
    enum moon_rate_kind kind;
    uint32_t quota; /* token: burst; leaky: 1 and the queue; window: all of it;
                       concurrency: at once */
    uint64_t interval_ns; /* buckets */
    uint64_t period_ns;   /* as configured: the window, what `rate` is per, or
                             how long one may last (concurrency) */
};

/* At most MOON_RATE_MAX a second; see moon_rate_make. */
#define MOON_RATE_MAX 10000000u
#define MOON_RATE_PERIOD_MAX_NS (366ull * 86400 * 1000000000ull)

/* `rate` passes per `period_ns`. False if that is less than one in 366 days,
 * more than MOON_RATE_MAX a second, or a bucket that would take longer than
 * 366 days to fill again. `burst` is not used by windows.
 * Concurrency: `rate` at once, each for `period_ns` at most. */
MOON_MUST_CHECK bool moon_rate_make(enum moon_rate_kind kind, uint32_t rate,
                                    uint64_t period_ns, uint32_t burst,
                                    struct moon_rate *out);

/* What is kept for a key; zero is "nothing passed yet". */
struct moon_rate_state {
    uint64_t at_ns; /* bucket: arrival time; window: when this one began */
    uint32_t now_count, before_count; /* window: in it, and in the one before */
};

struct moon_rate_result {
    bool allowed;
    uint32_t remaining; /* would pass at once after this one */
    uint64_t delay_ns;  /* allowed, leaky: go on after this time */
    uint64_t retry_ns;  /* refused: the same cost may pass then */
    uint64_t reset_ns;  /* all of the quota is there again; concurrency: 0 */
    uint32_t lease; /* concurrency, taken: to be given back (state/limits.h) */
};

/* Would `cost` pass now, and what would be kept then? *state is only read. A
 * cost above the quota never passes. Cost 0 looks without taking. */
void moon_rate_check(const struct moon_rate *rate,
                     const struct moon_rate_state *state, uint64_t now_ns,
                     uint32_t cost, struct moon_rate_state *next,
                     struct moon_rate_result *result);

/* Concurrency: may `cost` more come while `used` are there? Nobody knows when
 * one of them goes, so whoever is refused is told to ask again in a second. */
void moon_rate_check_concurrency(const struct moon_rate *rate, uint32_t used,
                                 uint32_t cost,
                                 struct moon_rate_result *result);

/* What is kept once `cost` that had passed is given back. */
void moon_rate_undo(const struct moon_rate *rate,
                    const struct moon_rate_state *state, uint64_t now_ns,
                    uint32_t cost, struct moon_rate_state *next);

/* The share of one of `nodes` that hold the limit together; what is kept for a
 * key goes on under it. At least one passes, so that a limit below `nodes` is
 * exceeded. */
void moon_rate_share(const struct moon_rate *rate, uint32_t nodes,
                     struct moon_rate *out);

/* Is `a` the tighter of two? A refusal before what passes, the longer wait
 * before the shorter, the smaller share left before the larger. */
bool moon_rate_is_tighter(const struct moon_rate *rate_a,
                          const struct moon_rate_result *a,
                          const struct moon_rate *rate_b,
                          const struct moon_rate_result *b);

#endif
