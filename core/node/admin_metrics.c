/* /-/metrics: what the node counts about itself, then its table of metrics and
 * that of the application. Names are those of Prometheus' conventions; what is
 * not of the server as such has its usual name (process_...). */
#include "node/admin_text.h"

#include "base/tally.h"
#include "node/process_usage.h"
#include "state/metrics.h"

#include <stdio.h>

typedef unsigned long long ull;

static void head(struct moon_buf *out, const char *namez, const char *typez,
                 const char *helpz)
{
    moon_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", namez, helpz, namez,
                    typez);
}

static void metric(struct moon_buf *out, const char *namez, const char *typez,
                   const char *helpz, uint64_t value)
{
    head(out, namez, typez, helpz);
    moon_buf_printf(out, "%s %llu\n", namez, (ull)value);
}

static void real(struct moon_buf *out, const char *namez, const char *typez,
                 const char *helpz, double value)
{
    head(out, namez, typez, helpz);
    moon_buf_printf(out, "%s %.3f\n", namez, value);
}

/* ---- of the workers ---- */

static uint64_t sum32(const struct moon_master *master, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < master->place_count; i++) {
        const char *slot = (const char *)moon_master_slot(master, i);
        const void *at = slot + offset;
        sum += moon_shm_get32((const _Atomic uint32_t *)at);
    }
    return sum;
}

static uint64_t sum64(const struct moon_master *master, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < master->place_count; i++) {
        const char *slot = (const char *)moon_master_slot(master, i);
        const void *at = slot + offset;
        sum += moon_shm_get((const _Atomic uint64_t *)at);
    }
    return sum;
}

static void add_gauges(const struct moon_master *master, struct moon_buf *out)
{
    metric(out, "moonshine_workers", "gauge", "workers that serve",
           moon_supervise_ready(master, 0));
    metric(out, "moonshine_workers_wanted", "gauge", "workers there should be",
           master->place_count);
    metric(out, "moonshine_workers_overloaded", "gauge",
           "workers that refuse requests which would have to wait",
           sum32(master, offsetof(struct moon_worker_slot, overloaded)));
    metric(out, "moonshine_connections", "gauge", "open connections",
           sum32(master, offsetof(struct moon_worker_slot, connections)));
    metric(out, "moonshine_requests_in_flight", "gauge",
           "requests not answered yet",
           sum32(master, offsetof(struct moon_worker_slot, exchanges)));
    metric(out, "moonshine_tasks", "gauge", "tasks that belong to no request",
           sum32(master, offsetof(struct moon_worker_slot, tasks)));
    metric(out, "moonshine_coroutines", "gauge",
           "coroutines that are kept to run requests and tasks",
           sum32(master, offsetof(struct moon_worker_slot, coroutines)));
    metric(out, "moonshine_lua_refs", "gauge",
           "values of Lua that the core holds",
           sum32(master, offsetof(struct moon_worker_slot, lua_refs)));
    metric(out, "moonshine_loop_handles", "gauge",
           "active handles of the event loops, connections among them",
           sum32(master, offsetof(struct moon_worker_slot, handles)));
    metric(out, "moonshine_loop_timers", "gauge",
           "running timers of the event loops",
           sum32(master, offsetof(struct moon_worker_slot, timers)));
    metric(out, "moonshine_generations_live", "gauge",
           "generations of code that workers hold, summed over them",
           sum32(master, offsetof(struct moon_worker_slot, generations_live)));
    metric(out, "moonshine_quarantined_routes", "gauge",
           "routes that are shut off, since they failed again and again",
           moon_quarantine_count(master));
    metric(out, "moonshine_vm_memory_bytes", "gauge",
           "memory of the virtual machines that serve",
           sum64(master, offsetof(struct moon_worker_slot, vm_used_bytes)));
    metric(out, "moonshine_vm_memory_limit_bytes", "gauge",
           "what they may use at most (memory_limit)",
           sum64(master, offsetof(struct moon_worker_slot, vm_limit_bytes)));
}

static uint64_t counted(const struct moon_shm *shm, enum moon_counter counter)
{
    uint64_t own = counter == MOON_COUNTER_log_lines_dropped
                       ? moon_tally_get(MOON_TALLY_LOG_DROPPED)
                       : 0; /* the master's */
    return own + moon_shm_sum(shm, counter);
}

static void add_counters(const struct moon_shm *shm, struct moon_buf *out)
{
    head(out, "moonshine_responses_total", "counter", "responses by class");
    for (int i = 0; i < 5; i++)
        moon_buf_printf(
            out, "moonshine_responses_total{class=\"%dxx\"} %llu\n", i + 1,
            (ull)moon_shm_sum(
                shm, (enum moon_counter)(MOON_COUNTER_status_1xx + i)));
    for (int c = 0; c < MOON_COUNTERS; c++) {
        if (c >= MOON_COUNTER_status_1xx && c <= MOON_COUNTER_status_5xx)
            continue;
        enum moon_counter counter = (enum moon_counter)c;
        char name[80];
        (void)snprintf(name, sizeof(name), "moonshine_%s_total",
                       moon_counter_name(counter));
        metric(out, name, "counter", moon_counter_help(counter),
               counted(shm, counter));
    }
}

/* ---- of the node ---- */

static void add_info(const struct moon_master *master, struct moon_buf *out)
{
    head(out, "moonshine_build_info", "gauge",
         "always 1: version of the server, name of the node");
    moon_buf_printf(out, "moonshine_build_info{version=\"%s\",node=\"%s\"} 1\n",
                    MOON_VERSION, master->namez);
    metric(out, "moonshine_generation", "gauge",
           "generation of the code that serves",
           moon_shm_get(&moon_master_side(master)->generation));
    metric(out, "moonshine_fallback", "gauge",
           "1 while an older kept version serves",
           master->fallback_why != NULL);
}

static void add_cluster(const struct moon_shm *shm, struct moon_buf *out)
{
    metric(out, "moonshine_nodes", "gauge",
           "nodes that the list in Redis has, 0 without one",
           moon_shm_get32(&shm->cluster.nodes));
    metric(out, "moonshine_limits_fallback", "gauge",
           "1 while limits of the cluster are held without Redis",
           moon_shm_get32(&shm->cluster.away));
    metric(out, "moonshine_limits_unanswered_total", "counter",
           "questions about limits that Redis did not answer in time",
           moon_shm_get(&shm->cluster.failures));
}

static void add_events(const struct moon_master *master, struct moon_buf *out)
{
    const struct moon_shm *shm = master->shm;
    metric(out, "moonshine_reloads_total", "counter", "reloads committed",
           moon_shm_get(&shm->reloads));
    metric(out, "moonshine_reloads_failed_total", "counter",
           "reloads and rollbacks given up",
           moon_shm_get(&shm->reloads_failed));
    metric(out, "moonshine_rollbacks_total", "counter", "rollbacks committed",
           moon_shm_get(&shm->rollbacks));
    metric(out, "moonshine_upgrades_total", "counter",
           "new binaries that took over", moon_shm_get(&shm->upgrades));
    metric(out, "moonshine_upgrades_failed_total", "counter",
           "new binaries that did not", moon_shm_get(&shm->upgrades_failed));
    head(out, "moonshine_worker_restarts_total", "counter",
         "workers replaced, by how the last one ended");
    for (int i = 0; i < MOON_DEATHS; i++)
        moon_buf_printf(out,
                        "moonshine_worker_restarts_total{reason=\"%s\"} %llu\n",
                        moon_death_name((enum moon_death)i),
                        (ull)moon_shm_get(&shm->deaths[i]));
    metric(out, "moonshine_worker_kills_total", "counter",
           "workers killed because they hung", moon_shm_get(&shm->kills));
    metric(out, "moonshine_admin_denied_total", "counter",
           "admin requests over TCP without the right token",
           master->admin_guard.denied);
    metric(out, "moonshine_app_series", "gauge",
           "series of the application with labels",
           moon_metrics_series(master->metrics));
    metric(out, "moonshine_node_series", "gauge",
           "series of the node with labels",
           moon_metrics_series(master->node_metrics));
    add_cluster(master->shm, out);
}

/* The conventional names; of all processes of the node together. */
static void add_process(const struct moon_master *master, struct moon_buf *out)
{
    struct moon_process_usage usage;
    moon_process_usage_own(&usage);
    for (uint32_t i = 0; i < master->place_count; i++) {
        const struct moon_child *child = master->places[i].child;
        if (child != NULL && !child->reaped)
            moon_process_usage_add(&usage, child->pid);
    }
    real(out, "process_cpu_seconds_total", "counter",
         "user and system time of the node's processes", usage.cpu_s);
    metric(out, "process_resident_memory_bytes", "gauge",
           "resident memory, summed over the node's processes",
           usage.resident_bytes);
    metric(out, "process_open_fds", "gauge",
           "open descriptors of the process that has the most", usage.fds);
    metric(out, "process_max_fds", "gauge",
           "descriptors that one process may open", usage.max_fds);
    real(out, "process_start_time_seconds", "gauge",
         "when the node was started", master->started_at);
}

void moon_admin_metrics(const struct moon_master *master, struct moon_buf *out)
{
    add_info(master, out);
    add_gauges(master, out);
    add_events(master, out);
    add_counters(master->shm, out);
    add_process(master, out);
    moon_metrics_print(master->node_metrics, out);
    moon_metrics_print(master->metrics, out);
}
