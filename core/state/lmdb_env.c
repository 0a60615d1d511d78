#include "state/lmdb_env.h"

#include "base/clock.h"
#include "base/log.h"
#include "state/lmdb_check.h"
#include "state/lmdb_rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MAX_DBS = 8,
    PATH_BYTES = 4096,
    DISTRUST_MS = 60 * 1000,
    DISTRUST_MAX = 3,
};

/* ---- once per process ---- */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct moon_lmdb_env *registry;

/* A second one's end would take the locks of the first. */
static bool enlist(struct moon_lmdb_env *env)
{
    (void)pthread_mutex_lock(&registry_lock);
    bool found = false;
    for (const struct moon_lmdb_env *e = registry; e != NULL; e = e->next)
        found =
            found || (e->dir.dev == env->dir.dev && e->dir.ino == env->dir.ino);
    if (!found) {
        env->next = registry;
        registry = env;
    }
    (void)pthread_mutex_unlock(&registry_lock);
    return !found;
}

static void delist(struct moon_lmdb_env *env)
{
    (void)pthread_mutex_lock(&registry_lock);
    struct moon_lmdb_env **at = &registry;
    while (*at != NULL && *at != env)
        at = &(*at)->next;
    if (*at != NULL)
        *at = env->next;
    (void)pthread_mutex_unlock(&registry_lock);
}

/* ---- the check ---- */

static int set_aside(struct moon_lmdb_env *env, const char *dirz,
                     const char *whyz)
{
    char namez[MOON_LMDB_ASIDE_NAME];
    int rc = moon_lmdb_set_aside(env->dir_fd, namez);
    if (rc != 0)
        return rc;
    atomic_store(&env->guard.shared->distrusts, 0); /* that was another one */
    moon_log(MOON_LOG_ERROR,
             "sessions: %s/" MOON_LMDB_DATA " is damaged (%s); it is now %s, "
             "and all sessions begin anew",
             dirz, whyz, namez);
    return 0;
}

/* Nobody has it open. *differ: the file is sound, but its indexes are not. */
static int check_file(struct moon_lmdb_env *env, const char *dirz, bool *differ)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    struct moon_lmdb_audit audit = {0};
    char why[MOON_LMDB_CHECK_WHY];
    int fd = openat(env->dir_fd, MOON_LMDB_DATA,
                    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    enum moon_err err = moon_lmdb_check(fd, moon_lmdb_audit_visit, &audit, why);
    (void)close(fd);
    if (err == MOON_ENOMEM)
        return ENOMEM;
    *differ = err == MOON_OK && !moon_lmdb_audit_is_sound(&audit);
    if (err == MOON_OK && atomic_load(&shared->distrusts) >= DISTRUST_MAX) {
        *differ = false;
        return set_aside(env, dirz, "LMDB cannot use it");
    }
    /* A disk that cannot read it will not later, either. */
    return err == MOON_EPROTO || err == MOON_ESYS ? set_aside(env, dirz, why)
                                                  : 0;
}

/* The first one that opens them: checked, with fresh notes in the guard. */
static int begin_files(struct moon_lmdb_env *env, const char *dirz,
                       bool *differ)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    atomic_store(&shared->upkeep_ms, 0);
    atomic_store(&shared->sync_started_ms, 0);
    atomic_store(&shared->synced_ms, 0);
    atomic_store(&shared->warned_ms, 0);
    atomic_store(&shared->evict_bytes, 0);
    atomic_store(&shared->evict_entries, 0);
    /* The clock begins anew with the machine. */
    if (atomic_load(&shared->distrust_ms) > moon_clock_ms())
        atomic_store(&shared->distrusts, 0);
    int rc = check_file(env, dirz, differ);
    return rc == 0 ? moon_lmdb_prepare_lock(env->dir_fd) : rc;
}

/* ---- LMDB ---- */

static size_t map_bytes_of(const struct moon_lmdb_env *env,
                           const struct moon_lmdb_env_options *o)
{
    uint64_t bytes =
        o->map_bytes > o->size_bytes ? o->map_bytes : o->size_bytes;
    int fd = !o->follow ? -1
                        : openat(env->dir_fd, MOON_LMDB_DATA,
                                 O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        uint64_t theirs = moon_lmdb_map_bytes(fd);
        bytes = theirs > bytes ? theirs : bytes;
        (void)close(fd);
    }
    uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;
    return (bytes + mask) & ~mask;
}

static void suspect(void *ctx)
{
    moon_lmdb_env_distrust(ctx);
}

static int open_mdb(struct moon_lmdb_env *env,
                    const struct moon_lmdb_env_options *o)
{
    char pathz[PATH_BYTES];
    /* Commits are not flushed one by one (lmdb_sync.h). Never with a writable
     * map: a stray pointer would reach the file. */
    const unsigned flags =
        MDB_NOSUBDIR | MDB_NOTLS | MDB_NOSYNC | MDB_NOMETASYNC;
    int n = snprintf(pathz, sizeof(pathz), "%s/" MOON_LMDB_DATA, o->dirz);
    if (n < 0 || (size_t)n >= sizeof(pathz))
        return ENAMETOOLONG;
    int rc = mdb_env_create(&env->mdb);
    if (rc != 0)
        return rc;
    env->mark = (struct moon_lmdb_mark){suspect, env};
    moon_lmdb_fence_set(env->mdb, &env->mark);
    rc = mdb_env_set_mapsize(env->mdb, map_bytes_of(env, o));
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env->mdb, MAX_DBS);
    if (rc == 0)
        rc = mdb_env_open(env->mdb, pathz, flags, 0600);
    if (rc != 0)
        return rc;
    int fd;
    if (mdb_env_get_fd(env->mdb, &fd) == 0)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* LMDB forgets it */
    return mdb_reader_check(env->mdb, NULL);
}

struct opening {
    struct moon_lmdb_env *env;
    unsigned flags;
    MDB_txn *txn; /* NULL: ended */
};

static int open_inside(void *ctx)
{
    struct opening *o = ctx;
    int rc = mdb_txn_begin(o->env->mdb, NULL, o->flags, &o->txn);
    if (rc == 0)
        rc = moon_lmdb_open_dbs(o->txn, o->flags == 0, &o->env->dbs);
    if (rc != 0)
        return o->txn == NULL && (rc == EAGAIN || rc == EACCES)
                   ? EADDRINUSE /* the lock that stands for this process */
                   : rc;
    rc = mdb_txn_commit(o->txn);
    o->txn = NULL; /* whatever came of it */
    return rc;
}

/* Reads first: beginning to write waits for whoever does. */
static int open_dbs(struct moon_lmdb_env *env)
{
    static const unsigned flags[] = {MDB_RDONLY, 0};
    int rc = MDB_NOTFOUND;
    for (size_t i = 0; i < MOON_COUNT(flags) && rc == MDB_NOTFOUND; i++) {
        struct opening o = {.env = env, .flags = flags[i]};
        rc = flags[i] == MDB_RDONLY ? moon_lmdb_fenced(open_inside, &o)
                                    : open_inside(&o);
        if (o.txn != NULL)
            mdb_txn_abort(o.txn);
    }
    return rc;
}

static int open_files(struct moon_lmdb_env *env,
                      const struct moon_lmdb_env_options *o)
{
    MDB_stat stat;
    MDB_envinfo info;
    int rc = open_mdb(env, o);
    if (rc == 0)
        rc = open_dbs(env);
    if (rc == 0)
        rc = mdb_env_stat(env->mdb, &stat);
    if (rc == 0)
        rc = mdb_env_info(env->mdb, &info);
    if (rc != 0)
        return rc;
    env->page_bytes = stat.ms_psize;
    env->size_bytes = o->size_bytes;
    env->map_bytes = info.me_mapsize;
    env->data = moon_lmdb_file_id(env->dir_fd, MOON_LMDB_DATA);
    env->lock = moon_lmdb_file_id(env->dir_fd, MOON_LMDB_LOCK);
    return 0;
}

static void close_mdb(struct moon_lmdb_env *env)
{
    for (size_t i = 0; i < MOON_COUNT(env->readers); i++) {
        if (env->readers[i] != NULL)
            mdb_txn_abort(env->readers[i]);
        env->readers[i] = NULL;
    }
    mdb_env_close(env->mdb);
    env->mdb = NULL;
}

/* ---- opening ---- */

static int rebuild(struct moon_lmdb_env *env, const char *dirz)
{
    struct moon_lmdb_tx tx = {.txn = NULL};
    struct moon_lmdb_rebuild state = {.ended = false};
    int rc = 0;
    moon_log(MOON_LOG_WARN,
             "sessions: making the indexes of %s/" MOON_LMDB_DATA " anew",
             dirz);
    while (rc == 0 && !state.ended)
        rc = moon_lmdb_env_write(env, &tx, moon_lmdb_rebuild_step, &state);
    return rc;
}

static int open_alone(struct moon_lmdb_env *env,
                      const struct moon_lmdb_env_options *o)
{
    bool differ = false;
    int rc = begin_files(env, o->dirz, &differ);
    if (rc == 0)
        rc = open_files(env, o);
    if (rc == 0 && differ)
        rc = rebuild(env, o->dirz);
    if (moon_lmdb_trouble_of(rc) == MOON_LMDB_DAMAGE) {
        /* Sound by our reading, but not by LMDB's. */
        const char *whyz = moon_lmdb_describe(rc);
        close_mdb(env);
        rc = set_aside(env, o->dirz, whyz);
        if (rc == 0)
            rc = moon_lmdb_prepare_lock(env->dir_fd);
        if (rc == 0)
            rc = open_files(env, o);
    }
    if (rc != 0)
        return rc;
    struct moon_lmdb_shared *shared = env->guard.shared;
    shared->data = env->data;
    shared->lock = env->lock;
    atomic_store(&shared->ready_epoch, env->epoch);
    return 0;
}

/* Others have it open: only what they have may be opened beside them. */
static int open_beside(struct moon_lmdb_env *env,
                       const struct moon_lmdb_env_options *o,
                       enum moon_lmdb_company company)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    bool strangers = company == MOON_LMDB_WITH_STRANGERS;
    int not_yet = strangers ? ETXTBSY : EAGAIN;
    if (atomic_load(&shared->ready_epoch) != env->epoch)
        return not_yet;
    int rc = not_yet;
    if (moon_lmdb_file_is(env->dir_fd, MOON_LMDB_DATA, shared->data) &&
        moon_lmdb_file_is(env->dir_fd, MOON_LMDB_LOCK, shared->lock))
        rc = open_files(env, o);
    if (strangers ||
        (rc != not_yet && moon_lmdb_trouble_of(rc) != MOON_LMDB_DAMAGE))
        return rc;
    atomic_fetch_add(&shared->epoch, 1); /* all let go */
    return EAGAIN;
}

static int open_guarded(struct moon_lmdb_env *env,
                        const struct moon_lmdb_env_options *o)
{
    int rc = moon_lmdb_guard_enter(env->dir_fd, &env->guard);
    if (rc != 0)
        return rc;
    env->epoch = atomic_load(&env->guard.shared->epoch);
    enum moon_lmdb_company company =
        moon_lmdb_guard_company(&env->guard, env->dir_fd);
    rc = company == MOON_LMDB_ALONE ? open_alone(env, o)
                                    : open_beside(env, o, company);
    moon_lmdb_guard_leave(&env->guard, rc == 0);
    return rc;
}

int moon_lmdb_env_open(const struct moon_lmdb_env_options *options,
                       struct moon_lmdb_env **out, char why[MOON_SESSION_WHY])
{
    struct moon_lmdb_env *env = calloc(1, sizeof(*env));
    *out = NULL;
    if (env == NULL)
        return ENOMEM;
    env->dir_fd = env->guard.fd = -1;
    int rc = moon_lmdb_dir_open(options->dirz, &env->dir_fd);
    if (rc == 0) {
        env->dir = moon_lmdb_file_id(env->dir_fd, ".");
        rc = enlist(env) ? open_guarded(env, options) : EBUSY;
    }
    if (rc == 0) {
        *out = env;
        return 0;
    }
    (void)snprintf(why, MOON_SESSION_WHY, "%s", moon_lmdb_describe(rc));
    moon_lmdb_env_close(env);
    return rc;
}

void moon_lmdb_env_close(struct moon_lmdb_env *env)
{
    if (env == NULL)
        return;
    close_mdb(env);
    moon_lmdb_guard_close(&env->guard);
    if (env->dir_fd >= 0)
        (void)close(env->dir_fd);
    delist(env);
    free(env);
}

bool moon_lmdb_env_is_lost(struct moon_lmdb_env *env)
{
    bool same = moon_lmdb_file_is(env->dir_fd, MOON_LMDB_DATA, env->data) &&
                moon_lmdb_file_is(env->dir_fd, MOON_LMDB_LOCK, env->lock) &&
                moon_lmdb_file_is(env->dir_fd, MOON_LMDB_GUARD, env->guard.id);
    if (!same && moon_lmdb_env_is_current(env))
        atomic_fetch_add(&env->guard.shared->epoch, 1);
    return !same;
}

void moon_lmdb_env_distrust(struct moon_lmdb_env *env)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    uint64_t now_ms = moon_clock_ms();
    uint64_t epoch = env->epoch;
    /* The first that notices speaks for all. */
    if (!atomic_compare_exchange_strong(&shared->epoch, &epoch, epoch + 1))
        return;
    uint64_t last_ms = atomic_exchange(&shared->distrust_ms, now_ms);
    if (now_ms - last_ms < DISTRUST_MS)
        atomic_fetch_add(&shared->distrusts, 1);
    else
        atomic_store(&shared->distrusts, 1);
}

/* ---- transactions ---- */

struct reading {
    struct moon_lmdb_env *env;
    MDB_txn **reader;
    struct moon_lmdb_tx *tx;
    moon_lmdb_run *run;
    void *ctx;
    bool open;
};

static int read_inside(void *ctx)
{
    struct reading *r = ctx;
    int rc = *r->reader != NULL
                 ? mdb_txn_renew(*r->reader)
                 : mdb_txn_begin(r->env->mdb, NULL, MDB_RDONLY, r->reader);
    if (rc != 0)
        return rc;
    r->open = true;
    r->tx->txn = *r->reader;
    return r->run(r->tx, r->ctx);
}

static int read_with(struct reading *r)
{
    if (MOON_UNLIKELY(!moon_lmdb_env_is_current(r->env)))
        return MOON_LMDB_STALE;
    r->tx->dbs = r->env->dbs;
    int rc = moon_lmdb_fenced(read_inside, r);
    if (r->open)
        mdb_txn_reset(*r->reader);
    return rc;
}

int moon_lmdb_env_read(struct moon_lmdb_env *env, struct moon_lmdb_tx *tx,
                       moon_lmdb_run *run, void *ctx)
{
    struct reading r = {env, &env->readers[0], tx, run, ctx, false};
    return read_with(&r);
}

int moon_lmdb_env_peek(struct moon_lmdb_env *env, struct moon_lmdb_tx *tx,
                       moon_lmdb_run *run, void *ctx)
{
    struct reading r = {env, &env->readers[1], tx, run, ctx, false};
    return read_with(&r);
}

int moon_lmdb_env_write(struct moon_lmdb_env *env, struct moon_lmdb_tx *tx,
                        moon_lmdb_run *run, void *ctx)
{
    tx->dbs = env->dbs;
    int rc = mdb_txn_begin(env->mdb, NULL, 0, &tx->txn);
    if (rc != 0)
        return rc;
    moon_lmdb_fence_begin_write(&env->mark);
    rc = moon_lmdb_env_is_current(env) ? run(tx, ctx) : MOON_LMDB_STALE;
    if (rc == 0)
        rc = mdb_txn_commit(tx->txn);
    else
        mdb_txn_abort(tx->txn);
    moon_lmdb_fence_end_write();
    tx->txn = NULL;
    return rc;
}
