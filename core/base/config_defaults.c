/* What a key means when nobody set it, where that depends on the machine, the
 * environment or another key; and the rules between keys. */
#include "base/config.h"

#include "base/address.h"
#include "base/config_value.h"
#include "base/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (1024u * 1024u)

static enum moon_err no_memory(char *error, size_t error_size)
{
    (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
    return MOON_ENOMEM;
}

/* Gives an unset text its value. */
static enum moon_err fill(char **field, const char *valuez)
{
    if ((*field)[0] != '\0')
        return MOON_OK;
    char *copyz = strdup(valuez);
    if (copyz == NULL)
        return MOON_ENOMEM;
    free(*field);
    *field = copyz;
    return MOON_OK;
}

static const char *env(const char *namez)
{
    const char *valuez = getenv(namez);
    return valuez != NULL ? valuez : "";
}

/* ---- numbers ---- */

/* With what Lua may have these leave a quarter of it to the processes. */
static void fill_share(const struct moon_config *config, uint32_t key,
                       uint64_t *bytes)
{
    uint64_t share = moon_machine_memory() / (8u * config->workers);
    if (config->levels[key] == MOON_CONFIG_DEFAULT && share < *bytes)
        *bytes = share < MIB ? MIB : share;
}

static void fill_numbers(struct moon_config *config)
{
    if (config->workers == 0) {
        uint32_t cpus = moon_machine_cpus();
        config->workers = cpus < 256 ? cpus : 256;
    }
    if (config->memory_limit_bytes == 0) {
        uint64_t share = moon_machine_memory() / (2u * config->workers);
        config->memory_limit_bytes = share > 512u * MIB  ? 512u * MIB
                                     : share < 16u * MIB ? 16u * MIB
                                                         : share;
    }
    if (config->levels[MOON_CONFIG_KEY_request_memory_bytes] ==
            MOON_CONFIG_DEFAULT &&
        config->request_memory_bytes > config->memory_limit_bytes / 2)
        config->request_memory_bytes = config->memory_limit_bytes / 2;
    fill_share(config, MOON_CONFIG_KEY_body_memory_bytes,
               &config->body_memory_bytes);
    fill_share(config, MOON_CONFIG_KEY_output_memory_bytes,
               &config->output_memory_bytes);
    if (config->max_connections == 0) {
        struct rlimit files = {.rlim_cur = 1024};
        (void)getrlimit(RLIMIT_NOFILE, &files);
        rlim_t most = files.rlim_cur / 5 * 4;
        config->max_connections = most > 1000000 ? 1000000
                                  : most < 16    ? 16
                                                 : (uint32_t)most;
    }
}

/* ---- directories ---- */

static void find_run_dir(char *to, size_t size)
{
    struct moon_str rest;
    struct moon_str first =
        moon_str_cut(moon_strz(env("RUNTIME_DIRECTORY")), ':', &rest);
    if (first.len > 0)
        (void)snprintf(to, size, "%.*s", MOON_STR_ARG(first));
    else if (env("XDG_RUNTIME_DIR")[0] == '/')
        (void)snprintf(to, size, "%s/moonshine", env("XDG_RUNTIME_DIR"));
    else if (geteuid() == 0)
        (void)snprintf(to, size, "/run/moonshine");
    else
        (void)snprintf(to, size, "/tmp/moonshine-%u", (unsigned)geteuid());
}

static void find_state_dir(const char *run_dirz, char *to, size_t size)
{
    struct moon_str rest;
    struct moon_str first =
        moon_str_cut(moon_strz(env("STATE_DIRECTORY")), ':', &rest);
    if (first.len > 0)
        (void)snprintf(to, size, "%.*s", MOON_STR_ARG(first));
    else if (env("XDG_STATE_HOME")[0] == '/')
        (void)snprintf(to, size, "%s/moonshine", env("XDG_STATE_HOME"));
    else if (geteuid() == 0)
        (void)snprintf(to, size, "/var/lib/moonshine");
    else if (env("HOME")[0] == '/')
        (void)snprintf(to, size, "%s/.local/state/moonshine", env("HOME"));
    else
        (void)snprintf(to, size, "%s/state", run_dirz);
}

static enum moon_err fill_dirs(struct moon_config *config)
{
    char pathz[4096];
    find_run_dir(pathz, sizeof(pathz));
    enum moon_err err = fill(&config->run_dirz, pathz);
    if (err == MOON_OK) {
        find_state_dir(config->run_dirz, pathz, sizeof(pathz));
        err = fill(&config->state_dirz, pathz);
    }
    if (err == MOON_OK)
        err = fill(&config->temp_dirz,
                   env("TMPDIR")[0] == '/' ? env("TMPDIR") : "/tmp");
    if (err == MOON_OK)
        err = fill(&config->upload_dirz, config->temp_dirz);
    return err;
}

static enum moon_err make_absolute(char **pathz, const char *basez)
{
    struct moon_buf out = {0};
    if ((*pathz)[0] == '\0' || (*pathz)[0] == '/')
        return MOON_OK;
    moon_buf_printf(&out, "%s/%s", basez, *pathz);
    moon_buf_add_char(&out, '\0');
    if (out.failed)
        return MOON_ENOMEM;
    free(*pathz);
    *pathz = out.ptr;
    return MOON_OK;
}

enum moon_err moon_config_resolve_paths(struct moon_config *config,
                                        const char *app_dirz)
{
    static const uint32_t keys[] = {
        MOON_CONFIG_KEY_run_dirz,  MOON_CONFIG_KEY_state_dirz,
        MOON_CONFIG_KEY_temp_dirz, MOON_CONFIG_KEY_upload_dirz,
        MOON_CONFIG_KEY_log_filez,
    };
    char herez[4096];
    if (getcwd(herez, sizeof(herez)) == NULL)
        return MOON_ESYS;
    for (size_t i = 0; i < MOON_COUNT(keys); i++) {
        char **pathz = moon_config_field(config, &moon_config_infos[keys[i]]);
        if (keys[i] == MOON_CONFIG_KEY_log_filez &&
            strcmp(*pathz, "stderr") == 0)
            continue;
        bool from_file = config->levels[keys[i]] == MOON_CONFIG_FILE;
        enum moon_err err = make_absolute(pathz, from_file ? app_dirz : herez);
        if (err != MOON_OK)
            return err;
    }
    return MOON_OK;
}

/* ---- names and URLs ---- */

static enum moon_err fill_urls(struct moon_config *config)
{
    const char *redisz = config->redis_urlz;
    enum moon_err err =
        fill(&config->session_urlz, redisz[0] != '\0' ? redisz : "lmdb:");
    if (err == MOON_OK)
        err = fill(&config->limits_urlz, redisz);
    if (err == MOON_OK)
        err = fill(&config->cluster_urlz, config->limits_urlz);
    return err;
}

enum moon_err moon_config_set_port(struct moon_config *config, uint16_t port)
{
    char namez[32];
    (void)snprintf(namez, sizeof(namez), "node-%u", port);
    return fill(&config->namez, namez);
}

/* "unix:/run/shop.sock" -> "node-shop". */
static enum moon_err name_after_socket(struct moon_config *config,
                                       const char *addressz)
{
    char namez[48];
    const char *lastz = strrchr(addressz, '/');
    size_t at = (size_t)snprintf(namez, sizeof(namez), "node-");
    for (lastz = lastz == NULL ? "" : lastz + 1;
         *lastz != '\0' && *lastz != '.' && at + 1 < sizeof(namez); lastz++) {
        bool word = (*lastz >= 'a' && *lastz <= 'z') ||
                    (*lastz >= 'A' && *lastz <= 'Z') ||
                    (*lastz >= '0' && *lastz <= '9');
        namez[at++] = word ? *lastz : '_';
    }
    namez[at] = '\0';
    return fill(&config->namez, namez);
}

static enum moon_err fill_name(struct moon_config *config)
{
    uint64_t port;
    const char *firstz = config->listen.items[0];
    const char *colonz = strrchr(firstz, ':');
    if (strncmp(firstz, "unix:", 5) == 0)
        return name_after_socket(config, firstz);
    if (!moon_str_to_u64(moon_strz(colonz == NULL ? firstz : colonz + 1),
                         &port) ||
        port == 0 || port > 65535)
        return MOON_OK; /* known after bind; or wrong, which bind will say */
    return moon_config_set_port(config, (uint16_t)port);
}

/* ---- rules between keys ---- */

/* ":8080" and "0.0.0.0:8080" are the same. */
static bool is_same_address(const char *onez, const char *otherz)
{
    struct moon_address one, other;
    char unused[1];
    return moon_address_parse(moon_strz(onez), &one, unused, sizeof(unused)) ==
               MOON_OK &&
           moon_address_parse(moon_strz(otherz), &other, unused,
                              sizeof(unused)) == MOON_OK &&
           strcmp(one.textz, other.textz) == 0;
}

static bool is_listened_on(const struct moon_config_list *listen,
                           const char *wantedz)
{
    for (uint32_t i = 0; i < listen->count; i++) {
        if (is_same_address(listen->items[i], wantedz))
            return true;
    }
    return false;
}

/* "on" is all of them. */
static bool are_listened_on(const struct moon_config_list *some,
                            const struct moon_config_list *listen)
{
    for (uint32_t i = 0; i < some->count; i++) {
        if (strcmp(some->items[i], "on") != 0 &&
            !is_listened_on(listen, some->items[i]))
            return false;
    }
    return true;
}

bool moon_config_is_proxied(const struct moon_config *config, uint32_t index)
{
    const struct moon_config_list *some = &config->proxy_protocol;
    for (uint32_t i = 0; i < some->count; i++) {
        if (strcmp(some->items[i], "on") == 0 ||
            is_same_address(some->items[i], config->listen.items[index]))
            return true;
    }
    return false;
}

/* What is wrong, and the key at fault. */
static const char *broken_rule(const struct moon_config *config,
                               uint32_t *index)
{
    const struct moon_config_list *listen = &config->listen;
    *index = MOON_CONFIG_KEY_listen;
    if (listen->count == 0)
        return "listen is empty: give at least one address";
    for (uint32_t i = 0; i < listen->count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(listen->items[i], listen->items[j]) == 0)
                return "listen names the same address twice";
        }
    }
    *index = MOON_CONFIG_KEY_proxy_protocol;
    if (config->proxy_protocol.count > 0 &&
        moon_nets_empty(&config->trusted_proxies))
        return "proxy_protocol needs trusted_proxies: who may speak it (an "
               "address, a CIDR block, \"unix\")";
    if (!are_listened_on(&config->proxy_protocol, listen))
        return "proxy_protocol names an address that is not one of listen";
    *index = MOON_CONFIG_KEY_adminz;
    if (config->adminz[0] != '\0' && config->admin_tokenz[0] == '\0' &&
        strncmp(config->adminz, "unix:", 5) != 0)
        return "admin over TCP needs admin_token (MOONSHINE_ADMIN_TOKEN or "
               "MOONSHINE_ADMIN_TOKEN_FILE)";
    *index = MOON_CONFIG_KEY_secrets_oldz;
    if (config->secrets_oldz[0] != '\0' && config->secrets_newz[0] == '\0')
        return "secrets.old needs secrets.new beside it";
    *index = MOON_CONFIG_KEY_request_memory_bytes;
    if (config->request_memory_bytes != MOON_CONFIG_NONE &&
        config->request_memory_bytes > config->memory_limit_bytes)
        return "request_memory is larger than memory_limit";
    return NULL;
}

enum moon_err moon_config_finish(struct moon_config *config, char *error,
                                 size_t error_size)
{
    fill_numbers(config);
    uint32_t index;
    const char *brokenz = broken_rule(config, &index);
    if (brokenz != NULL) {
        const char *originz = config->origins[index];
        (void)snprintf(error, error_size, "%s%s%s",
                       originz == NULL ? "" : originz,
                       originz == NULL ? "" : ": ", brokenz);
        return MOON_EINVAL;
    }
    if (fill_dirs(config) != MOON_OK || fill_urls(config) != MOON_OK ||
        fill_name(config) != MOON_OK)
        return no_memory(error, error_size);
    return MOON_OK;
}
