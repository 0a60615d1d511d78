#include "state/lmdb_sync.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { EVERY_MS = 1000, AGAIN_MS = 100, SAY_EVERY_MS = 60 * 1000 };

struct moon_lmdb_sync {
    pthread_t thread;
    void (*done)(void *ctx);
    void *ctx;
    _Atomic uint64_t count;

    /* The writer's. */
    uint64_t dirty_ms; /* the first commit that may not be on disk; 0: all is */
    uint64_t committed_ms; /* the last one */
    uint64_t say_ms;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    int fd; /* to flush, -1: none */
    bool busy, ended, stop;
    uint64_t begun_ms;
    int sys;
};

static void *sync_main(void *arg)
{
    struct moon_lmdb_sync *sync = arg;
    (void)pthread_mutex_lock(&sync->lock);
    for (;;) {
        if (sync->fd < 0 && sync->stop)
            break;
        if (sync->fd < 0) {
            (void)pthread_cond_wait(&sync->wake, &sync->lock);
            continue;
        }
        int fd = sync->fd;
        sync->fd = -1;
        (void)pthread_mutex_unlock(&sync->lock);
        int sys = fdatasync(fd) == 0 ? 0 : errno;
        (void)close(fd);
        (void)pthread_mutex_lock(&sync->lock);
        sync->sys = sys;
        sync->busy = false;
        sync->ended = true;
        (void)pthread_mutex_unlock(&sync->lock);
        sync->done(sync->ctx);
        (void)pthread_mutex_lock(&sync->lock);
    }
    (void)pthread_mutex_unlock(&sync->lock);
    return NULL;
}

enum moon_err moon_lmdb_sync_create(void (*done)(void *ctx), void *ctx,
                                    struct moon_lmdb_sync **out)
{
    struct moon_lmdb_sync *sync = calloc(1, sizeof(*sync));
    sigset_t all, before;
    if (sync == NULL)
        return MOON_ENOMEM;
    sync->fd = -1;
    sync->done = done;
    sync->ctx = ctx;
    (void)pthread_mutex_init(&sync->lock, NULL);
    (void)pthread_cond_init(&sync->wake, NULL);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&sync->thread, NULL, sync_main, sync);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        (void)pthread_cond_destroy(&sync->wake);
        (void)pthread_mutex_destroy(&sync->lock);
        free(sync);
        return moon_err_from_errno(failed);
    }
    *out = sync;
    return MOON_OK;
}

void moon_lmdb_sync_destroy(struct moon_lmdb_sync *sync)
{
    if (sync == NULL)
        return;
    (void)pthread_mutex_lock(&sync->lock);
    sync->stop = true;
    (void)pthread_cond_signal(&sync->wake);
    (void)pthread_mutex_unlock(&sync->lock);
    (void)pthread_join(sync->thread, NULL);
    (void)pthread_cond_destroy(&sync->wake);
    (void)pthread_mutex_destroy(&sync->lock);
    free(sync);
}

/* ---- by the writer ---- */

void moon_lmdb_sync_committed(struct moon_lmdb_sync *sync)
{
    sync->committed_ms = moon_clock_ms();
    if (sync->dirty_ms == 0)
        sync->dirty_ms = sync->committed_ms;
}

bool moon_lmdb_sync_is_due(const struct moon_lmdb_sync *sync)
{
    return sync->dirty_ms != 0;
}

uint64_t moon_lmdb_sync_count(const struct moon_lmdb_sync *sync)
{
    return atomic_load(&sync->count);
}

static bool is_busy(struct moon_lmdb_sync *sync)
{
    (void)pthread_mutex_lock(&sync->lock);
    bool busy = sync->busy;
    (void)pthread_mutex_unlock(&sync->lock);
    return busy;
}

static void begin(struct moon_lmdb_sync *sync, int fd, uint64_t now_ms)
{
    (void)pthread_mutex_lock(&sync->lock);
    sync->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    sync->busy = sync->fd >= 0;
    sync->begun_ms = now_ms;
    (void)pthread_cond_signal(&sync->wake);
    (void)pthread_mutex_unlock(&sync->lock);
}

/* What became of the last one. */
static void take_result(struct moon_lmdb_sync *sync,
                        struct moon_lmdb_shared *shared)
{
    (void)pthread_mutex_lock(&sync->lock);
    bool ended = sync->ended;
    int sys = sync->sys;
    uint64_t begun_ms = sync->begun_ms;
    sync->ended = false;
    (void)pthread_mutex_unlock(&sync->lock);
    if (!ended)
        return;
    if (sys == 0) {
        (void)atomic_fetch_add(&sync->count, 1);
        atomic_store(&shared->synced_ms, begun_ms);
    } else if (moon_clock_ms() >= sync->say_ms) {
        sync->say_ms = moon_clock_ms() + SAY_EVERY_MS;
        moon_log(MOON_LOG_ERROR,
                 "sessions: they cannot be flushed to the disk: %s; a power "
                 "failure would lose them",
                 moon_lmdb_describe(sys));
    }
}

uint64_t moon_lmdb_sync_step(struct moon_lmdb_sync *sync,
                             struct moon_lmdb_env *env)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    uint64_t now_ms = moon_clock_ms();
    int fd;
    take_result(sync, shared);
    /* Neither is in the future, if they are right. */
    uint64_t synced_ms = atomic_load(&shared->synced_ms);
    if (synced_ms > now_ms)
        synced_ms = 0;
    if (synced_ms > sync->committed_ms)
        sync->dirty_ms = 0;
    else if (synced_ms > sync->dirty_ms && sync->dirty_ms != 0)
        sync->dirty_ms = synced_ms;
    if (sync->dirty_ms == 0)
        return UINT64_MAX;
    uint64_t started_ms = atomic_load(&shared->sync_started_ms);
    uint64_t from_ms = started_ms > sync->dirty_ms && started_ms <= now_ms
                           ? started_ms
                           : sync->dirty_ms;
    if (now_ms < from_ms + EVERY_MS)
        return from_ms + EVERY_MS;
    if (!is_busy(sync) && mdb_env_get_fd(env->mdb, &fd) == 0 &&
        atomic_compare_exchange_strong(&shared->sync_started_ms, &started_ms,
                                       now_ms))
        begin(sync, fd, now_ms);
    return now_ms + AGAIN_MS;
}
