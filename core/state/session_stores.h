/* The session stores of a process, by what its configuration says of them.
 *
 * A store is opened when the first generation of code asks for it and closed
 * when the last that did is gone, so that a reload finds the links it had. Two
 * generations may have two stores. One of a process, of one loop, after the
 * fork. */
#ifndef MOON_STATE_SESSION_STORES_H
#define MOON_STATE_SESSION_STORES_H

#include "base/buf.h"
#include "base/config.h"
#include "state/session_store.h"

#include <uv.h>

struct moon_session_stores;

struct moon_session_stores_options {
    uv_loop_t *loop;
    const char *kept_dirz;   /* of "lmdb:"; copied */
    const char *memory_dirz; /* of "memory:", see lmdb_files.h; copied */
    const char *nodez;       /* what Redis calls our links; copied */
};

MOON_MUST_CHECK struct moon_session_stores *moon_session_stores_create(
    const struct moon_session_stores_options *options);
/* Closes what is left; no operation is pending. The loop runs on for them. */
void moon_session_stores_destroy(struct moon_session_stores *stores);

/* Text work only. MOON_EINVAL: told in `error`. */
MOON_MUST_CHECK enum moon_err moon_session_url_check(const char *urlz,
                                                     struct moon_buf *error);

/* The store of session.url, with one reference for the caller; it may be down.
 * Fails for a URL that is none, and for lack of memory; told in `error`. */
MOON_MUST_CHECK enum moon_err moon_session_stores_get(
    struct moon_session_stores *stores, const struct moon_config *config,
    struct moon_session_store **out, struct moon_buf *error);
void moon_session_stores_put(struct moon_session_stores *stores,
                             struct moon_session_store *store);

/* For each: its URL without a password, and why it is down (NULL: it is
 * not). */
void moon_session_stores_each(struct moon_session_stores *stores,
                              void (*fn)(void *ctx, const char *urlz,
                                         const char *downz),
                              void *ctx);

#endif
