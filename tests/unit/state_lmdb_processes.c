/* Several processes on one store: those that die, stop, come at once, or have
 * another idea of its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lmdb_case.h"
#include "state/lmdb_check.h"
#include "state/lmdb_upkeep.h"

enum { TOGETHER = 4, KILLS = 50, FIRST_OWN = 1000000 };

/* ---- roles ---- */

/* Waits for all to be there, opens, and makes the session of its own number. */
static int joining_main(void)
{
    say("here");
    wait_for_end();
    begin_case();
    open_store();
    uint32_t mine = FIRST_OWN + (uint32_t)getpid();
    enum moon_err err =
        wait_until_up(true) ? create_in_time(mine) : MOON_ECLOSED;
    if (err != MOON_OK || look(mine) != MOON_OK)
        return 1;
    close_store();
    return uv_loop_close(&loop) == 0 ? 0 : 2;
}

/* Reads session 0; when that is gone, waits for session 1. */
static int reading_main(void)
{
    begin_case();
    open_store();
    if (look(0) != MOON_OK)
        return 1;
    say("reading");
    if (!wait_for(0, MOON_ENOT_FOUND))
        return 2;
    say("gone");
    if (!wait_for(1, MOON_OK))
        return 3;
    close_store();
    return uv_loop_close(&loop) == 0 ? 0 : 4;
}

/* Changes sessions as fast as it can, many at once, until it is killed. */
static int writing_main(void)
{
    enum { AT_ONCE = 64 };
    static struct call calls[AT_ONCE];
    begin_case();
    open_store();
    uint32_t number = FIRST_OWN + (uint32_t)getpid() * 1000;
    pid_t parent = getppid();
    say("writing");
    for (uint32_t round = 0; getppid() == parent; round++) {
        enum moon_err errs[AT_ONCE];
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            struct moon_session_key key = key_of(number + i);
            struct moon_session_field fields[] = {
                field("round", round % 2 == 0 ? "even" : "an odd round")};
            struct moon_session_change change = change_of(fields, 1, now);
            change.create = round == 0;
            struct moon_session_op *op = begin_call(&calls[i], FAR_MS);
            errs[i] = i % 5 == 4 && round > 3
                          ? store->ops->remove(store, op, &key)
                          : store->ops->save(store, op, &key, &change);
        }
        for (uint32_t i = 0; i < AT_ONCE; i++)
            (void)end_call(&calls[i], errs[i]);
    }
    return 1;
}

/* Stays in the middle of a read. */
static int pinning_main(void)
{
    struct moon_lmdb_env *env;
    char why[MOON_SESSION_WHY];
    MDB_txn *txn;
    struct moon_lmdb_env_options o = {.dirz = test_dir,
                                      .size_bytes = SIZE_BYTES};
    if (moon_lmdb_env_open(&o, &env, why) != 0 ||
        mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn) != 0)
        return 1;
    say("reading");
    wait_for_end();
    return 0;
}

/* Has a larger map, and uses it. */
static int growing_main(void)
{
    static char value[60000];
    begin_case();
    open_sized(SIZE_BYTES);
    for (uint32_t i = 0; i < 100; i++) {
        struct moon_session_key key = key_of(FIRST_OWN + i);
        struct moon_session_field fields[] = {
            {MOON_STR("value"), moon_str(value, sizeof(value))}};
        struct moon_session_change change = change_of(fields, 1, now);
        change.create = true;
        if (save(&key, &change, NULL) != MOON_OK)
            return 1;
    }
    say("grown");
    wait_for_end();
    close_store();
    return uv_loop_close(&loop) == 0 ? 0 : 2;
}

/* ---- tests ---- */

static void all_find_the_damage_at_once(void **state)
{
    (void)state;
    static char garbage[PAGE];
    struct helper helpers[TOGETHER];
    make_file();
    change_file(MOON_LMDB_DATA, 0, garbage, sizeof(garbage));
    for (int i = 0; i < TOGETHER; i++) {
        helpers[i] = start_helper("joining");
        assert_int_equal(await_helper(&helpers[i]), 'h');
    }
    open_well(); /* here, too */
    for (int i = 0; i < TOGETHER; i++)
        (void)close(helpers[i].in);
    assert_int_equal(create_in_time(1), MOON_OK);
    for (int i = 0; i < TOGETHER; i++) {
        helpers[i].in = open("/dev/null", O_RDONLY | O_CLOEXEC);
        pid_t pid = helpers[i].pid;
        assert_int_equal(end_helper(&helpers[i], 0), 0);
        assert_int_equal(look(FIRST_OWN + (uint32_t)pid), MOON_OK);
    }
    assert_int_equal(look(1), MOON_OK);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
}

static void they_find_it_while_they_read(void **state)
{
    (void)state;
    struct helper readers[TOGETHER];
    make_file();
    open_well();
    for (int i = 0; i < TOGETHER; i++) {
        readers[i] = start_helper("reading");
        assert_int_equal(await_helper(&readers[i]), 'r');
    }
    wipe_pages();
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(await_helper(&readers[i]), 'g');
    /* One new store for all. */
    assert_int_equal(create_in_time(1), MOON_OK);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(end_helper(&readers[i], 0), 0);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
}

static void they_write_on_when_it_is_mended(void **state)
{
    (void)state;
    make_file();
    struct helper reader = start_helper("reading");
    assert_int_equal(await_helper(&reader), 'r');
    /* A writer that meets bad pages may have to end; those that come after it
     * get further, and nobody ends for ever. */
    int deaths = 0;
    struct helper writer = start_helper("writing");
    assert_int_equal(await_helper(&writer), 'w');
    wipe_pages();
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while (count_files(ASIDE) == 0 && moon_clock_ms() < until_ms) {
        int status;
        if (waitpid(writer.pid, &status, WNOHANG) == writer.pid) {
            (void)close(writer.in);
            (void)close(writer.out);
            deaths++;
            writer = start_helper("writing");
            assert_int_equal(await_helper(&writer), 'w');
        }
        (void)usleep(2000);
    }
    assert_int_equal(await_helper(&reader), 'g');
    assert_in_range(deaths, 0, 3);
    open_store();
    assert_true(wait_until_up(true));
    assert_int_equal(create_in_time(1), MOON_OK);
    assert_int_equal(end_helper(&reader, 0), 0);
    assert_true(WIFSIGNALED(end_helper(&writer, SIGKILL)));
    assert_int_equal(create(2), MOON_OK);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
}

static void a_lock_file_that_vanishes(void **state)
{
    (void)state;
    make_file();
    struct helper writer = start_helper("writing");
    assert_int_equal(await_helper(&writer), 'w');
    open_well();
    /* Without it two could write at once. */
    assert_int_equal(unlink(test_path(MOON_LMDB_LOCK)), 0);
    struct helper late = start_helper("joining");
    assert_int_equal(await_helper(&late), 'h');
    assert_int_equal(end_helper(&late, 0), 0);
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(create_in_time(MANY + i), MOON_OK);
    assert_true(WIFSIGNALED(end_helper(&writer, SIGKILL)));
    assert_all(0, MANY + 200, MOON_OK);
    close_store();
    open_well();
    assert_all(0, MANY + 200, MOON_OK);
    assert_int_equal(count_files(ASIDE), 0);
    close_store();
}

static void a_stopped_process_is_waited_for(void **state)
{
    (void)state;
    make_file();
    struct helper reader = start_helper("pinning");
    assert_int_equal(await_helper(&reader), 'r');
    assert_int_equal(kill(reader.pid, SIGSTOP), 0);
    open_well();
    assert_int_equal(unlink(test_path(MOON_LMDB_DATA)), 0);
    /* It could wake up and write to what nobody has any more. */
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    const char *downz = NULL;
    while ((downz == NULL ||
            strstr(downz, "still use what was replaced") == NULL) &&
           moon_clock_ms() < until_ms) {
        (void)usleep(5000);
        downz = store->ops->down(store);
    }
    assert_non_null(downz);
    assert_non_null(strstr(downz, "still use what was replaced"));
    assert_int_equal(create(1), MOON_ECLOSED);
    assert_true(WIFSIGNALED(end_helper(&reader, SIGKILL)));
    assert_true(wait_until_up(true));
    assert_int_equal(create(1), MOON_OK);
    close_store();
}

static void a_dead_reader_is_forgotten(void **state)
{
    (void)state;
    struct moon_lmdb_env *env = open_env(SIZE_BYTES);
    struct moon_lmdb_tx tx = {.txn = NULL};
    struct moon_lmdb_upkeep upkeep = {.sweeping = false};
    int dead = 0;
    bool more;
    struct helper reader = start_helper("pinning");
    assert_int_equal(await_helper(&reader), 'r');
    assert_true(WIFSIGNALED(end_helper(&reader, SIGKILL)));
    moon_lmdb_upkeep_begin(&upkeep);
    assert_int_equal(moon_lmdb_upkeep_step(&upkeep, env, &tx, &more), 0);
    assert_int_equal(mdb_reader_check(env->mdb, &dead), 0);
    assert_int_equal(dead, 0); /* it was told before */
    moon_lmdb_env_close(env);
}

static void a_larger_map_is_followed(void **state)
{
    (void)state;
    open_sized(1024 * 1024);
    assert_int_equal(create(1), MOON_OK);
    struct helper growing = start_helper("growing");
    assert_int_equal(await_helper(&growing), 'g');
    assert_true(size_of(MOON_LMDB_DATA) > 2 * 1024 * 1024);
    assert_int_equal(create_in_time(2), MOON_OK);
    assert_int_equal(look(2), MOON_OK);
    /* To this one it is full, so some of them may go. */
    int there = 0;
    for (uint32_t i = 0; i < 100; i++)
        there += look(FIRST_OWN + i) == MOON_OK;
    assert_true(there > 50);
    assert_int_equal(end_helper(&growing, 0), 0);
    close_store();
}

static void assert_sound(void)
{
    struct moon_lmdb_audit audit = {0};
    char why[MOON_LMDB_CHECK_WHY];
    int fd = open(test_path(MOON_LMDB_DATA), O_RDONLY);
    assert_true(fd >= 0);
    enum moon_err err = moon_lmdb_check(fd, moon_lmdb_audit_visit, &audit, why);
    (void)close(fd);
    assert_string_equal(why, "");
    assert_int_equal(err, MOON_OK);
    assert_int_equal(audit.unreadable, 0);
    assert_true(moon_lmdb_audit_is_sound(&audit));
}

static void killed_writers_hold_up_nobody(void **state)
{
    (void)state;
    unsigned seed = 11;
    open_well();
    uint32_t number = 0;
    for (int i = 0; i < KILLS; i++) {
        struct helper writer = start_helper("writing");
        assert_int_equal(await_helper(&writer), 'w');
        /* Somewhere in the midst of its work, while this one works, too. */
        uint64_t until_ms = moon_clock_ms() + (uint64_t)rand_r(&seed) % 20;
        while (moon_clock_ms() < until_ms)
            assert_int_equal(create(number++), MOON_OK);
        assert_true(WIFSIGNALED(end_helper(&writer, SIGKILL)));
        for (int j = 0; j < 5; j++)
            assert_int_equal(create(number++), MOON_OK);
        assert_null(store->ops->down(store));
    }
    assert_all(0, number, MOON_OK);
    close_store();
    assert_sound();
    assert_int_equal(count_files(ASIDE), 0);
}

static const struct {
    const char *namez;
    int (*main)(void);
} roles[] = {
    {"joining", joining_main}, {"reading", reading_main},
    {"writing", writing_main}, {"pinning", pinning_main},
    {"growing", growing_main},
};

int main(int argc, char **argv)
{
    if (argc == 3) {
        (void)snprintf(test_dir, sizeof(test_dir), "%s", argv[2]);
        for (size_t i = 0; i < MOON_COUNT(roles); i++) {
            if (strcmp(argv[1], roles[i].namez) == 0)
                return roles[i].main();
        }
        return 2;
    }
    const struct CMUnitTest tests[] = {
        FILE_TEST(all_find_the_damage_at_once),
        FILE_TEST(they_find_it_while_they_read),
        FILE_TEST(they_write_on_when_it_is_mended),
        FILE_TEST(a_lock_file_that_vanishes),
        FILE_TEST(a_stopped_process_is_waited_for),
        FILE_TEST(a_dead_reader_is_forgotten),
        FILE_TEST(a_larger_map_is_followed),
        FILE_TEST(killed_writers_hold_up_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
