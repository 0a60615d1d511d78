#include "fleet/cluster_internal.h"

#include "base/clock.h"
#include "base/private_dir.h"
#include "fleet/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    FAILURES_MAX = 5,
    AGAIN_MS = 1000,
    ASK_MS = 300,
    FRONT_END_MS = 10000, /* nginx has to finish what it has; then it is cut */
    NODE_ARGS = 24,
};

static struct moon_cluster cluster; /* one of a process; it is large */

static void end_all(int exit_code);

/* ---- nodes ---- */

static bool start_member(struct moon_cluster_member *member)
{
    const struct moon_cluster_options *o = cluster.o;
    const char *argv[MOON_CLUSTER_ARGS + NODE_ARGS];
    char listen[MOON_CLUSTER_PATH + 16], name[MOON_TARGET_NAME + 16],
        run_dir[MOON_CLUSTER_PATH + 16];
    size_t n = 0;
    (void)snprintf(listen, sizeof(listen), "listen=%s", member->socketz);
    (void)snprintf(name, sizeof(name), "name=%s", member->child.namez);
    (void)snprintf(run_dir, sizeof(run_dir), "run_dir=%s", o->run_dirz);
    argv[n++] = o->programz;
    argv[n++] = "run";
    for (size_t i = 0; i < o->arg_count; i++)
        argv[n++] = o->args[i];
    argv[n++] = "--set";
    argv[n++] = listen;
    argv[n++] = "--set";
    argv[n++] = name;
    argv[n++] = "--set";
    argv[n++] = run_dir;
    argv[n] = NULL;
    member->ready = false;
    if (moon_cluster_spawn(&member->child, argv, SIGTERM))
        return true;
    (void)fprintf(stderr, "moonshine cluster: cannot start %s: %s\n",
                  o->programz, strerror(errno));
    return false;
}

static bool is_ready(const struct moon_cluster_member *member)
{
    static const struct moon_ask ask = {"GET", "/-/ready", "text/plain",
                                        ASK_MS};
    struct moon_buf body = {0}, error = {0};
    int status = 0;
    enum moon_err err =
        moon_ask_node(&member->admin, &ask, &status, &body, &error);
    moon_buf_deinit(&body);
    moon_buf_deinit(&error);
    return err == MOON_OK && status == 200;
}

static uint32_t tend_members(uint64_t now_ms)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < cluster.o->size; i++) {
        struct moon_cluster_member *member = &cluster.members[i];
        if (member->child.pid == 0) {
            if (now_ms >= member->start_ms && !start_member(member))
                end_all(1);
        } else if (!member->ready && is_ready(member)) {
            if (member->was_ready)
                moon_cluster_say(&cluster, "%s is back", member->child.namez);
            member->ready = member->was_ready = true;
            member->failures = 0;
        }
        ready += member->ready;
    }
    return ready;
}

static void how_it_ended(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        (void)snprintf(text, size, "SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(text, size, "exit code %d", WEXITSTATUS(status));
}

static void member_ended(struct moon_cluster_member *member, int status)
{
    char how[32];
    bool was_ready = member->ready;
    how_it_ended(status, how, sizeof(how));
    member->child.pid = 0;
    member->ready = false;
    if (cluster.phase >= MOON_CLUSTER_FRONT_ENDS)
        return;
    member->failures += !was_ready;
    if (!member->was_ready || member->failures >= FAILURES_MAX) {
        moon_cluster_say(&cluster, "%s ended (%s)", member->child.namez, how);
        moon_cluster_print_log(&member->child);
        end_all(1);
        return;
    }
    moon_cluster_say(&cluster, "%s ended (%s): starting it again",
                     member->child.namez, how);
    member->restarts++;
    member->start_ms = moon_clock_ms() + (was_ready ? 0 : AGAIN_MS);
}

/* ---- nginx ---- */

static bool write_file(const char *pathz, struct moon_str text)
{
    FILE *file = fopen(pathz, "we");
    bool ok = file != NULL && fwrite(text.ptr, 1, text.len, file) == text.len;
    if (file != NULL && fclose(file) != 0)
        ok = false;
    if (!ok)
        (void)fprintf(stderr, "moonshine cluster: cannot write %s: %s\n", pathz,
                      strerror(errno));
    return ok;
}

static bool start_front(void)
{
    struct moon_buf text = {0};
    char path[MOON_CLUSTER_PATH];
    /* Its workers read the nodes' sockets in a folder that is ours. */
    const char *ownz =
        geteuid() == 0 ? "daemon off; user root;" : "daemon off;";
    const char *const argv[] = {
        cluster.o->nginxz, "-p", cluster.dirz, "-e", "error.log", "-c",
        "nginx.conf",      "-g", ownz,         NULL};
    moon_nginx_print(cluster.o->nginx, cluster.o->config, &text);
    (void)snprintf(path, sizeof(path), "%s/nginx.conf", cluster.dirz);
    bool ok = !text.failed && write_file(path, moon_buf_str(&text));
    moon_buf_deinit(&text);
    if (!ok)
        return false;
    if (moon_cluster_spawn(&cluster.front, argv, SIGQUIT))
        return true;
    (void)fprintf(stderr, "moonshine cluster: cannot start %s: %s%s\n",
                  cluster.o->nginxz, strerror(errno),
                  errno == ENOENT ? " (Debian has it in the package "
                                    "nginx-light; --nginx names another one)"
                                  : "");
    return false;
}

static bool front_listens(void)
{
    struct moon_address address;
    char why[256];
    int fd;
    if (moon_address_parse(moon_strz(cluster.o->nginx->listen[0]), &address,
                           why, sizeof(why)) != MOON_OK ||
        moon_connect(&address, ASK_MS, &fd) != MOON_OK)
        return false;
    (void)close(fd);
    return true;
}

static void front_ended(int status)
{
    char how[32];
    how_it_ended(status, how, sizeof(how));
    cluster.front.pid = 0;
    if (cluster.phase >= MOON_CLUSTER_FRONT_ENDS)
        return;
    moon_cluster_say(&cluster, "nginx ended (%s)", how);
    moon_cluster_print_log(&cluster.front);
    end_all(1);
}

/* ---- the end ---- */

static void end_all(int exit_code)
{
    if (cluster.phase >= MOON_CLUSTER_FRONT_ENDS)
        return;
    cluster.exit_code = exit_code;
    cluster.phase = MOON_CLUSTER_FRONT_ENDS;
    cluster.front.told_ms = moon_clock_ms();
    moon_cluster_tell(&cluster.front, SIGQUIT);
}

static void end_nodes(void)
{
    cluster.phase = MOON_CLUSTER_NODES_END;
    for (uint32_t i = 0; i < cluster.o->size; i++) {
        cluster.members[i].child.told = true;
        moon_cluster_tell(&cluster.members[i].child, SIGTERM);
    }
}

/* The second signal: what is in flight is cut. */
static void hurry(void)
{
    cluster.hurry = true;
    moon_cluster_tell(&cluster.front, SIGTERM);
}

static void tick_end(uint64_t now_ms)
{
    uint32_t alive = 0;
    if (cluster.phase == MOON_CLUSTER_FRONT_ENDS) {
        if (cluster.front.pid == 0)
            end_nodes();
        else if (now_ms - cluster.front.told_ms > FRONT_END_MS)
            moon_cluster_tell(&cluster.front, SIGTERM);
        return;
    }
    for (uint32_t i = 0; i < cluster.o->size; i++)
        alive += cluster.members[i].child.pid != 0;
    if (alive > 0) {
        /* At each tick from the next one on: two that come before a node looks
         * are one to it. */
        if (cluster.hurry)
            end_nodes();
        return;
    }
    uv_close((uv_handle_t *)&cluster.tick, NULL);
    for (uint32_t i = 0; i < cluster.signal_count; i++)
        uv_close((uv_handle_t *)&cluster.signals[i], NULL);
}

/* ---- what happens when ---- */

static void say_serving(void)
{
    const char *listenz = cluster.o->nginx->listen[0];
    moon_cluster_say(&cluster,
                     "%u nodes behind http://%s/; logs and nginx.conf are in "
                     "%s",
                     cluster.o->size, listenz, cluster.dirz);
    moon_cluster_say(&cluster,
                     "SIGUSR1 reloads all, one after the other; Ctrl-C ends");
}

static void on_tick(uv_timer_t *timer)
{
    uint64_t now = moon_clock_ms();
    (void)timer;
    if (cluster.phase >= MOON_CLUSTER_FRONT_ENDS) {
        tick_end(now);
        return;
    }
    uint32_t ready = tend_members(now);
    if (cluster.phase == MOON_CLUSTER_NODES && ready == cluster.o->size) {
        cluster.phase = MOON_CLUSTER_FRONT;
        if (!start_front())
            end_all(1);
    } else if (cluster.phase == MOON_CLUSTER_FRONT && front_listens()) {
        cluster.phase = MOON_CLUSTER_SERVES;
        say_serving();
    }
    moon_cluster_show(&cluster);
}

static void reap(void)
{
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == cluster.front.pid)
            front_ended(status);
        for (uint32_t i = 0; i < cluster.o->size; i++)
            if (cluster.members[i].child.pid == pid)
                member_ended(&cluster.members[i], status);
    }
}

/* As `moonshine reload --nodes` would, which says what comes of it. */
static void reload_all(void)
{
    struct moon_cluster_child child = {.namez = "reload"};
    struct moon_buf names = {0};
    for (uint32_t i = 0; i < cluster.o->size; i++)
        moon_buf_printf(&names, "%s%s", i > 0 ? "," : "",
                        cluster.members[i].child.namez);
    moon_buf_add_char(&names, '\0');
    if (names.failed)
        return;
    const char *const argv[] = {
        cluster.o->programz, "reload",  "--run-dir", cluster.o->run_dirz,
        "--nodes",           names.ptr, NULL};
    moon_cluster_say(&cluster, "SIGUSR1: reloading the nodes");
    if (!moon_cluster_spawn(&child, argv, SIGTERM))
        moon_cluster_say(&cluster, "cannot reload: %s", strerror(errno));
    moon_buf_deinit(&names);
    cluster.lines = 0; /* it prints where the table was */
}

static void on_signal(uv_signal_t *handle, int signal)
{
    (void)handle;
    if (signal == SIGCHLD) {
        reap();
    } else if (signal == SIGUSR1) {
        if (cluster.phase == MOON_CLUSTER_SERVES)
            reload_all();
    } else if (cluster.phase < MOON_CLUSTER_FRONT_ENDS) {
        moon_cluster_say(&cluster, "SIG%s: finishing what is in flight",
                         sigabbrev_np(signal));
        end_all(0);
    } else {
        hurry();
    }
}

/* ---- the beginning ---- */

static bool make_dir(void)
{
    static char dir[MOON_CLUSTER_DIR];
    const char *run_dirz = cluster.o->run_dirz;
    int n =
        snprintf(dir, sizeof(dir), "%s/%s-cluster", run_dirz, cluster.o->namez);
    cluster.dirz = dir;
    struct moon_buf why = {0};
    bool fits = n > 0 && (size_t)n < sizeof(dir);
    if (!fits)
        moon_buf_printf(&why, "%s: %s", dir, strerror(ENAMETOOLONG));
    bool ok = fits && moon_private_dir_make(dir, &why);
    if (!ok)
        (void)fprintf(stderr, "moonshine cluster: cannot make %.*s\n",
                      MOON_STR_ARG(moon_buf_str(&why)));
    moon_buf_deinit(&why);
    return ok;
}

static bool make_member(uint32_t i)
{
    struct moon_cluster_member *member = &cluster.members[i];
    struct moon_buf why = {0};
    char admin[MOON_CLUSTER_PATH + 32], name[MOON_TARGET_NAME];
    *member = (struct moon_cluster_member){.slow_s = -1,
                                           .sampled_ms = moon_clock_ms()};
    (void)snprintf(name, sizeof(name), "%s-%u", cluster.o->namez, i + 1);
    memcpy(member->child.namez, name, sizeof(name));
    (void)snprintf(member->child.logz, sizeof(member->child.logz), "%s/%s.log",
                   cluster.dirz, name);
    (void)snprintf(member->socketz, sizeof(member->socketz), "unix:%s/%s.sock",
                   cluster.dirz, name);
    (void)snprintf(admin, sizeof(admin), "unix:%s/%s/admin.sock",
                   cluster.o->run_dirz, name);
    bool ok =
        moon_target_at(moon_strz(admin), &member->admin, &why) == MOON_OK &&
        moon_nginx_add_server(cluster.o->nginx, moon_strz(member->socketz),
                              &why) == MOON_OK;
    if (!ok)
        (void)fprintf(stderr,
                      "moonshine cluster: %.*s; --run-dir takes a "
                      "shorter or plainer one\n",
                      MOON_STR_ARG(moon_buf_str(&why)));
    moon_buf_deinit(&why);
    return ok;
}

static bool start_loop(void)
{
    static const int wanted[] = {SIGCHLD, SIGINT, SIGTERM, SIGQUIT, SIGUSR1};
    if (uv_loop_init(&cluster.loop) != 0 ||
        uv_timer_init(&cluster.loop, &cluster.tick) != 0)
        return false;
    (void)uv_timer_start(&cluster.tick, on_tick, 0, MOON_CLUSTER_TICK_MS);
    for (uint32_t i = 0; i < MOON_COUNT(wanted); i++) {
        if (uv_signal_init(&cluster.loop, &cluster.signals[i]) != 0)
            return false;
        cluster.signal_count++;
        (void)uv_signal_start(&cluster.signals[i], on_signal, wanted[i]);
    }
    return true;
}

int moon_cluster_run(const struct moon_cluster_options *options)
{
    const char *termz = getenv("TERM");
    cluster = (struct moon_cluster){.o = options};
    cluster.terminal =
        isatty(STDOUT_FILENO) && termz != NULL && strcmp(termz, "dumb") != 0;
    if (!make_dir())
        return 1;
    (void)snprintf(cluster.front.namez, sizeof(cluster.front.namez), "nginx");
    (void)snprintf(cluster.front.logz, sizeof(cluster.front.logz),
                   "%s/error.log", cluster.dirz);
    for (uint32_t i = 0; i < options->size; i++)
        if (!make_member(i))
            return 1;
    if (!start_loop()) {
        (void)fprintf(stderr, "moonshine cluster: no event loop\n");
        return 1;
    }
    (void)uv_run(&cluster.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&cluster.loop);
    return cluster.exit_code;
}
