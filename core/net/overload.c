#include "net/overload.h"

enum { LATE_BEATS = 2, CALM_BEATS = 10 };

bool moon_overload_beat(struct moon_overload *overload,
                        const struct moon_turn *turn)
{
    uint64_t threshold_ns = overload->threshold_ns;
    overload->due_ns = turn->due_ns;
    bool late =
        threshold_ns != 0 && turn->lag_ns >= threshold_ns + turn->slice_ns;
    bool calm = threshold_ns == 0 || turn->lag_ns < threshold_ns / 4;
    overload->late = late ? overload->late + 1 : 0;
    overload->calm = calm ? overload->calm + 1 : 0;
    bool was = overload->on;
    if (overload->late >= LATE_BEATS)
        overload->on = true;
    else if (overload->calm >= CALM_BEATS || threshold_ns == 0)
        overload->on = false;
    return overload->on != was;
}
