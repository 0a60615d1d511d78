/* Sessions in LMDB: what each operation reads and writes inside one
 * transaction, in the databases of lmdb_index.h.
 *
 * A record that cannot be read counts as gone: it is counted in
 * tx->unreadable, and overwritten or removed when its key or its time comes.
 *
 * Returns as in lmdb_index.h; what became of the operation is in *result. */
#ifndef MOON_STATE_LMDB_SESSIONS_H
#define MOON_STATE_LMDB_SESSIONS_H

#include "state/lmdb_index.h"

enum { MOON_LMDB_LIST_MAX = 10000 };

/* MOON_OK: *view is the session, borrowed until the next write. */
MOON_MUST_CHECK int moon_lmdb_get(struct moon_lmdb_tx *tx,
                                  const struct moon_session_key *key,
                                  int64_t now_ms,
                                  struct moon_session_view *view,
                                  enum moon_err *result);
/* `change` is one of moon_session_change_copy. Also MOON_ETOO_BIG. */
MOON_MUST_CHECK int moon_lmdb_save(struct moon_lmdb_tx *tx,
                                   const struct moon_session_key *key,
                                   const struct moon_session_change *change,
                                   uint64_t *version, enum moon_err *result);
MOON_MUST_CHECK int moon_lmdb_move(struct moon_lmdb_tx *tx,
                                   const struct moon_session_key *from,
                                   const struct moon_session_key *to,
                                   const struct moon_session_change *change,
                                   uint64_t *version, enum moon_err *result);
MOON_MUST_CHECK int moon_lmdb_touch(struct moon_lmdb_tx *tx,
                                    const struct moon_session_key *key,
                                    int64_t now_ms, enum moon_err *result);
MOON_MUST_CHECK int moon_lmdb_remove(struct moon_lmdb_tx *tx,
                                     const struct moon_session_key *key,
                                     int64_t now_ms, enum moon_err *result);

/* At most MOON_LMDB_LIST_MAX; *list is the caller's, freed with free(). */
MOON_MUST_CHECK int moon_lmdb_list(struct moon_lmdb_tx *tx,
                                   struct moon_str subject, int64_t now_ms,
                                   struct moon_session_list **list);
/* Up to MOON_LMDB_BATCH; *more: there may be others. */
MOON_MUST_CHECK int moon_lmdb_remove_all(struct moon_lmdb_tx *tx,
                                         struct moon_str subject,
                                         int64_t now_ms, uint32_t *count,
                                         bool *more);

struct moon_lmdb_dropped {
    uint32_t entries; /* of the index; 0: there is nothing more */
    uint32_t sessions;
    uint64_t bytes;  /* they took, about */
    int64_t seen_ms; /* when the last of them was seen */
};

/* Is there something to sweep? Needs no write transaction. */
MOON_MUST_CHECK int moon_lmdb_is_any_over(struct moon_lmdb_tx *tx,
                                          int64_t now_ms, bool *any);
/* Removes up to `limit` (at most MOON_LMDB_BATCH) that are over, the oldest
 * first. */
MOON_MUST_CHECK int moon_lmdb_sweep(struct moon_lmdb_tx *tx, int64_t now_ms,
                                    uint32_t limit,
                                    struct moon_lmdb_dropped *dropped);
/* The same of those that were seen longest ago (to a minute), until they took
 * so many bytes. */
MOON_MUST_CHECK int moon_lmdb_evict(struct moon_lmdb_tx *tx, uint32_t limit,
                                    uint64_t bytes,
                                    struct moon_lmdb_dropped *dropped);

#endif
