#include "net/timer_wheel.h"

#include "base/compiler.h"

#include <stddef.h>

enum { SLOT_MASK = MOON_WHEEL_SLOTS - 1 };

static void link_timer(struct moon_wheel *wheel, struct moon_timer *timer)
{
    uint32_t slot = timer->due & SLOT_MASK;
    timer->slot = (uint16_t)slot;
    timer->next = wheel->slots[slot];
    if (timer->next != NULL)
        timer->next->link = &timer->next;
    timer->link = &wheel->slots[slot];
    wheel->slots[slot] = timer;
}

void moon_timer_remove(struct moon_timer *timer)
{
    timer->due = MOON_TIMER_OFF;
    if (timer->link == NULL)
        return;
    *timer->link = timer->next;
    if (timer->next != NULL)
        timer->next->link = timer->link;
    timer->next = NULL;
    timer->link = NULL;
}

static void on_timer(uv_timer_t *handle);

static void arm(struct moon_wheel *wheel, uint32_t tick)
{
    uint64_t at = (uint64_t)tick * MOON_WHEEL_TICK_MS;
    uint64_t now = uv_now(wheel->timer.loop);
    wheel->armed = tick;
    uv_timer_start(&wheel->timer, on_timer, at > now ? at - now : 0, 0);
}

static void arm_next(struct moon_wheel *wheel)
{
    for (uint32_t i = 1; i <= MOON_WHEEL_SLOTS; i++) {
        uint32_t tick = wheel->now + i;
        if (wheel->slots[tick & SLOT_MASK] != NULL) {
            arm(wheel, tick);
            return;
        }
    }
    wheel->armed = MOON_TIMER_OFF;
    uv_timer_stop(&wheel->timer);
}

/* Fires what is due in the slot; the callbacks may set and remove any timer,
 * so what is still to be looked at hangs on a list of its own. */
static void visit(struct moon_wheel *wheel, uint32_t slot, uint32_t now)
{
    struct moon_timer *rest = wheel->slots[slot];
    wheel->slots[slot] = NULL;
    if (rest != NULL)
        rest->link = &rest;
    while (rest != NULL) {
        struct moon_timer *timer = rest;
        uint32_t due = timer->due;
        moon_timer_remove(timer);
        if (due == MOON_TIMER_OFF)
            continue;
        if (due > now) {
            timer->due = due;
            link_timer(wheel, timer);
        } else {
            wheel->fire(wheel, timer);
        }
    }
}

static void on_timer(uv_timer_t *handle)
{
    struct moon_wheel *wheel = MOON_CONTAINER(handle, struct moon_wheel, timer);
    uint32_t now = moon_wheel_tick(uv_now(handle->loop));
    if (now > wheel->now + MOON_WHEEL_SLOTS)
        wheel->now = now - MOON_WHEEL_SLOTS;
    while (wheel->now < now) {
        wheel->now++;
        visit(wheel, wheel->now & SLOT_MASK, now);
    }
    arm_next(wheel);
}

void moon_wheel_init(struct moon_wheel *wheel, uv_loop_t *loop,
                     moon_wheel_fire *fire, void *ctx)
{
    *wheel =
        (struct moon_wheel){.armed = MOON_TIMER_OFF, .fire = fire, .ctx = ctx};
    uv_timer_init(loop, &wheel->timer);
    wheel->now = moon_wheel_tick(uv_now(loop));
}

void moon_wheel_stop(struct moon_wheel *wheel)
{
    wheel->armed = MOON_TIMER_OFF;
    uv_timer_stop(&wheel->timer);
}

void moon_wheel_link(struct moon_wheel *wheel, struct moon_timer *timer,
                     uint32_t due)
{
    moon_timer_remove(timer);
    /* Nothing is linked before `armed`, so the wheel may skip to now. */
    uint32_t now = moon_wheel_tick(uv_now(wheel->timer.loop));
    if (now > wheel->now && now < wheel->armed)
        wheel->now = now;
    timer->due = due > wheel->now ? due : wheel->now + 1;
    link_timer(wheel, timer);
    uint32_t first = moon_wheel_visit(wheel, timer->slot);
    if (first < wheel->armed)
        arm(wheel, first);
}
