#include "state/lmdb_sessions.h"

#include <errno.h>

enum {
    KEY = MOON_SESSION_KEY,
    /* What a session takes beside its record: keys and what LMDB adds. */
    ENTRY_BYTES = 3 * (KEY + 24),
};

/* ---- records ---- */

/* What is kept, over or not; NULL bytes: nothing. */
static int find(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                struct moon_str *bytes, struct moon_session_view *view,
                enum moon_err *result)
{
    MDB_val data,
        k = {.mv_data = (void *)(uintptr_t)key->bytes, .mv_size = KEY};
    *bytes = MOON_STR_NONE;
    *result = MOON_ENOT_FOUND;
    int rc = mdb_get(tx->txn, tx->dbs.sessions, &k, &data);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    *bytes = moon_str(data.mv_data, data.mv_size);
    if (moon_session_record_look(*bytes, view) == MOON_OK)
        *result = MOON_OK;
    else
        tx->unreadable++;
    return 0;
}

static int find_alive(struct moon_lmdb_tx *tx,
                      const struct moon_session_key *key, int64_t now_ms,
                      struct moon_str *bytes, struct moon_session_view *view,
                      enum moon_err *result)
{
    int rc = find(tx, key, bytes, view, result);
    if (rc == 0 && *result == MOON_OK &&
        moon_session_view_is_over(view, now_ms))
        *result = MOON_ENOT_FOUND;
    return rc;
}

int moon_lmdb_get(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                  int64_t now_ms, struct moon_session_view *view,
                  enum moon_err *result)
{
    struct moon_str bytes;
    return find_alive(tx, key, now_ms, &bytes, view, result);
}

static int put_record(struct moon_lmdb_tx *tx,
                      const struct moon_session_key *key)
{
    MDB_val k = {.mv_data = (void *)(uintptr_t)key->bytes, .mv_size = KEY};
    MDB_val data = {.mv_data = tx->scratch.ptr, .mv_size = tx->scratch.len};
    return mdb_put(tx->txn, tx->dbs.sessions, &k, &data, 0);
}

static int delete_record(struct moon_lmdb_tx *tx,
                         const struct moon_session_key *key)
{
    MDB_val k = {.mv_data = (void *)(uintptr_t)key->bytes, .mv_size = KEY};
    int rc = mdb_del(tx->txn, tx->dbs.sessions, &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Removes a session, and its entries if they are known. */
static int drop(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                const struct moon_session_view *view)
{
    int rc = 0;
    if (view != NULL) {
        struct moon_lmdb_places p = moon_lmdb_places_of(view, true);
        rc = moon_lmdb_places_set(tx, &p, key, false);
    }
    return rc == 0 ? delete_record(tx, key) : rc;
}

/* ---- saving ---- */

static int scratch_done(struct moon_lmdb_tx *tx)
{
    if (!tx->scratch.failed)
        return 0;
    moon_buf_deinit(&tx->scratch);
    return ENOMEM;
}

/* Builds the new record in the scratch buffer. */
static int build(struct moon_lmdb_tx *tx,
                 const struct moon_session_view *before,
                 const struct moon_session_change *change,
                 struct moon_session_view *after, enum moon_err *result)
{
    tx->scratch.len = 0;
    moon_session_record_write(&tx->scratch, before, change, after);
    *result = tx->scratch.len > tx->max_record_bytes ? MOON_ETOO_BIG : MOON_OK;
    return scratch_done(tx);
}

static bool is_other_version(const struct moon_session_view *view,
                             const struct moon_session_change *change)
{
    return change->if_version != 0 && change->if_version != view->version;
}

/* May a new session be made here? What is over makes room. */
static int clear_for_new(struct moon_lmdb_tx *tx,
                         const struct moon_session_key *key, int64_t now_ms,
                         enum moon_err *result)
{
    struct moon_session_view view;
    struct moon_str bytes;
    enum moon_err found;
    int rc = find(tx, key, &bytes, &view, &found);
    *result = MOON_OK;
    if (rc != 0 || bytes.ptr == NULL)
        return rc;
    if (found == MOON_OK && !moon_session_view_is_over(&view, now_ms)) {
        *result = MOON_EEXISTS;
        return 0;
    }
    return drop(tx, key, found == MOON_OK ? &view : NULL);
}

static int put_new(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                   const struct moon_session_view *after)
{
    struct moon_lmdb_places p = moon_lmdb_places_of(after, true);
    int rc = put_record(tx, key);
    return rc == 0 ? moon_lmdb_places_set(tx, &p, key, true) : rc;
}

static int create(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                  const struct moon_session_change *change, uint64_t *version,
                  enum moon_err *result)
{
    struct moon_session_view after;
    int rc = build(tx, NULL, change, &after, result);
    if (rc == 0 && *result == MOON_OK)
        rc = clear_for_new(tx, key, change->now_ms, result);
    if (rc != 0 || *result != MOON_OK)
        return rc;
    *version = after.version;
    return put_new(tx, key, &after);
}

int moon_lmdb_save(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                   const struct moon_session_change *change, uint64_t *version,
                   enum moon_err *result)
{
    struct moon_session_view before, after;
    struct moon_str bytes;
    if (change->create)
        return create(tx, key, change, version, result);
    int rc = find_alive(tx, key, change->now_ms, &bytes, &before, result);
    if (rc == 0 && *result == MOON_OK && is_other_version(&before, change))
        *result = MOON_EEXISTS;
    if (rc == 0 && *result == MOON_OK)
        rc = build(tx, &before, change, &after, result);
    if (rc != 0 || *result != MOON_OK)
        return rc;
    /* `before` dies with the first write. */
    bool subject = !moon_str_eq(before.subject, after.subject);
    struct moon_lmdb_places from = moon_lmdb_places_of(&before, subject);
    struct moon_lmdb_places to = moon_lmdb_places_of(&after, subject);
    *version = after.version;
    rc = put_record(tx, key);
    return rc == 0 ? moon_lmdb_places_move(tx, &from, &to, key) : rc;
}

int moon_lmdb_move(struct moon_lmdb_tx *tx, const struct moon_session_key *from,
                   const struct moon_session_key *to,
                   const struct moon_session_change *change, uint64_t *version,
                   enum moon_err *result)
{
    struct moon_session_view before, after;
    struct moon_str bytes;
    int rc = find_alive(tx, from, change->now_ms, &bytes, &before, result);
    if (rc == 0 && *result == MOON_OK &&
        (is_other_version(&before, change) ||
         memcmp(from->bytes, to->bytes, KEY) == 0))
        *result = MOON_EEXISTS;
    if (rc == 0 && *result == MOON_OK)
        rc = build(tx, &before, change, &after, result);
    if (rc != 0 || *result != MOON_OK)
        return rc;
    struct moon_lmdb_places p = moon_lmdb_places_of(&before, true);
    rc = clear_for_new(tx, to, change->now_ms, result);
    if (rc != 0 || *result != MOON_OK)
        return rc;
    *version = after.version;
    rc = moon_lmdb_places_set(tx, &p, from, false);
    if (rc == 0)
        rc = delete_record(tx, from);
    return rc == 0 ? put_new(tx, to, &after) : rc;
}

int moon_lmdb_touch(struct moon_lmdb_tx *tx, const struct moon_session_key *key,
                    int64_t now_ms, enum moon_err *result)
{
    struct moon_session_view view;
    struct moon_str bytes;
    int rc = find_alive(tx, key, now_ms, &bytes, &view, result);
    if (rc != 0 || *result != MOON_OK || now_ms <= view.seen_ms)
        return rc;
    struct moon_lmdb_places from = moon_lmdb_places_of(&view, false);
    view.seen_ms = now_ms;
    struct moon_lmdb_places to = moon_lmdb_places_of(&view, false);
    tx->scratch.len = 0;
    moon_session_record_write_seen(&tx->scratch, bytes, now_ms);
    rc = scratch_done(tx);
    if (rc == 0)
        rc = put_record(tx, key);
    return rc == 0 ? moon_lmdb_places_move(tx, &from, &to, key) : rc;
}

int moon_lmdb_remove(struct moon_lmdb_tx *tx,
                     const struct moon_session_key *key, int64_t now_ms,
                     enum moon_err *result)
{
    struct moon_session_view view;
    struct moon_str bytes;
    enum moon_err found;
    int rc = find(tx, key, &bytes, &view, &found);
    *result = MOON_ENOT_FOUND;
    if (rc != 0 || bytes.ptr == NULL)
        return rc;
    if (found == MOON_OK && !moon_session_view_is_over(&view, now_ms))
        *result = MOON_OK;
    return drop(tx, key, found == MOON_OK ? &view : NULL);
}

/* ---- subjects ---- */

/* Adds the session to the list in `out`, if it is one of the subject. */
static int add_listed(struct moon_lmdb_tx *tx, struct moon_buf *out,
                      const struct moon_session_key *key,
                      struct moon_str subject, int64_t now_ms)
{
    struct moon_session_view view;
    enum moon_err found;
    int rc = moon_lmdb_get(tx, key, now_ms, &view, &found);
    if (rc != 0 || found != MOON_OK || !moon_str_eq(view.subject, subject))
        return rc;
    struct moon_session_entry entry = {*key, view.created_ms, view.seen_ms};
    moon_buf_add(out, &entry, sizeof(entry));
    return out->failed ? ENOMEM : 0;
}

int moon_lmdb_list(struct moon_lmdb_tx *tx, struct moon_str subject,
                   int64_t now_ms, struct moon_session_list **list)
{
    unsigned char hash[MOON_LMDB_HASH];
    MDB_cursor *cursor;
    struct moon_session_key key;
    struct moon_buf out = {0};
    struct moon_session_list head = {0};
    bool at_first = true;
    *list = NULL;
    int rc = mdb_cursor_open(tx->txn, tx->dbs.subjects, &cursor);
    if (rc != 0)
        return rc;
    moon_buf_add(&out, &head, sizeof(head));
    moon_lmdb_hash_subject(hash, subject);
    for (uint32_t i = 0; i < MOON_LMDB_LIST_MAX && rc == 0; i++) {
        rc = moon_lmdb_next_of_subject(cursor, hash, &at_first, &key);
        if (rc == 0)
            rc = add_listed(tx, &out, &key, subject, now_ms);
    }
    mdb_cursor_close(cursor);
    if (out.failed || (rc != 0 && rc != MDB_NOTFOUND)) {
        moon_buf_deinit(&out);
        return rc != MDB_NOTFOUND && rc != 0 ? rc : ENOMEM;
    }
    *list = (struct moon_session_list *)(void *)out.ptr;
    (*list)->count = (uint32_t)((out.len - sizeof(head)) /
                                sizeof(struct moon_session_entry));
    return 0;
}

static int collect_of_subject(struct moon_lmdb_tx *tx,
                              const unsigned char hash[MOON_LMDB_HASH],
                              struct moon_session_key *keys, uint32_t *count)
{
    MDB_cursor *cursor;
    bool at_first = true;
    *count = 0;
    int rc = mdb_cursor_open(tx->txn, tx->dbs.subjects, &cursor);
    if (rc != 0)
        return rc;
    while (*count < MOON_LMDB_BATCH && rc == 0) {
        rc = moon_lmdb_next_of_subject(cursor, hash, &at_first, &keys[*count]);
        *count += rc == 0;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int moon_lmdb_remove_all(struct moon_lmdb_tx *tx, struct moon_str subject,
                         int64_t now_ms, uint32_t *count, bool *more)
{
    struct moon_session_key keys[MOON_LMDB_BATCH];
    struct moon_lmdb_places p;
    uint32_t found = 0;
    moon_lmdb_hash_subject(p.subject, subject);
    int rc = collect_of_subject(tx, p.subject, keys, &found);
    *count = 0;
    *more = found == MOON_LMDB_BATCH;
    for (uint32_t i = 0; i < found && rc == 0; i++) {
        enum moon_err result = MOON_ENOT_FOUND;
        rc = moon_lmdb_remove(tx, &keys[i], now_ms, &result);
        if (rc == 0) /* there all the same if the record was unreadable */
            rc = moon_lmdb_drop_of_subject(tx, p.subject, &keys[i]);
        *count += result == MOON_OK;
    }
    return rc;
}

/* ---- removing the oldest ---- */

/* Removes the session behind an entry. If its record says that it stands
 * elsewhere, or there is none, only the entry goes: an index must not end a
 * session that lives. */
static int drop_behind(struct moon_lmdb_tx *tx, MDB_dbi dbi,
                       const struct moon_lmdb_entry *entry,
                       struct moon_lmdb_dropped *dropped)
{
    struct moon_session_view view;
    struct moon_str record;
    enum moon_err found;
    int rc = find(tx, &entry->key, &record, &view, &found);
    if (rc == 0 && found == MOON_OK) {
        struct moon_lmdb_places p = moon_lmdb_places_of(&view, false);
        if (entry->slot ==
            (dbi == tx->dbs.expiry ? p.expiry_slot : p.seen_slot)) {
            dropped->sessions++;
            dropped->bytes += record.len + ENTRY_BYTES;
            dropped->seen_ms = view.seen_ms;
            return drop(tx, &entry->key, &view);
        }
    } else if (rc == 0 && record.ptr != NULL) {
        rc = delete_record(tx, &entry->key);
    }
    return rc == 0 ? moon_lmdb_drop_entry(tx, dbi, entry) : rc;
}

static int drop_first(struct moon_lmdb_tx *tx, MDB_dbi dbi, uint64_t up_to,
                      uint32_t limit, uint64_t bytes,
                      struct moon_lmdb_dropped *dropped)
{
    struct moon_lmdb_entry entries[MOON_LMDB_BATCH];
    *dropped = (struct moon_lmdb_dropped){0};
    if (limit > MOON_LMDB_BATCH)
        limit = MOON_LMDB_BATCH;
    int rc = moon_lmdb_first_entries(tx, dbi, up_to, entries, limit,
                                     &dropped->entries);
    for (uint32_t i = 0;
         i < dropped->entries && rc == 0 && dropped->bytes < bytes; i++)
        rc = drop_behind(tx, dbi, &entries[i], dropped);
    return rc;
}

int moon_lmdb_is_any_over(struct moon_lmdb_tx *tx, int64_t now_ms, bool *any)
{
    struct moon_lmdb_entry entry;
    uint32_t count = 0;
    int rc = moon_lmdb_first_entries(
        tx, tx->dbs.expiry, moon_lmdb_slot_of(now_ms), &entry, 1, &count);
    *any = count > 0;
    return rc;
}

int moon_lmdb_sweep(struct moon_lmdb_tx *tx, int64_t now_ms, uint32_t limit,
                    struct moon_lmdb_dropped *dropped)
{
    return drop_first(tx, tx->dbs.expiry, moon_lmdb_slot_of(now_ms), limit,
                      UINT64_MAX, dropped);
}

int moon_lmdb_evict(struct moon_lmdb_tx *tx, uint32_t limit, uint64_t bytes,
                    struct moon_lmdb_dropped *dropped)
{
    return drop_first(tx, tx->dbs.seen, UINT64_MAX, limit, bytes, dropped);
}
