/* One generation of the application: a lua_State with the framework and the
 * app loaded, the frozen table of its routes, and its running tasks.
 *
 * Created on any thread (a builder, so that loading never holds up requests),
 * then attached to a loop and used on that thread only, then destroyed on any
 * thread. Only one thread touches a VM at a time; the hand-over is the queue
 * that moves it. Only core/vm includes Lua headers. */
#ifndef MOON_VM_VM_H
#define MOON_VM_VM_H

#include "base/archive.h"
#include "base/buf.h"
#include "base/config.h"
#include "http/exchange.h"

#include <uv.h>

struct lua_State;
struct moon_vm;
struct moon_watch;          /* vm/budget.h */
struct moon_commons;        /* state/commons.h */
struct moon_session_source; /* state/session_stores.h */
struct moon_limit_set;      /* vm/limit_gate.h */
struct moon_vm_test;        /* vm/vm_test.h */

struct moon_vm_options {
    const struct moon_archive *files; /* borrowed for the VM's life */
    const struct moon_config *config; /* borrowed for the VM's life */
    const char *app_dirz;             /* absolute; borrowed */
    const char *app_filez;            /* "app.lua", relative to app_dir */
    const char *nodez;                /* node name; borrowed */
    uint64_t generation;
    uint32_t worker_id, worker_count; /* 1-based; 0 in the probe */
    bool dev;
    bool probe; /* files missing from the archive are read from disk and
                   reported through moon_vm_outside */
    const char *check_socketz; /* the probe's own server, for app:check: a name
                                  for moonshine.tcp; borrowed; may be NULL */
    struct moon_watch *watch;  /* of the thread that loads; may be NULL */
    struct moon_commons *commons;         /* of the process; borrowed */
    struct moon_session_source *sessions; /* borrowed; NULL: there is none */
    const struct moon_vm_test *test; /* `moonshine test`, else NULL; borrowed */
    struct moon_buf *report; /* --dev: gets the facts about a failure to load
                                or to start, as JSON (vm/dev_report.h);
                                borrowed until started; may be NULL */
};

/* Loads everything. NULL on failure, with file, line and traceback in `error`.
 * The load is bounded by the caller (load_timeout). */
MOON_MUST_CHECK struct moon_vm *moon_vm_create(
    const struct moon_vm_options *options, struct moon_buf *error);

/* The loop that runs it from now on, and the watchdog of that thread. */
MOON_MUST_CHECK enum moon_err moon_vm_attach(struct moon_vm *vm,
                                             uv_loop_t *loop,
                                             struct moon_watch *watch);

/* Runs on_start functions, then (probe only) app:check functions, as tasks.
 * `done` fires once, later; err is MOON_OK or MOON_ELUA with the text. */
typedef void moon_vm_done(void *ctx, enum moon_err err, struct moon_str text);
void moon_vm_start(struct moon_vm *vm, bool with_checks, moon_vm_done *done,
                   void *ctx);

/* After that and moon_vm_activate: runs the spec file of options.test. */
MOON_MUST_CHECK enum moon_err moon_vm_run_spec(struct moon_vm *vm);

/* Commit: recorded timers begin. */
void moon_vm_activate(struct moon_vm *vm);
/* Timers and spawns stop being started; on_stop runs. Running tasks go on. */
void moon_vm_retire(struct moon_vm *vm);
/* Cancels what still runs: detached tasks, or (all) requests too. */
void moon_vm_cancel_tasks(struct moon_vm *vm, bool all);
/* Live tasks that belong to no request (spawn, timers). */
uint32_t moon_vm_detached_tasks(const struct moon_vm *vm);
uint32_t moon_vm_requests(const struct moon_vm *vm);
/* Neither tasks nor requests nor open handles: may be destroyed. While it is
 * false after a retire, `idle` given here fires once when it becomes true. */
bool moon_vm_is_idle(const struct moon_vm *vm);
void moon_vm_on_idle(struct moon_vm *vm, void (*idle)(void *ctx), void *ctx);
/* Frees all. Must be idle (or never attached). Any thread; slow for a big
 * heap, so the builder does it. */
void moon_vm_destroy(struct moon_vm *vm);

const struct moon_app *moon_vm_app(const struct moon_vm *vm);
struct moon_limit_set *moon_vm_limits(struct moon_vm *vm);
uint64_t moon_vm_generation(const struct moon_vm *vm);

/* Runs a chain for an exchange (the app now holds it), x->delay_ns later. */
void moon_vm_run(struct moon_vm *vm, struct moon_exchange *x, int chain);
/* Shapes a failure that arose in C (timeout, shed, body too large while the
 * handler runs) through the app's error handlers. */
enum moon_cancel_reason {
    MOON_CANCEL_TIMEOUT,    /* 503, kind "timeout" */
    MOON_CANCEL_DISCONNECT, /* nobody to answer */
    MOON_CANCEL_STOP,       /* drain deadline or linger over */
};
/* Ends the request's task: its pending operation is cancelled and an error
 * raised in it that pcall cannot swallow. No-op if it has none. */
void moon_vm_cancel(struct moon_exchange *x, enum moon_cancel_reason why);

/* What the connection tells the task that runs an exchange. */
void moon_vm_on_readable(struct moon_exchange *x);
void moon_vm_on_writable(struct moon_exchange *x);
void moon_vm_on_sent(struct moon_exchange *x); /* response out, or lost */

struct moon_vm_stats {
    uint64_t used_bytes, peak_bytes, limit_bytes;
    uint64_t errors, cpu_stops, memory_stops, timeouts, slices;
    uint64_t collections; /* finished after memory stops: when it grows, free
                             pages can be given back to the system */
    uint32_t tasks, coroutines; /* kept coroutines, idle ones too */
    uint32_t refs; /* of Lua's registry: the most there were at once */
    const char *wants_rebuild; /* static: why it should be replaced, or NULL */
};
void moon_vm_get_stats(const struct moon_vm *vm, struct moon_vm_stats *out);

/* A file of the application by its name in the archive, or (probe) on disk;
 * borrowed for the VM's life. */
bool moon_vm_find_file(struct moon_vm *vm, struct moon_str name,
                       struct moon_str *bytes);
/* The VM of a Lua thread, and the one that runs or loads on this OS thread. */
struct moon_vm *moon_vm_of(struct lua_State *L);
struct moon_vm *moon_vm_here(void);
const struct moon_vm_options *moon_vm_get_options(const struct moon_vm *vm);
/* For the functions that fill it while the app loads. */
struct moon_app *moon_vm_app_loading(struct moon_vm *vm);

/* Probe: modules and files read from outside the archive, by the name they
 * were asked for (absolute, or relative to the app directory), which is the
 * name to archive them under; false when index is past the last. */
bool moon_vm_outside(const struct moon_vm *vm, uint32_t index,
                     struct moon_str *path);

#endif
