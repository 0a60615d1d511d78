/* Addresses, networks, durations, sizes and the URLs of stores: what is
 * printed of them reads the same, and no message tells a password. */
#include "fuzz.h"

#include "base/address.h"
#include "base/host_port.h"
#include "base/nets.h"
#include "base/units.h"
#include "state/memcached_url.h"
#include "state/redis_url.h"

enum { ERROR = 400 };

static void check_address(struct moon_str text)
{
    struct moon_address address, again;
    char error[ERROR] = "";
    if (moon_address_parse(text, &address, error, sizeof(error)) != MOON_OK) {
        FUZZ_CHECK(error[0] != '\0');
        return;
    }
    FUZZ_CHECK(moon_address_parse(moon_strz(address.textz), &again, error,
                                  sizeof(error)) == MOON_OK);
    FUZZ_CHECK(strcmp(address.textz, again.textz) == 0);
    FUZZ_CHECK(address.sa_len == again.sa_len);
    FUZZ_CHECK(memcmp(&address.sa, &again.sa, address.sa_len) == 0);
}

static void check_host_port(struct moon_str text)
{
    struct moon_str host;
    uint16_t port;
    const char *whyz = NULL;
    if (moon_host_port_parse(text, 80, &host, &port, &whyz) == MOON_OK)
        FUZZ_CHECK(host.len > 0 && fuzz_within(host, text));
    else
        FUZZ_CHECK(whyz != NULL);
}

/* A set, printed, is the same set, and holds the first address of each. */
static void check_nets(struct moon_str text)
{
    struct moon_nets nets = {0}, again = {0};
    struct moon_buf why = {0}, printed = {0}, more = {0};
    struct moon_str rest = text;
    while (rest.len > 0) {
        struct moon_str one = moon_str_cut(rest, ',', &rest);
        enum moon_err err = moon_nets_add(&nets, one, &why);
        FUZZ_CHECK(err == MOON_OK || why.len > 0);
    }
    moon_nets_print(&nets, &printed);
    for (rest = moon_buf_str(&printed); rest.len > 0;) {
        struct moon_str one = moon_str_cut(rest, ',', &rest);
        FUZZ_CHECK(moon_nets_add(&again, moon_str_trim(one), &why) == MOON_OK);
    }
    moon_nets_print(&again, &more);
    FUZZ_CHECK(moon_str_eq(moon_buf_str(&printed), moon_buf_str(&more)));
    for (uint32_t i = 0; i < nets.count; i++)
        FUZZ_CHECK(moon_nets_contain(&nets, AF_INET6, nets.items[i].addr));
    FUZZ_CHECK(moon_nets_contain(&nets, AF_UNIX, NULL) == nets.unix_peers);
    moon_nets_deinit(&nets);
    moon_nets_deinit(&again);
    moon_buf_deinit(&why);
    moon_buf_deinit(&printed);
    moon_buf_deinit(&more);
}

static void check_units(struct moon_str text)
{
    uint64_t value, again;
    char error[ERROR], printed[64];
    if (moon_duration_parse(text, &value, error, sizeof(error)) == MOON_OK) {
        moon_duration_format(value, printed, sizeof(printed));
        FUZZ_CHECK(moon_duration_parse(moon_strz(printed), &again, error,
                                       sizeof(error)) == MOON_OK);
        FUZZ_CHECK(value == again);
    }
    if (moon_size_parse(text, &value, error, sizeof(error)) == MOON_OK) {
        moon_size_format(value, printed, sizeof(printed));
        FUZZ_CHECK(moon_size_parse(moon_strz(printed), &again, error,
                                   sizeof(error)) == MOON_OK);
        FUZZ_CHECK(value == again);
    }
}

static void check_redis(struct moon_str text)
{
    struct moon_redis_url *url = NULL;
    char error[ERROR] = "";
    if (moon_redis_url_parse(text, &url, error, sizeof(error)) != MOON_OK) {
        FUZZ_CHECK(error[0] != '\0');
        return;
    }
    FUZZ_CHECK(url->host_count >= 1 && url->host_count <= MOON_REDIS_HOSTS_MAX);
    FUZZ_CHECK(url->db <= MOON_REDIS_DB_MAX);
    for (uint32_t i = 0; i < url->host_count; i++)
        FUZZ_CHECK(url->hosts[i].hostz[0] != '\0');
    FUZZ_CHECK((url->kind == MOON_REDIS_SENTINEL) == (url->masterz[0] != '\0'));
    /* Longer ones cannot stand there by chance. */
    FUZZ_CHECK(strlen(url->passwordz) < 5 ||
               memmem(text.ptr, text.len, url->passwordz,
                      strlen(url->passwordz)) == NULL ||
               strstr(url->shownz, url->passwordz) == NULL ||
               strstr(url->hosts[0].hostz, url->passwordz) != NULL ||
               strstr(url->userz, url->passwordz) != NULL ||
               strstr("redis+sentinel://***@", url->passwordz) != NULL ||
               strstr("redis+cluster://", url->passwordz) != NULL ||
               strstr("redis+unix://", url->passwordz) != NULL ||
               strstr(url->masterz, url->passwordz) != NULL);
    free(url);
}

static void check_memcached(struct moon_str text)
{
    static struct moon_memcached_url url;
    char error[ERROR] = "";
    if (moon_memcached_url_parse(text, &url, error, sizeof(error)) != MOON_OK) {
        FUZZ_CHECK(error[0] != '\0');
        return;
    }
    FUZZ_CHECK(url.count >= 1 && url.count <= MOON_MEMCACHED_HOSTS_MAX);
    for (uint32_t i = 0; i < url.count; i++)
        FUZZ_CHECK(url.hosts[i].hostz[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str text = fuzz_copy(fuzz_str(data, size));
    check_address(text);
    check_host_port(text);
    check_nets(text);
    check_units(text);
    check_redis(text);
    if (size == 0 || memchr(data, '\0', size) == NULL)
        check_memcached(text); /* it comes as text that ends in NUL */
    fuzz_free(text);
    return 0;
}
