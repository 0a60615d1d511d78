/* A store in a test directory, for the tests of what several processes do to
 * it. */
#ifndef MOON_TESTS_LMDB_CASE_H
#define MOON_TESTS_LMDB_CASE_H

#include "lmdb_process.h"

#include "../support/session_harness.h"
#include "base/clock.h"
#include "state/lmdb_store.h"

#include <string.h>
#include <sys/stat.h>

enum { PAGE = 4096, FAR_MS = 20000, MANY = 500 };

#define ASIDE MOON_LMDB_DATA ".corrupt-"

static int64_t now; /* wall clock */

static inline void begin_case(void)
{
    now = (int64_t)(moon_clock_wall() * 1000);
    assert_int_equal(uv_loop_init(&loop), 0);
}

static inline int set_up(void **state)
{
    (void)state;
    make_test_dir();
    begin_case();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_close(&loop), 0);
    remove_test_dir();
    return 0;
}

static inline void open_sized(uint64_t size_bytes)
{
    char why[MOON_SESSION_WHY] = "";
    struct moon_lmdb_store_options options = {.size_bytes = size_bytes,
                                              .open_wait_ms = FAR_MS};
    assert_int_equal(
        moon_lmdb_store_open(&loop, test_dir, &options, &store, why), MOON_OK);
}

static inline void open_store(void)
{
    open_sized(SIZE_BYTES);
}

static inline void open_well(void)
{
    open_store();
    const char *downz = store->ops->down(store);
    assert_null(downz);
}

static inline void close_store(void)
{
    store->ops->close(store);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}

static inline enum moon_err create(uint32_t number)
{
    struct moon_session_key key = key_of(number);
    struct moon_session_field fields[] = {
        field("name", "somebody with a name that takes some room"),
        field("cart", "[\"a\",\"b\",\"c\"]")};
    struct moon_session_change change = change_of(fields, 2, now);
    change.create = true;
    return save(&key, &change, NULL);
}

static inline enum moon_err look(uint32_t number)
{
    struct moon_session_key key = key_of(number);
    struct moon_session_record *record;
    enum moon_err err = load(&key, now, &record);
    free(record);
    return err;
}

static inline void create_many(uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++)
        assert_int_equal(create(i), MOON_OK);
}

static inline void assert_all(uint32_t from, uint32_t count, enum moon_err err)
{
    for (uint32_t i = from; i < from + count; i++)
        assert_int_equal(look(i), err);
}

/* A file with sessions 0 to MANY, closed. */
static inline void make_file(void)
{
    open_well();
    create_many(0, MANY);
    close_store();
}

/* Files in the directory whose name begins so. */
static inline int count_files(const char *prefixz)
{
    int count = 0;
    DIR *dir = opendir(test_dir);
    assert_non_null(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        count += strncmp(entry->d_name, prefixz, strlen(prefixz)) == 0;
    (void)closedir(dir);
    return count;
}

static inline void change_file(const char *namez, off_t at, const void *bytes,
                               size_t len)
{
    int fd = open(test_path(namez), O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, at), len);
    (void)close(fd);
}

static inline off_t size_of(const char *namez)
{
    struct stat st;
    assert_int_equal(stat(test_path(namez), &st), 0);
    return st.st_size;
}

/* All pages but the first two. */
static inline void wipe_pages(void)
{
    static char zeros[PAGE];
    off_t pages = size_of(MOON_LMDB_DATA) / PAGE;
    for (off_t page = 2; page < pages; page++)
        change_file(MOON_LMDB_DATA, page * PAGE, zeros, sizeof(zeros));
}

/* Until it works again, or not. */
static inline bool wait_until_up(bool up)
{
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while ((store->ops->down(store) == NULL) != up) {
        if (moon_clock_ms() > until_ms)
            return false;
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        (void)usleep(5000);
    }
    return true;
}

/* Until it is told `err`. */
static inline bool wait_for(uint32_t number, enum moon_err err)
{
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while (look(number) != err) {
        if (moon_clock_ms() > until_ms)
            return false;
        (void)usleep(2000);
    }
    return true;
}

static inline enum moon_err create_in_time(uint32_t number)
{
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    enum moon_err err = create(number);
    while (err == MOON_ECLOSED && moon_clock_ms() < until_ms) {
        (void)usleep(5000);
        err = create(number);
    }
    return err;
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
