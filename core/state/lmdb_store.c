#include "state/lmdb_store.h"

#include "base/clock.h"
#include "state/lmdb_sessions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MIB ((size_t)1024 * 1024)

enum { HANDLES = 2, DOWN_BYTES = 256 };

struct lmdb_store {
    struct moon_session_store base;
    struct moon_lmdb_writer *writer;
    struct moon_lmdb_tx tx; /* of reads on the loop */
    size_t max_record_bytes;
    uint64_t loads;
    char *dirz;

    /* Not a uv_async_t, whose receiver spins until the sender is done with it:
     * for long, if both have only one core. */
    int wake_fd;
    uv_poll_t wake;   /* keeps the loop alive while something is pending */
    uv_timer_t clock; /* the first deadline */
    struct moon_lmdb_job *first, *last; /* pending: somebody asks */
    uint64_t armed_ms;                  /* 0: not */
    int open_handles;
    bool closing;
    char down[DOWN_BYTES];
};

static struct lmdb_store *of(struct moon_session_store *store)
{
    return MOON_CONTAINER(store, struct lmdb_store, base);
}

static enum moon_err answer(struct moon_session_op *op, enum moon_err err)
{
    op->err = err;
    op->pending = NULL;
    return err;
}

static enum moon_err refuse(struct moon_session_op *op, enum moon_err err,
                            const char *whyz)
{
    (void)snprintf(op->why, sizeof(op->why), "%s", whyz);
    return answer(op, err);
}

/* ---- what is pending ---- */

static void link_pending(struct lmdb_store *s, struct moon_lmdb_job *job)
{
    if (s->first == NULL)
        uv_ref((uv_handle_t *)&s->wake);
    job->pending_next = NULL;
    job->pending_before = s->last;
    *(s->last != NULL ? &s->last->pending_next : &s->first) = job;
    s->last = job;
}

/* Nobody asks any more. */
static void let_go(struct lmdb_store *s, struct moon_lmdb_job *job)
{
    struct moon_lmdb_job *before = job->pending_before;
    struct moon_lmdb_job *next = job->pending_next;
    *(before != NULL ? &before->pending_next : &s->first) = next;
    *(next != NULL ? &next->pending_before : &s->last) = before;
    job->op->pending = NULL;
    job->op = NULL;
    if (s->first == NULL && !s->closing)
        uv_unref((uv_handle_t *)&s->wake);
}

/* If the writer has not begun it will not. */
static void forget(struct lmdb_store *s, struct moon_lmdb_job *job)
{
    let_go(s, job);
    if (moon_lmdb_writer_retract(s->writer, job))
        moon_lmdb_job_free(job);
}

/* ---- results of the writer ---- */

static void deliver(struct lmdb_store *s, struct moon_lmdb_job *job)
{
    struct moon_session_op *op = job->op;
    if (op != NULL) {
        let_go(s, job);
        op->version = job->version;
        op->count = job->count;
        memcpy(op->why, job->why, sizeof(op->why));
        (void)answer(op, job->err);
    }
    moon_lmdb_job_free(job);
    if (op != NULL)
        op->done(op);
}

static void deliver_all(struct lmdb_store *s)
{
    struct moon_lmdb_job *job;
    while ((job = moon_lmdb_writer_take(s->writer)) != NULL)
        deliver(s, job);
}

/* ---- deadlines ---- */

static void on_clock(uv_timer_t *timer);

static void arm(struct lmdb_store *s, uint64_t deadline_ms)
{
    uint64_t now_ms = moon_clock_ms();
    if (s->armed_ms != 0 && s->armed_ms <= deadline_ms)
        return;
    s->armed_ms = deadline_ms;
    uv_update_time(s->wake.loop);
    (void)uv_timer_start(&s->clock, on_clock,
                         deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0);
}

static struct moon_lmdb_job *find_late(struct lmdb_store *s, uint64_t now_ms,
                                       uint64_t *next_ms)
{
    *next_ms = UINT64_MAX;
    for (struct moon_lmdb_job *job = s->first; job != NULL;
         job = job->pending_next) {
        if (job->deadline_ms <= now_ms)
            return job;
        if (job->deadline_ms < *next_ms)
            *next_ms = job->deadline_ms;
    }
    return NULL;
}

static void on_clock(uv_timer_t *timer)
{
    struct lmdb_store *s = timer->data;
    struct moon_lmdb_job *job;
    uint64_t next_ms, now_ms = moon_clock_ms();
    s->armed_ms = 0;
    /* If the loop was held up these came in time, and libuv looks at timers
     * first. */
    deliver_all(s);
    while ((job = find_late(s, now_ms, &next_ms)) != NULL) {
        struct moon_session_op *op = job->op;
        forget(s, job);
        (void)refuse(op, MOON_ETIMEOUT, "the session store took too long");
        op->done(op);
    }
    if (s->first != NULL && !s->closing)
        arm(s, next_ms);
}

/* ---- the end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct lmdb_store *s = handle->data;
    if (--s->open_handles > 0)
        return;
    (void)close(s->wake_fd);
    free(s->dirz);
    free(s);
}

static void dismantle(struct lmdb_store *s)
{
    moon_lmdb_writer_destroy(s->writer);
    s->writer = NULL;
    uv_close((uv_handle_t *)&s->wake, on_handle_closed);
    uv_close((uv_handle_t *)&s->clock, on_handle_closed);
}

static void lmdb_close(struct moon_session_store *store)
{
    struct lmdb_store *s = of(store);
    s->closing = true;
    (void)uv_timer_stop(&s->clock);
    uv_ref((uv_handle_t *)&s->wake);
    moon_lmdb_writer_stop(s->writer);
}

static void on_wake(uv_poll_t *wake, int status, int events)
{
    struct lmdb_store *s = wake->data;
    uint64_t times;
    (void)status;
    (void)events;
    (void)!read(s->wake_fd, &times, sizeof(times));
    deliver_all(s);
    if (s->closing && moon_lmdb_writer_has_stopped(s->writer))
        dismantle(s);
}

/* On a thread of the writer. */
static void on_done(void *ctx)
{
    struct lmdb_store *s = ctx;
    const uint64_t once = 1;
    (void)!write(s->wake_fd, &once, sizeof(once)); /* full: it knows already */
}

/* ---- reading ---- */

struct reading {
    const struct moon_session_key *key;
    struct moon_str subject;
    int64_t now_ms;
    struct moon_session_op *op;
    enum moon_err result;
};

static int run_load(struct moon_lmdb_tx *tx, void *ctx)
{
    struct reading *r = ctx;
    struct moon_session_view view;
    int rc = moon_lmdb_get(tx, r->key, r->now_ms, &view, &r->result);
    if (rc != 0 || r->result != MOON_OK)
        return rc;
    r->op->record = moon_session_record_copy(&view);
    return r->op->record == NULL ? ENOMEM : 0;
}

static int run_list(struct moon_lmdb_tx *tx, void *ctx)
{
    struct reading *r = ctx;
    r->result = MOON_OK;
    return moon_lmdb_list(tx, r->subject, r->now_ms, &r->op->list);
}

static MOON_COLD enum moon_err not_open(struct lmdb_store *s,
                                        struct moon_session_op *op)
{
    char why[MOON_SESSION_WHY] = "it is being opened";
    (void)moon_lmdb_health_tell(moon_lmdb_writer_handle(s->writer)->health, why,
                                sizeof(why));
    return refuse(op, MOON_ECLOSED, why);
}

static MOON_COLD enum moon_err read_failed(struct lmdb_store *s,
                                           struct moon_session_op *op, int rc,
                                           uint64_t epoch)
{
    if (rc == ENOMEM)
        return refuse(op, MOON_ENOMEM, moon_lmdb_describe(rc));
    moon_lmdb_writer_complain(s->writer, epoch, rc);
    return refuse(op, MOON_ECLOSED, moon_lmdb_describe(rc));
}

static enum moon_err read_now(struct lmdb_store *s, moon_lmdb_run *run,
                              struct reading *r)
{
    struct moon_lmdb_handle *handle = moon_lmdb_writer_handle(s->writer);
    struct moon_lmdb_env *env = moon_lmdb_handle_pin(handle);
    if (MOON_UNLIKELY(env == NULL))
        return not_open(s, r->op);
    uint64_t epoch = env->epoch;
    int rc = moon_lmdb_env_read(env, &s->tx, run, r);
    moon_lmdb_handle_unpin(handle);
    if (MOON_UNLIKELY(s->tx.unreadable > 0)) {
        moon_lmdb_writer_unreadable(s->writer, s->tx.unreadable);
        s->tx.unreadable = 0;
    }
    return MOON_LIKELY(rc == 0) ? answer(r->op, r->result)
                                : read_failed(s, r->op, rc, epoch);
}

static enum moon_err lmdb_load(struct moon_session_store *store,
                               struct moon_session_op *op,
                               const struct moon_session_key *key,
                               int64_t now_ms)
{
    struct lmdb_store *s = of(store);
    struct reading r = {.key = key, .now_ms = now_ms, .op = op};
    s->loads++;
    op->record = NULL;
    return read_now(s, run_load, &r);
}

static enum moon_err lmdb_list(struct moon_session_store *store,
                               struct moon_session_op *op,
                               struct moon_str subject, int64_t now_ms)
{
    struct reading r = {.subject = subject, .now_ms = now_ms, .op = op};
    op->list = NULL;
    return read_now(of(store), run_list, &r);
}

/* ---- writing ---- */

/* Takes the job; NULL: there was no memory for it. */
static enum moon_err submit(struct lmdb_store *s, struct moon_session_op *op,
                            struct moon_lmdb_job *job)
{
    if (job == NULL)
        return refuse(op, MOON_ENOMEM, moon_err_text(MOON_ENOMEM));
    enum moon_err err = MOON_ETIMEOUT;
    if (op->deadline_ms <= moon_clock_ms()) {
        (void)refuse(op, err, "no time was left for the session store");
    } else {
        job->op = op;
        job->deadline_ms = op->deadline_ms;
        err = moon_lmdb_writer_submit(s->writer, job, op->why);
    }
    if (err != MOON_OK) {
        moon_lmdb_job_free(job);
        return answer(op, err);
    }
    op->pending = job;
    link_pending(s, job);
    arm(s, op->deadline_ms);
    return MOON_EAGAIN;
}

static enum moon_err submit_change(struct lmdb_store *s,
                                   struct moon_session_op *op,
                                   enum moon_lmdb_job_kind kind,
                                   const struct moon_session_key *key,
                                   const struct moon_session_key *to,
                                   const struct moon_session_change *change)
{
    size_t bytes = moon_session_change_bytes(change);
    if (bytes > s->max_record_bytes)
        return refuse(op, MOON_ETOO_BIG, "the session is too large");
    struct moon_lmdb_job *job = moon_lmdb_job_create(kind, MOON_STR_NONE);
    if (job != NULL) {
        job->key = *key;
        job->to = *to;
        job->bytes += bytes;
        job->change = moon_session_change_copy(change);
        if (job->change == NULL) {
            moon_lmdb_job_free(job);
            job = NULL;
        }
    }
    return submit(s, op, job);
}

static enum moon_err lmdb_save(struct moon_session_store *store,
                               struct moon_session_op *op,
                               const struct moon_session_key *key,
                               const struct moon_session_change *change)
{
    return submit_change(of(store), op, MOON_LMDB_SAVE, key, key, change);
}

static enum moon_err lmdb_move(struct moon_session_store *store,
                               struct moon_session_op *op,
                               const struct moon_session_key *from,
                               const struct moon_session_key *to,
                               const struct moon_session_change *change)
{
    return submit_change(of(store), op, MOON_LMDB_MOVE, from, to, change);
}

static enum moon_err lmdb_touch(struct moon_session_store *store,
                                struct moon_session_op *op,
                                const struct moon_session_key *key,
                                int64_t now_ms)
{
    struct moon_lmdb_job *job =
        moon_lmdb_job_create(MOON_LMDB_TOUCH, MOON_STR_NONE);
    if (job != NULL) {
        job->key = *key;
        job->now_ms = now_ms;
    }
    return submit(of(store), op, job);
}

static enum moon_err lmdb_remove(struct moon_session_store *store,
                                 struct moon_session_op *op,
                                 const struct moon_session_key *key)
{
    struct moon_lmdb_job *job =
        moon_lmdb_job_create(MOON_LMDB_REMOVE, MOON_STR_NONE);
    if (job != NULL)
        job->key = *key;
    return submit(of(store), op, job);
}

static enum moon_err lmdb_remove_all(struct moon_session_store *store,
                                     struct moon_session_op *op,
                                     struct moon_str subject)
{
    return submit(of(store), op,
                  moon_lmdb_job_create(MOON_LMDB_REMOVE_ALL, subject));
}

static void lmdb_cancel(struct moon_session_store *store,
                        struct moon_session_op *op)
{
    if (op->pending != NULL)
        forget(of(store), op->pending);
}

static const char *lmdb_down(struct moon_session_store *store)
{
    struct lmdb_store *s = of(store);
    struct moon_lmdb_handle *handle = moon_lmdb_writer_handle(s->writer);
    return moon_lmdb_health_tell(handle->health, s->down, sizeof(s->down))
               ? s->down
               : NULL;
}

static const struct moon_session_store_ops operations = {
    .namez = "lmdb",
    .load = lmdb_load,
    .save = lmdb_save,
    .move = lmdb_move,
    .touch = lmdb_touch,
    .remove = lmdb_remove,
    .list = lmdb_list,
    .remove_all = lmdb_remove_all,
    .cancel = lmdb_cancel,
    .down = lmdb_down,
    .close = lmdb_close,
};

/* ---- opening ---- */

static struct moon_lmdb_store_options complete(
    const struct moon_lmdb_store_options *given)
{
    struct moon_lmdb_store_options o = *given;
    if (o.size_bytes == 0)
        o.size_bytes = 4096 * (uint64_t)MIB;
    if (o.max_record_bytes == 0)
        o.max_record_bytes = 16 * MIB;
    if (o.max_record_bytes > o.size_bytes / 8)
        o.max_record_bytes = (size_t)(o.size_bytes / 8);
    if (o.max_waiting == 0)
        o.max_waiting = 10000;
    if (o.max_waiting_bytes == 0)
        o.max_waiting_bytes = 64 * MIB;
    if (o.open_wait_ms == 0)
        o.open_wait_ms = 1000;
    return o;
}

static enum moon_err start_writer(struct lmdb_store *s,
                                  const struct moon_lmdb_store_options *o)
{
    enum moon_err err = moon_lmdb_writer_create(
        &(struct moon_lmdb_writer_options){
            .dirz = s->dirz,
            .size_bytes = o->size_bytes,
            .max_record_bytes = o->max_record_bytes,
            .max_waiting = o->max_waiting,
            .max_waiting_bytes = o->max_waiting_bytes,
            .temporary = o->temporary,
            .wake = on_done,
            .ctx = s},
        &s->writer);
    if (err == MOON_OK)
        moon_lmdb_writer_await(s->writer, o->open_wait_ms);
    return err;
}

static enum moon_err start_wake(struct lmdb_store *s, uv_loop_t *loop)
{
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake_fd < 0)
        return MOON_ESYS;
    if (uv_poll_init(loop, &s->wake, s->wake_fd) != 0) {
        (void)close(s->wake_fd);
        return MOON_ESYS;
    }
    (void)uv_poll_start(&s->wake, UV_READABLE, on_wake);
    return MOON_OK;
}

enum moon_err moon_lmdb_store_open(
    uv_loop_t *loop, const char *dirz,
    const struct moon_lmdb_store_options *options,
    struct moon_session_store **store, char why[MOON_SESSION_WHY])
{
    struct moon_lmdb_store_options o = complete(options);
    struct lmdb_store *s = calloc(1, sizeof(*s));
    enum moon_err err = MOON_ENOMEM;
    if (s != NULL) {
        s->base.ops = &operations;
        s->max_record_bytes = o.max_record_bytes;
        s->wake.data = s->clock.data = s;
        s->dirz = strdup(dirz);
    }
    if (s != NULL && s->dirz != NULL)
        err = start_wake(s, loop);
    if (err != MOON_OK) {
        if (s != NULL)
            free(s->dirz);
        free(s);
    } else {
        s->open_handles = HANDLES;
        (void)uv_timer_init(loop, &s->clock);
        uv_unref((uv_handle_t *)&s->wake);
        uv_unref((uv_handle_t *)&s->clock);
        err = start_writer(s, &o);
        if (err != MOON_OK) {
            uv_close((uv_handle_t *)&s->wake, on_handle_closed);
            uv_close((uv_handle_t *)&s->clock, on_handle_closed);
        }
    }
    if (err != MOON_OK) {
        (void)snprintf(why, MOON_SESSION_WHY, "the session store: %s",
                       moon_err_text(err));
        return err;
    }
    *store = &s->base;
    return MOON_OK;
}

void moon_lmdb_store_count(struct moon_session_store *store,
                           struct moon_lmdb_counters *counters)
{
    struct lmdb_store *s = of(store);
    moon_lmdb_writer_count(s->writer, counters);
    counters->loads = s->loads;
}
