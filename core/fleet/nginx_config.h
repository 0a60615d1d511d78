/* nginx in front of a set of nodes: its configuration, for the nginx 1.22 of
 * Debian 12 and later.
 *
 * Pure: text in, text out; `moonshine nginx` prints it, and whoever starts
 * nginx writes it to a file. Everything that reaches the text is checked here,
 * so it holds no more directives than it should. Texts given are borrowed. */
#ifndef MOON_FLEET_NGINX_CONFIG_H
#define MOON_FLEET_NGINX_CONFIG_H

#include "base/buf.h"
#include "base/config.h"
#include "base/errcode.h"

enum {
    MOON_NGINX_SERVERS = 256,
    MOON_NGINX_LISTEN = 8,
    MOON_NGINX_TEXT = 160,
};

struct moon_nginx_server {
    char addressz[MOON_NGINX_TEXT]; /* as nginx writes it */
    uint32_t weight;
};

struct moon_nginx {
    struct moon_nginx_server *servers; /* owned */
    uint32_t server_count;
    char balancez[MOON_NGINX_TEXT]; /* the directive; "": round robin */
    bool is_hash;                   /* balanced by a key, consistently */
    char listen[MOON_NGINX_LISTEN][MOON_NGINX_TEXT];
    uint32_t listen_count;
    const char *namez;        /* of the upstream, the logs, the variables */
    const char *server_namez; /* NULL: any host */
    char certz[MOON_NGINX_TEXT], keyz[MOON_NGINX_TEXT]; /* "": no TLS */
    /* A whole file, which needs no root: everything nginx writes is under its
     * prefix (nginx -p). Else what belongs into http {}, as in conf.d. */
    bool full;
};

void moon_nginx_init(struct moon_nginx *nginx);
void moon_nginx_deinit(struct moon_nginx *nginx);

/* Each of these returns MOON_EINVAL, and `why` says what is wrong with the
 * text and what would be right. */

/* A node: ADDR[*WEIGHT]; a port alone is on this machine. */
MOON_MUST_CHECK enum moon_err moon_nginx_add_server(struct moon_nginx *nginx,
                                                    struct moon_str text,
                                                    struct moon_buf *why);
/* round_robin, least_conn, random, ip_hash, hash:KEY with one of the keys uri,
 * path, ip, host, header:NAME, cookie:NAME, query:NAME. */
MOON_MUST_CHECK enum moon_err moon_nginx_set_balance(struct moon_nginx *nginx,
                                                     struct moon_str text,
                                                     struct moon_buf *why);
MOON_MUST_CHECK enum moon_err moon_nginx_add_listen(struct moon_nginx *nginx,
                                                    struct moon_str text,
                                                    struct moon_buf *why);
MOON_MUST_CHECK enum moon_err moon_nginx_set_name(struct moon_nginx *nginx,
                                                  const char *namez,
                                                  struct moon_buf *why);
/* Host names by comma or space. */
MOON_MUST_CHECK enum moon_err moon_nginx_set_server_name(
    struct moon_nginx *nginx, const char *namesz, struct moon_buf *why);
/* CERT,KEY: two files. */
MOON_MUST_CHECK enum moon_err moon_nginx_set_tls(struct moon_nginx *nginx,
                                                 struct moon_str text,
                                                 struct moon_buf *why);

/* There must be a server. Limits, timeouts and the family of forwarded headers
 * are those of the nodes. */
void moon_nginx_print(const struct moon_nginx *nginx,
                      const struct moon_config *nodes, struct moon_buf *out);

#endif
