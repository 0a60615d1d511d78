/* The probe: a child that tries a version of the application first, so that a
 * script that crashes, exits, hangs or eats all memory while it loads hurts
 * nobody.
 *
 * It takes the snapshot (or is given a kept one), evaluates config.lua, becomes
 * `user`, loads the application, runs its start functions and checks with real
 * I/O, adds the outside files that it used to the snapshot, writes that to the
 * state directory's temporary file, and reports. The master kills it at
 * load_timeout. What its requests keep in sessions ends with it. The master's
 * side runs on its loop and never blocks. */
#ifndef MOON_NODE_PROBE_H
#define MOON_NODE_PROBE_H

#include "node/control.h"
#include "node/layers.h"
#include "node/release.h"
#include "state/lmdb_files.h"

#include <uv.h>

enum moon_probe_mode {
    MOON_PROBE_LOAD,   /* for a node: as above */
    MOON_PROBE_CHECK,  /* load only, nothing is kept */
    MOON_PROBE_ROUTES, /* the same, and print the routes */
    MOON_PROBE_ROUTE,  /* the same, and explain one request */
    MOON_PROBE_DISK,   /* compare what is on disk with `serving` */
    MOON_PROBE_TEST,   /* load, then run one spec file (test_child.h) */
};

/* Of MOON_PROBE_TEST; borrowed while it runs. */
struct moon_probe_test {
    const char *filez, *filterz; /* as in vm/vm_test.h */
    uint64_t limit_ms;
    int out_fd;      /* becomes standard output and error */
    int coverage_fd; /* where its lines are reported; -1: not counted */
};

struct moon_probe_options {
    enum moon_probe_mode mode;
    const struct moon_node_options *node;
    const struct moon_app_paths *paths;
    uint64_t generation;
    int kept_fd;           /* archive to load; -1: from disk */
    const char *kept_dirz; /* its directory, if the one on disk is gone */
    const struct moon_release *serving; /* its restart-only keys hold; NULL at
                                           start */
    const char *namez;                  /* of the node; NULL: the config's */
    const struct moon_probe_test *test; /* of MOON_PROBE_TEST */
    const char *methodz, *pathz;        /* MOON_PROBE_ROUTE: the request */
};

struct moon_probe {
    pid_t pid; /* 0: none runs */
    int fd;
    bool closed; /* its socket ended */
    bool reaped;
    int status; /* wait status once reaped */
    bool has_config, has_result, failed, timed_out;
    bool kept; /* the snapshot is in the keep's temporary file */
    char session_dir[MOON_LMDB_PRIVATE_DIR]; /* sessions while it runs */
    struct moon_release *release; /* from the config message on; owned */
    struct moon_buf text;         /* error, or warnings */
    bool has_facts;
    int facts_fd;   /* --dev: more about the error; owned, if has_facts */
    uint32_t count; /* routes; or "differs" */
    uv_poll_t poll;
    uv_timer_t timer;
    uint32_t open_handles;
    uint64_t generation;
    /* All on the loop. on_config may be NULL; returning false ends the probe
     * (the text says why). on_done fires once, after the child is reaped; the
     * probe may be started again from there. */
    bool (*on_config)(void *ctx, struct moon_probe *probe);
    /* MOON_PROBE_TEST: each event. The timeout is that of loading; from the
     * first event on it is up to the receiver to have one. */
    void (*on_test)(void *ctx, struct moon_probe *probe,
                    const struct moon_control_msg *msg);
    void (*on_done)(void *ctx, struct moon_probe *probe, bool ok);
    void *ctx;
    uv_loop_t *loop;
    uint64_t timeout_ms;
};

/* A zeroed one is ready to start; after the last use it is deinited. */
void moon_probe_deinit(struct moon_probe *probe);

/* Callbacks and ctx are set by the caller before. */
MOON_MUST_CHECK enum moon_err moon_probe_start(
    struct moon_probe *probe, uv_loop_t *loop,
    const struct moon_probe_options *options, uint64_t timeout_ms);
/* The master's SIGCHLD handler saw this pid end; true if it was the probe. */
bool moon_probe_reaped(struct moon_probe *probe, pid_t pid, int status);
/* Kills it; on_done still comes. */
void moon_probe_kill(struct moon_probe *probe);
struct moon_release *moon_probe_take_release(struct moon_probe *probe);
/* What a failed one knew besides the text; the caller closes it. Or -1. */
int moon_probe_take_facts(struct moon_probe *probe);

/* The child's side; never returns. */
MOON_NORETURN void moon_probe_main(int fd,
                                   const struct moon_probe_options *options,
                                   const char *session_dirz);

#endif
