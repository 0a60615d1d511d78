#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum { CONNECTIONS = 16, IN_MAX = 1 << 20 };

struct connection {
    int fd;
    struct moon_buf in;
};

static struct connection connections[CONNECTIONS];
static int count;
static struct fuzz_bytes *chunks; /* NULL: stopped */
static bool is_honest;

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *req,
                          uv_getaddrinfo_cb cb, const char *node,
                          const char *service, const struct addrinfo *hints);

/* The other end of `fd` is ours. */
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    int fds[2];
    (void)addr;
    (void)len;
    if (chunks == NULL || count == CONNECTIONS) {
        errno = ECONNREFUSED;
        return -1;
    }
    int kinds = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    FUZZ_CHECK(socketpair(AF_UNIX, kinds, 0, fds) == 0);
    FUZZ_CHECK(dup3(fds[0], fd, O_CLOEXEC) == fd);
    (void)close(fds[0]);
    connections[count++] = (struct connection){.fd = fds[1]};
    return 0;
}

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *req,
                          uv_getaddrinfo_cb cb, const char *node,
                          const char *service, const struct addrinfo *hints)
{
    (void)loop;
    (void)req;
    (void)cb;
    (void)node;
    (void)service;
    (void)hints;
    return UV_EAI_NONAME;
}

void fake_server_start(struct fuzz_bytes *bytes, bool honest)
{
    chunks = bytes;
    count = 0;
    is_honest = honest;
}

void fake_server_stop(void)
{
    chunks = NULL;
    for (int i = 0; i < count; i++) {
        if (connections[i].fd >= 0)
            (void)close(connections[i].fd);
        moon_buf_deinit(&connections[i].in);
    }
    count = 0;
}

/* ---- what was asked ---- */

static bool take_line(struct moon_str *rest, struct moon_str *line)
{
    const char *end =
        rest->len == 0 ? NULL : memmem(rest->ptr, rest->len, "\r\n", 2);
    if (end == NULL)
        return false;
    *line = moon_str(rest->ptr, (size_t)(end - rest->ptr));
    *rest = moon_str(end + 2, rest->len - line->len - 2);
    return true;
}

static uint64_t number_of(struct moon_str text)
{
    uint64_t number = 0;
    FUZZ_CHECK(moon_str_to_u64(text, &number));
    return number;
}

/* A command of Redis: an array of strings. Our client writes nothing else. */
static bool take_redis(struct moon_str *rest, struct moon_str *name)
{
    struct moon_str line;
    if (!take_line(rest, &line))
        return false;
    FUZZ_CHECK(line.len > 1 && line.ptr[0] == '*');
    uint64_t argc = number_of(moon_str(line.ptr + 1, line.len - 1));
    for (uint64_t i = 0; i < argc; i++) {
        if (!take_line(rest, &line))
            return false;
        FUZZ_CHECK(line.len > 1 && line.ptr[0] == '$');
        uint64_t len = number_of(moon_str(line.ptr + 1, line.len - 1));
        if (rest->len < len + 2)
            return false;
        if (i == 0)
            *name = moon_str(rest->ptr, (size_t)len);
        FUZZ_CHECK(memcmp(rest->ptr + len, "\r\n", 2) == 0);
        *rest = moon_str(rest->ptr + len + 2, rest->len - (size_t)len - 2);
    }
    return true;
}

/* A meta command of memcached; "ms key size" has bytes behind it. */
static bool take_memcached(struct moon_str *rest, struct moon_str *name)
{
    struct moon_str line, words;
    if (!take_line(rest, &line))
        return false;
    *name = moon_str_cut(line, ' ', &words);
    if (!moon_str_eq(*name, MOON_STR("ms")))
        return true;
    (void)moon_str_cut(words, ' ', &words);
    uint64_t len = number_of(moon_str_cut(words, ' ', &words));
    if (rest->len < len + 2)
        return false;
    *rest = moon_str(rest->ptr + len + 2, rest->len - (size_t)len - 2);
    return true;
}

static bool take_command(struct moon_str *rest, struct moon_str *name)
{
    return rest->len > 0 && (rest->ptr[0] == '*' ? take_redis(rest, name)
                                                 : take_memcached(rest, name));
}

/* ---- what is answered ---- */

static struct moon_str honest_answer(struct moon_str name)
{
    static const struct {
        const char *namez, *answerz;
    } known[] = {
        {"PING", "+PONG\r\n"},
        {"AUTH", "+OK\r\n"},
        {"SELECT", "+OK\r\n"},
        {"CLIENT", "+OK\r\n"},
        {"ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"},
        {"SCRIPT", "$40\r\n0123456789012345678901234567890123456789\r\n"},
        {"mn", "MN\r\n"},
    };
    for (size_t i = 0; i < MOON_COUNT(known); i++) {
        if (moon_str_eq(name, moon_strz(known[i].namez)))
            return moon_strz(known[i].answerz);
    }
    return MOON_STR_NONE;
}

static void answer(struct connection *c, struct moon_str name)
{
    struct moon_str text = is_honest ? honest_answer(name) : MOON_STR_NONE;
    if (text.ptr == NULL)
        text = fuzz_until(chunks, '\0');
    if (text.len > 0)
        (void)send(c->fd, text.ptr, text.len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void serve(struct connection *c)
{
    char bytes[16384];
    ssize_t n;
    while ((n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        moon_buf_add(&c->in, bytes, (size_t)n);
    struct moon_str rest = moon_buf_str(&c->in), name = MOON_STR_NONE;
    size_t done = 0;
    while (rest.len > 0 && take_command(&rest, &name)) {
        answer(c, name);
        done = c->in.len - rest.len;
    }
    if (done > 0)
        memmove(c->in.ptr, c->in.ptr + done, c->in.len - done);
    c->in.len -= done;
    if (n == 0) {
        (void)close(c->fd);
        c->fd = -1;
    }
}

void fake_server_turn(void)
{
    for (int i = 0; i < count; i++) {
        if (connections[i].fd >= 0)
            serve(&connections[i]);
    }
}
