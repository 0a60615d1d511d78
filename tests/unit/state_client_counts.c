/* Connections of clients, counted over workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "state/client_counts.h"
#include "state/region.h"

#include <string.h>

enum { SLOTS = 3 };

static struct moon_region *region;
static struct moon_client_counts *workers[SLOTS];

static int open_all(void **state)
{
    (void)state;
    assert_int_equal(moon_region_create(&region, NULL), MOON_OK);
    for (uint32_t i = 0; i < SLOTS; i++) {
        workers[i] = moon_client_counts_open(region, SLOTS, i);
        assert_non_null(workers[i]);
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < SLOTS; i++)
        moon_client_counts_close(workers[i]);
    moon_region_close(region);
    return 0;
}

static const uint8_t *client(uint64_t number)
{
    static uint8_t addr[MOON_CLIENT_ADDR];
    memcpy(addr, &number, sizeof(addr));
    return addr;
}

static void sums_up_over_workers(void **state)
{
    (void)state;
    for (int i = 0; i < SLOTS; i++) {
        for (int n = 0; n <= i; n++)
            assert_true(moon_client_counts_add(workers[i], client(7)));
    }
    assert_true(moon_client_counts_add(workers[0], client(8)));
    for (int i = 0; i < SLOTS; i++) {
        assert_int_equal(moon_client_counts_get(workers[i], client(7)), 6);
        assert_int_equal(moon_client_counts_get(workers[i], client(8)), 1);
        assert_int_equal(moon_client_counts_get(workers[i], client(9)), 0);
    }
    moon_client_counts_drop(workers[2], client(7));
    assert_int_equal(moon_client_counts_get(workers[0], client(7)), 5);
    /* What was never counted is not given back. */
    moon_client_counts_drop(workers[2], client(8));
    assert_int_equal(moon_client_counts_get(workers[0], client(8)), 1);
}

static void ends_with_its_process(void **state)
{
    (void)state;
    assert_true(moon_client_counts_add(workers[0], client(7)));
    assert_true(moon_client_counts_add(workers[1], client(7)));
    moon_client_counts_end_worker(region, SLOTS, 1);
    assert_int_equal(moon_client_counts_get(workers[0], client(7)), 1);
    moon_client_counts_close(workers[1]);
    workers[1] = moon_client_counts_open(region, SLOTS, 1);
    assert_non_null(workers[1]);
    assert_int_equal(moon_client_counts_get(workers[0], client(7)), 1);
    assert_true(moon_client_counts_add(workers[1], client(7)));
    assert_int_equal(moon_client_counts_get(workers[0], client(7)), 2);
    /* Numbers that are no worker's change nothing. */
    moon_client_counts_end_worker(region, SLOTS, SLOTS);
    moon_client_counts_end_worker(region, SLOTS + 1, 0);
    assert_int_equal(moon_client_counts_get(workers[0], client(7)), 2);
}

/* More clients than any worker has: each has its own number, and when all have
 * left nothing is taken. */
static void tells_clients_apart(void **state)
{
    (void)state;
    enum { CLIENTS = 40000 };
    static bool counted[CLIENTS];
    uint32_t lost = 0;
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < CLIENTS; i++) {
            uint64_t times = i % 3 + 1;
            counted[i] = true;
            for (uint64_t n = 0; n < times; n++)
                counted[i] &= moon_client_counts_add(workers[0], client(i));
            lost += !counted[i];
        }
        for (uint64_t i = 0; i < CLIENTS; i++) {
            if (counted[i])
                assert_int_equal(moon_client_counts_get(workers[1], client(i)),
                                 i % 3 + 1);
        }
        for (uint64_t i = 0; i < CLIENTS; i++) {
            for (uint64_t n = 0; counted[i] && n < i % 3 + 1; n++)
                moon_client_counts_drop(workers[0], client(i));
        }
    }
    assert_true(lost < 12); /* of 120,000 */
    for (uint64_t i = 0; i < CLIENTS; i++)
        assert_int_equal(moon_client_counts_get(workers[1], client(i)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sums_up_over_workers, open_all,
                                        close_all),
        cmocka_unit_test_setup_teardown(ends_with_its_process, open_all,
                                        close_all),
        cmocka_unit_test_setup_teardown(tells_clients_apart, open_all,
                                        close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
