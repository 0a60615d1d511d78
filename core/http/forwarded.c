#include "http/forwarded.h"

#include "http/token.h"

/* ---- addresses ---- */

static bool is_digits(struct moon_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    }
    return s.len > 0;
}

/* obfport or obfnode, RFC 7239 section 6.3. */
static bool is_obfuscated(struct moon_str text)
{
    if (text.len < 2 || text.ptr[0] != '_')
        return false;
    for (size_t i = 1; i < text.len; i++) {
        /* ALPHA, DIGIT, ".", "_" and "-": unreserved but for "~". */
        if (!moon_char_is(text.ptr[i], MOON_CHAR_UNRESERVED) ||
            text.ptr[i] == '~')
            return false;
    }
    return true;
}

/* "192.0.2.1", "192.0.2.1:4711", "[2001:db8::1]", "[2001:db8::1]:4711". */
static bool parse_node(struct moon_str text, struct moon_peer *out)
{
    struct moon_str port = MOON_STR_NONE;
    int family = AF_INET;
    *out = (struct moon_peer){0};
    if (text.len > 0 && text.ptr[0] == '[') {
        family = AF_INET6;
        struct moon_str rest;
        text = moon_str_cut(moon_str(text.ptr + 1, text.len - 1), ']', &rest);
        if (rest.ptr != text.ptr + text.len + 1)
            return false; /* no "]" */
        if (rest.len > 0 && rest.ptr[0] != ':')
            return false;
        if (rest.len > 0)
            port = moon_str(rest.ptr + 1, rest.len - 1);
    } else {
        struct moon_str host = moon_str_cut(text, ':', &port);
        if (host.len == text.len)
            port = MOON_STR_NONE;
        text = host;
    }
    if (port.ptr != NULL && !moon_peer_parse_port(port, &out->port) &&
        !is_obfuscated(port))
        return false;
    return moon_peer_parse_ip(family, text, out);
}

/* Also "2001:db8::1", and what nginx calls a client on a unix socket. */
static bool parse_x_node(struct moon_str text, struct moon_peer *out)
{
    if (moon_str_eq(text, MOON_STR("unix:"))) {
        *out = (struct moon_peer){.family = AF_UNIX};
        return true;
    }
    if (parse_node(text, out))
        return true;
    *out = (struct moon_peer){0};
    return moon_peer_parse_ip(AF_INET6, text, out);
}

/* One more address to the left. False: it is the last to be believed, or not
 * even that. */
static bool step(struct moon_forwarded *out, const struct moon_nets *trusted,
                 const struct moon_peer *node)
{
    bool goes_on = moon_nets_contain(trusted, node->family, node->addr);
    if (node->family != AF_UNIX || goes_on)
        out->from = *node;
    return goes_on;
}

/* ---- scheme and host ---- */

static struct moon_str parse_scheme(struct moon_str text)
{
    if (moon_str_eq_nocase(text, MOON_STR("https")))
        return MOON_STR("https");
    if (moon_str_eq_nocase(text, MOON_STR("http")))
        return MOON_STR("http");
    return MOON_STR_NONE;
}

/* uri-host [":" port], not empty; a list's comma is no part of it. */
static struct moon_str parse_host(struct moon_str text)
{
    struct moon_str host = text, port = MOON_STR_NONE;
    enum moon_char_class class = MOON_CHAR_HOST;
    if (text.len > 0 && text.ptr[0] == '[') {
        host = moon_str_cut(moon_str(text.ptr + 1, text.len - 1), ']', &port);
        if (port.ptr != host.ptr + host.len + 1)
            return MOON_STR_NONE;
        class = MOON_CHAR_LITERAL;
    } else {
        for (size_t i = 0; i < text.len; i++) {
            if (text.ptr[i] == ':') {
                host = moon_str(text.ptr, i);
                port = moon_str(text.ptr + i, text.len - i);
                break;
            }
        }
    }
    bool good_port =
        port.len == 0 ||
        (port.ptr[0] == ':' &&
         (port.len == 1 || is_digits(moon_str(port.ptr + 1, port.len - 1))));
    bool good = good_port && host.len > 0 && moon_str_is(host, class) &&
                memchr(host.ptr, ',', host.len) == NULL;
    return good ? text : MOON_STR_NONE;
}

/* ---- X-Forwarded-* ---- */

/* The last field of that name before field number *index, which becomes its
 * number; false if there is none. */
static bool previous_field(const struct moon_request *req, struct moon_str name,
                           uint32_t *index, struct moon_str *value)
{
    while (*index > 0) {
        const struct moon_field *field = &req->fields[--*index];
        if (field->name.len == name.len &&
            moon_str_eq_nocase(moon_request_str(req, field->name), name)) {
            *value = moon_request_str(req, field->value);
            return true;
        }
    }
    return false;
}

/* Takes the last element off a list without quoted strings. False when there
 * is none left. */
static bool take_last(struct moon_str *list, struct moon_str *element)
{
    while (list->len > 0) {
        size_t from = list->len;
        while (from > 0 && list->ptr[from - 1] != ',')
            from--;
        *element = moon_str_trim(moon_str(list->ptr + from, list->len - from));
        list->len = from > 0 ? from - 1 : 0;
        if (element->len > 0)
            return true;
    }
    return false;
}

static struct moon_str last_element(const struct moon_request *req,
                                    struct moon_str name)
{
    uint32_t index = req->field_count;
    struct moon_str list, element;
    while (previous_field(req, name, &index, &list)) {
        if (take_last(&list, &element))
            return element;
    }
    return MOON_STR_NONE;
}

static void walk_x(const struct moon_request *req,
                   const struct moon_nets *trusted, struct moon_forwarded *out)
{
    uint32_t index = req->field_count, hops = 0;
    struct moon_str list, element;
    struct moon_peer node;
    while (previous_field(req, MOON_STR("x-forwarded-for"), &index, &list)) {
        while (take_last(&list, &element)) {
            if (hops++ == MOON_FORWARDED_HOPS ||
                !parse_x_node(element, &node) || !step(out, trusted, &node))
                return;
        }
    }
}

void moon_forwarded_x(const struct moon_request *req,
                      const struct moon_nets *trusted,
                      const struct moon_peer *peer, struct moon_forwarded *out)
{
    *out = (struct moon_forwarded){.from = *peer};
    walk_x(req, trusted, out);
    out->scheme =
        parse_scheme(last_element(req, MOON_STR("x-forwarded-proto")));
    out->host = parse_host(last_element(req, MOON_STR("x-forwarded-host")));
}

/* ---- Forwarded, RFC 7239 section 4 ---- */

struct reader {
    const char *at, *end;
    struct moon_arena *arena;
};

/* What one proxy says; ptr NULL: nothing. */
struct element {
    struct moon_str node, proto, host;
    bool empty;
};

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t'))
        r->at++;
}

static struct moon_str read_token(struct reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && moon_char_is(*r->at, MOON_CHAR_TOKEN))
        r->at++;
    return moon_str(from, (size_t)(r->at - from));
}

/* Of a quoted string with escapes: what they stand for. */
static bool unescape(struct reader *r, struct moon_str *text)
{
    char *to = moon_arena_alloc(r->arena, text->len);
    size_t len = 0;
    if (to == NULL)
        return false;
    for (size_t i = 0; i < text->len; i++) {
        if (text->ptr[i] == '\\')
            i++;
        to[len++] = text->ptr[i];
    }
    *text = moon_str(to, len);
    return true;
}

/* quoted-string, RFC 9110 section 5.6.4. */
static bool read_quoted(struct reader *r, struct moon_str *out)
{
    const char *from = ++r->at;
    bool escapes = false;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at == '\\') {
            escapes = true;
            r->at++;
        }
        if (r->at == r->end || !moon_char_is(*r->at, MOON_CHAR_VALUE))
            return false;
        r->at++;
    }
    if (r->at == r->end)
        return false;
    *out = moon_str(from, (size_t)(r->at++ - from));
    return !escapes || unescape(r, out);
}

/* forwarded-pair = token "=" value. False: malformed, or said twice. */
static bool read_pair(struct reader *r, struct element *element)
{
    struct moon_str name = read_token(r), value;
    if (name.len == 0 || r->at == r->end || *r->at++ != '=')
        return false;
    if (r->at < r->end && *r->at == '"') {
        if (!read_quoted(r, &value))
            return false;
    } else {
        value = read_token(r);
        if (value.len == 0)
            return false;
    }
    struct moon_str *to = NULL;
    if (moon_str_eq_nocase(name, MOON_STR("for")))
        to = &element->node;
    else if (moon_str_eq_nocase(name, MOON_STR("proto")))
        to = &element->proto;
    else if (moon_str_eq_nocase(name, MOON_STR("host")))
        to = &element->host;
    else
        return true; /* "by" and extensions say nothing to us */
    if (to->ptr != NULL)
        return false;
    *to = value;
    return true;
}

/* Up to the comma or the end, with some more white space than the grammar
 * allows. */
static bool read_element(struct reader *r, struct element *element)
{
    *element = (struct element){.empty = true};
    for (;;) {
        skip_space(r);
        if (r->at < r->end && *r->at != ';' && *r->at != ',') {
            element->empty = false;
            if (!read_pair(r, element))
                return false;
            skip_space(r);
        }
        if (r->at == r->end || *r->at == ',')
            return true;
        if (*r->at++ != ';')
            return false;
    }
}

/* The last elements of a field, in a ring that begins anywhere: element i is
 * ring[i % HOPS]. Quoted strings can only be read from the left, so a field
 * that is malformed anywhere says nothing. */
static bool read_elements(struct reader *r,
                          struct element ring[MOON_FORWARDED_HOPS],
                          uint32_t *count)
{
    *count = 0;
    for (;;) {
        struct element *element = &ring[*count % MOON_FORWARDED_HOPS];
        if (!read_element(r, element))
            return false;
        if (!element->empty)
            ++*count;
        if (r->at == r->end)
            return true;
        r->at++; /* the comma */
    }
}

/* False: what is further left is not believed. */
static bool believe(const struct element *element,
                    const struct moon_nets *trusted, struct moon_forwarded *out)
{
    struct moon_str scheme = parse_scheme(element->proto);
    struct moon_str host = parse_host(element->host);
    struct moon_peer node;
    if (scheme.ptr != NULL)
        out->scheme = scheme;
    if (host.ptr != NULL)
        out->host = host;
    return parse_node(element->node, &node) && step(out, trusted, &node);
}

void moon_forwarded_rfc7239(const struct moon_request *req,
                            const struct moon_nets *trusted,
                            const struct moon_peer *peer,
                            struct moon_arena *arena,
                            struct moon_forwarded *out)
{
    struct element ring[MOON_FORWARDED_HOPS];
    uint32_t index = req->field_count, hops = 0, count;
    struct moon_str value;
    *out = (struct moon_forwarded){.from = *peer};
    while (previous_field(req, MOON_STR("forwarded"), &index, &value)) {
        struct reader r = {value.ptr, value.ptr + value.len, arena};
        if (!read_elements(&r, ring, &count))
            return;
        while (count > 0) {
            if (hops++ == MOON_FORWARDED_HOPS ||
                !believe(&ring[--count % MOON_FORWARDED_HOPS], trusted, out))
                return;
        }
    }
}
