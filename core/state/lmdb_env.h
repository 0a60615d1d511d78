/* The environment of a session store: opened safely beside other processes,
 * checked when nobody else has it open, mended when it is damaged.
 *
 * Opened after a fork, never used across one; once per directory and process.
 * All calls are the writer thread's but those on the reader, which is the
 * loop's. Results are 0, an errno or MDB_...; `why` gets a sentence. */
#ifndef MOON_STATE_LMDB_ENV_H
#define MOON_STATE_LMDB_ENV_H

#include "state/lmdb_fence.h"
#include "state/lmdb_guard.h"
#include "state/lmdb_index.h"
#include "state/lmdb_trouble.h"

struct moon_lmdb_env_options {
    const char *dirz;
    uint64_t size_bytes; /* what it shall take at most */
    uint64_t map_bytes;  /* what it can take at most, if that is more */
    /* As much as the file says that others use, if that is more. */
    bool follow;
};

struct moon_lmdb_env {
    MDB_env *mdb;
    struct moon_lmdb_dbs dbs;
    struct moon_lmdb_guard guard;
    uint64_t epoch;
    int dir_fd;
    struct moon_lmdb_file_id dir, data, lock;
    uint64_t size_bytes, map_bytes;
    uint32_t page_bytes;
    /* The loop's and the writer's; reset between reads, NULL before the first.
     */
    MDB_txn *readers[2];
    struct moon_lmdb_mark mark;
    struct moon_lmdb_env *next; /* of this process */
};

/* EAGAIN: another process opens it right now, or has to let go first; ETXTBSY:
 * the same of another program. Try again soon. Anything else will not pass so
 * quickly. */
MOON_MUST_CHECK int moon_lmdb_env_open(
    const struct moon_lmdb_env_options *options, struct moon_lmdb_env **out,
    char why[MOON_SESSION_WHY]);
/* Nobody reads or writes any more. NULL is fine. */
void moon_lmdb_env_close(struct moon_lmdb_env *env);

/* Are these still the files that all shall use? One load; any thread. */
static inline bool moon_lmdb_env_is_current(const struct moon_lmdb_env *env)
{
    return atomic_load_explicit(&env->guard.shared->epoch,
                                memory_order_acquire) == env->epoch;
}
/* Have they been removed or replaced by somebody? A few system calls. If so,
 * all shall open anew. */
bool moon_lmdb_env_is_lost(struct moon_lmdb_env *env);
/* All shall let go of these files and open anew; whoever is first checks them.
 * Damage that is found again and again although the check finds nothing ends
 * with an empty store. */
void moon_lmdb_env_distrust(struct moon_lmdb_env *env);

typedef int moon_lmdb_run(struct moon_lmdb_tx *tx, void *ctx);

/* Runs it in a read transaction, on the loop. What it borrows from `tx` dies
 * with it. MOON_LMDB_STALE: these are no longer the files to use. */
MOON_MUST_CHECK int moon_lmdb_env_read(struct moon_lmdb_env *env,
                                       struct moon_lmdb_tx *tx,
                                       moon_lmdb_run *run, void *ctx);
/* The same on the writer thread, at the same time. */
MOON_MUST_CHECK int moon_lmdb_env_peek(struct moon_lmdb_env *env,
                                       struct moon_lmdb_tx *tx,
                                       moon_lmdb_run *run, void *ctx);
/* Runs it in a write transaction and commits, unless it fails. Waits for other
 * writers of all processes. Also MOON_LMDB_STALE. */
MOON_MUST_CHECK int moon_lmdb_env_write(struct moon_lmdb_env *env,
                                        struct moon_lmdb_tx *tx,
                                        moon_lmdb_run *run, void *ctx);

#endif
