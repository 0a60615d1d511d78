/* The client of the benchmark: load --help
 *
 * Closed loop (the default): every connection has --pipeline requests under
 * way and sends one more for each answer. With --rate requests are due at fixed
 * times, whether answers come or not; one that finds no free connection waits
 * for it, and its latency counts from when it was due, so that a server that
 * stalls shows (no coordinated omission). Each answer is compared with what is
 * expected. A connection that cannot be opened is tried again.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 1 << 18, IDLE_OPENING = 64 };
static const uint64_t SECOND_NS = 1000000000;
static const uint64_t RETRY_NS = 5000000;    /* to open a refused connection */
static const uint64_t GRACE_NS = 5000000000; /* for the last answers */

static struct options options;
static struct tally tally;
static struct conn *conns;
static int epoll_fd;
static size_t closed; /* connections */

/* With a rate: connections that wait for a request, oldest first. */
static struct conn **free_ring;
static size_t free_first, free_count;
static uint64_t start_ns, record_ns, end_ns, retry_ns, due_index, sent;

uint64_t load_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static void watch(struct conn *c, int operation, bool writing)
{
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0U),
                                .data.ptr = c};
    c->writing = writing;
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void conn_close(struct conn *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    c->fd = -1;
    c->state = CONN_CLOSED;
    c->unsent = c->offset = 0;
    if (load_now_ns() >= record_ns) {
        tally.failed += c->flying;
    }
    c->flying = c->first = 0;
    closed++;
}

static void refused(struct conn *c)
{
    tally.refused++;
    conn_close(c);
    retry_ns = load_now_ns() + RETRY_NS;
}

static void conn_free(struct conn *c)
{
    if (!c->free) {
        c->free = true;
        free_ring[(free_first + free_count++) % options.connections] = c;
    }
}

static void conn_flush(struct conn *c)
{
    while (c->unsent > 0) {
        /* The request is there LOAD_PIPELINE + 1 times. */
        ssize_t n =
            send(c->fd, c->request->bytes + c->offset, c->unsent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN && !c->writing) {
                watch(c, EPOLL_CTL_MOD, true);
            }
            return; /* other errors show when it is read */
        }
        c->unsent -= (size_t)n;
        c->offset = (c->offset + (size_t)n) % c->request->length;
    }
    if (c->writing) {
        watch(c, EPOLL_CTL_MOD, false);
    }
}

static void conn_request(struct conn *c, uint64_t began_ns)
{
    c->began_ns[(c->first + c->flying++) % LOAD_PIPELINE] = began_ns;
    c->unsent += c->request->length;
    sent++;
}

static bool enough(void)
{
    return options.requests != 0 && sent >= options.requests;
}

/* As many requests as should be under way; with a rate it is free instead. */
static void conn_fill(struct conn *c, uint64_t now_ns)
{
    if (options.rate > 0) {
        if (c->flying == 0) {
            conn_free(c);
        }
        return;
    }
    if (options.idle) {
        if (!c->asked) {
            c->asked = true;
            conn_request(c, now_ns);
            conn_flush(c);
        }
        return;
    }
    while (c->flying < options.pipeline && !enough()) {
        conn_request(c, now_ns);
    }
    conn_flush(c);
}

static void conn_open(struct conn *c, uint64_t now_ns)
{
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    closed--;
    if (c->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    answer_init(&c->answer);
    if (connect(c->fd, (const struct sockaddr *)&options.address,
                sizeof(options.address)) == 0) {
        c->state = CONN_OPEN;
        watch(c, EPOLL_CTL_ADD, false);
        conn_fill(c, now_ns);
    } else if (errno == EINPROGRESS) {
        c->state = CONN_CONNECTING;
        watch(c, EPOLL_CTL_ADD, true);
    } else {
        refused(c);
    }
}

static void reopen_all(uint64_t now_ns)
{
    if (closed == 0 || now_ns < retry_ns || options.idle) {
        return;
    }
    for (size_t i = 0; i < options.connections && now_ns >= retry_ns; i++) {
        if (conns[i].state == CONN_CLOSED) {
            conn_open(&conns[i], now_ns);
        }
    }
}

static void record(struct conn *c, uint64_t now_ns)
{
    int match = answer_match(&c->answer, &options.expected);
    uint64_t began_ns = c->began_ns[c->first % LOAD_PIPELINE];
    c->first = (c->first + 1) % LOAD_PIPELINE;
    c->flying--;
    if (match >= 0) {
        tally.last_ns[match] = now_ns;
        if (tally.body[match]++ == 0) {
            tally.first_ns[match] = now_ns;
        }
    }
    if (now_ns < record_ns) {
        return;
    }
    tally.answers++;
    if (match < 0 && tally.wrong++ == 0) {
        fprintf(stderr, "load: a wrong answer: status %d, %llu bytes\n",
                c->answer.status, (unsigned long long)c->answer.seen);
    }
    histogram_add(&tally.histogram, now_ns > began_ns ? now_ns - began_ns : 0);
}

/* All answers that are in the bytes; false: the connection is over. */
static bool conn_take(struct conn *c, const char *bytes, size_t length)
{
    uint64_t now_ns = load_now_ns();
    while (length > 0) {
        size_t used = 0;
        enum answer_result result =
            c->flying == 0 ? ANSWER_BROKEN
                           : answer_read(&c->answer, &options.expected, bytes,
                                         length, &used);
        if (result == ANSWER_BROKEN) {
            fprintf(stderr, "load: not an answer: %.*s\n",
                    (int)(length < 80 ? length : 80), bytes);
            tally.wrong++;
            return false;
        }
        bytes += used;
        length -= used;
        if (result == ANSWER_DONE) {
            bool last = c->answer.close;
            record(c, now_ns);
            answer_init(&c->answer);
            if (last) {
                return false;
            }
        }
    }
    conn_fill(c, now_ns);
    return true;
}

static void conn_readable(struct conn *c)
{
    static char bytes[READ_BYTES];
    ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0 || !conn_take(c, bytes, (size_t)n)) {
        tally.reopened++;
        conn_close(c);
    }
}

static void conn_event(struct conn *c, uint32_t events)
{
    if (c->state == CONN_CONNECTING) {
        int error = 0;
        socklen_t length = sizeof(error);
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) {
            refused(c);
            return;
        }
        c->state = CONN_OPEN;
        watch(c, EPOLL_CTL_MOD, false);
        conn_fill(c, load_now_ns());
        return;
    }
    if ((events & EPOLLOUT) != 0) {
        conn_flush(c);
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        conn_readable(c);
    }
}

static uint64_t due_ns(uint64_t index)
{
    return start_ns + (uint64_t)((double)index * 1e9 / options.rate);
}

/* Gives requests that are due to free connections; when the next one is. */
static uint64_t send_due(uint64_t now_ns)
{
    while (due_ns(due_index) <= now_ns && due_ns(due_index) < end_ns &&
           free_count > 0) {
        struct conn *c = free_ring[free_first];
        free_first = (free_first + 1) % options.connections;
        free_count--;
        c->free = false;
        if (c->state == CONN_OPEN) {
            conn_request(c, due_ns(due_index++));
            conn_flush(c);
        }
    }
    return free_count > 0 ? due_ns(due_index) : now_ns + SECOND_NS / 10;
}

static bool flying(void)
{
    for (size_t i = 0; i < options.connections; i++) {
        if (conns[i].flying > 0) {
            return true;
        }
    }
    return false;
}

static bool finished(uint64_t now_ns)
{
    if (options.requests != 0) {
        return enough() && !flying();
    }
    if (options.rate > 0 && now_ns < end_ns + GRACE_NS) {
        return now_ns >= end_ns && due_ns(due_index) >= end_ns && !flying();
    }
    return now_ns >= end_ns;
}

static void turn(uint64_t now_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t wake_ns = now_ns + SECOND_NS / 10;
    if (options.rate > 0) {
        uint64_t next_ns = send_due(now_ns);
        wake_ns = next_ns < wake_ns ? next_ns : wake_ns;
    }
    if (closed > 0 && retry_ns < wake_ns && !options.idle) {
        wake_ns = retry_ns;
    }
    uint64_t wait_ns = wake_ns > now_ns ? wake_ns - now_ns : 0;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / SECOND_NS),
                            .tv_nsec = (long)(wait_ns % SECOND_NS)};
    int count = epoll_pwait2(epoll_fd, events, EVENTS, &wait, NULL);
    for (int i = 0; i < count; i++) {
        conn_event(events[i].data.ptr, events[i].events);
    }
    reopen_all(load_now_ns());
}

/* One answer on each connection, then nothing until stdin ends. Opens some at
 * a time, so that no accept queue overflows. */
static void stay_idle(void)
{
    char byte = 0;
    for (size_t opened = 0; tally.answers < options.connections;) {
        while (opened < options.connections &&
               opened - tally.answers < IDLE_OPENING) {
            conn_open(&conns[opened++], load_now_ns());
        }
        turn(load_now_ns());
        if (tally.refused + tally.reopened > 0) {
            fprintf(stderr, "load: a connection was not kept, of %zu\n",
                    opened);
            exit(1);
        }
    }
    printf("{\"open\":%zu,\"wrong\":%llu}\n", options.connections,
           (unsigned long long)tally.wrong);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

/* What was due and never sent: it waits still. */
static void record_unsent(void)
{
    uint64_t now_ns = load_now_ns();
    for (; options.rate > 0 && due_ns(due_index) < end_ns; due_index++) {
        tally.failed++;
        histogram_add(&tally.histogram, now_ns - due_ns(due_index));
    }
}

/* Until it is finished, which is when it returns. */
static uint64_t run(void)
{
    uint64_t cpu_ns = 0, now_ns = start_ns;
    bool recording = false;
    reopen_all(start_ns);
    for (; !finished(now_ns); now_ns = load_now_ns()) {
        if (!recording && now_ns >= record_ns) {
            recording = true;
            cpu_ns = load_cpu_ns(options.pids);
        }
        turn(now_ns);
    }
    tally.server_cpu_ns = load_cpu_ns(options.pids) - cpu_ns;
    return now_ns;
}

int main(int argc, char **argv)
{
    load_options(&options, argc, argv);
    conns = calloc(options.connections, sizeof(*conns));
    free_ring = calloc(options.connections, sizeof(struct conn *));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (conns == NULL || free_ring == NULL || epoll_fd < 0) {
        perror("load");
        return 1;
    }
    closed = options.connections;
    for (size_t i = 0; i < options.connections; i++) {
        conns[i].fd = -1;
        conns[i].request = &options.request[i % options.kinds];
    }
    start_ns = load_now_ns();
    record_ns = start_ns + (uint64_t)(options.warmup * 1e9);
    end_ns = record_ns + (uint64_t)(options.seconds * 1e9);
    if (options.idle) {
        stay_idle();
        return 0;
    }
    uint64_t stop_ns = run();
    if (options.rate > 0 && stop_ns > end_ns) {
        stop_ns = end_ns;
    }
    record_unsent();
    load_print(&options, &tally, stop_ns - record_ns, conns);
    return 0;
}
