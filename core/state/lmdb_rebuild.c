#include "state/lmdb_rebuild.h"

enum { BATCH = 1000 };

static int drop_indexes(struct moon_lmdb_tx *tx)
{
    const MDB_dbi dbis[] = {tx->dbs.expiry, tx->dbs.seen, tx->dbs.subjects};
    int rc = 0;
    for (size_t i = 0; i < MOON_COUNT(dbis) && rc == 0; i++)
        rc = mdb_drop(tx->txn, dbis[i], 0);
    return rc;
}

/* From the one behind the last on. Entries are put while the cursor stands in
 * another database, so it stays where it is. */
static int add_batch(struct moon_lmdb_tx *tx, struct moon_lmdb_rebuild *at)
{
    MDB_cursor *cursor;
    MDB_val data,
        key = {.mv_data = at->last.bytes, .mv_size = sizeof(at->last.bytes)};
    int rc = mdb_cursor_open(tx->txn, tx->dbs.sessions, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &key, &data,
                        at->started ? MDB_SET_KEY : MDB_FIRST);
    if (rc == 0 && at->started)
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    for (int i = 0; rc == 0 && i < BATCH; i++) {
        struct moon_session_view view;
        if (key.mv_size != sizeof(at->last.bytes))
            rc = MDB_CORRUPTED;
        if (rc != 0)
            break;
        memcpy(at->last.bytes, key.mv_data, key.mv_size);
        at->started = true;
        if (moon_session_record_look(moon_str(data.mv_data, data.mv_size),
                                     &view) == MOON_OK) {
            struct moon_lmdb_places p = moon_lmdb_places_of(&view, true);
            rc = moon_lmdb_places_set(tx, &p, &at->last, true);
        }
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    at->ended = rc == MDB_NOTFOUND;
    return at->ended ? 0 : rc;
}

int moon_lmdb_rebuild_step(struct moon_lmdb_tx *tx, void *ctx)
{
    struct moon_lmdb_rebuild *rebuild = ctx;
    if (rebuild->dropped)
        return add_batch(tx, rebuild);
    rebuild->dropped = true;
    return drop_indexes(tx);
}
