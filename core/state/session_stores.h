/* The session stores of a process, by what its configuration says of them.
 *
 * What a generation of code holds is a source: a store that is a server is
 * connected to when the first generation asks for it and closed when the last
 * that did is gone, so that a reload finds the links it had; an embedded one is
 * opened when the first session is touched, and stays. Two generations may have
 * two stores. One registry a process, of one loop, after the fork. */
#ifndef MOON_STATE_SESSION_STORES_H
#define MOON_STATE_SESSION_STORES_H

#include "base/buf.h"
#include "base/config.h"
#include "state/session_store.h"

#include <uv.h>

struct moon_session_stores;
struct moon_session_source;

struct moon_session_stores_options {
    uv_loop_t *loop;
    const char *kept_dirz;   /* of "lmdb:"; copied */
    const char *memory_dirz; /* of "memory:", see lmdb_files.h; copied */
    const char *nodez;       /* what Redis calls our links; copied */
    bool temporary;          /* all are "memory:", whatever is configured */
};

MOON_MUST_CHECK struct moon_session_stores *moon_session_stores_create(
    const struct moon_session_stores_options *options);
/* Closes what is left; nobody waits for an operation. The loop runs on for
 * them. */
void moon_session_stores_destroy(struct moon_session_stores *stores);

/* Text work only. MOON_EINVAL: told in `error`. */
MOON_MUST_CHECK enum moon_err moon_session_url_check(const char *urlz,
                                                     struct moon_buf *error);

/* The source of session.url, with one reference for the caller; what is behind
 * it may be down. Fails for a URL that is none, and for lack of memory; told in
 * `error`. */
MOON_MUST_CHECK enum moon_err moon_session_stores_get(
    struct moon_session_stores *stores, const struct moon_config *config,
    struct moon_session_source **out, struct moon_buf *error);
/* Nobody waits for an operation of his. */
void moon_session_source_put(struct moon_session_source *source);

/* Borrowed as long as the reference; NULL: no memory, or no threads. */
struct moon_session_store *moon_session_source_store(
    struct moon_session_source *source);
/* Touches a session some time soon; nobody waits for it, and it may be left
 * out. */
void moon_session_source_touch(struct moon_session_source *source,
                               const struct moon_session_key *key);
/* Why it cannot be asked, as far as known; NULL: it can, or it will be opened
 * when it is first asked. */
const char *moon_session_source_down(const struct moon_session_source *source);
/* Did it once do what it is asked to, as far as is known? Asks a server, with a
 * session that does not exist, until it did: up is not enough, it may refuse
 * the commands. What it refuses is logged once. */
bool moon_session_source_works(struct moon_session_source *source);

#endif
