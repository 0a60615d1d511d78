/* Idle outbound connections of this thread's loop, by name, for reuse.
 *
 * One pool per thread, so it outlives the VMs: a reload keeps the connections.
 * Bounded per name, in total (MOON_POOL_MAX, the longest idle goes first) and
 * in time; a connection that its peer closes, or that says something while
 * idle, is dropped. Idle connections do not keep the loop alive. */
#ifndef MOON_LINK_POOL_H
#define MOON_LINK_POOL_H

#include "link/link.h"

#define MOON_POOL_MAX 1024
#define MOON_POOL_IDLE_MAX_MS ((uint64_t)3600 * 1000)

/* Takes the link (closed at once when memory is out). `uses` is how often it
 * was taken before; `max` bounds the idle ones of that name, at least 1. */
void moon_pool_put(struct moon_link *link, struct moon_str name, uint32_t uses,
                   uint64_t idle_ms, uint32_t max);
/* The one last used, transferred; NULL if there is none that still lives. */
struct moon_link *moon_pool_take(struct moon_str name, uint32_t *uses);
uint32_t moon_pool_count(void);
/* Closes all; for the end of the loop, which must run once more. */
void moon_pool_close(void);

#endif
