/* The embedded session store: LMDB in a directory that all workers of a node
 * share, and all nodes of the machine that use the same directory.
 *
 * What is read is answered at once, from the loop, out of the mapped file; what
 * is written waits for a thread that commits whatever is there in one
 * transaction (lmdb_writer.h). A commit outlives the process that made it, but
 * is on disk only a second later (lmdb_sync.h). Open it after the fork, once
 * per directory and process.
 *
 * Trouble with the files does not fail to open: the store is down, says why,
 * and tries on. Damaged files are moved aside and replaced by empty ones
 * (lmdb_check.h, lmdb_guard.h); reads survive them (lmdb_fence.h). What
 * remains: a file that is truncated while it is mapped, or a disk that fails to
 * read, ends the process that writes to it then; its successor finds the
 * damage. The directory must be on a local disk, and processes that share it
 * must see each other's process ids. */
#ifndef MOON_STATE_LMDB_STORE_H
#define MOON_STATE_LMDB_STORE_H

#include "state/lmdb_writer.h"
#include "state/session_store.h"

#include <uv.h>

/* Zero is the default. */
struct moon_lmdb_store_options {
    uint64_t size_bytes;      /* of the file at most; 4 GiB */
    size_t max_record_bytes;  /* of a session; 16 MiB, or an eighth of it all */
    uint32_t max_waiting;     /* writes that queue; 10000 */
    size_t max_waiting_bytes; /* of them; 64 MiB */
    uint64_t open_wait_ms;    /* for the files, until it counts as down; 1 s */
    bool temporary; /* the directory is one of moon_lmdb_private_... */
};

/* Fails only for lack of memory or threads. */
MOON_MUST_CHECK enum moon_err moon_lmdb_store_open(
    uv_loop_t *loop, const char *dirz,
    const struct moon_lmdb_store_options *options,
    struct moon_session_store **store, char why[MOON_SESSION_WHY]);

/* What this process did. */
void moon_lmdb_store_count(struct moon_session_store *store,
                           struct moon_lmdb_counters *counters);

#endif
