#include "state/session_stores.h"

#include "state/lmdb_store.h"
#include "state/memcached_sessions.h"
#include "state/memcached_url.h"
#include "state/redis_sessions.h"
#include "state/redis_url.h"

#include <stdio.h>
#include <stdlib.h>

struct entry {
    struct entry *next;
    struct moon_session_store *store;
    uint32_t refs;
    char *urlz, *shownz;
    uint64_t connect_timeout_ms, timeout_ms; /* of servers */
};

struct moon_session_stores {
    uv_loop_t *loop;
    char *kept_dirz, *memory_dirz, *nodez;
    struct entry *first;
};

static const struct moon_str lmdb_scheme = MOON_STR("lmdb:");
static const struct moon_str memory_scheme = MOON_STR("memory:");
static const struct moon_str memcached_scheme = MOON_STR("memcached://");

/* ---- URLs ---- */

static bool is_of(const char *urlz, struct moon_str scheme)
{
    return moon_str_starts(moon_strz(urlz), scheme);
}

static enum moon_err check_directory(const char *restz, const char *schemez,
                                     char *error, size_t error_size)
{
    bool is_dir = strcmp(schemez, "lmdb:") == 0 && restz[0] == '/';
    if (restz[0] == '\0' || is_dir)
        return MOON_OK;
    (void)snprintf(error, error_size, "%s",
                   strcmp(schemez, "lmdb:") == 0
                       ? "behind lmdb: stands an absolute path, or nothing"
                       : "nothing stands behind memory:");
    return MOON_EINVAL;
}

enum moon_err moon_session_url_check(const char *urlz, struct moon_buf *error)
{
    char why[512] = "";
    struct moon_redis_url *redis = NULL;
    struct moon_memcached_url memcached;
    enum moon_err err;
    if (is_of(urlz, lmdb_scheme))
        err =
            check_directory(urlz + lmdb_scheme.len, "lmdb:", why, sizeof(why));
    else if (is_of(urlz, memory_scheme))
        err = check_directory(urlz + memory_scheme.len, "memory:", why,
                              sizeof(why));
    else if (is_of(urlz, memcached_scheme))
        err = moon_memcached_url_parse(moon_strz(urlz), &memcached, why,
                                       sizeof(why));
    else
        err = moon_redis_url_parse(moon_strz(urlz), &redis, why, sizeof(why));
    if (err == MOON_OK)
        free(redis);
    else
        moon_buf_addz(error, why);
    return err;
}

/* ---- opening ---- */

static enum moon_err open_lmdb(struct moon_session_stores *stores,
                               const struct moon_config *config,
                               struct entry *entry, struct moon_buf *error)
{
    char why[MOON_SESSION_WHY] = "";
    bool temporary = is_of(entry->urlz, memory_scheme);
    const char *dirz = temporary ? stores->memory_dirz : stores->kept_dirz;
    const struct moon_lmdb_store_options options = {
        .size_bytes = config->session_lmdb_size_bytes,
        .temporary = temporary,
    };
    if (!temporary && entry->urlz[lmdb_scheme.len] != '\0')
        dirz = entry->urlz + lmdb_scheme.len;
    enum moon_err err =
        moon_lmdb_store_open(stores->loop, dirz, &options, &entry->store, why);
    if (err != MOON_OK)
        moon_buf_addz(error, why);
    return err;
}

static enum moon_err open_server(struct moon_session_stores *stores,
                                 struct entry *entry, struct moon_buf *error)
{
    char why[512] = "";
    enum moon_err err;
    if (is_of(entry->urlz, memcached_scheme)) {
        err = moon_memcached_sessions_open(stores->loop, entry->urlz,
                                           entry->connect_timeout_ms,
                                           &entry->store, why, sizeof(why));
    } else {
        const struct moon_redis_options options = {
            .connect_timeout_ms = entry->connect_timeout_ms,
            .timeout_ms = entry->timeout_ms,
            .namez = stores->nodez,
        };
        err = moon_redis_sessions_open(stores->loop, entry->urlz, &options,
                                       &entry->store, why, sizeof(why));
    }
    if (err != MOON_OK)
        moon_buf_addz(error, why);
    return err;
}

static void free_entry(struct entry *entry)
{
    if (entry == NULL)
        return;
    free(entry->urlz);
    free(entry->shownz);
    free(entry);
}

static struct entry *make_entry(const struct moon_config *config)
{
    struct entry *entry = calloc(1, sizeof(*entry));
    struct moon_buf shown = {0};
    if (entry == NULL)
        return NULL;
    moon_config_mask_url(moon_strz(config->session_urlz), &shown);
    moon_buf_add_char(&shown, '\0');
    entry->urlz = strdup(config->session_urlz);
    entry->shownz = shown.failed ? NULL : strdup(shown.ptr);
    entry->connect_timeout_ms = config->redis_connect_timeout_ms;
    entry->timeout_ms = config->redis_timeout_ms;
    moon_buf_deinit(&shown);
    if (entry->urlz != NULL && entry->shownz != NULL)
        return entry;
    free_entry(entry);
    return NULL;
}

/* A directory is opened once in a process, whatever else is said of it. */
static bool is_for(const struct entry *entry, const struct moon_config *config)
{
    if (strcmp(entry->urlz, config->session_urlz) != 0)
        return false;
    return is_of(entry->urlz, lmdb_scheme) ||
           is_of(entry->urlz, memory_scheme) ||
           (entry->connect_timeout_ms == config->redis_connect_timeout_ms &&
            entry->timeout_ms == config->redis_timeout_ms);
}

enum moon_err moon_session_stores_get(struct moon_session_stores *stores,
                                      const struct moon_config *config,
                                      struct moon_session_store **out,
                                      struct moon_buf *error)
{
    struct entry *entry = stores->first;
    while (entry != NULL && !is_for(entry, config))
        entry = entry->next;
    if (entry == NULL) {
        entry = make_entry(config);
        enum moon_err err = MOON_ENOMEM;
        if (entry == NULL)
            moon_buf_addz(error, moon_err_text(err));
        else if (is_of(entry->urlz, lmdb_scheme) ||
                 is_of(entry->urlz, memory_scheme))
            err = open_lmdb(stores, config, entry, error);
        else
            err = open_server(stores, entry, error);
        if (err != MOON_OK) {
            free_entry(entry);
            return err;
        }
        entry->next = stores->first;
        stores->first = entry;
    }
    entry->refs++;
    *out = entry->store;
    return MOON_OK;
}

void moon_session_stores_put(struct moon_session_stores *stores,
                             struct moon_session_store *store)
{
    struct entry **at = &stores->first;
    while (*at != NULL && (*at)->store != store)
        at = &(*at)->next;
    struct entry *entry = *at;
    if (entry == NULL || --entry->refs > 0)
        return;
    *at = entry->next;
    store->ops->close(store);
    free_entry(entry);
}

void moon_session_stores_each(struct moon_session_stores *stores,
                              void (*fn)(void *ctx, const char *urlz,
                                         const char *downz),
                              void *ctx)
{
    for (struct entry *at = stores->first; at != NULL; at = at->next)
        fn(ctx, at->shownz, at->store->ops->down(at->store));
}

/* ---- life ---- */

struct moon_session_stores *moon_session_stores_create(
    const struct moon_session_stores_options *options)
{
    struct moon_session_stores *stores = calloc(1, sizeof(*stores));
    if (stores == NULL)
        return NULL;
    stores->loop = options->loop;
    stores->kept_dirz = strdup(options->kept_dirz);
    stores->memory_dirz = strdup(options->memory_dirz);
    stores->nodez = strdup(options->nodez);
    if (stores->kept_dirz != NULL && stores->memory_dirz != NULL &&
        stores->nodez != NULL)
        return stores;
    moon_session_stores_destroy(stores);
    return NULL;
}

void moon_session_stores_destroy(struct moon_session_stores *stores)
{
    if (stores == NULL)
        return;
    while (stores->first != NULL) {
        struct entry *entry = stores->first;
        stores->first = entry->next;
        entry->store->ops->close(entry->store);
        free_entry(entry);
    }
    free(stores->kept_dirz);
    free(stores->memory_dirz);
    free(stores->nodez);
    free(stores);
}
