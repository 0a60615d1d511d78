/* What a service manager hears: a socket of ours plays it. */
#include "node/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int manager = -1;
static char namez[64], heard[512];
static struct moon_notify notify;

/* "@" is an abstract name, else a path. */
static void listen_as(const char *markz)
{
    static int count;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(namez, sizeof(namez), "%s/tmp/moonshine-notify-%d-%d", markz,
                   (int)getpid(), count++);
    size_t len = strlen(namez);
    memcpy(to.sun_path, namez, len);
    if (namez[0] == '@')
        to.sun_path[0] = '\0';
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(
        bind(manager, (struct sockaddr *)&to,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
        0);
    assert_int_equal(setenv("NOTIFY_SOCKET", namez, 1), 0);
}

static int hang_up(void **state)
{
    (void)state;
    moon_notify_deinit(&notify);
    if (manager >= 0)
        (void)close(manager);
    manager = -1;
    (void)unlink(namez);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    return 0;
}

/* The next message; "" if there is none. */
static const char *hear(void)
{
    ssize_t n = recv(manager, heard, sizeof(heard) - 1, 0);
    heard[n > 0 ? n : 0] = '\0';
    return heard;
}

static void set_watchdog(const char *usecz, int pid)
{
    char pidz[16];
    (void)snprintf(pidz, sizeof(pidz), "%d", pid);
    assert_int_equal(setenv("WATCHDOG_USEC", usecz, 1), 0);
    assert_int_equal(setenv("WATCHDOG_PID", pidz, 1), 0);
}

static void speak(const char *markz)
{
    listen_as(markz);
    moon_notify_init(&notify, false);
    assert_null(getenv("NOTIFY_SOCKET")); /* children do not speak for us */
    moon_notify_send(&notify, "MAINPID=%d", 12);
    assert_string_equal(hear(), "MAINPID=12");
    moon_notify_send(&notify, "READY=1");
    moon_notify_reloading(&notify);
    assert_string_equal(hear(), "READY=1");
    unsigned long long usec = 0;
    assert_int_equal(sscanf(hear(), "RELOADING=1\nMONOTONIC_USEC=%llu", &usec),
                     1);
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    unsigned long long later = (unsigned long long)now.tv_sec * 1000000 +
                               (unsigned long long)now.tv_nsec / 1000;
    assert_true(usec <= later && later - usec < 60000000);
}

static void to_a_path(void **state)
{
    (void)state;
    speak("");
}

static void to_an_abstract_name(void **state)
{
    (void)state;
    speak("@");
}

static void without_a_manager(void **state)
{
    static const char *const bad[] = {"", "relative", "/", "vsock:2:1234"};
    char longer[200];
    (void)state;
    moon_notify_init(&notify, false);
    assert_int_equal(notify.fd, -1);
    for (size_t i = 0; i < MOON_COUNT(bad); i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", bad[i], 1), 0);
        moon_notify_init(&notify, false);
        assert_int_equal(notify.fd, -1);
        moon_notify_send(&notify, "READY=1");
        moon_notify_tick(&notify, true);
        moon_notify_extend(&notify);
        moon_notify_status(&notify, "x", true);
    }
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(setenv("NOTIFY_SOCKET", longer, 1), 0);
    moon_notify_init(&notify, false);
    assert_int_equal(notify.fd, -1);
}

static void a_manager_that_is_gone(void **state)
{
    (void)state;
    listen_as("");
    moon_notify_init(&notify, false);
    (void)close(manager);
    manager = -1;
    moon_notify_send(&notify, "READY=1");
    assert_int_equal(notify.unsent.len, 0); /* nobody will ever take it */
}

static void status_lines(void **state)
{
    (void)state;
    listen_as("@");
    moon_notify_init(&notify, false);
    moon_notify_status(&notify, "one\ntwo", false);
    assert_string_equal(hear(), "STATUS=one");
    moon_notify_status(&notify, "one", true);
    assert_string_equal(hear(), ""); /* nothing new */
    moon_notify_status(&notify, "two", false);
    assert_string_equal(hear(), ""); /* not every moment */
    moon_notify_status(&notify, "two", true);
    assert_string_equal(hear(), "STATUS=two");
}

static void watchdog(void **state)
{
    (void)state;
    listen_as("@");
    set_watchdog("600000000", (int)getpid());
    moon_notify_init(&notify, false);
    assert_true(notify.watchdog_usec == 600000000);
    moon_notify_tick(&notify, false);
    assert_string_equal(hear(), "");
    moon_notify_tick(&notify, true);
    assert_string_equal(hear(), "WATCHDOG=1");
    moon_notify_tick(&notify, true);
    assert_string_equal(hear(), ""); /* in 300 s again */
    notify.watchdog_next_ms = 0;
    moon_notify_tick(&notify, true);
    assert_string_equal(hear(), "WATCHDOG=1");
    /* Given back to the next binary, which reads them as its own. */
    moon_notify_export(&notify, (int)getpid() + 1);
    assert_string_equal(getenv("NOTIFY_SOCKET"), namez);
    struct moon_notify next;
    moon_notify_init(&next, true);
    assert_true(next.muted && next.watchdog_usec == 600000000);
    moon_notify_send(&next, "READY=1");
    assert_string_equal(hear(), "");
    moon_notify_deinit(&next);
    moon_notify_deinit(&notify);
    /* One of another process. */
    assert_int_equal(setenv("NOTIFY_SOCKET", namez, 1), 0);
    set_watchdog("600000000", (int)getpid() + 1);
    moon_notify_init(&notify, false);
    assert_true(notify.watchdog_usec == 0);
}

static void a_busy_manager_gets_all_in_order(void **state)
{
    char wanted[32];
    int sent = 0, got = 0;
    (void)state;
    listen_as("@");
    moon_notify_init(&notify, false);
    while (notify.unsent.len == 0 && sent < 100000)
        moon_notify_send(&notify, "N=%d", sent++);
    assert_true(notify.unsent.len > 0);
    moon_notify_send(&notify, "N=%d", sent++);
    notify.muted = true; /* what was said before is still sent */
    while (got < sent) {
        (void)snprintf(wanted, sizeof(wanted), "N=%d", got++);
        assert_string_equal(hear(), wanted);
        moon_notify_tick(&notify, true);
    }
    assert_string_equal(hear(), "");
    notify.muted = false;
    /* What is never taken is bounded. */
    for (int i = 0; i < 10000; i++)
        moon_notify_send(&notify, "N=%d", i);
    assert_true(notify.unsent.len <= 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(to_a_path, hang_up),
        cmocka_unit_test_teardown(to_an_abstract_name, hang_up),
        cmocka_unit_test_teardown(without_a_manager, hang_up),
        cmocka_unit_test_teardown(a_manager_that_is_gone, hang_up),
        cmocka_unit_test_teardown(status_lines, hang_up),
        cmocka_unit_test_teardown(watchdog, hang_up),
        cmocka_unit_test_teardown(a_busy_manager_gets_all_in_order, hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
