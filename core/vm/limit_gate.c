#include "vm/limit_gate.h"

#include "base/log.h"
#include "state/metrics.h"
#include "vm/limit_hold.h"

#include <netinet/in.h>
#include <stdlib.h>

#define SECOND_NS 1000000000ull

void moon_limit_set_init(struct moon_limit_set *set, struct moon_limits *table)
{
    *set = (struct moon_limit_set){.table = table};
    moon_arena_init(&set->arena, NULL, 0);
}

void moon_limit_set_deinit(struct moon_limit_set *set)
{
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

/* ---- who ---- */

static struct moon_str address_of(struct moon_exchange *x)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const struct moon_peer *peer = &moon_exchange_client(x)->from;
    const char *bytes = (const char *)peer->addr;
    if (peer->family == AF_INET)
        return moon_str(bytes, 4);
    if (peer->family != AF_INET6)
        return MOON_STR_NONE;
    if (memcmp(peer->addr, mapped, sizeof(mapped)) == 0)
        return moon_str(bytes + sizeof(mapped), 4);
    return moon_str(bytes, 8);
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

static char *put_u64(char *to, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return put_str(to, moon_str(digits + at, sizeof(digits) - at));
}

/* RFC 9110 section 10.2.3 and draft-ietf-httpapi-ratelimit-headers. Refusals
 * must be cheap, so nothing is printed or checked that cannot be otherwise. */
static enum moon_err set_fields(struct moon_exchange *x,
                                const struct moon_limit *limit,
                                const struct moon_rate_result *result,
                                bool refused)
{
    static const char limit_field[] = "RateLimit",
                      policy_field[] = "RateLimit-Policy",
                      retry_field[] = "Retry-After";
    enum { NUMBERS = 64 };
    uint64_t left = refused ? 0 : result->remaining;
    uint64_t reset_s =
        seconds_up(refused ? result->retry_ns : result->reset_ns);
    bool timed = limit->rate.kind != MOON_RATE_CONCURRENCY;
    char *text = moon_arena_alloc(&x->arena, limit->name.len + NUMBERS);
    if (text == NULL)
        return MOON_ENOMEM;
    char *to = put_str(text, MOON_STR("\""));
    to = put_str(to, limit->name);
    to = put_str(to, MOON_STR("\";r="));
    to = put_u64(to, left);
    if (timed) {
        to = put_str(to, MOON_STR(";t="));
        to = put_u64(to, reset_s);
    }
    enum moon_err err =
        moon_response_set_static(&x->res, &x->arena, MOON_STR_OF(limit_field),
                                 moon_str(text, (size_t)(to - text)));
    if (err == MOON_OK)
        err = moon_response_set_static(
            &x->res, &x->arena, MOON_STR_OF(policy_field), limit->policy);
    if (err != MOON_OK || !refused)
        return err;
    text = to;
    to = put_u64(to, reset_s);
    return moon_response_set_static(&x->res, &x->arena,
                                    MOON_STR_OF(retry_field),
                                    moon_str(text, (size_t)(to - text)));
}

/* ---- holding against ---- */

static void log_dry(const struct moon_exchange *x,
                    const struct moon_limit *limit)
{
    moon_log(MOON_LOG_WARN,
             "limit \"%.*s\" would refuse (dry_run), route %.*s, request %.*s",
             MOON_STR_ARG(limit->name),
             MOON_STR_ARG(x->route != NULL ? x->route->pattern : MOON_STR("-")),
             MOON_STR_ARG(x->request_id));
}

/* Keeps what has to be given back. MOON_ENOMEM: it was given back at once. */
static enum moon_err hold(struct moon_exchange *x, struct moon_limit_set *set,
                          const struct moon_limit *const *limits,
                          const struct moon_limit_claim *claims,
                          const struct moon_rate_result *results,
                          uint32_t count, uint64_t now_ns)
{
    bool lease = false;
    for (uint32_t i = 0; i < count; i++)
        lease = lease || results[i].lease != 0;
    if (!lease)
        return MOON_OK;
    struct moon_limit_hold *kept = moon_limit_hold_create(x, set, count);
    for (uint32_t i = 0; i < count; i++) {
        if (kept == NULL)
            moon_limits_undo(set->table, &claims[i], &results[i], now_ns);
        else
            kept->parts[kept->count++] =
                (struct moon_limit_part){limits[i], claims[i], results[i]};
    }
    return kept != NULL ? MOON_OK : MOON_ENOMEM;
}

void moon_limit_take_for(struct moon_exchange *x, struct moon_limit_set *set,
                         const struct moon_limit *limit,
                         const struct moon_limit_claim *claim,
                         struct moon_rate_result *result)
{
    uint32_t which;
    uint64_t now_ns = moon_limits_now_ns();
    if (moon_limits_take(set->table, claim, 1, now_ns, result, &which) &&
        hold(x, set, &limit, claim, result, 1, now_ns) != MOON_OK)
        result->allowed = false;
}

/* Takes from one that refuses nothing, apart from the others. */
static void take_dry(struct moon_exchange *x, struct moon_limit_set *set,
                     const struct moon_limit *limit,
                     const struct moon_limit_claim *claim)
{
    struct moon_rate_result result;
    moon_limit_take_for(x, set, limit, claim, &result);
    if (!result.allowed)
        log_dry(x, limit);
}

enum moon_err moon_limit_gate(struct moon_exchange *x,
                              struct moon_limit_set *set,
                              const uint16_t *numbers,
                              const struct moon_str *keys, uint32_t count,
                              struct moon_limit_outcome *outcome)
{
    struct moon_limit_claim claims[MOON_LIMIT_CLAIMS_MAX];
    const struct moon_limit *limits[MOON_LIMIT_CLAIMS_MAX];
    struct moon_rate_result results[MOON_LIMIT_CLAIMS_MAX];
    uint32_t used = 0, which;
    uint64_t now_ns = moon_limits_now_ns();
    *outcome = (struct moon_limit_outcome){0};
    for (uint32_t i = 0; i < count; i++) {
        const struct moon_limit *limit = &set->items[numbers[i]];
        struct moon_str key = keys != NULL ? keys[i] : MOON_STR_NONE;
        if (key.ptr == NULL)
            key = key_of(x, limit);
        if (key.ptr == NULL)
            continue;
        claims[used] = (struct moon_limit_claim){
            .rate = &limit->rate,
            .key = moon_limits_key(set->table, limit->salt, key),
            .cost = limit->cost};
        if (limit->dry_run)
            take_dry(x, set, limit, &claims[used]);
        else
            limits[used++] = limit;
    }
    if (used == 0)
        return MOON_OK;
    outcome->refused =
        !moon_limits_take(set->table, claims, used, now_ns, results, &which);
    outcome->status = limits[which]->status;
    if (outcome->refused && limits[which]->refusals != NULL)
        moon_metrics_bump(limits[which]->refusals, 1);
    if (!outcome->refused &&
        hold(x, set, limits, claims, results, used, now_ns) != MOON_OK) {
        *outcome = (struct moon_limit_outcome){.refused = true, .status = 503};
        return MOON_ENOMEM;
    }
    if (!outcome->refused) {
        for (uint32_t i = 0; i < used; i++) {
            if (results[i].delay_ns > outcome->delay_ns)
                outcome->delay_ns = results[i].delay_ns;
        }
    }
    return set_fields(x, limits[which], &results[which], outcome->refused);
}
