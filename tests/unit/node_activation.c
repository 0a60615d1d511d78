/* Sockets that a service manager passes: whose, how many, of what sort. */
#include "node/activation.h"

#include "net/listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SELF = 4711, FIRST = 100 };

static struct moon_activation given;
static struct moon_buf error;

static enum moon_err look(const char *pidz, const char *countz,
                          const char *namesz)
{
    error.len = 0;
    enum moon_err err =
        moon_activation_read(pidz, countz, namesz, SELF, FIRST, &given, &error);
    moon_buf_add_char(&error, '\0');
    return err;
}

static void pass_socket(int index)
{
    char text[200];
    struct moon_address address;
    int fd;
    assert_int_equal(moon_address_parse(MOON_STR("127.0.0.1:0"), &address, text,
                                        sizeof(text)),
                     MOON_OK);
    assert_int_equal(moon_listen_open(&address, 16, &fd, text, sizeof(text)),
                     MOON_OK);
    assert_int_equal(dup2(fd, FIRST + index), FIRST + index);
    (void)close(fd);
}

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        pass_socket(i);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < MOON_LISTEN_MAX + 2; i++)
        (void)close(FIRST + i);
    moon_buf_deinit(&error);
    return 0;
}

static void nothing_for_us(void **state)
{
    static const char *const pids[] = {NULL, "", "4712", "47110", "x"};
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(pids); i++) {
        assert_int_equal(look(pids[i], "2", "a:b"), MOON_OK);
        assert_int_equal(given.count, 0);
    }
    assert_int_equal(look("4711", NULL, NULL), MOON_OK);
    assert_int_equal(given.count, 0);
    assert_int_equal(look("4711", "0", ""), MOON_OK);
    assert_int_equal(given.count, 0);
}

static void sockets_and_names(void **state)
{
    (void)state;
    assert_int_equal(look("4711", "3", "web:admin:"), MOON_OK);
    assert_int_equal(given.count, 3);
    assert_int_equal(given.sockets[0].fd, FIRST);
    assert_string_equal(given.sockets[0].namez, "web");
    assert_false(given.sockets[0].admin);
    assert_true(given.sockets[1].admin);
    assert_string_equal(given.sockets[2].namez, "");
    assert_memory_equal(given.sockets[2].address.textz, "127.0.0.1:", 10);
    /* Older managers give no names. */
    assert_int_equal(look("4711", "2", NULL), MOON_OK);
    assert_int_equal(given.count, 2);
    assert_false(given.sockets[1].admin);
    assert_string_equal(given.sockets[1].namez, "");
}

static void what_cannot_be_served(void **state)
{
    int pipes[2];
    (void)state;
    assert_int_equal(look("4711", "many", NULL), MOON_EINVAL);
    assert_non_null(strstr(error.ptr, "\"many\" is not a number"));
    assert_int_equal(look("4711", "18", NULL), MOON_EINVAL);
    assert_non_null(strstr(error.ptr, "at most 17"));
    assert_int_equal(look("4711", "3", "admin:web:admin"), MOON_EINVAL);
    assert_non_null(strstr(error.ptr, "two sockets are named"));
    assert_int_equal(look("4711", "4", NULL), MOON_EINVAL);
    assert_non_null(strstr(error.ptr, "descriptor 103 is not open"));
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(dup2(pipes[0], FIRST + 3), FIRST + 3);
    assert_int_equal(look("4711", "4", "a:b:c:fifo"), MOON_EINVAL);
    assert_non_null(strstr(error.ptr, "descriptor 103 is not a socket "
                                      "(\"fifo\"); a .socket unit"));
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    for (int i = 3; i < MOON_LISTEN_MAX + 1; i++)
        pass_socket(i);
    assert_int_equal(look("4711", "17", NULL), MOON_EINVAL);
    assert_non_null(strstr(error.ptr, "at most 16"));
    assert_int_equal(look("4711", "17", "admin"), MOON_OK);
    assert_int_equal(given.count, 17);
}

static void the_environment_forgets(void **state)
{
    char pid[16];
    (void)state;
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid() + 1);
    assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
    assert_int_equal(setenv("LISTEN_FDS", "1", 1), 0);
    assert_int_equal(setenv("LISTEN_FDNAMES", "a", 1), 0);
    assert_int_equal(moon_activation_take(&given, &error), MOON_OK);
    assert_int_equal(given.count, 0);
    assert_null(getenv("LISTEN_PID"));
    assert_null(getenv("LISTEN_FDS"));
    assert_null(getenv("LISTEN_FDNAMES"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_for_us),
        cmocka_unit_test(sockets_and_names),
        cmocka_unit_test(what_cannot_be_served),
        cmocka_unit_test(the_environment_forgets),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
