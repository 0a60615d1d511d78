/* The master's side of a trial: counts what the workers count, and goes back.
 */
#include "node/master_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* Without a window: what is usual is known all the same, should a reload
 * configure one. */
enum { USUAL_MS = 30000 };

/* What was refused under overload says nothing about the code. */
static struct moon_trial_counts count(const struct moon_shm *shm)
{
    uint64_t failed = moon_shm_sum(shm, MOON_COUNTER_status_5xx);
    uint64_t shed = moon_shm_sum(shm, MOON_COUNTER_overload_refusals) +
                    moon_shm_sum(shm, MOON_COUNTER_connection_refusals);
    return (struct moon_trial_counts){
        .requests = moon_shm_sum(shm, MOON_COUNTER_requests),
        .failures = failed > shed ? failed - shed : 0,
    };
}

static uint64_t window_ms(const struct moon_master *master)
{
    return master->current->config->rollback_window_ms;
}

void moon_reload_trial_begin(struct moon_master *master, bool tried)
{
    const struct moon_config *config = master->current->config;
    moon_trial_end(&master->trial);
    if (master->reload.kind == MOON_RELOAD_ROLLBACK)
        return; /* trial_why says why */
    free(master->trial_why);
    master->trial_why = NULL;
    if (tried && window_ms(master) != MOON_CONFIG_NONE && !master->options->dev)
        moon_trial_begin(&master->trial, moon_clock_ms(), window_ms(master),
                         config->rollback_error_ratio, count(master->shm));
}

static void on_gone_back(void *ctx, bool ok, struct moon_str text)
{
    struct moon_master *master = ctx;
    if (ok)
        return;
    moon_log(MOON_LOG_ERROR, "cannot roll back: %.*s", MOON_STR_ARG(text));
    free(master->trial_why);
    master->trial_why = NULL;
}

static void go_back(struct moon_master *master, struct moon_str text)
{
    struct moon_buf why = {0};
    moon_buf_printf(&why, "generation %llu was given up: %.*s",
                    (unsigned long long)master->current->generation,
                    MOON_STR_ARG(text));
    moon_log(MOON_LOG_ERROR,
             "%.*s; more than rollback.error_ratio = %g: rolling back",
             MOON_STR_ARG(moon_buf_str(&why)),
             master->current->config->rollback_error_ratio);
    free(master->trial_why);
    master->trial_why = why.failed ? NULL : strndup(why.ptr, why.len);
    moon_buf_deinit(&why);
    moon_reload_request(master, MOON_RELOAD_ROLLBACK, on_gone_back, master);
}

void moon_reload_trial_tick(struct moon_master *master)
{
    if (master->state != MOON_MASTER_RUNNING || master->current == NULL)
        return;
    struct moon_trial_counts counts = count(master->shm);
    struct moon_buf text = {0};
    uint64_t now = moon_clock_ms(), window = window_ms(master);
    moon_trial_note(&master->trial, now,
                    window == MOON_CONFIG_NONE ? USUAL_MS : window, counts);
    /* A reload or an upgrade under way brings other code anyway. */
    enum moon_verdict verdict =
        master->reload.phase == MOON_RELOAD_IDLE &&
                !moon_upgrade_is_busy(master)
            ? moon_trial_judge(&master->trial, now, counts, &text)
            : MOON_VERDICT_OPEN;
    if (verdict == MOON_VERDICT_BAD)
        go_back(master, moon_buf_str(&text));
    else if (verdict == MOON_VERDICT_GOOD)
        moon_log(MOON_LOG_INFO, "generation %llu stays: %.*s",
                 (unsigned long long)master->current->generation,
                 MOON_STR_ARG(moon_buf_str(&text)));
    moon_buf_deinit(&text);
}
