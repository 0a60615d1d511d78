/* Flushes what was committed to disk, each second, on a thread of its own: that
 * takes up to some hundred milliseconds when much was written, and no save
 * shall wait for it.
 *
 * Commits are not flushed one by one. A process that dies loses nothing; a
 * power failure loses what was committed after the last flush began. One
 * process flushes what all have written. The writer thread's. */
#ifndef MOON_STATE_LMDB_SYNC_H
#define MOON_STATE_LMDB_SYNC_H

#include "state/lmdb_env.h"

struct moon_lmdb_sync;

/* `done` is called on its thread after each flush: then call step. */
MOON_MUST_CHECK enum moon_err moon_lmdb_sync_create(
    void (*done)(void *ctx), void *ctx, struct moon_lmdb_sync **out);
/* Waits for the flush under way. NULL is fine. */
void moon_lmdb_sync_destroy(struct moon_lmdb_sync *sync);

void moon_lmdb_sync_committed(struct moon_lmdb_sync *sync);
/* Begins one if it is due; when to call again, UINT64_MAX: when something was
 * committed. A flush that failed is logged, at most each minute, and tried
 * again. */
uint64_t moon_lmdb_sync_step(struct moon_lmdb_sync *sync,
                             struct moon_lmdb_env *env);
/* Is there something left to flush? */
bool moon_lmdb_sync_is_due(const struct moon_lmdb_sync *sync);
/* How many there were; any thread. */
uint64_t moon_lmdb_sync_count(const struct moon_lmdb_sync *sync);

#endif
