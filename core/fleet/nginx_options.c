/* What is asked of nginx, from text. */
#include "fleet/nginx_config.h"

#include "base/address.h"
#include "base/nearest.h"

#include <stdio.h>
#include <stdlib.h>

void moon_nginx_init(struct moon_nginx *nginx)
{
    *nginx = (struct moon_nginx){.namez = "moonshine"};
}

void moon_nginx_deinit(struct moon_nginx *nginx)
{
    free(nginx->servers);
}

/* Letters, digits and these: nothing that nginx would read as more than a part
 * of a word. */
static bool is_plain(struct moon_str text, const char *othersz)
{
    for (size_t i = 0; i < text.len; i++) {
        char ch = text.ptr[i];
        bool alnum = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9');
        if (!alnum && (ch == '\0' || strchr(othersz, ch) == NULL))
            return false;
    }
    return text.len > 0;
}

static enum moon_err copy(char to[MOON_NGINX_TEXT], struct moon_str text,
                          struct moon_buf *why)
{
    if (text.len >= MOON_NGINX_TEXT) {
        moon_buf_printf(why, "\"%.*s\" is too long", MOON_STR_ARG(text));
        return MOON_EINVAL;
    }
    memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
    return MOON_OK;
}

/* ---- addresses ---- */

static bool is_port(struct moon_str text)
{
    uint64_t port;
    return moon_str_to_u64(text, &port) && port > 0 && port <= 65535;
}

/* "node-1.internal:8080": nginx looks the name up when it starts. */
static bool is_named(struct moon_str text)
{
    struct moon_str port;
    struct moon_str host = moon_str_cut(text, ':', &port);
    return is_plain(host, "-._") && is_port(port);
}

static enum moon_err set_address(char to[MOON_NGINX_TEXT], struct moon_str text,
                                 const char *hostz, struct moon_buf *why)
{
    struct moon_address address;
    char error[256];
    if (text.len > 0 && text.ptr[0] == ':')
        text = moon_str(text.ptr + 1, text.len - 1);
    if (is_port(text)) {
        (void)snprintf(to, MOON_NGINX_TEXT, "%s%.*s", hostz,
                       MOON_STR_ARG(text));
        return MOON_OK;
    }
    if (moon_address_parse(text, &address, error, sizeof(error)) != MOON_OK) {
        if (is_named(text))
            return copy(to, text, why);
        moon_buf_addz(why, error);
        return MOON_EINVAL;
    }
    if (address.pathz[0] == '\0') {
        if (address.port == 0) {
            moon_buf_printf(why, "\"%.*s\" has no port", MOON_STR_ARG(text));
            return MOON_EINVAL;
        }
        return copy(to, moon_strz(address.textz), why);
    }
    struct moon_str path = moon_strz(address.pathz);
    if (path.ptr[0] != '/' || !is_plain(path, "/._-+@")) {
        moon_buf_printf(why,
                        "\"%s\" is no path of a socket for nginx: absolute, "
                        "of letters, digits and / . _ - + @",
                        path.ptr);
        return MOON_EINVAL;
    }
    (void)snprintf(to, MOON_NGINX_TEXT, "unix:%s", path.ptr);
    return MOON_OK;
}

enum moon_err moon_nginx_add_server(struct moon_nginx *nginx,
                                    struct moon_str text, struct moon_buf *why)
{
    struct moon_nginx_server server = {.weight = 1};
    struct moon_str weight;
    struct moon_str address = moon_str_cut(text, '*', &weight);
    uint64_t number = 1;
    bool has_weight = address.len < text.len;
    if (has_weight &&
        (!moon_str_to_u64(weight, &number) || number == 0 || number > 1000)) {
        moon_buf_printf(why, "\"%.*s\" has a weight that is not 1 to 1000",
                        MOON_STR_ARG(text));
        return MOON_EINVAL;
    }
    enum moon_err err =
        set_address(server.addressz, address, "127.0.0.1:", why);
    if (err != MOON_OK)
        return err;
    for (uint32_t i = 0; i < nginx->server_count; i++) {
        if (strcmp(nginx->servers[i].addressz, server.addressz) == 0) {
            moon_buf_printf(why,
                            "%s is given twice; for more requests to it, "
                            "write %s*2",
                            server.addressz, server.addressz);
            return MOON_EINVAL;
        }
    }
    if (nginx->server_count == MOON_NGINX_SERVERS) {
        moon_buf_printf(why, "more than %d nodes", MOON_NGINX_SERVERS);
        return MOON_EINVAL;
    }
    struct moon_nginx_server *servers =
        realloc(nginx->servers, (nginx->server_count + 1) * sizeof(*servers));
    if (servers == NULL)
        return MOON_ENOMEM;
    server.weight = (uint32_t)number;
    nginx->servers = servers;
    servers[nginx->server_count++] = server;
    return MOON_OK;
}

enum moon_err moon_nginx_add_listen(struct moon_nginx *nginx,
                                    struct moon_str text, struct moon_buf *why)
{
    if (nginx->listen_count == MOON_NGINX_LISTEN) {
        moon_buf_printf(why, "more than %d addresses to listen on",
                        MOON_NGINX_LISTEN);
        return MOON_EINVAL;
    }
    enum moon_err err =
        set_address(nginx->listen[nginx->listen_count], text, "", why);
    if (err == MOON_OK)
        nginx->listen_count++;
    return err;
}

/* ---- balancing ---- */

static const char *const methods[][2] = {
    {"round_robin", ""},
    {"least_conn", "least_conn;"},
    {"random", "random two least_conn;"},
    {"ip_hash", "ip_hash;"},
};

static const char *const keys[][2] = {
    {"uri", "$request_uri"},
    {"path", "$uri"},
    {"ip", "$remote_addr"},
    {"host", "$host"},
};

static const char *const named_keys[][2] = {
    {"header", "$http_"},
    {"cookie", "$cookie_"},
    {"query", "$arg_"},
};

/* "header:X-User" is $http_x_user. */
static bool named_key(struct moon_str text, char to[MOON_NGINX_TEXT])
{
    struct moon_str name;
    struct moon_str kind = moon_str_cut(text, ':', &name);
    for (size_t i = 0; i < MOON_COUNT(named_keys); i++) {
        bool header = i == 0;
        if (!moon_str_eq(kind, moon_strz(named_keys[i][0])))
            continue;
        if (!is_plain(name, header ? "-" : "_") || name.len > 100)
            return false;
        int at = snprintf(to, MOON_NGINX_TEXT, "%s", named_keys[i][1]);
        for (size_t j = 0; j < name.len; j++) {
            char ch = name.ptr[j];
            if (header && ch >= 'A' && ch <= 'Z')
                ch = (char)(ch | 32);
            to[(size_t)at + j] = (char)(ch == '-' ? '_' : ch);
        }
        to[(size_t)at + name.len] = '\0';
        return true;
    }
    return false;
}

static enum moon_err set_hash(struct moon_nginx *nginx, struct moon_str key,
                              struct moon_buf *why)
{
    char variable[MOON_NGINX_TEXT] = "";
    for (size_t i = 0; i < MOON_COUNT(keys); i++) {
        if (moon_str_eq(key, moon_strz(keys[i][0])))
            (void)snprintf(variable, sizeof(variable), "%s", keys[i][1]);
    }
    if (variable[0] == '\0' && !named_key(key, variable)) {
        moon_buf_printf(why,
                        "\"%.*s\" is no key to hash: uri, path, ip, host, "
                        "header:NAME, cookie:NAME or query:NAME (letters, "
                        "digits, - in headers, _ in the others)",
                        MOON_STR_ARG(key));
        return MOON_EINVAL;
    }
    char text[MOON_NGINX_TEXT + 32];
    (void)snprintf(text, sizeof(text), "hash %s consistent;", variable);
    nginx->is_hash = true;
    return copy(nginx->balancez, moon_strz(text), why);
}

enum moon_err moon_nginx_set_balance(struct moon_nginx *nginx,
                                     struct moon_str text, struct moon_buf *why)
{
    struct moon_nearest nearest;
    nginx->is_hash = false;
    if (moon_str_starts(text, MOON_STR("hash:")))
        return set_hash(nginx, moon_str(text.ptr + 5, text.len - 5), why);
    moon_nearest_init(&nearest, text);
    for (size_t i = 0; i < MOON_COUNT(methods); i++) {
        if (moon_str_eq(text, moon_strz(methods[i][0])))
            return copy(nginx->balancez, moon_strz(methods[i][1]), why);
        moon_nearest_offer(&nearest, moon_strz(methods[i][0]));
    }
    moon_buf_printf(why,
                    "\"%.*s\" is no way to balance: round_robin, least_conn, "
                    "random, ip_hash or hash:KEY",
                    MOON_STR_ARG(text));
    if (moon_nearest_found(&nearest))
        moon_buf_printf(why, "; did you mean %.*s?",
                        MOON_STR_ARG(nearest.best));
    return MOON_EINVAL;
}

/* ---- names and files ---- */

enum moon_err moon_nginx_set_name(struct moon_nginx *nginx, const char *namez,
                                  struct moon_buf *why)
{
    struct moon_str name = moon_strz(namez);
    if (!is_plain(name, "_") || name.len > 40) {
        moon_buf_printf(why,
                        "\"%s\" is no name here: up to 40 letters, digits "
                        "and _",
                        namez);
        return MOON_EINVAL;
    }
    nginx->namez = namez;
    return MOON_OK;
}

enum moon_err moon_nginx_set_server_name(struct moon_nginx *nginx,
                                         const char *namesz,
                                         struct moon_buf *why)
{
    if (!is_plain(moon_strz(namesz), "-._*, ") || strlen(namesz) > 1000) {
        moon_buf_printf(why,
                        "\"%s\" is no list of hosts, as in shop.example,"
                        "*.shop.example",
                        namesz);
        return MOON_EINVAL;
    }
    nginx->server_namez = namesz;
    return MOON_OK;
}

enum moon_err moon_nginx_set_tls(struct moon_nginx *nginx, struct moon_str text,
                                 struct moon_buf *why)
{
    struct moon_str key;
    struct moon_str cert = moon_str_cut(text, ',', &key);
    if (!is_plain(cert, "/._-+@") || !is_plain(key, "/._-+@")) {
        moon_buf_printf(why,
                        "\"%.*s\" is not CERT,KEY: two files, as in "
                        "/etc/ssl/shop.pem,/etc/ssl/shop.key (letters, digits "
                        "and / . _ - + @)",
                        MOON_STR_ARG(text));
        return MOON_EINVAL;
    }
    enum moon_err err = copy(nginx->certz, cert, why);
    return err == MOON_OK ? copy(nginx->keyz, key, why) : err;
}
