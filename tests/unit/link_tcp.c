/* Outbound connections without Lua: dialling, reading, pooling. The peer is a
 * listening socket of this process, driven by hand. */
#include "link/dial.h"
#include "link/link.h"
#include "link/pool.h"

#include "base/buf.h"
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 10000 };
/* What nothing here fails with. */
#define NO_ANSWER MOON_ELUA

static uv_loop_t loop;

/* ---- the peer ---- */

static int listen_on(int family, const char *textz, uint16_t *port)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (family == AF_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)&addr;
        un->sun_family = AF_UNIX;
        (void)snprintf(un->sun_path, sizeof(un->sun_path), "%s", textz);
        (void)unlink(textz);
        len = sizeof(*un);
    } else if (family == AF_INET6) {
        (void)uv_ip6_addr(textz, 0, (struct sockaddr_in6 *)&addr);
    } else {
        (void)uv_ip4_addr(textz, 0, (struct sockaddr_in *)&addr);
    }
    if (bind(fd, (struct sockaddr *)&addr, len) != 0 || listen(fd, 1) != 0) {
        (void)close(fd);
        return -1;
    }
    if (family != AF_UNIX) {
        len = sizeof(addr);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
        *port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
    }
    return fd;
}

static void say(int fd, const char *textz)
{
    assert_int_equal(send(fd, textz, strlen(textz), MSG_NOSIGNAL),
                     strlen(textz));
}

/* ---- waiting for callbacks ---- */

struct heard {
    enum moon_err err;
    int fd;
    char why[MOON_DIAL_ERROR_SIZE];
};

static void on_dial(void *ctx, enum moon_err err, int fd, const char *whyz)
{
    struct heard *heard = ctx;
    assert_int_equal(heard->err, NO_ANSWER);
    *heard = (struct heard){.err = err, .fd = fd};
    (void)snprintf(heard->why, sizeof(heard->why), "%s", whyz);
}

static void on_link(void *owner, enum moon_link_side side, enum moon_err err)
{
    struct heard *heard = owner;
    (void)side;
    assert_int_equal(heard->err, NO_ANSWER);
    heard->err = err;
}

static enum moon_err await(struct heard *heard)
{
    uint64_t deadline = moon_clock_ms() + PATIENCE_MS;
    /* Not UV_RUN_ONCE, which blocks after a timer that was due at once. */
    while (heard->err == NO_ANSWER && moon_clock_ms() < deadline)
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_not_equal(heard->err, NO_ANSWER);
    return heard->err;
}

/* ---- dialling ---- */

static struct heard dial(const char *hostz, uint16_t port, uint64_t timeout_ms)
{
    struct heard heard = {.err = NO_ANSWER, .fd = -1};
    struct moon_dial *out;
    enum moon_err err =
        moon_dial_start(&loop, moon_strz(hostz), port, timeout_ms, on_dial,
                        &heard, &out, &heard.fd, heard.why);
    if (err == MOON_EAGAIN)
        (void)await(&heard);
    else
        heard.err = err;
    return heard;
}

static void dials(void **state)
{
    uint16_t port, port6;
    char path[] = "/tmp/moonshine-unit-XXXXXX";
    (void)state;
    int made = mkstemp(path);
    assert_true(made >= 0);
    (void)close(made);
    int fd4 = listen_on(AF_INET, "127.0.0.1", &port);
    int fd6 = listen_on(AF_INET6, "::1", &port6);
    int fdu = listen_on(AF_UNIX, path, NULL);
    const struct {
        const char *hostz;
        uint16_t port;
    } cases[] = {{"127.0.0.1", port},
                 {"localhost", port},
                 {"::1", port6},
                 {"[::1]", port6},
                 {path, 0}};
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        if (fd6 < 0 && cases[i].port == port6)
            continue;
        struct heard heard = dial(cases[i].hostz, cases[i].port, 5000);
        assert_int_equal(heard.err, MOON_OK);
        int peer = accept(i < 2 ? fd4 : i < 4 ? fd6 : fdu, NULL, NULL);
        assert_true(peer >= 0);
        (void)close(peer);
        (void)close(heard.fd);
    }
    (void)close(fd4);
    (void)close(fd6);
    (void)close(fdu);
    struct heard heard = dial("127.0.0.1", port, 5000);
    assert_int_equal(heard.err, MOON_ESYS);
    assert_string_equal(heard.why, "connection refused");
    assert_int_equal(dial(path, 0, 5000).err, MOON_ESYS);
    (void)unlink(path);
    assert_string_equal(dial(path, 0, 5000).why, "no such file or directory");
    heard = dial("a..b", 80, 5000);
    assert_int_equal(heard.err, MOON_ESYS);
    assert_string_equal(heard.why, "host not found");
    assert_int_equal(dial("", 80, 5000).err, MOON_EINVAL);
    assert_int_equal(heard.fd, -1);
}

/* A unix socket with a full backlog says EAGAIN: asked again until the time is
 * over, or there is room. */
static void full_backlog(void **state)
{
    char path[] = "/tmp/moonshine-unit-XXXXXX";
    struct heard open[8];
    size_t count = 0;
    (void)state;
    (void)close(mkstemp(path));
    int fd = listen_on(AF_UNIX, path, NULL);
    do {
        open[count] = dial(path, 0, 30);
    } while (open[count].err == MOON_OK && ++count < MOON_COUNT(open));
    assert_in_range(count, 1, MOON_COUNT(open) - 1);
    assert_int_equal(open[count].err, MOON_ETIMEOUT);
    assert_string_equal(open[count].why, "timeout");
    struct heard heard = {.err = NO_ANSWER};
    struct moon_dial *out;
    assert_int_equal(moon_dial_start(&loop, moon_strz(path), 0, 5000, on_dial,
                                     &heard, &out, &heard.fd, heard.why),
                     MOON_EAGAIN);
    int peer = accept(fd, NULL, NULL);
    assert_int_equal(await(&heard), MOON_OK);
    (void)close(heard.fd);
    (void)close(peer);
    for (size_t i = 0; i < count; i++)
        (void)close(open[i].fd);
    (void)close(fd);
    (void)unlink(path);
}

static void cancelled_dials(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "a..b"};
    struct heard heard = {.err = NO_ANSWER};
    uint16_t port;
    (void)state;
    int fd = listen_on(AF_INET, "127.0.0.1", &port);
    for (size_t i = 0; i < MOON_COUNT(hosts); i++) {
        struct moon_dial *out;
        if (moon_dial_start(&loop, moon_strz(hosts[i]), port, 5000, on_dial,
                            &heard, &out, &heard.fd, heard.why) == MOON_EAGAIN)
            moon_dial_cancel(out);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    (void)close(fd);
    assert_int_equal(heard.err, NO_ANSWER);
}

/* ---- reading ---- */

struct pair {
    struct moon_link *link;
    int peer;
    struct heard heard;
};

static void open_pair(struct pair *pair)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds),
                     0);
    pair->link = moon_link_create(&loop, fds[0]);
    pair->peer = fds[1];
    assert_non_null(pair->link);
    moon_link_set_owner(pair->link, on_link, &pair->heard);
}

static void close_pair(struct pair *pair)
{
    moon_link_close(pair->link);
    (void)close(pair->peer);
}

static enum moon_err receive(struct pair *pair, enum moon_link_kind kind,
                             size_t size, const char *patternz,
                             uint64_t timeout_ms)
{
    struct moon_link_want want = {kind, size, moon_strz(patternz)};
    pair->heard.err = NO_ANSWER;
    enum moon_err err = moon_link_receive(pair->link, &want, timeout_ms);
    return err == MOON_EAGAIN ? await(&pair->heard) : err;
}

static void expect_taken(const struct pair *pair, const char *textz)
{
    struct moon_str taken = moon_link_taken(pair->link);
    assert_int_equal(taken.len, strlen(textz));
    assert_memory_equal(taken.ptr, textz, taken.len);
}

static void reads(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    say(pair.peer, "one\ntwo\n\nfour5678tail");
    assert_int_equal(receive(&pair, MOON_LINK_LINE, 0, "", 1000), MOON_OK);
    expect_taken(&pair, "one");
    assert_int_equal(receive(&pair, MOON_LINK_LINE, 0, "", 1000), MOON_OK);
    expect_taken(&pair, "two");
    assert_int_equal(receive(&pair, MOON_LINK_LINE, 0, "", 1000), MOON_OK);
    expect_taken(&pair, "");
    assert_int_equal(receive(&pair, MOON_LINK_SIZE, 4, "", 1000), MOON_OK);
    expect_taken(&pair, "four");
    assert_int_equal(receive(&pair, MOON_LINK_SIZE, 0, "", 1000), MOON_OK);
    expect_taken(&pair, "");
    assert_int_equal(receive(&pair, MOON_LINK_ANY, 4, "", 1000), MOON_OK);
    expect_taken(&pair, "5678");
    assert_true(moon_link_has_unread(pair.link));
    assert_int_equal(receive(&pair, MOON_LINK_LINE, 0, "", 20), MOON_ETIMEOUT);
    expect_taken(&pair, "tail");
    assert_string_equal(moon_link_whyz(pair.link), "timeout");
    assert_true(moon_link_is_clean(pair.link));
    say(pair.peer, "still");
    assert_int_equal(receive(&pair, MOON_LINK_ANY, 99, "", 1000), MOON_OK);
    expect_taken(&pair, "still");
    say(pair.peer, "all of");
    (void)shutdown(pair.peer, SHUT_WR);
    assert_int_equal(receive(&pair, MOON_LINK_ALL, 0, "", 1000), MOON_OK);
    expect_taken(&pair, "all of");
    assert_int_equal(receive(&pair, MOON_LINK_SIZE, 1, "", 1000), MOON_ECLOSED);
    expect_taken(&pair, "");
    assert_false(moon_link_is_clean(pair.link));
    close_pair(&pair);
}

static void closed_in_a_line(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    say(pair.peer, "half");
    (void)close(pair.peer);
    pair.peer = -1;
    assert_int_equal(receive(&pair, MOON_LINK_LINE, 0, "", 1000), MOON_ECLOSED);
    expect_taken(&pair, "half");
    assert_string_equal(moon_link_whyz(pair.link), "closed");
    assert_int_equal(moon_link_send(pair.link, MOON_STR("x"), 10),
                     MOON_ECLOSED);
    close_pair(&pair);
}

/* The pattern arrives a byte at a time, with false starts, for every size of
 * piece; the pieces together are always the same. */
static void reads_until(void **state)
{
    static const char text[] = "aabaac--ab--aabaab#rest";
    (void)state;
    for (size_t size = 1; size < 20; size++) {
        struct pair pair;
        struct moon_buf got = {0};
        size_t sent = 0;
        open_pair(&pair);
        bool met = false;
        while (!met) {
            enum moon_err err =
                receive(&pair, MOON_LINK_UNTIL, size, "aabaab#", 1);
            struct moon_str taken = moon_link_taken(pair.link);
            assert_in_range(taken.len, 0, size);
            moon_buf_add_str(&got, taken);
            met = moon_link_met(pair.link);
            if (err == MOON_ETIMEOUT) {
                assert_true(sent < sizeof(text) - 1);
                assert_int_equal(send(pair.peer, text + sent++, 1, 0), 1);
            } else {
                assert_int_equal(err, MOON_OK);
            }
        }
        assert_int_equal(got.len, 12);
        assert_memory_equal(got.ptr, text, got.len);
        moon_buf_deinit(&got);
        close_pair(&pair);
    }
}

static void too_long(void **state)
{
    struct pair pair;
    (void)state;
    open_pair(&pair);
    moon_link_set_limit(pair.link, 8);
    say(pair.peer, "123456789");
    assert_int_equal(receive(&pair, MOON_LINK_LINE, 0, "", 1000),
                     MOON_ETOO_BIG);
    assert_int_equal(receive(&pair, MOON_LINK_ALL, 0, "", 1000), MOON_ETOO_BIG);
    assert_int_equal(receive(&pair, MOON_LINK_SIZE, 9, "", 1000),
                     MOON_ETOO_BIG);
    assert_string_equal(moon_link_whyz(pair.link), "too long");
    assert_int_equal(receive(&pair, MOON_LINK_SIZE, 8, "", 1000), MOON_OK);
    expect_taken(&pair, "12345678");
    close_pair(&pair);
}

static void sends_what_does_not_fit(void **state)
{
    enum { BYTES = 4 << 20 };
    struct pair pair;
    char *bytes = malloc(BYTES);
    char piece[65536];
    size_t got = 0;
    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)(i * 31 % 251);
    open_pair(&pair);
    pair.heard.err = NO_ANSWER;
    assert_int_equal(moon_link_send(pair.link, moon_str(bytes, BYTES), 5000),
                     MOON_EAGAIN);
    while (got < BYTES) {
        ssize_t n = recv(pair.peer, piece, sizeof(piece), 0);
        if (n > 0) {
            assert_memory_equal(piece, bytes + got, (size_t)n);
            got += (size_t)n;
        }
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(pair.heard.err, MOON_OK);
    pair.heard.err = NO_ANSWER;
    assert_int_equal(moon_link_send(pair.link, moon_str(bytes, BYTES), 20),
                     MOON_EAGAIN);
    assert_int_equal(await(&pair.heard), MOON_ETIMEOUT);
    assert_int_equal(moon_link_send(pair.link, MOON_STR("x"), 20),
                     MOON_ECLOSED);
    free(bytes);
    close_pair(&pair);
}

/* ---- the pool ---- */

static struct moon_link *take(const char *namez, uint32_t *uses)
{
    return moon_pool_take(moon_strz(namez), uses);
}

static void put(struct moon_link *link, const char *namez, uint32_t max,
                uint64_t idle_ms)
{
    moon_pool_put(link, moon_strz(namez), 0, idle_ms, max);
}

static void on_tick(uv_timer_t *tick)
{
    (void)tick;
}

/* Something must keep the loop alive: idle links do not. */
static void wait_for_count(uint32_t count)
{
    uv_timer_t tick;
    assert_int_equal(uv_timer_init(&loop, &tick), 0);
    assert_int_equal(uv_timer_start(&tick, on_tick, 1, 1), 0);
    uint64_t deadline = moon_clock_ms() + PATIENCE_MS;
    while (moon_pool_count() != count && moon_clock_ms() < deadline)
        (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(moon_pool_count(), count);
    uv_close((uv_handle_t *)&tick, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
}

static void pools(void **state)
{
    struct pair pairs[6];
    uint32_t uses = 0;
    (void)state;
    for (size_t i = 0; i < 6; i++)
        open_pair(&pairs[i]);
    put(pairs[0].link, "a", 2, 60000);
    put(pairs[1].link, "a", 2, 60000);
    put(pairs[2].link, "b", 2, 60000);
    assert_null(take("c", &uses));
    assert_ptr_equal(take("a", &uses), pairs[1].link);
    assert_int_equal(uses, 1);
    put(pairs[1].link, "a", 2, 60000);
    put(pairs[3].link, "a", 2, 60000);
    assert_int_equal(moon_pool_count(), 3); /* pairs[0] had to go */

    say(pairs[3].peer, "unasked");
    (void)close(pairs[1].peer);
    assert_null(take("a", &uses)); /* seen before their events */
    assert_int_equal(moon_pool_count(), 1);

    put(pairs[4].link, "a", 2, 60000);
    (void)close(pairs[4].peer);
    wait_for_count(1);
    put(pairs[5].link, "a", 2, 1);
    wait_for_count(1);

    /* The idle ones do not keep the loop alive. */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    moon_pool_close();
    assert_int_equal(moon_pool_count(), 0);
    for (size_t i = 0; i < 6; i++) {
        if (i != 1 && i != 4)
            (void)close(pairs[i].peer);
    }
}

static int open_loop(void **state)
{
    (void)state;
    return uv_loop_init(&loop);
}

/* No handle and no request may be left. */
static int close_loop(void **state)
{
    (void)state;
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

int main(void)
{
#define IN_LOOP(test) \
    cmocka_unit_test_setup_teardown(test, open_loop, close_loop)
    const struct CMUnitTest tests[] = {
        IN_LOOP(dials),
        IN_LOOP(full_backlog),
        IN_LOOP(cancelled_dials),
        IN_LOOP(reads),
        IN_LOOP(closed_in_a_line),
        IN_LOOP(reads_until),
        IN_LOOP(too_long),
        IN_LOOP(sends_what_does_not_fit),
        IN_LOOP(pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
