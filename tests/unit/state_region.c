/* Shared extents: found again by name, made once whatever dies, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/region.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void count_init(void *extent, size_t size, void *ctx)
{
    int *count = ctx;
    (void)size;
    (*count)++;
    *(int *)extent = 7;
}

static void extents_are_found_again(void **state)
{
    (void)state;
    struct moon_region *region, *other;
    int fd, made = 0;
    assert_int_equal(moon_region_create(&region, &fd), MOON_OK);
    int *a = moon_region_extent(region, "a", 1, 100, count_init, &made);
    assert_non_null(a);
    assert_int_equal(*a, 7);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_ptr_equal(moon_region_extent(region, "a", 1, 100, count_init, &made),
                     a);
    assert_int_equal(made, 1);
    /* Another name, layout or size is another one. */
    assert_ptr_not_equal(
        moon_region_extent(region, "b", 1, 100, count_init, &made), a);
    assert_ptr_not_equal(
        moon_region_extent(region, "a", 2, 100, count_init, &made), a);
    assert_ptr_not_equal(
        moon_region_extent(region, "a", 1, 101, count_init, &made), a);
    assert_int_equal(made, 4);

    *a = 42;
    assert_int_equal(moon_region_open(fd, &other), MOON_OK);
    size_t size;
    int *again = moon_region_find(other, "a", 1, 100, &size);
    assert_non_null(again);
    assert_int_equal(size, 100);
    assert_int_equal(*again, 42);
    assert_null(moon_region_find(other, "c", 1, 0, NULL));
    assert_non_null(moon_region_find(other, "b", 1, 0, &size));
    moon_region_close(other);
    moon_region_close(region);
    (void)close(fd);
}

static void room_is_bounded(void **state)
{
    (void)state;
    struct moon_region *region;
    char name[100];
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    assert_null(moon_region_extent(region, "x", 1, 0, NULL, NULL));
    assert_null(moon_region_extent(region, "x", 1, SIZE_MAX, NULL, NULL));
    assert_null(
        moon_region_extent(region, "x", 1, (size_t)1 << 40, NULL, NULL));
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_null(moon_region_extent(region, name, 1, 8, NULL, NULL));
    for (int i = 0; i < MOON_EXTENTS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "extent %d", i);
        assert_non_null(moon_region_extent(region, name, 1, 8, NULL, NULL));
    }
    assert_null(moon_region_extent(region, "one more", 1, 8, NULL, NULL));
    assert_non_null(moon_region_extent(region, "extent 9", 1, 8, NULL, NULL));
    moon_region_close(region);
}

static void die(void *extent, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    *(int *)extent = 1;
    (void)raise(SIGKILL);
}

static void a_maker_may_die(void **state)
{
    (void)state;
    struct moon_region *region;
    int made = 0;
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(moon_region_extent(region, "a", 1, 64, die, NULL) == NULL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_null(moon_region_find(region, "a", 1, 64, NULL));
    int *a = moon_region_extent(region, "a", 1, 64, count_init, &made);
    assert_non_null(a);
    assert_int_equal(made, 1);
    assert_int_equal(*a, 7);
    moon_region_close(region);
}

static void a_dead_owner_is_told(void **state)
{
    (void)state;
    struct moon_region *region;
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    pthread_mutex_t *mutex = moon_region_extent(
        region, "mutex", 1, sizeof(pthread_mutex_t), NULL, NULL);
    assert_non_null(mutex);
    moon_robust_init(mutex);
    pid_t pid = fork();
    if (pid == 0) {
        (void)moon_robust_lock(mutex);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(moon_robust_lock(mutex));
    moon_robust_unlock(mutex);
    assert_true(moon_robust_lock(mutex));
    moon_robust_unlock(mutex);
    moon_region_close(region);
}

static void foreign_memory_is_refused(void **state)
{
    (void)state;
    struct moon_region *region;
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), 1 << 20), 0);
    assert_int_equal(moon_region_open(fileno(file), &region), MOON_EPROTO);
    assert_int_equal(ftruncate(fileno(file), 10), 0);
    assert_int_equal(moon_region_open(fileno(file), &region), MOON_EPROTO);
    (void)fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_are_found_again),
        cmocka_unit_test(room_is_bounded),
        cmocka_unit_test(a_maker_may_die),
        cmocka_unit_test(a_dead_owner_is_told),
        cmocka_unit_test(foreign_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
