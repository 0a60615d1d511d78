#include "net/listen.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char error[400];

static struct moon_address parse(const char *textz)
{
    struct moon_address address;
    assert_int_equal(
        moon_address_parse(moon_strz(textz), &address, error, sizeof(error)),
        MOON_OK);
    return address;
}

static enum moon_err open_it(struct moon_address *address, int *fd)
{
    return moon_listen_open(address, 16, fd, error, sizeof(error));
}

static void good_addresses(void **state)
{
    static const char *const cases[][2] = {
        {"127.0.0.1:8080", "127.0.0.1:8080"},
        {":8080", "0.0.0.0:8080"},
        {"8080", "0.0.0.0:8080"},
        {"*:80", "0.0.0.0:80"},
        {"[::1]:8080", "[::1]:8080"},
        {"[::]:0", "[::]:0"},
        {"unix:/run/x.sock", "unix:/run/x.sock"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++)
        assert_string_equal(parse(cases[i][0]).textz, cases[i][1]);
    assert_int_equal(parse(":8080").port, 8080);
    assert_string_equal(parse("unix:/x").pathz, "/x");
}

static void bad_addresses(void **state)
{
    static const char *const cases[] = {
        "",       "localhost:80", "127.0.0.1",   "127.0.0.1:",   "1.2.3:80",
        "::1:80", "[::1]",        "[::g]:80",    ":65536",       ":-1",
        "unix:",  "unix:rel",     "http://x:80", "[]:80",        "1.2.3.4.5:1",
        " 80",    "80 ",          "a",           "[1.2.3.4]:80", "::",
    };
    struct moon_address address;
    char longest[160] = "unix:/";
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        error[0] = '\0';
        assert_int_equal(moon_address_parse(moon_strz(cases[i]), &address,
                                            error, sizeof(error)),
                         MOON_EINVAL);
        assert_non_null(strstr(error, "is not an address"));
    }
    memset(longest + 6, 'x', 120);
    assert_int_equal(
        moon_address_parse(moon_strz(longest), &address, error, sizeof(error)),
        MOON_EINVAL);
    assert_non_null(strstr(error, "107 bytes"));
}

static void port_zero_becomes_a_real_one(void **state)
{
    struct moon_address address = parse("127.0.0.1:0");
    int fd, other, client;
    (void)state;
    assert_int_equal(open_it(&address, &fd), MOON_OK);
    assert_int_not_equal(address.port, 0);
    assert_int_equal(open_it(&address, &other), MOON_EEXISTS);
    assert_int_equal(other, -1);
    /* It is this very process that has it. */
    assert_non_null(strstr(error, "net_listen (process "));
    assert_int_equal(moon_connect(&address, 1000, &client), MOON_OK);
    (void)close(client);
    (void)close(fd);
    assert_int_equal(moon_connect(&address, 1000, &client), MOON_ENOT_FOUND);
}

static void unix_sockets(void **state)
{
    char dirz[] = "/tmp/moonshine-listen-XXXXXX", textz[80];
    int fd, other, client;
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dirz));
    (void)snprintf(textz, sizeof(textz), "unix:%s/sock", dirz);
    struct moon_address address = parse(textz);
    assert_int_equal(moon_connect(&address, 1000, &client), MOON_ENOT_FOUND);
    address.mode = 0600;
    assert_int_equal(open_it(&address, &fd), MOON_OK);
    assert_int_equal(stat(address.pathz, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(open_it(&address, &other), MOON_EEXISTS);
    assert_int_equal(moon_connect(&address, 1000, &client), MOON_OK);
    (void)close(client);
    (void)close(fd);
    /* Left behind by a dead process: taken over. */
    address.mode = 0;
    assert_int_equal(open_it(&address, &fd), MOON_OK);
    assert_int_equal(stat(address.pathz, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666);
    (void)close(fd);
    (void)unlink(address.pathz);
    /* A file of somebody's is left alone. */
    FILE *file = fopen(address.pathz, "we");
    assert_non_null(file);
    (void)fclose(file);
    assert_int_equal(open_it(&address, &fd), MOON_EEXISTS);
    assert_non_null(strstr(error, "not a socket"));
    (void)unlink(address.pathz);
    (void)rmdir(dirz);
    assert_int_equal(open_it(&address, &fd), MOON_ENOT_FOUND);
}

static void sockets_of_others(void **state)
{
    char dirz[] = "/tmp/moonshine-test-XXXXXX";
    char pathz[64];
    struct moon_address address, again;
    int fd, pipes[2];
    (void)state;
    assert_non_null(mkdtemp(dirz));
    (void)snprintf(pathz, sizeof(pathz), "unix:%s/s", dirz);
    const char *const good[] = {"127.0.0.1:0", "[::1]:0", pathz};
    for (size_t i = 0; i < MOON_COUNT(good); i++) {
        address = parse(good[i]);
        assert_int_equal(open_it(&address, &fd), MOON_OK);
        int flags = fcntl(fd, F_GETFL);
        assert_int_equal(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
        assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
        assert_int_equal(moon_listen_adopt(fd, &again, error, sizeof(error)),
                         MOON_OK);
        assert_string_equal(again.textz, address.textz);
        assert_string_equal(again.pathz, address.pathz);
        assert_int_equal(again.port, address.port);
        assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
        assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        (void)close(fd);
    }
    (void)unlink(pathz + strlen("unix:"));
    (void)rmdir(dirz);

    assert_int_equal(pipe(pipes), 0);
    int datagram = socket(AF_INET, SOCK_DGRAM, 0);
    int idle = socket(AF_INET, SOCK_STREAM, 0);
    int nameless = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    assert_int_equal(
        bind(nameless, (struct sockaddr *)&name, sizeof(name.sun_family)), 0);
    assert_int_equal(listen(nameless, 1), 0);
    const struct {
        int fd;
        const char *whyz;
    } bad[] = {
        {1000, "is not open"},
        {pipes[0], "is not a socket"},
        {datagram, "is not a stream socket"},
        {idle, "does not listen"},
        {nameless, "is a unix socket without a path"},
    };
    for (size_t i = 0; i < MOON_COUNT(bad); i++) {
        assert_int_equal(
            moon_listen_adopt(bad[i].fd, &again, error, sizeof(error)),
            MOON_EINVAL);
        assert_non_null(strstr(error, bad[i].whyz));
        (void)close(bad[i].fd);
    }
    (void)close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_addresses),
        cmocka_unit_test(bad_addresses),
        cmocka_unit_test(port_zero_becomes_a_real_one),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(sockets_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
