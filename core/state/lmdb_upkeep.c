#include "state/lmdb_upkeep.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "state/lmdb_sessions.h"

enum {
    EVERY_MS = 60 * 1000, /* dead readers and the sweep; the warning */
    LOOK_EVERY_MS = 100,
    LOW_SHARE = 16, /* of the map: below it room is made */
    LOW_PAGES = 96, /* at least */
    LEAST_PAGES = 48,
    GOAL_SHARE = 10, /* of the map: so much is freed */
    GROWTH_SHARE = 20,
    GROUP_MAX = 256,
    GROUP_PAGES = 16, /* that one operation may write */
    PAGE = 4096,      /* about */
    FREE_LIST = 0,    /* the number of LMDB's own database */
};

static int64_t wall_ms(void)
{
    return (int64_t)(moon_clock_wall() * 1000);
}

/* Whoever finds it due does it. */
static bool claim(_Atomic uint64_t *due_ms, uint64_t every_ms)
{
    uint64_t now_ms = moon_clock_ms(), due = atomic_load(due_ms);
    return (now_ms >= due || due > now_ms + every_ms) &&
           atomic_compare_exchange_strong(due_ms, &due, now_ms + every_ms);
}

/* ---- how much room there is ---- */

struct room {
    const struct moon_lmdb_env *env;
    uint64_t pages;     /* that the map may hold */
    uint64_t available; /* of them */
    uint64_t entries;   /* sessions */
};

static uint64_t low_of(const struct room *room)
{
    uint64_t low = room->pages / LOW_SHARE;
    return low > LOW_PAGES ? low : LOW_PAGES;
}

/* Below this no growth is waited for. What a few transactions write is out of
 * use for that long. */
static uint64_t least_of(const struct room *room)
{
    uint64_t least = low_of(room) / 4;
    return least > LEAST_PAGES ? least : LEAST_PAGES;
}

/* Each record of the free list begins with how many pages it has. */
static int count_free(struct moon_lmdb_tx *tx, struct room *room)
{
    MDB_cursor *cursor;
    MDB_val key, data;
    int rc = mdb_cursor_open(tx->txn, FREE_LIST, &cursor);
    if (rc != 0)
        return rc;
    while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        size_t count;
        if (data.mv_size < sizeof(count)) {
            rc = MDB_CORRUPTED;
            break;
        }
        memcpy(&count, data.mv_data, sizeof(count));
        room->available += count;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int run_look(struct moon_lmdb_tx *tx, void *ctx)
{
    struct room *room = ctx;
    const struct moon_lmdb_env *env = room->env;
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_info(env->mdb, &info);
    if (rc == 0)
        rc = mdb_stat(tx->txn, tx->dbs.sessions, &stat);
    if (rc != 0)
        return rc;
    room->entries = stat.ms_entries;
    room->pages = env->size_bytes / env->page_bytes;
    uint64_t used = info.me_last_pgno + 1;
    room->available = room->pages > used ? room->pages - used : 0;
    return room->available < 2 * low_of(room) ? count_free(tx, room) : 0;
}

static int look(struct moon_lmdb_env *env, struct moon_lmdb_tx *tx,
                struct room *room)
{
    *room = (struct room){.env = env};
    return moon_lmdb_env_peek(env, tx, run_look, room);
}

static int64_t goal_of(const struct moon_lmdb_env *env)
{
    return (int64_t)(env->size_bytes / GOAL_SHARE);
}

/* What is still to be freed; never more than a round, whoever wrote it. */
static int64_t goal_left(const struct moon_lmdb_env *env)
{
    int64_t left = atomic_load(&env->guard.shared->evict_bytes);
    return left > goal_of(env) ? goal_of(env) : left;
}

/* How much may be written before the next look: at a quarter of what is left
 * there is time to begin. */
static void measure(struct moon_lmdb_upkeep *u, const struct room *room)
{
    uint64_t group = room->available / GROUP_PAGES;
    u->group_max = group > GROUP_MAX ? GROUP_MAX
                   : group < 1       ? 1
                                     : (uint32_t)group;
    u->pages = room->available / 4 + 1;
    u->look_ms = moon_clock_ms() + LOOK_EVERY_MS;
}

/* Begins a round, if one is due. */
static int plan(struct moon_lmdb_upkeep *u, struct moon_lmdb_env *env,
                struct moon_lmdb_tx *tx)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    struct room room;
    int rc = look(env, tx, &room);
    measure(u, &room);
    if (rc != 0)
        return rc;
    uint64_t low = low_of(&room);
    if (room.available >= 2 * low)
        atomic_store(&shared->evict_entries, 0);
    if (room.available >= low || atomic_load(&shared->evict_bytes) > 0 ||
        (room.available >= least_of(&room) &&
         room.entries < atomic_load(&shared->evict_entries)))
        return 0;
    u->sweeping = true;
    atomic_store(&shared->evict_bytes, goal_of(env));
    return 0;
}

/* ---- removing ---- */

struct removal {
    uint32_t limit;
    uint64_t bytes;
    struct moon_lmdb_dropped dropped;
};

static int run_any(struct moon_lmdb_tx *tx, void *ctx)
{
    return moon_lmdb_is_any_over(tx, wall_ms(), ctx);
}

static int run_sweep(struct moon_lmdb_tx *tx, void *ctx)
{
    struct removal *r = ctx;
    return moon_lmdb_sweep(tx, wall_ms(), r->limit, &r->dropped);
}

static int run_evict(struct moon_lmdb_tx *tx, void *ctx)
{
    struct removal *r = ctx;
    return moon_lmdb_evict(tx, r->limit, r->bytes, &r->dropped);
}

static void warn(struct moon_lmdb_env *env, int64_t seen_ms, uint64_t left)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    char size[32], age[32];
    if (!claim(&shared->warned_ms, EVERY_MS))
        return;
    int64_t age_ms = wall_ms() - seen_ms;
    moon_size_format(env->size_bytes, size, sizeof(size));
    moon_duration_format(age_ms > 0 ? (uint64_t)age_ms / 1000 * 1000 : 0, age,
                         sizeof(age));
    moon_log(MOON_LOG_WARN,
             "sessions: the store is full (session.lmdb_size is %s): dropped "
             "%llu sessions, the last of them not seen for %s; %llu are left",
             size, (unsigned long long)atomic_exchange(&shared->evicted, 0),
             age, (unsigned long long)left);
}

static uint64_t count_sessions(struct moon_lmdb_env *env,
                               struct moon_lmdb_tx *tx)
{
    struct room room;
    return look(env, tx, &room) == 0 ? room.entries : 0;
}

/* One step of a removal; what it freed counts towards the goal. */
static int removal(struct moon_lmdb_upkeep *u, struct moon_lmdb_env *env,
                   struct moon_lmdb_tx *tx, bool sweep, struct removal *r)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    int64_t goal = goal_left(env);
    bool any = true;
    r->bytes = goal > 0 ? (uint64_t)goal : 0;
    int rc = sweep ? moon_lmdb_env_peek(env, tx, run_any, &any) : 0;
    if (rc == 0 && any)
        rc = moon_lmdb_env_write(env, tx, sweep ? run_sweep : run_evict, r);
    if (rc != 0 || !any)
        return rc;
    const struct moon_lmdb_dropped *dropped = &r->dropped;
    (void)atomic_fetch_add(sweep ? &u->swept : &u->evicted, dropped->sessions);
    moon_lmdb_upkeep_wrote(u, dropped->entries, 0);
    bool reached = goal > 0 && (int64_t)dropped->bytes >= goal;
    if (goal > 0)
        (void)atomic_fetch_sub(&shared->evict_bytes, (int64_t)dropped->bytes);
    if (sweep)
        return 0;
    (void)atomic_fetch_add(&shared->evicted, dropped->sessions);
    if (reached || dropped->entries == 0) {
        uint64_t left = count_sessions(env, tx);
        atomic_store(&shared->evict_bytes, 0);
        atomic_store(&shared->evict_entries, left + left / GROWTH_SHARE + 1);
        if (atomic_load(&shared->evicted) > 0)
            warn(env, dropped->seen_ms, left);
    }
    return 0;
}

/* ---- what the writer calls ---- */

void moon_lmdb_upkeep_begin(struct moon_lmdb_upkeep *u)
{
    u->sweeping = false;
    u->look_ms = 0;
    u->pages = 0;
    u->group_max = 1;
    u->batch = MOON_LMDB_BATCH;
}

void moon_lmdb_upkeep_wrote(struct moon_lmdb_upkeep *u, uint32_t count,
                            size_t bytes)
{
    uint64_t pages = count + bytes / PAGE;
    u->pages -= pages < u->pages ? pages : u->pages;
}

/* A removal, smaller if the last found no pages. */
static int step(struct moon_lmdb_upkeep *u, struct moon_lmdb_env *env,
                struct moon_lmdb_tx *tx, bool sweep, uint32_t *entries)
{
    struct removal r = {.limit = u->batch};
    int rc = removal(u, env, tx, sweep, &r);
    *entries = r.dropped.entries;
    if (rc == 0)
        u->batch =
            u->batch * 2 < MOON_LMDB_BATCH ? u->batch * 2 : MOON_LMDB_BATCH;
    else if (rc == MDB_MAP_FULL)
        u->batch /= 4;
    return rc;
}

int moon_lmdb_upkeep_step(struct moon_lmdb_upkeep *u, struct moon_lmdb_env *env,
                          struct moon_lmdb_tx *tx, bool *more)
{
    struct moon_lmdb_shared *shared = env->guard.shared;
    uint32_t entries = 0;
    int rc = 0;
    if (u->pages == 0 || moon_clock_ms() >= u->look_ms)
        rc = plan(u, env, tx);
    if (rc == 0 && claim(&shared->upkeep_ms, EVERY_MS)) {
        u->sweeping = true;
        rc = mdb_reader_check(env->mdb, NULL);
    }
    uint32_t batch = u->batch;
    if (rc == 0 && u->sweeping) {
        rc = step(u, env, tx, true, &entries);
        u->sweeping = entries == batch;
    } else if (rc == 0 && atomic_load(&shared->evict_bytes) > 0) {
        rc = step(u, env, tx, false, &entries);
    }
    *more = u->sweeping || atomic_load(&shared->evict_bytes) > 0;
    if (rc == MDB_MAP_FULL && u->batch == 0) {
        /* No page at all: the next save sees to it. */
        u->batch = 1;
        *more = false;
    }
    return rc == MDB_MAP_FULL ? 0 : rc;
}

/* Pages that a transaction frees can be used by the one after the next, so
 * there must be one, if only of something that changes nothing. */
static int run_tick(struct moon_lmdb_tx *tx, void *ctx)
{
    MDB_stat stat;
    (void)ctx;
    int rc = mdb_stat(tx->txn, tx->dbs.seen, &stat);
    return rc != 0 || stat.ms_entries > 0 ? rc
                                          : mdb_drop(tx->txn, tx->dbs.seen, 0);
}

static int remove_some(struct moon_lmdb_upkeep *u, struct moon_lmdb_env *env,
                       struct moon_lmdb_tx *tx, bool sweep, uint32_t *entries)
{
    int rc = MDB_MAP_FULL;
    while (rc == MDB_MAP_FULL && u->batch > 0)
        rc = step(u, env, tx, sweep, entries);
    if (u->batch == 0)
        u->batch = 1;
    return rc;
}

int moon_lmdb_upkeep_make_room(struct moon_lmdb_upkeep *u,
                               struct moon_lmdb_env *env,
                               struct moon_lmdb_tx *tx)
{
    _Atomic int64_t *goal = &env->guard.shared->evict_bytes;
    uint32_t entries = 0;
    int rc = mdb_reader_check(env->mdb, NULL);
    if (rc == 0)
        rc = remove_some(u, env, tx, true, &entries);
    if (rc != 0 || entries > 0)
        return rc;
    if (atomic_load(goal) <= 0)
        atomic_store(goal, goal_of(env)); /* the rest in steps */
    rc = remove_some(u, env, tx, false, &entries);
    if (rc != 0 || entries > 0)
        return rc;
    rc = moon_lmdb_env_write(env, tx, run_tick, NULL);
    return rc == 0 ? MDB_NOTFOUND : rc;
}
