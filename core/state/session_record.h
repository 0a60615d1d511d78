/* A whole session as bytes, for stores that keep it as one value.
 *
 * A format with a version and a checksum, the same on every machine: whatever
 * is damaged or of another version is recognised, never believed. Fields stand
 * in the order of their names, so a change merges into them in one pass. Pure:
 * no I/O; any thread. */
#ifndef MOON_STATE_SESSION_RECORD_H
#define MOON_STATE_SESSION_RECORD_H

#include "base/buf.h"
#include "state/session_store.h"

/* As much of a record as holds its times. */
enum { MOON_SESSION_RECORD_HEAD = 64 };

/* What the bytes say; all borrowed from them. */
struct moon_session_view {
    uint64_t version;
    int64_t created_ms, seen_ms, idle_ms, expires_ms;
    struct moon_str subject;
    uint32_t field_count;
    struct moon_str fields; /* as they are stored */
};

/* Checks all of it. MOON_EPROTO: no record, or a damaged one.
 * MOON_EUNSUPPORTED: of another version of the format. */
MOON_MUST_CHECK enum moon_err moon_session_record_look(
    struct moon_str bytes, struct moon_session_view *view);
/* Only the times and the version, from its first MOON_SESSION_RECORD_HEAD bytes
 * or more, unchecked but for the format; subject and fields stay empty, but
 * *has_subject tells. */
MOON_MUST_CHECK enum moon_err moon_session_record_peek(
    struct moon_str bytes, struct moon_session_view *view, bool *has_subject);
/* The caller's, freed with free(). NULL: no memory. */
MOON_MUST_CHECK struct moon_session_record *moon_session_record_copy(
    const struct moon_session_view *view);

/* As moon_session_is_over. */
bool moon_session_view_is_over(const struct moon_session_view *view,
                               int64_t now_ms);
/* When it will be over if nobody comes; MOON_SESSION_NEVER. */
int64_t moon_session_view_deadline(const struct moon_session_view *view);

/* A change that outlives its caller: one allocation, freed with free(); fields
 * by name, of several with one name the last. NULL: no memory. */
MOON_MUST_CHECK struct moon_session_change *moon_session_change_copy(
    const struct moon_session_change *change);
/* The bytes of its names, values and subject. */
size_t moon_session_change_bytes(const struct moon_session_change *change);

/* Appends what `change`, a copy from above, makes of `before` (NULL: of
 * nothing), which must not be in `out`. Unless that failed, *after is what was
 * written, borrowed from `out`. */
void moon_session_record_write(struct moon_buf *out,
                               const struct moon_session_view *before,
                               const struct moon_session_change *change,
                               struct moon_session_view *after);
/* Appends the same record, seen then. */
void moon_session_record_write_seen(struct moon_buf *out, struct moon_str bytes,
                                    int64_t seen_ms);

#endif
