#include "state/session_stores.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "state/lmdb_store.h"
#include "state/memcached_sessions.h"
#include "state/memcached_url.h"
#include "state/redis_sessions.h"
#include "state/redis_url.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOUCHES_MAX = 1000, TOUCH_MS = 250 };

/* Outlives the request that asked for it. */
struct touch {
    struct touch *next, **link;
    struct moon_session_op op;
    struct moon_session_key key;
};

struct moon_session_source {
    struct moon_session_source *next;
    struct moon_session_stores *stores;
    struct moon_session_store *store; /* NULL: not opened yet */
    uint32_t refs;
    char *urlz, *shownz;
    uint64_t connect_timeout_ms, timeout_ms; /* of servers */
    uint64_t size_bytes;                     /* of an embedded one */
    struct touch *touches;
    uint32_t touch_count;
    bool asked, works, told; /* see moon_session_source_works */
};

struct moon_session_stores {
    uv_loop_t *loop;
    char *kept_dirz, *memory_dirz, *nodez;
    bool temporary;
    struct moon_session_source *first;
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
        moon_buf_printf(error, "session.url: %s", why);
    return err;
}

/* ---- opening ---- */

static bool is_embedded(const struct moon_session_source *source)
{
    return is_of(source->urlz, lmdb_scheme) ||
           is_of(source->urlz, memory_scheme);
}

static enum moon_err open_embedded(struct moon_session_source *source,
                                   char *why)
{
    const struct moon_session_stores *stores = source->stores;
    bool temporary = is_of(source->urlz, memory_scheme);
    const char *dirz = temporary ? stores->memory_dirz : stores->kept_dirz;
    const struct moon_lmdb_store_options options = {
        .size_bytes = source->size_bytes,
        .temporary = temporary,
    };
    if (!temporary && source->urlz[lmdb_scheme.len] != '\0')
        dirz = source->urlz + lmdb_scheme.len;
    return moon_lmdb_store_open(stores->loop, dirz, &options, &source->store,
                                why);
}

static enum moon_err open_server(struct moon_session_source *source,
                                 struct moon_buf *error)
{
    char why[512] = "";
    const struct moon_session_stores *stores = source->stores;
    enum moon_err err;
    if (is_of(source->urlz, memcached_scheme)) {
        err = moon_memcached_sessions_open(stores->loop, source->urlz,
                                           source->connect_timeout_ms,
                                           &source->store, why, sizeof(why));
    } else {
        const struct moon_redis_options options = {
            .connect_timeout_ms = source->connect_timeout_ms,
            .timeout_ms = source->timeout_ms,
            .namez = stores->nodez,
        };
        err = moon_redis_sessions_open(stores->loop, source->urlz, &options,
                                       &source->store, why, sizeof(why));
    }
    if (err != MOON_OK)
        moon_buf_addz(error, why);
    return err;
}

static void free_source(struct moon_session_source *source)
{
    if (source == NULL)
        return;
    free(source->urlz);
    free(source->shownz);
    free(source);
}

static const char *url_for(const struct moon_session_stores *stores,
                           const struct moon_config *config)
{
    return stores->temporary ? memory_scheme.ptr : config->session_urlz;
}

static struct moon_session_source *make_source(
    struct moon_session_stores *stores, const struct moon_config *config)
{
    struct moon_session_source *source = calloc(1, sizeof(*source));
    struct moon_buf shown = {0};
    if (source == NULL)
        return NULL;
    source->stores = stores;
    source->urlz = strdup(url_for(stores, config));
    source->connect_timeout_ms = config->redis_connect_timeout_ms;
    source->timeout_ms = config->redis_timeout_ms;
    source->size_bytes = config->session_lmdb_size_bytes;
    moon_config_mask_url(moon_strz(url_for(stores, config)), &shown);
    moon_buf_add_char(&shown, '\0');
    source->shownz = shown.failed ? NULL : strdup(shown.ptr);
    moon_buf_deinit(&shown);
    if (source->urlz != NULL && source->shownz != NULL)
        return source;
    free_source(source);
    return NULL;
}

static bool is_for(const struct moon_session_source *source, const char *urlz,
                   const struct moon_config *config)
{
    return strcmp(source->urlz, urlz) == 0 &&
           (is_embedded(source) ||
            (source->connect_timeout_ms == config->redis_connect_timeout_ms &&
             source->timeout_ms == config->redis_timeout_ms));
}

static enum moon_err add_source(struct moon_session_stores *stores,
                                const struct moon_config *config,
                                struct moon_session_source **out,
                                struct moon_buf *error)
{
    enum moon_err err = moon_session_url_check(url_for(stores, config), error);
    if (err != MOON_OK)
        return err;
    struct moon_session_source *source = make_source(stores, config);
    if (source == NULL) {
        moon_buf_addz(error, moon_err_text(MOON_ENOMEM));
        return MOON_ENOMEM;
    }
    if (!is_embedded(source))
        err = open_server(source, error);
    if (err != MOON_OK) {
        free_source(source);
        return err;
    }
    source->next = stores->first;
    stores->first = source;
    *out = source;
    return MOON_OK;
}

enum moon_err moon_session_stores_get(struct moon_session_stores *stores,
                                      const struct moon_config *config,
                                      struct moon_session_source **out,
                                      struct moon_buf *error)
{
    struct moon_session_source *source = stores->first;
    const char *urlz = url_for(stores, config);
    while (source != NULL && !is_for(source, urlz, config))
        source = source->next;
    if (source == NULL) {
        enum moon_err err = add_source(stores, config, &source, error);
        if (err != MOON_OK)
            return err;
    }
    source->refs++;
    *out = source;
    return MOON_OK;
}

struct moon_session_store *moon_session_source_store(
    struct moon_session_source *source)
{
    char why[MOON_SESSION_WHY];
    if (source->store == NULL && open_embedded(source, why) != MOON_OK)
        moon_log(MOON_LOG_ERROR, "%s", why);
    return source->store;
}

/* ---- closing ---- */

static void free_touch(struct moon_session_source *source, struct touch *touch)
{
    *touch->link = touch->next;
    if (touch->next != NULL)
        touch->next->link = touch->link;
    source->touch_count--;
    free(touch);
}

static void close_source(struct moon_session_source *source)
{
    struct moon_session_store *store = source->store;
    struct touch *touch = source->touches;
    while (touch != NULL) {
        struct touch *next = touch->next;
        store->ops->cancel(store, &touch->op);
        free(touch);
        touch = next;
    }
    if (store != NULL)
        store->ops->close(store);
    free_source(source);
}

void moon_session_source_put(struct moon_session_source *source)
{
    /* A process must not open a directory that it is still closing. */
    if (--source->refs > 0 || is_embedded(source))
        return;
    struct moon_session_source **at = &source->stores->first;
    while (*at != source)
        at = &(*at)->next;
    *at = source->next;
    close_source(source);
}

/* ---- touching ---- */

static void on_touched(struct moon_session_op *op)
{
    free_touch(op->ctx, MOON_CONTAINER(op, struct touch, op));
}

/* Is it under way? `done` was called if not, unless memory is out. */
static bool begin_touch(struct moon_session_source *source,
                        const struct moon_session_key *key,
                        moon_session_done *done)
{
    struct moon_session_store *store = source->store;
    if (store == NULL || source->touch_count == TOUCHES_MAX)
        return false;
    struct touch *touch = calloc(1, sizeof(*touch));
    if (touch == NULL)
        return false;
    touch->key = *key;
    touch->op.done = done;
    touch->op.ctx = source;
    touch->op.deadline_ms = moon_clock_ms() + TOUCH_MS;
    touch->next = source->touches;
    touch->link = &source->touches;
    if (touch->next != NULL)
        touch->next->link = &touch->next;
    source->touches = touch;
    source->touch_count++;
    if (store->ops->touch(store, &touch->op, &touch->key,
                          (int64_t)(moon_clock_wall() * 1000)) == MOON_EAGAIN)
        return true;
    done(&touch->op);
    return false;
}

void moon_session_source_touch(struct moon_session_source *source,
                               const struct moon_session_key *key)
{
    (void)begin_touch(source, key, on_touched);
}

/* ---- what others may know ---- */

static void on_asked(struct moon_session_op *op)
{
    struct moon_session_source *source = op->ctx;
    source->asked = false;
    source->works = op->err == MOON_OK || op->err == MOON_ENOT_FOUND;
    if (!source->works && !source->told &&
        moon_session_source_down(source) == NULL) {
        source->told = true;
        moon_log(MOON_LOG_WARN, "%s cannot keep sessions: %s", source->shownz,
                 op->why[0] != '\0' ? op->why : moon_err_text(op->err));
    }
    on_touched(op);
}

bool moon_session_source_works(struct moon_session_source *source)
{
    if (source->works || is_embedded(source))
        return true;
    if (!source->asked && moon_session_source_down(source) == NULL) {
        struct moon_session_key nobodys;
        moon_random_bytes(nobodys.bytes, sizeof(nobodys.bytes));
        source->asked = begin_touch(source, &nobodys, on_asked);
    }
    return source->works;
}

const char *moon_session_source_down(const struct moon_session_source *source)
{
    return source->store == NULL ? NULL
                                 : source->store->ops->down(source->store);
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
    stores->temporary = options->temporary;
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
        struct moon_session_source *source = stores->first;
        stores->first = source->next;
        close_source(source);
    }
    free(stores->kept_dirz);
    free(stores->memory_dirz);
    free(stores->nodez);
    free(stores);
}
