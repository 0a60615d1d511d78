#include "state/lmdb_index.h"

#include <sodium.h>

enum {
    SLOT_BITS = 16, /* of milliseconds: 65.5 s */
    KEY = MOON_SESSION_KEY,
    SLOT = 8,
    SLOT_KEY = SLOT + KEY,
    SUBJECT_KEY = MOON_LMDB_HASH + KEY,
};

_Static_assert(MOON_LMDB_HASH == crypto_hash_sha256_BYTES, "SHA-256");

static const struct {
    const char *namez;
    size_t offset;
} databases[] = {
    {"sessions", offsetof(struct moon_lmdb_dbs, sessions)},
    {"expiry", offsetof(struct moon_lmdb_dbs, expiry)},
    {"seen", offsetof(struct moon_lmdb_dbs, seen)},
    {"subjects", offsetof(struct moon_lmdb_dbs, subjects)},
};

int moon_lmdb_open_dbs(MDB_txn *txn, bool make, struct moon_lmdb_dbs *dbs)
{
    for (size_t i = 0; i < MOON_COUNT(databases); i++) {
        MDB_dbi *dbi = (MDB_dbi *)(void *)((char *)dbs + databases[i].offset);
        int rc =
            mdb_dbi_open(txn, databases[i].namez, make ? MDB_CREATE : 0, dbi);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- slots and hashes ---- */

uint64_t moon_lmdb_slot_of(int64_t ms)
{
    return ms < 0 ? 0 : (uint64_t)ms >> SLOT_BITS;
}

static uint64_t expiry_slot_of(const struct moon_session_view *view)
{
    return moon_lmdb_slot_of(moon_session_view_deadline(view)) + 1;
}

static void put_slot(unsigned char *to, uint64_t slot)
{
    for (int i = SLOT - 1; i >= 0; i--, slot >>= 8)
        to[i] = (unsigned char)slot;
}

static uint64_t get_slot(const void *from)
{
    const unsigned char *bytes = from;
    uint64_t slot = 0;
    for (int i = 0; i < SLOT; i++)
        slot = slot << 8 | bytes[i];
    return slot;
}

void moon_lmdb_hash_subject(unsigned char to[MOON_LMDB_HASH],
                            struct moon_str subject)
{
    (void)crypto_hash_sha256(to, (const unsigned char *)subject.ptr,
                             subject.len);
}

/* ---- entries ---- */

static int set_entry(struct moon_lmdb_tx *tx, MDB_dbi dbi, bool add,
                     const unsigned char *head, size_t head_len,
                     const struct moon_session_key *key)
{
    unsigned char bytes[SUBJECT_KEY];
    MDB_val k = {.mv_data = bytes, .mv_size = head_len + KEY};
    MDB_val nothing = {.mv_data = bytes, .mv_size = 0};
    memcpy(bytes, head, head_len);
    memcpy(bytes + head_len, key->bytes, KEY);
    if (add)
        return mdb_put(tx->txn, dbi, &k, &nothing, 0);
    int rc = mdb_del(tx->txn, dbi, &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int set_slot(struct moon_lmdb_tx *tx, MDB_dbi dbi, bool add,
                    uint64_t slot, const struct moon_session_key *key)
{
    unsigned char head[SLOT];
    put_slot(head, slot);
    return set_entry(tx, dbi, add, head, sizeof(head), key);
}

static int set_subject(struct moon_lmdb_tx *tx, bool add,
                       const struct moon_lmdb_places *p,
                       const struct moon_session_key *key)
{
    return !p->has_subject ? 0
                           : set_entry(tx, tx->dbs.subjects, add, p->subject,
                                       sizeof(p->subject), key);
}

static int move_slot(struct moon_lmdb_tx *tx, MDB_dbi dbi, uint64_t from,
                     uint64_t to, const struct moon_session_key *key)
{
    if (from == to)
        return 0;
    int rc = set_slot(tx, dbi, false, from, key);
    return rc == 0 ? set_slot(tx, dbi, true, to, key) : rc;
}

/* ---- places ---- */

struct moon_lmdb_places moon_lmdb_places_of(
    const struct moon_session_view *view, bool subject)
{
    struct moon_lmdb_places p = {
        .expiry_slot = expiry_slot_of(view),
        .seen_slot = moon_lmdb_slot_of(view->seen_ms),
        .has_subject = subject && view->subject.len > 0,
    };
    if (p.has_subject)
        moon_lmdb_hash_subject(p.subject, view->subject);
    return p;
}

int moon_lmdb_places_set(struct moon_lmdb_tx *tx,
                         const struct moon_lmdb_places *p,
                         const struct moon_session_key *key, bool add)
{
    int rc = set_slot(tx, tx->dbs.expiry, add, p->expiry_slot, key);
    if (rc == 0)
        rc = set_slot(tx, tx->dbs.seen, add, p->seen_slot, key);
    return rc == 0 ? set_subject(tx, add, p, key) : rc;
}

int moon_lmdb_places_move(struct moon_lmdb_tx *tx,
                          const struct moon_lmdb_places *from,
                          const struct moon_lmdb_places *to,
                          const struct moon_session_key *key)
{
    int rc =
        move_slot(tx, tx->dbs.expiry, from->expiry_slot, to->expiry_slot, key);
    if (rc == 0)
        rc = move_slot(tx, tx->dbs.seen, from->seen_slot, to->seen_slot, key);
    if (rc == 0)
        rc = set_subject(tx, false, from, key);
    return rc == 0 ? set_subject(tx, true, to, key) : rc;
}

/* ---- walking ---- */

int moon_lmdb_first_entries(struct moon_lmdb_tx *tx, MDB_dbi dbi,
                            uint64_t up_to, struct moon_lmdb_entry *entries,
                            uint32_t limit, uint32_t *count)
{
    MDB_cursor *cursor;
    MDB_val key, data;
    *count = 0;
    int rc = mdb_cursor_open(tx->txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    while (*count < limit &&
           (rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        struct moon_lmdb_entry *entry = &entries[*count];
        if (key.mv_size != SLOT_KEY) {
            rc = MDB_CORRUPTED;
            break;
        }
        entry->slot = get_slot(key.mv_data);
        if (entry->slot > up_to)
            break;
        memcpy(entry->key.bytes, (char *)key.mv_data + SLOT, KEY);
        (*count)++;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int moon_lmdb_drop_entry(struct moon_lmdb_tx *tx, MDB_dbi dbi,
                         const struct moon_lmdb_entry *entry)
{
    return set_slot(tx, dbi, false, entry->slot, &entry->key);
}

int moon_lmdb_drop_of_subject(struct moon_lmdb_tx *tx,
                              const unsigned char hash[MOON_LMDB_HASH],
                              const struct moon_session_key *key)
{
    return set_entry(tx, tx->dbs.subjects, false, hash, MOON_LMDB_HASH, key);
}

int moon_lmdb_next_of_subject(MDB_cursor *cursor,
                              const unsigned char hash[MOON_LMDB_HASH],
                              bool *at_first, struct moon_session_key *key)
{
    MDB_val data,
        k = {.mv_data = (void *)(uintptr_t)hash, .mv_size = MOON_LMDB_HASH};
    int rc =
        mdb_cursor_get(cursor, &k, &data, *at_first ? MDB_SET_RANGE : MDB_NEXT);
    *at_first = false;
    if (rc != 0)
        return rc;
    if (k.mv_size != SUBJECT_KEY)
        return MDB_CORRUPTED;
    if (memcmp(k.mv_data, hash, MOON_LMDB_HASH) != 0)
        return MDB_NOTFOUND;
    memcpy(key->bytes, (char *)k.mv_data + MOON_LMDB_HASH, KEY);
    return 0;
}

/* ---- the audit ---- */

/* Of an entry: order does not matter to a sum. */
static uint64_t weigh(uint64_t slot, const char *key)
{
    uint64_t sum = slot * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < KEY; i += 8)
        sum = (sum ^ moon_load_le64(key + i)) * 0xff51afd7ed558ccdull;
    return sum ^ sum >> 32;
}

static void audit_session(struct moon_lmdb_audit *audit, struct moon_str key,
                          struct moon_str data)
{
    struct moon_session_view view;
    bool has_subject;
    if (key.len != KEY ||
        moon_session_record_peek(data, &view, &has_subject) != MOON_OK) {
        audit->unreadable++;
        return;
    }
    audit->expiry += weigh(expiry_slot_of(&view), key.ptr);
    audit->seen += weigh(moon_lmdb_slot_of(view.seen_ms), key.ptr);
    audit->subjects += has_subject;
}

void moon_lmdb_audit_visit(void *ctx, struct moon_str db, struct moon_str key,
                           struct moon_str data)
{
    struct moon_lmdb_audit *audit = ctx;
    if (moon_str_eq(db, MOON_STR("sessions")))
        audit_session(audit, key, data);
    else if (moon_str_eq(db, MOON_STR("expiry")) && key.len == SLOT_KEY)
        audit->expiry -= weigh(get_slot(key.ptr), key.ptr + SLOT);
    else if (moon_str_eq(db, MOON_STR("seen")) && key.len == SLOT_KEY)
        audit->seen -= weigh(get_slot(key.ptr), key.ptr + SLOT);
    else if (moon_str_eq(db, MOON_STR("subjects")) && key.len == SUBJECT_KEY)
        audit->subjects--;
}

bool moon_lmdb_audit_is_sound(const struct moon_lmdb_audit *audit)
{
    /* Of what cannot be read the indexes may know, or not. */
    return audit->unreadable > 0 ||
           (audit->expiry == 0 && audit->seen == 0 && audit->subjects == 0);
}
