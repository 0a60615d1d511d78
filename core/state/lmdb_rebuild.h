/* Makes the indexes of a session store anew from its sessions.
 *
 * For when they differ, as after records that could not be read were removed.
 * In many transactions, so it may be cut short: then it is needed again. While
 * nobody else has the environment open. Blocking. */
#ifndef MOON_STATE_LMDB_REBUILD_H
#define MOON_STATE_LMDB_REBUILD_H

#include "state/lmdb_index.h"

/* Zeroed at first. */
struct moon_lmdb_rebuild {
    struct moon_session_key last; /* that is done */
    bool dropped, started, ended;
};

/* One step of it, a transaction; ctx is the state. Until `ended`. */
MOON_MUST_CHECK int moon_lmdb_rebuild_step(struct moon_lmdb_tx *tx, void *ctx);

#endif
