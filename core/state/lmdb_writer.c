#include "state/lmdb_writer.h"

#include "base/clock.h"
#include "base/log.h"
#include "state/lmdb_sessions.h"
#include "state/lmdb_sync.h"
#include "state/lmdb_upkeep.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    TICK_MS = 1000, /* looks whether the files are still there */
    GROUP_MAX = 256,
    GROUP_BYTES = 8 * 1024 * 1024,
    SCRATCH_KEPT = 1024 * 1024,
    TRIES = 4,    /* with an environment opened anew */
    ROUNDS = 300, /* of making room for one operation */
    EMPTY = 100,  /* so many of them is one in which nothing was left */
};

struct moon_lmdb_writer {
    struct moon_lmdb_writer_options o;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the queues and the flags */
    pthread_cond_t more;  /* to the writer */
    pthread_cond_t tried; /* from it: the first attempt is over */
    struct moon_lmdb_queue todo, done;
    bool stop, stopped, poked, first_over;

    struct moon_lmdb_health health;
    struct moon_lmdb_handle handle;
    _Atomic int complaint; /* about the environment of that epoch */
    _Atomic uint64_t complaint_epoch;
    _Atomic uint64_t writes, commits, largest_group, unreadable;

    /* The thread's own. */
    struct moon_lmdb_tx tx;
    struct moon_lmdb_upkeep upkeep;
    struct moon_lmdb_sync *sync; /* NULL: temporary */
    uint64_t tick_ms, flush_ms;
};

static int64_t wall_ms(void)
{
    return (int64_t)(moon_clock_wall() * 1000);
}

/* ---- a group of jobs in one transaction ---- */

struct group {
    struct moon_lmdb_job *jobs[GROUP_MAX];
    uint32_t count;
};

/* The transaction may be repeated: what a job says is of the last run. */
static int run_job(struct moon_lmdb_tx *tx, struct moon_lmdb_job *job)
{
    uint32_t count = 0;
    bool more = false;
    job->err = MOON_OK;
    switch (job->kind) {
    case MOON_LMDB_SAVE:
        return moon_lmdb_save(tx, &job->key, job->change, &job->version,
                              &job->err);
    case MOON_LMDB_MOVE:
        return moon_lmdb_move(tx, &job->key, &job->to, job->change,
                              &job->version, &job->err);
    case MOON_LMDB_TOUCH:
        return moon_lmdb_touch(tx, &job->key, job->now_ms, &job->err);
    case MOON_LMDB_REMOVE:
        return moon_lmdb_remove(tx, &job->key, wall_ms(), &job->err);
    case MOON_LMDB_REMOVE_ALL:
        break;
    }
    int rc = moon_lmdb_remove_all(tx, job->subject, wall_ms(), &count, &more);
    job->count = job->committed + count;
    job->err = more ? MOON_EAGAIN : MOON_OK;
    return rc;
}

static int run_group(struct moon_lmdb_tx *tx, void *ctx)
{
    struct group *group = ctx;
    int rc = 0;
    for (uint32_t i = 0; i < group->count && rc == 0; i++)
        rc = run_job(tx, group->jobs[i]);
    return rc;
}

/* Those from `keep` on wait again, before all others. They can be retracted
 * again, too. */
static void put_back(struct moon_lmdb_writer *w, struct group *group,
                     uint32_t keep)
{
    (void)pthread_mutex_lock(&w->lock);
    while (group->count > keep) {
        struct moon_lmdb_job *job = group->jobs[--group->count];
        job->waiting = true;
        moon_lmdb_queue_prepend(&w->todo, job);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

static void finish(struct moon_lmdb_writer *w, struct group *group)
{
    uint32_t left = 0;
    (void)pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < group->count; i++) {
        struct moon_lmdb_job *job = group->jobs[i];
        if (job->err == MOON_EAGAIN) { /* there is more of it */
            job->committed = job->count;
            group->jobs[left++] = job;
        } else {
            moon_lmdb_queue_append(&w->done, job);
        }
    }
    (void)pthread_mutex_unlock(&w->lock);
    group->count = left;
    put_back(w, group, 0);
    w->o.wake(w->o.ctx);
}

static void fail(struct moon_lmdb_writer *w, struct group *group,
                 enum moon_err err, const char *whyz)
{
    for (uint32_t i = 0; i < group->count; i++) {
        group->jobs[i]->err = err;
        (void)snprintf(group->jobs[i]->why, MOON_SESSION_WHY, "%s", whyz);
    }
    finish(w, group);
}

static void note_commit(struct moon_lmdb_writer *w, const struct group *group)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < group->count; i++)
        bytes += group->jobs[i]->bytes;
    moon_lmdb_upkeep_wrote(&w->upkeep, group->count, bytes);
    (void)atomic_fetch_add(&w->commits, 1);
    (void)atomic_fetch_add(&w->writes, group->count);
    if (group->count > atomic_load(&w->largest_group))
        atomic_store(&w->largest_group, group->count);
    if (w->sync != NULL)
        moon_lmdb_sync_committed(w->sync);
    moon_lmdb_health_wrote(&w->health);
}

/* ---- when it does not work ---- */

static void renew(struct moon_lmdb_writer *w, int rc)
{
    if (moon_lmdb_handle_renew(&w->handle, rc))
        moon_lmdb_upkeep_begin(&w->upkeep);
}

static void make_room(struct moon_lmdb_writer *w, struct group *group,
                      int *rounds)
{
    if (group->count > 1) { /* fewer at once need fewer pages */
        put_back(w, group, group->count / 2);
        return;
    }
    int rc = moon_lmdb_upkeep_make_room(&w->upkeep, w->handle.env, &w->tx);
    *rounds += rc == MDB_NOTFOUND ? EMPTY : 1;
    if (rc == 0 || (rc == MDB_NOTFOUND && *rounds < ROUNDS) ||
        (rc == MDB_MAP_FULL && moon_lmdb_handle_enlarge(&w->handle)))
        return;
    if (rc == MDB_NOTFOUND || rc == MDB_MAP_FULL)
        fail(w, group, MOON_EFULL, "the session store is full");
    else
        renew(w, rc);
}

/* The system refuses: this group fails, and for a while so do others, at
 * once. */
static void break_down(struct moon_lmdb_writer *w, struct group *group, int rc)
{
    enum moon_err err = rc == ENOSPC || rc == EDQUOT ? MOON_EFULL
                        : rc == ENOMEM               ? MOON_ENOMEM
                                                     : MOON_ECLOSED;
    if (rc != ENOMEM)
        moon_lmdb_health_broke(&w->health, err, moon_lmdb_describe(rc));
    fail(w, group, err, moon_lmdb_describe(rc));
}

/* Ends with the group empty: done, failed, or waiting again. */
static void commit(struct moon_lmdb_writer *w, struct group *group)
{
    int tries = 0, rounds = 0;
    while (group->count > 0 && w->handle.env != NULL) {
        moon_lmdb_health_busy(&w->health, true);
        int rc = moon_lmdb_env_write(w->handle.env, &w->tx, run_group, group);
        moon_lmdb_health_busy(&w->health, false);
        switch (moon_lmdb_trouble_of(rc)) {
        case MOON_LMDB_FINE:
            note_commit(w, group);
            finish(w, group);
            break;
        case MOON_LMDB_FULL:
            if (rounds < ROUNDS)
                make_room(w, group, &rounds);
            else
                fail(w, group, MOON_EFULL, "the session store is full");
            break;
        case MOON_LMDB_DAMAGE:
        case MOON_LMDB_REOPEN:
        case MOON_LMDB_FOLLOW:
            if (++tries > TRIES)
                fail(w, group, MOON_ECLOSED, moon_lmdb_describe(rc));
            renew(w, rc);
            break;
        case MOON_LMDB_BROKE:
            break_down(w, group, rc);
            break;
        }
    }
    put_back(w, group, 0);
}

/* ---- between groups ---- */

static void tidy(struct moon_lmdb_writer *w)
{
    if (w->tx.unreadable > 0)
        moon_lmdb_writer_unreadable(w, w->tx.unreadable);
    w->tx.unreadable = 0;
    if (w->tx.scratch.cap > SCRATCH_KEPT)
        moon_buf_deinit(&w->tx.scratch);
}

/* What the loop met, or what happened to the files. */
static int look_around(struct moon_lmdb_writer *w)
{
    struct moon_lmdb_env *env = w->handle.env;
    int complaint = atomic_exchange(&w->complaint, 0);
    if (atomic_load(&w->complaint_epoch) != env->epoch)
        complaint = 0; /* that one is closed already */
    if (complaint == MDB_READERS_FULL) {
        (void)mdb_reader_check(env->mdb, NULL);
        complaint = 0;
    }
    if (complaint == 0 && !moon_lmdb_env_is_current(env))
        complaint = MOON_LMDB_STALE;
    if (complaint != 0 || moon_clock_ms() < w->tick_ms)
        return complaint;
    w->tick_ms = moon_clock_ms() + TICK_MS;
    if (!moon_lmdb_env_is_lost(env))
        return 0;
    moon_log(MOON_LOG_ERROR,
             "sessions: the files in %s were removed or replaced; opening them "
             "anew",
             w->o.dirz);
    return MOON_LMDB_STALE;
}

/* True: another step is due at once. */
static bool keep_up(struct moon_lmdb_writer *w)
{
    bool more = false;
    if (w->handle.env == NULL)
        return false;
    int rc = look_around(w);
    if (rc == 0) {
        moon_lmdb_health_busy(&w->health, true);
        rc = moon_lmdb_upkeep_step(&w->upkeep, w->handle.env, &w->tx, &more);
        moon_lmdb_health_busy(&w->health, false);
        if (rc == 0 && more && w->sync != NULL)
            moon_lmdb_sync_committed(w->sync);
    }
    switch (moon_lmdb_trouble_of(rc)) {
    case MOON_LMDB_DAMAGE:
    case MOON_LMDB_REOPEN:
    case MOON_LMDB_FOLLOW:
        renew(w, rc);
        return false;
    case MOON_LMDB_BROKE: /* the next save tells */
    case MOON_LMDB_FULL:
        more = false;
        break;
    case MOON_LMDB_FINE:
        break;
    }
    w->flush_ms = w->sync == NULL ? UINT64_MAX
                                  : moon_lmdb_sync_step(w->sync, w->handle.env);
    return more;
}

/* ---- the thread ---- */

/* Jobs wait while it is being opened, and fail when that has failed. */
static bool may_take(struct moon_lmdb_writer *w)
{
    return w->handle.env != NULL ||
           moon_lmdb_health_is(&w->health, MOON_LMDB_CLOSED);
}

static uint64_t due_ms(const struct moon_lmdb_writer *w)
{
    if (w->handle.env == NULL)
        return w->handle.retry_ms;
    return w->flush_ms < w->tick_ms ? w->flush_ms : w->tick_ms;
}

static struct timespec to_timespec(uint64_t ms)
{
    return (struct timespec){.tv_sec = (time_t)(ms / 1000),
                             .tv_nsec = (long)(ms % 1000) * 1000000};
}

/* Waits for something to do; with jobs, the next group. False: time to stop. */
static bool take(struct moon_lmdb_writer *w, struct group *group, bool hurry)
{
    size_t bytes = 0;
    uint32_t most =
        w->upkeep.group_max < GROUP_MAX ? w->upkeep.group_max : GROUP_MAX;
    group->count = 0;
    (void)pthread_mutex_lock(&w->lock);
    while (!w->stop && !w->poked && !hurry &&
           (w->todo.first == NULL || !may_take(w)) &&
           moon_clock_ms() < due_ms(w)) {
        struct timespec until = to_timespec(due_ms(w));
        (void)pthread_cond_timedwait(&w->more, &w->lock, &until);
    }
    w->poked = false;
    while (may_take(w) && w->todo.first != NULL && group->count < most &&
           bytes < GROUP_BYTES) {
        struct moon_lmdb_job *job = moon_lmdb_queue_take(&w->todo);
        job->waiting = false;
        bytes += job->bytes;
        group->jobs[group->count++] = job;
    }
    bool go_on = !w->stop || group->count > 0;
    (void)pthread_mutex_unlock(&w->lock);
    return go_on;
}

static void open_if_due(struct moon_lmdb_writer *w)
{
    if (moon_lmdb_handle_open_if_due(&w->handle))
        moon_lmdb_upkeep_begin(&w->upkeep);
    else if (w->handle.env == NULL &&
             !moon_lmdb_health_is(&w->health, MOON_LMDB_CLOSED))
        return; /* it is under way */
    (void)pthread_mutex_lock(&w->lock);
    w->first_over = true;
    (void)pthread_cond_broadcast(&w->tried);
    (void)pthread_mutex_unlock(&w->lock);
}

static void *writer_main(void *arg)
{
    struct moon_lmdb_writer *w = arg;
    struct group group = {.count = 0};
    char why[MOON_SESSION_WHY];
    bool hurry = false;
    open_if_due(w);
    while (take(w, &group, hurry)) {
        if (w->handle.env == NULL)
            open_if_due(w);
        if (w->handle.env == NULL && group.count > 0) {
            moon_lmdb_health_why(&w->health, why);
            fail(w, &group, MOON_ECLOSED, why);
        }
        commit(w, &group);
        hurry = keep_up(w);
        tidy(w);
    }
    if (w->handle.env != NULL && w->sync != NULL &&
        moon_lmdb_sync_is_due(w->sync))
        (void)mdb_env_sync(w->handle.env->mdb, 1);
    moon_lmdb_handle_close(&w->handle);
    (void)pthread_mutex_lock(&w->lock);
    w->stopped = true;
    (void)pthread_mutex_unlock(&w->lock);
    w->o.wake(w->o.ctx);
    return NULL;
}

/* ---- life ---- */

/* On other threads: there is something to look at. */
static void poke(void *ctx)
{
    struct moon_lmdb_writer *w = ctx;
    (void)pthread_mutex_lock(&w->lock);
    w->poked = true;
    (void)pthread_cond_signal(&w->more);
    (void)pthread_mutex_unlock(&w->lock);
}

static bool start_thread(struct moon_lmdb_writer *w)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, writer_main, w);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0;
}

static void free_writer(struct moon_lmdb_writer *w)
{
    struct moon_lmdb_job *job;
    moon_lmdb_sync_destroy(w->sync);
    while ((job = moon_lmdb_queue_take(&w->todo)) != NULL ||
           (job = moon_lmdb_queue_take(&w->done)) != NULL)
        moon_lmdb_job_free(job);
    moon_buf_deinit(&w->tx.scratch);
    (void)pthread_cond_destroy(&w->more);
    (void)pthread_cond_destroy(&w->tried);
    (void)pthread_mutex_destroy(&w->lock);
    moon_lmdb_health_deinit(&w->health);
    free(w);
}

static void init(struct moon_lmdb_writer *w,
                 const struct moon_lmdb_writer_options *o)
{
    pthread_condattr_t attr;
    w->o = *o;
    w->tx.max_record_bytes = o->max_record_bytes;
    w->flush_ms = UINT64_MAX;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->more, &attr);
    (void)pthread_cond_init(&w->tried, &attr);
    (void)pthread_condattr_destroy(&attr);
    moon_lmdb_health_init(&w->health, o->dirz);
    moon_lmdb_upkeep_begin(&w->upkeep);
    w->handle.dirz = o->dirz;
    w->handle.size_bytes = o->size_bytes;
    w->handle.health = &w->health;
}

enum moon_err moon_lmdb_writer_create(
    const struct moon_lmdb_writer_options *options,
    struct moon_lmdb_writer **out)
{
    struct moon_lmdb_writer *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return MOON_ENOMEM;
    init(w, options);
    enum moon_err err =
        options->temporary ? MOON_OK : moon_lmdb_sync_create(poke, w, &w->sync);
    if (err == MOON_OK && !start_thread(w))
        err = MOON_ESYS;
    if (err == MOON_OK)
        *out = w;
    else
        free_writer(w);
    return err;
}

void moon_lmdb_writer_await(struct moon_lmdb_writer *w, uint64_t ms)
{
    struct timespec until = to_timespec(moon_clock_ms() + ms);
    int sys = 0;
    (void)pthread_mutex_lock(&w->lock);
    while (!w->first_over && sys == 0)
        sys = pthread_cond_timedwait(&w->tried, &w->lock, &until);
    (void)pthread_mutex_unlock(&w->lock);
}

void moon_lmdb_writer_stop(struct moon_lmdb_writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    w->stop = true;
    (void)pthread_cond_signal(&w->more);
    (void)pthread_mutex_unlock(&w->lock);
}

bool moon_lmdb_writer_has_stopped(struct moon_lmdb_writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    bool stopped = w->stopped;
    (void)pthread_mutex_unlock(&w->lock);
    return stopped;
}

void moon_lmdb_writer_destroy(struct moon_lmdb_writer *w)
{
    (void)pthread_join(w->thread, NULL);
    free_writer(w);
}

/* ---- what the loop calls ---- */

enum moon_err moon_lmdb_writer_submit(struct moon_lmdb_writer *w,
                                      struct moon_lmdb_job *job,
                                      char why[MOON_SESSION_WHY])
{
    enum moon_err err = moon_lmdb_health_refuses(&w->health, why);
    if (err != MOON_OK)
        return err;
    (void)pthread_mutex_lock(&w->lock);
    bool fits = w->todo.count < w->o.max_waiting &&
                job->bytes <= w->o.max_waiting_bytes &&
                w->todo.bytes <= w->o.max_waiting_bytes - job->bytes;
    if (fits) {
        job->waiting = true;
        moon_lmdb_queue_append(&w->todo, job);
        (void)pthread_cond_signal(&w->more);
    }
    (void)pthread_mutex_unlock(&w->lock);
    if (fits)
        return MOON_OK;
    (void)snprintf(why, MOON_SESSION_WHY, "too many sessions wait to be saved");
    return MOON_EFULL;
}

bool moon_lmdb_writer_retract(struct moon_lmdb_writer *w,
                              struct moon_lmdb_job *job)
{
    (void)pthread_mutex_lock(&w->lock);
    bool waiting = job->waiting;
    if (waiting)
        moon_lmdb_queue_remove(&w->todo, job);
    job->waiting = false;
    (void)pthread_mutex_unlock(&w->lock);
    return waiting;
}

struct moon_lmdb_job *moon_lmdb_writer_take(struct moon_lmdb_writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    struct moon_lmdb_job *job = moon_lmdb_queue_take(&w->done);
    (void)pthread_mutex_unlock(&w->lock);
    return job;
}

struct moon_lmdb_handle *moon_lmdb_writer_handle(struct moon_lmdb_writer *w)
{
    return &w->handle;
}

void moon_lmdb_writer_complain(struct moon_lmdb_writer *w, uint64_t epoch,
                               int rc)
{
    atomic_store(&w->complaint_epoch, epoch);
    atomic_store(&w->complaint, rc);
    poke(w);
}

void moon_lmdb_writer_unreadable(struct moon_lmdb_writer *w, uint32_t count)
{
    if (atomic_fetch_add(&w->unreadable, count) == 0)
        moon_log(MOON_LOG_WARN,
                 "sessions: a record in %s cannot be read (damaged, or of "
                 "another version); it counts as gone, and others like it will "
                 "without a word",
                 w->o.dirz);
}

void moon_lmdb_writer_count(struct moon_lmdb_writer *w,
                            struct moon_lmdb_counters *counters)
{
    *counters = (struct moon_lmdb_counters){
        .writes = atomic_load(&w->writes),
        .commits = atomic_load(&w->commits),
        .largest_group = atomic_load(&w->largest_group),
        .swept = atomic_load(&w->upkeep.swept),
        .evicted = atomic_load(&w->upkeep.evicted),
        .unreadable = atomic_load(&w->unreadable),
        .flushes = w->sync == NULL ? 0 : moon_lmdb_sync_count(w->sync),
    };
}
