/* Sets of networks: what is read, what is refused and how, who is in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/nets.h"

#include <arpa/inet.h>

static struct moon_nets of(const char *listz)
{
    struct moon_nets nets = {0};
    struct moon_buf why = {0};
    struct moon_str rest = moon_strz(listz);
    while (rest.len > 0) {
        struct moon_str one = moon_str_cut(rest, ' ', &rest);
        assert_int_equal(moon_nets_add(&nets, one, &why), MOON_OK);
    }
    moon_buf_deinit(&why);
    return nets;
}

static bool has(const struct moon_nets *nets, const char *addressz)
{
    uint8_t addr[16];
    if (inet_pton(AF_INET, addressz, addr) == 1)
        return moon_nets_contain(nets, AF_INET, addr);
    assert_int_equal(inet_pton(AF_INET6, addressz, addr), 1);
    return moon_nets_contain(nets, AF_INET6, addr);
}

static void prints_what_it_read(void **state)
{
    static const char *const cases[][2] = {
        {"10.0.0.0/8", "10.0.0.0/8"},
        {"127.0.0.1", "127.0.0.1"},
        {"127.0.0.1/32", "127.0.0.1"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"::/0", "::/0"},
        {"2001:DB8:0::/32", "2001:db8::/32"},
        {"::1/128", "::1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
        {"::ffff:0:0/96", "0.0.0.0/0"},
        {"fe80::/10", "fe80::/10"},
        {"UNIX", "unix"},
        {"unix ::1 10.1.2.0/23", "::1,10.1.2.0/23,unix"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_nets nets = of(cases[i][0]);
        struct moon_buf out = {0};
        moon_nets_print(&nets, &out);
        moon_buf_add_char(&out, '\0');
        assert_string_equal(out.ptr, cases[i][1]);
        moon_buf_deinit(&out);
        moon_nets_deinit(&nets);
    }
}

static void refusals_name_the_entry(void **state)
{
    static const char *const cases[][2] = {
        {"", "\"\" is no address"},
        {"/8", "\"/8\" is no address"},
        {"localhost", "\"localhost\" is no address"},
        {"10.0.0", "\"10.0.0\" is no address"},
        {"10.0.0.256", "is no address"},
        {"010.0.0.1", "is no address"},
        {"10.0.0.1 ", "is no address"},
        {"[::1]", "\"[::1]\" is no address"},
        {"fe80::1%eth0", "is no address"},
        {"1:2:3:4:5:6:7:8:9", "is no address"},
        {"unix:/run/x", "is no address"},
        {"10.0.0.0/", "has a prefix that is not 0 to 32"},
        {"10.0.0.0/33", "has a prefix that is not 0 to 32"},
        {"10.0.0.0/-1", "has a prefix that is not 0 to 32"},
        {"10.0.0.0/8/8", "has a prefix that is not 0 to 32"},
        {"10.0.0.0/4294967296", "has a prefix that is not 0 to 32"},
        {"10.0.0.0/99999999999999999999", "has a prefix that is not 0 to 32"},
        {"::/129", "has a prefix that is not 0 to 128"},
        {"10.0.0.1/8", "beyond its prefix; write 10.0.0.0/8"},
        {"2001:db8::1/32", "beyond its prefix; write 2001:db8::/32"},
        {"::ffff:1.2.3.4/95", "beyond its prefix; write ::fffe:0:0/95"},
    };
    struct moon_nets nets = {0};
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_buf why = {0};
        assert_int_equal(moon_nets_add(&nets, moon_strz(cases[i][0]), &why),
                         MOON_EINVAL);
        moon_buf_add_char(&why, '\0');
        if (strstr(why.ptr, cases[i][1]) == NULL)
            fail_msg("%s: %s", cases[i][0], why.ptr);
        moon_buf_deinit(&why);
    }
    struct moon_buf why = {0};
    assert_int_equal(moon_nets_add(&nets, MOON_STR("1.2.3.4\0.5"), &why),
                     MOON_EINVAL);
    moon_buf_deinit(&why);
    assert_true(moon_nets_empty(&nets));
    moon_nets_deinit(&nets);
}

static void every_prefix_length(void **state)
{
    char textz[64];
    (void)state;
    for (int bits = 0; bits <= 32; bits++) {
        /* The network of 255.255.255.255, which the bit before ends. */
        uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
        struct in_addr in = {htonl(mask)};
        (void)snprintf(textz, sizeof(textz), "%s/%d", inet_ntoa(in), bits);
        struct moon_nets nets = of(textz);
        assert_true(has(&nets, "255.255.255.255"));
        assert_true(has(&nets, "::ffff:255.255.255.255"));
        if (bits > 0) {
            in.s_addr = htonl(UINT32_MAX ^ (1u << (32 - bits)));
            assert_false(has(&nets, inet_ntoa(in)));
        }
        moon_nets_deinit(&nets);
    }
    for (unsigned bits = 1; bits <= 128; bits++) {
        uint8_t addr[16];
        memset(addr, 0, sizeof(addr));
        addr[0] = 0x20;
        struct moon_nets nets = of("2000::");
        nets.items[0].bits = (uint8_t)bits;
        assert_true(moon_nets_contain(&nets, AF_INET6, addr));
        addr[(bits - 1) / 8] ^= (uint8_t)(0x80u >> (bits - 1) % 8);
        assert_false(moon_nets_contain(&nets, AF_INET6, addr));
        addr[(bits - 1) / 8] ^= (uint8_t)(0x80u >> (bits - 1) % 8);
        if (bits < 128)
            addr[bits / 8] ^= (uint8_t)(0x80u >> bits % 8);
        assert_true(moon_nets_contain(&nets, AF_INET6, addr));
        moon_nets_deinit(&nets);
    }
}

static void families_stay_apart(void **state)
{
    (void)state;
    struct moon_nets nets = of("::/0");
    assert_true(has(&nets, "2001:db8::1"));
    assert_false(has(&nets, "192.0.2.1"));
    assert_false(has(&nets, "::ffff:192.0.2.1"));
    assert_false(moon_nets_contain(&nets, AF_UNIX, NULL));
    moon_nets_deinit(&nets);

    nets = of("0.0.0.0/0");
    assert_true(has(&nets, "192.0.2.1"));
    assert_true(has(&nets, "::ffff:192.0.2.1"));
    assert_false(has(&nets, "2001:db8::1"));
    assert_false(has(&nets, "::192.0.2.1"));
    moon_nets_deinit(&nets);

    nets = of("unix");
    assert_false(moon_nets_empty(&nets));
    assert_true(moon_nets_contain(&nets, AF_UNIX, NULL));
    assert_false(moon_nets_contain(&nets, AF_UNSPEC, NULL));
    assert_false(has(&nets, "127.0.0.1"));
    moon_nets_deinit(&nets);

    nets = of("10.0.0.0/8 192.168.0.0/16 ::1");
    assert_true(has(&nets, "10.255.0.1"));
    assert_true(has(&nets, "192.168.7.7"));
    assert_true(has(&nets, "::1"));
    assert_false(has(&nets, "11.0.0.1"));
    assert_false(has(&nets, "::2"));
    moon_nets_deinit(&nets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_what_it_read),
        cmocka_unit_test(refusals_name_the_entry),
        cmocka_unit_test(every_prefix_length),
        cmocka_unit_test(families_stay_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
