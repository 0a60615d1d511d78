/* Sessions and their indexes in LMDB: they agree whatever is done, and what
 * goes first is what should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lmdb_support.h"
#include "state/lmdb_check.h"
#include "state/lmdb_sessions.h"

static struct moon_lmdb_env *env;
static struct moon_lmdb_tx tx;

static int set_up(void **state)
{
    (void)state;
    make_test_dir();
    env = open_env(SIZE_BYTES);
    tx = (struct moon_lmdb_tx){.max_record_bytes = 1024 * 1024};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    moon_lmdb_env_close(env);
    moon_buf_deinit(&tx.scratch);
    remove_test_dir();
    return 0;
}

/* ---- operations, each in a transaction of its own ---- */

struct save {
    struct moon_session_key key, to;
    struct moon_session_change change;
    uint64_t version;
    enum moon_err result;
};

static int run_save(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    struct moon_session_change *copy = moon_session_change_copy(&s->change);
    assert_non_null(copy);
    int rc = moon_lmdb_save(t, &s->key, copy, &s->version, &s->result);
    free(copy);
    return rc;
}

static int run_move(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    struct moon_session_change *copy = moon_session_change_copy(&s->change);
    assert_non_null(copy);
    int rc = moon_lmdb_move(t, &s->key, &s->to, copy, &s->version, &s->result);
    free(copy);
    return rc;
}

static int run_touch(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    return moon_lmdb_touch(t, &s->key, s->change.now_ms, &s->result);
}

static int run_remove(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    return moon_lmdb_remove(t, &s->key, s->change.now_ms, &s->result);
}

static int run_get(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    struct moon_session_view view;
    return moon_lmdb_get(t, &s->key, s->change.now_ms, &view, &s->result);
}

static enum moon_err write_it(moon_lmdb_run *run, struct save *s)
{
    s->result = MOON_ESYS;
    assert_int_equal(moon_lmdb_env_write(env, &tx, run, s), 0);
    return s->result;
}

static struct save save_of(uint32_t number, int64_t now_ms)
{
    return (struct save){.key = key_of(number),
                         .change = {.now_ms = now_ms,
                                    .idle_ms = HOUR_MS,
                                    .expires_ms = MOON_SESSION_NEVER}};
}

static void create(uint32_t number, int64_t now_ms)
{
    struct save s = save_of(number, now_ms);
    s.change.create = true;
    assert_int_equal(write_it(run_save, &s), MOON_OK);
}

static bool is_there(uint32_t number, int64_t now_ms)
{
    struct save s = save_of(number, now_ms);
    assert_int_equal(moon_lmdb_env_read(env, &tx, run_get, &s), 0);
    return s.result == MOON_OK;
}

struct removal {
    int64_t now_ms;
    uint32_t limit;
    struct moon_lmdb_dropped dropped;
};

static int run_sweep(struct moon_lmdb_tx *t, void *ctx)
{
    struct removal *r = ctx;
    return moon_lmdb_sweep(t, r->now_ms, r->limit, &r->dropped);
}

static int run_evict(struct moon_lmdb_tx *t, void *ctx)
{
    struct removal *r = ctx;
    return moon_lmdb_evict(t, r->limit, UINT64_MAX, &r->dropped);
}

static uint32_t sweep(int64_t now_ms, uint32_t limit)
{
    struct removal r = {.now_ms = now_ms, .limit = limit};
    assert_int_equal(moon_lmdb_env_write(env, &tx, run_sweep, &r), 0);
    return r.dropped.sessions;
}

static uint32_t evict(uint32_t limit, int64_t *seen_ms)
{
    struct removal r = {.limit = limit};
    assert_int_equal(moon_lmdb_env_write(env, &tx, run_evict, &r), 0);
    if (seen_ms != NULL)
        *seen_ms = r.dropped.seen_ms;
    return r.dropped.sessions;
}

/* How many entries a database has. */
static int run_count(struct moon_lmdb_tx *t, void *ctx)
{
    size_t *counts = ctx;
    MDB_dbi dbis[] = {t->dbs.sessions, t->dbs.expiry, t->dbs.seen,
                      t->dbs.subjects};
    for (size_t i = 0; i < MOON_COUNT(dbis); i++) {
        MDB_stat stat;
        assert_int_equal(mdb_stat(t->txn, dbis[i], &stat), 0);
        counts[i] = stat.ms_entries;
    }
    return 0;
}

static void assert_counts(size_t sessions, size_t subjects)
{
    size_t counts[4];
    assert_int_equal(moon_lmdb_env_read(env, &tx, run_count, counts), 0);
    assert_int_equal(counts[0], sessions);
    assert_int_equal(counts[1], sessions);
    assert_int_equal(counts[2], sessions);
    assert_int_equal(counts[3], subjects);
}

/* The whole file: LMDB's pages, and indexes that tell the same. */
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

/* ---- tests ---- */

static void sweeping_takes_what_is_over(void **state)
{
    (void)state;
    enum { EACH = 60 };
    /* Three generations, an hour apart; ids are in no order. */
    for (uint32_t i = 0; i < 3 * EACH; i++)
        create(i, NOW_MS + (int64_t)(i % 3) * HOUR_MS);
    assert_counts(3 * EACH, 0);
    assert_int_equal(sweep(NOW_MS + HOUR_MS - 1, 100), 0);
    /* Two minutes later at the latest: slots are coarse. The oldest first. */
    int64_t first = NOW_MS + HOUR_MS + 120000;
    assert_int_equal(sweep(first + HOUR_MS, 10), 10);
    for (uint32_t i = 0; i < 3 * EACH; i++) {
        if (i % 3 != 0)
            assert_true(is_there(i, NOW_MS));
    }
    assert_int_equal(sweep(first, 100), EACH - 10);
    assert_int_equal(sweep(first, 100), 0);
    assert_int_equal(sweep(first + HOUR_MS, 1000), EACH);
    assert_counts(EACH, 0);
    assert_int_equal(sweep(first + 2 * HOUR_MS, 100), EACH);
    assert_counts(0, 0);
    assert_sound();
}

static void a_session_that_is_used_is_not_swept(void **state)
{
    (void)state;
    create(1, NOW_MS);
    create(2, NOW_MS);
    struct save s = save_of(1, NOW_MS + HOUR_MS / 2);
    assert_int_equal(write_it(run_touch, &s), MOON_OK);
    assert_int_equal(sweep(NOW_MS + HOUR_MS + 120000, 100), 1);
    assert_true(is_there(1, NOW_MS + HOUR_MS + 120000));
    assert_false(is_there(2, NOW_MS));
    assert_sound();
}

static void eviction_takes_who_was_away_longest(void **state)
{
    (void)state;
    enum { MANY = 300 };
    int64_t minute = 120000, seen_ms;
    /* The one with the nearest deadline is the one just seen. */
    for (uint32_t i = 0; i < MANY; i++) {
        struct save s = save_of(i, NOW_MS + (int64_t)i * minute);
        s.change.create = true;
        s.change.idle_ms = (int64_t)(MANY - i) * 10 * HOUR_MS;
        assert_int_equal(write_it(run_save, &s), MOON_OK);
    }
    /* Number 0 comes back. */
    struct save s = save_of(0, NOW_MS + MANY * minute);
    assert_int_equal(write_it(run_touch, &s), MOON_OK);
    assert_int_equal(evict(50, &seen_ms), 50);
    assert_int_equal(seen_ms, NOW_MS + 50 * minute);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(is_there(i, NOW_MS + MANY * minute), i == 0 || i > 50);
    assert_int_equal(evict(1000, NULL), 100); /* a batch */
    assert_int_equal(evict(100, NULL), 100);
    assert_int_equal(evict(100, NULL), 50);
    assert_int_equal(evict(100, NULL), 0);
    assert_counts(0, 0);
    assert_sound();
}

static int put_raw(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    MDB_val k = {.mv_data = s->key.bytes, .mv_size = sizeof(s->key.bytes)};
    MDB_val v = {.mv_data = "\1\0\0\0not a record, but long enough to look "
                            "like the head of one, at least a little",
                 .mv_size = 70};
    return mdb_put(t->txn, t->dbs.sessions, &k, &v, 0);
}

static int put_stale(struct moon_lmdb_tx *t, void *ctx)
{
    struct save *s = ctx;
    struct moon_lmdb_places p = {.expiry_slot = 1, .seen_slot = 1};
    return moon_lmdb_places_set(t, &p, &s->key, true);
}

static void unreadable_records_are_gone(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        create(i, NOW_MS);
        struct save s = save_of(i, NOW_MS);
        assert_int_equal(moon_lmdb_env_write(env, &tx, put_raw, &s), 0);
        assert_false(is_there(i, NOW_MS));
        assert_int_equal(write_it(run_save, &s), MOON_ENOT_FOUND);
        assert_int_equal(write_it(run_touch, &s), MOON_ENOT_FOUND);
    }
    assert_int_equal(tx.unreadable, 9);
    create(0, NOW_MS); /* overwritten */
    assert_true(is_there(0, NOW_MS));
    struct save s = save_of(1, NOW_MS);
    assert_int_equal(write_it(run_remove, &s), MOON_ENOT_FOUND);
    /* They go when their time comes; number 0 has a new life. */
    assert_int_equal(sweep(NOW_MS + HOUR_MS + 120000, 100), 1);
    assert_int_equal(sweep(NOW_MS + HOUR_MS + 120000, 100), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(is_there(i, NOW_MS));
    /* Nobody could tell where else they stood, until the next check. */
    moon_lmdb_env_close(env);
    env = open_env(SIZE_BYTES);
    assert_counts(0, 0);
    assert_sound();
}

static void indexes_are_made_anew(void **state)
{
    (void)state;
    enum { MANY = 2500 };
    for (uint32_t i = 0; i < MANY; i++) {
        struct save s = save_of(i, NOW_MS + (int64_t)i * 1000);
        s.change.create = true;
        s.change.sets_subject = i % 2 == 0;
        s.change.subject = MOON_STR("anna");
        assert_int_equal(write_it(run_save, &s), MOON_OK);
    }
    struct save s = save_of(1, NOW_MS);
    assert_int_equal(moon_lmdb_env_write(env, &tx, put_stale, &s), 0);
    s = save_of(2, NOW_MS);
    assert_int_equal(moon_lmdb_env_write(env, &tx, put_stale, &s), 0);
    moon_lmdb_env_close(env);
    env = open_env(SIZE_BYTES);
    assert_counts(MANY, MANY / 2);
    assert_sound();
}

static void a_wrong_entry_ends_no_session(void **state)
{
    (void)state;
    create(1, NOW_MS);
    struct save s = save_of(1, NOW_MS);
    assert_int_equal(moon_lmdb_env_write(env, &tx, put_stale, &s), 0);
    assert_int_equal(sweep(NOW_MS, 100), 0);
    assert_int_equal(evict(1, NULL), 0); /* the wrong entry */
    assert_true(is_there(1, NOW_MS));
    assert_counts(1, 0);
    assert_sound();
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    static char big[2000];
    tx.max_record_bytes = 2048;
    create(1, NOW_MS);
    struct moon_session_field fields[] = {
        {MOON_STR("a"), moon_str(big, sizeof(big))},
        {MOON_STR("b"), moon_str(big, sizeof(big))}};
    struct save s = save_of(1, NOW_MS);
    s.change.fields = fields;
    s.change.field_count = 1;
    assert_int_equal(write_it(run_save, &s), MOON_ETOO_BIG);
    tx.max_record_bytes = 2200;
    assert_int_equal(write_it(run_save, &s), MOON_OK);
    s.change.fields = fields + 1;
    assert_int_equal(write_it(run_save, &s), MOON_ETOO_BIG);
    assert_int_equal(s.version, 2); /* of the one that was saved */
    assert_true(is_there(1, NOW_MS));
    assert_sound();
}

/* Any operations in any order, and the indexes agree. */
static void indexes_agree(void **state)
{
    (void)state;
    enum { SESSIONS = 200, OPS = 20000 };
    static const char *const subjects[] = {"", "anna", "bert", "a longer one"};
    unsigned seed = 7;
    char *value = calloc(1, 9000);
    assert_non_null(value);
    int64_t now = NOW_MS;
    for (int i = 0; i < OPS; i++) {
        now += rand_r(&seed) % 20000;
        struct save s = save_of((uint32_t)rand_r(&seed) % SESSIONS, now);
        s.to = key_of((uint32_t)rand_r(&seed) % SESSIONS);
        struct moon_session_field field = {
            MOON_STR("value"),
            moon_str(value, (size_t)(rand_r(&seed) % 100 == 0 ? 9000 : 60))};
        s.change.fields = &field;
        s.change.field_count = 1;
        s.change.create = rand_r(&seed) % 3 == 0;
        s.change.sets_subject = rand_r(&seed) % 4 == 0;
        s.change.subject = moon_strz(subjects[rand_r(&seed) % 4]);
        s.change.idle_ms = (rand_r(&seed) % 60) * 60000;
        if (rand_r(&seed) % 5 == 0)
            s.change.expires_ms = now + rand_r(&seed) % HOUR_MS;
        switch (rand_r(&seed) % 8) {
        case 0:
            (void)write_it(run_remove, &s);
            break;
        case 1:
            s.change.create = false;
            (void)write_it(run_move, &s);
            break;
        case 2:
            (void)write_it(run_touch, &s);
            break;
        case 3:
            if (i % 7 == 0)
                (void)sweep(now, 5);
            if (i % 50 == 0)
                (void)evict(3, NULL);
            break;
        default:
            (void)write_it(run_save, &s);
            break;
        }
        if (i % 1000 == 0)
            assert_sound();
    }
    assert_sound();
    assert_int_equal(tx.unreadable, 0);
    while (evict(100, NULL) > 0)
        ;
    assert_counts(0, 0);
    assert_sound();
    free(value);
}

#define LMDB_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LMDB_TEST(sweeping_takes_what_is_over),
        LMDB_TEST(a_session_that_is_used_is_not_swept),
        LMDB_TEST(eviction_takes_who_was_away_longest),
        LMDB_TEST(unreadable_records_are_gone),
        LMDB_TEST(a_wrong_entry_ends_no_session),
        LMDB_TEST(indexes_are_made_anew),
        LMDB_TEST(what_is_too_large_is_refused),
        LMDB_TEST(indexes_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
