/* What Redis does for sessions: the scripts, and what their arguments are.
 *
 * Times are milliseconds as decimal text, -1 is "never". */
#ifndef MOON_STATE_REDIS_SESSION_SCRIPTS_H
#define MOON_STATE_REDIS_SESSION_SCRIPTS_H

/* KEYS: the session[, what it is called from now on].
 * ARGV: now, flags (letters of the list below), if_version ("0": any), idle,
 * expires, subject, how many names to remove, these, then names and values.
 * Returns the new version, 0 (there is none), or -1 (the version is another, or
 * the key is taken). */
extern const char moon_redis_session_save[];
#define MOON_REDIS_SESSION_CREATE 'n'
#define MOON_REDIS_SESSION_CLEAR 'c'
#define MOON_REDIS_SESSION_SUBJECT 's'

/* KEYS: the session. ARGV: now. Returns 1, or 0 (there is none). */
extern const char moon_redis_session_touch[];

/* KEYS: the session. Returns its subject ("" if it had none), or nil. */
extern const char moon_redis_session_remove[];

/* KEYS: the session. ARGV: a subject. Removes it if it is one of that subject;
 * returns how many. */
extern const char moon_redis_session_remove_of[];

/* KEYS: the sessions of a subject. ARGV: now, a session, when it ends, how many
 * to keep. */
extern const char moon_redis_session_index[];

#endif
