/* The hash slot of a key in a Redis cluster. Pure. */
#ifndef MOON_STATE_REDIS_SLOT_H
#define MOON_STATE_REDIS_SLOT_H

#include "base/str.h"

enum { MOON_REDIS_SLOTS = 16384 };

/* Of what stands between the first "{" and the next "}", if there is something
 * and there are both; else of all of it. */
uint16_t moon_redis_slot(struct moon_str key);

#endif
