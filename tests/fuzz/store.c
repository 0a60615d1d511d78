/* Clients of stores against servers that say anything: Redis alone, behind
 * sentinels and as a cluster, and memcached. Commands, scripts, subscriptions,
 * limits of a cluster and every operation on sessions. Each callback comes
 * once, what is reported as read can be used, and when all is given back
 * nothing is left.
 *
 * Input: a kind, a byte of flags, how many operations, one byte for each, and
 * then chunks for the servers (fake_server.h). */
#include "fake_server.h"

#include "base/clock.h"
#include "state/cluster_limits.h"
#include "state/memcached_sessions.h"
#include "state/redis_sessions.h"

#include <hiredis/hiredis.h>

enum { ASKED = 6, OPERATIONS = 20, TURNS = 40 };

enum kind { SINGLE, SENTINEL, CLUSTER, MEMCACHED, KINDS };

/* One operation, and how often it was called back. */
struct asked {
    struct moon_session_op op; /* of a session */
    struct moon_redis_own *own;
    struct moon_redis_sub *sub;
    struct moon_cluster_ask ask;
    unsigned expected, fired;
};

struct world {
    uv_loop_t loop;
    uv_timer_t keep; /* the loop may be idle and still has to turn */
    struct moon_session_store *store;
    struct moon_redis *redis; /* NULL: memcached */
    struct moon_redis_script *script;
    struct moon_cluster_limits *limits;
    struct moon_cluster_news news;
    struct asked asked[ASKED];
};

static struct world w;

static const char *const urls[KINDS] = {
    "redis://:secret@127.0.0.1:6379/3",
    "redis+sentinel://127.0.0.1:26379,127.0.0.2/mymaster",
    "redis+cluster://127.0.0.1:7000,127.0.0.2:7001",
    "memcached://127.0.0.1:11211,127.0.0.2",
};

/* ---- commands ---- */

/* Looks at all of a reply, so that a sanitizer does. */
static void use_reply(const redisReply *reply, struct moon_buf *to)
{
    moon_buf_add(to, reply->str, reply->str == NULL ? 0 : reply->len);
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements;
         i++) {
        if (reply->element[i] != NULL)
            use_reply(reply->element[i], to);
    }
}

static void on_done(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct asked *asked = ctx;
    struct moon_buf text = {0};
    asked->fired++;
    FUZZ_CHECK(err != MOON_OK ? whyz != NULL : *reply != NULL);
    if (*reply != NULL)
        use_reply(*reply, &text);
    moon_buf_deinit(&text);
}

static void expect(struct asked *asked, enum moon_err err)
{
    asked->expected += err == MOON_OK;
    FUZZ_CHECK(err == MOON_OK || moon_redis_whyz()[0] != '\0');
}

static void send_commands(struct asked *asked, uint32_t count, uint32_t flags)
{
    static const struct moon_str get[] = {MOON_STR("GET"), MOON_STR("{k}a")};
    static const struct moon_redis_command commands[] = {
        {get, 2, 1}, {get, 2, 1}, {get, 2, 1}};
    const struct moon_redis_how how = {
        .flags = flags, .done = on_done, .ctx = asked};
    expect(asked, moon_redis_send(w.redis, commands, count, &how, NULL));
}

static void send_script(struct asked *asked)
{
    static const struct moon_str argv[] = {MOON_STR("k"), MOON_STR("1")};
    const struct moon_redis_how how = {.done = on_done, .ctx = asked};
    expect(asked, moon_redis_eval(w.script, argv, 1, 1, &how, NULL));
}

static void on_own(void *ctx, enum moon_err err, const char *whyz)
{
    static const struct moon_str pop[] = {MOON_STR("BLPOP"), MOON_STR("k"),
                                          MOON_STR("1")};
    static const struct moon_redis_command command = {pop, 3, 1};
    struct asked *asked = ctx;
    const struct moon_redis_how how = {.done = on_done, .ctx = asked};
    FUZZ_CHECK(err == MOON_OK || whyz != NULL);
    asked->fired++;
    if (err == MOON_OK)
        expect(asked, moon_redis_own_send(asked->own, &command, 1, &how, NULL));
}

static void take_own(struct asked *asked)
{
    expect(asked, moon_redis_own_take(w.redis, MOON_STR("k"), 0, on_own, asked,
                                      &asked->own));
}

static void on_message(void *ctx, struct moon_str channel,
                       struct moon_str payload)
{
    (void)ctx;
    (void)fuzz_seed(channel);
    (void)fuzz_seed(payload);
}

static void on_news(void *ctx, enum moon_redis_news news, const char *whyz)
{
    (void)ctx;
    FUZZ_CHECK(news != MOON_REDIS_REFUSED || whyz != NULL);
}

static void subscribe(struct asked *asked, bool pattern)
{
    const struct moon_redis_listener listener = {on_message, on_news, asked};
    FUZZ_CHECK(moon_redis_subscribe(w.redis, MOON_STR("c"), pattern, &listener,
                                    &asked->sub) == MOON_OK);
}

/* ---- limits ---- */

static void on_told(struct moon_cluster_ask *ask)
{
    struct asked *asked = ask->ctx;
    asked->fired++;
    if (!ask->failed)
        FUZZ_CHECK(ask->result.retry_ns <= INT64_MAX);
    moon_cluster_ask_undo(ask);
}

static void ask_limit(struct asked *asked, uint32_t which)
{
    static const struct moon_rate rates[] = {
        {MOON_RATE_TOKEN_BUCKET, 10, 100000000, 1000000000},
        {MOON_RATE_LEAKY_BUCKET, 10, 100000000, 1000000000},
        {MOON_RATE_SLIDING_WINDOW, 10, 0, 1000000000},
        {MOON_RATE_CONCURRENCY, 10, 0, 1000000000},
    };
    moon_cluster_ask_init(&asked->ask, w.limits, &rates[which % 4],
                          MOON_STR("limit"), MOON_STR("key"));
    asked->ask.ctx = asked;
    if (moon_cluster_ask_take(&asked->ask, 1, on_told) == MOON_EAGAIN)
        asked->expected++;
    else
        FUZZ_CHECK(asked->ask.failed);
}

/* ---- sessions ---- */

static void use_result(struct moon_session_op *op)
{
    struct moon_session_record *record = op->record;
    if (record != NULL) {
        FUZZ_CHECK(op->err == MOON_OK);
        (void)fuzz_seed(record->subject);
        for (uint32_t i = 0; i < record->field_count; i++) {
            (void)fuzz_seed(record->fields[i].name);
            (void)fuzz_seed(record->fields[i].value);
        }
    }
    if (op->list != NULL)
        FUZZ_CHECK(op->err == MOON_OK &&
                   op->list->count <= MOON_REDIS_SESSIONS_LIST_MAX);
    free(op->record);
    free(op->list);
}

static void on_session(struct moon_session_op *op)
{
    struct asked *asked = op->ctx;
    asked->fired++;
    use_result(op);
}

static enum moon_err start_session(struct moon_session_op *op, uint32_t which)
{
    static const struct moon_session_key key = {{1}}, other = {{1, 2}};
    static const struct moon_session_field fields[] = {
        {MOON_STR("a"), MOON_STR("1")}, {MOON_STR("b"), {NULL, 0}}};
    static const struct moon_session_change change = {
        .now_ms = 1000,
        .idle_ms = 5000,
        .expires_ms = MOON_SESSION_NEVER,
        .sets_subject = true,
        .subject = MOON_STR("somebody"),
        .fields = fields,
        .field_count = MOON_COUNT(fields),
    };
    static const struct moon_session_change plain = {
        .if_version = 2,
        .now_ms = 1000,
        .idle_ms = MOON_SESSION_NEVER,
        .expires_ms = 9000,
    };
    struct moon_session_store *store = w.store;
    switch (which % 8) {
    case 0:
        return store->ops->load(store, op, &key, 1000);
    case 1:
        return store->ops->save(store, op, &key, &change);
    case 2:
        return store->ops->save(store, op, &key, &plain);
    case 3:
        return store->ops->move(store, op, &key, &other, &plain);
    case 4:
        return store->ops->touch(store, op, &key, 1000);
    case 5:
        return store->ops->remove(store, op, &key);
    case 6:
        return store->ops->list(store, op, MOON_STR("somebody"), 1000);
    default:
        return store->ops->remove_all(store, op, MOON_STR("somebody"));
    }
}

static void ask_session(struct asked *asked, uint32_t which)
{
    asked->op = (struct moon_session_op){
        .done = on_session,
        .ctx = asked,
        .deadline_ms = moon_clock_ms() + 250,
    };
    enum moon_err err = start_session(&asked->op, which);
    FUZZ_CHECK(err == MOON_EAGAIN || err == asked->op.err);
    if (err == MOON_EAGAIN)
        asked->expected++;
    else
        use_result(&asked->op);
}

/* ---- one input ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_be_quiet();
    return 0;
}

static void start(struct asked *asked, uint32_t what)
{
    if (w.redis == NULL || (what >= 8 && what < 16)) {
        ask_session(asked, what);
        return;
    }
    if (what >= 16) {
        ask_limit(asked, what);
        return;
    }
    switch (what) {
    case 0:
        send_commands(asked, 1, 0);
        break;
    case 1:
        send_commands(asked, 3, MOON_REDIS_READ_ONLY);
        break;
    case 2:
        send_commands(asked, 2, MOON_REDIS_ATOMIC);
        break;
    case 3:
        send_script(asked);
        break;
    case 4:
        take_own(asked);
        break;
    case 5:
    case 6:
        subscribe(asked, what == 6);
        break;
    default:
        ask_session(asked, 0);
        break;
    }
}

static void on_keep(uv_timer_t *timer)
{
    (void)timer;
}

static void turns(int count)
{
    while (count-- > 0) {
        (void)uv_run(&w.loop, UV_RUN_NOWAIT);
        fake_server_turn();
    }
}

static void open_store(enum kind kind)
{
    char error[300] = "";
    enum moon_err err =
        kind == MEMCACHED
            ? moon_memcached_sessions_open(&w.loop, urls[kind], 0, &w.store,
                                           error, sizeof(error))
            : moon_redis_sessions_open(&w.loop, urls[kind], NULL, &w.store,
                                       error, sizeof(error));
    FUZZ_CHECK(err == MOON_OK);
    if (kind == MEMCACHED)
        return;
    FUZZ_CHECK(moon_redis_get(&w.loop, urls[kind], NULL, &w.redis, error,
                              sizeof(error)) == MOON_OK);
    w.script = moon_redis_script_get(w.redis, MOON_STR("return 1"));
    FUZZ_CHECK(w.script != NULL);
    const struct moon_cluster_limits_options options = {
        .urlz = urls[kind],
        .nodez = "node",
        .connect_timeout_ms = 1000,
        .timeout_ms = 250,
        .news = &w.news,
    };
    FUZZ_CHECK(moon_cluster_limits_create(&w.loop, &options, &w.limits, error,
                                          sizeof(error)) == MOON_OK);
}

/* What is under way fails; then everything is given back. */
static void close_store(void)
{
    fake_server_stop();
    turns(5);
    moon_redis_close_all();
    for (int i = 0; i < ASKED; i++) {
        if (w.asked[i].sub != NULL)
            moon_redis_unsubscribe(w.asked[i].sub);
    }
    turns(5);
    uint64_t until = moon_clock_ms() + 15000;
    for (int i = 0; i < ASKED; i++) {
        /* Memcached waits for its next probe, or the operation's deadline. */
        while (w.asked[i].fired < w.asked[i].expected &&
               moon_clock_ms() < until)
            (void)uv_run(&w.loop, UV_RUN_ONCE);
        FUZZ_CHECK(w.asked[i].fired == w.asked[i].expected);
        if (w.asked[i].own != NULL)
            moon_redis_own_close(w.asked[i].own);
    }
    w.store->ops->close(w.store);
    if (w.redis != NULL) {
        moon_cluster_limits_destroy(w.limits);
        moon_redis_script_unref(w.script);
        moon_redis_unref(w.redis);
    }
    uv_close((uv_handle_t *)&w.keep, NULL);
    (void)uv_run(&w.loop, UV_RUN_DEFAULT);
    FUZZ_CHECK(uv_loop_close(&w.loop) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    enum kind kind = (enum kind)fuzz_below(&bytes, KINDS);
    uint8_t flags = fuzz_byte(&bytes);
    uint32_t count = fuzz_below(&bytes, ASKED + 1);
    uint32_t what[ASKED];
    for (uint32_t i = 0; i < count; i++)
        what[i] = fuzz_below(&bytes, OPERATIONS);
    memset(&w, 0, sizeof(w));
    FUZZ_CHECK(uv_loop_init(&w.loop) == 0);
    (void)uv_timer_init(&w.loop, &w.keep);
    (void)uv_timer_start(&w.keep, on_keep, 1, 1);
    fake_server_start(&bytes, (flags & 1) == 0);
    open_store(kind);
    turns((flags & 2) ? 0 : 4); /* some are asked before there is a link */
    for (uint32_t i = 0; i < count; i++) {
        start(&w.asked[i], what[i]);
        turns((flags & 4) ? 0 : 2);
    }
    turns(TURNS);
    close_store();
    return 0;
}
