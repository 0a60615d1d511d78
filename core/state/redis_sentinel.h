/* Where the master is, as the sentinels tell.
 *
 * Asks one sentinel after the other, the one that answered last first, with
 * moon_redis_ask_ms each; learns of further sentinels from the answer. Stays
 * subscribed to +switch-master at one of them, and asks again when that says
 * so, and after each time that this link was lost. Password: that of the URL; a
 * sentinel without one answers all the same.
 *
 * Owned by its client, which has one node; tells it by moon_redis_node_found,
 * from the loop. Private to state/redis*. */
#ifndef MOON_STATE_REDIS_SENTINEL_H
#define MOON_STATE_REDIS_SENTINEL_H

#include "state/redis_internal.h"

/* NULL: no memory. */
MOON_MUST_CHECK struct moon_redis_sentinel *moon_redis_sentinel_create(
    struct moon_redis *redis);
/* Its links are closed; freed when they are gone. NULL is fine. */
void moon_redis_sentinel_destroy(struct moon_redis_sentinel *sentinel);

/* Asks, unless that is under way. */
void moon_redis_sentinel_find(struct moon_redis_sentinel *sentinel);

#endif
