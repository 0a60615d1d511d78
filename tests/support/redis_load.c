/* Many users of one client, each with one operation under way, most of which
 * carry something that only the right answer can bring back.
 *
 * What is checked: every operation ends exactly once (by its callback, or by
 * being cancelled, or refused at once), in time, and with its own answer. */
#include "redis_driver.h"

#include "base/clock.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FLIGHTS = 1 << 16, /* remembered, to notice callbacks that come twice */
    TOKEN = 96,
    BIG = 60000,
    TIMEOUT_MS = 250,
    KINDS = 8,
};

enum kind {
    DO_ECHO,
    DO_SET,
    DO_GET,
    DO_INCR,
    DO_PIPELINE,
    DO_ATOMIC,
    DO_SCRIPT,
    DO_LARGE
};
enum flight_state { FREE, LIVE, DONE, CANCELLED, REFUSED };

struct user;

/* One operation. */
struct flight {
    struct user *user;
    struct moon_redis_op *op;
    enum flight_state state;
    enum kind kind;
    uint64_t due_ms;
    char token[TOKEN]; /* what must come back */
};

struct user {
    struct load *load;
    struct flight *flight; /* under way, or NULL */
    uint32_t number;
    uint32_t epoch; /* keys are left behind when nobody knows what is in them */
    uint64_t serial;
    uint64_t counter;  /* what INCR said last */
    char value[TOKEN]; /* in its key; "" if nothing was set */
    uint64_t rest_until_ms;
};

struct load {
    struct load *next;
    char *namez;
    struct moon_redis *redis;
    struct moon_redis_script *script;
    struct load_options o;
    uint64_t random;
    uv_timer_t tick;
    bool stopping, closing;
    uint64_t began_ms, started, ended, stall_at_ms;
    uint64_t ok, refused, cancelled, timeouts, closed, other;
    uint64_t error_replies, wrong, twice, late, worst_ms;
    char sample[200]; /* of what was wrong */
    char error_sample[120];
    uint32_t next_flight;
    struct flight *flights;
    char *big;
    struct user users[];
};

static struct load *loads;

static void next(struct user *user);

static uint64_t random_below(struct load *load, uint64_t limit)
{
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return (load->random >> 8) % limit;
}

struct load *load_find(const char *namez)
{
    struct load *load = loads;
    while (load != NULL && strcmp(load->namez, namez) != 0)
        load = load->next;
    return load;
}

/* ---- judging ---- */

static void wrong(struct flight *flight, const char *whatz,
                  const struct redisReply *reply)
{
    struct load *load = flight->user->load;
    struct moon_buf text = {0};
    load->wrong++;
    if (reply != NULL)
        driver_add_reply(&text, reply);
    if (load->sample[0] == '\0')
        (void)snprintf(load->sample, sizeof(load->sample),
                       "%s, kind %d, wanted %.60s, got %.*s", whatz,
                       (int)flight->kind, flight->token,
                       text.len > 80 ? 80 : (int)text.len, text.ptr);
    moon_buf_deinit(&text);
}

static bool is_text(const struct redisReply *reply, const char *textz)
{
    return reply != NULL &&
           (reply->type == REDIS_REPLY_STRING ||
            reply->type == REDIS_REPLY_STATUS) &&
           reply->len == strlen(textz) &&
           memcmp(reply->str, textz, reply->len) == 0;
}

/* A value of this user and key; in a lossy place it may be an older one, or
 * none. */
static bool is_value(const struct user *user, const struct redisReply *reply)
{
    char prefix[40];
    if (user->value[0] == '\0')
        return reply->type == REDIS_REPLY_NIL ||
               reply->type == REDIS_REPLY_STRING;
    if (is_text(reply, user->value))
        return true;
    (void)snprintf(prefix, sizeof(prefix), "%u.%u.", user->number, user->epoch);
    return user->load->o.lossy &&
           (reply->type == REDIS_REPLY_NIL ||
            (reply->type == REDIS_REPLY_STRING &&
             strncmp(reply->str, prefix, strlen(prefix)) == 0));
}

static bool is_next_count(struct user *user, const struct redisReply *reply)
{
    bool right =
        reply->type == REDIS_REPLY_INTEGER &&
        (user->load->o.lossy || (uint64_t)reply->integer == user->counter + 1);
    if (right)
        user->counter = (uint64_t)reply->integer;
    return right;
}

static bool has(const struct redisReply *reply, size_t count)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == count;
}

static bool is_right(struct flight *flight, const struct redisReply *reply)
{
    struct user *user = flight->user;
    switch (flight->kind) {
    case DO_SET:
        if (!is_text(reply, "OK"))
            return false;
        (void)snprintf(user->value, sizeof(user->value), "%s", flight->token);
        return true;
    case DO_GET:
        return is_value(user, reply);
    case DO_INCR:
        return is_next_count(user, reply);
    case DO_PIPELINE: {
        if (!has(reply, 3) || !is_text(reply->element[0], "OK"))
            return false;
        (void)snprintf(user->value, sizeof(user->value), "%s", flight->token);
        return is_text(reply->element[1], flight->token) &&
               is_text(reply->element[2], flight->token);
    }
    case DO_ATOMIC:
        return has(reply, 2) && is_next_count(user, reply->element[0]) &&
               is_text(reply->element[1], flight->token);
    case DO_SCRIPT:
        return has(reply, 2) && is_text(reply->element[1], flight->token);
    case DO_LARGE:
        return reply->type == REDIS_REPLY_STRING &&
               reply->len > strlen(flight->token) &&
               memcmp(reply->str, flight->token, strlen(flight->token)) == 0;
    default:
        return is_text(reply, flight->token);
    }
}

/* Nobody knows whether it was executed: another key. */
static void leave_keys(struct user *user)
{
    user->epoch++;
    user->counter = 0;
    user->value[0] = '\0';
}

static bool writes(enum kind kind)
{
    return kind == DO_SET || kind == DO_INCR || kind == DO_PIPELINE ||
           kind == DO_ATOMIC;
}

/* An error inside of what came back, as a cluster may give. */
static const struct redisReply *find_error(const struct redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR)
        return reply;
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements;
         i++) {
        if (reply->element[i]->type == REDIS_REPLY_ERROR)
            return reply->element[i];
    }
    return NULL;
}

static void judge(struct flight *flight, enum moon_err err,
                  const struct redisReply *reply)
{
    struct user *user = flight->user;
    struct load *load = user->load;
    const struct redisReply *error = err == MOON_OK ? find_error(reply) : NULL;
    if (error != NULL) {
        load->error_replies++;
        (void)snprintf(load->error_sample, sizeof(load->error_sample), "%s",
                       error->str);
    } else if (err == MOON_OK) {
        load->ok++;
        if (!is_right(flight, reply))
            wrong(flight, "not its answer", reply);
        return;
    } else if (err == MOON_ETIMEOUT) {
        load->timeouts++;
    } else if (err == MOON_ECLOSED) {
        load->closed++;
    } else {
        load->other++;
    }
    if (writes(flight->kind))
        leave_keys(user);
}

static void on_done(void *ctx, enum moon_err err, struct redisReply **reply,
                    const char *whyz)
{
    struct flight *flight = ctx;
    struct user *user = flight->user;
    struct load *load = user->load;
    uint64_t now = moon_clock_ms();
    if (flight->state != LIVE || user->flight != flight) {
        load->twice++;
        if (load->sample[0] == '\0')
            (void)snprintf(load->sample, sizeof(load->sample),
                           "a callback in state %d: %d %s", (int)flight->state,
                           (int)err, whyz);
        return;
    }
    flight->state = DONE;
    user->flight = NULL;
    load->ended++;
    if (now > flight->due_ms) {
        uint64_t by = now - flight->due_ms;
        load->late += by > 1000;
        load->worst_ms = by > load->worst_ms ? by : load->worst_ms;
    }
    judge(flight, err, *reply);
    if (random_below(load, 64) == 0 && *reply != NULL) {
        moon_redis_reply_free(*reply); /* taken */
        *reply = NULL;
    }
    if (err != MOON_OK)
        user->rest_until_ms = now + 1;
    else
        next(user);
}

/* ---- asking ---- */

static struct flight *new_flight(struct load *load)
{
    struct flight *flight;
    do {
        flight = &load->flights[load->next_flight++ % FLIGHTS];
    } while (flight->state == LIVE);
    return flight;
}

static struct moon_str text_of(const char *z)
{
    return moon_strz(z);
}

static enum moon_err send_one(struct flight *flight,
                              const struct moon_redis_how *how)
{
    struct user *user = flight->user;
    struct load *load = user->load;
    struct moon_redis *redis = load->redis;
    char key[TOKEN], count[TOKEN];
    struct moon_str token = text_of(flight->token);
    (void)snprintf(key, sizeof(key), "{%d.%s.%u.%u}v", (int)getpid(),
                   load->namez, user->number, user->epoch);
    (void)snprintf(count, sizeof(count), "{%d.%s.%u.%u}n", (int)getpid(),
                   load->namez, user->number, user->epoch);
    const struct moon_str echo[] = {text_of("ECHO"), token};
    const struct moon_str set[] = {text_of("SET"), text_of(key), token};
    const struct moon_str get[] = {text_of("GET"), text_of(key)};
    const struct moon_str incr[] = {text_of("INCR"), text_of(count)};
    const struct moon_str args[] = {text_of(key), token};
    const struct moon_redis_command one[] = {
        [DO_ECHO] = {echo, 2, 0},
        [DO_SET] = {set, 3, 1},
        [DO_GET] = {get, 2, 1},
        [DO_INCR] = {incr, 2, 1},
    };
    const struct moon_redis_command pipeline[] = {one[DO_SET], one[DO_GET],
                                                  one[DO_ECHO]};
    const struct moon_redis_command atomic[] = {one[DO_INCR], one[DO_ECHO]};
    switch (flight->kind) {
    case DO_PIPELINE:
        return moon_redis_send(redis, pipeline, 3, how, &flight->op);
    case DO_ATOMIC:
        return moon_redis_send(redis, atomic, 2, how, &flight->op);
    case DO_SCRIPT:
        return moon_redis_eval(load->script, args, 1, 1, how, &flight->op);
    case DO_LARGE: {
        size_t len = 1000 + random_below(load, BIG - 1000);
        memcpy(load->big, flight->token, token.len);
        load->big[token.len] = 'x';
        const struct moon_str large[] = {text_of("ECHO"),
                                         moon_str(load->big, len)};
        const struct moon_redis_command command = {large, 2, 0};
        return moon_redis_send(redis, &command, 1, how, &flight->op);
    }
    default:
        return moon_redis_send(redis, &one[flight->kind], 1, how, &flight->op);
    }
}

static enum kind choose(struct load *load)
{
    static const enum kind often[] = {DO_ECHO, DO_ECHO, DO_SET,      DO_GET,
                                      DO_GET,  DO_INCR, DO_PIPELINE, DO_SCRIPT};
    uint64_t dice = random_below(load, 200);
    if (dice == 0)
        return DO_LARGE;
    if (dice < 10)
        return DO_ATOMIC;
    return often[random_below(load, MOON_COUNT(often))];
}

static bool may_start(const struct load *load)
{
    return !load->stopping && (load->o.ops == 0 || load->started < load->o.ops);
}

static void next(struct user *user)
{
    struct load *load = user->load;
    if (user->flight != NULL || !may_start(load))
        return;
    struct flight *flight = new_flight(load);
    uint64_t timeout_ms = TIMEOUT_MS;
    if (!load->o.gentle && random_below(load, 20) == 0)
        timeout_ms = 1 + random_below(load, 5);
    *flight = (struct flight){
        .user = user,
        .kind = choose(load),
        .due_ms = moon_clock_ms() + timeout_ms,
    };
    (void)snprintf(flight->token, sizeof(flight->token), "%u.%u.%llu",
                   user->number, user->epoch,
                   (unsigned long long)++user->serial);
    struct moon_redis_how how = {
        .flags = flight->kind == DO_ATOMIC ? MOON_REDIS_ATOMIC : 0,
        .timeout_ms = timeout_ms,
        .done = on_done,
        .ctx = flight,
    };
    if ((flight->kind == DO_ECHO || flight->kind == DO_GET) &&
        random_below(load, 2) == 0)
        how.flags = MOON_REDIS_READ_ONLY;
    load->started++;
    user->flight = flight;
    flight->state = LIVE;
    enum moon_err err = send_one(flight, &how);
    if (err != MOON_OK) {
        flight->state = REFUSED;
        user->flight = NULL;
        load->ended++;
        load->refused++;
        user->rest_until_ms = moon_clock_ms() + 2;
    } else if (!load->o.gentle && random_below(load, 30) == 0) {
        flight->state = CANCELLED;
        moon_redis_cancel(flight->op);
        user->flight = NULL;
        load->ended++;
        load->cancelled++;
        if (writes(flight->kind))
            leave_keys(user);
        user->rest_until_ms = moon_clock_ms();
    }
}

static void cancel_some(struct load *load)
{
    for (int i = 0; i < 2; i++) {
        struct user *user = &load->users[random_below(load, load->o.users)];
        struct flight *flight = user->flight;
        if (flight == NULL)
            continue;
        flight->state = CANCELLED;
        user->flight = NULL;
        moon_redis_cancel(flight->op);
        load->ended++;
        load->cancelled++;
        if (writes(flight->kind))
            leave_keys(user);
    }
}

/* ---- the end ---- */

static void report(struct load *load)
{
    struct moon_buf line = {0};
    uint64_t never = 0;
    for (uint32_t i = 0; i < FLIGHTS; i++)
        never += load->flights[i].state == LIVE;
    never += load->started - load->ended;
    moon_buf_addz(&line, "{\"event\":\"load\",\"name\":");
    moon_buf_add_json(&line, text_of(load->namez));
#define FIELD(name, value) \
    moon_buf_printf(&line, ",\"" name "\":%llu", (unsigned long long)(value))
    FIELD("ms", moon_clock_ms() - load->began_ms);
    FIELD("ops", load->started);
    FIELD("ok", load->ok);
    FIELD("refused", load->refused);
    FIELD("cancelled", load->cancelled);
    FIELD("timeouts", load->timeouts);
    FIELD("closed", load->closed);
    FIELD("other", load->other);
    FIELD("error_replies", load->error_replies);
    FIELD("wrong", load->wrong);
    FIELD("twice", load->twice);
    FIELD("never", never);
    FIELD("late", load->late);
    FIELD("worst_ms", load->worst_ms);
#undef FIELD
    moon_buf_addz(&line, ",\"sample\":");
    moon_buf_add_json(&line, text_of(load->sample));
    moon_buf_addz(&line, ",\"error_sample\":");
    moon_buf_add_json(&line, text_of(load->error_sample));
    moon_buf_addz(&line, "}\n");
    driver_say(&line);
}

static void on_closed(uv_handle_t *handle)
{
    struct load *load = handle->data;
    struct load **at = &loads;
    while (*at != load)
        at = &(*at)->next;
    *at = load->next;
    moon_redis_script_unref(load->script);
    moon_redis_unref(load->redis);
    free(load->flights);
    free(load->big);
    free(load->namez);
    free(load);
}

static void on_tick(uv_timer_t *timer)
{
    struct load *load = timer->data;
    uint64_t now = moon_clock_ms();
    bool idle = true;
    if (load->o.max_ms > 0 && now - load->began_ms > load->o.max_ms)
        load->stopping = true;
    if (!load->o.gentle)
        cancel_some(load);
    for (uint32_t i = 0; i < load->o.users; i++) {
        struct user *user = &load->users[i];
        if (user->flight == NULL && user->rest_until_ms <= now)
            next(user);
        idle = idle && user->flight == NULL;
    }
    if (!load->o.gentle && now >= load->stall_at_ms) {
        driver_stall(5 + random_below(load, 50));
        load->stall_at_ms = moon_clock_ms() + 500 + random_below(load, 1000);
    }
    if (idle && !may_start(load) && !load->closing) {
        load->closing = true;
        report(load);
        uv_close((uv_handle_t *)&load->tick, on_closed);
    }
}

void load_stop(struct load *load)
{
    load->stopping = true;
}

void load_stop_all(void)
{
    for (struct load *load = loads; load != NULL; load = load->next)
        load_stop(load);
}

struct load *load_start(const char *namez, struct moon_redis *redis,
                        const struct load_options *options)
{
    struct load *load =
        calloc(1, sizeof(*load) + options->users * sizeof(struct user));
    if (load == NULL)
        abort();
    load->namez = strdup(namez);
    load->redis = redis;
    load->o = *options;
    load->random = options->seed * 2654435761u + 88172645463325252u;
    load->flights = calloc(FLIGHTS, sizeof(*load->flights));
    load->big = malloc(BIG);
    load->script =
        moon_redis_script_get(redis, MOON_STR("return {KEYS[1], ARGV[1]}"));
    if (load->namez == NULL || load->flights == NULL || load->big == NULL ||
        load->script == NULL)
        abort();
    memset(load->big, 'x', BIG);
    moon_redis_ref(redis);
    load->began_ms = moon_clock_ms();
    load->stall_at_ms = load->began_ms + 500;
    load->next = loads;
    loads = load;
    for (uint32_t i = 0; i < options->users; i++)
        load->users[i] = (struct user){.load = load, .number = i};
    (void)uv_timer_init(&driver_loop, &load->tick);
    load->tick.data = load;
    (void)uv_timer_start(&load->tick, on_tick, 0, 1);
    return load;
}
