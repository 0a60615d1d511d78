#include "fleet/nginx_config.h"

#include "base/units.h"

enum { SECOND = 1000, TEXT = 32 };

struct printer {
    const struct moon_nginx *nginx;
    const struct moon_config *nodes;
    struct moon_buf *out;
};

/* ---- numbers as nginx writes them ---- */

static void add_size(struct moon_buf *out, uint64_t bytes)
{
    uint64_t k = 1024, m = k * k;
    if (bytes % m == 0 && bytes > 0)
        moon_buf_printf(out, "%llum", (unsigned long long)(bytes / m));
    else if (bytes % k == 0 && bytes > 0)
        moon_buf_printf(out, "%lluk", (unsigned long long)(bytes / k));
    else
        moon_buf_add_u64(out, bytes);
}

static void add_time(struct printer *p, const char *indentz,
                     const char *directivez, uint64_t ms)
{
    char text[TEXT];
    moon_duration_format(ms, text, sizeof(text));
    moon_buf_printf(p->out, "%s%s %s;\n", indentz, directivez, text);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Idle connections to nodes: nginx must be the one that closes them. */
static uint64_t idle_ms(const struct moon_config *nodes)
{
    uint64_t ms =
        least(nodes->drain_idle_ms, nodes->keepalive_timeout_ms) * 2 / 3;
    ms = least(ms, 60 * SECOND);
    return ms < SECOND ? SECOND : ms - ms % SECOND;
}

/* Until the first byte of an answer, or between two: the node's own deadline
 * comes first, so that its answer arrives. */
static uint64_t read_ms(const struct moon_config *nodes)
{
    return nodes->timeout_ms == MOON_CONFIG_NONE
               ? 3600 * SECOND
               : least(nodes->timeout_ms, 24 * 3600 * SECOND) + 30 * SECOND;
}

/* ---- http level ---- */

static void print_upstream(struct printer *p)
{
    const struct moon_nginx *nginx = p->nginx;
    uint32_t count = nginx->server_count;
    struct moon_buf *out = p->out;
    moon_buf_printf(out, "upstream %s {\n", nginx->namez);
    moon_buf_printf(out,
                    "    # One state for all nginx workers: who has how many "
                    "requests, who failed.\n"
                    "    zone %s %uk;\n",
                    nginx->namez, 64 + 2 * (count > 16 ? count : 0));
    if (nginx->is_hash)
        moon_buf_addz(out, "    # A node that goes takes only its own keys "
                           "with it.\n");
    if (strcmp(nginx->balancez, "ip_hash;") == 0)
        moon_buf_addz(out, "    # By the first three numbers of an IPv4 "
                           "address, or all of an IPv6 one.\n");
    if (nginx->balancez[0] != '\0')
        moon_buf_printf(out, "    %s\n", nginx->balancez);
    if (count == 1)
        moon_buf_addz(out, "    # The only one: nginx never takes it out, and "
                           "has none to try instead.\n");
    else
        moon_buf_addz(out,
                      "    # Two failures in 2 s (refused, broken off, too "
                      "slow; not a status) take a node\n"
                      "    # out for 2 s: restarts of one node after the other "
                      "need a pause that long, or\n"
                      "    # all are out at once.\n");
    for (uint32_t i = 0; i < count; i++) {
        const struct moon_nginx_server *server = &nginx->servers[i];
        moon_buf_printf(out, "    server %s", server->addressz);
        if (server->weight != 1)
            moon_buf_printf(out, " weight=%u", server->weight);
        moon_buf_addz(out,
                      count > 1 ? " max_fails=2 fail_timeout=2s;\n" : ";\n");
    }
    moon_buf_addz(out, "    keepalive 32;\n"
                       "    # Shorter than the nodes' drain_idle and "
                       "keepalive_timeout: a node never\n"
                       "    # closes a connection that nginx is about to "
                       "use.\n");
    add_time(p, "    ", "keepalive_timeout", idle_ms(p->nodes));
    moon_buf_addz(out, "}\n\n");
}

static void print_maps(struct printer *p)
{
    const char *namez = p->nginx->namez;
    moon_buf_printf(
        p->out,
        "# Only WebSocket is passed on: a node answers any other Upgrade with "
        "501.\n"
        "map $http_upgrade $%s_upgrade {\n"
        "    default \"\";\n"
        "    ~*^websocket$ websocket;\n"
        "}\n"
        "map $%s_upgrade $%s_connection {\n"
        "    default \"\"; # keep the connection to the node\n"
        "    websocket upgrade;\n"
        "}\n"
        "# With the port, which $host lacks; $host where there is no Host.\n"
        "map $http_host $%s_host {\n"
        "    default $host;\n"
        "    ~^[][A-Za-z0-9._:-]+$ $http_host;\n"
        "}\n",
        namez, namez, namez, namez);
    if (p->nodes->forwarded == MOON_FORWARDED_RFC7239)
        moon_buf_printf(p->out,
                        "map $remote_addr $%s_for {\n"
                        "    default $remote_addr;\n"
                        "    unix: unknown;\n"
                        "    ~: '\"[$remote_addr]\"';\n"
                        "}\n"
                        "# Nobody else's quotes inside of ours.\n"
                        "map $%s_host $%s_named {\n"
                        "    default \"\";\n"
                        "    ~^[][A-Za-z0-9._:-]+$ ';host=\"$%s_host\"';\n"
                        "}\n",
                        namez, namez, namez, namez);
    moon_buf_printf(
        p->out,
        "\n# Without the query: tokens stand there.\n"
        "log_format %s '$remote_addr $host \"$request_method $uri\" $status '\n"
        "    '$body_bytes_sent $request_time node=$upstream_addr '\n"
        "    'status=$upstream_status connect=$upstream_connect_time '\n"
        "    'time=$upstream_response_time request=$request_id';\n\n",
        namez);
}

/* ---- server ---- */

static void print_server_name(struct printer *p)
{
    const char *z = p->nginx->server_namez;
    moon_buf_addz(p->out, "    server_name ");
    for (z = z != NULL ? z : "_"; *z != '\0'; z++)
        moon_buf_add_char(p->out, *z == ',' ? ' ' : *z);
    moon_buf_addz(p->out, ";\n");
}

static void print_listen(struct printer *p)
{
    const struct moon_nginx *nginx = p->nginx;
    bool tls = nginx->certz[0] != '\0';
    const char *suffixz = tls ? " ssl http2" : "";
    for (uint32_t i = 0; i < nginx->listen_count; i++)
        moon_buf_printf(p->out, "    listen %s%s;\n", nginx->listen[i],
                        suffixz);
    if (nginx->listen_count == 0)
        moon_buf_printf(p->out, "    listen %s%s;\n",
                        nginx->full ? (tls ? "8443" : "8080")
                                    : (tls ? "443" : "80"),
                        suffixz);
    print_server_name(p);
    if (tls)
        moon_buf_printf(p->out,
                        "    ssl_certificate %s;\n"
                        "    ssl_certificate_key %s;\n"
                        "    ssl_protocols TLSv1.2 TLSv1.3;\n"
                        "    ssl_session_cache shared:%s_tls:2m;\n"
                        "    ssl_session_tickets off;\n",
                        nginx->certz, nginx->keyz, nginx->namez);
}

static void print_limits(struct printer *p)
{
    const struct moon_config *nodes = p->nodes;
    struct moon_buf *out = p->out;
    uint64_t line = nodes->request_line_limit_bytes;
    line = line < 1024 ? 1024 : line;
    uint64_t lines = nodes->header_limit_bytes / line;
    moon_buf_addz(out, "\n    # The nodes' limits: request_line_limit and "
                       "header_limit, body_limit (the\n"
                       "    # largest of any route counts; give it with "
                       "--set body_limit=SIZE).\n"
                       "    large_client_header_buffers ");
    moon_buf_add_u64(out, lines < 1 ? 1 : lines);
    moon_buf_add_char(out, ' ');
    add_size(out, line);
    moon_buf_addz(out, ";\n    client_max_body_size ");
    if (nodes->body_limit_bytes == MOON_CONFIG_NONE)
        moon_buf_add_char(out, '0');
    else
        add_size(out,
                 nodes->body_limit_bytes == 0 ? 1 : nodes->body_limit_bytes);
    moon_buf_addz(out, ";\n    client_body_buffer_size ");
    add_size(out,
             nodes->body_buffer_bytes < 1024 ? 1024 : nodes->body_buffer_bytes);
    moon_buf_addz(out, ";\n");
    add_time(p, "    ", "client_header_timeout", nodes->header_timeout_ms);
    add_time(p, "    ", "client_body_timeout", nodes->body_timeout_ms);
    add_time(p, "    ", "send_timeout", nodes->write_timeout_ms);
}

static void print_forwarded(struct printer *p)
{
    const char *namez = p->nginx->namez;
    moon_buf_printf(p->out,
                    "        proxy_set_header Host $%s_host;\n"
                    "        proxy_set_header Upgrade $%s_upgrade;\n"
                    "        proxy_set_header Connection $%s_connection;\n"
                    "        proxy_set_header X-Request-Id $request_id;\n",
                    namez, namez, namez);
    moon_buf_printf(p->out,
                    "        # Who asks. The nodes believe it with "
                    "trusted_proxies = { \"ADDRESS of nginx\" }%s\n"
                    "        # (\"unix\" for unix sockets).\n",
                    p->nodes->forwarded == MOON_FORWARDED_RFC7239
                        ? ",\n        # forwarded = \"rfc7239\""
                        : "");
    if (p->nodes->forwarded == MOON_FORWARDED_RFC7239)
        moon_buf_printf(p->out,
                        "        proxy_set_header Forwarded "
                        "\"for=$%s_for;proto=$scheme$%s_named\";\n"
                        "        proxy_set_header X-Forwarded-For \"\";\n"
                        "        proxy_set_header X-Forwarded-Proto \"\";\n"
                        "        proxy_set_header X-Forwarded-Host \"\";\n",
                        namez, namez);
    else
        moon_buf_printf(p->out,
                        "        proxy_set_header X-Forwarded-For "
                        "$proxy_add_x_forwarded_for;\n"
                        "        proxy_set_header X-Forwarded-Proto $scheme;\n"
                        "        proxy_set_header X-Forwarded-Host $%s_host;\n"
                        "        proxy_set_header Forwarded \"\";\n",
                        namez);
}

static void print_location(struct printer *p)
{
    uint32_t tries = p->nginx->server_count < 3 ? 2 : 3;
    moon_buf_printf(p->out,
                    "\n    location / {\n"
                    "        proxy_pass http://%s;\n"
                    "        proxy_http_version 1.1;\n",
                    p->nginx->namez);
    print_forwarded(p);
    moon_buf_printf(
        p->out,
        "\n"
        "        # For 10 s, another node is tried if this one cannot be "
        "reached "
        "or is gone; a POST\n"
        "        # that it has got is not sent again. Not http_500 or "
        "http_503: "
        "a handler may\n"
        "        # have run by then. Not non_idempotent: it would run twice.\n"
        "        proxy_next_upstream error timeout;\n"
        "        proxy_next_upstream_tries %u;\n"
        "        proxy_next_upstream_timeout 10s;\n"
        "        proxy_connect_timeout 2s;\n",
        tries);
    add_time(p, "        ", "proxy_send_timeout", p->nodes->body_timeout_ms);
    moon_buf_addz(p->out, "        # Longer than the nodes' timeout, whose "
                          "answer is better. A stream that is\n"
                          "        # silent for longer ends: send something "
                          "now and then.\n");
    add_time(p, "        ", "proxy_read_timeout", read_ms(p->nodes));
    moon_buf_addz(
        p->out,
        "\n"
        "        # A body is read whole before a node is chosen: slow clients "
        "cost no node, and\n"
        "        # a refused connection no request. For routes that read while "
        "it comes\n"
        "        # (body = \"stream\"), say `proxy_request_buffering off;` in "
        "a "
        "location of theirs.\n"
        "        proxy_request_buffering on;\n"
        "        # Answers are buffered too, but for those with "
        "X-Accel-Buffering: no, which\n"
        "        # streams of server-sent events have.\n"
        "        proxy_buffering on;\n"
        "    }\n");
}

static void print_server(struct printer *p)
{
    const struct moon_nginx *nginx = p->nginx;
    moon_buf_addz(p->out, "server {\n");
    print_listen(p);
    moon_buf_printf(p->out,
                    "    server_tokens off;\n    access_log %s%s.log %s;\n",
                    nginx->full ? "" : "/var/log/nginx/",
                    nginx->full ? "access" : nginx->namez, nginx->namez);
    print_limits(p);
    moon_buf_addz(p->out,
                  "\n    # /-/live, /-/ready, /-/metrics: of one node, and for "
                  "whoever runs it. Ask the\n"
                  "    # nodes themselves.\n"
                  "    location ^~ /-/ {\n"
                  "        return 404;\n"
                  "    }\n");
    print_location(p);
    moon_buf_addz(p->out, "}\n");
    if (nginx->certz[0] != '\0' && nginx->listen_count == 0 && !nginx->full) {
        moon_buf_addz(p->out, "\nserver {\n    listen 80;\n");
        print_server_name(p);
        moon_buf_addz(p->out, "    return 308 https://$host$request_uri;\n"
                              "}\n");
    }
}

/* ---- the file ---- */

static void print_full_head(struct printer *p)
{
    static const char *const temps[] = {"client_body", "proxy", "fastcgi",
                                        "uwsgi", "scgi"};
    moon_buf_addz(p->out,
                  "# A whole file; all that nginx writes is in its prefix:\n"
                  "#   nginx -p DIR -e error.log -c nginx.conf\n"
                  "pid nginx.pid;\n"
                  "error_log error.log warn;\n"
                  "worker_processes auto;\n"
                  "worker_rlimit_nofile 8192;\n"
                  "events {\n"
                  "    worker_connections 4096; # two for each request\n"
                  "}\n\n"
                  "http {\n");
    for (size_t i = 0; i < MOON_COUNT(temps); i++)
        moon_buf_printf(p->out, "%s_temp_path temp_%s;\n", temps[i], temps[i]);
    moon_buf_add_char(p->out, '\n');
}

void moon_nginx_print(const struct moon_nginx *nginx,
                      const struct moon_config *nodes, struct moon_buf *out)
{
    struct printer p = {nginx, nodes, out};
    moon_buf_printf(out,
                    "# nginx in front of %u Moonshine node%s, made by "
                    "`moonshine nginx`.\n",
                    nginx->server_count, nginx->server_count == 1 ? "" : "s");
    if (nginx->full)
        print_full_head(&p);
    else
        moon_buf_addz(out, "# For http {}, as in /etc/nginx/conf.d.\n\n");
    print_upstream(&p);
    print_maps(&p);
    print_server(&p);
    if (nginx->full)
        moon_buf_addz(out, "}\n");
}
