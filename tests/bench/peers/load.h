/* What the parts of the benchmark's client share: see load.c for what it does.
 * One thread; connections live as long as the program. Times are nanoseconds
 * of CLOCK_MONOTONIC. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "answer.h"
#include "histogram.h"

enum { LOAD_PIPELINE = 64 };

/* The bytes of one request, `copies` times in a row. */
struct request {
    char *bytes;
    size_t length;
};

struct options {
    struct sockaddr_in address;
    size_t connections, pipeline;
    uint64_t requests; /* 0: until `seconds` are over */
    double seconds, warmup;
    double rate; /* a second; 0: as fast as answers come */
    bool idle;
    const char *pids;        /* of the server, "1,2"; or NULL */
    struct request *request; /* connection n sends request n % kinds */
    size_t kinds;
    struct expected expected;
};

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_OPEN };

struct conn {
    enum conn_state state;
    int fd;
    bool free, writing; /* in the queue of free ones; waits for POLLOUT */
    bool asked;         /* with --idle: its only request is sent */
    const struct request *request;
    size_t unsent, offset; /* bytes; where in the request they begin */
    size_t first, flying;  /* requests under way: when they began */
    uint64_t began_ns[LOAD_PIPELINE];
    struct answer answer;
};

struct tally {
    uint64_t answers, wrong, failed, refused, reopened;
    uint64_t body[EXPECTED_BODIES];
    uint64_t first_ns[EXPECTED_BODIES], last_ns[EXPECTED_BODIES];
    uint64_t server_cpu_ns; /* while it was measured */
    struct histogram histogram;
};

uint64_t load_now_ns(void);

/* CPU time of all threads of these processes so far (/proc/PID/task/TID/
 * schedstat, in nanoseconds, where stat has ticks of 10 ms); 0 for NULL. */
uint64_t load_cpu_ns(const char *pids);

/* Options from the command line, or exit with a message. */
void load_options(struct options *o, int argc, char **argv);

/* Prints everything as one line of JSON. */
void load_print(const struct options *o, const struct tally *t,
                uint64_t elapsed_ns, const struct conn *conns);

#endif
