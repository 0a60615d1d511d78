/* Coarse deadlines for many owners: one uv_timer, 512 slots of 64 ms.
 *
 * A timer is embedded in its owner, which outlives it or removes it. Setting
 * a later deadline and clearing one only store a number; the entry stays where
 * it is until its slot comes up and is then moved or dropped, so that a busy
 * keep-alive connection pays nothing per request. The uv_timer is armed for the
 * next slot in use only: an idle process does not wake up. Fires up to 64 ms
 * late, never early. One loop, one thread; nothing here can fail but init. */
#ifndef MOON_NET_TIMER_WHEEL_H
#define MOON_NET_TIMER_WHEEL_H

#include "base/errcode.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define MOON_TIMER_OFF UINT32_MAX

enum { MOON_WHEEL_SLOTS = 512, MOON_WHEEL_TICK_MS = 64 };

struct moon_timer {
    struct moon_timer *next, **link; /* link NULL: in no slot */
    uint32_t due;                    /* tick, or MOON_TIMER_OFF */
    uint16_t slot;
    uint8_t kind; /* the owner's, to tell timers apart */
};

struct moon_wheel;
/* The timer is off and may be set again or freed. */
typedef void moon_wheel_fire(struct moon_wheel *wheel,
                             struct moon_timer *timer);

struct moon_wheel {
    uv_timer_t timer;
    uint32_t now;   /* last tick that was looked at */
    uint32_t armed; /* tick at which uv_timer fires, or MOON_TIMER_OFF */
    moon_wheel_fire *fire;
    void *ctx; /* the owner's */
    struct moon_timer *slots[MOON_WHEEL_SLOTS];
};

void moon_wheel_init(struct moon_wheel *wheel, uv_loop_t *loop,
                     moon_wheel_fire *fire, void *ctx);
/* The caller closes wheel->timer with uv_close. */
void moon_wheel_stop(struct moon_wheel *wheel);

static inline void moon_timer_init(struct moon_timer *timer, uint8_t kind)
{
    timer->next = NULL;
    timer->link = NULL;
    timer->due = MOON_TIMER_OFF;
    timer->kind = kind;
}

/* For the next function only. */
void moon_wheel_link(struct moon_wheel *wheel, struct moon_timer *timer,
                     uint32_t due);

/* The next tick at which that slot is looked at. */
static inline uint32_t moon_wheel_visit(const struct moon_wheel *wheel,
                                        uint32_t slot)
{
    uint32_t first = wheel->now + 1;
    return first + ((slot - first) & (MOON_WHEEL_SLOTS - 1));
}

static inline uint32_t moon_wheel_tick(uint64_t ms)
{
    uint64_t tick = ms / MOON_WHEEL_TICK_MS;
    return tick < MOON_TIMER_OFF - 1 ? (uint32_t)tick : MOON_TIMER_OFF - 2;
}

/* `due_ms` as uv_now of the wheel's loop counts. */
static inline void moon_wheel_set(struct moon_wheel *wheel,
                                  struct moon_timer *timer, uint64_t due_ms)
{
    uint32_t due = moon_wheel_tick(due_ms) + 1;
    if (timer->link != NULL && moon_wheel_visit(wheel, timer->slot) <= due)
        timer->due = due; /* where it is, it is looked at in time */
    else
        moon_wheel_link(wheel, timer, due);
}

static inline void moon_timer_clear(struct moon_timer *timer)
{
    timer->due = MOON_TIMER_OFF;
}

/* Takes it out; needed before its memory goes. */
void moon_timer_remove(struct moon_timer *timer);

#endif
