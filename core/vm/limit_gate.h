/* The limits that an application declared, and how a request is held against
 * them: by whom it counts, what the answer says about it.
 *
 * A set belongs to one generation and is filled while its code loads; what is
 * counted lies in shared memory (state/limits.h) under the names of the
 * limits, so it goes on over a reload. Loop thread only once loaded. */
#ifndef MOON_VM_LIMIT_GATE_H
#define MOON_VM_LIMIT_GATE_H

#include "http/exchange.h"
#include "state/limits.h"

enum moon_limit_by {
    MOON_LIMIT_BY_IP, /* IPv6: the /64; a peer without address: not limited */
    MOON_LIMIT_BY_ALL,
    MOON_LIMIT_BY_ROUTE,  /* pattern */
    MOON_LIMIT_BY_HEADER, /* a request without it counts by address */
    MOON_LIMIT_BY_LUA,    /* Lua says: a function, the session */
};

struct moon_limit {
    struct moon_rate rate;
    struct moon_str name;   /* in the set's arena, as all text here */
    struct moon_str policy; /* "name";q=100;w=1 of RateLimit-Policy */
    struct moon_str header; /* by header */
    uint64_t salt;
    enum moon_limit_by by;
    uint32_t cost;
    uint16_t status;  /* of a refusal */
    double *refusals; /* a metric's cell of this worker, or NULL */
    bool dry_run;     /* counts and logs, refuses nothing */
};

struct moon_limit_set {
    struct moon_limits *table; /* borrowed */
    struct moon_arena arena;
    struct moon_limit *items; /* malloc'd */
    uint32_t count, cap;
};

void moon_limit_set_init(struct moon_limit_set *set, struct moon_limits *table);
void moon_limit_set_deinit(struct moon_limit_set *set);
/* A zeroed entry with the next number; NULL: no memory. */
MOON_MUST_CHECK struct moon_limit *moon_limit_set_add(
    struct moon_limit_set *set, uint32_t *number);

struct moon_limit_outcome {
    bool refused;
    uint16_t status;   /* then, and Retry-After is set */
    uint64_t delay_ns; /* else wait so long before going on */
};

/* Holds x against limits of the set, all of them or none, and sets the
 * RateLimit fields of its response for the tightest. `keys[i].ptr` NULL: by
 * what the limit says; a limit by Lua without a key is passed over. At most
 * MOON_LIMIT_CLAIMS_MAX. What it takes of concurrency x holds until
 * moon_limit_release. MOON_ENOMEM: the fields could not be set; the outcome
 * holds all the same. */
enum moon_err moon_limit_gate(struct moon_exchange *x,
                              struct moon_limit_set *set,
                              const uint16_t *numbers,
                              const struct moon_str *keys, uint32_t count,
                              struct moon_limit_outcome *outcome);

/* Takes one claim for x, which holds a lease as above. */
void moon_limit_take_for(struct moon_exchange *x, struct moon_limit_set *set,
                         const struct moon_limit *limit,
                         const struct moon_limit_claim *claim,
                         struct moon_rate_result *result);

/* The request is over: gives back what it holds. No more than once needed, but
 * harmless. */
void moon_limit_release(struct moon_exchange *x);

#endif
