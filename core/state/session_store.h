/* Where sessions are kept: one interface, four stores (LMDB, Redis, Memcached,
 * and LMDB in a directory that is thrown away).
 *
 * A session is kept under the SHA-256 of its id, never under the id: what is in
 * the store opens nothing. It is a set of named fields (values are bytes to the
 * store) with a version, times and maybe a subject (whose it is). What every
 * store promises:
 *
 * - A save merges: only the fields in the change are touched, so parallel saves
 *   of different fields keep both.
 * - A save never brings back what is gone: it answers MOON_ENOT_FOUND.
 * - With if_version it answers MOON_EEXISTS if somebody saved meanwhile.
 * - What has expired is gone, whether it was swept or not.
 * - A failure of the store is told as one (MOON_ETIMEOUT, MOON_ECLOSED, ...)
 * and never looks like "no such session".
 *
 * A store belongs to one loop and outlives every generation of code. Each
 * operation is a struct of its caller, which stays where it is until the
 * operation ended or was cancelled. Times are wall-clock milliseconds. */
#ifndef MOON_STATE_SESSION_STORE_H
#define MOON_STATE_SESSION_STORE_H

#include "base/compiler.h"
#include "base/errcode.h"
#include "base/str.h"

enum { MOON_SESSION_KEY = 32, MOON_SESSION_WHY = 128 };

#define MOON_SESSION_NEVER INT64_MAX

struct moon_session_key {
    unsigned char bytes[MOON_SESSION_KEY];
};

struct moon_session_field {
    struct moon_str name;
    struct moon_str value; /* ptr NULL, in a change: remove it */
};

/* One allocation, freed with free(). */
struct moon_session_record {
    uint64_t version; /* from 1, one more with each save */
    int64_t created_ms, seen_ms;
    int64_t idle_ms;         /* gone this long after seen_ms; or NEVER */
    int64_t expires_ms;      /* gone then whatever happens; or NEVER */
    struct moon_str subject; /* may be empty */
    uint32_t field_count;
    struct moon_session_field fields[];
};

/* All borrowed until the operation ended. */
struct moon_session_change {
    bool create; /* a new session: MOON_EEXISTS if the key is taken */
    bool clear;  /* remove all fields first */
    bool sets_subject;
    uint64_t if_version;         /* 0: whatever it is */
    int64_t now_ms;              /* becomes seen_ms */
    int64_t idle_ms, expires_ms; /* as in the record */
    struct moon_str subject;
    const struct moon_session_field *fields;
    uint32_t field_count;
};

/* One session of a subject, for lists. */
struct moon_session_entry {
    struct moon_session_key key;
    int64_t created_ms, seen_ms;
};

struct moon_session_list {
    uint32_t count;
    struct moon_session_entry entries[];
};

struct moon_session_op;
typedef void moon_session_done(struct moon_session_op *op);

struct moon_session_op {
    /* the caller's */
    moon_session_done *done; /* fires once, from the loop, after MOON_EAGAIN */
    void *ctx;
    uint64_t deadline_ms; /* of moon_clock_ms; then MOON_ETIMEOUT */
    /* the result */
    enum moon_err err;
    char why[MOON_SESSION_WHY];         /* of a failure of the store */
    struct moon_session_record *record; /* load: transferred to the caller */
    struct moon_session_list *list;     /* list: likewise */
    uint64_t version;                   /* save, move: the new one */
    uint32_t count;                     /* remove_all */
    /* the store's */
    void *pending;
};

struct moon_session_store;

/* Each returns MOON_EAGAIN (`done` will fire), or the result at once, also in
 * op->err. */
struct moon_session_store_ops {
    const char *namez; /* "lmdb" */
    enum moon_err (*load)(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *key, int64_t now_ms);
    enum moon_err (*save)(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *key,
                          const struct moon_session_change *change);
    /* The session is kept under another key from now on, with the change
     * applied; the old one is dead when this ends. MOON_EEXISTS also if the
     * other key is taken. */
    enum moon_err (*move)(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *from,
                          const struct moon_session_key *to,
                          const struct moon_session_change *change);
    /* seen_ms, if later than what is kept: never shortens a life. Not a save:
     * the version stays. */
    enum moon_err (*touch)(struct moon_session_store *store,
                           struct moon_session_op *op,
                           const struct moon_session_key *key, int64_t now_ms);
    /* MOON_ENOT_FOUND if there is none, as the ones before. */
    enum moon_err (*remove)(struct moon_session_store *store,
                            struct moon_session_op *op,
                            const struct moon_session_key *key);
    /* MOON_EDENIED with a sentence in `why` where a store keeps no such index.
     * None of them is an empty list, or a count of 0. A list may end at
     * 10000. */
    enum moon_err (*list)(struct moon_session_store *store,
                          struct moon_session_op *op, struct moon_str subject,
                          int64_t now_ms);
    enum moon_err (*remove_all)(struct moon_session_store *store,
                                struct moon_session_op *op,
                                struct moon_str subject);
    /* A pending operation is forgotten: `done` will not fire. What it asked
     * for may happen all the same. */
    void (*cancel)(struct moon_session_store *store,
                   struct moon_session_op *op);
    /* NULL if it works, as far as known; else static or stored text that says
     * since when and why not. */
    const char *(*down)(struct moon_session_store *store);
    /* No operation is pending. Frees the store, maybe later on the loop. */
    void (*close)(struct moon_session_store *store);
    /* Every session is in the same slot of a cluster as another one whose
     * first key byte is equal: so a new id for a renewed session is chosen to
     * have the same. */
    bool wants_same_first_byte;
};

struct moon_session_store {
    const struct moon_session_store_ops *ops;
};

/* Is the record dead at that time? For stores that keep the dead until they
 * sweep. */
static inline bool moon_session_is_over(const struct moon_session_record *r,
                                        int64_t now_ms)
{
    return now_ms >= r->expires_ms || (r->idle_ms != MOON_SESSION_NEVER &&
                                       now_ms - r->seen_ms >= r->idle_ms);
}

#endif
