/* A version on trial: for some time after a reload the share of requests that
 * fail is watched, and if it is too high the version before comes back.
 *
 * Failing is a 5xx that the code can be blamed for. What failed just as much
 * before the reload (a dependency is down) is no reason to go back. Only
 * arithmetic; who counts and who goes back is the master. */
#ifndef MOON_NODE_TRIAL_H
#define MOON_NODE_TRIAL_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Since the node started. */
struct moon_trial_counts {
    uint64_t requests, failures;
};

struct moon_trial {
    /* Kept all the time, so that there is something to compare with: counts of
     * one to two windows ago. */
    struct moon_trial_counts older, newer;
    uint64_t newer_at_ms;
    /* The trial. */
    uint64_t begun_ms, until_ms; /* until_ms 0: none */
    struct moon_trial_counts begun, before;
    double error_ratio;
};

enum moon_verdict {
    MOON_VERDICT_NONE, /* no trial */
    MOON_VERDICT_OPEN,
    MOON_VERDICT_GOOD, /* time is up; once */
    MOON_VERDICT_BAD,  /* once */
};

/* Outside of a trial, as often as one likes: what is usual here. */
void moon_trial_note(struct moon_trial *trial, uint64_t now_ms,
                     uint64_t window_ms, struct moon_trial_counts counts);
void moon_trial_begin(struct moon_trial *trial, uint64_t now_ms,
                      uint64_t window_ms, double error_ratio,
                      struct moon_trial_counts counts);
void moon_trial_end(struct moon_trial *trial);
/* GOOD and BAD end it; `text` says of what it was judged: "12 of 30 requests
 * failed in 1.2 s (40.0 %, before 0.1 %)". */
enum moon_verdict moon_trial_judge(struct moon_trial *trial, uint64_t now_ms,
                                   struct moon_trial_counts counts,
                                   struct moon_buf *text);

#endif
