/* Rate limits that all workers of a node share: what is kept for each key, in
 * shared memory.
 *
 * A table of sets of eight slots, found by a keyed hash (SipHash, a random key
 * per node, so that nobody can aim at a set). A full set gives up the slot
 * that is nearest to a full quota, and never refuses for lack of room: keys of
 * which nothing is kept have all of theirs. Giving up one that was still
 * limited lets that one have more than it should; it is counted. Sets are
 * guarded by striped mutexes; one that a dying worker held is just taken over,
 * for a slot is two words that are clamped when read. Concurrency is counted in
 * leases (state/leases.h) under the same mutexes. */
#ifndef MOON_STATE_LIMITS_H
#define MOON_STATE_LIMITS_H

#include "base/str.h"
#include "state/rate.h"
#include "state/region.h"

struct moon_limits;

enum { MOON_LIMIT_CLAIMS_MAX = 8 };

/* One request against one limit. */
struct moon_limit_claim {
    const struct moon_rate *rate; /* borrowed for the call */
    uint64_t key;                 /* moon_limits_key */
    uint32_t cost;
};

/* The tables of a region, made if need be; `keys` is how many each has room
 * for (rounded up). The handle is the process', which is the one of `slot`
 * among `slots`: what an earlier one of that slot held is free again. NULL: no
 * memory. */
MOON_MUST_CHECK struct moon_limits *moon_limits_open(struct moon_region *region,
                                                     uint32_t keys,
                                                     uint32_t slots,
                                                     uint32_t slot);
void moon_limits_close(struct moon_limits *limits); /* NULL is fine */

/* The number under which a limit keeps a key. `salt` is the limit's own, see
 * moon_limits_salt. */
uint64_t moon_limits_key(const struct moon_limits *limits, uint64_t salt,
                         struct moon_str key);
/* Of a limit's name. */
uint64_t moon_limits_salt(const struct moon_limits *limits,
                          struct moon_str name);

/* All claims pass and are taken, or none is. `results` has `count` entries;
 * *which is the claim that refused (the one that will pass last) or, if all
 * pass, the one with the least left of its quota. At most
 * MOON_LIMIT_CLAIMS_MAX. Of concurrency results[i].lease is held from then on;
 * 0: not counted, for this process holds too many. */
bool moon_limits_take(struct moon_limits *limits,
                      const struct moon_limit_claim *claims, uint32_t count,
                      uint64_t now_ns, struct moon_rate_result *results,
                      uint32_t *which);
/* Looks without taking: would one more pass, and what is left. */
void moon_limits_peek(struct moon_limits *limits,
                      const struct moon_limit_claim *claim, uint64_t now_ns,
                      struct moon_rate_result *result);
/* The key has its whole quota again. */
void moon_limits_reset(struct moon_limits *limits,
                       const struct moon_limit_claim *claim);

/* Gives back what was taken for a request that did not come to pass. */
void moon_limits_undo(struct moon_limits *limits,
                      const struct moon_limit_claim *claim, uint32_t lease,
                      uint64_t now_ns);
/* Gives back a lease; 0 is fine. */
void moon_limits_give(struct moon_limits *limits, uint64_t key, uint32_t lease);

/* The clock of these limits: goes on while the machine sleeps, never back. */
uint64_t moon_limits_now_ns(void);

/* Slots that were given up while their key was limited, and leases that could
 * not be counted, since the node started. */
uint64_t moon_limits_lost(const struct moon_limits *limits);

#endif
