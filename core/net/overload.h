/* Is the loop of this worker overloaded, and who is to be refused then?
 *
 * The measure is the lag: how late a timer fires that is due every beat. It
 * tells how long a turn of the loop takes, and so how long whoever becomes
 * ready waits at most. One slow slice makes it large, too; that is no overload,
 * for what queued meanwhile is soon worked off, and so the longest slice of a
 * turn does not count. Two beats in a row that are late without it are: more
 * comes than goes. From then on each turn runs requests only until half the
 * threshold is used up and refuses the rest, which costs little. So the queue
 * stays short while as much work is done as before, and everybody is answered
 * within about the threshold. It ends by itself after some beats in time. Owned
 * by the worker; loop thread. */
#ifndef MOON_NET_OVERLOAD_H
#define MOON_NET_OVERLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct moon_overload {
    uint64_t threshold_ns; /* shed_lag; 0: never */
    uint64_t due_ns;       /* the next beat */
    uint32_t late, calm;   /* beats in a row */
    bool on;
};

/* How a turn of the loop went, seen from the beat that ended it. */
struct moon_turn {
    uint64_t lag_ns;   /* how late the beat is */
    uint64_t slice_ns; /* of that, the longest slice of Lua */
    uint64_t due_ns;   /* when the next beat is due */
};

/* At each beat. True when overload has just begun or ended. */
bool moon_overload_beat(struct moon_overload *overload,
                        const struct moon_turn *turn);

/* A request is ready to run: is there no time for it in this turn? Only while
 * `on`. */
static inline bool moon_overload_refuses(const struct moon_overload *overload,
                                         uint64_t now_ns)
{
    return now_ns > overload->due_ns + overload->threshold_ns / 2;
}

#endif
