/* The commands of one op, when there are several, and their replies.
 *
 * A plan says which of them are sent: all at first, later those that were not
 * executed where they went. Owned by its op. Private to state/redis*. */
#ifndef MOON_STATE_REDIS_BATCH_H
#define MOON_STATE_REDIS_BATCH_H

#include "base/compiler.h"
#include "base/str.h"

struct redisReply;

struct moon_redis_batch {
    uint32_t count;
    uint32_t planned;
    uint32_t *plan;              /* indices, in order */
    size_t *ends;                /* where each command ends in the op's bytes */
    struct redisReply **replies; /* NULL: not there */
};

/* All are planned; the caller fills in `ends`. NULL: no memory. */
MOON_MUST_CHECK struct moon_redis_batch *moon_redis_batch_create(
    uint32_t count);
void moon_redis_batch_free(struct moon_redis_batch *batch); /* NULL is fine */

/* The bytes of a planned command; borrowed from `bytes`. */
struct moon_str moon_redis_batch_bytes(const struct moon_redis_batch *batch,
                                       const char *bytes, uint32_t planned);
/* The reply to a planned command; transferred. */
void moon_redis_batch_set(struct moon_redis_batch *batch, uint32_t planned,
                          struct redisReply *reply);
/* Plans those whose reply is an error with the same first word as `error`, one
 * of the replies; NULL: all. Their replies are dropped, `error` too. */
void moon_redis_batch_plan(struct moon_redis_batch *batch,
                           const struct redisReply *error);

/* All replies are errors with the same first word as `error`: nothing of it
 * was executed. */
bool moon_redis_batch_is_all(const struct moon_redis_batch *batch,
                             const struct redisReply *error);

/* What the caller of the op gets: an array of all replies; NULL: no memory. */
struct redisReply *moon_redis_batch_all(struct moon_redis_batch *batch);
/* An array of those before the first that is missing; NULL: none, or no
 * memory. */
struct redisReply *moon_redis_batch_partial(struct moon_redis_batch *batch);
/* Between MULTI and EXEC: the reply of EXEC, or for which error it refused. */
struct redisReply *moon_redis_batch_atomic(struct moon_redis_batch *batch);
/* The same: EXEC executed nothing. */
bool moon_redis_batch_was_refused(const struct moon_redis_batch *batch);

#endif
