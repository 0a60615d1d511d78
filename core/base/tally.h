/* What this process has counted besides its requests: rare events in places
 * that know nothing of the node. Any thread adds; the worker publishes the sums
 * in shared memory, a tick later at the latest. */
#ifndef MOON_BASE_TALLY_H
#define MOON_BASE_TALLY_H

#include <stdint.h>

enum moon_tally {
    MOON_TALLY_LOG_DROPPED,          /* lines that the log had to leave out */
    MOON_TALLY_SLOW_SLICES,          /* slices of Lua over slow_slice */
    MOON_TALLY_SESSION_STORE_ERRORS, /* operations that a store failed */
    MOON_TALLY_QUARANTINE_REFUSALS,  /* by routes that are shut off */
    MOON_TALLY_REDIS_CONNECTS,       /* attempts, whatever came of them */
    MOON_TALLY_OVERLOAD_REFUSALS,    /* of requests, by shed_lag */
    MOON_TALLIES
};

void moon_tally_add(enum moon_tally tally, uint64_t count);
uint64_t moon_tally_get(enum moon_tally tally);
/* First thing in a fork: what was counted so far is its parent's. */
void moon_tally_reset(void);

#endif
