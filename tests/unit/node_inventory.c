/* What one binary hands to the next: written and read, and what is no
 * inventory. */
#include "node/inventory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct moon_inventory in, out;

static void fill(void)
{
    moon_inventory_init(&out);
    (void)snprintf(out.versionz, sizeof(out.versionz), "1.2.3-rc1");
    out.pid = 4711;
    out.generation = 1ull << 40;
    out.slot_first = 28;
    out.slot_count = 4;
    out.side = 1;
    out.channel_fd = 9;
    out.shm_fd = 10;
    out.region_fd = 11;
    out.pid_fd = 12;
    (void)snprintf(out.pid_pathz, sizeof(out.pid_pathz), "/run/a b/pid");
    (void)snprintf(out.memory_dirz, sizeof(out.memory_dirz), "/dev/shm/x");
    out.admin = (struct moon_inventory_socket){
        .fd = 13, .wantedz = "unix:/run/a b/admin.sock"};
    out.sockets[0] = (struct moon_inventory_socket){
        .fd = 14, .managed = true, .wantedz = "127.0.0.1:80"};
    out.sockets[1] =
        (struct moon_inventory_socket){.fd = 15, .wantedz = "[::1]:0"};
    out.socket_count = 2;
}

static enum moon_err read_back(struct moon_buf *bytes, struct moon_buf *error)
{
    error->len = 0;
    enum moon_err err = moon_inventory_read(moon_buf_str(bytes), &in, error);
    moon_buf_add_char(error, '\0');
    return err;
}

static void all_of_it_arrives(void **state)
{
    struct moon_buf bytes = {0}, error = {0};
    (void)state;
    fill();
    moon_inventory_write(&out, &bytes);
    /* What a later version adds is none of our business. */
    moon_buf_addz(&bytes, "moons 4 of them");
    moon_buf_add_char(&bytes, '\0');
    assert_int_equal(read_back(&bytes, &error), MOON_OK);
    assert_string_equal(in.versionz, "1.2.3-rc1");
    assert_int_equal(in.pid, 4711);
    assert_true(in.generation == 1ull << 40);
    assert_int_equal(in.slot_first, 28);
    assert_int_equal(in.slot_count, 4);
    assert_int_equal(in.side, 1);
    assert_int_equal(in.channel_fd, 9);
    assert_int_equal(in.shm_fd, 10);
    assert_int_equal(in.region_fd, 11);
    assert_int_equal(in.pid_fd, 12);
    assert_string_equal(in.pid_pathz, "/run/a b/pid");
    assert_string_equal(in.memory_dirz, "/dev/shm/x");
    assert_int_equal(in.admin.fd, 13);
    assert_string_equal(in.admin.wantedz, "unix:/run/a b/admin.sock");
    assert_int_equal(in.socket_count, 2);
    assert_int_equal(in.sockets[0].fd, 14);
    assert_true(in.sockets[0].managed && !in.sockets[1].managed);
    assert_string_equal(in.sockets[1].wantedz, "[::1]:0");
    assert_int_equal(in.sockets[2].fd, -1);
    moon_buf_deinit(&bytes);
    moon_buf_deinit(&error);
}

static void what_is_not_there_is_none(void **state)
{
    struct moon_buf bytes = {0}, error = {0};
    (void)state;
    moon_inventory_init(&out);
    (void)snprintf(out.versionz, sizeof(out.versionz), "1");
    out.channel_fd = 3;
    moon_inventory_write(&out, &bytes);
    assert_int_equal(read_back(&bytes, &error), MOON_OK);
    assert_int_equal(in.shm_fd, -1);
    assert_int_equal(in.region_fd, -1);
    assert_int_equal(in.pid_fd, -1);
    assert_int_equal(in.admin.fd, -1);
    assert_int_equal(in.socket_count, 0);
    moon_buf_deinit(&bytes);
    moon_buf_deinit(&error);
}

static void others_are_refused(void **state)
{
    static const char head[] = "moonshine-inventory 1";
    static const struct {
        const char *headz, *entryz, *whyz;
    } cases[] = {
        {"", "channel 3", "these versions cannot hand over"},
        {"moonshine-inventory 2", "channel 3", "cannot hand over"},
        {head, "pid 1", "names no channel"},
        {head, "channel -1", "wrong entry: \"channel -1\""},
        {head, "channel", "wrong entry"},
        {head, "channel 3x", "wrong entry"},
        {head, "channel 99999999999999999999", "wrong entry"},
        {head, "slots 1 2", "wrong entry"},
        {head, "slots 1 2 2", "wrong entry"},
        {head, "listen 4 own", "wrong entry"},
        {head, "pidfile 4", "wrong entry"},
        {head, "version 0123456789012345678901234567890123456789",
         "wrong entry"},
    };
    struct moon_buf bytes = {0}, error = {0};
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        bytes.len = 0;
        moon_buf_addz(&bytes, cases[i].headz);
        moon_buf_add_char(&bytes, '\0');
        moon_buf_addz(&bytes, cases[i].entryz);
        moon_buf_add_char(&bytes, '\0');
        assert_int_equal(read_back(&bytes, &error), MOON_EPROTO);
        assert_non_null(strstr(error.ptr, cases[i].whyz));
    }
    bytes.len = 0;
    moon_buf_addz(&bytes, head);
    for (int i = 0; i <= MOON_LISTEN_MAX; i++) {
        moon_buf_add_char(&bytes, '\0');
        moon_buf_printf(&bytes, "listen %d own :%d", i + 4, i + 1);
    }
    assert_int_equal(read_back(&bytes, &error), MOON_EPROTO);
    moon_buf_deinit(&bytes);
    moon_buf_deinit(&error);
}

/* It may be cut anywhere: then it is refused, or what is left is whole. */
static void cut_anywhere(void **state)
{
    struct moon_buf bytes = {0}, error = {0};
    (void)state;
    fill();
    moon_inventory_write(&out, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        error.len = 0;
        /* A copy of just that size, so that a read beyond it is seen. */
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, bytes.ptr, len);
        copy = realloc(copy, len > 0 ? len : 1);
        assert_non_null(copy);
        enum moon_err err =
            moon_inventory_read(moon_str(copy, len), &in, &error);
        assert_true(err == MOON_OK || error.len > 0);
        free(copy);
    }
    moon_buf_deinit(&bytes);
    moon_buf_deinit(&error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_arrives),
        cmocka_unit_test(what_is_not_there_is_none),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
