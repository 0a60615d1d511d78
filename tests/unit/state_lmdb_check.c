/* The check of LMDB files: sound ones pass, whatever was done in them; of
 * damaged ones those that pass can be read by LMDB, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lmdb_support.h"
#include "state/lmdb_check.h"

#include <string.h>
#include <sys/stat.h>

enum { PAGE = 4096, DAMAGES = 500 };

struct file {
    char *bytes;
    size_t len;
};

static int set_up(void **state)
{
    (void)state;
    make_test_dir();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_test_dir();
    return 0;
}

/* ---- files ---- */

static struct file read_file(void)
{
    struct file f;
    struct stat st;
    int fd = open(test_path(MOON_LMDB_DATA), O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    f.len = (size_t)st.st_size;
    f.bytes = malloc(f.len);
    assert_non_null(f.bytes);
    assert_int_equal(read(fd, f.bytes, f.len), f.len);
    (void)close(fd);
    return f;
}

static void write_file(const struct file *f, size_t len)
{
    int fd = open(test_path(MOON_LMDB_DATA), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, f->bytes, len), len);
    (void)close(fd);
}

/* Counts the entries of the databases that a store uses. */
static void visit(void *ctx, struct moon_str db, struct moon_str key,
                  struct moon_str data)
{
    static const char *const known[] = {"sessions", "expiry", "seen",
                                        "subjects"};
    volatile char sum = 0; /* what it is given can be read */
    for (size_t i = 0; i < MOON_COUNT(known); i++)
        *(size_t *)ctx += moon_str_eq(db, moon_strz(known[i]));
    for (size_t i = 0; i < key.len; i++)
        sum = (char)(sum ^ key.ptr[i]);
    for (size_t i = 0; i < data.len; i++)
        sum = (char)(sum ^ data.ptr[i]);
}

static enum moon_err check(size_t *entries, char *why)
{
    *entries = 0;
    int fd = open(test_path(MOON_LMDB_DATA), O_RDONLY);
    assert_true(fd >= 0);
    enum moon_err err = moon_lmdb_check(fd, visit, entries, why);
    (void)close(fd);
    return err;
}

/* ---- what is in them ---- */

struct load {
    unsigned seed;
    int count;
    size_t largest;
};

static int put_some(struct moon_lmdb_tx *tx, void *ctx)
{
    struct load *l = ctx;
    static char value[100000];
    int rc = 0;
    for (int i = 0; i < l->count && rc == 0; i++) {
        struct moon_session_key key = key_of((uint32_t)rand_r(&l->seed) % 3000);
        MDB_val k = {.mv_data = key.bytes, .mv_size = sizeof(key.bytes)};
        MDB_val v = {.mv_data = value,
                     .mv_size = (size_t)rand_r(&l->seed) % l->largest};
        MDB_dbi dbi = rand_r(&l->seed) % 2 ? tx->dbs.sessions : tx->dbs.seen;
        if (rand_r(&l->seed) % 3 == 0) {
            rc = mdb_del(tx->txn, dbi, &k, NULL);
            rc = rc == MDB_NOTFOUND ? 0 : rc;
        } else {
            if (rand_r(&l->seed) % 10 != 0)
                v.mv_size %= 400;
            rc = mdb_put(tx->txn, dbi, &k, &v, 0);
        }
    }
    return rc;
}

static void fill(unsigned seed, int rounds, int each, size_t largest)
{
    struct moon_lmdb_env *env = open_env(SIZE_BYTES);
    struct moon_lmdb_tx tx = {.txn = NULL};
    struct load l = {.seed = seed, .count = each, .largest = largest};
    for (int i = 0; i < rounds; i++)
        assert_int_equal(moon_lmdb_env_write(env, &tx, put_some, &l), 0);
    moon_lmdb_env_close(env);
}

static int drop_all(struct moon_lmdb_tx *tx, void *ctx)
{
    (void)ctx;
    int rc = mdb_drop(tx->txn, tx->dbs.sessions, 0);
    return rc == 0 ? mdb_drop(tx->txn, tx->dbs.seen, 0) : rc;
}

/* ---- tests ---- */

static void sound_files_pass(void **state)
{
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries;
    struct moon_lmdb_env *env = open_env(SIZE_BYTES);
    assert_int_equal(check(&entries, why), MOON_OK); /* a new one */
    assert_int_equal(entries, 0);
    moon_lmdb_env_close(env);
    for (unsigned seed = 1; seed < 40; seed++) {
        fill(seed, 20, (int)seed * 8, seed % 3 == 0 ? 100000 : 3000);
        enum moon_err err = check(&entries, why);
        assert_string_equal(why, "");
        assert_int_equal(err, MOON_OK);
        assert_true(entries > 0);
    }
    /* One whose free list is long. */
    env = open_env(SIZE_BYTES);
    struct moon_lmdb_tx tx = {.txn = NULL};
    assert_int_equal(moon_lmdb_env_write(env, &tx, drop_all, NULL), 0);
    moon_lmdb_env_close(env);
    assert_int_equal(check(&entries, why), MOON_OK);
    assert_int_equal(entries, 0);
}

static void no_files_are_told_apart(void **state)
{
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries;
    struct file f = {.bytes = calloc(1, 3 * PAGE), .len = 3 * PAGE};
    assert_non_null(f.bytes);
    write_file(&f, 0);
    assert_int_equal(check(&entries, why), MOON_ENOT_FOUND);
    write_file(&f, f.len);
    assert_int_equal(check(&entries, why), MOON_EPROTO);
    assert_string_equal(why, "not a file of LMDB");
    write_file(&f, 10);
    assert_int_equal(check(&entries, why), MOON_EPROTO);
    free(f.bytes);
}

/* Reads everything, as LMDB does it. */
static int read_all(struct moon_lmdb_tx *tx, void *ctx)
{
    MDB_dbi dbis[] = {tx->dbs.sessions, tx->dbs.expiry, tx->dbs.seen,
                      tx->dbs.subjects};
    size_t *entries = ctx;
    for (size_t i = 0; i < MOON_COUNT(dbis); i++) {
        MDB_cursor *cursor;
        MDB_val k, v;
        int rc = mdb_cursor_open(tx->txn, dbis[i], &cursor);
        if (rc != 0)
            return rc;
        while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
            visit(entries, MOON_STR("sessions"), moon_str(k.mv_data, k.mv_size),
                  moon_str(v.mv_data, v.mv_size));
        mdb_cursor_close(cursor);
        if (rc != MDB_NOTFOUND)
            return rc;
    }
    return 0;
}

/* What passes, LMDB reads and writes without a word. */
static void assert_usable(size_t entries)
{
    struct moon_lmdb_env *env = open_env(SIZE_BYTES);
    struct moon_lmdb_tx tx = {.txn = NULL};
    struct load l = {.seed = 99, .count = 50, .largest = 3000};
    size_t found = 0;
    assert_int_equal(moon_lmdb_env_read(env, &tx, read_all, &found), 0);
    assert_int_equal(found, entries);
    assert_int_equal(moon_lmdb_env_write(env, &tx, put_some, &l), 0);
    moon_lmdb_env_close(env);
}

static void damage(struct file *f, unsigned *seed)
{
    size_t pages = f->len / PAGE;
    size_t page = (size_t)rand_r(seed) % pages * PAGE;
    size_t other = (size_t)rand_r(seed) % pages * PAGE;
    switch (rand_r(seed) % 6) {
    case 0: /* one bit */
        f->bytes[(size_t)rand_r(seed) % f->len] ^=
            (char)(1 << rand_r(seed) % 8);
        break;
    case 1: /* one bit where it matters */
        f->bytes[page + (size_t)rand_r(seed) % 64] ^=
            (char)(1 << rand_r(seed) % 8);
        break;
    case 2: /* a page of another place */
        memcpy(f->bytes + page, f->bytes + other, PAGE);
        break;
    case 3: /* with the right number */
        memcpy(f->bytes + page + 8, f->bytes + other + 8, PAGE - 8);
        break;
    case 4: /* never written */
        memset(f->bytes + page, 0, PAGE);
        break;
    default: /* garbage */
        for (size_t i = 0; i < 100; i++)
            f->bytes[page + (size_t)rand_r(seed) % PAGE] = (char)rand_r(seed);
        break;
    }
}

static void damaged_files_fail_or_work(void **state)
{
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries, failed = 0;
    unsigned seed = 3;
    fill(5, 30, 40, 20000);
    struct file good = read_file();
    struct file bad = {.bytes = malloc(good.len), .len = good.len};
    assert_non_null(bad.bytes);
    for (int i = 0; i < DAMAGES; i++) {
        memcpy(bad.bytes, good.bytes, good.len);
        damage(&bad, &seed);
        write_file(&bad, bad.len);
        enum moon_err err = check(&entries, why);
        if (err == MOON_OK) {
            assert_usable(entries);
        } else {
            assert_int_equal(err, MOON_EPROTO);
            assert_true(why[0] != '\0');
            failed++;
        }
    }
    assert_true(failed > DAMAGES / 4);
    free(good.bytes);
    free(bad.bytes);
}

/* The newest meta page says a transaction that LMDB looks for on the other
 * one, where an older state is. */
static void transactions_are_where_they_belong(void **state)
{
    enum { AT_TXN = 144 };
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries;
    fill(5, 30, 40, 20000);
    struct file f = read_file();
    uint64_t txns[2];
    for (size_t i = 0; i < 2; i++)
        memcpy(&txns[i], f.bytes + i * PAGE + AT_TXN, sizeof(txns[i]));
    size_t newest = txns[1] > txns[0];
    assert_int_equal(txns[newest] & 1, newest);
    txns[newest]++;
    memcpy(f.bytes + newest * PAGE + AT_TXN, &txns[newest], sizeof(txns[0]));
    write_file(&f, f.len);
    assert_int_equal(check(&entries, why), MOON_EPROTO);
    free(f.bytes);
}

/* The first record of the free list in the newest tree of it: a transaction,
 * how many pages, and these. */
static char *free_record(struct file *f)
{
    enum { AT_DEPTH = 46, AT_ROOT = 80, AT_TXN = 144, PAGE_HEAD = 16 };
    uint64_t txns[2], root;
    uint16_t depth, at, flags;
    for (size_t i = 0; i < 2; i++)
        memcpy(&txns[i], f->bytes + i * PAGE + AT_TXN, sizeof(txns[i]));
    const char *meta = f->bytes + (txns[1] > txns[0] ? PAGE : 0);
    memcpy(&depth, meta + AT_DEPTH, sizeof(depth));
    memcpy(&root, meta + AT_ROOT, sizeof(root));
    assert_int_equal(depth, 1);
    memcpy(&at, f->bytes + root * PAGE + PAGE_HEAD, sizeof(at));
    char *node = f->bytes + root * PAGE + at;
    memcpy(&flags, node + 4, sizeof(flags));
    assert_int_equal(flags, 0);
    return node + 8;
}

static uint64_t number_at(const char *record, size_t nth)
{
    uint64_t number;
    memcpy(&number, record + nth * sizeof(number), sizeof(number));
    return number;
}

static void put_number(char *record, size_t nth, uint64_t number)
{
    memcpy(record + nth * sizeof(number), &number, sizeof(number));
}

/* LMDB runs into the same record for ever if it is of transaction 0, and hands
 * pages out twice if they do not fall. */
static void free_lists_are_in_order(void **state)
{
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries;
    fill(5, 4, 40, 3000);
    struct file f = read_file();
    char *record = free_record(&f);
    uint64_t txn = number_at(record, 0), page = number_at(record, 2);
    assert_true(number_at(record, 1) >= 2 && page > number_at(record, 3));
    put_number(record, 0, 0);
    write_file(&f, f.len);
    assert_int_equal(check(&entries, why), MOON_EPROTO);
    put_number(record, 0, txn);
    put_number(record, 2, number_at(record, 3));
    put_number(record, 3, page);
    write_file(&f, f.len);
    assert_int_equal(check(&entries, why), MOON_EPROTO);
    assert_string_equal(why, "the free list is not in order");
    free(f.bytes);
}

static void short_files_fail_or_work(void **state)
{
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries;
    fill(8, 30, 40, 20000);
    struct file good = read_file();
    int failed = 0;
    for (size_t len = 1; len < good.len; len += 1000) {
        write_file(&good, len);
        enum moon_err err = check(&entries, why);
        if (err == MOON_OK)
            assert_usable(entries);
        else
            assert_int_equal(err, MOON_EPROTO);
        failed += err != MOON_OK;
    }
    assert_true(failed > 10);
    free(good.bytes);
}

/* Where the fields of a meta page are, from its beginning. */
enum {
    META_VERSION = 20,
    FREE_PAD = 40,
    FREE_FLAGS = 44,
    MAIN_FLAGS = 92,
    MAIN_DEPTH = 94,
    MAIN_ENTRIES = 120,
    MAIN_ROOT = 128,
    LAST_PAGE = 136,
};

struct wrong {
    size_t offset;
    uint32_t value;
    bool second_only; /* of the two meta pages */
    const char *whyz;
};

static void what_is_wrong_is_told(void **state)
{
    static const struct wrong wrong[] = {
        {0, 0, true, "not a file of LMDB"},
        {META_VERSION, 7, false, "of version 7 of LMDB's format"},
        {FREE_PAD, 1000, false, "with pages of 1000 bytes"},
        {FREE_PAD, 65536, false, "with pages of 65536 bytes"},
        {FREE_PAD, 8192, true, "with pages of two sizes"},
        {FREE_FLAGS, 0, false, "of a kind that is not used here"},
        {MAIN_FLAGS, 4, false, "of a kind that is not used here"},
        {MAIN_DEPTH, 0, false, "a tree without levels"},
        {MAIN_DEPTH, 9, false, "page "},
        {MAIN_ENTRIES, 77, false, " entries where 77 should be"},
        {MAIN_ROOT, 1u << 30, false, "page 1073741824 of "},
        {LAST_PAGE, 1u << 30, false, "ends long before page 1073741824"},
        {LAST_PAGE, 0, false, "ends long before page 0"},
    };
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries;
    fill(9, 30, 40, 20000);
    struct file good = read_file();
    struct file bad = {.bytes = malloc(good.len), .len = good.len};
    assert_non_null(bad.bytes);
    for (size_t i = 0; i < MOON_COUNT(wrong); i++) {
        const struct wrong *w = &wrong[i];
        memcpy(bad.bytes, good.bytes, good.len);
        for (size_t page = w->second_only; page < 2; page++) {
            if (w->offset == 0) /* all of it */
                memset(bad.bytes + page * PAGE, 0, PAGE);
            size_t size =
                w->offset == MAIN_DEPTH || w->offset == MAIN_FLAGS ? 2 : 4;
            memcpy(bad.bytes + page * PAGE + w->offset, &w->value, size);
        }
        write_file(&bad, bad.len);
        assert_int_equal(check(&entries, why), MOON_EPROTO);
        if (strstr(why, w->whyz) == NULL)
            fail_msg("%s instead of %s", why, w->whyz);
    }
    free(good.bytes);
    free(bad.bytes);
}

/* After a power failure: the file as it should be, but for some pages that are
 * still what they were before. */
static void half_written_files_fail_or_work(void **state)
{
    (void)state;
    char why[MOON_LMDB_CHECK_WHY];
    size_t entries, failed = 0;
    unsigned seed = 4;
    fill(6, 30, 40, 20000);
    struct file before = read_file();
    fill(7, 10, 40, 20000);
    struct file after = read_file();
    struct file mixed = {.bytes = malloc(after.len), .len = after.len};
    assert_non_null(mixed.bytes);
    for (int i = 0; i < DAMAGES; i++) {
        memcpy(mixed.bytes, after.bytes, after.len);
        for (int stale = rand_r(&seed) % 5; stale >= 0; stale--) {
            size_t page = 2 + (size_t)rand_r(&seed) % (before.len / PAGE - 2);
            memcpy(mixed.bytes + page * PAGE, before.bytes + page * PAGE, PAGE);
        }
        write_file(&mixed, mixed.len);
        enum moon_err err = check(&entries, why);
        if (err == MOON_OK)
            assert_usable(entries);
        else
            assert_int_equal(err, MOON_EPROTO);
        failed += err != MOON_OK;
    }
    assert_true(failed > DAMAGES / 4);
    free(before.bytes);
    free(after.bytes);
    free(mixed.bytes);
}

#define CHECK_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECK_TEST(sound_files_pass),
        CHECK_TEST(no_files_are_told_apart),
        CHECK_TEST(damaged_files_fail_or_work),
        CHECK_TEST(transactions_are_where_they_belong),
        CHECK_TEST(free_lists_are_in_order),
        CHECK_TEST(short_files_fail_or_work),
        CHECK_TEST(what_is_wrong_is_told),
        CHECK_TEST(half_written_files_fail_or_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
