#include "node/probe.h"
#include "node/probe_server.h"

#include "base/log_records.h"
#include "node/explain.h"
#include "node/keep.h"
#include "node/process.h"
#include "node/routes.h"
#include "node/secret.h"
#include "node/session_dir.h"
#include "node/snapshot.h"
#include "node/test_child.h"
#include "state/commons.h"
#include "state/session_stores.h"
#include "vm/budget.h"
#include "vm/coverage.h"
#include "vm/dev_report.h"
#include "vm/vm.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct child {
    int fd;
    const struct moon_probe_options *options;
    const char *session_dirz;
    struct moon_session_stores *session_stores;
    struct moon_session_source *sessions;
    struct moon_buf error, dir, warnings;
    struct moon_buf facts; /* --dev: about the failure */
    int archive_fd, temp_fd;
    struct moon_archive *archive;
    struct moon_config *config;
    struct moon_commons commons;
    struct moon_vm *vm;
    uv_loop_t loop;
    bool started;
    bool answers;    /* MOON_PROBE_ROUTE: a route takes the request */
    bool log_access; /* as configured */
    enum moon_err start_err;
};

static void send_msg(const struct child *child,
                     const struct moon_control_msg *msg)
{
    if (moon_control_send(child->fd, msg) != MOON_OK)
        _exit(1);
}

/* --dev: what the VM has not told itself, from the text. */
static int make_facts(struct child *child)
{
    struct moon_buf *facts = &child->facts;
    if (!child->options->node->dev)
        return -1;
    if (facts->len == 0 && moon_dev_facts(moon_buf_str(&child->error),
                                          child->archive, facts) != MOON_OK)
        return -1;
    return facts->failed
               ? -1
               : moon_control_memfd("moonshine-facts", moon_buf_str(facts));
}

MOON_NORETURN static void give_up(struct child *child)
{
    struct moon_control_msg msg;
    if (child->error.len == 0)
        moon_buf_addz(&child->error, "out of memory");
    moon_control_msg_init(&msg, MOON_CONTROL_PROBE_FAILED);
    msg.text = moon_buf_str(&child->error);
    msg.fds[0] = make_facts(child);
    send_msg(child, &msg);
    moon_coverage_write();
    _exit(1);
}

static void take_code(struct child *child)
{
    const struct moon_probe_options *o = child->options;
    struct moon_snapshot_source source = {
        .app_dirz = o->paths->dirz,
        .app_filez = o->paths->filez,
        .configz = o->paths->configz,
    };
    enum moon_err err = MOON_OK;
    if (o->kept_fd >= 0) {
        child->archive_fd = o->kept_fd;
        char *real = realpath(o->paths->dirz, NULL);
        moon_buf_addz(&child->dir, real != NULL ? real : o->kept_dirz);
        free(real);
    } else {
        err = moon_snapshot_take(&source, &child->archive_fd, &child->dir,
                                 &child->error);
    }
    if (err == MOON_OK) {
        err = moon_archive_open(child->archive_fd, &child->archive);
        if (err != MOON_OK)
            moon_buf_printf(&child->error, "snapshot: %s", moon_err_text(err));
    }
    if (err != MOON_OK)
        give_up(child);
}

/* What a reload cannot change is as the node started with. */
static const struct moon_config *restart_keys(const struct child *child)
{
    const struct moon_release *serving = child->options->serving;
    return serving != NULL ? serving->config : child->config;
}

static const char *made_secret(const struct moon_config *config)
{
    bool made =
        config->levels[MOON_CONFIG_KEY_secrets_newz] == MOON_CONFIG_DEFAULT;
    return made ? config->secrets_newz : "";
}

/* Nothing can be kept: the one that the node started with goes on. */
static void improvise_secret(const struct child *child,
                             char out[MOON_SECRET_SIZE])
{
    const char *firstz = made_secret(restart_keys(child));
    moon_secret_make(out);
    if (firstz[0] != '\0')
        (void)snprintf(out, MOON_SECRET_SIZE, "%s", firstz);
}

/* While still root: the file is not the user's. A check makes none. */
static void take_secret(struct child *child)
{
    char secretz[MOON_SECRET_SIZE], error[128];
    if (child->config->secrets_newz[0] != '\0')
        return;
    if (child->options->mode != MOON_PROBE_LOAD) {
        moon_secret_make(secretz);
    } else if (moon_secret_get(restart_keys(child)->state_dirz, secretz,
                               &child->warnings) != MOON_OK) {
        moon_buf_addz(&child->warnings,
                      ": what the node has sealed until a restart is worth "
                      "nothing after it\n");
        improvise_secret(child, secretz);
    }
    enum moon_err err = moon_config_set(child->config, MOON_STR("secrets.new"),
                                        moon_strz(secretz), MOON_CONFIG_DEFAULT,
                                        NULL, error, sizeof(error));
    explicit_bzero(secretz, sizeof(secretz));
    if (err != MOON_OK)
        give_up(child);
}

static void send_config(struct child *child)
{
    struct moon_buf flat = {0};
    moon_config_serialise(child->config, &flat);
    int fd = -1;
    if (!flat.failed)
        fd = moon_control_memfd("moonshine-config", moon_buf_str(&flat));
    moon_buf_deinit(&flat);
    if (fd < 0)
        give_up(child);
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_PROBE_CONFIG);
    msg.text = moon_buf_str(&child->dir);
    msg.fds[0] = child->archive_fd;
    msg.fds[1] = fd;
    send_msg(child, &msg);
    (void)close(fd);
}

/* While still root: the state directory is not the user's. */
static void open_keep(struct child *child)
{
    const struct moon_probe_options *o = child->options;
    const struct moon_config *fixed = restart_keys(child);
    const char *namez = o->namez != NULL ? o->namez : fixed->namez;
    int dir = -1;
    if (o->mode != MOON_PROBE_LOAD || o->kept_fd >= 0 || namez[0] == '\0')
        return;
    if (moon_keep_open(fixed->state_dirz, namez, &dir, &child->warnings) ==
        MOON_OK) {
        if (moon_keep_begin(dir, getppid(), &child->temp_fd) != MOON_OK)
            child->temp_fd = -1;
        (void)close(dir);
    }
    if (child->temp_fd < 0)
        moon_buf_addz(&child->warnings,
                      ": this version cannot be rolled back to\n");
}

static void become_user(struct child *child)
{
    char text[512];
    if (moon_process_become(restart_keys(child)->userz, text, sizeof(text)) !=
        MOON_OK) {
        moon_buf_addz(&child->error, text);
        give_up(child);
    }
    /* Setting the user forgot it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The VM has its own cap; this one is for what FFI and C modules take. */
    struct rlimit limit = {.rlim_cur = child->config->memory_limit_bytes * 2 +
                                       (512ull << 20)};
    limit.rlim_max = limit.rlim_cur;
    if (!MOON_SANITIZED)
        (void)setrlimit(RLIMIT_DATA, &limit);
    limit = (struct rlimit){0};
    (void)setrlimit(RLIMIT_CORE, &limit);
}

static void on_started(void *ctx, enum moon_err err, struct moon_str text)
{
    struct child *child = ctx;
    child->started = true;
    child->start_err = err;
    if (err != MOON_OK)
        moon_buf_add_str(&child->error, text);
}

/* A check leaves nothing in what visitors use; a spec that is told to does. */
static void make_stores(struct child *child)
{
    const struct moon_config *config = child->config;
    const struct moon_config *fixed = restart_keys(child);
    bool told =
        child->options->mode == MOON_PROBE_TEST &&
        config->levels[MOON_CONFIG_KEY_session_urlz] == MOON_CONFIG_OPTION;
    if (moon_session_url_check(config->session_urlz, &child->error) != MOON_OK)
        give_up(child);
    char kept[PATH_MAX];
    moon_session_dir_path(fixed, kept, sizeof(kept));
    child->session_stores = moon_session_stores_create(&(
        struct moon_session_stores_options){.loop = &child->loop,
                                            .kept_dirz = kept,
                                            .memory_dirz = child->session_dirz,
                                            .nodez = fixed->namez,
                                            .temporary = !told});
    if (child->session_stores == NULL ||
        moon_session_stores_get(child->session_stores, config, &child->sessions,
                                &child->error) != MOON_OK)
        give_up(child);
}

static void load_app(struct child *child)
{
    struct moon_budget *budget = NULL;
    struct moon_watch *watch = NULL;
    if (moon_budget_create(&budget) != MOON_OK ||
        (watch = moon_budget_watch(budget, NULL)) == NULL ||
        uv_loop_init(&child->loop) != 0)
        give_up(child);
    const struct moon_config *fixed = restart_keys(child);
    const char *namez = child->options->namez;
    bool testing = child->options->mode == MOON_PROBE_TEST;
    moon_buf_add_char(&child->dir, '\0');
    if (child->dir.failed ||
        moon_commons_init(&child->commons, NULL, 1, 0, fixed) != MOON_OK)
        give_up(child);
    make_stores(child);
    static char socketz[MOON_PROBE_NAME];
    int socket_fd = moon_probe_server_listen(socketz);
    struct moon_vm_options options = {
        .files = child->archive,
        .config = child->config,
        .app_dirz = child->dir.ptr,
        .app_filez = child->options->paths->filez,
        .nodez = namez != NULL ? namez : fixed->namez,
        .generation = child->options->generation,
        .worker_id = testing ? 1 : 0,
        .worker_count = testing ? 1 : fixed->workers,
        .dev = child->options->node->dev,
        .probe = true,
        .commons = &child->commons,
        .sessions = child->sessions,
        .check_socketz = socket_fd >= 0 ? socketz : NULL,
        .watch = watch,
        .test = testing ? moon_test_child_options(child->options->test) : NULL,
        .report = child->options->node->dev ? &child->facts : NULL,
    };
    if (chdir(child->dir.ptr) != 0)
        moon_log(MOON_LOG_DEBUG, "cannot enter %s", child->dir.ptr);
    child->vm = moon_vm_create(&options, &child->error);
    if (child->vm == NULL)
        give_up(child);
    if (moon_vm_attach(child->vm, &child->loop, watch) != MOON_OK)
        give_up(child);
    child->log_access = child->config->log_access;
    child->config->log_access = false; /* a check's requests are no traffic */
    if (socket_fd >= 0 &&
        moon_probe_server_start(socket_fd, child->vm, child->archive,
                                child->config, &child->loop) != MOON_OK)
        give_up(child);
    moon_vm_start(child->vm, !testing, on_started, child);
    while (!child->started && uv_run(&child->loop, UV_RUN_ONCE) != 0)
        continue;
    if (!child->started)
        moon_buf_addz(&child->error, "the application's start functions wait "
                                     "for something that cannot come");
    if (!child->started || child->start_err != MOON_OK)
        give_up(child);
}

/* Once the app has started: it goes live, then the spec runs. */
MOON_NORETURN static void run_spec(struct child *child)
{
    moon_vm_activate(child->vm);
    if (moon_vm_run_spec(child->vm) != MOON_OK)
        give_up(child);
    while (!moon_test_child_is_done())
        (void)uv_run(&child->loop, UV_RUN_ONCE);
    (void)fflush(NULL);
    moon_coverage_write();
    _exit(0);
}

static void print_routes(struct child *child)
{
    const struct moon_probe_options *o = child->options;
    const struct moon_app *app = moon_vm_app(child->vm);
    child->config->log_access = child->log_access;
    if (o->mode == MOON_PROBE_ROUTES)
        moon_routes_print(app, stdout);
    else if (o->mode == MOON_PROBE_ROUTE)
        child->answers = moon_explain(app, child->config, moon_strz(o->methodz),
                                      moon_strz(o->pathz), stdout);
}

static void join_outside_files(struct child *child)
{
    struct moon_buf names = {0};
    struct moon_str path;
    for (uint32_t i = 0; moon_vm_outside(child->vm, i, &path); i++) {
        moon_buf_add_str(&names, path);
        moon_buf_add_char(&names, '\0');
    }
    int fd = -1;
    enum moon_err err = MOON_OK;
    if (names.failed)
        err = MOON_ENOMEM;
    else if (names.len > 0)
        err = moon_snapshot_extend(child->archive, child->dir.ptr,
                                   moon_buf_str(&names), &fd, &child->error);
    moon_buf_deinit(&names);
    if (err != MOON_OK)
        give_up(child);
    if (fd >= 0)
        child->archive_fd = fd;
}

MOON_NORETURN static void compare_disk(struct child *child)
{
    const struct moon_probe_options *o = child->options;
    struct moon_snapshot_source source = {
        .app_dirz = o->paths->dirz,
        .app_filez = o->paths->filez,
        .configz = o->paths->configz,
    };
    struct moon_buf what = {0};
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_PROBE_DISK);
    msg.count = moon_snapshot_differs(&source, o->serving->archive, &what);
    msg.text = moon_buf_str(&what);
    send_msg(child, &msg);
    _exit(0);
}

static void report_ok(struct child *child)
{
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_PROBE_OK);
    /* A snapshot that cannot be kept is worth a warning, not a failure. */
    if (child->temp_fd >= 0) {
        enum moon_err err = moon_keep_write(child->temp_fd, child->archive_fd);
        msg.txn = err == MOON_OK;
        if (err != MOON_OK)
            moon_buf_printf(&child->warnings,
                            "the snapshot cannot be kept: %s\n",
                            moon_err_text(err));
    }
    msg.count = child->options->mode == MOON_PROBE_ROUTE
                    ? child->answers
                    : moon_vm_app(child->vm)->route_count;
    msg.text = moon_buf_str(&child->warnings);
    msg.fds[0] = child->archive_fd;
    send_msg(child, &msg);
}

void moon_probe_main(int fd, const struct moon_probe_options *options,
                     const char *session_dirz)
{
    static struct child child; /* for leak checkers and a small stack */
    child = (struct child){.fd = fd,
                           .options = options,
                           .archive_fd = -1,
                           .temp_fd = -1,
                           .session_dirz = session_dirz};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setpgid(0, 0); /* so that its own children can be ended with it */
    moon_log_set_who("probe");
    if (options->mode == MOON_PROBE_TEST)
        moon_test_child_begin(fd, options->test);
    else
        moon_log_records_start(NULL, NULL);
    if (options->mode == MOON_PROBE_DISK)
        compare_disk(&child);
    take_code(&child);
    if (moon_layers_build(options->node, child.archive, &child.config,
                          &child.error) != MOON_OK)
        give_up(&child);
    if (moon_layers_apply_log(child.config, options->paths->dirz,
                              options->node->dev, &child.error) != MOON_OK)
        give_up(&child);
    take_secret(&child);
    if (options->mode != MOON_PROBE_TEST)
        send_config(&child);
    open_keep(&child);
    if (options->mode == MOON_PROBE_LOAD &&
        strcmp(child.config->session_urlz, "lmdb:") == 0)
        moon_session_dir_make(restart_keys(&child), &child.warnings);
    become_user(&child);
    if (moon_layers_check_dirs(child.config, &child.error, &child.warnings) !=
        MOON_OK)
        give_up(&child);
    load_app(&child);
    if (options->mode == MOON_PROBE_TEST)
        run_spec(&child);
    print_routes(&child);
    join_outside_files(&child);
    report_ok(&child);
    /* Not exit: what the app registered to run at exit is not ours to run. */
    (void)fflush(stdout);
    moon_coverage_write();
    _exit(0);
}
