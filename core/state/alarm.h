/* A few deadlines of one owner on one uv_timer.
 *
 * For owners with a handful: setting one looks at nothing else, firing looks at
 * all. An alarm is embedded in what it is for, zero-initialised, and cleared
 * before that goes. Fires once, from the loop, when it is set again it may fire
 * again; exact to the timer. Loop thread only; nothing can fail. */
#ifndef MOON_STATE_ALARM_H
#define MOON_STATE_ALARM_H

#include "state/chain.h"

#include <stdint.h>
#include <uv.h>

struct moon_alarm;
typedef void moon_alarm_fire(struct moon_alarm *alarm);

struct moon_alarm {
    struct moon_chain chain;
    uint64_t due_ms;
    moon_alarm_fire *fire;
};

struct moon_alarms {
    uv_timer_t timer;  /* does not keep the loop alive; the owner closes it */
    uint64_t armed_ms; /* UINT64_MAX: not armed */
    struct moon_chain set;
};

void moon_alarms_init(struct moon_alarms *alarms, uv_loop_t *loop);

/* In `after_ms` from now, instead of when it was set for before. */
void moon_alarm_set(struct moon_alarms *alarms, struct moon_alarm *alarm,
                    uint64_t after_ms, moon_alarm_fire *fire);
void moon_alarm_clear(struct moon_alarm *alarm);
static inline bool moon_alarm_is_set(const struct moon_alarm *alarm)
{
    return moon_chain_is_in(&alarm->chain);
}

#endif
