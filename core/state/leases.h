/* Who holds what of the limits of concurrency: leases that all workers of a
 * node see, so that those of a worker that died come back.
 *
 * Each worker has an array of leases that only it fills; beside them a table
 * counts how many there are of a key. Both change under the lock of the key
 * (state/limits.h), which is the caller's. When a worker died, the counts of
 * its time are made anew from the leases of the others, each when somebody
 * asks for its key: nobody waits, and the master takes no lock. A lease ends
 * at its time whatever its holder does; that is noticed when it stands in
 * somebody's way. */
#ifndef MOON_STATE_LEASES_H
#define MOON_STATE_LEASES_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

struct moon_leases;
struct moon_region; /* state/region.h */

enum { MOON_LEASES_MAX = 8192 }; /* of one worker */

/* The region's leases for `slots` workers and counts for so many sets of keys;
 * the process is the one of `slot`, whose leases of an earlier process end.
 * The region is borrowed. NULL: no memory. */
MOON_MUST_CHECK struct moon_leases *moon_leases_open(struct moon_region *region,
                                                     uint32_t slots,
                                                     uint32_t slot,
                                                     uint32_t sets);
void moon_leases_close(struct moon_leases *leases); /* NULL is fine */

/* Under the lock of the key: how many are held. `max` and `now_ns` tell whether
 * leases that are over stand in the way. */
uint32_t moon_leases_count(struct moon_leases *leases, uint64_t key,
                           uint32_t max, uint64_t now_ns);
/* Likewise: one more, until then at the latest; its number, or 0 if this worker
 * holds MOON_LEASES_MAX already, which is then not counted. *lost: the count of
 * another key was given up for lack of room. */
uint32_t moon_leases_take(struct moon_leases *leases, uint64_t key,
                          uint64_t until_ns, bool *lost);
/* Likewise: gives it back. Harmless once it was over. */
void moon_leases_give(struct moon_leases *leases, uint64_t key, uint32_t lease);
/* Likewise: nobody holds one of that key any more. */
void moon_leases_reset(struct moon_leases *leases, uint64_t key);

/* The worker's process is gone; called by the master, takes no lock. */
void moon_leases_end_worker(struct moon_region *region, uint32_t slots,
                            uint32_t slot);

#endif
