/* What can be wrong with a store's files and the system under it: what is sound
 * is kept, what is not is moved aside, and all go on together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lmdb_case.h"

#include <sched.h>
#include <sys/mount.h>

/* ---- damaged files, found when opening ---- */

static void a_truncated_file(void **state)
{
    (void)state;
    make_file();
    assert_int_equal(
        truncate(test_path(MOON_LMDB_DATA), size_of(MOON_LMDB_DATA) / 2), 0);
    open_well();
    assert_int_equal(count_files(ASIDE), 1);
    assert_all(0, MANY, MOON_ENOT_FOUND);
    create_many(0, MANY);
    close_store();
    open_well(); /* as any other */
    assert_all(0, MANY, MOON_OK);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
}

static void three_damaged_files_are_kept(void **state)
{
    (void)state;
    char last[PAGE];
    for (int i = 0; i < 6; i++) {
        memset(last, 'a' + i, sizeof(last));
        open_well();
        assert_int_equal(create(1), MOON_OK);
        close_store();
        change_file(MOON_LMDB_DATA, 0, last, sizeof(last));
    }
    open_well();
    assert_int_equal(look(1), MOON_ENOT_FOUND);
    close_store();
    assert_int_equal(count_files(ASIDE), MOON_LMDB_ASIDE_COUNT);
}

static void a_file_of_something_else(void **state)
{
    (void)state;
    static const char text[] = "This is not a database.\n";
    int fd = open(test_path(MOON_LMDB_DATA), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
    (void)close(fd);
    open_well();
    assert_int_equal(create(1), MOON_OK);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
    struct stat st;
    assert_int_equal(stat(test_path(MOON_LMDB_DATA), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void garbage_in_the_middle(void **state)
{
    (void)state;
    char garbage[PAGE];
    unsigned seed = 5;
    make_file();
    for (size_t i = 0; i < sizeof(garbage); i++)
        garbage[i] = (char)rand_r(&seed);
    off_t pages = size_of(MOON_LMDB_DATA) / PAGE;
    int aside = 0, kept = 0;
    /* Wherever it is: a page in use, or one that is free. */
    for (off_t page = 2; page < pages; page += 7) {
        change_file(MOON_LMDB_DATA, page * PAGE, garbage, sizeof(garbage));
        open_well();
        bool is_aside = count_files(ASIDE) > 0;
        assert_all(0, MANY, is_aside ? MOON_ENOT_FOUND : MOON_OK);
        aside += is_aside;
        kept += !is_aside;
        close_store();
        if (!is_aside)
            continue;
        remove_test_dir();
        make_test_dir();
        make_file();
    }
    assert_true(aside > 0);
    assert_true(kept > 0);
}

static void a_half_made_file(void **state)
{
    (void)state;
    /* LMDB was killed before it wrote anything. */
    int fd = open(test_path(MOON_LMDB_DATA), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    open_well();
    assert_int_equal(create(1), MOON_OK);
    assert_int_equal(count_files(ASIDE), 0);
    close_store();
}

/* ---- the other files ---- */

static void a_missing_lock_file(void **state)
{
    (void)state;
    make_file();
    assert_int_equal(unlink(test_path(MOON_LMDB_LOCK)), 0);
    assert_int_equal(unlink(test_path(MOON_LMDB_GUARD)), 0);
    open_well();
    assert_all(0, MANY, MOON_OK);
    close_store();
}

static void damaged_lock_files(void **state)
{
    (void)state;
    static const char garbage[600] = "garbage";
    make_file();
    change_file(MOON_LMDB_LOCK, 0, garbage, sizeof(garbage));
    change_file(MOON_LMDB_GUARD, 0, garbage, sizeof(garbage));
    open_well();
    assert_all(0, MANY, MOON_OK);
    close_store();
    assert_int_equal(truncate(test_path(MOON_LMDB_LOCK), 17), 0);
    assert_int_equal(truncate(test_path(MOON_LMDB_GUARD), 17), 0);
    open_well();
    assert_all(0, MANY, MOON_OK);
    close_store();
    assert_int_equal(count_files(ASIDE), 0);
}

/* A program with another LMDB has it open. */
static int foreign_main(void)
{
    int fd = open(test_path(MOON_LMDB_LOCK), O_RDWR);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0)
        return 1;
    say("locked");
    wait_for_end();
    return 0;
}

static void a_lock_file_of_another_version(void **state)
{
    (void)state;
    uint32_t version = 99;
    make_file();
    change_file(MOON_LMDB_LOCK, 4, &version, sizeof(version));
    struct helper foreign = start_helper("foreign");
    assert_int_equal(await_helper(&foreign), 'l');
    open_store();
    assert_true(wait_until_up(false));
    assert_non_null(
        strstr(store->ops->down(store), "another version of LMDB uses it"));
    assert_int_equal(look(1), MOON_ECLOSED);
    assert_int_equal(create(MANY), MOON_ECLOSED);
    assert_non_null(strstr(last_why, "another version of LMDB uses it"));
    assert_int_equal(end_helper(&foreign, 0), 0);
    assert_true(wait_until_up(true));
    assert_all(0, MANY, MOON_OK);
    assert_int_equal(count_files(ASIDE), 0);
    close_store();
}

/* In another container, with the id that this process has here. */
static int twin_main(void)
{
    int fd = open(test_path(MOON_LMDB_LOCK), O_RDWR);
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = getppid(),
                         .l_len = 1};
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0)
        return 1;
    say("locked");
    wait_for_end();
    return 0;
}

static void a_process_with_the_same_id(void **state)
{
    (void)state;
    make_file();
    struct helper twin = start_helper("twin");
    assert_int_equal(await_helper(&twin), 'l');
    open_store();
    assert_true(wait_until_up(false));
    assert_non_null(strstr(store->ops->down(store), "with the same id"));
    assert_int_equal(end_helper(&twin, 0), 0);
    assert_true(wait_until_up(true));
    assert_all(0, MANY, MOON_OK);
    close_store();
}

/* ---- while it is open ---- */

static void damage_that_nobody_finds(void **state)
{
    (void)state;
    make_file();
    for (int i = 0; i < 3; i++) {
        struct moon_lmdb_env *env = open_env(SIZE_BYTES);
        assert_int_equal(count_files(ASIDE), 0);
        assert_true(moon_lmdb_env_is_current(env));
        moon_lmdb_env_distrust(env);
        moon_lmdb_env_distrust(env); /* two that notice are one */
        assert_false(moon_lmdb_env_is_current(env));
        moon_lmdb_env_close(env);
    }
    open_well(); /* it has not helped to look */
    assert_int_equal(count_files(ASIDE), 1);
    assert_int_equal(look(0), MOON_ENOT_FOUND);
    assert_int_equal(create(0), MOON_OK);
    close_store();
    open_well();
    assert_int_equal(count_files(ASIDE), 1);
    assert_int_equal(look(0), MOON_OK);
    close_store();
}

static void files_that_vanish(void **state)
{
    (void)state;
    make_file();
    open_well();
    assert_int_equal(unlink(test_path(MOON_LMDB_DATA)), 0);
    assert_true(wait_for(0, MOON_ENOT_FOUND));
    assert_int_equal(create_in_time(1), MOON_OK);
    close_store();
    open_well();
    assert_int_equal(look(1), MOON_OK);
    assert_int_equal(look(2), MOON_ENOT_FOUND);
    close_store();
}

static void a_file_that_is_cut_while_it_is_read(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    print_message("the thread sanitizer keeps SIGBUS to itself\n");
    skip();
#endif
    make_file();
    open_well();
    assert_all(0, 10, MOON_OK);
    assert_int_equal(truncate(test_path(MOON_LMDB_DATA), 3 * PAGE), 0);
    /* Reads survive, and say so; then it begins anew. */
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    enum moon_err err = MOON_OK;
    for (uint32_t i = 0; err != MOON_ENOT_FOUND && moon_clock_ms() < until_ms;
         i++) {
        err = look(i % MANY);
        assert_true(err == MOON_OK || err == MOON_ECLOSED ||
                    err == MOON_ENOT_FOUND);
    }
    assert_int_equal(err, MOON_ENOT_FOUND);
    assert_int_equal(create_in_time(1), MOON_OK);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
}

static void pages_that_turn_bad(void **state)
{
    (void)state;
    make_file();
    open_well();
    assert_all(0, 10, MOON_OK);
    wipe_pages();
    assert_true(wait_for(0, MOON_ENOT_FOUND));
    assert_int_equal(create_in_time(1), MOON_OK);
    assert_int_equal(look(1), MOON_OK);
    assert_int_equal(count_files(ASIDE), 1);
    close_store();
}

/* ---- the system ---- */

static bool is_root(void)
{
    return geteuid() == 0;
}

/* Runs as nobody, who may not write here at first. */
static int denied_main(void)
{
    if (is_root() && (setgid(65534) != 0 || setuid(65534) != 0))
        return 1;
    begin_case();
    open_store();
    const char *downz = store->ops->down(store);
    say(downz != NULL && strstr(downz, "no permission") != NULL ? "denied"
                                                                : "what?");
    if (!wait_until_up(true) || create_in_time(1) != MOON_OK)
        return 2;
    say("works");
    close_store();
    return uv_loop_close(&loop) == 0 ? 0 : 3;
}

static void a_directory_without_permission(void **state)
{
    (void)state;
    assert_int_equal(chmod(test_dir, is_root() ? 0755 : 0500), 0);
    struct helper denied = start_helper("denied");
    char first = await_helper(&denied);
    assert_int_equal(chmod(test_dir, is_root() ? 0777 : 0700), 0);
    assert_int_equal(first, 'd');
    assert_int_equal(await_helper(&denied), 'w');
    assert_int_equal(end_helper(&denied, 0), 0);
}

/* In a mount namespace of its own, with a small file system over the directory;
 * false: this user or machine may not. */
static bool mount_small(const char *optionsz)
{
    return unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", test_dir, "tmpfs", 0, optionsz) == 0;
}

/* What is left of the room on it. */
static bool fill_disk(void)
{
    static char block[PAGE];
    int fd = open(test_path("filler"), O_WRONLY | O_CREAT, 0600);
    if (fd < 0)
        return false;
    while (write(fd, block, sizeof(block)) == sizeof(block))
        ;
    (void)close(fd);
    return true;
}

#define REQUIRE(what)                                                   \
    do {                                                                \
        if (!(what)) {                                                  \
            (void)fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, \
                          last_why);                                    \
            return 1;                                                   \
        }                                                               \
    } while (0)

static int disk_main(void)
{
    if (!mount_small("size=1m")) {
        say("skip");
        return 0;
    }
    begin_case();
    /* Full from the beginning: no file can be made. */
    REQUIRE(fill_disk());
    open_store();
    REQUIRE(store->ops->down(store) != NULL);
    REQUIRE(strstr(store->ops->down(store), "no space left") != NULL);
    REQUIRE(create(1) == MOON_ECLOSED);
    REQUIRE(unlink(test_path("filler")) == 0);
    REQUIRE(wait_until_up(true));
    /* Full while it is used: what is there can be read. */
    REQUIRE(create(1) == MOON_OK);
    REQUIRE(fill_disk());
    enum moon_err err = MOON_OK;
    uint32_t number = 2;
    while (err == MOON_OK && number < 10000)
        err = create(number++);
    REQUIRE(err == MOON_EFULL);
    REQUIRE(strstr(last_why, "no space left") != NULL);
    REQUIRE(strstr(store->ops->down(store), "cannot be written") != NULL);
    REQUIRE(look(1) == MOON_OK);
    REQUIRE(look(number - 2) == MOON_OK);
    REQUIRE(unlink(test_path("filler")) == 0);
    uint64_t until_ms = moon_clock_ms() + FAR_MS;
    while (create(number) != MOON_OK && moon_clock_ms() < until_ms)
        (void)usleep(10000);
    REQUIRE(look(number) == MOON_OK);
    REQUIRE(store->ops->down(store) == NULL);
    close_store();
    REQUIRE(uv_loop_close(&loop) == 0);
    say("works");
    return 0;
}

static void a_full_disk(void **state)
{
    (void)state;
    struct helper disk = start_helper("disk");
    char first = await_helper(&disk);
    assert_int_equal(end_helper(&disk, 0), 0);
    if (first == 's') {
        print_message("mounting a small file system takes root\n");
        skip();
    }
    assert_int_equal(first, 'w');
}

static int read_only_main(void)
{
    if (!mount_small("size=4m")) {
        say("skip");
        return 0;
    }
    begin_case();
    REQUIRE(mount("none", test_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    open_store();
    REQUIRE(store->ops->down(store) != NULL);
    REQUIRE(strstr(store->ops->down(store), "read-only") != NULL);
    REQUIRE(look(1) == MOON_ECLOSED);
    REQUIRE(mount("none", test_dir, NULL, MS_REMOUNT, NULL) == 0);
    REQUIRE(wait_until_up(true));
    REQUIRE(create(1) == MOON_OK);
    close_store();
    REQUIRE(uv_loop_close(&loop) == 0);
    say("works");
    return 0;
}

static void a_read_only_file_system(void **state)
{
    (void)state;
    struct helper helper = start_helper("read-only");
    char first = await_helper(&helper);
    assert_int_equal(end_helper(&helper, 0), 0);
    if (first == 's') {
        print_message("mounting a small file system takes root\n");
        skip();
    }
    assert_int_equal(first, 'w');
}

static int helper_main(const char *rolez)
{
    return strcmp(rolez, "foreign") == 0     ? foreign_main()
           : strcmp(rolez, "twin") == 0      ? twin_main()
           : strcmp(rolez, "denied") == 0    ? denied_main()
           : strcmp(rolez, "disk") == 0      ? disk_main()
           : strcmp(rolez, "read-only") == 0 ? read_only_main()
                                             : 2;
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        (void)snprintf(test_dir, sizeof(test_dir), "%s", argv[2]);
        return helper_main(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        FILE_TEST(a_truncated_file),
        FILE_TEST(three_damaged_files_are_kept),
        FILE_TEST(a_file_of_something_else),
        FILE_TEST(garbage_in_the_middle),
        FILE_TEST(a_half_made_file),
        FILE_TEST(a_missing_lock_file),
        FILE_TEST(damaged_lock_files),
        FILE_TEST(a_lock_file_of_another_version),
        FILE_TEST(a_process_with_the_same_id),
        FILE_TEST(damage_that_nobody_finds),
        FILE_TEST(files_that_vanish),
        FILE_TEST(a_file_that_is_cut_while_it_is_read),
        FILE_TEST(pages_that_turn_bad),
        FILE_TEST(a_directory_without_permission),
        FILE_TEST(a_full_disk),
        FILE_TEST(a_read_only_file_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
