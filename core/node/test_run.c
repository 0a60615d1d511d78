#include "node/test_run.h"

#include "base/machine.h"
#include "node/probe.h"
#include "node/process.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child bounds its tests itself; one that is stuck so that it cannot is given
 * this much more. What a file may print. */
enum { TICK_MS = 100, GRACE_MS = 2000 };
enum { OUTPUT_BYTES = 1 << 20, OUTPUT_EDGE = 4096 };

struct runner;

/* A place for one child at a time. */
struct slot {
    struct runner *runner;
    struct moon_probe probe;
    struct moon_probe_test test;
    struct moon_test_file *file; /* NULL: free */
    uint64_t started_ns;
    bool loaded;       /* the app: the spec file is being run */
    bool overdue;      /* killed, because its test did not end */
    uint32_t step;     /* ticks since it was heard of last */
    uint64_t queue_ns; /* what it had waited for a processor by then */
};

struct runner {
    struct moon_test_run *run;
    size_t next_file;
    struct slot *slots;
    uint32_t slot_count, running;
    uint32_t unloaded; /* files for which the app did not load */
    bool stop;         /* start no more */
    uv_loop_t loop;
    uv_timer_t tick;
    uv_poll_t signals;
    int signal_fd;
};

static void fill_slot(struct slot *slot);

/* ---- what a child leaves ---- */

static int make_memfd(const char *namez, size_t limit)
{
    int fd = memfd_create(namez, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    /* Writing beyond the limit fails; the file's position says how much was
     * written. */
    if (limit > 0 && (ftruncate(fd, (off_t)limit) < 0 ||
                      fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void read_memfd(int fd, struct moon_buf *out)
{
    off_t size = lseek(fd, 0, SEEK_CUR);
    if (size <= 0)
        return;
    char *to = moon_buf_reserve(out, (size_t)size);
    if (to == NULL)
        moon_test_no_memory();
    ssize_t got = pread(fd, to, (size_t)size, 0);
    out->len += got > 0 ? (size_t)got : 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void take_output(struct slot *slot)
{
    struct moon_buf report = {0};
    read_memfd(slot->test.out_fd, &slot->file->output);
    if (slot->file->output.len > OUTPUT_BYTES - OUTPUT_EDGE)
        moon_buf_addz(&slot->file->output,
                      "\n(what goes beyond 1 MiB is not kept)\n");
    if (slot->test.coverage_fd >= 0)
        read_memfd(slot->test.coverage_fd, &report);
    moon_test_coverage_add(&slot->runner->run->coverage, moon_buf_str(&report));
    moon_buf_deinit(&report);
    close_fd(&slot->test.out_fd);
    close_fd(&slot->test.coverage_fd);
}

/* ---- how a child ended ---- */

/* "in before_each at ...", and how many tests of the file never began. */
static void add_circumstances(const struct moon_test_file *file,
                              struct moon_buf *text)
{
    const struct moon_test_case *test = moon_test_file_running(file);
    if (test != NULL && test->step.len > 0)
        moon_buf_printf(text, " (in %.*s)",
                        MOON_STR_ARG(moon_buf_str(&test->step)));
    uint32_t left =
        file->planned > file->begun ? file->planned - file->begun : 0;
    if (left > 0)
        moon_buf_printf(text, "\n%u test%s of this file did not run", left,
                        left == 1 ? "" : "s");
}

static void explain_end(struct slot *slot)
{
    struct runner *runner = slot->runner;
    struct moon_buf text = {0};
    char how[64];
    moon_process_status_text(slot->probe.status, how, sizeof(how));
    const char *kindz = "crash";
    if (runner->run->interrupted) {
        kindz = "interrupted";
        moon_buf_addz(&text, "interrupted");
    } else if (slot->overdue) {
        kindz = "timeout";
        moon_buf_printf(&text,
                        "it was not done after %g s, nor could it be stopped: "
                        "is it inside a C function that waits?",
                        (double)runner->run->options->limit_ms / 1e3);
    } else if (WIFSIGNALED(slot->probe.status)) {
        moon_buf_printf(&text, "it ended the test process (%s)", how);
    } else {
        moon_buf_printf(&text, "it left the test process (%s)", how);
    }
    add_circumstances(slot->file, &text);
    moon_test_file_fail(slot->file, kindz, "", moon_buf_str(&text));
    moon_buf_deinit(&text);
}

/* It does not load for the other files either, so it is said once. */
static void fail_to_load(struct slot *slot, struct moon_str text)
{
    struct runner *runner = slot->runner;
    runner->stop = true;
    runner->unloaded++;
    if (runner->unloaded > 1)
        return;
    while (text.len > 0 && text.ptr[text.len - 1] == '\n')
        text.len--;
    moon_test_file_fail(slot->file, "load", "the application does not load",
                        text);
}

static void on_done(void *ctx, struct moon_probe *probe, bool ok)
{
    struct slot *slot = ctx;
    struct runner *runner = slot->runner;
    struct moon_test_file *file = slot->file;
    take_output(slot);
    if (!slot->loaded && !runner->run->interrupted) {
        fail_to_load(slot, moon_buf_str(&probe->text));
    } else if (!ok) {
        explain_end(slot);
    }
    file->took_ns = uv_hrtime() - slot->started_ns;
    file->done = true;
    slot->file = NULL;
    runner->running--;
    moon_test_print_marks(&runner->run->print);
    fill_slot(slot);
}

/* ---- while it runs ---- */

static void on_test(void *ctx, struct moon_probe *probe,
                    const struct moon_control_msg *msg)
{
    (void)probe;
    struct slot *slot = ctx;
    if (slot->file == NULL)
        return;
    /* Lines come while the app loads, too. */
    if (msg->count != MOON_TEST_LOG) {
        slot->loaded = true;
        slot->step = 0;
    }
    moon_test_file_event(slot->file, (enum moon_test_event)msg->count,
                         (uint32_t)msg->txn, msg->generation, msg->text);
    if (msg->count == MOON_TEST_END)
        moon_test_print_marks(&slot->runner->run->print);
}

/* Counted in our own ticks, less what the child waited for a processor, so that
 * a busy machine fails no test. */
static void look_at(struct slot *slot)
{
    struct moon_process_times times = {0};
    if (slot->file == NULL || !slot->loaded || slot->probe.pid == 0)
        return;
    slot->step++;
    uint64_t passed_ms = (uint64_t)slot->step * TICK_MS;
    uint64_t allowed_ms = slot->runner->run->options->limit_ms + GRACE_MS;
    if (slot->step > 1 && passed_ms < allowed_ms)
        return;
    (void)moon_process_thread_times(slot->probe.pid, slot->probe.pid, &times);
    if (slot->step == 1)
        slot->queue_ns = times.queue_ns;
    uint64_t waited_ms = times.queue_ns > slot->queue_ns
                             ? (times.queue_ns - slot->queue_ns) / 1000000
                             : 0;
    if (passed_ms >= allowed_ms + waited_ms && !times.stopped) {
        slot->overdue = true;
        moon_probe_kill(&slot->probe);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct runner *runner = timer->data;
    for (uint32_t i = 0; i < runner->slot_count; i++)
        look_at(&runner->slots[i]);
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct runner *runner = poll->data;
    struct signalfd_siginfo info;
    while (read(runner->signal_fd, &info, sizeof(info)) ==
           (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        runner->stop = runner->run->interrupted = true;
        for (uint32_t i = 0; i < runner->slot_count; i++)
            moon_probe_kill(&runner->slots[i].probe);
    }
    int end;
    pid_t pid;
    while ((pid = waitpid(-1, &end, WNOHANG)) > 0) {
        bool ours = false;
        for (uint32_t i = 0; i < runner->slot_count && !ours; i++)
            ours = moon_probe_reaped(&runner->slots[i].probe, pid, end);
    }
}

/* ---- starting ---- */

static void end_run(struct runner *runner)
{
    uv_close((uv_handle_t *)&runner->tick, NULL);
    uv_close((uv_handle_t *)&runner->signals, NULL);
}

static void start_file(struct slot *slot, struct moon_test_file *file)
{
    struct runner *runner = slot->runner;
    slot->file = file;
    slot->loaded = slot->overdue = false;
    slot->step = 0;
    slot->started_ns = uv_hrtime();
    slot->test = (struct moon_probe_test){
        .filez = file->namez,
        .filterz = runner->run->options->filterz,
        .limit_ms = runner->run->options->limit_ms,
        .out_fd = make_memfd("moonshine-output", OUTPUT_BYTES),
        .coverage_fd = runner->run->options->coverage
                           ? make_memfd("moonshine-coverage", 0)
                           : -1,
    };
    struct moon_probe_options probe = {
        .mode = MOON_PROBE_TEST,
        .node = runner->run->node,
        .paths = runner->run->paths,
        .generation = 1,
        .kept_fd = -1,
        .kept_dirz = runner->run->paths->dirz,
        .test = &slot->test,
    };
    slot->probe.ctx = slot;
    slot->probe.on_done = on_done;
    slot->probe.on_test = on_test;
    runner->running++;
    if (slot->test.out_fd >= 0 &&
        moon_probe_start(&slot->probe, &runner->loop, &probe,
                         runner->run->load_timeout_ms) == MOON_OK)
        return;
    moon_test_file_fail(file, "error", "", MOON_STR("cannot start a process"));
    close_fd(&slot->test.out_fd);
    close_fd(&slot->test.coverage_fd);
    file->done = true;
    slot->file = NULL;
    runner->running--;
    runner->stop = true;
}

static void fill_slot(struct slot *slot)
{
    struct runner *runner = slot->runner;
    if (!runner->stop && runner->next_file < runner->run->file_count)
        start_file(slot, &runner->run->files[runner->next_file++]);
    if (runner->running == 0 &&
        (runner->stop || runner->next_file == runner->run->file_count))
        end_run(runner);
}

static bool start(struct runner *runner)
{
    sigset_t set;
    moon_process_signal_set(&set);
    runner->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    runner->signals.data = runner->tick.data = runner;
    if (runner->signal_fd < 0 || uv_loop_init(&runner->loop) != 0 ||
        uv_timer_init(&runner->loop, &runner->tick) != 0 ||
        uv_timer_start(&runner->tick, on_tick, TICK_MS, TICK_MS) != 0 ||
        uv_poll_init(&runner->loop, &runner->signals, runner->signal_fd) != 0 ||
        uv_poll_start(&runner->signals, UV_READABLE, on_signal) != 0)
        return false;
    for (uint32_t i = 0; i < runner->slot_count; i++)
        runner->slots[i].runner = runner;
    for (uint32_t i = 0; i < runner->slot_count && !runner->stop; i++)
        start_file(&runner->slots[i], &runner->run->files[runner->next_file++]);
    if (runner->running == 0)
        end_run(runner);
    return true;
}

bool moon_test_run(struct moon_test_run *run)
{
    static struct runner runner; /* for leak checkers */
    uint32_t jobs =
        run->options->jobs > 0 ? run->options->jobs : moon_machine_cpus();
    runner = (struct runner){
        .run = run,
        .slot_count = jobs < run->file_count ? jobs : (uint32_t)run->file_count,
    };
    runner.slots = calloc(runner.slot_count, sizeof(*runner.slots));
    if (runner.slots == NULL)
        moon_test_no_memory();
    if (!start(&runner)) {
        free(runner.slots);
        return false;
    }
    (void)uv_run(&runner.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&runner.loop);
    (void)close(runner.signal_fd);
    for (size_t i = runner.next_file; i < run->file_count; i++)
        run->files[i].done = true;
    run->not_run = run->file_count - runner.next_file + runner.unloaded;
    for (uint32_t i = 0; i < runner.slot_count; i++)
        moon_probe_deinit(&runner.slots[i].probe);
    free(runner.slots);
    return true;
}
