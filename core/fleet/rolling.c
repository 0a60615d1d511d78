#include "fleet/rolling.h"

#include "base/clock.h"
#include "fleet/ask.h"
#include "fleet/sample.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum {
    LOOK_MS = 500,
    LOOK_TIMEOUT_MS = 5000,
    FAILURES_MIN = 5,   /* so few say nothing */
    REQUESTS_MIN = 100, /* about times */
};
/* Worse: more than so many fail and twice the share of before; or so many take
 * twice as long, and 20 ms more. */
static const double failed_max = 0.02, twice = 2, slow_share = 0.95,
                    slow_more_s = 0.02;

struct rolling {
    const struct moon_targets *targets;
    uint64_t settle_ms;
    struct moon_sample usual; /* of all, before the first reload */
};

static void say(const struct moon_target *target, const char *fmt, ...)
    MOON_PRINTF(2, 3);

static void say(const struct moon_target *target, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (target != NULL)
        (void)printf("%s: ", target->namez);
    (void)vprintf(fmt, args);
    (void)putchar('\n');
    (void)fflush(stdout);
    va_end(args);
}

static void pause_ms(uint64_t ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000),
                            .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static bool look(const struct moon_target *target, struct moon_sample *sample)
{
    static const struct moon_ask ask = {"GET", "/-/metrics", "text/plain",
                                        LOOK_TIMEOUT_MS};
    struct moon_buf body = {0}, error = {0};
    int status = 0;
    enum moon_err err = moon_ask_node(target, &ask, &status, &body, &error);
    if (err == MOON_OK && status != 200)
        say(target, "its metrics cannot be read: it answers %d%s", status,
            status == 401 ? "; is MOONSHINE_ADMIN_TOKEN its token?" : "");
    else if (err != MOON_OK)
        say(target, "%.*s", MOON_STR_ARG(moon_buf_str(&error)));
    else
        moon_sample_read(sample, moon_buf_str(&body));
    moon_buf_deinit(&body);
    moon_buf_deinit(&error);
    return err == MOON_OK && status == 200;
}

/* A POST; prints what the node answers. */
static bool order(const struct moon_target *target, const char *pathz)
{
    const struct moon_ask ask = {"POST", pathz, "text/plain", 0};
    struct moon_buf body = {0}, error = {0};
    int status = 0;
    enum moon_err err = moon_ask_node(target, &ask, &status, &body, &error);
    struct moon_str text = moon_buf_str(err == MOON_OK ? &body : &error);
    say(target, "%s%.*s",
        err == MOON_OK && status == 200 ? "" : "failed: ", MOON_STR_ARG(text));
    moon_buf_deinit(&body);
    moon_buf_deinit(&error);
    return err == MOON_OK && status == 200;
}

/* ---- what is usual ---- */

static void describe(const struct moon_sample *sample, struct moon_buf *out)
{
    double slow = moon_sample_quantile(sample, slow_share);
    moon_buf_printf(out, "%.1f %% failed", moon_sample_failed(sample) * 100);
    if (slow >= 0)
        moon_buf_printf(out, ", p95 %.1f ms", slow * 1000);
}

static bool measure_usual(struct rolling *rolling)
{
    static struct moon_sample first[MOON_TARGETS_MAX];
    const struct moon_targets *targets = rolling->targets;
    struct moon_sample now, between;
    struct moon_buf text = {0};
    for (uint32_t i = 0; i < targets->count; i++)
        if (!look(&targets->items[i], &first[i]))
            return false;
    say(NULL, "%u node%s: measuring for %.3g s what is usual", targets->count,
        targets->count == 1 ? "" : "s", (double)rolling->settle_ms / 1000);
    pause_ms(rolling->settle_ms);
    for (uint32_t i = 0; i < targets->count; i++) {
        if (!look(&targets->items[i], &now))
            return false;
        moon_sample_since(&now, &first[i], &between);
        moon_sample_add(&rolling->usual, &between);
    }
    describe(&rolling->usual, &text);
    say(NULL, "usual: %llu requests, %.*s",
        (unsigned long long)rolling->usual.requests,
        MOON_STR_ARG(moon_buf_str(&text)));
    moon_buf_deinit(&text);
    return true;
}

/* ---- one node ---- */

static bool fails_more(const struct rolling *rolling,
                       const struct moon_sample *own)
{
    double ratio = moon_sample_failed(own);
    double before = rolling->usual.failures >= FAILURES_MIN
                        ? moon_sample_failed(&rolling->usual)
                        : 0;
    return own->failures >= FAILURES_MIN && ratio > failed_max &&
           ratio > twice * before;
}

static bool is_slower(const struct rolling *rolling,
                      const struct moon_sample *own)
{
    double now = moon_sample_quantile(own, slow_share);
    double before = moon_sample_quantile(&rolling->usual, slow_share);
    return own->requests >= REQUESTS_MIN &&
           rolling->usual.requests >= REQUESTS_MIN && now >= 0 && before >= 0 &&
           now > twice * before && now > before + slow_more_s;
}

enum outcome { SETTLED, WORSE, LOST };

static enum outcome settle(const struct rolling *rolling,
                           const struct moon_target *target)
{
    struct moon_sample begun, now, own = {0};
    struct moon_buf text = {0};
    uint64_t began_ms = moon_clock_ms(), passed_ms = 0;
    bool bad = false, moved = false;
    if (!look(target, &begun))
        return LOST;
    while (!bad && !moved && passed_ms < rolling->settle_ms) {
        uint64_t left_ms = rolling->settle_ms - passed_ms;
        pause_ms(left_ms < LOOK_MS ? left_ms : LOOK_MS);
        if (!look(target, &now))
            return LOST;
        moon_sample_since(&now, &begun, &own);
        moved = now.generation != begun.generation;
        bad = fails_more(rolling, &own) || is_slower(rolling, &own);
        passed_ms = moon_clock_ms() - began_ms;
    }
    describe(&own, &text);
    moon_buf_addz(&text, " (before: ");
    describe(&rolling->usual, &text);
    moon_buf_addz(&text, ")");
    if (moved)
        say(target,
            "serves generation %llu now: somebody else reloaded it, or "
            "it rolled back by itself",
            (unsigned long long)now.generation);
    else
        say(target, "%s after %.1f s: %llu requests, %.*s",
            bad ? "worse" : "settled", (double)passed_ms / 1000,
            (unsigned long long)own.requests,
            MOON_STR_ARG(moon_buf_str(&text)));
    moon_buf_deinit(&text);
    return moved ? LOST : bad ? WORSE : SETTLED;
}

static bool reload_one(const struct rolling *rolling,
                       const struct moon_target *target)
{
    if (!order(target, "/-/reload"))
        return false;
    if (rolling->settle_ms == 0)
        return true;
    enum outcome outcome = settle(rolling, target);
    if (outcome == WORSE) {
        say(target, "rolling back");
        (void)order(target, "/-/rollback");
    }
    return outcome == SETTLED;
}

/* ---- all of them ---- */

static void say_names(const char *whatz, const struct moon_targets *targets,
                      uint32_t from, uint32_t to)
{
    struct moon_buf names = {0};
    for (uint32_t i = from; i < to; i++)
        moon_buf_printf(&names, "%s%s", i > from ? ", " : "",
                        targets->items[i].namez);
    if (from < to)
        say(NULL, "%s: %.*s", whatz, MOON_STR_ARG(moon_buf_str(&names)));
    moon_buf_deinit(&names);
}

bool moon_rolling_reload(const struct moon_targets *targets, uint64_t settle_ms)
{
    static struct rolling rolling;
    rolling = (struct rolling){.targets = targets, .settle_ms = settle_ms};
    if (settle_ms > 0 && !measure_usual(&rolling))
        return false;
    for (uint32_t i = 0; i < targets->count; i++) {
        if (reload_one(&rolling, &targets->items[i]))
            continue;
        say_names("new code on", targets, 0, i);
        say_names("left alone", targets, i + 1, targets->count);
        return false;
    }
    return true;
}
