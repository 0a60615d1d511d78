#include "vm/limit_hold.h"

#include <stdlib.h>

#define SECOND_NS 1000000000ull

/* ---- holding ---- */

struct moon_limit_hold *moon_limit_hold_create(struct moon_limit_set *set,
                                               struct moon_exchange *x,
                                               uint32_t room)
{
    struct moon_limit_hold *hold =
        calloc(1, sizeof(*hold) + room * sizeof(hold->parts[0]));
    if (hold == NULL)
        return NULL;
    hold->set = set;
    hold->x = x;
    hold->list = x != NULL ? &x->limits : &set->loose;
    hold->next = *hold->list;
    *hold->list = hold;
    return hold;
}

void moon_limit_hold_add(struct moon_limit_hold *hold,
                         const struct moon_limit *limit,
                         const struct moon_limit_claim *claim,
                         struct moon_str key,
                         const struct moon_rate_result *result)
{
    struct moon_limit_part *part = &hold->parts[hold->count++];
    part->limit = limit;
    part->claim = *claim;
    part->result = *result;
    part->status = limit->status;
    part->dry = limit->dry_run;
    part->taken = !hold->look;
    part->lease = hold->look ? 0 : result->lease;
    part->asks = moon_limit_asks(hold->set, limit);
    if (part->asks)
        moon_cluster_ask_init(&part->ask, hold->set->cluster, claim->rate,
                              limit->name, key);
}

static void give_back(struct moon_limit_hold *hold,
                      struct moon_limit_part *part, uint64_t now_ns)
{
    if (part->taken)
        moon_limits_undo(hold->set->table, &part->claim, part->lease, now_ns);
    part->taken = false;
    part->lease = 0;
    if (part->asks)
        moon_cluster_ask_undo(&part->ask);
}

static bool holds_lease(const struct moon_limit_part *part)
{
    bool concurrency = part->limit->rate.kind == MOON_RATE_CONCURRENCY;
    return part->lease != 0 || (concurrency && part->asks && part->ask.took);
}

void moon_limit_hold_drop(struct moon_limit_hold *hold)
{
    struct moon_limit_hold **at = hold->list;
    while (*at != hold)
        at = &(*at)->next;
    *at = hold->next;
    for (uint32_t i = 0; i < hold->count; i++) {
        struct moon_limit_part *part = &hold->parts[i];
        if (part->asks)
            moon_cluster_ask_cancel(&part->ask);
        moon_limits_give(hold->set->table, part->claim.key, part->lease);
        if (part->asks && holds_lease(part))
            moon_cluster_ask_undo(&part->ask);
    }
    free(hold);
}

void moon_limit_release(struct moon_exchange *x)
{
    while (x->limits != NULL)
        moon_limit_hold_drop(x->limits);
}

/* ---- asking the cluster ---- */

static void on_answer(struct moon_cluster_ask *ask)
{
    struct moon_limit_hold *hold = ask->ctx;
    if (--hold->open == 0)
        hold->told(hold->ctx, hold);
}

enum moon_err moon_limit_ask(struct moon_limit_hold *hold,
                             moon_limit_hold_told *told, void *ctx)
{
    hold->told = told;
    hold->ctx = ctx;
    hold->open = 0;
    for (uint32_t i = 0; i < hold->count; i++) {
        struct moon_limit_part *part = &hold->parts[i];
        if (!part->asks)
            continue;
        part->ask.ctx = hold;
        enum moon_err err =
            hold->look ? moon_cluster_ask_look(&part->ask, on_answer)
                       : moon_cluster_ask_take(&part->ask, part->claim.cost,
                                               on_answer);
        if (err == MOON_EAGAIN)
            hold->open++;
    }
    return hold->open > 0 ? MOON_EAGAIN : MOON_OK;
}

/* ---- deciding ---- */

/* This node's share of the limit, in place of all of it. */
static void use_share(struct moon_limit_hold *hold,
                      struct moon_limit_part *part, uint64_t now_ns)
{
    const struct moon_rate *whole = &part->limit->rate;
    struct moon_limits *table = hold->set->table;
    uint32_t which, cost = part->claim.cost;
    moon_rate_share(whole, moon_cluster_limits_nodes(hold->set->cluster),
                    &part->share);
    if (cost > part->share.quota && cost <= whole->quota)
        part->share.quota = cost;
    if (part->taken)
        moon_limits_undo(table, &part->claim, part->lease, now_ns);
    part->claim.rate = &part->share;
    part->lease = 0;
    if (hold->look) {
        moon_limits_peek(table, &part->claim, now_ns, &part->result);
        return;
    }
    part->taken =
        moon_limits_take(table, &part->claim, 1, now_ns, &part->result, &which);
    part->lease = part->result.lease;
}

static void settle_part(struct moon_limit_hold *hold,
                        struct moon_limit_part *part, uint64_t now_ns)
{
    if (!part->asks)
        return;
    if (!part->ask.failed) {
        uint64_t delay_ns = part->result.delay_ns;
        part->result = part->ask.result;
        if (part->result.allowed && delay_ns > part->result.delay_ns)
            part->result.delay_ns = delay_ns;
        return;
    }
    switch (part->limit->on_error) {
    case MOON_STORE_LOCAL:
        use_share(hold, part, now_ns);
        break;
    case MOON_STORE_OPEN:
        break; /* as this node alone says */
    case MOON_STORE_CLOSED:
        part->result = (struct moon_rate_result){.retry_ns = SECOND_NS};
        part->status = 503;
        break;
    }
}

enum moon_err moon_limit_settle(struct moon_limit_hold *hold,
                                struct moon_limit_outcome *outcome,
                                struct moon_rate_result *result)
{
    uint64_t now_ns = moon_limits_now_ns();
    struct moon_limit_part *tightest = NULL;
    *outcome = (struct moon_limit_outcome){0};
    for (uint32_t i = 0; i < hold->count; i++) {
        struct moon_limit_part *part = &hold->parts[i];
        settle_part(hold, part, now_ns);
        if (part->dry) {
            if (!part->result.allowed && hold->x != NULL)
                moon_limit_log_dry(hold->x, part->limit);
            continue;
        }
        if (part->result.delay_ns > outcome->delay_ns)
            outcome->delay_ns = part->result.delay_ns;
        if (tightest == NULL ||
            moon_rate_is_tighter(part->claim.rate, &part->result,
                                 tightest->claim.rate, &tightest->result))
            tightest = part;
    }
    enum moon_err err = MOON_OK;
    if (tightest != NULL) {
        outcome->refused = !tightest->result.allowed;
        outcome->status = tightest->status;
        if (outcome->refused && result == NULL)
            moon_limit_count_refusal(tightest->limit);
        if (result != NULL)
            *result = tightest->result;
        else if (hold->x != NULL)
            err = moon_limit_tell(hold->x, tightest->limit, &tightest->result,
                                  outcome->refused);
    }
    for (uint32_t i = 0; i < hold->count; i++) {
        struct moon_limit_part *part = &hold->parts[i];
        if (outcome->refused && !part->dry)
            give_back(hold, part, now_ns);
    }
    bool leases = false;
    for (uint32_t i = 0; i < hold->count; i++)
        leases = leases || holds_lease(&hold->parts[i]);
    if (!leases)
        moon_limit_hold_drop(hold);
    return err;
}

/* ---- parking a request ---- */

static void on_parked(void *ctx, struct moon_limit_hold *hold)
{
    struct moon_exchange *x = ctx;
    struct moon_limit_outcome outcome;
    moon_limit_decided *decided = hold->decided;
    x->wait_what = NULL;
    (void)moon_limit_settle(hold, &outcome, NULL);
    decided(x, &outcome);
}

bool moon_limit_park(struct moon_exchange *x, moon_limit_decided *decided,
                     struct moon_limit_outcome *outcome)
{
    struct moon_limit_hold *hold = x->limits;
    bool asks = false;
    for (uint32_t i = 0; i < hold->count; i++)
        asks = asks || hold->parts[i].asks;
    *outcome = (struct moon_limit_outcome){0};
    if (!asks)
        return false;
    hold->decided = decided;
    if (moon_limit_ask(hold, on_parked, x) == MOON_EAGAIN) {
        x->wait_what = "limit";
        return true;
    }
    (void)moon_limit_settle(hold, outcome, NULL);
    return false;
}
