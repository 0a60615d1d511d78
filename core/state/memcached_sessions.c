#include "state/memcached_sessions.h"

#include "state/memcached_job.h"
#include "state/memcached_url.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    CONNECT_MS = 1000,
    PATIENCE_MS = 250,
    MAX_PENDING = 10000,
    MAX_BYTES = 16 << 20,
};

static void finish(struct moon_memcached_job *job, enum moon_err err)
{
    moon_session_call_end(&job->call, err, MOON_STR_NONE);
}

/* Is there a session in the item? What is over, or cannot be read, is none. */
static bool look(struct moon_memcached_job *job,
                 const struct moon_memcached_reply *reply, int64_t now_ms,
                 struct moon_session_view *view)
{
    job->cas = reply->cas;
    return reply->status == MOON_MEMCACHED_VALUE &&
           moon_session_record_look(reply->value, view) == MOON_OK &&
           !moon_session_view_is_over(view, now_ms);
}

static bool is_other_version(const struct moon_session_change *change,
                             const struct moon_session_view *view)
{
    return change->if_version != 0 && change->if_version != view->version;
}

/* Builds what the change makes of it; returns its exptime. */
static uint64_t build(struct moon_memcached_job *job,
                      const struct moon_session_view *before)
{
    struct moon_session_view after = {0};
    job->record.len = 0;
    moon_session_record_write(&job->record, before, job->change, &after);
    job->version = after.version;
    return moon_memcached_exptime(&after, job->change->now_ms);
}

/* ---- load ---- */

static void on_load(struct moon_memcached_job *job,
                    const struct moon_memcached_reply *reply)
{
    struct moon_session_view view;
    if (!look(job, reply, job->now_ms, &view)) {
        finish(job, MOON_ENOT_FOUND);
        return;
    }
    job->call.op->record = moon_session_record_copy(&view);
    finish(job, job->call.op->record == NULL ? MOON_ENOMEM : MOON_OK);
}

static enum moon_err load(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *key, int64_t now_ms)
{
    struct moon_memcached_job *job =
        moon_memcached_job_begin(store, op, key, NULL);
    if (job == NULL)
        return op->err;
    job->now_ms = now_ms;
    moon_memcached_read(job, key, on_load);
    return moon_session_call_begun(&job->call);
}

/* ---- save ---- */

static void succeed(struct moon_memcached_job *job)
{
    job->call.op->version = job->version;
    finish(job, MOON_OK);
}

static moon_memcached_step on_read;

static void on_written(struct moon_memcached_job *job,
                       const struct moon_memcached_reply *reply)
{
    switch (reply->status) {
    case MOON_MEMCACHED_STORED:
        succeed(job);
        break;
    case MOON_MEMCACHED_MISS: /* removed meanwhile */
        if (!job->change->create) {
            finish(job, MOON_ENOT_FOUND);
            break;
        }
        /* fall through */
    default: /* somebody was faster */
        moon_memcached_read(job, job->from, on_read);
        break;
    }
}

static void on_read(struct moon_memcached_job *job,
                    const struct moon_memcached_reply *reply)
{
    const struct moon_session_change *change = job->change;
    struct moon_session_view view;
    bool alive = look(job, reply, change->now_ms, &view);
    if (alive && (change->create || is_other_version(change, &view)))
        finish(job, MOON_EEXISTS);
    else if (!alive && !change->create)
        finish(job, MOON_ENOT_FOUND);
    else
        moon_memcached_write(job, job->from,
                             reply->status == MOON_MEMCACHED_MISS
                                 ? MOON_MEMCACHED_ADD
                                 : MOON_MEMCACHED_IF_SAME,
                             build(job, alive ? &view : NULL), on_written);
}

static enum moon_err save(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *key,
                          const struct moon_session_change *change)
{
    struct moon_memcached_job *job =
        moon_memcached_job_begin(store, op, key, change);
    if (job == NULL)
        return op->err;
    if (change->create)
        moon_memcached_write(job, key, MOON_MEMCACHED_ADD, build(job, NULL),
                             on_written);
    else
        moon_memcached_read(job, key, on_read);
    return moon_session_call_begun(&job->call);
}

/* ---- move: the new item is added, then the old one removed if it is still
 * what was read. Until then nobody knows the new key. ---- */

static void on_undone(struct moon_memcached_job *job,
                      const struct moon_memcached_reply *reply)
{
    (void)reply;
    finish(job, job->outcome);
}

/* The move ends with this; the new item, if there is one already, goes. */
static void undo(struct moon_memcached_job *job, enum moon_err outcome)
{
    job->outcome = outcome;
    if (job->is_written)
        moon_memcached_delete(job, job->to, false, on_undone);
    else
        finish(job, outcome);
}

static moon_memcached_step on_moving;

static void on_old_removed(struct moon_memcached_job *job,
                           const struct moon_memcached_reply *reply)
{
    if (reply->status == MOON_MEMCACHED_CHANGED)
        moon_memcached_read(job, job->from, on_moving);
    else if (reply->status == MOON_MEMCACHED_STORED)
        succeed(job);
    else
        undo(job, MOON_ENOT_FOUND);
}

static void on_new_written(struct moon_memcached_job *job,
                           const struct moon_memcached_reply *reply)
{
    if (reply->status != MOON_MEMCACHED_STORED) {
        finish(job, MOON_EEXISTS);
        return;
    }
    job->is_written = true;
    moon_memcached_delete(job, job->from, true, on_old_removed);
}

static void on_moving(struct moon_memcached_job *job,
                      const struct moon_memcached_reply *reply)
{
    const struct moon_session_change *change = job->change;
    struct moon_session_view view;
    if (!look(job, reply, change->now_ms, &view))
        undo(job, MOON_ENOT_FOUND);
    else if (is_other_version(change, &view) ||
             memcmp(job->from, job->to, sizeof(*job->to)) == 0)
        undo(job, MOON_EEXISTS);
    else
        moon_memcached_write(job, job->to,
                             job->is_written ? MOON_MEMCACHED_SET
                                             : MOON_MEMCACHED_ADD,
                             build(job, &view), on_new_written);
}

static enum moon_err move(struct moon_session_store *store,
                          struct moon_session_op *op,
                          const struct moon_session_key *from,
                          const struct moon_session_key *to,
                          const struct moon_session_change *change)
{
    struct moon_memcached_job *job =
        moon_memcached_job_begin(store, op, from, change);
    if (job == NULL)
        return op->err;
    job->to = to;
    moon_memcached_read(job, from, on_moving);
    return moon_session_call_begun(&job->call);
}

/* ---- touch and remove ---- */

static moon_memcached_step on_touching;

static void on_touched(struct moon_memcached_job *job,
                       const struct moon_memcached_reply *reply)
{
    if (reply->status == MOON_MEMCACHED_STORED)
        finish(job, MOON_OK);
    else if (reply->status == MOON_MEMCACHED_MISS)
        finish(job, MOON_ENOT_FOUND);
    else
        moon_memcached_read(job, job->from, on_touching);
}

static void on_touching(struct moon_memcached_job *job,
                        const struct moon_memcached_reply *reply)
{
    struct moon_session_view view;
    if (!look(job, reply, job->now_ms, &view)) {
        finish(job, MOON_ENOT_FOUND);
    } else if (view.seen_ms >= job->now_ms) {
        finish(job, MOON_OK);
    } else {
        view.seen_ms = job->now_ms;
        job->record.len = 0;
        moon_session_record_write_seen(&job->record, reply->value, job->now_ms);
        moon_memcached_write(job, job->from, MOON_MEMCACHED_IF_SAME,
                             moon_memcached_exptime(&view, job->now_ms),
                             on_touched);
    }
}

static enum moon_err touch(struct moon_session_store *store,
                           struct moon_session_op *op,
                           const struct moon_session_key *key, int64_t now_ms)
{
    struct moon_memcached_job *job =
        moon_memcached_job_begin(store, op, key, NULL);
    if (job == NULL)
        return op->err;
    job->now_ms = now_ms;
    moon_memcached_read(job, key, on_touching);
    return moon_session_call_begun(&job->call);
}

static void on_removed(struct moon_memcached_job *job,
                       const struct moon_memcached_reply *reply)
{
    finish(job,
           reply->status == MOON_MEMCACHED_STORED ? MOON_OK : MOON_ENOT_FOUND);
}

static enum moon_err remove_one(struct moon_session_store *store,
                                struct moon_session_op *op,
                                const struct moon_session_key *key)
{
    struct moon_memcached_job *job =
        moon_memcached_job_begin(store, op, key, NULL);
    if (job == NULL)
        return op->err;
    moon_memcached_delete(job, key, false, on_removed);
    return moon_session_call_begun(&job->call);
}

/* ---- subjects ---- */

static enum moon_err no_index(struct moon_session_op *op)
{
    op->pending = NULL;
    op->err = MOON_EDENIED;
    (void)snprintf(op->why, sizeof(op->why),
                   "memcached keeps no list of the sessions of a subject; "
                   "Redis and the embedded store do");
    return op->err;
}

static enum moon_err list(struct moon_session_store *store,
                          struct moon_session_op *op, struct moon_str subject,
                          int64_t now_ms)
{
    (void)store;
    (void)subject;
    (void)now_ms;
    return no_index(op);
}

static enum moon_err remove_all(struct moon_session_store *store,
                                struct moon_session_op *op,
                                struct moon_str subject)
{
    (void)store;
    (void)subject;
    return no_index(op);
}

/* ---- the store ---- */

static const char *down(struct moon_session_store *base)
{
    struct moon_memcached_sessions *store =
        (struct moon_memcached_sessions *)base;
    for (uint32_t i = 0; i < store->count; i++) {
        const char *whyz = moon_memcached_down(store->servers[i]);
        if (whyz == NULL)
            continue;
        (void)snprintf(store->down, sizeof(store->down), "%.*s: %s",
                       MOON_STR_ARG(moon_memcached_name(store->servers[i])),
                       whyz);
        return store->down;
    }
    return NULL;
}

void moon_memcached_sessions_unref(struct moon_memcached_sessions *store)
{
    if (--store->refs > 0)
        return;
    for (uint32_t i = 0; i < store->count; i++)
        moon_memcached_close(store->servers[i]);
    free(store);
}

static void close_store(struct moon_session_store *store)
{
    moon_memcached_sessions_unref((struct moon_memcached_sessions *)store);
}

static const struct moon_session_store_ops ops = {
    .namez = "memcached",
    .load = load,
    .save = save,
    .move = move,
    .touch = touch,
    .remove = remove_one,
    .list = list,
    .remove_all = remove_all,
    .cancel = moon_session_call_cancel,
    .down = down,
    .close = close_store,
};

enum moon_err moon_memcached_sessions_open(uv_loop_t *loop, const char *urlz,
                                           uint64_t connect_timeout_ms,
                                           struct moon_session_store **out,
                                           char *error, size_t error_size)
{
    struct moon_memcached_url url;
    enum moon_err err =
        moon_memcached_url_parse(moon_strz(urlz), &url, error, error_size);
    if (err != MOON_OK)
        return err;
    struct moon_memcached_sessions *store =
        calloc(1, sizeof(*store) + url.count * sizeof(store->servers[0]));
    for (uint32_t i = 0; store != NULL && i < url.count; i++) {
        const struct moon_memcached_options options = {
            .hostz = url.hosts[i].hostz,
            .port = url.hosts[i].port,
            .connect_timeout_ms =
                connect_timeout_ms > 0 ? connect_timeout_ms : CONNECT_MS,
            .patience_ms = PATIENCE_MS,
            .max_pending = MAX_PENDING,
            .max_bytes = MAX_BYTES,
            .max_reply_bytes = MAX_BYTES,
        };
        store->servers[i] = moon_memcached_open(loop, &options);
        store->count += store->servers[i] != NULL;
    }
    if (store != NULL)
        store->refs = 1;
    if (store == NULL || store->count < url.count) {
        if (store != NULL)
            moon_memcached_sessions_unref(store);
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
        return MOON_ENOMEM;
    }
    store->base.ops = &ops;
    *out = &store->base;
    return MOON_OK;
}
