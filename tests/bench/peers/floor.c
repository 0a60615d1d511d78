/* The floor of the comparison: what the kernel and C alone cost. A loop of
 * epoll that knows the requests of the benchmark by heart: it finds the end of
 * a head, looks at the first bytes of the target, and sends an answer that is
 * ready (or the body it got). It checks nothing, and is no server.
 *
 *     floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, IN_BYTES = 1 << 15, BIG = 65536, OUT_BYTES = 1 << 18 };

static char out[OUT_BYTES], big[BIG];
static size_t out_length;

/* Those that are always the same, made once. */
static struct ready {
    const char *target, *status;
    char *bytes;
    size_t length;
} ready[] = {{"/text", "200 OK", NULL, 0},
             {"/refused", "429 Too Many Requests", NULL, 0},
             {"/big", "200 OK", NULL, 0},
             {"", "404 Not Found", NULL, 0}};
enum { READY = sizeof(ready) / sizeof(ready[0]) };

static void put(const char *bytes, size_t length)
{
    memcpy(out + out_length, bytes, length);
    out_length += length;
}

static void answer(const char *status, const char *more, const char *body,
                   size_t length)
{
    out_length += (size_t)snprintf(
        out + out_length, 256,
        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
        status, more, length);
    put(body, length);
}

static void make_ready(void)
{
    memset(big, 'x', BIG);
    for (struct ready *r = ready; r < ready + READY; r++) {
        out_length = 0;
        answer(r->status, "text/plain", r == ready ? "Hello, World!" : big,
               r == ready       ? 13
               : r == ready + 2 ? BIG
                                : 0);
        r->length = out_length;
        r->bytes = malloc(out_length);
        if (r->bytes == NULL) {
            exit(1);
        }
        memcpy(r->bytes, out, out_length);
    }
}

static void respond(const char *head, const char *body, size_t length)
{
    if (head[0] == 'P') {
        answer("200 OK", "application/json", body, length);
        return;
    }
    const char *target = head + 4; /* of GET */
    if (strncmp(target, "/users/", 7) == 0) {
        char json[128];
        int n =
            snprintf(json, sizeof(json), "{\"id\":\"%.*s\",\"name\":\"Anna\"}",
                     (int)strcspn(target + 7, " "), target + 7);
        answer("200 OK", "application/json\r\nX-Served-By: bench", json,
               (size_t)n);
        return;
    }
    for (struct ready *r = ready; r < ready + READY; r++) {
        if (strncmp(target, r->target, strlen(r->target)) == 0) {
            put(r->bytes, r->length);
            return;
        }
    }
}

/* All that is in the bytes; how many of them were whole requests. */
static size_t answer_all(char *in)
{
    char *at = in;
    out_length = 0;
    for (char *end; (end = strstr(at, "\r\n\r\n")) != NULL;) {
        size_t body = 0;
        if (at[0] == 'P') {
            const char *field = strcasestr(at, "\nContent-Length:");
            body = field != NULL && field < end
                       ? (size_t)strtoul(field + 16, NULL, 10)
                       : 0;
        }
        if (strlen(end + 4) < body || out_length + 2 * BIG > OUT_BYTES) {
            break;
        }
        respond(at, end + 4, body);
        at = end + 4 + body;
    }
    return (size_t)(at - in);
}

/* What came, and the rest of a request that is not whole: the client sends it,
 * so this may block. 0: the connection is over. */
static int serve(int fd)
{
    static char in[IN_BYTES + 1];
    size_t length = 0;
    do {
        ssize_t got = read(fd, in + length, IN_BYTES - length);
        if (got <= 0) {
            return 0;
        }
        length += (size_t)got;
        in[length] = '\0';
        size_t used = answer_all(in);
        for (size_t sent = 0; sent < out_length;) {
            ssize_t n = send(fd, out + sent, out_length - sent, MSG_NOSIGNAL);
            if (n <= 0) {
                return 0;
            }
            sent += (size_t)n;
        }
        length -= used;
        memmove(in, in + used, length);
    } while (length > 0);
    return 1;
}

int main(int argc, char **argv)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    here.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 8080));
    struct epoll_event events[EVENTS], want = {.events = EPOLLIN};
    make_ready();
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&here, sizeof(here)) != 0 ||
        listen(listener, 1024) != 0) {
        perror("floor");
        return 1;
    }
    want.data.fd = listener;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &want);
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                want.data.fd = accept4(listener, NULL, NULL, 0);
                setsockopt(want.data.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1},
                           sizeof(int));
                epoll_ctl(poll, EPOLL_CTL_ADD, want.data.fd, &want);
            } else if (!serve(fd)) {
                close(fd);
            }
        }
    }
}
