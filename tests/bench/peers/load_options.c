#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const char HELP[] =
    "load [OPTIONS]\n"
    "  --port N         on 127.0.0.1\n"
    "  --request FILE   what is sent; several are separated by a NUL, and\n"
    "                   connections take turns with them\n"
    "  --status N       what is answered (200)\n"
    "  --body FILE      and with which body; given twice, either will do\n"
    "  --length N       or with any body of so many bytes\n"
    "  --connections N  (1)\n"
    "  --pipeline N     requests under way on each (1, at most 64)\n"
    "  --seconds S      how long to measure (1)\n"
    "  --warmup S       how long not to, before (0)\n"
    "  --requests N     stop after so many instead\n"
    "  --rate R         so many a second instead of as fast as possible\n"
    "  --pids N,...     processes of the server, whose CPU time is measured\n"
    "  --idle           one request on each connection; print {\"open\":N}; "
    "end\n"
    "                   when stdin does\n";

static void die(const char *what, const char *which)
{
    fprintf(stderr, "load: %s%s (see --help)\n", what, which);
    exit(2);
}

static void *must(void *memory)
{
    if (memory == NULL) {
        die("out of memory", "");
    }
    return memory;
}

static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        die("cannot open ", path);
    }
    size_t room = 1 << 16;
    char *bytes = must(malloc(room));
    *length = 0;
    for (size_t n = 0; (n = fread(bytes + *length, 1, room - *length, file));) {
        *length += n;
        if (*length == room) {
            room *= 2;
            bytes = must(realloc(bytes, room));
        }
    }
    fclose(file);
    return bytes;
}

/* Repeats a request, so that what is unsent of several lies in one piece. */
static void add_request(struct options *o, const char *bytes, size_t length)
{
    o->request =
        must(realloc(o->request, (o->kinds + 1) * sizeof(*o->request)));
    struct request *r = &o->request[o->kinds++];
    r->length = length;
    r->bytes = must(malloc(length * (LOAD_PIPELINE + 1)));
    for (size_t i = 0; i <= LOAD_PIPELINE; i++) {
        memcpy(r->bytes + i * length, bytes, length);
    }
}

static void read_requests(struct options *o, const char *path)
{
    size_t length = 0;
    char *bytes = read_file(path, &length);
    for (size_t at = 0; at < length;) {
        const char *end = memchr(bytes + at, '\0', length - at);
        size_t one = end != NULL ? (size_t)(end - bytes) - at : length - at;
        add_request(o, bytes + at, one);
        at += one + 1;
    }
    free(bytes);
}

static void read_body(struct options *o, const char *path)
{
    struct expected *e = &o->expected;
    if (e->count == EXPECTED_BODIES) {
        die("too many --body", "");
    }
    e->body[e->count] = read_file(path, &e->length[e->count]);
    e->count++;
}

static double number(const char *text, double least)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least)) {
        die("not a number that can be: ", text);
    }
    return value;
}

static void take(struct options *o, int option, const char *value)
{
    switch (option) {
    case 'p':
        o->address.sin_port = htons((uint16_t)number(value, 1));
        break;
    case 'q':
        read_requests(o, value);
        break;
    case 's':
        o->expected.status = (int)number(value, 100);
        break;
    case 'b':
        read_body(o, value);
        break;
    case 'l':
        o->expected.any_length = (int64_t)number(value, 0);
        break;
    case 'c':
        o->connections = (size_t)number(value, 1);
        break;
    case 'm':
        o->pipeline = (size_t)number(value, 1);
        break;
    case 't':
        o->seconds = number(value, 0.001);
        break;
    case 'w':
        o->warmup = number(value, 0);
        break;
    case 'n':
        o->requests = (uint64_t)number(value, 1);
        break;
    case 'r':
        o->rate = number(value, 0.001);
        break;
    case 'd':
        o->pids = value;
        break;
    case 'i':
        o->idle = true;
        break;
    case 'h':
        fputs(HELP, stdout);
        exit(0);
    default:
        die("wrong option", "");
    }
}

void load_options(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"request", required_argument, NULL, 'q'},
        {"status", required_argument, NULL, 's'},
        {"body", required_argument, NULL, 'b'},
        {"length", required_argument, NULL, 'l'},
        {"connections", required_argument, NULL, 'c'},
        {"pipeline", required_argument, NULL, 'm'},
        {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'w'},
        {"requests", required_argument, NULL, 'n'},
        {"rate", required_argument, NULL, 'r'},
        {"pids", required_argument, NULL, 'd'},
        {"idle", no_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *o = (struct options){.connections = 1, .pipeline = 1, .seconds = 1};
    o->address.sin_family = AF_INET;
    o->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    o->expected.status = 200;
    o->expected.any_length = -1;
    for (int c = 0; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        take(o, c, optarg);
    }
    if (o->address.sin_port == 0 || o->kinds == 0) {
        die("--port and --request are needed", "");
    }
    if (o->pipeline > LOAD_PIPELINE || (o->rate > 0 && o->pipeline > 1)) {
        die("--pipeline is at most 64, and 1 with --rate", "");
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static uint64_t of_file(const char *path)
{
    unsigned long long ns = 0;
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%llu", &ns) != 1) { /* NOLINT(cert-err34-c) */
            ns = 0;
        }
        fclose(file);
    }
    return ns;
}

uint64_t load_cpu_ns(const char *pids)
{
    uint64_t total = 0;
    while (pids != NULL && *pids != '\0') {
        char pattern[64];
        glob_t tasks;
        snprintf(pattern, sizeof(pattern), "/proc/%.*s/task/*/schedstat",
                 (int)strcspn(pids, ","), pids);
        if (glob(pattern, GLOB_NOSORT, NULL, &tasks) == 0) {
            for (size_t i = 0; i < tasks.gl_pathc; i++) {
                total += of_file(tasks.gl_pathv[i]);
            }
            globfree(&tasks);
        }
        pids += strcspn(pids, ",");
        pids += *pids == ',' ? 1 : 0;
    }
    return total;
}

static double own_cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

void load_print(const struct options *o, const struct tally *t,
                uint64_t elapsed_ns, const struct conn *conns)
{
    uint64_t open = 0;
    for (size_t i = 0; i < o->connections; i++) {
        open += conns[i].state == CONN_OPEN ? 1U : 0U;
    }
    printf("{\"answers\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"failed\":%" PRIu64
           ",\"refused\":%" PRIu64 ",\"reopened\":%" PRIu64 ",\"open\":%" PRIu64
           ",\"seconds\":%.6f,\"client_cpu_seconds\":%.6f,"
           "\"server_cpu_seconds\":%.6f",
           t->answers, t->wrong, t->failed, t->refused, t->reopened, open,
           (double)elapsed_ns / 1e9, own_cpu_seconds(),
           (double)t->server_cpu_ns / 1e9);
    const struct histogram *h = &t->histogram;
    printf(",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f"
           ",\"max_us\":%.1f,\"bodies\":[",
           histogram_us(h, 0.5), histogram_us(h, 0.9), histogram_us(h, 0.99),
           histogram_us(h, 0.999), (double)h->largest_ns / 1000);
    for (size_t i = 0; i < o->expected.count; i++) {
        printf("%s{\"count\":%" PRIu64 ",\"first\":%.6f,\"last\":%.6f}",
               i > 0 ? "," : "", t->body[i], (double)t->first_ns[i] / 1e9,
               (double)t->last_ns[i] / 1e9);
    }
    printf("]}\n");
}
