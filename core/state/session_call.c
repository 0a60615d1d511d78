#include "state/session_call.h"

#include "base/clock.h"

void moon_session_call_begin(struct moon_session_call *call,
                             struct moon_session_op *op,
                             void (*gone)(struct moon_session_call *call))
{
    op->pending = call;
    op->err = call == NULL ? MOON_ENOMEM : MOON_EAGAIN;
    op->why[0] = '\0';
    if (call == NULL)
        return;
    call->op = op;
    call->gone = gone;
}

void moon_session_call_rest(struct moon_session_call *call)
{
    if (call->op == NULL && call->waiting == 0 && call->begun)
        call->gone(call);
}

enum moon_err moon_session_call_begun(struct moon_session_call *call)
{
    enum moon_err err = MOON_EAGAIN;
    call->begun = true;
    if (call->op != NULL && call->op->err != MOON_EAGAIN) {
        err = call->op->err;
        call->op->pending = NULL;
        call->op = NULL;
    }
    moon_session_call_rest(call);
    return err;
}

void moon_session_call_end(struct moon_session_call *call, enum moon_err err,
                           struct moon_str why)
{
    struct moon_session_op *op = call->op;
    if (op == NULL)
        return;
    op->err = err;
    size_t len = why.len < sizeof(op->why) ? why.len : sizeof(op->why) - 1;
    if (len > 0)
        memcpy(op->why, why.ptr, len);
    op->why[len] = '\0';
    if (!call->begun)
        return; /* moon_session_call_begun returns it */
    call->op = NULL;
    op->pending = NULL;
    op->done(op);
}

uint64_t moon_session_call_left(const struct moon_session_call *call)
{
    uint64_t now = moon_clock_ms(), until = call->op->deadline_ms;
    return until > now ? until - now : 0;
}

void moon_session_call_cancel(struct moon_session_store *store,
                              struct moon_session_op *op)
{
    struct moon_session_call *call = op->pending;
    (void)store;
    if (call == NULL)
        return;
    op->pending = NULL;
    call->op = NULL;
    moon_session_call_rest(call);
}
