#include "state/redis_url.h"

#include "base/config.h"
#include "base/host_port.h"

#include <stdio.h>
#include <stdlib.h>

/* What is read, and where the decoded pieces go. */
struct parse {
    struct moon_redis_url *url;
    char *to; /* in url->text */
    char *error;
    size_t error_size;
};

static const struct form {
    struct moon_str scheme;
    enum moon_redis_kind kind;
    bool is_unix;
    uint16_t port;
    const char *examplez;
} forms[] = {
    {MOON_STR("redis://"), MOON_REDIS_SINGLE, false, 6379,
     "redis://[user:pass@]host:6379/0"},
    {MOON_STR("redis+unix://"), MOON_REDIS_SINGLE, true, 0,
     "redis+unix:///path?db=0"},
    {MOON_STR("redis+sentinel://"), MOON_REDIS_SENTINEL, false, 26379,
     "redis+sentinel://[user:pass@]h1:26379,h2,h3/mymaster/0"},
    {MOON_STR("redis+cluster://"), MOON_REDIS_CLUSTER, false, 6379,
     "redis+cluster://[user:pass@]h1:6379,h2"},
};

static enum moon_err wrong(struct parse *p, const char *whyz)
{
    (void)snprintf(p->error, p->error_size, "%s", whyz);
    return MOON_EINVAL;
}

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    if (ch >= 'A' && ch <= 'F')
        return ch - 'A' + 10;
    return -1;
}

/* A decoded copy, NUL-terminated; false: a bad escape, or a control
 * character. */
static bool decode(struct parse *p, struct moon_str from, const char **out)
{
    *out = p->to;
    for (size_t i = 0; i < from.len; i++) {
        char ch = from.ptr[i];
        if (ch == '%') {
            int high = i + 2 < from.len ? hex_digit(from.ptr[i + 1]) : -1;
            int low = i + 2 < from.len ? hex_digit(from.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            ch = (char)(high * 16 + low);
            i += 2;
        }
        if ((unsigned char)ch < ' ' || ch == 0x7f)
            return false;
        *p->to++ = ch;
    }
    *p->to++ = '\0';
    return true;
}

static const char escapes[] =
    "a bad %-escape: each is % and two hexadecimal digits, and control "
    "characters are not allowed";

/* ---- the parts ---- */

static enum moon_err parse_user(struct parse *p, struct moon_str text)
{
    struct moon_str password;
    struct moon_str user = moon_str_cut(text, ':', &password);
    if (memchr(text.ptr, ':', text.len) == NULL)
        return wrong(p, "what stands before the \"@\" must be user:password, "
                        "or :password");
    if (!decode(p, user, &p->url->userz) ||
        !decode(p, password, &p->url->passwordz))
        return wrong(p, escapes);
    if (p->url->passwordz[0] == '\0')
        return wrong(p, "the password is empty");
    return MOON_OK;
}

static bool parse_number(struct moon_str text, uint64_t max, uint64_t *out)
{
    return text.len <= 9 && moon_str_to_u64(text, out) && *out <= max;
}

static enum moon_err parse_host(struct parse *p, struct moon_str text,
                                uint16_t port)
{
    struct moon_str host;
    const char *whyz;
    struct moon_redis_host *to = &p->url->hosts[p->url->host_count];
    if (p->url->host_count == MOON_REDIS_HOSTS_MAX)
        return wrong(p, "too many hosts: 32 are enough to find the others");
    if (moon_host_port_parse(text, port, &host, &to->port, &whyz) != MOON_OK)
        return wrong(p, whyz);
    p->url->host_count++;
    return decode(p, host, &to->hostz) ? MOON_OK : wrong(p, escapes);
}

static enum moon_err parse_hosts(struct parse *p, const struct form *form,
                                 struct moon_str text)
{
    bool many = form->kind != MOON_REDIS_SINGLE;
    if (!many && memchr(text.ptr, ',', text.len) != NULL)
        return wrong(p, "several hosts need redis+sentinel:// or "
                        "redis+cluster://");
    enum moon_err err = MOON_OK;
    bool more = true;
    while (more && err == MOON_OK) {
        more = memchr(text.ptr, ',', text.len) != NULL;
        err = parse_host(p, moon_str_cut(text, ',', &text), form->port);
    }
    return err;
}

static enum moon_err parse_db(struct parse *p, struct moon_str text)
{
    uint64_t db = 0;
    if (!parse_number(text, MOON_REDIS_DB_MAX, &db))
        return wrong(p, "a database is a number, such as 0");
    if (db != 0 && p->url->kind == MOON_REDIS_CLUSTER)
        return wrong(p, "a cluster has only database 0");
    p->url->db = (uint32_t)db;
    return MOON_OK;
}

/* What is behind the hosts, from its slash on: /db, or /master/db. */
static enum moon_err parse_path(struct parse *p, struct moon_str path)
{
    struct moon_str db = moon_str(path.ptr + 1, path.len - 1);
    if (p->url->kind == MOON_REDIS_SENTINEL) {
        struct moon_str name = moon_str_cut(db, '/', &db);
        if (!decode(p, name, &p->url->masterz))
            return wrong(p, escapes);
    }
    return db.len > 0 ? parse_db(p, db) : MOON_OK;
}

static enum moon_err parse_query(struct parse *p, struct moon_str query,
                                 bool is_unix)
{
    struct moon_str value;
    struct moon_str name = moon_str_cut(query, '=', &value);
    if (!is_unix)
        return wrong(p, "no \"?\" here; what follows the host is /database");
    if (!moon_str_eq(name, MOON_STR("db")))
        return wrong(p, "the only option behind \"?\" is db, as in ?db=0");
    return parse_db(p, value);
}

/* ---- all of it ---- */

static enum moon_err parse_rest(struct parse *p, const struct form *form,
                                struct moon_str rest)
{
    struct moon_str query = MOON_STR_NONE;
    enum moon_err err = MOON_OK;
    const char *at = memchr(rest.ptr, '@', rest.len);
    if (at != NULL) {
        struct moon_str user = moon_str(rest.ptr, (size_t)(at - rest.ptr));
        rest = moon_str(at + 1, rest.len - user.len - 1);
        if (memchr(rest.ptr, '@', rest.len) != NULL)
            return wrong(p, "an \"@\" in a name or password must be written "
                            "%40");
        /* A password with a slash would else look like a host. */
        if (memchr(user.ptr, '/', user.len) != NULL)
            return wrong(p, "a \"/\" before the \"@\" must be written %2F");
        err = parse_user(p, user);
    }
    bool has_query = memchr(rest.ptr, '?', rest.len) != NULL;
    rest = moon_str_cut(rest, '?', &query);
    const char *slash = memchr(rest.ptr, '/', rest.len);
    size_t head = slash != NULL ? (size_t)(slash - rest.ptr) : rest.len;
    struct moon_str path = moon_str(rest.ptr + head, rest.len - head);
    if (err == MOON_OK && form->is_unix) {
        if (head != 0 || path.len < 2)
            return wrong(p, "a unix socket is an absolute path, as in "
                            "redis+unix:///run/redis.sock");
        p->url->host_count = 1;
        if (!decode(p, path, &p->url->hosts[0].hostz))
            return wrong(p, escapes);
    } else if (err == MOON_OK) {
        err = parse_hosts(p, form, moon_str(rest.ptr, head));
        if (err == MOON_OK && path.len > 0)
            err = parse_path(p, path);
    }
    if (err == MOON_OK && has_query)
        err = parse_query(p, query, form->is_unix);
    if (err == MOON_OK && form->kind == MOON_REDIS_SENTINEL &&
        p->url->masterz[0] == '\0')
        return wrong(p, "the name of the master is missing, as in "
                        "redis+sentinel://h1:26379,h2,h3/mymaster/0");
    return err;
}

static const struct form *find_form(struct moon_str text)
{
    for (size_t i = 0; i < MOON_COUNT(forms); i++) {
        if (moon_str_starts(text, forms[i].scheme))
            return &forms[i];
    }
    return NULL;
}

static enum moon_err no_form(struct parse *p, struct moon_str text)
{
    if (moon_str_starts(text, MOON_STR("rediss://")))
        return wrong(p, "TLS to Redis is not built in; run a TLS tunnel "
                        "(stunnel, ghostunnel) beside the node and give "
                        "redis:// with its local address");
    struct moon_buf list = {0};
    for (size_t i = 0; i < MOON_COUNT(forms); i++)
        moon_buf_printf(&list, "%s%s", i > 0 ? ", " : "", forms[i].examplez);
    moon_buf_add_char(&list, '\0');
    (void)snprintf(p->error, p->error_size, "a Redis URL is one of: %s",
                   list.failed ? "redis://host" : list.ptr);
    moon_buf_deinit(&list);
    return MOON_EINVAL;
}

enum moon_err moon_redis_url_parse(struct moon_str text,
                                   struct moon_redis_url **out, char *error,
                                   size_t error_size)
{
    struct parse p = {.error = error, .error_size = error_size};
    const struct form *form = find_form(text);
    if (form == NULL)
        return no_form(&p, text);
    struct moon_buf shown = {0};
    moon_config_mask_url(text, &shown);
    moon_buf_add_char(&shown, '\0');
    /* Decoding makes nothing longer, but each piece ends in a NUL. */
    size_t room = text.len + MOON_REDIS_HOSTS_MAX + 8 + shown.len;
    p.url = shown.failed ? NULL : calloc(1, sizeof(*p.url) + room);
    if (p.url == NULL) {
        moon_buf_deinit(&shown);
        (void)wrong(&p, moon_err_text(MOON_ENOMEM));
        return MOON_ENOMEM;
    }
    memcpy(p.url->text, shown.ptr, shown.len);
    p.to = p.url->text + shown.len;
    moon_buf_deinit(&shown);
    p.url->kind = form->kind;
    p.url->shownz = p.url->text;
    p.url->userz = p.url->passwordz = p.url->masterz = "";
    enum moon_err err = parse_rest(
        &p, form,
        moon_str(text.ptr + form->scheme.len, text.len - form->scheme.len));
    if (err != MOON_OK) {
        free(p.url);
        return err;
    }
    *out = p.url;
    return MOON_OK;
}
