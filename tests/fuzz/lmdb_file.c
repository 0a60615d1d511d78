/* Files of LMDB with damage in them: the check lets none pass that LMDB cannot
 * read from end to end and then write to.
 *
 * Input: patches of a file that is sound, three bytes each with more behind
 * them; see patch(). */
#include "fuzz.h"

#define assert_non_null(p) FUZZ_CHECK((p) != NULL)
#define assert_int_equal(a, b) FUZZ_CHECK((a) == (b))
#define assert_string_equal(a, b) FUZZ_CHECK(strcmp(a, b) == 0)

#include "../unit/lmdb_support.h"

#include "state/lmdb_check.h"
#include "state/lmdb_guard.h"

#include <sys/stat.h>

enum { PAGE = 4096, PAGES_MAX = 128, ENTRIES = 60, LARGE = 9000 };

static char base[PAGES_MAX * PAGE];
static size_t base_len;
static size_t newest; /* sum of what was visited, for sanitizers to see */

static int put_some(struct moon_lmdb_tx *tx, void *ctx)
{
    static char value[LARGE];
    uint32_t seed = *(uint32_t *)ctx;
    int rc = 0;
    for (uint32_t i = 0; i < ENTRIES && rc == 0; i++) {
        struct moon_session_key key = key_of(seed + i);
        MDB_val k = {.mv_data = key.bytes, .mv_size = sizeof(key.bytes)};
        MDB_val v = {.mv_data = value, .mv_size = i % 20 == 0 ? LARGE : i * 7};
        MDB_dbi dbi = i % 2 ? tx->dbs.sessions : tx->dbs.seen;
        if (i % 5 == 4)
            rc = mdb_del(tx->txn, dbi, &k, NULL);
        else
            rc = mdb_put(tx->txn, dbi, &k, &v, 0);
        rc = rc == MDB_NOTFOUND ? 0 : rc;
    }
    return rc;
}

static void write_some(struct moon_lmdb_env *env, uint32_t seed)
{
    struct moon_lmdb_tx tx = {.txn = NULL};
    FUZZ_CHECK(moon_lmdb_env_write(env, &tx, put_some, &seed) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_be_quiet();
    make_test_dir();
    (void)atexit(remove_test_dir);
    struct moon_lmdb_env *env = open_env(SIZE_BYTES);
    for (uint32_t i = 0; i < 4; i++)
        write_some(env, i * 10);
    moon_lmdb_env_close(env);
    int fd = open(test_path(MOON_LMDB_DATA), O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, base, sizeof(base));
    FUZZ_CHECK(len > 0 && len < (ssize_t)sizeof(base));
    base_len = (size_t)len;
    (void)close(fd);
    return 0;
}

static void visit(void *ctx, struct moon_str db, struct moon_str key,
                  struct moon_str data)
{
    static const char *const known[] = {"sessions", "expiry", "seen",
                                        "subjects"};
    for (size_t i = 0; i < MOON_COUNT(known); i++)
        *(size_t *)ctx += moon_str_eq(db, moon_strz(known[i]));
    newest ^= (size_t)(fuzz_seed(key) ^ fuzz_seed(data));
}

static int read_all(struct moon_lmdb_tx *tx, void *ctx)
{
    MDB_dbi dbis[] = {tx->dbs.sessions, tx->dbs.expiry, tx->dbs.seen,
                      tx->dbs.subjects};
    for (size_t i = 0; i < MOON_COUNT(dbis); i++) {
        MDB_cursor *cursor;
        MDB_val k, v;
        int rc = mdb_cursor_open(tx->txn, dbis[i], &cursor);
        if (rc != 0)
            return rc;
        while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
            visit(ctx, MOON_STR("seen"), moon_str(k.mv_data, k.mv_size),
                  moon_str(v.mv_data, v.mv_size));
        mdb_cursor_close(cursor);
        if (rc != MDB_NOTFOUND)
            return rc;
    }
    return 0;
}

static void check_usable(size_t entries)
{
    struct moon_lmdb_env *env = open_env(SIZE_BYTES);
    struct moon_lmdb_tx tx = {.txn = NULL};
    size_t found = 0;
    FUZZ_CHECK(moon_lmdb_env_read(env, &tx, read_all, &found) == 0);
    FUZZ_CHECK(found == entries);
    write_some(env, 5);
    moon_lmdb_env_close(env);
}

/* One thing that disks and power failures do, or somebody who means it. */
static void patch(struct fuzz_bytes *bytes, char *file, size_t len)
{
    size_t pages = len / PAGE;
    uint8_t how = fuzz_byte(bytes);
    char *page = file + fuzz_below(bytes, (uint32_t)pages) * PAGE;
    size_t at = fuzz_byte(bytes);
    switch (how % 6) {
    case 0: /* near its start: header and offsets of nodes */
        page[at] = (char)fuzz_byte(bytes);
        break;
    case 1: /* anywhere */
        at = (at << 8 | fuzz_byte(bytes)) % PAGE;
        page[at] = (char)fuzz_byte(bytes);
        break;
    case 2: /* another page */
        memmove(page, file + at % pages * PAGE, PAGE);
        break;
    case 3: /* that has the right number */
        memmove(page + 8, file + at % pages * PAGE + 8, PAGE - 8);
        break;
    case 4: /* never written */
        memset(page, 0, PAGE);
        break;
    default: /* two bytes: a count, an offset, a size */
        at = (at << 8 | fuzz_byte(bytes)) % (PAGE - 2);
        page[at] = (char)fuzz_byte(bytes);
        page[at + 1] = (char)fuzz_byte(bytes);
        break;
    }
}

static void write_file(const char *file, size_t len)
{
    int fd = open(test_path(MOON_LMDB_DATA), O_RDWR | O_TRUNC | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, file, len) == (ssize_t)len);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char file[sizeof(base)];
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    char why[MOON_LMDB_CHECK_WHY] = "";
    size_t entries = 0, len = base_len;
    memcpy(file, base, len);
    if (fuzz_byte(&bytes) % 8 == 7) /* cut */
        len = len * fuzz_byte(&bytes) / 256;
    for (int i = 0; i < 8 && fuzz_left(&bytes) > 0 && len >= PAGE; i++)
        patch(&bytes, file, len);
    write_file(file, len);
    int fd = open(test_path(MOON_LMDB_DATA), O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    enum moon_err err = moon_lmdb_check(fd, visit, &entries, why);
    (void)moon_lmdb_map_bytes(fd);
    (void)close(fd);
    if (err == MOON_OK)
        check_usable(entries);
    else
        FUZZ_CHECK(err == MOON_ENOT_FOUND ? len == 0
                                          : err == MOON_EPROTO && why[0]);
    return 0;
}
