/* A session as one request sees it: read when first touched, changed in memory,
 * saved once, before the headers of the answer leave.
 *
 * The id is 256 random bits as 43 characters of base64url; the store knows only
 * its SHA-256. A malformed id causes no I/O, one that the store does not know
 * is never adopted: a session gets an id of its own when it is first saved.
 * Nothing is stored and no cookie set until something was set.
 *
 * Lives in the request's arena; deinit when the request ends. Values are bytes
 * here. Loop thread only; at most one operation at a time. */
#ifndef MOON_STATE_SESSION_H
#define MOON_STATE_SESSION_H

#include "base/arena.h"
#include "state/session_store.h"

enum {
    MOON_SESSION_ID = 43,
    MOON_SESSION_FIELDS_MAX = 1000,
    MOON_SESSION_BYTES_MAX = 1024 * 1024, /* of names and values together */
};

struct moon_session_settings {
    int64_t idle_ms, absolute_ms; /* or MOON_SESSION_NEVER */
    uint64_t budget_ms; /* for all that one request asks of the store */
};

/* What the answer must say about the cookie, after a commit. */
enum moon_session_cookie {
    MOON_SESSION_COOKIE_NONE, /* leave it alone */
    MOON_SESSION_COOKIE_SET,  /* session->id, for keep_s */
    MOON_SESSION_COOKIE_END,  /* remove it */
};

struct moon_session {
    struct moon_session_store *store; /* borrowed */
    struct moon_session_settings settings;
    struct moon_arena *arena; /* the request's */

    bool has_id; /* well-formed, and not known to be unknown */
    bool loaded; /* `record` tells the truth: NULL is "there is none" */
    bool destroyed, renewed, cleared, sets_subject, sets_times;
    char id[MOON_SESSION_ID];
    struct moon_session_key key;
    struct moon_session_record *record; /* owned */

    struct moon_session_field *changes; /* by name, each once; in the arena */
    uint32_t change_count, change_cap;
    size_t change_bytes;
    struct moon_str subject;
    int64_t idle_ms, expires_ms; /* if sets_times */
    int64_t keep_s;              /* the cookie's Max-Age; -1: none */

    enum moon_session_cookie cookie;
    struct moon_session_op op;
    struct moon_session_change change; /* of the operation under way */
    struct moon_session_key new_key;
    char new_id[MOON_SESSION_ID];
    uint64_t left_ms;  /* of the budget */
    uint64_t asked_ms; /* when the operation began */
    bool busy;
    void (*done)(void *ctx, enum moon_err err);
    void *ctx;
    enum moon_err (*after)(struct moon_session *session, enum moon_err err);
};

/* `id` is what the cookie says, or empty. */
void moon_session_init(struct moon_session *session,
                       struct moon_session_store *store,
                       const struct moon_session_settings *settings,
                       struct moon_arena *arena, struct moon_str id);
/* Cancels what is under way and frees the record. */
void moon_session_deinit(struct moon_session *session);
/* What is under way is forgotten, and may happen all the same. */
void moon_session_cancel(struct moon_session *session);

/* ---- the store; each returns MOON_EAGAIN and fires `done` later, or the
 * result at once. A failure of the store is in session->op.why. ---- */

typedef void moon_session_ready(void *ctx, enum moon_err err);

/* Reads it, if that was not done. MOON_OK: loaded, maybe as "there is none". */
enum moon_err moon_session_load(struct moon_session *session,
                                moon_session_ready *done, void *ctx);
/* Reads it again; changes that were not saved stay on top. */
enum moon_err moon_session_reload(struct moon_session *session,
                                  moon_session_ready *done, void *ctx);
/* Saves what was changed, if anything was. MOON_ENOT_FOUND: the session was
 * ended meanwhile; nothing is saved, and the cookie is left alone, which may be
 * another one by now. */
enum moon_err moon_session_commit(struct moon_session *session,
                                  moon_session_ready *done, void *ctx);
/* Saves these fields, and nothing else, if the version is still that of the
 * record: MOON_EEXISTS if not. A session that does not exist is made. On
 * MOON_OK the record is out of date: reload before the next read. */
enum moon_err moon_session_compare_and_save(
    struct moon_session *session, const struct moon_session_field *fields,
    uint32_t count, moon_session_ready *done, void *ctx);
/* Has a life ahead that should be told to the store (at most every minute, or a
 * tenth of the idle time)? Then touch, after the answer; nobody waits. */
bool moon_session_wants_touch(const struct moon_session *session);

/* ---- in memory; only when loaded ---- */

/* Is there a session, or will there be one with the next commit? */
bool moon_session_exists(const struct moon_session *session);
/* Borrowed until the next change or operation. False: not set. */
bool moon_session_get(const struct moon_session *session, struct moon_str name,
                      struct moon_str *value);
/* The nth field, from 0, changes included; false past the last. */
bool moon_session_at(const struct moon_session *session, uint32_t index,
                     struct moon_session_field *field);
/* Copies both. A value with ptr NULL removes the field. MOON_EFULL beyond the
 * bounds, MOON_ENOMEM. */
MOON_MUST_CHECK enum moon_err moon_session_set(struct moon_session *session,
                                               struct moon_str name,
                                               struct moon_str value);
void moon_session_clear(struct moon_session *session);
/* Drops whatever is not saved; it is read anew when it is used again. */
void moon_session_forget(struct moon_session *session);
/* A new id with the next commit; the old one is dead then. */
void moon_session_renew(struct moon_session *session);
/* Ended with the next commit; what is set afterwards begins a new one. */
void moon_session_destroy(struct moon_session *session);
/* Whose it is; empty: nobody's. */
MOON_MUST_CHECK enum moon_err moon_session_set_subject(
    struct moon_session *session, struct moon_str subject);
struct moon_str moon_session_subject(const struct moon_session *session);
/* Lives for ttl_ms from now on, idle or not, also when the browser closes. */
void moon_session_remember(struct moon_session *session, int64_t ttl_ms);
/* Would a commit store something? */
bool moon_session_is_dirty(const struct moon_session *session);

/* The key of an id; false if it is malformed. */
bool moon_session_key_of(struct moon_str id, struct moon_session_key *key);

#endif
