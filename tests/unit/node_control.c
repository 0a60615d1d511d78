/* Messages among processes, and the memory that they share. */
#include "node/control.h"
#include "node/process.h"
#include "node/shm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct moon_control_buf buf;

static void test_message_arrives_whole(void **state)
{
    (void)state;
    int pair[2];
    struct moon_control_msg out, in;
    assert_int_equal(moon_control_pair(pair), MOON_OK);
    moon_control_msg_init(&out, MOON_CONTROL_PREPARE);
    out.count = 3;
    out.generation = 1ull << 40;
    out.txn = UINT64_MAX;
    out.text = MOON_STR("text with \0 in it");
    out.fds[0] = moon_control_memfd("a", MOON_STR("first"));
    out.fds[1] = moon_control_memfd("b", MOON_STR("second"));
    assert_int_equal(moon_control_send(pair[0], &out), MOON_OK);
    moon_control_msg_close(&out);
    assert_int_equal(moon_control_receive(pair[1], &in, &buf), MOON_OK);
    assert_int_equal(in.type, MOON_CONTROL_PREPARE);
    assert_int_equal(in.count, 3);
    assert_true(in.generation == 1ull << 40 && in.txn == UINT64_MAX);
    assert_true(moon_str_eq(in.text, MOON_STR("text with \0 in it")));
    char text[16] = "";
    assert_int_equal(pread(in.fds[1], text, sizeof(text), 0), 6);
    assert_string_equal(text, "second");
    int fd = moon_control_msg_take_fd(&in, 0);
    assert_int_equal(in.fds[0], -1);
    (void)close(fd);
    moon_control_msg_close(&in);
    assert_int_equal(moon_control_receive(pair[1], &in, &buf), MOON_EAGAIN);
    (void)close(pair[0]);
    assert_int_equal(moon_control_receive(pair[1], &in, &buf), MOON_ECLOSED);
    assert_int_equal(moon_control_send(pair[1], &out), MOON_ECLOSED);
    (void)close(pair[1]);
}

static void test_long_text_is_cut(void **state)
{
    (void)state;
    int pair[2];
    struct moon_control_msg out, in;
    char *long_text = malloc(200000);
    memset(long_text, 'x', 200000);
    assert_int_equal(moon_control_pair(pair), MOON_OK);
    moon_control_msg_init(&out, MOON_CONTROL_FAILED);
    out.text = moon_str(long_text, 200000);
    assert_int_equal(moon_control_send(pair[0], &out), MOON_OK);
    assert_int_equal(moon_control_receive(pair[1], &in, &buf), MOON_OK);
    assert_int_equal(in.text.len, MOON_CONTROL_TEXT_MAX);
    free(long_text);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* Whoever runs foreign code may send anything. */
static void test_foreign_bytes_are_refused(void **state)
{
    (void)state;
    int pair[2];
    char bytes[200];
    struct moon_control_msg in;
    memset(bytes, 0x5a, sizeof(bytes));
    assert_int_equal(moon_control_pair(pair), MOON_OK);
    for (size_t len = 1; len < sizeof(bytes); len += 13) {
        assert_int_equal(send(pair[0], bytes, len, 0), len);
        assert_int_equal(moon_control_receive(pair[1], &in, &buf), MOON_EPROTO);
    }
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_full_pair_says_so(void **state)
{
    (void)state;
    int pair[2];
    struct moon_control_msg out;
    assert_int_equal(moon_control_pair(pair), MOON_OK);
    moon_control_msg_init(&out, MOON_CONTROL_DRAIN);
    enum moon_err err = MOON_OK;
    for (int i = 0; i < 1000000 && err == MOON_OK; i++)
        err = moon_control_send(pair[0], &out);
    assert_int_equal(err, MOON_EAGAIN);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_child_keeps_only_what_it_is_given(void **state)
{
    (void)state;
    int pair[2], status;
    assert_int_equal(moon_control_pair(pair), MOON_OK);
    pid_t pid = moon_process_fork(&pair[1], 1);
    if (pid == 0) {
        /* 0..2, and the one. */
        bool ok = dup(pair[0]) < 0 && dup(pair[1]) >= 0;
        _exit(ok ? 7 : 8);
    }
    (void)close(pair[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    char text[64];
    moon_process_status_text(status, text, sizeof(text));
    assert_string_equal(text, "exit code 7");
    assert_true(moon_process_crashed(status));
    struct moon_control_msg in;
    assert_int_equal(moon_control_receive(pair[0], &in, &buf), MOON_ECLOSED);
    (void)close(pair[0]);
}

static void test_thread_times_grow(void **state)
{
    (void)state;
    struct moon_process_times before, after;
    assert_true(moon_process_thread_times(getpid(), getpid(), &before));
    volatile uint64_t sum = 0;
    do {
        for (int i = 0; i < 1000000; i++)
            sum = sum + (uint64_t)i;
        assert_true(moon_process_thread_times(getpid(), getpid(), &after));
    } while (after.cpu_ns == before.cpu_ns);
    assert_true(after.cpu_ns > before.cpu_ns);
    assert_false(after.stopped);
    assert_false(moon_process_thread_times(getpid(), 1, &after));
}

static void test_average_leaves_out_who_does_not_serve(void **state)
{
    (void)state;
    struct moon_shm *shm, *other;
    int fd;
    assert_int_equal(moon_shm_create(8, &shm, &fd), MOON_OK);
    assert_int_equal(shm->slot_count, 8);
    assert_int_equal(moon_shm_average_connections(shm), 0);
    moon_shm_set32(&shm->sides[0].first, 0);
    moon_shm_set32(&shm->sides[0].workers, 3);
    moon_shm_set32(&shm->sides[1].first, 3);
    moon_shm_set32(&shm->sides[1].workers, 1);
    for (uint32_t i = 0; i < 4; i++) {
        moon_shm_set32(&shm->slots[i].connections, 10 * (i + 1));
        moon_shm_set32(&shm->slots[i].state, MOON_WORKER_SERVING);
    }
    assert_int_equal(moon_shm_average_connections(shm), 25);
    moon_shm_set32(&shm->slots[3].stale, 1);
    assert_int_equal(moon_shm_average_connections(shm), 20);
    moon_shm_set32(&shm->slots[2].state, MOON_WORKER_DRAINING);
    assert_int_equal(moon_shm_average_connections(shm), 15);
    moon_shm_set(&shm->slots[0].counters[MOON_COUNTER_requests], 5);
    moon_shm_reset_slot(&shm->slots[0]);
    assert_int_equal(moon_shm_average_connections(shm), 20);
    assert_int_equal(moon_shm_sum(shm, MOON_COUNTER_requests), 5);
    assert_int_equal(moon_shm_open(fd, &other), MOON_OK);
    assert_int_equal(moon_shm_get32(&other->slots[1].connections), 20);
    moon_shm_close(other);
    shm->version++;
    assert_int_equal(moon_shm_open(fd, &other), MOON_EPROTO);
    moon_shm_close(shm);
    (void)close(fd);
}

static void test_room_beside_the_old_workers(void **state)
{
    static const struct {
        uint32_t slots, used_first, used, workers;
        bool ok;
        uint32_t first;
    } cases[] = {
        {32, 0, 0, 4, true, 0},    {32, 0, 4, 4, true, 28},
        {32, 28, 4, 4, true, 0},   {32, 0, 16, 16, true, 16},
        {32, 0, 16, 17, false, 0}, {32, 28, 4, 28, true, 0},
        {32, 28, 4, 29, false, 0}, {4, 0, 0, 5, false, 0},
        {8, 0, 1, 9, false, 0},    {8, 0, UINT32_MAX, 1, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        uint32_t first = 0;
        bool ok = moon_shm_find_room(cases[i].slots, cases[i].used_first,
                                     cases[i].used, cases[i].workers, &first);
        assert_int_equal(ok, cases[i].ok);
        if (ok)
            assert_int_equal(first, cases[i].first);
    }
    /* Whatever there was, a second set of as many fits. */
    for (uint32_t workers = 1; workers <= 256; workers++) {
        uint32_t first, next, slots = moon_shm_slots(workers);
        assert_true(moon_shm_find_room(slots, 0, workers, workers, &first));
        assert_true(moon_shm_find_room(slots, first, workers, workers, &next));
        assert_true(next + workers <= first);
    }
}

static void test_who_is_gone(void **state)
{
    (void)state;
    int pipes[2];
    char byte;
    assert_int_equal(pipe(pipes), 0);
    assert_false(moon_process_is_gone(getpid()));
    assert_true(moon_process_is_gone(0));
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(pipes[1]);
        (void)!read(pipes[0], &byte, 1);
        _exit(0);
    }
    assert_false(moon_process_is_gone(pid));
    (void)close(pipes[1]);
    siginfo_t info;
    /* It has ended, and nobody has reaped it. */
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(moon_process_is_gone(pid));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(moon_process_is_gone(pid));
    (void)close(pipes[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_arrives_whole),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_foreign_bytes_are_refused),
        cmocka_unit_test(test_full_pair_says_so),
        cmocka_unit_test(test_child_keeps_only_what_it_is_given),
        cmocka_unit_test(test_thread_times_grow),
        cmocka_unit_test(test_average_leaves_out_who_does_not_serve),
        cmocka_unit_test(test_room_beside_the_old_workers),
        cmocka_unit_test(test_who_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
