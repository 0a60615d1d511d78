/* The output queue: order, back-pressure, files that are as long as promised
 * and files that are not. */
#include "net/outq.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct moon_outq q;
    struct moon_outpool pool;
    int here, there;
    struct moon_buf got;
};

static int setup(void **state)
{
    static struct world w;
    int pair[2];
    w = (struct world){0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        return -1;
    w.here = pair[0];
    w.there = pair[1];
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    moon_outq_clear(&w->q, &w->pool);
    moon_outpool_deinit(&w->pool);
    moon_buf_deinit(&w->got);
    close(w->here);
    close(w->there);
    return 0;
}

static void add(struct world *w, const char *ptr, size_t len)
{
    assert_int_equal(moon_outq_add(&w->q, &w->pool, moon_str(ptr, len)),
                     MOON_OK);
}

static bool take(struct world *w)
{
    char *to = moon_buf_reserve(&w->got, 65536);
    ssize_t n = read(w->there, to, 65536);
    if (n > 0)
        w->got.len += (size_t)n;
    return n > 0;
}

/* Writes and reads until all is through; returns how often it had to wait. */
static int drain(struct world *w)
{
    int waits = 0;
    enum moon_err err;
    while ((err = moon_outq_write(&w->q, &w->pool, w->here)) == MOON_EAGAIN) {
        waits++;
        while (take(w))
            continue;
    }
    assert_int_equal(err, MOON_OK);
    while (take(w))
        continue;
    return waits;
}

static void fill(char *to, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245u + 12345u;
        to[i] = (char)(seed >> 16);
    }
}

static int make_file(const char *bytes, size_t len)
{
    int fd = memfd_create("outq", 0);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    return fd;
}

static void test_small_pieces_in_order(void **state)
{
    struct world *w = *state;
    add(w, "one ", 4);
    add(w, "", 0);
    add(w, "two", 3);
    assert_int_equal(moon_outq_pending(&w->q), 7);
    assert_int_equal(drain(w), 0);
    assert_int_equal(w->got.len, 7);
    assert_memory_equal(w->got.ptr, "one two", 7);
    assert_int_equal(moon_outq_pending(&w->q), 0);
    assert_int_equal(w->pool.count, 1);
}

static void test_many_sizes_through_a_narrow_socket(void **state)
{
    struct world *w = *state;
    enum { TOTAL = 3 * 1000 * 1000 };
    char *bytes = malloc(TOTAL);
    fill(bytes, TOTAL, 7);
    size_t sizes[] = {1, 100, 5000, 20000, 16384, 70000, 400000, 3, 16383};
    size_t at = 0;
    for (size_t i = 0; at < TOTAL; i++) {
        size_t len = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))];
        if (len > TOTAL - at)
            len = TOTAL - at;
        add(w, bytes + at, len);
        at += len;
    }
    assert_true(drain(w) > 0);
    assert_int_equal(w->got.len, TOTAL);
    assert_memory_equal(w->got.ptr, bytes, TOTAL);
    free(bytes);
}

static void test_files_between_memory(void **state)
{
    struct world *w = *state;
    enum { BIG = 900 * 1000, SMALL = 1000 };
    char *bytes = malloc(BIG);
    fill(bytes, BIG, 3);
    add(w, "head", 4);
    assert_int_equal(moon_outq_add_file(&w->q, &w->pool, make_file(bytes, BIG),
                                        10, BIG - 10),
                     MOON_OK);
    add(w, "mid", 3);
    assert_int_equal(moon_outq_add_file(&w->q, &w->pool,
                                        make_file(bytes, SMALL), 1, SMALL - 1),
                     MOON_OK);
    assert_int_equal(
        moon_outq_add_file(&w->q, &w->pool, make_file(bytes, SMALL), 0, 0),
        MOON_OK);
    add(w, "tail", 4);
    drain(w);
    const char *at = w->got.ptr;
    assert_int_equal(w->got.len, 4 + BIG - 10 + 3 + SMALL - 1 + 4);
    assert_memory_equal(at, "head", 4);
    assert_memory_equal(at + 4, bytes + 10, BIG - 10);
    at += 4 + BIG - 10;
    assert_memory_equal(at, "mid", 3);
    assert_memory_equal(at + 3, bytes + 1, SMALL - 1);
    assert_memory_equal(at + 3 + SMALL - 1, "tail", 4);
    assert_int_equal(w->q.sent, w->q.queued);
    free(bytes);
}

static void add_through(struct world *w, const char *ptr, size_t len)
{
    assert_int_equal(
        moon_outq_add_through(&w->q, &w->pool, w->here, moon_str(ptr, len)),
        MOON_OK);
}

static void test_through_behind_what_waits(void **state)
{
    struct world *w = *state;
    add(w, "head ", 5);
    add_through(w, "body", 4);
    assert_int_equal(moon_outq_pending(&w->q), 0);
    assert_int_equal(w->q.queued, 9);
    assert_int_equal(w->pool.count, 1); /* the head's chunk, and no other */
    assert_int_equal(drain(w), 0);
    assert_int_equal(w->got.len, 9);
    assert_memory_equal(w->got.ptr, "head body", 9);
}

/* Whatever the kernel takes at once, the rest is kept, in order. */
static void test_through_a_narrow_socket(void **state)
{
    struct world *w = *state;
    enum { EACH = 500 * 1000, COUNT = 6 };
    char *bytes = malloc(EACH * COUNT);
    fill(bytes, EACH * COUNT, 11);
    for (int i = 0; i < COUNT; i++) {
        char *piece = malloc(EACH); /* its own: nothing may point to it later */
        memcpy(piece, bytes + i * EACH, EACH);
        add_through(w, piece, EACH);
        free(piece);
        if (i % 2 == 1)
            (void)take(w);
    }
    assert_true(moon_outq_pending(&w->q) > 0);
    assert_true(drain(w) > 0);
    assert_int_equal(w->got.len, EACH * COUNT);
    assert_memory_equal(w->got.ptr, bytes, EACH * COUNT);
    assert_int_equal(w->q.queued, EACH * COUNT);
    free(bytes);
}

static void test_through_behind_a_file(void **state)
{
    struct world *w = *state;
    enum { BIG = 100 * 1000 };
    char *bytes = malloc(BIG + 1000);
    fill(bytes, BIG + 1000, 5);
    assert_int_equal(
        moon_outq_add_file(&w->q, &w->pool, make_file(bytes, BIG), 0, BIG),
        MOON_OK);
    add_through(w, bytes + BIG, 1000);
    (void)drain(w);
    assert_int_equal(w->got.len, BIG + 1000);
    assert_memory_equal(w->got.ptr, bytes, BIG + 1000);
    free(bytes);
}

static void test_through_to_nobody(void **state)
{
    struct world *w = *state;
    assert_int_equal(shutdown(w->there, SHUT_RDWR), 0);
    add_through(w, "lost", 4);
    assert_int_equal(moon_outq_pending(&w->q), 4);
    assert_int_equal(moon_outq_write(&w->q, &w->pool, w->here), MOON_ECLOSED);
}

static void test_file_shorter_than_promised(void **state)
{
    struct world *w = *state;
    char bytes[20000] = {0};
    assert_int_equal(
        moon_outq_add_file(&w->q, &w->pool, make_file(bytes, 100), 0, 200),
        MOON_ESYS);
    assert_int_equal(moon_outq_add_file(&w->q, &w->pool,
                                        make_file(bytes, sizeof(bytes)), 0,
                                        sizeof(bytes) + 1),
                     MOON_OK);
    assert_int_equal(moon_outq_write(&w->q, &w->pool, w->here), MOON_ESYS);
}

/* A process with many mappings, which does nothing: its list of them is long,
 * stays the same, and is a file that the kernel sends to nobody. */
static pid_t make_mapped(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) {
        for (int i = 0; i < 2000; i++)
            (void)mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        (void)raise(SIGSTOP);
    }
    _exit(0);
}

static void test_file_that_cannot_be_sent(void **state)
{
    struct world *w = *state;
    static char expected[400000];
    char path[64];
    size_t len = 0;
    int status;
    pid_t pid = make_mapped();
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (ssize_t n = 1; n > 0 && len < sizeof(expected); len += (size_t)n) {
        n = pread(fd, expected + len, sizeof(expected) - len, (off_t)len);
        assert_true(n >= 0);
    }
    assert_true(len > 100000 && len < sizeof(expected));
    add(w, "head", 4);
    assert_int_equal(moon_outq_add_file(&w->q, &w->pool, fd, 7, len - 7),
                     MOON_OK);
    add(w, "tail", 4);
    drain(w);
    assert_int_equal(w->got.len, len - 7 + 8);
    assert_memory_equal(w->got.ptr, "head", 4);
    assert_memory_equal(w->got.ptr + 4, expected + 7, len - 7);
    assert_memory_equal(w->got.ptr + 4 + len - 7, "tail", 4);
    /* One that ends early is noticed on this way, too. */
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(moon_outq_add_file(&w->q, &w->pool, fd, 0, len + 1),
                     MOON_OK);
    enum moon_err err;
    while ((err = moon_outq_write(&w->q, &w->pool, w->here)) == MOON_EAGAIN ||
           err == MOON_OK)
        while (take(w))
            continue;
    assert_int_equal(err, MOON_ESYS);
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_peer_gone(void **state)
{
    struct world *w = *state;
    add(w, "x", 1);
    shutdown(w->here, SHUT_WR);
    close(w->there);
    w->there = -1;
    assert_int_equal(moon_outq_write(&w->q, &w->pool, w->here), MOON_ECLOSED);
}

static void test_open_and_commit(void **state)
{
    struct world *w = *state;
    struct moon_buf *buf = moon_outq_open(&w->q, &w->pool);
    assert_non_null(buf);
    moon_buf_addz(buf, "abc");
    moon_buf_addz(buf, "def");
    assert_int_equal(moon_outq_commit(&w->q, &w->pool), MOON_OK);
    add(w, "ghi", 3);
    assert_int_equal(moon_outq_pending(&w->q), 9);
    drain(w);
    assert_memory_equal(w->got.ptr, "abcdefghi", 9);
}

/* Only what is large counts, as long as it is in the queue. */
static void test_held(void **state)
{
    struct world *w = *state;
    static char bytes[400000];
    add(w, "head", 4);
    add(w, bytes, 10000);
    assert_int_equal(w->pool.held, 0);
    add(w, bytes, sizeof(bytes));
    assert_true(w->pool.held >= sizeof(bytes));
    uint64_t held = w->pool.held;
    assert_int_equal(moon_outq_held(&w->q), held);
    /* One that grew in its place counts, too. */
    struct moon_buf *buf = moon_outq_open(&w->q, &w->pool);
    moon_buf_add_str(buf, moon_str(bytes, 100000));
    assert_int_equal(moon_outq_commit(&w->q, &w->pool), MOON_OK);
    assert_true(w->pool.held >= held + 100000);
    assert_int_equal(moon_outq_held(&w->q), w->pool.held);
    assert_true(drain(w) > 0);
    assert_int_equal(w->pool.held, 0);
    add(w, bytes, sizeof(bytes));
    moon_outq_clear(&w->q, &w->pool);
    assert_int_equal(w->pool.held, 0);
    assert_int_equal(moon_outq_held(&w->q), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_small_pieces_in_order),
        T(test_many_sizes_through_a_narrow_socket),
        T(test_files_between_memory),
        T(test_through_behind_what_waits),
        T(test_through_a_narrow_socket),
        T(test_through_behind_a_file),
        T(test_through_to_nobody),
        T(test_file_shorter_than_promised),
        T(test_file_that_cannot_be_sent),
        T(test_peer_gone),
        T(test_open_and_commit),
        T(test_held),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
