/* Sessions in Redis, whatever is behind the URL (state/redis_url.h).
 *
 * A session is a hash, "moon:s:{HH}:KEY" with KEY in hex and HH its first two
 * digits, so that a cluster spreads sessions over 256 slots and a renewed one
 * can stay in its own. Its fields: v c s i x u for version, created, seen,
 * idle, expires and subject, and ":NAME" for each of the application's. Saves
 * are one script each, so they merge, and nothing else comes between. Redis
 * removes a session when its time is over.
 *
 * The sessions of a subject are a sorted set, "moon:u:HASH", by the time of
 * their end. An entry is made before the session is, so that none is missed;
 * what the entry says is believed only if the session says so too.
 *
 * An acknowledged save can be lost with a master of which no replica had heard
 * yet; what that means is said in redis.h. */
#ifndef MOON_STATE_REDIS_SESSIONS_H
#define MOON_STATE_REDIS_SESSIONS_H

#include "state/redis.h"
#include "state/session_store.h"

enum { MOON_REDIS_SESSIONS_LIST_MAX = 10000 };

/* As moon_redis_get, whose client it holds a reference to. */
MOON_MUST_CHECK enum moon_err moon_redis_sessions_open(
    uv_loop_t *loop, const char *urlz, const struct moon_redis_options *options,
    struct moon_session_store **store, char *error, size_t error_size);

#endif
