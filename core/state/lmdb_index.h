/* The databases of a session store, and the indexes among them.
 *
 *   sessions   key                              -> record (session_record.h)
 *   expiry     u64 slot of the deadline, key    -> nothing
 *   seen       u64 slot of seen_ms, key         -> nothing
 *   subjects   SHA-256 of the subject, key      -> nothing
 *
 * Slots are of 65 s, big-endian: a session that is saved again and again moves
 * in the indexes once a minute. A deadline's slot is rounded up, so what is in
 * a past slot is over.
 *
 * Returns are LMDB's: 0, an errno or MDB_...; anything but 0 ends the
 * transaction. The thread of the transaction. */
#ifndef MOON_STATE_LMDB_INDEX_H
#define MOON_STATE_LMDB_INDEX_H

#include "state/session_record.h"

#include <lmdb.h>

enum {
    MOON_LMDB_BATCH = 100, /* sessions that one step removes at most */
    MOON_LMDB_HASH = 32,
};

struct moon_lmdb_dbs {
    MDB_dbi sessions, expiry, seen, subjects;
};

/* A transaction and what it works with. */
struct moon_lmdb_tx {
    MDB_txn *txn;
    struct moon_lmdb_dbs dbs;
    struct moon_buf scratch; /* records under construction */
    size_t max_record_bytes;
    uint32_t unreadable; /* records that were met, counted up */
};

/* Once for each environment, in a transaction that is then committed. `make`:
 * those that are missing; else MDB_NOTFOUND. */
MOON_MUST_CHECK int moon_lmdb_open_dbs(MDB_txn *txn, bool make,
                                       struct moon_lmdb_dbs *dbs);

/* Where a session stands in the indexes. */
struct moon_lmdb_places {
    uint64_t expiry_slot, seen_slot;
    bool has_subject;
    unsigned char subject[MOON_LMDB_HASH];
};

/* `subject`: that one, too; hashing it is most of the work. */
struct moon_lmdb_places moon_lmdb_places_of(
    const struct moon_session_view *view, bool subject);
/* Adds or removes its entries; what is missing is no failure. */
MOON_MUST_CHECK int moon_lmdb_places_set(struct moon_lmdb_tx *tx,
                                         const struct moon_lmdb_places *places,
                                         const struct moon_session_key *key,
                                         bool add);
/* A subject that stays is left out of both. */
MOON_MUST_CHECK int moon_lmdb_places_move(struct moon_lmdb_tx *tx,
                                          const struct moon_lmdb_places *from,
                                          const struct moon_lmdb_places *to,
                                          const struct moon_session_key *key);

/* The slot in which a time is: what is in expiry up to that of now is over. */
uint64_t moon_lmdb_slot_of(int64_t ms);
void moon_lmdb_hash_subject(unsigned char to[MOON_LMDB_HASH],
                            struct moon_str subject);

struct moon_lmdb_entry {
    uint64_t slot; /* of expiry and seen */
    struct moon_session_key key;
};

/* The first entries of `expiry` or `seen`, up to that slot and `limit`. */
MOON_MUST_CHECK int moon_lmdb_first_entries(struct moon_lmdb_tx *tx,
                                            MDB_dbi dbi, uint64_t up_to,
                                            struct moon_lmdb_entry *entries,
                                            uint32_t limit, uint32_t *count);
MOON_MUST_CHECK int moon_lmdb_drop_entry(struct moon_lmdb_tx *tx, MDB_dbi dbi,
                                         const struct moon_lmdb_entry *entry);

MOON_MUST_CHECK int moon_lmdb_drop_of_subject(
    struct moon_lmdb_tx *tx, const unsigned char hash[MOON_LMDB_HASH],
    const struct moon_session_key *key);

/* Walks the sessions of a subject: a cursor of `subjects`, *at_first true for
 * the first call, then it is set to false. MDB_NOTFOUND: no more. */
MOON_MUST_CHECK int moon_lmdb_next_of_subject(
    MDB_cursor *cursor, const unsigned char hash[MOON_LMDB_HASH],
    bool *at_first, struct moon_session_key *key);

/* Do sessions and indexes tell the same? For moon_lmdb_check: visit with a
 * zeroed one, then ask. If not, see lmdb_rebuild.h. */
struct moon_lmdb_audit {
    uint64_t expiry, seen; /* sums over entries, which must cancel out */
    int64_t subjects;
    uint64_t unreadable;
};
void moon_lmdb_audit_visit(void *ctx, struct moon_str db, struct moon_str key,
                           struct moon_str data);
bool moon_lmdb_audit_is_sound(const struct moon_lmdb_audit *audit);

#endif
