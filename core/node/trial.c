#include "node/trial.h"

/* So few say nothing; twice as much as before is not what was there before. */
enum { FAILURES_MIN = 5, TIMES_BEFORE = 2 };

static struct moon_trial_counts since(struct moon_trial_counts now,
                                      struct moon_trial_counts then)
{
    return (struct moon_trial_counts){now.requests - then.requests,
                                      now.failures - then.failures};
}

/* Streams that began earlier may fail later than they are counted. */
static double share(struct moon_trial_counts counts)
{
    if (counts.failures == 0)
        return 0;
    if (counts.failures >= counts.requests)
        return 1;
    return (double)counts.failures / (double)counts.requests;
}

void moon_trial_note(struct moon_trial *trial, uint64_t now_ms,
                     uint64_t window_ms, struct moon_trial_counts counts)
{
    if (trial->until_ms != 0 || now_ms - trial->newer_at_ms < window_ms)
        return;
    trial->older = trial->newer;
    trial->newer = counts;
    trial->newer_at_ms = now_ms;
}

void moon_trial_begin(struct moon_trial *trial, uint64_t now_ms,
                      uint64_t window_ms, double error_ratio,
                      struct moon_trial_counts counts)
{
    trial->begun_ms = now_ms;
    trial->until_ms = now_ms + window_ms;
    trial->error_ratio = error_ratio;
    trial->begun = counts;
    trial->before = since(counts, trial->older);
}

void moon_trial_end(struct moon_trial *trial)
{
    trial->until_ms = 0;
}

enum moon_verdict moon_trial_judge(struct moon_trial *trial, uint64_t now_ms,
                                   struct moon_trial_counts counts,
                                   struct moon_buf *text)
{
    if (trial->until_ms == 0)
        return MOON_VERDICT_NONE;
    struct moon_trial_counts own = since(counts, trial->begun);
    double ratio = share(own), before = share(trial->before);
    bool usual = trial->before.failures >= FAILURES_MIN &&
                 ratio <= TIMES_BEFORE * before;
    bool bad =
        own.failures >= FAILURES_MIN && ratio > trial->error_ratio && !usual;
    if (!bad && now_ms < trial->until_ms)
        return MOON_VERDICT_OPEN;
    moon_buf_printf(
        text,
        "%llu of %llu requests failed in %.1f s (%.1f %%, before "
        "%.1f %%)",
        (unsigned long long)own.failures, (unsigned long long)own.requests,
        (double)(now_ms - trial->begun_ms) / 1000, ratio * 100, before * 100);
    trial->until_ms = 0;
    trial->newer_at_ms = now_ms;
    trial->newer = counts;
    trial->older = trial->begun;
    return bad ? MOON_VERDICT_BAD : MOON_VERDICT_GOOD;
}
