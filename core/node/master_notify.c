/* What the service manager hears of the node; see notify.h. */
#include "node/master_internal.h"

#include <stdio.h>

enum { LINE_MAX_BYTES = 200 };

static uint64_t connections(const struct moon_master *master)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < master->place_count; i++)
        sum += moon_shm_get32(&moon_master_slot(master, i)->connections);
    return sum;
}

static void describe(const struct moon_master *master, char *to, size_t size)
{
    if (master->state == MOON_MASTER_STARTING) {
        (void)snprintf(to, size, "starting");
        return;
    }
    unsigned long long open = connections(master);
    if (master->state == MOON_MASTER_DRAINING) {
        (void)snprintf(to, size,
                       "finishing what is in flight, %llu connection%s", open,
                       open == 1 ? "" : "s");
        return;
    }
    uint32_t workers = moon_supervise_ready(master, 0);
    const struct moon_reload *reload = &master->reload;
    (void)snprintf(
        to, size, "generation %llu on %u worker%s, %llu connection%s%s%s",
        (unsigned long long)master->current->generation, workers,
        workers == 1 ? "" : "s", open, open == 1 ? "" : "s",
        master->fallback_why != NULL ? "; the code on disk failed" : "",
        reload->has_last && !reload->last_ok ? "; the last reload failed" : "");
}

static void tell_status(struct moon_master *master, bool now)
{
    char line[LINE_MAX_BYTES];
    if (master->notify.fd < 0)
        return;
    describe(master, line, sizeof(line));
    moon_notify_status(&master->notify, line, now);
}

void moon_master_tell_ready(struct moon_master *master)
{
    if (master->state != MOON_MASTER_RUNNING)
        return;
    moon_notify_send(&master->notify, "READY=1");
    tell_status(master, true);
}

void moon_master_tell_stopping(struct moon_master *master)
{
    moon_notify_send(&master->notify, "STOPPING=1");
    if (master->shm != NULL)
        tell_status(master, true);
}

/* The watchdog is for what the master cannot mend: that it hangs itself, or
 * that for a long time no worker is any good. */
static bool is_healthy(const struct moon_master *master)
{
    if (master->state == MOON_MASTER_DRAINING)
        return true; /* it has its own deadlines */
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_child *child = master->places[i].child;
        if (child != NULL && child->state == MOON_CHILD_READY &&
            moon_shm_get32(&moon_master_slot(master, i)->stale) == 0)
            return true;
    }
    return false;
}

void moon_master_notify_tick(struct moon_master *master)
{
    if (master->notify.fd < 0)
        return;
    if (master->shm != NULL)
        tell_status(master, false);
    if (master->state != MOON_MASTER_RUNNING)
        moon_notify_extend(&master->notify);
    moon_notify_tick(&master->notify, is_healthy(master));
}
