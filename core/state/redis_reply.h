/* Replies of Redis in one block each: what hiredis' reader makes of bytes, by
 * functions of ours. Its own take two allocations for each element, and most of
 * what a small command costs.
 *
 * A reply is a tree of struct redisReply that is freed as a whole, by its root
 * and moon_redis_reply_free (state/redis.h), never by freeReplyObject. Any
 * thread, one at a time. */
#ifndef MOON_STATE_REDIS_REPLY_H
#define MOON_STATE_REDIS_REPLY_H

#include "state/redis.h"

struct redisReplyObjectFunctions;

/* For redisReaderCreateWithFunctions. */
extern struct redisReplyObjectFunctions moon_redis_reply_functions;

/* An array of what is in `replies`, each the root of its own, which are
 * transferred; NULL: no memory, and nothing was transferred. */
struct redisReply *moon_redis_reply_join(struct redisReply **replies,
                                         size_t count);

#endif
