/* Sessions in memcached 1.6, on one server or several.
 *
 * A session is one item, "moon:s:KEY" with KEY in hex, whose value is a record
 * (state/session_record.h). A save reads it, merges, and writes it back if
 * nobody else did meanwhile (the item's cas), else it begins anew: so saves
 * merge, and what was removed stays removed.
 *
 * Of several servers each session has one, by rendezvous hashing, so that a
 * list with one server more or less moves only the sessions of that one. A
 * server that is down takes its sessions with it: they cannot be read, and are
 * gone when it restarts, as all that memcached forgets. There is no list of the
 * sessions of a subject. */
#ifndef MOON_STATE_MEMCACHED_SESSIONS_H
#define MOON_STATE_MEMCACHED_SESSIONS_H

#include "state/session_store.h"

#include <uv.h>

/* Connects at once. Fails for a URL that is none, and for lack of memory; told
 * in `error`. A connect_timeout_ms of 0 is a second. */
MOON_MUST_CHECK enum moon_err moon_memcached_sessions_open(
    uv_loop_t *loop, const char *urlz, uint64_t connect_timeout_ms,
    struct moon_session_store **store, char *error, size_t error_size);

#endif
