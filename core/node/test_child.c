#include "node/test_child.h"

#include "base/clock.h"
#include "base/log_records.h"
#include "vm/coverage.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static struct {
    int fd;
    uint64_t began_ns; /* the test that runs */
    bool done;
    struct moon_vm_test vm_test;
} child;

/* Waits for the parent to have read: it does nothing else, and every line
 * matters. */
static void send_all(const struct moon_control_msg *msg)
{
    enum moon_err err;
    while ((err = moon_control_send(child.fd, msg)) == MOON_EAGAIN) {
        struct pollfd room = {.fd = child.fd, .events = POLLOUT};
        (void)poll(&room, 1, -1);
    }
    if (err != MOON_OK)
        _exit(1);
}

static void on_event(void *ctx, enum moon_test_event event, uint32_t number,
                     struct moon_str text)
{
    (void)ctx;
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_CONTROL_PROBE_TEST);
    msg.count = (uint32_t)event;
    msg.txn = number;
    msg.text = text;
    if (event == MOON_TEST_BEGIN)
        child.began_ns = moon_clock_ns();
    if (event == MOON_TEST_END)
        msg.generation = moon_clock_ns() - child.began_ns;
    if (event == MOON_TEST_DONE)
        child.done = true;
    send_all(&msg);
}

static void on_line(void *ctx, enum moon_log_level level, struct moon_str text)
{
    on_event(ctx, MOON_TEST_LOG, (uint32_t)level, text);
}

void moon_test_child_begin(int control_fd, const struct moon_probe_test *test)
{
    child.fd = control_fd;
    (void)dup2(test->out_fd, STDOUT_FILENO);
    (void)dup2(test->out_fd, STDERR_FILENO);
    /* So that what was printed before a crash is seen. */
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    moon_log_records_start(on_line, NULL);
    if (test->coverage_fd >= 0)
        moon_coverage_to(test->coverage_fd);
}

const struct moon_vm_test *moon_test_child_options(
    const struct moon_probe_test *test)
{
    child.vm_test = (struct moon_vm_test){
        .filez = test->filez,
        .filterz = test->filterz,
        .limit_ms = test->limit_ms,
        .event = on_event,
    };
    return &child.vm_test;
}

bool moon_test_child_is_done(void)
{
    return child.done;
}
