/* The limits that an application declared, and how a request is held against
 * them: by whom it counts, what the answer says about it.
 *
 * A set belongs to one generation and is filled while its code loads; what is
 * counted lies in shared memory (state/limits.h) under the names of the
 * limits, so it goes on over a reload. Limits of the cluster are taken here
 * first, which refuses a busy client at once; then Redis is asked, and the
 * request waits for the answer. Loop thread only once loaded. */
#ifndef MOON_VM_LIMIT_GATE_H
#define MOON_VM_LIMIT_GATE_H

#include "base/config.h"
#include "http/exchange.h"
#include "state/limits.h"

#include <uv.h>

struct moon_cluster_limits; /* state/cluster_limits.h */
struct moon_cluster_news;

enum moon_limit_by {
    MOON_LIMIT_BY_IP, /* IPv6: the /64; a peer without address: not limited */
    MOON_LIMIT_BY_ALL,
    MOON_LIMIT_BY_ROUTE,   /* pattern */
    MOON_LIMIT_BY_HEADER,  /* a request without it counts by address */
    MOON_LIMIT_BY_LUA,     /* Lua says, a function: nil is not limited */
    MOON_LIMIT_BY_SESSION, /* Lua says: a request without one counts by
                              address */
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
    uint8_t on_error; /* MOON_STORE_...: while the cluster gives no answer */
    bool cluster;     /* all nodes hold it together */
    bool dry_run;     /* counts and logs, refuses nothing */
};

struct moon_limit_set {
    struct moon_limits *table; /* borrowed */
    struct moon_arena arena;
    struct moon_limit *items; /* malloc'd */
    uint32_t count, cap;
    struct moon_cluster_limits *cluster; /* owned; NULL: held by this node */
    struct moon_limit_hold *loose;       /* of tasks without a request */
};

void moon_limit_set_init(struct moon_limit_set *set, struct moon_limits *table);
void moon_limit_set_deinit(struct moon_limit_set *set);
/* A zeroed entry with the next number; NULL: no memory. */
MOON_MUST_CHECK struct moon_limit *moon_limit_set_add(
    struct moon_limit_set *set, uint32_t *number);

/* Once it is loaded, on the loop that runs its code: limits of the cluster are
 * held in Redis from now on, if it has any and limits.url is set. Says in the
 * log if that cannot be; this node then holds them alone. */
void moon_limit_set_connect(struct moon_limit_set *set, uv_loop_t *loop,
                            const struct moon_config *config, const char *nodez,
                            struct moon_cluster_news *news, bool first_worker);
/* Every second or so. */
void moon_limit_set_tend(struct moon_limit_set *set);
/* No request is held against it any more. */
void moon_limit_set_disconnect(struct moon_limit_set *set);
/* Is it for the cluster to decide? */
static inline bool moon_limit_asks(const struct moon_limit_set *set,
                                   const struct moon_limit *limit)
{
    return limit->cluster && set->cluster != NULL;
}

struct moon_limit_outcome {
    bool refused;
    uint16_t status;   /* then, and Retry-After is set */
    uint64_t delay_ns; /* else wait so long before going on */
    /* Not refused by this node: what has to be asked before it may go on
     * (moon_limit_ask, moon_limit_settle), or NULL. x owns it. */
    struct moon_limit_hold *asks;
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

/* One claim from inside a handler, for a request or (x NULL) a task without
 * one. *asks as in the outcome: else the result is there. */
void moon_limit_take_one(struct moon_limit_set *set, struct moon_exchange *x,
                         const struct moon_limit *limit, struct moon_str key,
                         uint32_t cost, struct moon_rate_result *result,
                         struct moon_limit_hold **asks);
/* The same without taking. */
void moon_limit_look(struct moon_limit_set *set, struct moon_exchange *x,
                     const struct moon_limit *limit, struct moon_str key,
                     struct moon_rate_result *result,
                     struct moon_limit_hold **asks);
/* The key has its whole quota again, everywhere. */
void moon_limit_forget(struct moon_limit_set *set,
                       const struct moon_limit *limit, struct moon_str key);

/* The request is over: gives back what it holds, and asks no more. */
void moon_limit_release(struct moon_exchange *x);

/* ---- vm/limit_hold.c: waiting for the cluster ---- */

/* All answers are there, or late: moon_limit_settle is next. */
typedef void moon_limit_hold_told(void *ctx, struct moon_limit_hold *hold);
/* MOON_EAGAIN: `told` follows, once, unless the hold is dropped; MOON_OK:
 * nobody can be asked, go on with moon_limit_settle. */
MOON_MUST_CHECK enum moon_err moon_limit_ask(struct moon_limit_hold *hold,
                                             moon_limit_hold_told *told,
                                             void *ctx);
/* Decides, and gives back what was taken of a request that is refused. The hold
 * is dropped, unless there are leases in it, and must not be used any more.
 * *result, if not NULL, is that of the tightest; else it is told in the fields
 * of the response (MOON_ENOMEM: it could not). */
enum moon_err moon_limit_settle(struct moon_limit_hold *hold,
                                struct moon_limit_outcome *outcome,
                                struct moon_rate_result *result);

typedef void moon_limit_decided(struct moon_exchange *x,
                                const struct moon_limit_outcome *outcome);
/* For a request that passed the gate and is about to run, with x->limits not
 * NULL. True: it waits, and `decided` follows unless moon_limit_release comes
 * first. False: *outcome says whether it may run; delay_ns is beyond that of
 * the gate. */
MOON_MUST_CHECK bool moon_limit_park(struct moon_exchange *x,
                                     moon_limit_decided *decided,
                                     struct moon_limit_outcome *outcome);

/* ---- vm/limit_gate.c, for limit_hold.c ---- */
enum moon_err moon_limit_tell(struct moon_exchange *x,
                              const struct moon_limit *limit,
                              const struct moon_rate_result *result,
                              bool refused);
void moon_limit_count_refusal(const struct moon_limit *limit);
void moon_limit_log_dry(const struct moon_exchange *x,
                        const struct moon_limit *limit);

#endif
