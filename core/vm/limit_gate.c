#include "vm/limit_gate.h"

#include "base/digits.h"
#include "base/log.h"
#include "state/cluster_limits.h"
#include "state/metrics.h"
#include "vm/limit_hold.h"

#include <stdlib.h>

#define SECOND_NS 1000000000ull

void moon_limit_set_init(struct moon_limit_set *set, struct moon_limits *table)
{
    *set = (struct moon_limit_set){.table = table};
    moon_arena_init(&set->arena, NULL, 0);
}

void moon_limit_set_deinit(struct moon_limit_set *set)
{
    while (set->loose != NULL) {
        struct moon_limit_hold *hold = set->loose; /* of a task that died */
        set->loose = hold->next;
        free(hold);
    }
    free(set->items);
    moon_arena_reset(&set->arena);
}

struct moon_limit *moon_limit_set_add(struct moon_limit_set *set,
                                      uint32_t *number)
{
    if (set->count == set->cap) {
        uint32_t cap = set->cap == 0 ? 8 : set->cap * 2;
        struct moon_limit *grown =
            realloc(set->items, cap * sizeof(set->items[0]));
        if (grown == NULL)
            return NULL;
        set->items = grown;
        set->cap = cap;
    }
    *number = set->count++;
    set->items[*number] = (struct moon_limit){.cost = 1, .status = 429};
    return &set->items[*number];
}

void moon_limit_set_connect(struct moon_limit_set *set, uv_loop_t *loop,
                            const struct moon_config *config, const char *nodez,
                            struct moon_cluster_news *news, bool first_worker)
{
    char error[256];
    const struct moon_limit *first = NULL;
    for (uint32_t i = set->count; i-- > 0;) {
        if (set->items[i].cluster)
            first = &set->items[i];
    }
    if (first == NULL)
        return;
    if (config->limits_urlz[0] == '\0') {
        if (first_worker)
            moon_log(MOON_LOG_WARN,
                     "limit \"%.*s\" is of the cluster, but neither limits.url "
                     "nor redis.url is set: this node holds it alone",
                     MOON_STR_ARG(first->name));
        return;
    }
    const struct moon_cluster_limits_options options = {
        .urlz = config->limits_urlz,
        .nodez = nodez,
        .connect_timeout_ms = config->redis_connect_timeout_ms,
        .timeout_ms = config->limits_timeout_ms,
        .news = news,
    };
    if (moon_cluster_limits_create(loop, &options, &set->cluster, error,
                                   sizeof(error)) != MOON_OK)
        moon_log(MOON_LOG_ERROR,
                 "limits of the cluster are held by this node alone: %s",
                 error);
}

void moon_limit_set_tend(struct moon_limit_set *set)
{
    if (set->cluster != NULL)
        moon_cluster_limits_tend(set->cluster);
}

void moon_limit_set_disconnect(struct moon_limit_set *set)
{
    moon_cluster_limits_destroy(set->cluster);
    set->cluster = NULL;
}

/* ---- who ---- */

static struct moon_str address_of(struct moon_exchange *x)
{
    return moon_peer_network(&moon_exchange_client(x)->from);
}

/* By what a limit counts this request; ptr NULL: it does not. */
static struct moon_str key_of(struct moon_exchange *x,
                              const struct moon_limit *limit)
{
    struct moon_str value;
    switch (limit->by) {
    case MOON_LIMIT_BY_ALL:
        return MOON_STR("*");
    case MOON_LIMIT_BY_ROUTE:
        return x->route != NULL ? x->route->pattern : MOON_STR("-");
    case MOON_LIMIT_BY_HEADER:
        if (moon_request_header(&x->req, limit->header, 0, &value) &&
            value.len > 0)
            return value;
        return address_of(x);
    case MOON_LIMIT_BY_IP:
    case MOON_LIMIT_BY_SESSION:
        return address_of(x);
    case MOON_LIMIT_BY_LUA:
        break;
    }
    return MOON_STR_NONE;
}

/* ---- what the answer says ---- */

static uint64_t seconds_up(uint64_t ns)
{
    return (ns + SECOND_NS - 1) / SECOND_NS;
}

static char *put_str(char *to, struct moon_str s)
{
    memcpy(to, s.ptr, s.len);
    return to + s.len;
}

/* Before a task runs nothing has set them. */
static enum moon_err set_field(struct moon_exchange *x, struct moon_str name,
                               struct moon_str value)
{
    return x->task == NULL
               ? moon_response_add_static(&x->res, &x->arena, name, value)
               : moon_response_set_static(&x->res, &x->arena, name, value);
}

/* RFC 9110 section 10.2.3 and draft-ietf-httpapi-ratelimit-headers. Refusals
 * must be cheap, so nothing is printed or checked that cannot be otherwise: the
 * quoted name is how the policy begins, and the seconds are printed once. */
enum moon_err moon_limit_tell(struct moon_exchange *x,
                              const struct moon_limit *limit,
                              const struct moon_rate_result *result,
                              bool refused)
{
    static const char limit_field[] = "RateLimit",
                      policy_field[] = "RateLimit-Policy",
                      retry_field[] = "Retry-After";
    enum { NUMBERS = 64 };
    size_t quoted = limit->name.len + 2;
    bool timed = limit->rate.kind != MOON_RATE_CONCURRENCY;
    char *text = moon_arena_alloc(&x->arena, quoted + NUMBERS);
    if (text == NULL)
        return MOON_ENOMEM;
    char *to = put_str(text, moon_str(limit->policy.ptr, quoted));
    to = put_str(to, MOON_STR(";r="));
    to = moon_put_u64(to, refused ? 0 : result->remaining);
    if (timed)
        to = put_str(to, MOON_STR(";t="));
    char *seconds = to,
         *end = moon_put_u64(
             to, seconds_up(refused ? result->retry_ns : result->reset_ns));
    enum moon_err err =
        set_field(x, MOON_STR_OF(limit_field),
                  moon_str(text, (size_t)((timed ? end : to) - text)));
    if (err == MOON_OK)
        err = set_field(x, MOON_STR_OF(policy_field), limit->policy);
    if (err == MOON_OK && refused)
        err = set_field(x, MOON_STR_OF(retry_field),
                        moon_str(seconds, (size_t)(end - seconds)));
    return err;
}

/* ---- holding against ---- */

void moon_limit_count_refusal(const struct moon_limit *limit)
{
    if (limit->refusals != NULL)
        moon_metrics_bump(limit->refusals, 1);
}

void moon_limit_log_dry(const struct moon_exchange *x,
                        const struct moon_limit *limit)
{
    moon_log(MOON_LOG_WARN,
             "limit \"%.*s\" would refuse (dry_run), route %.*s, request %.*s",
             MOON_STR_ARG(limit->name),
             MOON_STR_ARG(x->route != NULL ? x->route->pattern : MOON_STR("-")),
             MOON_STR_ARG(x->request_id));
}

/* Claims that are taken together, and what became of them. */
struct claims {
    uint32_t count;
    const struct moon_limit *limits[MOON_LIMIT_CLAIMS_MAX];
    struct moon_limit_claim items[MOON_LIMIT_CLAIMS_MAX];
    struct moon_str keys[MOON_LIMIT_CLAIMS_MAX];
    struct moon_rate_result *results; /* as many */
};

static void add_claim(struct claims *claims, const struct moon_limit_set *set,
                      const struct moon_limit *limit, struct moon_str key,
                      uint32_t cost)
{
    uint32_t at = claims->count++;
    claims->limits[at] = limit;
    claims->keys[at] = key;
    claims->items[at] = (struct moon_limit_claim){
        .rate = &limit->rate,
        .key = moon_limits_key(set->table, limit->salt, key),
        .cost = cost};
}

/* Is there anything to give back later, or to ask? */
static bool wants_hold(const struct moon_limit_set *set,
                       const struct claims *claims)
{
    for (uint32_t i = 0; i < claims->count; i++) {
        if (claims->results[i].lease != 0 ||
            moon_limit_asks(set, claims->limits[i]))
            return true;
    }
    return false;
}

/* Adds them to the hold; without one they are given back. */
static void hold_claims(struct moon_limit_set *set,
                        struct moon_limit_hold *hold,
                        const struct claims *claims)
{
    uint64_t now_ns = moon_limits_now_ns();
    for (uint32_t i = 0; i < claims->count; i++) {
        if (hold != NULL)
            moon_limit_hold_add(hold, claims->limits[i], &claims->items[i],
                                claims->keys[i], &claims->results[i]);
        else
            moon_limits_undo(set->table, &claims->items[i],
                             claims->results[i].lease, now_ns);
    }
}

/* Keeps what was taken, if it has to be kept: *out, else NULL. MOON_ENOMEM: all
 * was given back. */
static enum moon_err keep(struct moon_limit_set *set, struct moon_exchange *x,
                          const struct claims *real, const struct claims *dry,
                          struct moon_limit_hold **out)
{
    *out = NULL;
    if (MOON_LIKELY(!wants_hold(set, real) && !wants_hold(set, dry)))
        return MOON_OK;
    *out = moon_limit_hold_create(set, x, real->count + dry->count);
    hold_claims(set, *out, real);
    hold_claims(set, *out, dry);
    return *out != NULL ? MOON_OK : MOON_ENOMEM;
}

/* Those that refuse nothing are taken one by one; what passes may have to be
 * kept. */
static void take_dry(const struct moon_exchange *x,
                     const struct moon_limit_set *set, struct claims *dry,
                     uint64_t now_ns)
{
    uint32_t kept = 0, which;
    for (uint32_t i = 0; i < dry->count; i++) {
        dry->limits[kept] = dry->limits[i];
        dry->items[kept] = dry->items[i];
        dry->keys[kept] = dry->keys[i];
        if (moon_limits_take(set->table, &dry->items[kept], 1, now_ns,
                             &dry->results[kept], &which))
            kept++;
        else
            moon_limit_log_dry(x, dry->limits[kept]);
    }
    dry->count = kept;
}

static void gather(struct moon_exchange *x, const struct moon_limit_set *set,
                   const uint16_t *numbers, const struct moon_str *keys,
                   uint32_t count, struct claims *real, struct claims *dry)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct moon_limit *limit = &set->items[numbers[i]];
        struct moon_str key = keys != NULL ? keys[i] : MOON_STR_NONE;
        if (key.ptr == NULL)
            key = key_of(x, limit);
        if (key.ptr != NULL)
            add_claim(limit->dry_run ? dry : real, set, limit, key,
                      limit->cost);
    }
}

static bool has_asks(const struct moon_limit_hold *hold)
{
    for (uint32_t i = 0; hold != NULL && i < hold->count; i++) {
        if (hold->parts[i].asks)
            return true;
    }
    return false;
}

enum moon_err moon_limit_gate(struct moon_exchange *x,
                              struct moon_limit_set *set,
                              const uint16_t *numbers,
                              const struct moon_str *keys, uint32_t count,
                              struct moon_limit_outcome *outcome)
{
    struct moon_rate_result results[MOON_LIMIT_CLAIMS_MAX];
    struct moon_rate_result dry_results[MOON_LIMIT_CLAIMS_MAX];
    struct claims real, dry;
    struct moon_limit_hold *hold;
    uint32_t which;
    uint64_t now_ns = moon_limits_now_ns();
    *outcome = (struct moon_limit_outcome){0};
    real.count = dry.count = 0;
    real.results = results;
    dry.results = dry_results;
    gather(x, set, numbers, keys, count, &real, &dry);
    if (MOON_UNLIKELY(dry.count > 0))
        take_dry(x, set, &dry, now_ns);
    uint32_t taken = real.count;
    if (taken > 0 && !moon_limits_take(set->table, real.items, taken, now_ns,
                                       results, &which)) {
        outcome->refused = true;
        outcome->status = real.limits[which]->status;
        moon_limit_count_refusal(real.limits[which]);
        real.count = 0;
    }
    for (uint32_t i = 0; i < real.count; i++) {
        if (results[i].delay_ns > outcome->delay_ns)
            outcome->delay_ns = results[i].delay_ns;
    }
    if (keep(set, x, &real, &dry, &hold) != MOON_OK) {
        *outcome = (struct moon_limit_outcome){.refused = true, .status = 503};
        return MOON_ENOMEM;
    }
    if (!outcome->refused && has_asks(hold)) {
        outcome->asks = hold;
        return MOON_OK;
    }
    return taken == 0 ? MOON_OK
                      : moon_limit_tell(x, real.limits[which], &results[which],
                                        outcome->refused);
}

/* ---- one at a time ---- */

void moon_limit_take_one(struct moon_limit_set *set, struct moon_exchange *x,
                         const struct moon_limit *limit, struct moon_str key,
                         uint32_t cost, struct moon_rate_result *result,
                         struct moon_limit_hold **asks)
{
    struct claims real = {.results = result}, none = {0};
    struct moon_limit_hold *hold;
    uint32_t which;
    *asks = NULL;
    add_claim(&real, set, limit, key, cost);
    if (!moon_limits_take(set->table, real.items, 1, moon_limits_now_ns(),
                          result, &which))
        return;
    if (keep(set, x, &real, &none, &hold) != MOON_OK)
        result->allowed = false;
    else if (has_asks(hold))
        *asks = hold;
}

void moon_limit_look(struct moon_limit_set *set, struct moon_exchange *x,
                     const struct moon_limit *limit, struct moon_str key,
                     struct moon_rate_result *result,
                     struct moon_limit_hold **asks)
{
    struct claims one = {0};
    *asks = NULL;
    add_claim(&one, set, limit, key, 0);
    moon_limits_peek(set->table, &one.items[0], moon_limits_now_ns(), result);
    if (!result->allowed || !moon_limit_asks(set, limit))
        return;
    *asks = moon_limit_hold_create(set, x, 1);
    if (*asks == NULL)
        return;
    (*asks)->look = true;
    moon_limit_hold_add(*asks, limit, &one.items[0], key, result);
}

void moon_limit_forget(struct moon_limit_set *set,
                       const struct moon_limit *limit, struct moon_str key)
{
    struct claims one = {0};
    add_claim(&one, set, limit, key, 0);
    moon_limits_reset(set->table, &one.items[0]);
    if (!moon_limit_asks(set, limit))
        return;
    struct moon_cluster_ask ask;
    moon_cluster_ask_init(&ask, set->cluster, &limit->rate, limit->name, key);
    moon_cluster_ask_reset(&ask);
}
