#include "vm/vm_api.h"

#include "base/log.h"
#include "vm/limit_hold.h"
#include "vm/vm_internal.h"

void moon_api_limit_keep(void)
{
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void tell(const struct moon_rate_result *result, moon_limit_result *out)
{
    *out = (moon_limit_result){
        .allowed = result->allowed,
        .remaining = result->remaining,
        .delay = seconds(result->delay_ns),
        .retry = seconds(result->retry_ns),
        .reset = seconds(result->reset_ns),
    };
}

static void tell_outcome(enum moon_err err,
                         const struct moon_limit_outcome *outcome,
                         moon_limit_result *out)
{
    if (err != MOON_OK)
        moon_log(MOON_LOG_WARN, "no room for the fields of a limit");
    *out = (moon_limit_result){
        .allowed = !outcome->refused,
        .status = outcome->status,
        .delay = seconds(outcome->delay_ns),
    };
}

/* ---- waiting for the cluster ---- */

static void on_told(void *ctx, struct moon_limit_hold *hold)
{
    (void)hold;
    moon_task_wake(ctx, 0);
}

/* The task is being ended. */
static void undo(struct moon_task *task, void *data)
{
    (void)task;
    moon_limit_hold_drop(data);
}

/* Asks, and leaves it to the running task to wait: out->hold is set. False:
 * nobody can be asked. */
static bool wait_for(struct moon_limit_hold *hold, moon_limit_result *out)
{
    struct moon_task *task = moon_task_running();
    if (moon_limit_ask(hold, on_told, task) != MOON_EAGAIN)
        return false;
    if (moon_task_wait(task, "limit", undo, hold) != MOON_OK) {
        moon_limit_hold_drop(hold); /* our bug: it may not wait */
        *out = (moon_limit_result){.status = 503};
        return true;
    }
    *out = (moon_limit_result){.hold = hold};
    return true;
}

void moon_limit_answer(void *hold, moon_limit_result *out)
{
    struct moon_limit_outcome outcome;
    enum moon_err err = moon_limit_settle(hold, &outcome, NULL);
    tell_outcome(err, &outcome, out);
}

void moon_limit_answer_one(void *hold, moon_limit_result *out)
{
    struct moon_limit_outcome outcome;
    struct moon_rate_result result = {0};
    (void)moon_limit_settle(hold, &outcome, &result);
    tell(&result, out);
}

/* ---- what Lua calls ---- */

static struct moon_exchange *x_here(void)
{
    const struct moon_task *task = moon_task_running();
    return task != NULL ? task->x : NULL;
}

void moon_limit_check(moon_slot *slot, const uint16_t *numbers,
                      const moon_bytes *keys, uint32_t count,
                      moon_limit_result *out)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str own[MOON_LIMIT_CLAIMS_MAX];
    struct moon_limit_outcome outcome;
    *out = (moon_limit_result){.allowed = true};
    if (x == NULL || count > MOON_LIMIT_CLAIMS_MAX)
        return;
    if (x_here() != x) { /* it would outlive what it waits for */
        *out = (moon_limit_result){.status = 503};
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        own[i] = moon_str(keys[i].ptr, keys[i].len);
    enum moon_err err = moon_limit_gate(x, &moon_vm_here()->limits, numbers,
                                        own, count, &outcome);
    if (outcome.asks == NULL)
        tell_outcome(err, &outcome, out);
    else if (!wait_for(outcome.asks, out))
        moon_limit_answer(outcome.asks, out);
}

void moon_limit_take(uint32_t number, const char *key, size_t len,
                     uint32_t cost, moon_limit_result *out)
{
    struct moon_limit_set *set = &moon_vm_here()->limits;
    struct moon_rate_result result;
    struct moon_limit_hold *asks;
    *out = (moon_limit_result){0};
    if (number >= set->count)
        return;
    const struct moon_limit *limit = &set->items[number];
    struct moon_exchange *x = x_here();
    if (limit->rate.kind == MOON_RATE_CONCURRENCY && x == NULL)
        return; /* nobody would give it back */
    moon_limit_take_one(set, x, limit, moon_str(key, len), cost, &result,
                        &asks);
    if (asks == NULL)
        tell(&result, out);
    else if (!wait_for(asks, out))
        moon_limit_answer_one(asks, out);
}

void moon_limit_peek(uint32_t number, const char *key, size_t len,
                     moon_limit_result *out)
{
    struct moon_limit_set *set = &moon_vm_here()->limits;
    struct moon_rate_result result;
    struct moon_limit_hold *asks;
    *out = (moon_limit_result){0};
    if (number >= set->count)
        return;
    moon_limit_look(set, x_here(), &set->items[number], moon_str(key, len),
                    &result, &asks);
    if (asks == NULL)
        tell(&result, out);
    else if (!wait_for(asks, out))
        moon_limit_answer_one(asks, out);
}

void moon_limit_reset(uint32_t number, const char *key, size_t len)
{
    struct moon_limit_set *set = &moon_vm_here()->limits;
    if (number < set->count)
        moon_limit_forget(set, &set->items[number], moon_str(key, len));
}
