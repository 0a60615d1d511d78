#include "node/generations.h"

#include "base/clock.h"
#include "base/log.h"
#include "state/commons.h"
#include "state/session_stores.h"
#include "vm/quarantine_gate.h"

#include <stdlib.h>

/* A transaction that is the worker's own: it replaces a VM. */
#define TXN_REBUILD UINT64_MAX

/* What a generation that nobody has seen may take to stop. */
enum { DISCARD_MS = 1000 };

enum gen_state {
    GEN_BUILDING, /* with the builder */
    GEN_STARTING, /* on_start runs */
    GEN_PREPARED, /* waits for commit or drop */
    GEN_CURRENT,
    GEN_RETIRED, /* lingers */
    GEN_CLOSING, /* its timer closes, then the builder has the VM */
};

struct gen {
    struct moon_generation base; /* what exchanges refer to */
    struct gen *next;
    struct moon_generations *list;
    struct moon_release *release;         /* a reference */
    struct moon_session_source *sessions; /* likewise; NULL: none was got */
    enum gen_state state;
    uint64_t txn;
    bool dropped;       /* while being built or started */
    bool tasks_ended;   /* drain_timeout after the retirement is over */
    uint64_t end_at_ms; /* its linger is over then */
    uv_timer_t timer;
};

struct moon_generations {
    struct moon_generations_options o;
    struct gen *first; /* newest first */
    struct gen *current;
    uint64_t ended, rebuilt;
    struct moon_vm_stats closed; /* counts of VMs that are gone */
    uint64_t collections; /* of the current VM, when pages were last freed */
    bool stopping;
};

struct moon_generations *moon_generations_create(
    const struct moon_generations_options *options)
{
    struct moon_generations *list = calloc(1, sizeof(*list));
    if (list != NULL)
        list->o = *options;
    return list;
}

void moon_generations_destroy(struct moon_generations *list)
{
    free(list);
}

static void unlink_gen(struct gen *gen)
{
    struct gen **at = &gen->list->first;
    while (*at != gen)
        at = &(*at)->next;
    *at = gen->next;
    if (gen->list->current == gen)
        gen->list->current = NULL;
}

static void add_counts(struct moon_vm_stats *sum, const struct moon_vm *vm)
{
    struct moon_vm_stats one;
    moon_vm_get_stats(vm, &one);
    sum->errors += one.errors;
    sum->cpu_stops += one.cpu_stops;
    sum->memory_stops += one.memory_stops;
    sum->timeouts += one.timeouts;
    sum->slices += one.slices;
    sum->coroutines += one.coroutines;
    sum->refs += one.refs;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct gen *gen = handle->data;
    struct moon_generations *list = gen->list;
    unlink_gen(gen);
    if (gen->sessions != NULL)
        moon_session_source_put(gen->sessions);
    if (gen->base.vm != NULL) {
        add_counts(&list->closed, gen->base.vm);
        moon_builder_close_vm(list->o.builder, gen->base.vm, gen->release);
    } else {
        moon_release_unref(gen->release);
    }
    moon_route_tally_destroy(gen->base.tally);
    moon_quarantine_gate_destroy(gen->base.quarantine);
    moon_open_files_destroy(gen->base.open_files);
    free(gen);
    list->o.changed(list->o.ctx);
}

static void close_gen(struct gen *gen)
{
    if (gen->state == GEN_CLOSING)
        return;
    moon_log(MOON_LOG_DEBUG, "generation %llu is unused: closing its VM",
             (unsigned long long)gen->base.number);
    gen->state = GEN_CLOSING;
    uv_close((uv_handle_t *)&gen->timer, on_timer_closed);
}

static void close_if_unused(struct gen *gen)
{
    if (gen->state == GEN_RETIRED && gen->base.exchanges == 0 &&
        moon_vm_is_idle(gen->base.vm))
        close_gen(gen);
}

static void on_vm_idle(void *ctx)
{
    close_if_unused(ctx);
}

static void on_unused(void *ctx, struct moon_generation *base)
{
    (void)base;
    struct gen *gen = ctx;
    close_if_unused(gen);
    if (gen->state == GEN_RETIRED) /* a task may outlive its last request */
        moon_vm_on_idle(gen->base.vm, on_vm_idle, gen);
}

static void end_requests(struct gen *gen, const char *whyz)
{
    moon_log(
        MOON_LOG_WARN, "generation %llu: ending %u requests and %u tasks (%s)",
        (unsigned long long)gen->base.number, moon_vm_requests(gen->base.vm),
        moon_vm_detached_tasks(gen->base.vm), whyz);
    gen->list->ended++;
    gen->tasks_ended = true;
    moon_vm_cancel_tasks(gen->base.vm, true);
}

/* First its tasks' time is over, then that of its requests. */
static void on_linger(uv_timer_t *timer)
{
    struct gen *gen = timer->data;
    if (gen->state != GEN_RETIRED)
        return;
    uint64_t now = moon_clock_ms();
    if (!gen->tasks_ended && now < gen->end_at_ms) {
        gen->tasks_ended = true;
        moon_vm_cancel_tasks(gen->base.vm, false);
        (void)uv_timer_start(timer, on_linger, gen->end_at_ms - now, 0);
    } else {
        end_requests(gen, "linger is over");
    }
    close_if_unused(gen);
}

/* Its tasks and its on_stop have `tasks_ms`. */
static void retire(struct gen *gen, uint64_t tasks_ms)
{
    uint64_t linger_ms = gen->base.config->linger_ms;
    gen->state = GEN_RETIRED;
    gen->end_at_ms = moon_clock_ms() + linger_ms;
    moon_vm_retire(gen->base.vm);
    (void)uv_timer_start(&gen->timer, on_linger,
                         tasks_ms < linger_ms ? tasks_ms : linger_ms, 0);
    /* A request that is not on its VM yet, for its body is still coming or it
     * waits for a limit, needs that as it is; on_unused goes on. */
    if (gen->base.exchanges == 0 && !moon_vm_is_idle(gen->base.vm))
        moon_vm_on_idle(gen->base.vm, on_vm_idle, gen);
    close_if_unused(gen);
}

/* A generation that was never committed. */
static void discard(struct gen *gen)
{
    switch (gen->state) {
    case GEN_BUILDING:
    case GEN_STARTING:
        gen->dropped = true; /* its next callback ends it */
        break;
    case GEN_PREPARED:
        retire(gen, DISCARD_MS);
        break;
    case GEN_CURRENT:
    case GEN_RETIRED:
    case GEN_CLOSING:
        break;
    }
}

static void vote(struct gen *gen, bool ok, struct moon_str error)
{
    struct moon_generations *list = gen->list;
    if (gen->txn != TXN_REBUILD) {
        list->o.voted(list->o.ctx, gen->txn, ok, error);
    } else if (ok) {
        list->rebuilt++;
        moon_log(MOON_LOG_INFO, "replaced the VM of generation %llu",
                 (unsigned long long)gen->base.number);
        (void)moon_generations_commit(list, TXN_REBUILD);
    } else {
        moon_log(MOON_LOG_ERROR, "cannot replace the VM: %.*s",
                 MOON_STR_ARG(error));
    }
}

static void on_started(void *ctx, enum moon_err err, struct moon_str text)
{
    struct gen *gen = ctx;
    gen->state = GEN_PREPARED;
    if (gen->dropped || err != MOON_OK)
        discard(gen);
    if (!gen->dropped)
        vote(gen, err == MOON_OK, text);
}

static void on_built(void *ctx, struct moon_vm *vm, struct moon_str error)
{
    struct gen *gen = ctx;
    struct moon_generations *list = gen->list;
    gen->base.vm = vm;
    if (vm == NULL || gen->dropped) {
        close_gen(gen);
        if (!gen->dropped)
            vote(gen, false, error);
        return;
    }
    gen->base.tally = moon_route_tally_create(list->o.tally_table,
                                              moon_vm_app(vm)->route_count);
    if (gen->base.tally == NULL ||
        moon_vm_attach(vm, list->o.loop, list->o.watch) != MOON_OK) {
        close_gen(gen);
        vote(gen, false, MOON_STR("out of memory"));
        return;
    }
    gen->state = GEN_STARTING;
    moon_vm_start(vm, false, on_started, gen);
}

/* Makes room for one more: the oldest that lingers is ended. */
static void end_oldest(struct moon_generations *list, uint32_t max)
{
    struct gen *oldest = NULL;
    uint32_t live = 0;
    for (struct gen *gen = list->first; gen != NULL; gen = gen->next) {
        live++;
        if (gen->state == GEN_RETIRED)
            oldest = gen; /* the list is newest first */
    }
    if (live > max && oldest != NULL) {
        end_requests(oldest, "max_generations are alive");
        close_if_unused(oldest);
    }
}

static struct gen *add_gen(struct moon_generations *list,
                           struct moon_release *release, uint64_t txn)
{
    struct gen *gen = calloc(1, sizeof(*gen));
    if (gen == NULL)
        return NULL;
    gen->list = list;
    gen->release = moon_release_ref(release);
    gen->txn = txn;
    gen->base.number = release->generation;
    gen->base.files = release->archive;
    gen->base.config = release->config;
    moon_generation_set_trust(&gen->base, list->o.complained);
    gen->base.on_unused = on_unused;
    gen->base.ctx = gen;
    gen->timer.data = gen;
    (void)uv_timer_init(list->o.loop, &gen->timer);
    uv_unref((uv_handle_t *)&gen->timer);
    gen->next = list->first;
    list->first = gen;
    return gen;
}

static bool get_sessions(struct gen *gen)
{
    struct moon_generations *list = gen->list;
    struct moon_buf error = {0};
    bool ok = moon_session_stores_get(list->o.session_stores, gen->base.config,
                                      &gen->sessions, &error) == MOON_OK;
    if (!ok) {
        close_gen(gen);
        vote(gen, false, moon_buf_str(&error));
    }
    moon_buf_deinit(&error);
    return ok;
}

void moon_generations_prepare(struct moon_generations *list,
                              struct moon_release *release, uint64_t txn)
{
    for (struct gen *gen = list->first; gen != NULL; gen = gen->next)
        discard(gen);
    struct gen *gen = add_gen(list, release, txn);
    if (gen == NULL) {
        list->o.voted(list->o.ctx, txn, false, MOON_STR("out of memory"));
        return;
    }
    end_oldest(list, release->config->max_generations);
    if (!get_sessions(gen))
        return;
    struct moon_vm_options options = {
        .files = release->archive,
        .config = release->config,
        .app_dirz = release->dirz,
        .app_filez = list->o.app_filez,
        .nodez = list->o.nodez,
        .generation = release->generation,
        .worker_id = list->o.worker_id,
        .worker_count = list->o.worker_count,
        .dev = list->o.dev,
        .commons = list->o.commons,
        .sessions = gen->sessions,
    };
    if (moon_builder_build(list->o.builder, release, &options, on_built, gen) !=
        MOON_OK) {
        close_gen(gen);
        vote(gen, false, MOON_STR("out of memory"));
    }
}

static struct gen *find_prepared(struct moon_generations *list, uint64_t txn)
{
    for (struct gen *gen = list->first; gen != NULL; gen = gen->next)
        if (gen->state == GEN_PREPARED && gen->txn == txn)
            return gen;
    return NULL;
}

bool moon_generations_commit(struct moon_generations *list, uint64_t txn)
{
    struct gen *gen = find_prepared(list, txn);
    if (gen == NULL)
        return false;
    struct gen *old = list->current;
    gen->state = GEN_CURRENT;
    list->current = gen;
    gen->base.quarantine = moon_quarantine_gate_create(
        list->o.commons->region, moon_vm_app(gen->base.vm), gen->base.config,
        gen->base.number);
    moon_app_handler_set_generation(list->o.handler, &gen->base);
    /* The old one's timers stop before the new one's start. */
    if (old != NULL)
        retire(old, old->base.config->drain_timeout_ms);
    moon_vm_activate(gen->base.vm);
    list->o.changed(list->o.ctx);
    return true;
}

void moon_generations_drop(struct moon_generations *list, uint64_t txn)
{
    for (struct gen *gen = list->first; gen != NULL; gen = gen->next)
        if (gen->txn == txn)
            discard(gen);
}

void moon_generations_tend(struct moon_generations *list)
{
    uint64_t now_ms = moon_clock_ns() / 1000000;
    for (const struct gen *gen = list->first; gen != NULL; gen = gen->next)
        if (gen->base.open_files != NULL)
            moon_open_files_sweep(gen->base.open_files, now_ms);
    if (list->current == NULL || list->stopping)
        return;
    struct moon_vm_stats stats;
    moon_vm_get_stats(list->current->base.vm, &stats);
    if (stats.collections != list->collections) {
        list->collections = stats.collections;
        moon_builder_release_pages(list->o.builder);
    }
    for (const struct gen *gen = list->first; gen != NULL; gen = gen->next)
        if (gen->state == GEN_BUILDING || gen->state == GEN_STARTING ||
            gen->state == GEN_PREPARED)
            return; /* a new one comes anyway */
    if (stats.wants_rebuild == NULL)
        return;
    moon_log(MOON_LOG_WARN,
             "the VM of generation %llu %s (%llu of %llu bytes in use): "
             "replacing it",
             (unsigned long long)list->current->base.number,
             stats.wants_rebuild, (unsigned long long)stats.used_bytes,
             (unsigned long long)stats.limit_bytes);
    moon_generations_prepare(list, list->current->release, TXN_REBUILD);
}

struct moon_generation *moon_generations_current(
    const struct moon_generations *list)
{
    return list->current != NULL ? &list->current->base : NULL;
}

const struct moon_config *moon_generations_config(
    const struct moon_generations *list)
{
    return list->current != NULL ? list->current->base.config : NULL;
}

struct moon_session_source *moon_generations_sessions(
    const struct moon_generations *list)
{
    return list->current == NULL ? NULL : list->current->sessions;
}

uint32_t moon_generations_live(const struct moon_generations *list)
{
    uint32_t live = 0;
    for (const struct gen *gen = list->first; gen != NULL; gen = gen->next)
        live++;
    return live;
}

uint64_t moon_generations_ended(const struct moon_generations *list)
{
    return list->ended;
}

uint64_t moon_generations_rebuilt(const struct moon_generations *list)
{
    return list->rebuilt;
}

void moon_generations_stats(const struct moon_generations *list,
                            struct moon_vm_stats *out)
{
    *out = list->closed;
    out->tasks = out->coroutines = out->refs = 0;
    for (const struct gen *gen = list->first; gen != NULL; gen = gen->next) {
        /* Before it is attached a VM is the builder's. */
        if (gen->base.vm == NULL)
            continue;
        add_counts(out, gen->base.vm);
        out->tasks += moon_vm_detached_tasks(gen->base.vm);
    }
    if (list->current != NULL) {
        struct moon_vm_stats one;
        moon_vm_get_stats(list->current->base.vm, &one);
        out->used_bytes = one.used_bytes;
        out->limit_bytes = one.limit_bytes;
        out->peak_bytes = one.peak_bytes;
    }
}

void moon_generations_retire_all(struct moon_generations *list)
{
    list->stopping = true;
    struct gen *next;
    for (struct gen *gen = list->first; gen != NULL; gen = next) {
        next = gen->next;
        if (gen->state == GEN_CURRENT)
            retire(gen, gen->base.config->drain_timeout_ms);
        else
            discard(gen);
    }
}

void moon_generations_cancel_all(struct moon_generations *list)
{
    struct gen *next;
    for (struct gen *gen = list->first; gen != NULL; gen = next) {
        next = gen->next;
        if (gen->state != GEN_RETIRED && gen->state != GEN_CURRENT)
            continue;
        moon_vm_cancel_tasks(gen->base.vm, true);
        close_if_unused(gen);
    }
}
