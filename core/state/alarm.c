#include "state/alarm.h"

#include "base/compiler.h"

static void on_timer(uv_timer_t *timer);

static void arm(struct moon_alarms *alarms, uint64_t at_ms)
{
    uint64_t now = uv_now(alarms->timer.loop);
    alarms->armed_ms = at_ms;
    (void)uv_timer_start(&alarms->timer, on_timer,
                         at_ms > now ? at_ms - now : 0, 0);
}

/* The next one that is due at `now`, or else *first is when one will be. */
static struct moon_alarm *find_due(struct moon_alarms *alarms, uint64_t now,
                                   uint64_t *first)
{
    *first = UINT64_MAX;
    for (struct moon_chain *i = alarms->set.next; i != &alarms->set;
         i = i->next) {
        struct moon_alarm *at = MOON_CONTAINER(i, struct moon_alarm, chain);
        if (at->due_ms <= now)
            return at;
        if (at->due_ms < *first)
            *first = at->due_ms;
    }
    return NULL;
}

static void on_timer(uv_timer_t *timer)
{
    struct moon_alarms *alarms = timer->data;
    uint64_t now = uv_now(timer->loop), first;
    struct moon_alarm *due;
    /* One that is set for "at once" meanwhile must not fire in this round, or
     * the round might not end. */
    alarms->armed_ms = 0;
    while ((due = find_due(alarms, now, &first)) != NULL) {
        moon_alarm_clear(due);
        due->fire(due);
    }
    alarms->armed_ms = UINT64_MAX;
    if (first != UINT64_MAX)
        arm(alarms, first);
}

void moon_alarms_init(struct moon_alarms *alarms, uv_loop_t *loop)
{
    (void)uv_timer_init(loop, &alarms->timer);
    uv_unref((uv_handle_t *)&alarms->timer);
    alarms->timer.data = alarms;
    alarms->armed_ms = UINT64_MAX;
    moon_chain_init(&alarms->set);
}

void moon_alarm_set(struct moon_alarms *alarms, struct moon_alarm *alarm,
                    uint64_t after_ms, moon_alarm_fire *fire)
{
    moon_alarm_clear(alarm);
    uv_update_time(alarms->timer.loop);
    uint64_t now = uv_now(alarms->timer.loop);
    alarm->due_ms = after_ms < UINT64_MAX - now ? now + after_ms : UINT64_MAX;
    if (alarms->armed_ms == 0 && alarm->due_ms == now)
        alarm->due_ms++; /* see on_timer */
    alarm->fire = fire;
    moon_chain_add(&alarms->set, &alarm->chain);
    if (alarm->due_ms < alarms->armed_ms)
        arm(alarms, alarm->due_ms);
}

void moon_alarm_clear(struct moon_alarm *alarm)
{
    moon_chain_remove(&alarm->chain);
}
