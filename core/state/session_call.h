/* An operation on a session (state/session_store.h) that a store does in
 * steps, each of which asks a server.
 *
 * Embedded in what the store keeps for it. One that was cancelled, or is over,
 * asks nothing more, but lives until the last answer came; then `gone` fires,
 * once, and frees it. */
#ifndef MOON_STATE_SESSION_CALL_H
#define MOON_STATE_SESSION_CALL_H

#include "state/session_store.h"

/* Why an operation fails that begins past its deadline. */
#define MOON_SESSION_NO_TIME "no time was left for the session store"

struct moon_session_call {
    struct moon_session_op *op; /* NULL: cancelled, or over */
    uint32_t waiting;           /* for so many answers; the store counts */
    bool begun;                 /* what began it has returned */
    void (*gone)(struct moon_session_call *call);
};

/* `call` NULL: there was no memory, which is what the operation ends with. */
void moon_session_call_begin(struct moon_session_call *call,
                             struct moon_session_op *op,
                             void (*gone)(struct moon_session_call *call));
/* What the store's function returns, after the first step was asked for. */
enum moon_err moon_session_call_begun(struct moon_session_call *call);
/* The operation is over, unless it is already: `done` fires, or what began it
 * returns this. `why` may be empty. */
void moon_session_call_end(struct moon_session_call *call, enum moon_err err,
                           struct moon_str why);
/* What is left of its time, in ms; 0: nothing. */
uint64_t moon_session_call_left(const struct moon_session_call *call);
/* The last use in a callback. */
void moon_session_call_rest(struct moon_session_call *call);

/* As in moon_session_store_ops. */
void moon_session_call_cancel(struct moon_session_store *store,
                              struct moon_session_op *op);

#endif
