#include "http/head_check.h"

#include "http/token.h"

static const struct moon_head_fault none;

static struct moon_head_fault fault(uint16_t status, const char *why)
{
    return (struct moon_head_fault){status, why};
}

static struct moon_head_fault bad(const char *why)
{
    return fault(400, why);
}

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

struct moon_head_fault moon_head_version_fault(const char *at, size_t len)
{
    if (len < 9 || memcmp(at, " HTTP/", 6) != 0 || !is_digit(at[6]) ||
        at[7] != '.' || !is_digit(at[8]))
        return bad("malformed request line");
    if (at[6] == '1' && at[8] <= '1')
        return bad("malformed request line");
    return fault(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
}

/* Exactly METHOD SP target SP HTTP/1.x CRLF, after empty lines at most. */
static struct moon_head_fault check_request_line(struct moon_request *req,
                                                 uint32_t start,
                                                 uint32_t line_end)
{
    const char *base = req->base;
    uint32_t target_end = req->target.off + req->target.len;
    while (base[start] == '\r' && base[start + 1] == '\n')
        start += 2;
    if (req->target.len == 0 || req->target.off < start + 2 ||
        base[req->target.off - 1] != ' ')
        return bad("malformed request line");
    req->method_text = (struct moon_span){start, req->target.off - 1 - start};
    struct moon_str method = moon_request_str(req, req->method_text);
    if (!moon_str_is(method, MOON_CHAR_TOKEN))
        return bad("malformed request line");
    const char *version = base + target_end;
    if (memcmp(version, " HTTP/1.", 8) != 0 || (version[8] & ~1) != '0')
        return moon_head_version_fault(version, line_end - target_end);
    if (line_end - target_end != 11 || memcmp(version + 9, "\r\n", 2) != 0)
        return bad("malformed request line");
    req->minor = (uint8_t)(version[8] - '0');
    req->method = moon_method_parse(method);
    return none;
}

/* uri-host [":" port], as far as bytes go (RFC 9110 section 7.2). */
static bool is_host(struct moon_str host)
{
    if (host.len > 0 && host.ptr[0] == '[') {
        const char *close = memchr(host.ptr, ']', host.len);
        if (close == NULL)
            return false;
        size_t skip = (size_t)(close - host.ptr) + 1;
        for (size_t i = 1; i + 1 < skip; i++) {
            if (!moon_char_is(host.ptr[i], MOON_CHAR_HOST) ||
                host.ptr[i] == '[')
                return false;
        }
        host = moon_str(host.ptr + skip, host.len - skip);
        if (host.len > 0 && host.ptr[0] != ':')
            return false;
    }
    size_t at = 0;
    while (at < host.len && host.ptr[at] != ':') {
        if (!moon_char_is(host.ptr[at], MOON_CHAR_HOST) ||
            host.ptr[at] == '[' || host.ptr[at] == ']')
            return false;
        at++;
    }
    while (++at < host.len) {
        if (!is_digit(host.ptr[at]))
            return false;
    }
    return true;
}

static void split_query(struct moon_request *req, uint32_t off, uint32_t len)
{
    const char *mark = memchr(req->base + off, '?', len);
    uint32_t before = mark == NULL ? len : (uint32_t)(mark - req->base) - off;
    uint32_t query = mark == NULL ? before : before + 1;
    req->path = (struct moon_span){off, before};
    req->query = (struct moon_span){off + query, len - query};
}

/* "http://host:port/path?query" (RFC 9112 section 3.2.2); its authority
 * replaces Host. */
static struct moon_head_fault check_absolute(struct moon_request *req)
{
    struct moon_str target = moon_request_str(req, req->target);
    uint32_t scheme = 0;
    if (target.len > 7 &&
        moon_str_eq_nocase(moon_str(target.ptr, 7), MOON_STR("http://")))
        scheme = 7;
    else if (target.len > 8 &&
             moon_str_eq_nocase(moon_str(target.ptr, 8), MOON_STR("https://")))
        scheme = 8;
    else
        return bad("malformed request target");
    uint32_t end = scheme;
    while (end < target.len && target.ptr[end] != '/' && target.ptr[end] != '?')
        end++;
    struct moon_str authority = moon_str(target.ptr + scheme, end - scheme);
    if (authority.len == 0 || authority.ptr[0] == ':' || !is_host(authority))
        return bad("malformed request target");
    req->host = (struct moon_span){req->target.off + scheme, end - scheme};
    split_query(req, req->target.off + end, (uint32_t)target.len - end);
    /* An absent path is "/": the scheme ends in one. */
    if (req->path.len == 0)
        req->path = (struct moon_span){req->target.off + scheme - 1, 1};
    return none;
}

static struct moon_head_fault check_target(struct moon_request *req)
{
    struct moon_str target = moon_request_str(req, req->target);
    if (memchr(target.ptr, '#', target.len) != NULL)
        return bad("a fragment in the request target");
    if (target.ptr[0] == '/') {
        split_query(req, req->target.off, req->target.len);
        return none;
    }
    if (target.len == 1 && target.ptr[0] == '*') {
        if (req->method != MOON_METHOD_OPTIONS)
            return bad("only OPTIONS may ask for *");
        split_query(req, req->target.off, 1);
        return none;
    }
    return check_absolute(req);
}

/* What the fields said, while they are walked. */
struct notes {
    bool host, length, coding, upgrade;
    bool close, keep_alive, connection_upgrade;
};

static struct moon_head_fault on_host(struct moon_request *req,
                                      const struct moon_field *field,
                                      struct notes *notes)
{
    if (notes->host)
        return bad("more than one Host");
    notes->host = true;
    if (!is_host(moon_request_str(req, field->value)))
        return bad("malformed Host");
    if (req->host.off == 0) /* else an absolute target has set it */
        req->host = field->value;
    return none;
}

static struct moon_head_fault on_length(struct moon_request *req,
                                        struct moon_str value,
                                        struct notes *notes)
{
    uint64_t length;
    if (notes->length)
        return bad("more than one Content-Length");
    notes->length = true;
    if (!moon_str_to_u64(value, &length) || length > INT64_MAX)
        return bad("malformed Content-Length");
    req->content_length = (int64_t)length;
    return none;
}

/* Chunked alone is understood. Another coding below it is one that we lack
 * (501); anything else leaves the length of the body open (400, RFC 9112
 * section 6.3). Several fields count as the last one after others. */
static struct moon_head_fault on_coding(struct moon_request *req,
                                        struct moon_str value,
                                        struct notes *notes)
{
    struct moon_str item = MOON_STR_NONE;
    bool again = req->chunked, others = notes->coding;
    notes->coding = true;
    if (moon_str_eq_nocase(value, MOON_STR("chunked")) && !others) {
        req->chunked = true;
        return none;
    }
    bool chunked = false;
    while (moon_list_next(&value, &item)) {
        if (chunked)
            again = true;
        chunked = moon_str_eq_nocase(item, MOON_STR("chunked"));
    }
    if (again || !chunked)
        return bad("a Transfer-Encoding that does not end in one chunked");
    return fault(501, "a transfer coding other than chunked");
}

static void on_connection(struct moon_str value, struct notes *notes)
{
    struct moon_str item = MOON_STR_NONE;
    while (moon_list_next(&value, &item)) {
        if (moon_str_eq_nocase(item, MOON_STR("close")))
            notes->close = true;
        else if (moon_str_eq_nocase(item, MOON_STR("keep-alive")))
            notes->keep_alive = true;
        else if (moon_str_eq_nocase(item, MOON_STR("upgrade")))
            notes->connection_upgrade = true;
    }
}

static struct moon_head_fault on_field(struct moon_request *req,
                                       const struct moon_field *field,
                                       struct notes *notes)
{
    struct moon_str name = moon_request_str(req, field->name);
    struct moon_str value = moon_request_str(req, field->value);
    switch (name.len) {
    case 4:
        if (moon_str_eq_nocase(name, MOON_STR("Host")))
            return on_host(req, field, notes);
        break;
    case 6:
        if (moon_str_eq_nocase(name, MOON_STR("Expect")) &&
            moon_str_eq_nocase(value, MOON_STR("100-continue")))
            req->expect_continue = req->minor == 1;
        break;
    case 7:
        if (moon_str_eq_nocase(name, MOON_STR("Upgrade")))
            notes->upgrade = true;
        break;
    case 10:
        if (moon_str_eq_nocase(name, MOON_STR("Connection")))
            on_connection(value, notes);
        break;
    case 14:
        if (moon_str_eq_nocase(name, MOON_STR("Content-Length")))
            return on_length(req, value, notes);
        break;
    case 17:
        if (moon_str_eq_nocase(name, MOON_STR("Transfer-Encoding")))
            return on_coding(req, value, notes);
        break;
    default:
        break;
    }
    return none;
}

/* The line of a field is base[name.off, line_end): name, colon, value, CRLF,
 * and no other CR or LF. */
static bool cut_value(struct moon_request *req, struct moon_field *field,
                      uint32_t line_end)
{
    const char *base = req->base;
    uint32_t from = field->name.off + field->name.len + 1;
    uint32_t to = line_end - 2;
    if (field->name.len == 0 || from > to || base[from - 1] != ':' ||
        base[to] != '\r' || base[to + 1] != '\n' ||
        memchr(base + from, '\n', to - from) != NULL ||
        memchr(base + from, '\r', to - from) != NULL)
        return false;
    while (from < to && (base[from] == ' ' || base[from] == '\t'))
        from++;
    while (from < to && (base[to - 1] == ' ' || base[to - 1] == '\t'))
        to--;
    field->value = (struct moon_span){from, to - from};
    return true;
}

static struct moon_head_fault check_framing(struct moon_request *req,
                                            const struct notes *notes)
{
    if (req->minor == 1 && !notes->host)
        return bad("no Host");
    if (notes->coding && notes->length)
        return bad("both Content-Length and Transfer-Encoding");
    if (notes->coding && req->minor == 0)
        return bad("Transfer-Encoding in HTTP/1.0");
    req->keep_alive =
        req->minor == 1 ? !notes->close : notes->keep_alive && !notes->close;
    req->upgrade =
        notes->upgrade && notes->connection_upgrade && req->minor == 1;
    return none;
}

struct moon_head_fault moon_head_check(struct moon_request *req, uint32_t start,
                                       uint32_t end)
{
    struct notes notes = {0};
    if (end - start < 4 || memcmp(req->base + end - 4, "\r\n\r\n", 4) != 0)
        return bad("a line without CRLF");
    uint32_t line_end = end - 2;
    if (req->field_count > 0)
        line_end = req->fields[0].name.off;
    struct moon_head_fault found = check_request_line(req, start, line_end);
    if (found.status == 0)
        found = check_target(req);
    for (uint32_t i = 0; i < req->field_count && found.status == 0; i++) {
        struct moon_field *field = &req->fields[i];
        uint32_t next = i + 1 < req->field_count ? field[1].name.off : end - 2;
        if (!cut_value(req, field, next))
            return bad("malformed field line");
        found = on_field(req, field, &notes);
    }
    return found.status != 0 ? found : check_framing(req, &notes);
}
