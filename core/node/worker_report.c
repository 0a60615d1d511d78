/* What a worker tells about itself: counters in shared memory, and the list of
 * what is in flight. */
#include "node/worker_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/tally.h"
#include "vm/task.h"

enum { LAG_BEATS = 100 };

static void count(struct moon_worker *worker, enum moon_counter counter,
                  uint64_t value)
{
    moon_shm_set(&worker->slot->counters[counter],
                 worker->base_counters[counter] + value);
}

void moon_worker_publish(struct moon_worker *worker)
{
    if (worker->server == NULL)
        return;
    const struct moon_server_stats *s = moon_server_get_stats(worker->server);
    count(worker, MOON_COUNTER_accepted, s->accepted);
    count(worker, MOON_COUNTER_requests, s->requests);
    count(worker, MOON_COUNTER_bad_requests, s->bad_requests);
    count(worker, MOON_COUNTER_timeouts, s->timeouts);
    count(worker, MOON_COUNTER_resets, s->resets);
    count(worker, MOON_COUNTER_accept_pauses, s->accept_pauses);
    count(worker, MOON_COUNTER_shed, s->shed);
    count(worker, MOON_COUNTER_connection_limits, s->full);
    count(worker, MOON_COUNTER_connection_refusals, s->refused);
    count(worker, MOON_COUNTER_client_connection_refusals, s->refused_per_ip);
    count(worker, MOON_COUNTER_received_bytes, s->bytes_in);
    count(worker, MOON_COUNTER_sent_bytes, s->bytes_out);
    count(worker, MOON_COUNTER_slow_slices,
          moon_tally_get(MOON_TALLY_SLOW_SLICES));
    count(worker, MOON_COUNTER_session_store_errors,
          moon_tally_get(MOON_TALLY_SESSION_STORE_ERRORS));
    count(worker, MOON_COUNTER_quarantine_refusals,
          moon_tally_get(MOON_TALLY_QUARANTINE_REFUSALS));
    count(worker, MOON_COUNTER_redis_connects,
          moon_tally_get(MOON_TALLY_REDIS_CONNECTS));
    count(worker, MOON_COUNTER_overload_refusals,
          moon_tally_get(MOON_TALLY_OVERLOAD_REFUSALS));
    count(worker, MOON_COUNTER_log_lines_dropped,
          moon_tally_get(MOON_TALLY_LOG_DROPPED));
    for (int i = 0; i < 5; i++)
        count(worker, (enum moon_counter)(MOON_COUNTER_status_1xx + i),
              s->status_class[i + 1]);
    moon_shm_set32(&worker->slot->exchanges,
                   moon_server_exchanges(worker->server));
    moon_shm_set32(&worker->slot->generations_live,
                   moon_generations_live(worker->generations));
    struct moon_vm_stats vm;
    moon_generations_stats(worker->generations, &vm);
    count(worker, MOON_COUNTER_lua_errors, vm.errors);
    count(worker, MOON_COUNTER_cpu_stops, vm.cpu_stops);
    count(worker, MOON_COUNTER_memory_stops, vm.memory_stops);
    count(worker, MOON_COUNTER_vm_rebuilds,
          moon_generations_rebuilt(worker->generations));
    count(worker, MOON_COUNTER_linger_ends,
          moon_generations_ended(worker->generations));
    moon_shm_set32(&worker->slot->tasks, vm.tasks);
    moon_shm_set32(&worker->slot->coroutines, vm.coroutines);
    moon_shm_set32(&worker->slot->lua_refs, vm.refs);
    moon_shm_set32(&worker->slot->handles, worker->loop.active_handles);
    /* libuv counts them, and has no function that says so. */
    moon_shm_set32(&worker->slot->timers, worker->loop.timer_heap.nelts);
    moon_shm_set(&worker->slot->vm_used_bytes, vm.used_bytes);
    moon_shm_set(&worker->slot->vm_limit_bytes, vm.limit_bytes);
}

/* The most of the last one or two periods. */
static void note_lag(struct moon_worker *worker, uint64_t lag_us)
{
    if (lag_us > worker->lag_us)
        worker->lag_us = lag_us;
    if (worker->beats % LAG_BEATS == 0) {
        worker->last_lag_us = worker->lag_us;
        worker->lag_us = 0;
    }
    moon_shm_set(&worker->slot->lag_us, worker->lag_us > worker->last_lag_us
                                            ? worker->lag_us
                                            : worker->last_lag_us);
}

static void note_overload(struct moon_worker *worker, uint64_t lag_ns)
{
    bool on = moon_app_handler_is_overloaded(worker->handler);
    moon_shm_set32(&worker->slot->overloaded, on);
    if (on)
        moon_log(MOON_LOG_WARN,
                 "overloaded: a turn of the loop takes over shed_lag, %llu ms; "
                 "requests that have to wait are refused",
                 (unsigned long long)(lag_ns / 1000000));
    else
        moon_log(
            MOON_LOG_INFO,
            "not overloaded any more: %llu requests were "
            "refused so far",
            (unsigned long long)moon_tally_get(MOON_TALLY_OVERLOAD_REFUSALS));
}

void moon_worker_measure_lag(struct moon_worker *worker, uint64_t period_ms)
{
    uint64_t now = moon_clock_ns();
    uint64_t due = worker->beat_ns + period_ms * 1000000u;
    const struct moon_turn turn = {
        .lag_ns = now > due ? now - due : 0,
        .slice_ns = moon_budget_take_longest(worker->watch) * 1000000u,
        .due_ns = now + period_ms * 1000000u,
    };
    note_lag(worker, turn.lag_ns / 1000);
    moon_tally_table_lag(&worker->tally_table, (double)turn.lag_ns / 1e9);
    worker->beat_ns = now;
    if (moon_app_handler_beat(worker->handler, &turn))
        note_overload(worker, turn.lag_ns);
}

static const char *what_it_does(const struct moon_exchange *x)
{
    const char *wait_what = x->task != NULL ? x->task->wait_what : x->wait_what;
    switch (x->state) {
    case MOON_X_HEAD:
        return "receiving the head";
    case MOON_X_BODY:
        return "receiving the body";
    case MOON_X_RUNNING:
        return wait_what != NULL ? wait_what : "running";
    case MOON_X_STREAM:
        return wait_what != NULL ? wait_what : "streaming";
    case MOON_X_ANSWERED:
        return "sending the answer";
    }
    return "-";
}

void moon_worker_list_requests(const struct moon_worker *worker,
                               struct moon_buf *out)
{
    uint64_t now = moon_clock_ns();
    for (const struct moon_exchange *x = moon_server_first(worker->server);
         x != NULL && out->len < MOON_CONTROL_TEXT_MAX - 1024; x = x->next) {
        if (x->state == MOON_X_HEAD)
            continue; /* no more is known of it than of an idle connection */
        struct moon_str method = moon_request_str(&x->req, x->req.method_text);
        struct moon_str path = x->path;
        if (path.len > 200)
            path.len = 200;
        struct moon_str route =
            x->route != NULL ? x->route->pattern : MOON_STR("-");
        uint64_t age_ms =
            now > x->started_ns ? (now - x->started_ns) / 1000000u : 0;
        uint64_t generation = x->generation != NULL ? x->generation->number : 0;
        moon_buf_printf(out, "%u\t%llu\t%llu\t%.*s\t", worker->o->place + 1,
                        (unsigned long long)age_ms,
                        (unsigned long long)generation, MOON_STR_ARG(method));
        moon_buf_add_shown(out, path); /* decoded: it may hold anything */
        moon_buf_printf(out, "\t%.*s\t%.*s\t%s\n", MOON_STR_ARG(route),
                        MOON_STR_ARG(x->request_id), what_it_does(x));
    }
}
