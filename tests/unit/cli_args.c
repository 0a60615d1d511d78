#include "fleet/http.h"
#include "cli/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { LISTEN = 1, DEV };

static const struct moon_option options[] = {
    {LISTEN, "--listen", "ADDR", "where"},
    {DEV, "--dev", NULL, "for development"},
};

static const struct moon_command command = {
    .namez = "serve",
    .usagez = "[APP]",
    .summaryz = "Serve",
    .options = options,
    .option_count = MOON_COUNT(options),
    .max_words = 1,
};

/* Reads all arguments and writes them down: "1=x w=app 2". */
static int read_all(char *to, size_t size, int argc, const char *const *argv)
{
    struct moon_args args;
    size_t at = 0;
    to[0] = '\0';
    moon_args_init(&args, &command, argc, (char **)(uintptr_t)argv);
    for (;;) {
        switch (moon_args_next(&args)) {
        case MOON_ARG_END:
            return -1;
        case MOON_ARG_EXIT:
            return args.exit_code;
        case MOON_ARG_OPTION:
            at += (size_t)snprintf(to + at, size - at, "%d=%s ", args.id,
                                   args.textz == NULL ? "" : args.textz);
            break;
        case MOON_ARG_WORD:
            at += (size_t)snprintf(to + at, size - at, "w=%s ", args.textz);
            break;
        }
    }
}

static void arguments(void **state)
{
    static const struct {
        const char *argv[5];
        int argc, exit_code;
        const char *readz;
    } cases[] = {
        {{"--listen", ":1", "app", "--dev"}, 4, -1, "1=:1 w=app 2= "},
        {{"--listen=:1", "--listen=a=b"}, 2, -1, "1=:1 1=a=b "},
        {{"--listen="}, 1, -1, "1= "},
        {{"--", "--dev"}, 2, -1, "w=--dev "},
        {{"-"}, 1, -1, "w=- "},
        {{"app", "two"}, 2, MOON_EXIT_USAGE, "w=app "},
        {{"--lisen", "x"}, 2, MOON_EXIT_USAGE, ""},
        {{"--listen"}, 1, MOON_EXIT_USAGE, ""},
        {{"--dev=yes"}, 1, MOON_EXIT_USAGE, ""},
        {{"-x"}, 1, MOON_EXIT_USAGE, ""},
        {{"--dev", "--help", "--nonsense"}, 3, MOON_EXIT_OK, "2= "},
        {{"-h"}, 1, MOON_EXIT_OK, ""},
        {{NULL}, 0, -1, ""},
    };
    char text[200];
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        assert_int_equal(
            read_all(text, sizeof(text), cases[i].argc, cases[i].argv),
            cases[i].exit_code);
        assert_string_equal(text, cases[i].readz);
    }
}

static enum moon_err parse(const char *textz, int *status,
                           struct moon_str *body)
{
    return moon_fleet_parse(moon_strz(textz), status, body);
}

static void answers(void **state)
{
    struct moon_str body;
    int status;
    (void)state;
    assert_int_equal(
        parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", &status, &body),
        MOON_OK);
    assert_int_equal(status, 200);
    assert_true(moon_str_eq(body, MOON_STR("hi")));
    assert_int_equal(parse("HTTP/1.1 503 \r\n\r\nall of it", &status, &body),
                     MOON_OK);
    assert_int_equal(status, 503);
    assert_true(moon_str_eq(body, MOON_STR("all of it")));
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nX: y\r\ncontent-length:  1 "
                           "\r\n\r\nabc",
                           &status, &body),
                     MOON_OK);
    assert_int_equal(body.len, 1);
    assert_int_equal(
        parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", &status, &body),
        MOON_ECLOSED);
    assert_int_equal(parse("", &status, &body), MOON_ECLOSED);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\n", &status, &body),
                     MOON_ECLOSED);
    assert_int_equal(parse("SSH-2.0-OpenSSH\r\n", &status, &body), MOON_EPROTO);
    assert_int_equal(parse("HTTP/1.1 abc\r\n\r\n", &status, &body),
                     MOON_EPROTO);
    assert_int_equal(
        parse("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", &status, &body),
        MOON_EPROTO);
}

static void an_exchange_over_a_socket(void **state)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    struct moon_buf body = {0};
    int pair[2], status;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(write(pair[1], answer, sizeof(answer) - 1),
                     sizeof(answer) - 1);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    assert_int_equal(
        moon_fleet_exchange(pair[0], MOON_STR("GET / ..."), &status, &body),
        MOON_OK);
    assert_int_equal(status, 200);
    assert_true(moon_str_eq(moon_buf_str(&body), MOON_STR("hello")));
    moon_buf_deinit(&body);
    (void)close(pair[1]);
    assert_int_not_equal(
        moon_fleet_exchange(pair[0], MOON_STR("GET /"), &status, &body),
        MOON_OK);
    moon_buf_deinit(&body);
    (void)close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments),
        cmocka_unit_test(answers),
        cmocka_unit_test(an_exchange_over_a_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
