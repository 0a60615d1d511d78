/* Ends workers that nothing inside them can end: one long C call under Lua, a
 * blocking call, a C loop. Only the master's own 100 ms ticks are counted, and
 * the time that a thread waited for a processor is taken off, so neither a late
 * master nor a crowded machine kills anybody. */
#include "node/master_internal.h"

#include "base/log.h"
#include "node/process.h"
#include "node/witness.h"

/* How far over its CPU limit a slice may be: its own watchdog comes first. */
enum { GRACE_MS = 500 };
/* A worker's start, in load_timeouts: several load at once. */
enum { START_FACTOR = 3, START_MIN_MS = 15000 };

#define NS_PER_MS 1000000u

static void kill_child(struct moon_child *child, const char *whyz,
                       uint64_t after_ms)
{
    child->watch.killed = true;
    moon_shm_add(&child->master->shm->kills, 1);
    const struct moon_worker_slot *slot =
        moon_master_slot(child->master, child->place);
    struct moon_buf what = {0};
    if (moon_shm_get32(&slot->slice.seq) % 2 == 1)
        (void)moon_witness_request(child->pid, moon_shm_get(&slot->running_at),
                                   &what);
    moon_log(MOON_LOG_ERROR, "worker %u (pid %d) killed: %s for %llu ms%s%.*s",
             child->place + 1, (int)child->pid, whyz,
             (unsigned long long)after_ms, what.len > 0 ? ": " : "",
             MOON_STR_ARG(moon_buf_str(&what)));
    moon_buf_deinit(&what);
    (void)kill(child->pid, SIGKILL);
}

static uint64_t less_queue(uint64_t ms, uint64_t queue_ns)
{
    uint64_t queue_ms = queue_ns / NS_PER_MS;
    return ms > queue_ms ? ms - queue_ms : 0;
}

/* A slice of Lua that goes on: over its limit if it burns CPU, hung if it
 * sleeps. limit 0 is none: such a slice may burn, but not sleep. */
static void look_at_slice(struct moon_child *child,
                          const struct moon_worker_slot *slot,
                          const struct moon_process_times *times,
                          uint64_t hang_ms)
{
    struct moon_watch_record *w = &child->watch;
    uint64_t ms = less_queue((uint64_t)w->seq_ticks * MOON_TICK_MS,
                             times->queue_ns - w->slice_queue_ns);
    uint64_t cpu_ms = (times->cpu_ns - w->slice_cpu_ns) / NS_PER_MS;
    uint64_t limit = moon_shm_get32(&slot->slice.limit_ms);
    if (limit != 0 && ms > limit + GRACE_MS && cpu_ms > limit + GRACE_MS)
        kill_child(child, "the handler was in one C call", ms);
    else if (hang_ms != MOON_CONFIG_NONE && ms > hang_ms && cpu_ms < ms / 2)
        kill_child(child, "the handler was blocked (hang_timeout)", ms);
}

static void look_at_loop(struct moon_child *child,
                         const struct moon_process_times *times,
                         uint64_t hang_ms)
{
    struct moon_watch_record *w = &child->watch;
    uint64_t ms = less_queue((uint64_t)w->beat_ticks * MOON_TICK_MS,
                             times->queue_ns - w->beat_queue_ns);
    if (hang_ms != MOON_CONFIG_NONE && ms > hang_ms)
        kill_child(child, "its loop did not turn (hang_timeout)", ms);
}

static void look_at(struct moon_child *child, struct moon_worker_slot *slot,
                    uint64_t hang_ms)
{
    struct moon_watch_record *w = &child->watch;
    uint32_t seq = moon_shm_get32(&slot->slice.seq);
    uint32_t beat = moon_shm_get32(&slot->heartbeat);
    bool in_slice = seq % 2 == 1 && seq == w->seq;
    bool same_beat = beat == w->beat;
    w->seq_ticks = in_slice ? w->seq_ticks + 1 : 0;
    w->beat_ticks = same_beat ? w->beat_ticks + 1 : 0;
    w->seq = seq;
    w->beat = beat;
    /* A beat comes every tick; some late ones are no news. */
    bool stuck = w->seq_ticks >= 1 || w->beat_ticks >= 5;
    moon_shm_set32(&slot->stale, stuck);
    if (seq % 2 == 0 && w->beat_ticks < 5)
        return;
    struct moon_process_times times;
    pid_t tid = (pid_t)atomic_load(&slot->tid);
    if (!moon_process_thread_times(child->pid, tid, &times))
        return;
    if (w->seq_ticks == 0) {
        w->slice_cpu_ns = times.cpu_ns;
        w->slice_queue_ns = times.queue_ns;
    }
    if (w->beat_ticks <= 5)
        w->beat_queue_ns = times.queue_ns;
    if (times.stopped) { /* by somebody's will: its time stands still */
        w->seq_ticks = 0;
        w->beat_ticks = 5;
        return;
    }
    if (w->seq_ticks > 0)
        look_at_slice(child, slot, &times, hang_ms);
    else if (w->beat_ticks >= 5)
        look_at_loop(child, &times, hang_ms);
}

/* Whatever keeps it from its first generation: the builder, a name service. */
static void look_at_start(struct moon_child *child, uint64_t load_ms)
{
    uint64_t ms = (uint64_t)++child->watch.starting_ticks * MOON_TICK_MS;
    if (ms > START_MIN_MS && ms > load_ms * START_FACTOR)
        kill_child(child, "it did not become ready", ms);
}

void moon_watch_tick(struct moon_master *master)
{
    if (master->current == NULL)
        return;
    const struct moon_config *config = master->current->config;
    for (uint32_t i = 0; i < master->place_count; i++) {
        struct moon_child *child = master->places[i].child;
        if (child == NULL || child->reaped || child->watch.killed)
            continue;
        struct moon_worker_slot *slot = moon_master_slot(master, i);
        if (child->state == MOON_CHILD_STARTING)
            look_at_start(child, config->load_timeout_ms);
        /* Until it runs its loop it has no beat; loading has its own limit. */
        if (moon_shm_get32(&slot->heartbeat) == 0 ||
            atomic_load(&slot->tid) == 0)
            continue;
        look_at(child, slot, config->hang_timeout_ms);
    }
}
