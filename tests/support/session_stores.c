#include "session_stores.h"

#include "base/clock.h"
#include "state/lmdb_files.h"
#include "state/lmdb_store.h"
#include "state/memcached_sessions.h"
#include "state/redis_sessions.h"

#include <stdio.h>

enum { OPEN_WAIT_MS = 10000 };

static const char *rest_of(const char *urlz, const char *schemez)
{
    size_t len = strlen(schemez);
    return strncmp(urlz, schemez, len) == 0 ? urlz + len : NULL;
}

bool store_prepare(const char *urlz, char prepared[STORE_URL])
{
    char dir[MOON_LMDB_PRIVATE_DIR];
    enum moon_err err = MOON_OK;
    if (strcmp(urlz, "memory:") == 0) {
        err = moon_lmdb_private_dir_name("/tmp", dir);
        (void)snprintf(prepared, STORE_URL, "memory:%s", dir);
    } else {
        (void)snprintf(prepared, STORE_URL, "%s", urlz);
    }
    if (err != MOON_OK)
        (void)fprintf(stderr, "%s: %s\n", urlz, moon_err_text(err));
    return err == MOON_OK;
}

void store_release(const char *preparedz)
{
    const char *dirz = rest_of(preparedz, "memory:");
    if (dirz != NULL)
        moon_lmdb_private_dir_remove(dirz);
}

static enum moon_err open_lmdb(uv_loop_t *loop, const char *dirz,
                               bool temporary,
                               struct moon_session_store **store,
                               char why[MOON_SESSION_WHY])
{
    struct moon_lmdb_store_options options = {.temporary = temporary,
                                              .open_wait_ms = OPEN_WAIT_MS};
    return moon_lmdb_store_open(loop, dirz, &options, store, why);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Servers are connected to from the loop, which a store that nobody asks
 * anything does not keep alive. */
static const char *wait_until_up(uv_loop_t *loop,
                                 struct moon_session_store *store)
{
    uint64_t until_ms = moon_clock_ms() + OPEN_WAIT_MS;
    const char *downz;
    uv_timer_t timer;
    (void)uv_timer_init(loop, &timer);
    (void)uv_timer_start(&timer, on_tick, 1, 1);
    while ((downz = store->ops->down(store)) != NULL &&
           moon_clock_ms() < until_ms)
        (void)uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(loop, UV_RUN_NOWAIT);
    return downz;
}

bool store_open(uv_loop_t *loop, const char *preparedz,
                struct moon_session_store **store)
{
    char why[512] = "no such kind of store";
    enum moon_err err = MOON_EINVAL;
    const char *restz;
    if ((restz = rest_of(preparedz, "lmdb:")) != NULL)
        err = open_lmdb(loop, restz, false, store, why);
    else if ((restz = rest_of(preparedz, "memory:")) != NULL)
        err = open_lmdb(loop, restz, true, store, why);
    else if (rest_of(preparedz, "memcached:") != NULL)
        err = moon_memcached_sessions_open(loop, preparedz, 0, store, why,
                                           sizeof(why));
    else if (rest_of(preparedz, "redis") != NULL)
        err = moon_redis_sessions_open(loop, preparedz, NULL, store, why,
                                       sizeof(why));
    const char *downz = err != MOON_OK ? why : wait_until_up(loop, *store);
    if (downz != NULL)
        (void)fprintf(stderr, "%s: %s\n", preparedz, downz);
    if (err == MOON_OK && downz != NULL)
        (*store)->ops->close(*store);
    return downz == NULL;
}
