#include "session_stores.h"

#include "state/lmdb_files.h"
#include "state/lmdb_store.h"

#include <stdio.h>

static const char *rest_of(const char *urlz, const char *schemez)
{
    size_t len = strlen(schemez);
    return strncmp(urlz, schemez, len) == 0 ? urlz + len : NULL;
}

bool store_prepare(const char *urlz, char prepared[STORE_URL])
{
    char dir[STORE_URL - 16];
    int sys = 0;
    if (strcmp(urlz, "memory:") == 0) {
        sys = moon_lmdb_private_dir_make("/tmp", dir, sizeof(dir));
        (void)snprintf(prepared, STORE_URL, "memory:%s", dir);
    } else {
        (void)snprintf(prepared, STORE_URL, "%s", urlz);
    }
    if (sys != 0)
        (void)fprintf(stderr, "%s: %s\n", urlz, strerror(sys));
    return sys == 0;
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
                                              .open_wait_ms = 10000};
    return moon_lmdb_store_open(loop, dirz, &options, store, why);
}

bool store_open(uv_loop_t *loop, const char *preparedz,
                struct moon_session_store **store)
{
    char why[MOON_SESSION_WHY] = "no such kind of store";
    enum moon_err err = MOON_EINVAL;
    const char *restz;
    if ((restz = rest_of(preparedz, "lmdb:")) != NULL)
        err = open_lmdb(loop, restz, false, store, why);
    else if ((restz = rest_of(preparedz, "memory:")) != NULL)
        err = open_lmdb(loop, restz, true, store, why);
    const char *downz = err != MOON_OK ? why : (*store)->ops->down(*store);
    if (downz != NULL)
        (void)fprintf(stderr, "%s: %s\n", preparedz, downz);
    if (err == MOON_OK && downz != NULL)
        (*store)->ops->close(*store);
    return downz == NULL;
}
