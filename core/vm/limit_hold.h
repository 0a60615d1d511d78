/* What a request holds of limits beyond the moment in which it was held against
 * them: leases of concurrency.
 *
 * Lists hang on the exchange (x->limits). They are given back when the task of
 * the request is over, or when the request ends without one. Loop thread
 * only. */
#ifndef MOON_VM_LIMIT_HOLD_H
#define MOON_VM_LIMIT_HOLD_H

#include "vm/limit_gate.h"

struct moon_limit_part {
    const struct moon_limit *limit; /* its set outlives the request */
    struct moon_limit_claim claim;
    struct moon_rate_result result;
};

struct moon_limit_hold {
    struct moon_limit_hold *next; /* of x */
    struct moon_limit_set *set;
    uint32_t count;
    struct moon_limit_part parts[];
};

/* With room for `room` parts, held by x; NULL: no memory. */
MOON_MUST_CHECK struct moon_limit_hold *moon_limit_hold_create(
    struct moon_exchange *x, struct moon_limit_set *set, uint32_t room);

#endif
