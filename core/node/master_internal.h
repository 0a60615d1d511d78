/* What the files of the master share: its state. Private to node/master*.c,
 * supervise.c, watch.c, reload*.c, admin*.c, upgrade.c, takeover.c and
 * dev_watch.c.
 *
 * The master has one thread and one loop, runs no Lua of the application, and
 * touches neither the app's directory nor any name service: what may block or
 * crash runs in children. Times are counted in its own ticks where a late
 * master must not make others look slow. */
#ifndef MOON_NODE_MASTER_INTERNAL_H
#define MOON_NODE_MASTER_INTERNAL_H

#include "net/listen.h"
#include "node/activation.h"
#include "node/admin_guard.h"
#include "node/control.h"
#include "node/layers.h"
#include "node/notify.h"
#include "node/probe.h"
#include "node/recent.h"
#include "node/release.h"
#include "node/shm.h"
#include "node/trial.h"
#include "node/upgrade.h"
#include "state/lmdb_files.h"
#include "state/region.h"

#include <uv.h>

enum { MOON_TICK_MS = 100, MOON_WORKERS_MAX = 256 };

struct moon_master;
struct moon_admin;
struct moon_dev_watch;

enum moon_child_state {
    MOON_CHILD_STARTING,
    MOON_CHILD_READY,
    MOON_CHILD_DRAINING, /* was told to */
};

/* What the watch knows of one worker; see watch.c. */
struct moon_watch_record {
    uint32_t seq, seq_ticks;
    uint32_t beat, beat_ticks;
    uint64_t slice_cpu_ns, slice_queue_ns;
    uint64_t beat_queue_ns;
    uint32_t starting_ticks;
    bool killed;
};

/* One worker process. Freed when it was reaped and its handle is closed. */
struct moon_child {
    struct moon_master *master;
    uint32_t place; /* its slot in the shared memory: moon_master_slot */
    pid_t pid;
    int fd;
    bool fd_open, reaped;
    bool holds; /* accepts nothing before it is told to */
    enum moon_child_state state;
    uint64_t generation;  /* that it serves */
    uint64_t prepare_txn; /* it is preparing; 0: nothing */
    bool voted;
    struct moon_watch_record watch;
    uv_poll_t poll;
};

/* One place for a worker. */
struct moon_place {
    struct moon_child *child; /* NULL: none now */
    uint32_t failures;        /* deaths before ready, in a row */
    uint64_t start_at_ms;     /* when to try again, if there is none */
    uint64_t empty_ns;        /* since when it serves nobody; 0: it did not */
};

enum moon_reload_kind {
    MOON_RELOAD_START,
    MOON_RELOAD_FALLBACK, /* start from the newest kept snapshot */
    MOON_RELOAD_BROKEN,   /* --dev: start without code that loads */
    MOON_RELOAD_DISK,
    MOON_RELOAD_ROLLBACK,
};

enum moon_reload_phase {
    MOON_RELOAD_IDLE,
    MOON_RELOAD_PROBING,
    MOON_RELOAD_VOTING,
    MOON_RELOAD_COMMITTING, /* decided: waits until all workers serve it */
};

typedef void moon_reload_done(void *ctx, bool ok, struct moon_str text);

struct moon_reload_waiter {
    moon_reload_done *done;
    void *ctx;
    struct moon_reload_waiter *next;
};

struct moon_reload {
    enum moon_reload_kind kind;
    enum moon_reload_phase phase;
    uint64_t txn; /* grows; catching up uses numbers of its own */
    struct moon_release *release; /* being tried; NULL before the probe's end */
    struct moon_probe probe;
    uint64_t deadline_ms; /* of the phase; 0: none */
    uint64_t started_ms;
    bool queued; /* one more afterwards */
    struct moon_reload_waiter *waiters, *next_waiters;
    /* the last one, for status */
    char *last_text;
    bool last_ok, has_last;
    double last_at;
    uint64_t last_took_ms;
};

struct moon_metrics; /* state/metrics.h */

struct moon_listener {
    struct moon_address address;
    char wantedz[128]; /* as configured: perhaps with port 0 */
    int fd;
    bool managed;  /* a service manager holds it, too */
    bool borrowed; /* of the old master, which has not let go yet */
    bool passed;   /* the new master has it */
    bool hidden;   /* its path is gone */
};

enum moon_master_state {
    MOON_MASTER_STARTING,
    MOON_MASTER_RUNNING, /* reloads are taken, also if nothing loads yet */
    MOON_MASTER_DRAINING,
};

struct moon_master {
    const struct moon_node_options *options;
    struct moon_node_options own_options; /* if they are not as given */
    struct moon_node_setting *own_settings;
    char *own_listenz;
    struct moon_app_paths paths;
    enum moon_master_state state;
    int exit_code;
    uv_loop_t loop;
    uv_poll_t signals;
    uv_timer_t tick;
    int signal_fd;
    bool opened; /* run directory, sockets, shared memory are there */

    char *namez, *node_dirz, *pid_pathz; /* owned */
    char memory_dir[MOON_LMDB_PRIVATE_DIR];
    int pid_fd, keep_fd;
    struct moon_listener listeners[MOON_LISTEN_MAX];
    uint32_t listener_count;
    struct moon_shm *shm;
    int shm_fd;
    uint32_t side, first_slot;  /* ours in it */
    struct moon_region *region; /* what applications share */
    int region_fd;
    struct moon_metrics *metrics, *node_metrics; /* the app's, its own */

    struct moon_release *fixed; /* the first one: restart-only keys */
    struct moon_release *current;
    char *fallback_why; /* set while a kept snapshot serves */
    struct moon_trial trial;
    char *trial_why; /* set while a version serves that a trial went back to */
    struct {
        char *whyz;   /* --dev: set while the code on disk does not load */
        int facts_fd; /* what is known besides, or -1 */
    } broken;
    struct moon_place places[MOON_WORKERS_MAX];
    uint32_t place_count;
    uint32_t live_children; /* not yet freed */
    struct moon_reload reload;

    struct moon_admin *admin;
    struct moon_admin_guard admin_guard;
    struct moon_dev_watch *dev;
    struct moon_recent recent; /* for status */
    struct moon_notify notify;
    struct moon_upgrade upgrade;   /* to the binary after this one */
    struct moon_takeover takeover; /* from the binary before */
    uint64_t started_ms;
    double started_at;      /* by the wall clock */
    uint64_t end_signal_ms; /* the one that began the drain came */
    uint64_t drain_at_ms;   /* drain_delay ends */
    uint64_t drain_end_ms;  /* workers are killed */
    bool drain_sent;
    bool at_once; /* nobody is waited for any more */
};

static inline struct moon_shm_side *moon_master_side(
    const struct moon_master *master)
{
    return &master->shm->sides[master->side];
}

static inline struct moon_worker_slot *moon_master_slot(
    const struct moon_master *master, uint32_t place)
{
    return &master->shm->slots[master->first_slot + place];
}

/* ---- master.c ---- */
void moon_master_drain(struct moon_master *master, const char *whyz);
/* The same after an upgrade: the node goes on, only this master ends. */
void moon_master_retire(struct moon_master *master);
/* Ends the loop if all is over. */
void moon_master_check_end(struct moon_master *master);

/* ---- master_notify.c: what the service manager hears ---- */
/* After the start, and after each reload whatever came of it. */
void moon_master_tell_ready(struct moon_master *master);
void moon_master_tell_stopping(struct moon_master *master);
void moon_master_notify_tick(struct moon_master *master);

/* ---- master_open.c: what is there once the configuration is known ---- */
bool moon_master_open(struct moon_master *master, struct moon_release *first,
                      struct moon_buf *error);
/* Once it is locked, or the old master has let go of it. */
bool moon_master_write_pid(struct moon_master *master, struct moon_buf *error);
void moon_master_close(struct moon_master *master);

/* ---- master_sockets.c ---- */
/* First thing: what a service manager or the old master gives replaces
 * `listen`. */
bool moon_master_take_given(struct moon_master *master, struct moon_buf *error);
bool moon_master_open_listeners(struct moon_master *master,
                                const struct moon_config *config,
                                struct moon_buf *error);
/* That of the admin endpoints. */
bool moon_master_open_admin(struct moon_master *master, struct moon_listener *l,
                            struct moon_buf *error);
/* Bits of those that others accept from, too: as of MOON_CONTROL_DRAIN. */
uint32_t moon_master_shared_sockets(const struct moon_master *master);
/* Tells the workers in case that this master dies. */
void moon_master_share_sockets(struct moon_master *master);
/* New clients of unix sockets look for somebody else. */
void moon_master_hide_listeners(struct moon_master *master);
void moon_master_close_listeners(struct moon_master *master);

/* ---- supervise.c ---- */
void moon_supervise_spawn(struct moon_master *master, uint32_t place);
/* Those places whose time has come. */
void moon_supervise_tick(struct moon_master *master);
bool moon_supervise_reaped(struct moon_master *master, pid_t pid, int status);
enum moon_err moon_supervise_send(struct moon_child *child,
                                  enum moon_control_type type, uint64_t txn);
/* Asks it to build the release. */
void moon_supervise_prepare(struct moon_child *child,
                            struct moon_release *release, uint64_t txn);
/* `shared`: as of MOON_CONTROL_DRAIN. */
void moon_supervise_drain(struct moon_child *child, uint32_t shared);
/* Those that hold accept from now on. */
void moon_supervise_release(struct moon_master *master);
void moon_supervise_kill_all(struct moon_master *master);
/* Serving children, of a generation if it is not 0. */
uint32_t moon_supervise_ready(const struct moon_master *master,
                              uint64_t generation);

/* ---- watch.c ---- */
void moon_watch_tick(struct moon_master *master);

/* ---- reload.c ---- */
/* `done` may be NULL; else it fires once, later. */
void moon_reload_request(struct moon_master *master, enum moon_reload_kind kind,
                         moon_reload_done *done, void *ctx);
/* What the workers did; the transaction looks whether it is over. */
void moon_reload_child_ready(struct moon_child *child);
void moon_reload_child_prepared(struct moon_child *child, uint64_t txn);
void moon_reload_child_failed(struct moon_child *child, uint64_t txn,
                              struct moon_str text);
void moon_reload_child_committed(struct moon_child *child);
void moon_reload_child_died(struct moon_child *child, int status);
void moon_reload_tick(struct moon_master *master);
/* The node drains: a transaction in its way is given up. */
void moon_reload_abort(struct moon_master *master);
/* The old master has let go: the start that has waited for it is complete. */
void moon_reload_start_granted(struct moon_master *master);
/* Begins what was put off, if nothing is in its way now. */
void moon_reload_next(struct moon_master *master);

/* ---- upgrade_exec.c ---- */
/* Which binary and arguments to execute; argv is borrowed for good. */
void moon_upgrade_init(struct moon_master *master, char **argv);
/* Forks and executes it with one end of the channel; -1 and errno. If it cannot
 * be executed, the child says so there. */
pid_t moon_upgrade_spawn(struct moon_master *master, int channel_fd);

/* ---- upgrade.c: the old master ---- */
/* SIGUSR2: begins, or refuses with a line in the log. */
void moon_upgrade_request(struct moon_master *master);
void moon_upgrade_tick(struct moon_master *master);
/* What the new master has said so far. */
void moon_upgrade_hear(struct moon_master *master);
bool moon_upgrade_reaped(struct moon_master *master, pid_t pid, int status);
/* The node is to drain. True: the new binary is just taking over; it is told to
 * end when it has. Else an upgrade in its way is given up. */
bool moon_upgrade_interrupt(struct moon_master *master);
/* A new binary starts, or is being killed: what may fork or change code waits.
 */
bool moon_upgrade_is_busy(const struct moon_master *master);
void moon_upgrade_close(struct moon_master *master);

/* ---- takeover.c: the new master ---- */
/* Reads what an old master handed over, if one did. */
bool moon_takeover_init(struct moon_master *master, struct moon_buf *error);
/* Says so to the old master; needs the loop. */
bool moon_takeover_start(struct moon_master *master);
/* What was given and is not wanted any more is closed. */
void moon_takeover_drop_rest(struct moon_master *master);
/* All is ready, on all workers if `whole`: asks for the grant. */
void moon_takeover_announce(struct moon_master *master, bool whole,
                            struct moon_str text);
/* It does not start; the old master is told why. */
void moon_takeover_failed(struct moon_master *master, struct moon_str why);
void moon_takeover_tick(struct moon_master *master);
/* The old master has not ended yet. */
bool moon_takeover_is_shared(const struct moon_master *master);
void moon_takeover_close(struct moon_master *master);

/* ---- reload_trial.c: rollback.window after a reload ---- */
/* A version was committed; `tried`: by a reload. */
void moon_reload_trial_begin(struct moon_master *master, bool tried);
void moon_reload_trial_tick(struct moon_master *master);

/* ---- admin.c ---- */
MOON_MUST_CHECK enum moon_err moon_admin_open(struct moon_master *master,
                                              struct moon_buf *error);
/* What the old master has let go of, or what it need not: answers from now on.
 */
void moon_admin_begin(struct moon_master *master);
/* The new master answers from now on. */
void moon_admin_hand_over(struct moon_master *master);
/* Borrowed; NULL once it is closed. */
const struct moon_listener *moon_admin_listener(
    const struct moon_master *master);
void moon_admin_tick(struct moon_master *master);
void moon_admin_requests_text(struct moon_master *master, uint32_t slot,
                              uint64_t txn, struct moon_str text);
/* A child still looks at the disk: it is killed, and moon_master_check_end is
 * called when it is gone. */
bool moon_admin_is_busy(struct moon_master *master);
bool moon_admin_reaped(struct moon_master *master, pid_t pid, int status);
void moon_admin_close(struct moon_master *master);

/* ---- dev_broken.c: --dev, while the code on disk does not load ---- */
/* All workers answer with this, and with the facts that the probe sent. */
void moon_dev_broken_set(struct moon_master *master, struct moon_str why);
/* The code loads; the workers see that themselves when they commit it. */
void moon_dev_broken_clear(struct moon_master *master);
/* One that is not known to know it. */
void moon_dev_broken_tell(struct moon_child *child);
/* At start: listens, and shows the error. False if that cannot be. */
bool moon_dev_broken_start(struct moon_master *master, struct moon_str why);

/* ---- dev_watch.c ---- */
void moon_dev_watch_open(struct moon_master *master);
void moon_dev_watch_close(struct moon_master *master);

#endif
