#include "node/admin_text.h"

#include "base/clock.h"
#include "node/keep.h"
#include "node/process_usage.h"

#include <unistd.h>

typedef unsigned long long ull;

static const char *node_state(const struct moon_master *master)
{
    switch (master->state) {
    case MOON_MASTER_STARTING:
        return "starting";
    case MOON_MASTER_RUNNING:
        return master->broken.whyz != NULL ? "broken" : "ready";
    case MOON_MASTER_DRAINING:
        return "draining";
    }
    return "-";
}

static const char *worker_state(const struct moon_worker_slot *slot)
{
    switch ((enum moon_worker_state)moon_shm_get32(&slot->state)) {
    case MOON_WORKER_NONE:
        return "none";
    case MOON_WORKER_STARTING:
        return "starting";
    case MOON_WORKER_SERVING:
        return moon_shm_get32(&slot->stale) != 0        ? "busy"
               : moon_shm_get32(&slot->overloaded) != 0 ? "overload"
                                                        : "serving";
    case MOON_WORKER_DRAINING:
        return "draining";
    }
    return "-";
}

static const char *disk_text(const struct moon_disk_news *disk)
{
    switch (disk->state) {
    case MOON_DISK_SAME:
        return "same as what serves";
    case MOON_DISK_DIFFERS:
        return "differs from what serves";
    case MOON_DISK_UNKNOWN:
        break;
    }
    return "could not be looked at in time";
}

static void add_jsonz(struct moon_buf *out, const char *z)
{
    moon_buf_add_json(out, moon_strz(z));
}

static void add_reload_json(const struct moon_master *master,
                            struct moon_buf *out)
{
    const struct moon_reload *r = &master->reload;
    moon_buf_printf(out, ",\"reloading\":%s,\"last_reload\":",
                    r->phase != MOON_RELOAD_IDLE ? "true" : "false");
    if (!r->has_last) {
        moon_buf_addz(out, "null");
        return;
    }
    moon_buf_printf(out, "{\"ok\":%s,\"at\":%.3f,\"took_ms\":%llu,\"text\":",
                    r->last_ok ? "true" : "false", r->last_at,
                    (ull)r->last_took_ms);
    add_jsonz(out, r->last_text != NULL ? r->last_text : "");
    moon_buf_add_char(out, '}');
}

static void add_recent_json(const struct moon_master *master,
                            struct moon_buf *out)
{
    struct moon_recent_rates r;
    moon_recent_get(&master->recent, master->shm, moon_clock_ms(), &r);
    moon_buf_printf(out,
                    ",\"recent\":{\"seconds\":%.3f,\"requests_per_second\":"
                    "%.2f,\"errors_per_second\":%.2f,\"p50_ms\":%.3f,"
                    "\"p99_ms\":%.3f}",
                    r.seconds, r.requests_per_s, r.errors_per_s, r.p50_s * 1e3,
                    r.p99_s * 1e3);
}

static void add_worker_json(const struct moon_master *master, uint32_t i,
                            struct moon_buf *out)
{
    const struct moon_worker_slot *s = moon_master_slot(master, i);
    int pid = (int)atomic_load(&s->pid);
    uint64_t up = pid != 0 ? moon_clock_ms() - moon_shm_get(&s->started_ms) : 0;
    moon_buf_printf(
        out,
        "{\"id\":%u,\"pid\":%d,\"state\":\"%s\",\"generation\":%llu,"
        "\"generations_live\":%u,\"connections\":%u,\"in_flight\":%u,"
        "\"tasks\":%u,\"coroutines\":%u,\"lua_refs\":%u,\"handles\":%u,"
        "\"timers\":%u,\"uptime_ms\":%llu,\"lua_bytes\":%llu,"
        "\"lua_limit_bytes\":%llu,\"resident_bytes\":%llu,"
        "\"loop_lag_ms\":%.1f",
        i + 1, pid, worker_state(s), (ull)moon_shm_get(&s->generation),
        moon_shm_get32(&s->generations_live), moon_shm_get32(&s->connections),
        moon_shm_get32(&s->exchanges), moon_shm_get32(&s->tasks),
        moon_shm_get32(&s->coroutines), moon_shm_get32(&s->lua_refs),
        moon_shm_get32(&s->handles), moon_shm_get32(&s->timers), (ull)up,
        (ull)moon_shm_get(&s->vm_used_bytes),
        (ull)moon_shm_get(&s->vm_limit_bytes),
        (ull)(pid != 0 ? moon_process_resident_bytes(pid) : 0),
        (double)moon_shm_get(&s->lag_us) / 1e3);
    for (int c = 0; c < MOON_COUNTERS; c++)
        moon_buf_printf(out, ",\"%s\":%llu",
                        moon_counter_name((enum moon_counter)c),
                        (ull)moon_shm_get(&s->counters[c]));
    moon_buf_add_char(out, '}');
}

void moon_admin_status_json(const struct moon_master *master,
                            const struct moon_disk_news *disk,
                            struct moon_buf *out)
{
    const struct moon_shm *shm = master->shm;
    moon_buf_addz(out, "{\"node\":");
    add_jsonz(out, master->namez);
    moon_buf_printf(out, ",\"version\":\"%s\",\"pid\":%d,\"state\":\"%s\"",
                    MOON_VERSION, (int)getpid(), node_state(master));
    moon_buf_printf(out, ",\"uptime_ms\":%llu,\"app\":",
                    (ull)(moon_clock_ms() - master->started_ms));
    add_jsonz(out, master->current != NULL ? master->current->dirz
                                           : master->paths.dirz);
    moon_buf_addz(out, ",\"listen\":[");
    for (uint32_t i = 0; i < master->listener_count; i++) {
        moon_buf_addz(out, i > 0 ? "," : "");
        add_jsonz(out, master->listeners[i].address.textz);
    }
    moon_buf_printf(
        out,
        "],\"generation\":%llu,\"code\":\"%s\",\"routes\":%u,\"fallback\":",
        (ull)moon_shm_get(&moon_master_side(master)->generation),
        master->current != NULL ? master->current->code : "",
        master->current != NULL ? master->current->routes : 0);
    if (master->fallback_why != NULL)
        add_jsonz(out, master->fallback_why);
    else
        moon_buf_addz(out, "null");
    moon_buf_addz(out, ",\"broken\":");
    if (master->broken.whyz != NULL)
        add_jsonz(out, master->broken.whyz);
    else
        moon_buf_addz(out, "null");
    moon_buf_addz(out, ",\"rolled_back\":");
    if (master->trial_why != NULL)
        add_jsonz(out, master->trial_why);
    else
        moon_buf_addz(out, "null");
    add_recent_json(master, out);
    add_reload_json(master, out);
    moon_upgrade_json(master, out);
    moon_quarantine_json(master, out);
    moon_buf_addz(out, ",\"disk_differs\":");
    moon_buf_addz(out, disk->state == MOON_DISK_UNKNOWN ? "null"
                       : disk->state == MOON_DISK_SAME  ? "false"
                                                        : "true");
    moon_buf_addz(out, ",\"disk\":");
    moon_buf_add_json(out, disk->what);
    moon_buf_printf(
        out,
        ",\"kept\":%u,\"reloads\":%llu,\"reloads_failed\":%llu,"
        "\"rollbacks\":%llu,\"worker_restarts\":%llu,\"worker_kills\":%llu,"
        "\"workers\":[",
        moon_keep_count(master->keep_fd), (ull)moon_shm_get(&shm->reloads),
        (ull)moon_shm_get(&shm->reloads_failed),
        (ull)moon_shm_get(&shm->rollbacks), (ull)moon_shm_get(&shm->restarts),
        (ull)moon_shm_get(&shm->kills));
    for (uint32_t i = 0; i < master->place_count; i++) {
        moon_buf_addz(out, i > 0 ? "," : "");
        add_worker_json(master, i, out);
    }
    moon_buf_addz(out, "]}\n");
}

void moon_admin_add_duration(struct moon_buf *out, uint64_t ms)
{
    uint64_t s = ms / 1000;
    if (s >= 86400)
        moon_buf_printf(out, "%llud %lluh", (ull)(s / 86400),
                        (ull)(s % 86400 / 3600));
    else if (s >= 3600)
        moon_buf_printf(out, "%lluh %llum", (ull)(s / 3600),
                        (ull)(s % 3600 / 60));
    else if (s >= 60)
        moon_buf_printf(out, "%llum %llus", (ull)(s / 60), (ull)(s % 60));
    else
        moon_buf_printf(out, "%llus", (ull)s);
}

static void add_recent_line(const struct moon_master *master,
                            struct moon_buf *out)
{
    struct moon_recent_rates r;
    moon_recent_get(&master->recent, master->shm, moon_clock_ms(), &r);
    moon_buf_printf(out,
                    "recent       %.1f requests/s, %.1f errors/s, p50 %.2f ms, "
                    "p99 %.2f ms (last %.0f s)\n",
                    r.requests_per_s, r.errors_per_s, r.p50_s * 1e3,
                    r.p99_s * 1e3, r.seconds);
}

static void add_node_lines(const struct moon_master *master,
                           const struct moon_disk_news *disk,
                           struct moon_buf *out)
{
    const struct moon_reload *r = &master->reload;
    moon_buf_printf(out, "node         %s: %s, up ", master->namez,
                    node_state(master));
    moon_admin_add_duration(out, moon_clock_ms() - master->started_ms);
    moon_buf_printf(out, ", pid %d, version %s\n", (int)getpid(), MOON_VERSION);
    moon_buf_addz(out, "listen       ");
    for (uint32_t i = 0; i < master->listener_count; i++)
        moon_buf_printf(out, "%s%s", i > 0 ? ", " : "",
                        master->listeners[i].address.textz);
    moon_buf_printf(out, "\napp          %s/%s\n",
                    master->current != NULL ? master->current->dirz
                                            : master->paths.dirz,
                    master->paths.filez);
    moon_buf_printf(out, "generation   %llu (%u routes), %u kept\n",
                    (ull)moon_shm_get(&moon_master_side(master)->generation),
                    master->current != NULL ? master->current->routes : 0,
                    moon_keep_count(master->keep_fd));
    add_recent_line(master, out);
    if (master->fallback_why != NULL)
        moon_buf_printf(out, "fallback     the code on disk failed: %s\n",
                        master->fallback_why);
    if (master->broken.whyz != NULL)
        moon_buf_printf(out, "broken       every request gets this error: %s\n",
                        master->broken.whyz);
    if (master->trial_why != NULL)
        moon_buf_printf(out, "rolled back  %s\n", master->trial_why);
    moon_buf_printf(out, "disk         %s", disk_text(disk));
    if (disk->what.len > 0)
        moon_buf_printf(out, ": %.*s", MOON_STR_ARG(disk->what));
    moon_buf_add_char(out, '\n');
    if (r->has_last) {
        moon_buf_printf(out, "last reload  %s, ",
                        r->last_ok ? "succeeded" : "failed");
        double ago = moon_clock_wall() - r->last_at;
        moon_admin_add_duration(out, ago > 0 ? (uint64_t)(ago * 1000) : 0);
        moon_buf_printf(out, " ago: %s\n",
                        r->last_text != NULL ? r->last_text : "");
    }
    moon_upgrade_lines(master, out);
    moon_quarantine_lines(master, out);
}

void moon_admin_status_table(const struct moon_master *master,
                             const struct moon_disk_news *disk,
                             struct moon_buf *out)
{
    add_node_lines(master, disk, out);
    moon_buf_addz(out, "\nWORKER      PID  STATE     GEN  LIVE   CONNS  "
                       "IN-FLIGHT    REQUESTS      5XX  LUA-MIB  RSS-MIB  "
                       "LAG-MS\n");
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_worker_slot *s = moon_master_slot(master, i);
        int pid = (int)atomic_load(&s->pid);
        moon_buf_printf(
            out,
            "%6u  %7d  %-8s %4llu  %4u  %6u  %9u  %10llu  %7llu  %7.1f  %7.1f  "
            "%6.1f\n",
            i + 1, pid, worker_state(s), (ull)moon_shm_get(&s->generation),
            moon_shm_get32(&s->generations_live),
            moon_shm_get32(&s->connections), moon_shm_get32(&s->exchanges),
            (ull)moon_shm_get(&s->counters[MOON_COUNTER_requests]),
            (ull)moon_shm_get(&s->counters[MOON_COUNTER_status_5xx]),
            (double)moon_shm_get(&s->vm_used_bytes) / 1048576.0,
            pid != 0 ? (double)moon_process_resident_bytes(pid) / 1048576.0 : 0,
            (double)moon_shm_get(&s->lag_us) / 1e3);
    }
    const struct moon_shm *shm = master->shm;
    moon_buf_printf(out,
                    "\nreloads %llu, failed %llu, rollbacks %llu, worker "
                    "restarts %llu, kills %llu\n",
                    (ull)moon_shm_get(&shm->reloads),
                    (ull)moon_shm_get(&shm->reloads_failed),
                    (ull)moon_shm_get(&shm->rollbacks),
                    (ull)moon_shm_get(&shm->restarts),
                    (ull)moon_shm_get(&shm->kills));
}

enum { FIELDS = 8 };

static const char *const field_names[FIELDS] = {
    "worker", "age_ms", "generation", "method",
    "path",   "route",  "request_id", "waits_on",
};

void moon_admin_requests_json(struct moon_str lines, struct moon_buf *out)
{
    moon_buf_addz(out, "{\"requests\":[");
    for (bool first = true; lines.len > 0; first = false) {
        struct moon_str line = moon_str_cut(lines, '\n', &lines);
        moon_buf_addz(out, first ? "{" : ",{");
        for (int i = 0; i < FIELDS; i++) {
            struct moon_str field = moon_str_cut(line, '\t', &line);
            moon_buf_printf(out, "%s\"%s\":", i > 0 ? "," : "", field_names[i]);
            if (i < 3)
                moon_buf_add_str(out, field.len > 0 ? field : MOON_STR("0"));
            else
                moon_buf_add_json(out, field);
        }
        moon_buf_add_char(out, '}');
    }
    moon_buf_addz(out, "]}\n");
}

void moon_admin_requests_table(struct moon_str lines, struct moon_buf *out)
{
    if (lines.len == 0) {
        moon_buf_addz(out, "no request is in flight\n");
        return;
    }
    moon_buf_printf(out, "%6s  %8s  %3s  %-7s  %-32s  %-24s  %-20s  %s\n",
                    "WORKER", "AGE-MS", "GEN", "METHOD", "PATH", "ROUTE",
                    "REQUEST", "WAITS ON");
    while (lines.len > 0) {
        struct moon_str f[FIELDS];
        struct moon_str line = moon_str_cut(lines, '\n', &lines);
        for (int i = 0; i < FIELDS; i++)
            f[i] = moon_str_cut(line, '\t', &line);
        moon_buf_printf(
            out,
            "%6.*s  %8.*s  %3.*s  %-7.*s  %-32.*s  %-24.*s  %-20.*s  %.*s\n",
            MOON_STR_ARG(f[0]), MOON_STR_ARG(f[1]), MOON_STR_ARG(f[2]),
            MOON_STR_ARG(f[3]), MOON_STR_ARG(f[4]), MOON_STR_ARG(f[5]),
            MOON_STR_ARG(f[6]), MOON_STR_ARG(f[7]));
    }
}
