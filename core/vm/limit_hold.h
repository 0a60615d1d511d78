/* What a request holds of limits beyond the moment in which it was held against
 * them: leases of concurrency, and the questions to the cluster that decide
 * whether it may go on.
 *
 * Holds hang on the exchange (x->limits). What they hold is given back when the
 * task of the request is over, or when the request ends without one. Of a task
 * that serves no request they hang on the set. Loop thread only. */
#ifndef MOON_VM_LIMIT_HOLD_H
#define MOON_VM_LIMIT_HOLD_H

#include "state/cluster_limits.h"
#include "vm/limit_gate.h"

/* One limit of several that stand side by side. */
struct moon_limit_part {
    const struct moon_limit *limit; /* its set outlives the request */
    struct moon_limit_claim claim;  /* on this node */
    struct moon_rate_result result; /* of this node, then of all */
    struct moon_rate share; /* of this node alone, when nobody answers */
    uint32_t lease;         /* on this node */
    bool taken;             /* on this node */
    bool dry, asks;
    uint16_t status; /* of a refusal */
    struct moon_cluster_ask ask;
};

struct moon_limit_hold {
    struct moon_limit_hold *next, **list; /* of x, or of the set */
    struct moon_limit_set *set;
    struct moon_exchange *x; /* or NULL */
    bool look;               /* nothing is taken */
    uint32_t count, open;    /* questions under way */
    moon_limit_hold_told *told;
    void *ctx;
    moon_limit_decided *decided; /* of a parked request */
    struct moon_limit_part parts[];
};

/* With room for `room` parts; x may be NULL. NULL: no memory. */
MOON_MUST_CHECK struct moon_limit_hold *moon_limit_hold_create(
    struct moon_limit_set *set, struct moon_exchange *x, uint32_t room);
/* Adds what was taken on this node, or (hold->look) looked at. */
void moon_limit_hold_add(struct moon_limit_hold *hold,
                         const struct moon_limit *limit,
                         const struct moon_limit_claim *claim,
                         struct moon_str key,
                         const struct moon_rate_result *result);
/* Gives back what it holds, asks no more, and frees it. */
void moon_limit_hold_drop(struct moon_limit_hold *hold);

#endif
