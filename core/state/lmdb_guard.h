/* Who may open and mend the files of a session store: a small file beside them
 * that all processes map and lock.
 *
 * LMDB alone does not stand two processes that open at once, a lock file that
 * is removed under it, or one process replacing a damaged file that others have
 * open. So whoever opens holds the guard meanwhile, whoever has it open is
 * counted, and an epoch says which files are meant: a process that raises it
 * makes all others let go at their next operation or second, and nobody opens
 * again before all have. Locks end with the process.
 *
 * The shared part is written by processes that run foreign code: a wrong value
 * costs a moment, never safety. Results are 0 or an errno. One thread. */
#ifndef MOON_STATE_LMDB_GUARD_H
#define MOON_STATE_LMDB_GUARD_H

#include "base/compiler.h"
#include "state/lmdb_files.h"

#include <stdatomic.h>

/* One page of the file; times are of moon_clock_ms. All but the epoch begins
 * anew when the first process opens. Processes of other versions map it, too:
 * fields may only be added, at the end. */
struct moon_lmdb_shared {
    uint64_t magic;
    _Atomic uint64_t epoch;
    /* The epoch whose files may be joined, and which they are. */
    _Atomic uint64_t ready_epoch;
    struct moon_lmdb_file_id data, lock;
    _Atomic uint64_t upkeep_ms;       /* when the next is due */
    _Atomic uint64_t sync_started_ms; /* by anybody */
    _Atomic uint64_t synced_ms;       /* what was committed by then is safe */
    _Atomic uint64_t warned_ms;       /* that it is full */
    _Atomic int64_t evict_bytes;      /* that shall still go */
    _Atomic uint64_t evict_entries;   /* no more before it has so many again */
    _Atomic uint64_t evicted;         /* since the last warning */
    _Atomic uint64_t distrust_ms; /* when it was last found damaged in use */
    _Atomic uint32_t distrusts;   /* in short order */
};

struct moon_lmdb_guard {
    int fd; /* -1: closed */
    struct moon_lmdb_file_id id;
    struct moon_lmdb_shared *shared;
};

/* Opens and holds it. EAGAIN: somebody else does. */
MOON_MUST_CHECK int moon_lmdb_guard_enter(int dir_fd,
                                          struct moon_lmdb_guard *guard);
/* While held: lets the others in. With `stay` this process counts as a user
 * until moon_lmdb_guard_close. */
void moon_lmdb_guard_leave(struct moon_lmdb_guard *guard, bool stay);
/* Fine if closed already. */
void moon_lmdb_guard_close(struct moon_lmdb_guard *guard);

enum moon_lmdb_company {
    MOON_LMDB_ALONE,
    MOON_LMDB_WITH_OTHERS,    /* processes like this one */
    MOON_LMDB_WITH_STRANGERS, /* that hold LMDB's lock, but are not counted */
};
/* While held: who else uses the files? This process must not have LMDB's lock
 * file open. */
enum moon_lmdb_company moon_lmdb_guard_company(
    const struct moon_lmdb_guard *guard, int dir_fd);

#endif
