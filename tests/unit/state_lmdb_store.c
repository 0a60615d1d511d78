/* The embedded store as its callers see it: what waits, what is full, what is
 * slow. What is wrong with files is in state_lmdb_recovery.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lmdb_process.h"

#include "../support/session_harness.h"
#include "base/clock.h"
#include "state/lmdb_store.h"

#include <string.h>
#include <sys/stat.h>

enum { MIB = 1024 * 1024, FAR_MS = 20000, FIRST = 1000 };

static int64_t now; /* wall clock */

static int set_up(void **state)
{
    (void)state;
    make_test_dir();
    now = (int64_t)(moon_clock_wall() * 1000);
    assert_int_equal(uv_loop_init(&loop), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_close(&loop), 0);
    remove_test_dir();
    return 0;
}

static struct moon_session_store *open_store(
    const struct moon_lmdb_store_options *options)
{
    char why[MOON_SESSION_WHY] = "";
    assert_int_equal(
        moon_lmdb_store_open(&loop, test_dir, options, &store, why), MOON_OK);
    return store;
}

static void open_small(uint64_t size_bytes)
{
    (void)open_store(
        &(struct moon_lmdb_store_options){.size_bytes = size_bytes});
    const char *downz = store->ops->down(store);
    assert_null(downz);
}

static void close_store(void)
{
    store->ops->close(store);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}

static struct moon_lmdb_counters count(void)
{
    struct moon_lmdb_counters counters;
    moon_lmdb_store_count(store, &counters);
    return counters;
}

static enum moon_err create(uint32_t number, int64_t now_ms, size_t bytes)
{
    static char value[2 * MIB];
    struct moon_session_key key = key_of(number);
    struct moon_session_field fields[] = {
        {MOON_STR("value"), moon_str(value, bytes)}};
    struct moon_session_change change = change_of(fields, 1, now_ms);
    change.create = true;
    return save(&key, &change, NULL);
}

static bool is_there(uint32_t number, int64_t now_ms)
{
    struct moon_session_key key = key_of(number);
    struct moon_session_record *record;
    enum moon_err err = load(&key, now_ms, &record);
    free(record);
    assert_true(err == MOON_OK || err == MOON_ENOT_FOUND);
    return err == MOON_OK;
}

static uint64_t file_bytes(void)
{
    struct stat st;
    assert_int_equal(stat(test_path(MOON_LMDB_DATA), &st), 0);
    return (uint64_t)st.st_size;
}

/* ---- room ---- */

static void a_full_store_forgets_who_was_away_longest(void **state)
{
    (void)state;
    enum { MANY = 12000, SURE = 2000 };
    open_small(2 * MIB);
    /* Two minutes apart, so that the order is exact. */
    for (uint32_t i = 0; i < MANY; i++) {
        int64_t at = now + (int64_t)i * 120000;
        assert_int_equal(create(i, at, 200), MOON_OK);
    }
    /* Exactly the youngest are left, when a round that is under way is over. */
    struct moon_lmdb_counters c;
    uint32_t oldest = 0, left = 0;
    do {
        c = count();
        left = 0;
        for (uint32_t i = MANY; i-- > 0;) {
            if (is_there(i, now + (int64_t)i * 120000)) {
                oldest = i;
                left++;
            }
        }
    } while (count().evicted != c.evicted);
    assert_true(c.evicted > MANY / 2);
    assert_int_equal(c.swept, 0); /* in truth no time has passed */
    assert_int_equal(left, MANY - oldest);
    assert_true(left >= SURE);
    assert_int_equal(left + c.evicted, MANY);
    assert_true(file_bytes() <= 2 * MIB);
    close_store();
}

static void what_is_over_goes_before_what_lives(void **state)
{
    (void)state;
    enum { LIVE = 1500, DEAD = 1500, ROUNDS = 8 };
    open_small(2 * MIB);
    for (uint32_t i = 0; i < LIVE; i++)
        assert_int_equal(create(i, now, 200), MOON_OK);
    /* Seen later than those, but over since long. */
    for (uint32_t i = LIVE; i < LIVE + ROUNDS * DEAD; i++) {
        struct moon_session_key key = key_of(i);
        struct moon_session_change change = change_of(NULL, 0, now + 3600000);
        change.create = true;
        change.expires_ms = now - 600000;
        assert_int_equal(save(&key, &change, NULL), MOON_OK);
    }
    struct moon_lmdb_counters c = count();
    assert_true(c.swept > 0);
    assert_int_equal(c.evicted, 0);
    for (uint32_t i = 0; i < LIVE; i++)
        assert_true(is_there(i, now));
    close_store();
}

static void large_sessions_make_room(void **state)
{
    (void)state;
    open_small(16 * MIB);
    /* An eighth of it all is the most that one may take. */
    assert_int_equal(create(0, now, 2 * MIB), MOON_ETOO_BIG);
    for (uint32_t i = 1; i <= 60; i++)
        assert_int_equal(create(i, now + (int64_t)i * 120000, MIB), MOON_OK);
    assert_true(is_there(60, now));
    assert_false(is_there(1, now));
    assert_true(count().evicted > 40);
    assert_true(file_bytes() <= 19 * MIB); /* the last resort included */
    close_store();
}

static void a_tiny_store_goes_on(void **state)
{
    (void)state;
    open_small(MIB);
    for (uint32_t i = 0; i < 3000; i++) {
        size_t bytes = i % 10 == 0 ? 60000 : i % 900;
        assert_int_equal(create(i, now + (int64_t)i * 120000, bytes), MOON_OK);
        assert_true(is_there(i, now));
    }
    close_store();
}

/* ---- what waits ---- */

/* Holds LMDB's write lock. */
static int hold_main(void)
{
    struct moon_lmdb_env *env;
    char why[MOON_SESSION_WHY];
    MDB_txn *txn;
    struct moon_lmdb_env_options o = {.dirz = test_dir,
                                      .size_bytes = SIZE_BYTES};
    int rc;
    while ((rc = moon_lmdb_env_open(&o, &env, why)) == EAGAIN)
        (void)usleep(1000);
    if (rc != 0 || mdb_txn_begin(env->mdb, NULL, 0, &txn) != 0)
        return 1;
    say("holding");
    wait_for_end();
    mdb_txn_abort(txn);
    moon_lmdb_env_close(env);
    return 0;
}

/* An operation of a call that is not waited for. */
static enum moon_err begin_save(struct call *call, uint64_t ms, uint32_t number)
{
    struct moon_session_key key = key_of(number);
    struct moon_session_change change = change_of(NULL, 0, now);
    change.create = true;
    struct moon_session_op *op = begin_call(call, ms);
    return store->ops->save(store, op, &key, &change);
}

static void a_held_lock_holds_up_nobody(void **state)
{
    (void)state;
    enum { WAITING = 20 };
    static struct call calls[WAITING + 300];
    struct helper holder = start_helper("hold");
    assert_int_equal(await_helper(&holder), 'h');
    (void)open_store(&(struct moon_lmdb_store_options){.max_waiting = WAITING,
                                                       .size_bytes = 8 * MIB});
    /* Some are in the writer's hands, which waits for the lock; the others
     * behind it. */
    uint32_t accepted = 0;
    enum moon_err err = MOON_EAGAIN;
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while ((err != MOON_EFULL || accepted <= WAITING) &&
           moon_clock_ms() < until_ms) {
        assert_true(accepted < MOON_COUNT(calls));
        err = begin_save(&calls[accepted], FAR_MS, FIRST + accepted);
        accepted += err == MOON_EAGAIN;
    }
    assert_int_equal(err, MOON_EFULL);
    assert_true(accepted > WAITING);
    /* Given up, so there is room; and late. */
    store->ops->cancel(store, &calls[accepted - 1].op);
    struct call late;
    assert_int_equal(end_call(&late, begin_save(&late, 30, 77)), MOON_ETIMEOUT);
    assert_string_equal(late.op.why, "the session store took too long");
    /* Reading is not held up, and somebody says what is wrong. */
    assert_false(is_there(77, now));
    const char *downz;
    while ((downz = store->ops->down(store)) == NULL &&
           moon_clock_ms() < until_ms)
        (void)usleep(10000);
    assert_non_null(downz);
    assert_non_null(strstr(downz, "another process holds the lock"));

    assert_int_equal(end_helper(&holder, 0), 0);
    for (uint32_t i = 0; i + 1 < accepted; i++)
        assert_int_equal(end_call(&calls[i], MOON_EAGAIN), MOON_OK);
    assert_null(store->ops->down(store));
    for (uint32_t i = 0; i + 1 < accepted; i++)
        assert_true(is_there(FIRST + i, now));
    assert_false(is_there(FIRST + accepted - 1, now)); /* it had not begun */
    assert_false(is_there(77, now));
    assert_int_equal(calls[accepted - 1].fired, 0);
    close_store();
}

static void a_stopped_process_is_no_end(void **state)
{
    (void)state;
    struct helper holder = start_helper("hold");
    assert_int_equal(await_helper(&holder), 'h');
    assert_int_equal(kill(holder.pid, SIGSTOP), 0);
    open_small(8 * MIB);
    struct call call;
    assert_int_equal(end_call(&call, begin_save(&call, 50, 1)), MOON_ETIMEOUT);
    assert_true(WIFSIGNALED(end_helper(&holder, SIGKILL)));
    /* Its lock ends with it. */
    assert_int_equal(create(2, now, 10), MOON_OK);
    close_store();
}

static void saves_are_committed_together(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static struct call calls[MANY];
    struct helper holder = start_helper("hold");
    assert_int_equal(await_helper(&holder), 'h');
    open_small(8 * MIB);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(begin_save(&calls[i], FAR_MS, i), MOON_EAGAIN);
    assert_int_equal(end_helper(&holder, 0), 0);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(end_call(&calls[i], MOON_EAGAIN), MOON_OK);
    struct moon_lmdb_counters c = count();
    assert_int_equal(c.writes, MANY);
    assert_true(c.commits <= 2 + MANY / 100);
    assert_true(c.largest_group > 100);
    close_store();
}

/* ---- counting, flushing, closing ---- */

static void what_is_written_is_flushed(void **state)
{
    (void)state;
    open_small(8 * MIB);
    assert_int_equal(create(1, now, 10), MOON_OK);
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while (count().flushes == 0 && moon_clock_ms() < until_ms)
        (void)usleep(10000);
    assert_int_equal(count().flushes, 1);
    struct moon_lmdb_counters c = count();
    assert_int_equal(c.writes, 1);
    assert_int_equal(c.commits, 1);
    assert_true(is_there(1, now));
    assert_int_equal(count().loads, c.loads + 1);
    close_store();
    /* A temporary one never is. */
    (void)open_store(&(struct moon_lmdb_store_options){.temporary = true});
    assert_true(is_there(1, now));
    assert_int_equal(create(2, now, 10), MOON_OK);
    assert_int_equal(count().flushes, 0);
    close_store();
}

static void one_per_directory_and_process(void **state)
{
    (void)state;
    open_small(8 * MIB);
    struct moon_session_store *first = store;
    (void)open_store(&(struct moon_lmdb_store_options){.size_bytes = 8 * MIB});
    struct moon_session_store *second = store;
    const char *downz = second->ops->down(second);
    assert_non_null(downz);
    assert_non_null(strstr(downz, "this process has it open already"));
    struct moon_session_key key = key_of(1);
    struct moon_session_record *record;
    assert_int_equal(load(&key, now, &record), MOON_ECLOSED);
    assert_non_null(strstr(last_why, "this process has it open already"));
    assert_int_equal(create(1, now, 1), MOON_ECLOSED);
    first->ops->close(first);
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while (second->ops->down(second) != NULL && moon_clock_ms() < until_ms) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        (void)usleep(10000);
    }
    assert_int_equal(create(1, now, 1), MOON_OK);
    close_store();
}

static void a_directory_that_comes_later(void **state)
{
    (void)state;
    char deep[128];
    char why[MOON_SESSION_WHY];
    (void)snprintf(deep, sizeof(deep), "%s/not/there", test_dir);
    assert_int_equal(moon_lmdb_store_open(
                         &loop, deep,
                         &(struct moon_lmdb_store_options){.size_bytes = MIB},
                         &store, why),
                     MOON_OK);
    assert_non_null(store->ops->down(store));
    assert_non_null(
        strstr(store->ops->down(store), "its directory does not exist"));
    *strrchr(deep, '/') = '\0';
    assert_int_equal(mkdir(deep, 0700), 0);
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while (store->ops->down(store) != NULL && moon_clock_ms() < until_ms)
        (void)usleep(10000);
    assert_int_equal(create(1, now, 10), MOON_OK);
    close_store();
    char inner[160];
    (void)snprintf(inner, sizeof(inner), "%s/there", deep);
    moon_lmdb_private_dir_remove(inner);
    assert_int_equal(rmdir(deep), 0);
}

static void on_done_close(struct moon_session_op *op)
{
    struct call *call = op->ctx;
    call->fired++;
    store->ops->close(store);
}

static void it_can_be_closed_in_a_callback(void **state)
{
    (void)state;
    open_small(8 * MIB);
    struct call call;
    struct moon_session_key key = key_of(1);
    struct moon_session_change change = change_of(NULL, 0, now);
    change.create = true;
    struct moon_session_op *op = begin_call(&call, FAR_MS);
    op->done = on_done_close;
    assert_int_equal(store->ops->save(store, op, &key, &change), MOON_EAGAIN);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(call.fired, 1);
    assert_int_equal(call.op.err, MOON_OK);
    open_small(8 * MIB);
    assert_true(is_there(1, now));
    close_store();
}

static void private_directories_go(void **state)
{
    (void)state;
    char dir[MOON_LMDB_PRIVATE_DIR], why[MOON_SESSION_WHY];
    struct stat st;
    assert_int_equal(moon_lmdb_private_dir_name("/tmp", dir), MOON_OK);
    assert_int_equal(stat(dir, &st), -1);
    struct moon_lmdb_store_options options = {.temporary = true};
    assert_int_equal(moon_lmdb_store_open(&loop, dir, &options, &store, why),
                     MOON_OK);
    assert_int_equal(create(1, now, 10), MOON_OK);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    close_store();
    moon_lmdb_private_dir_remove(dir);
    assert_int_equal(stat(dir, &st), -1);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc == 3) {
        (void)snprintf(test_dir, sizeof(test_dir), "%s", argv[2]);
        return strcmp(argv[1], "hold") == 0 ? hold_main() : 2;
    }
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_full_store_forgets_who_was_away_longest),
        STORE_TEST(what_is_over_goes_before_what_lives),
        STORE_TEST(large_sessions_make_room),
        STORE_TEST(a_tiny_store_goes_on),
        STORE_TEST(a_held_lock_holds_up_nobody),
        STORE_TEST(a_stopped_process_is_no_end),
        STORE_TEST(saves_are_committed_together),
        STORE_TEST(what_is_written_is_flushed),
        STORE_TEST(one_per_directory_and_process),
        STORE_TEST(a_directory_that_comes_later),
        STORE_TEST(it_can_be_closed_in_a_callback),
        STORE_TEST(private_directories_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
