#include "node/probe.h"

#include "base/log.h"
#include "node/process.h"
#include "vm/vm_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_closed(uv_handle_t *handle)
{
    struct moon_probe *probe = handle->data;
    if (--probe->open_handles > 0)
        return;
    (void)close(probe->fd);
    probe->fd = -1;
    probe->pid = 0;
    moon_lmdb_private_dir_remove(probe->session_dir);
    bool ok = probe->has_result && !probe->failed;
    probe->on_done(probe->ctx, probe, ok);
}

/* Why there is no result: what ended the child says it. */
static void explain_end(struct moon_probe *probe)
{
    char how[64];
    moon_process_status_text(probe->status, how, sizeof(how));
    probe->failed = true;
    moon_buf_clear(&probe->text);
    if (probe->timed_out)
        moon_buf_printf(&probe->text,
                        "the app did not finish loading within %llu ms "
                        "(load_timeout)",
                        (unsigned long long)probe->timeout_ms);
    else if (WIFSIGNALED(probe->status))
        moon_buf_printf(&probe->text, "the app crashed while loading (%s)",
                        how);
    else
        moon_buf_printf(&probe->text,
                        "the app ended its process while loading (%s)", how);
}

static void finish_if_over(struct moon_probe *probe)
{
    if (!probe->closed || !probe->reaped ||
        uv_is_closing((uv_handle_t *)&probe->poll))
        return;
    if (!probe->has_result)
        explain_end(probe);
    uv_close((uv_handle_t *)&probe->poll, on_closed);
    uv_close((uv_handle_t *)&probe->timer, on_closed);
}

static void drop_facts(struct moon_probe *probe)
{
    if (probe->has_facts)
        (void)close(probe->facts_fd);
    probe->has_facts = false;
}

static void fail(struct moon_probe *probe, struct moon_str text)
{
    probe->has_result = probe->failed = true;
    moon_buf_clear(&probe->text);
    moon_buf_add_str(&probe->text,
                     text.len > 0 ? text : MOON_STR("out of memory"));
}

static void take_config(struct moon_probe *probe, struct moon_control_msg *msg)
{
    if (probe->has_config || msg->fds[0] < 0 || msg->fds[1] < 0)
        return;
    probe->has_config = true;
    int archive_fd = moon_control_msg_take_fd(msg, 0);
    int config_fd = moon_control_msg_take_fd(msg, 1);
    struct moon_buf error = {0};
    if (moon_release_create(probe->generation, archive_fd, config_fd, msg->text,
                            &probe->release, &error) != MOON_OK) {
        fail(probe, moon_buf_str(&error));
        moon_probe_kill(probe);
    } else if (probe->on_config != NULL &&
               !probe->on_config(probe->ctx, probe)) {
        probe->has_result = probe->failed = true;
        moon_probe_kill(probe);
    }
    moon_buf_deinit(&error);
}

/* The final archive replaces the one that came with the configuration. */
static void take_result(struct moon_probe *probe, struct moon_control_msg *msg)
{
    if (probe->has_result || probe->release == NULL || msg->fds[0] < 0)
        return;
    struct moon_archive *archive = NULL;
    enum moon_err err = moon_archive_open(msg->fds[0], &archive);
    if (err != MOON_OK) {
        fail(probe, err == MOON_ENOMEM
                        ? MOON_STR_NONE
                        : MOON_STR("the probe's snapshot is damaged"));
        return;
    }
    moon_archive_unref(probe->release->archive);
    (void)close(probe->release->archive_fd);
    probe->release->archive = archive;
    probe->release->archive_fd = moon_control_msg_take_fd(msg, 0);
    probe->release->routes = msg->count;
    moon_archive_hash(archive, probe->release->code);
    probe->count = msg->count;
    probe->kept = msg->txn != 0;
    probe->has_result = true;
    moon_buf_clear(&probe->text);
    moon_buf_add_str(&probe->text, msg->text);
}

static void handle(struct moon_probe *probe, struct moon_control_msg *msg)
{
    switch ((enum moon_control_type)msg->type) {
    case MOON_CONTROL_PROBE_CONFIG:
        take_config(probe, msg);
        break;
    case MOON_CONTROL_PROBE_OK:
        take_result(probe, msg);
        break;
    case MOON_CONTROL_PROBE_FAILED:
        if (probe->has_result)
            break;
        fail(probe, msg->text);
        drop_facts(probe);
        probe->has_facts = msg->fds[0] >= 0;
        probe->facts_fd = moon_control_msg_take_fd(msg, 0);
        break;
    case MOON_CONTROL_PROBE_DISK:
        probe->has_result = true;
        probe->count = msg->count;
        moon_buf_clear(&probe->text);
        moon_buf_add_str(&probe->text, msg->text);
        break;
    case MOON_CONTROL_PROBE_TEST:
        (void)uv_timer_stop(&probe->timer);
        if (msg->count == MOON_TEST_DONE)
            probe->has_result = true;
        if (probe->on_test != NULL)
            probe->on_test(probe->ctx, probe, msg);
        break;
    default: /* a child that ran foreign code may send anything */
        break;
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct moon_probe *probe = poll->data;
    static struct moon_control_buf buf; /* the master has one thread */
    for (;;) {
        struct moon_control_msg msg;
        enum moon_err err = status < 0
                                ? MOON_ECLOSED
                                : moon_control_receive(probe->fd, &msg, &buf);
        if (err == MOON_EAGAIN)
            return;
        if (err != MOON_OK) {
            probe->closed = true;
            (void)uv_poll_stop(poll);
            finish_if_over(probe);
            return;
        }
        handle(probe, &msg);
        moon_control_msg_close(&msg);
    }
}

static void on_timeout(uv_timer_t *timer)
{
    struct moon_probe *probe = timer->data;
    probe->timed_out = !probe->has_result;
    moon_probe_kill(probe);
}

static void start_handles(struct moon_probe *probe, uv_loop_t *loop)
{
    probe->poll.data = probe->timer.data = probe;
    probe->open_handles = 2;
    (void)uv_timer_init(loop, &probe->timer);
    (void)uv_timer_start(&probe->timer, on_timeout, probe->timeout_ms, 0);
    if (uv_poll_init(loop, &probe->poll, probe->fd) != 0 ||
        uv_poll_start(&probe->poll, UV_READABLE, on_poll) != 0)
        probe->closed = true;
}

enum moon_err moon_probe_start(struct moon_probe *probe, uv_loop_t *loop,
                               const struct moon_probe_options *options,
                               uint64_t timeout_ms)
{
    int fds[2];
    enum moon_err err =
        moon_lmdb_private_dir_name(P_tmpdir, probe->session_dir);
    if (err == MOON_OK)
        err = moon_control_pair(fds);
    if (err != MOON_OK)
        return err;
    const struct moon_probe_test *test = options->test;
    int keep[] = {fds[1], options->kept_fd, test != NULL ? test->out_fd : -1,
                  test != NULL ? test->coverage_fd : -1};
    pid_t pid = moon_process_fork(keep, MOON_COUNT(keep));
    if (pid == 0)
        moon_probe_main(fds[1], options, probe->session_dir);
    int sys = errno;
    (void)close(fds[1]);
    if (pid > 0)
        (void)setpgid(pid, pid); /* the child does it too, whoever is first */
    if (pid < 0) {
        (void)close(fds[0]);
        return moon_err_from_errno(sys);
    }
    probe->pid = pid;
    probe->fd = fds[0];
    probe->closed = probe->reaped = probe->has_config = false;
    probe->has_result = probe->failed = probe->timed_out = false;
    probe->kept = false;
    moon_buf_clear(&probe->text);
    drop_facts(probe);
    probe->count = 0;
    probe->loop = loop;
    probe->timeout_ms = timeout_ms;
    probe->generation = options->generation;
    moon_release_unref(probe->release);
    probe->release = NULL;
    start_handles(probe, loop);
    return MOON_OK;
}

bool moon_probe_reaped(struct moon_probe *probe, pid_t pid, int status)
{
    if (probe->pid == 0 || probe->pid != pid || probe->reaped)
        return false;
    probe->reaped = true;
    probe->status = status;
    (void)kill(-pid, SIGKILL); /* what it left behind, in its own group */
    /* What it sent before it ended is read first. A process that it left
     * behind must not keep its end of the socket open for ever. */
    if (!probe->closed)
        on_poll(&probe->poll, 0, UV_READABLE);
    if (!probe->closed) {
        probe->closed = true;
        (void)uv_poll_stop(&probe->poll);
    }
    finish_if_over(probe);
    return true;
}

void moon_probe_kill(struct moon_probe *probe)
{
    /* With all that it has started. */
    if (probe->pid > 0 && !probe->reaped)
        (void)kill(-probe->pid, SIGKILL);
}

struct moon_release *moon_probe_take_release(struct moon_probe *probe)
{
    struct moon_release *release = probe->release;
    probe->release = NULL;
    return release;
}

int moon_probe_take_facts(struct moon_probe *probe)
{
    int fd = probe->has_facts ? probe->facts_fd : -1;
    probe->has_facts = false;
    return fd;
}

void moon_probe_deinit(struct moon_probe *probe)
{
    moon_buf_deinit(&probe->text);
    drop_facts(probe);
}
