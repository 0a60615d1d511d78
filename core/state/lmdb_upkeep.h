/* What keeps a session store in shape: dead readers forgotten, what is over
 * swept, room made before there is none.
 *
 * Room is counted in pages that LMDB can still give out. Below a sixteenth of
 * the map a tenth of it is freed: what is over first, then the sessions seen
 * longest ago. That does not free as many pages (what goes is scattered, and
 * leaves room inside the pages that stay), so the next round comes when so many
 * sessions are there again, or when pages are really short. Removing needs
 * pages, too; that is what the sixteenth is for.
 *
 * Done in steps of one short transaction, between those of saves. All processes
 * share the work through the guard. The writer thread's; results as in
 * lmdb_trouble.h. */
#ifndef MOON_STATE_LMDB_UPKEEP_H
#define MOON_STATE_LMDB_UPKEEP_H

#include "state/lmdb_env.h"

struct moon_lmdb_upkeep {
    bool sweeping;
    uint64_t look_ms;   /* for room, again */
    uint64_t pages;     /* that may be taken before that */
    uint32_t group_max; /* operations that the next transaction should have */
    uint32_t batch;     /* removals in one; fewer need fewer pages */
    _Atomic uint64_t swept, evicted; /* by this process */
};

/* After an environment was opened. */
void moon_lmdb_upkeep_begin(struct moon_lmdb_upkeep *upkeep);
/* So much was written. */
void moon_lmdb_upkeep_wrote(struct moon_lmdb_upkeep *upkeep, uint32_t count,
                            size_t bytes);
/* Does what is due, one step of it; *more: another one should follow. */
MOON_MUST_CHECK int moon_lmdb_upkeep_step(struct moon_lmdb_upkeep *upkeep,
                                          struct moon_lmdb_env *env,
                                          struct moon_lmdb_tx *tx, bool *more);
/* Right now, since an operation found none. MDB_MAP_FULL: there were not even
 * pages to remove something. MDB_NOTFOUND: nothing is left to remove. */
MOON_MUST_CHECK int moon_lmdb_upkeep_make_room(struct moon_lmdb_upkeep *upkeep,
                                               struct moon_lmdb_env *env,
                                               struct moon_lmdb_tx *tx);

#endif
