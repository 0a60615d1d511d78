/* Time travel: a test moves the clock that Lua sees forward, and what waits for
 * a time (sleep, wait with a timeout, timers) is woken as if it had passed.
 *
 * Only in the probe and in a test process; everywhere else the shift
 * (base/clock.h) is 0 for ever. Loop thread only. */
#ifndef MOON_VM_TRAVEL_H
#define MOON_VM_TRAVEL_H

#include "vm/task.h"

/* A task of a probe parks for `timeout_ms`: notes when that is over. Lua, which
 * has computed the time from a clock that went on since, may say it exactly. */
void moon_travel_note(struct moon_task *task, double timeout_ms);
/* The timer of this one ran out: which is to be woken? One that was due before
 * it, in the same millisecond; its own timer then runs out for this one. */
MOON_MUST_CHECK struct moon_task *moon_travel_due(struct moon_task *task);

#endif
