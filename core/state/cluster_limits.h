/* Rate limits that all nodes hold together, in Redis: the questions that a
 * worker asks there, and what becomes of the node while it gets no answer.
 *
 * A limit's key is one key of Redis, moon:l:{NAME:KEY}, that expires when its
 * quota is whole again. Each question is one script, atomic over all nodes, on
 * the clock of Redis, in microseconds: an interval is rounded up to one, so
 * that a limit never lets more through than it says. Buckets and windows are
 * those of state/rate.h; concurrency is a sorted set of leases, scored with
 * when they end.
 *
 * One per generation that has such limits; loop thread only. */
#ifndef MOON_STATE_CLUSTER_LIMITS_H
#define MOON_STATE_CLUSTER_LIMITS_H

#include "base/errcode.h"
#include "base/str.h"
#include "state/rate.h"

#include <stdatomic.h>
#include <uv.h>

struct moon_cluster_limits;
struct moon_redis_op; /* state/redis.h */

/* What the workers of a node know together; in its shared memory. */
struct moon_cluster_news {
    _Atomic uint32_t nodes;     /* alive, as last heard; 0: never heard */
    _Atomic uint32_t away;      /* 1: limits get no answers at the moment */
    _Atomic uint64_t failed_ms; /* moon_clock_ms of the last failure */
    _Atomic uint64_t failures;  /* questions without an answer */
};

/* Borrowed for the call, but for `news`, which must live as long. */
struct moon_cluster_limits_options {
    const char *urlz, *nodez;
    uint64_t connect_timeout_ms;
    uint64_t timeout_ms; /* for an answer, with the wait for a link */
    struct moon_cluster_news *news;
};

/* Connects. MOON_EINVAL, MOON_EFULL, MOON_ENOMEM: told in `error`. */
MOON_MUST_CHECK enum moon_err moon_cluster_limits_create(
    uv_loop_t *loop, const struct moon_cluster_limits_options *options,
    struct moon_cluster_limits **out, char *error, size_t error_size);
/* With no question under way; leases that are held end with their time. NULL is
 * fine. */
void moon_cluster_limits_destroy(struct moon_cluster_limits *limits);

/* Every second or so: while there are no answers, asks for a sign of life,
 * since requests that the node refuses by itself ask for nothing. */
void moon_cluster_limits_tend(struct moon_cluster_limits *limits);

/* How many nodes share a limit while there is no answer: 1 at least. */
uint32_t moon_cluster_limits_nodes(const struct moon_cluster_limits *limits);

enum {
    MOON_CLUSTER_KEY_MAX = 176, /* longer keys are hashed */
    MOON_CLUSTER_LEASE = 32,
};

struct moon_cluster_ask;
/* Once for each question that said MOON_EAGAIN, unless it is cancelled. */
typedef void moon_cluster_told(struct moon_cluster_ask *ask);

/* One question; the memory is the asker's until it was told or cancelled. */
struct moon_cluster_ask {
    void *ctx; /* the asker's */
    /* the answer */
    bool failed; /* there is none; `result` is not set */
    struct moon_rate_result result;
    /* private */
    struct moon_cluster_limits *limits;
    const struct moon_rate *rate;
    uint32_t cost;
    bool took; /* in Redis; maybe, if it was cancelled or failed */
    moon_cluster_told *told;
    struct moon_redis_op *op; /* under way, or NULL */
    uint32_t key_len;
    char key[MOON_CLUSTER_KEY_MAX];
    char lease[MOON_CLUSTER_LEASE];
};

/* About a key of the limit of that name. The rate is borrowed as long as the
 * memory. */
void moon_cluster_ask_init(struct moon_cluster_ask *ask,
                           struct moon_cluster_limits *limits,
                           const struct moon_rate *rate, struct moon_str name,
                           struct moon_str key);
/* Takes `cost`, if that may pass. MOON_EAGAIN: `told` follows; MOON_OK: it
 * failed at once, and ask->failed is set. */
MOON_MUST_CHECK enum moon_err moon_cluster_ask_take(
    struct moon_cluster_ask *ask, uint32_t cost, moon_cluster_told *told);
/* Looks without taking: would one more pass, and what is left. */
MOON_MUST_CHECK enum moon_err moon_cluster_ask_look(
    struct moon_cluster_ask *ask, moon_cluster_told *told);
/* It is not told any more; what it takes all the same of concurrency is given
 * back. No-op when nothing is under way. */
void moon_cluster_ask_cancel(struct moon_cluster_ask *ask);
/* Gives back what was taken, without waiting: once, then a no-op. */
void moon_cluster_ask_undo(struct moon_cluster_ask *ask);
/* The key has its whole quota again; nobody waits for it. */
void moon_cluster_ask_reset(struct moon_cluster_ask *ask);

#endif
