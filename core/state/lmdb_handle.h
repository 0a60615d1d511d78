/* The environment that this process has at the moment, or none: opened as often
 * as it takes, opened anew when something is wrong with it, and shown to the
 * loop for reading.
 *
 * The writer thread's, but pin and unpin, which are the loop's. */
#ifndef MOON_STATE_LMDB_HANDLE_H
#define MOON_STATE_LMDB_HANDLE_H

#include "state/lmdb_env.h"
#include "state/lmdb_health.h"

struct moon_lmdb_handle {
    const char *dirz; /* borrowed for its life */
    uint64_t size_bytes;
    struct moon_lmdb_health *health; /* likewise */
    struct moon_lmdb_env *env;       /* NULL: none; the writer's */
    uint64_t retry_ms; /* if there is none: when to try again; 0: at once */

    uint64_t delay_ms, opening_ms;
    bool follow, enlarged;
    /* What the loop may read, and whether it does so right now. */
    _Atomic(struct moon_lmdb_env *) shown;
    _Atomic bool pinned;
};

/* True: opened just now. */
bool moon_lmdb_handle_open_if_due(struct moon_lmdb_handle *handle);
/* Waits until the loop does not read. */
void moon_lmdb_handle_close(struct moon_lmdb_handle *handle);
/* After that result: lets go, has the file checked if it is suspect, and tries
 * at once to open it anew. */
bool moon_lmdb_handle_renew(struct moon_lmdb_handle *handle, int rc);
/* Once, as a last resort: a somewhat larger map, since making room takes room.
 * False: that was done before. */
bool moon_lmdb_handle_enlarge(struct moon_lmdb_handle *handle);

/* The environment for one read, NULL if there is none now; then unpin. Costs
 * two stores. */
struct moon_lmdb_env *moon_lmdb_handle_pin(struct moon_lmdb_handle *handle);
void moon_lmdb_handle_unpin(struct moon_lmdb_handle *handle);

#endif
