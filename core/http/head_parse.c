#include "http/head_parse.h"

#include "http/token.h"

const struct moon_head_fault moon_head_faults[] = {
#define X(name, status, why) {status, why},
    MOON_HEAD_MAP(X)
#undef X
};

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

enum moon_head moon_head_version_fault(const char *at, size_t len)
{
    if (len < 9 || memcmp(at, " HTTP/", 6) != 0 || !is_digit(at[6]) ||
        at[7] != '.' || !is_digit(at[8]))
        return MOON_HEAD_BAD_LINE;
    return at[6] == '1' && at[8] <= '1' ? MOON_HEAD_BAD_LINE
                                        : MOON_HEAD_VERSION;
}

/* "[" IPv6 address "]" at `at`: where it ends, NULL if malformed. */
static const char *literal_end(const char *at)
{
    const char *from = ++at;
    while (moon_char_is(*at, MOON_CHAR_LITERAL))
        at++;
    return at > from && *at == ']' ? at + 1 : NULL;
}

/* uri-host [":" port], as far as bytes go (RFC 9110 section 7.2). Behind it is
 * a byte that can be part of none of these: CR, white space, "/" or "?". */
static bool is_host(struct moon_str host)
{
    const char *at = host.ptr, *end = at + host.len;
    if (MOON_UNLIKELY(*at == '[')) {
        at = literal_end(at);
        if (at == NULL)
            return false;
    } else {
        while (moon_char_is(*at, MOON_CHAR_HOST))
            at++;
    }
    if (*at == ':') {
        do
            at++;
        while (is_digit(*at));
    }
    return at == end;
}

/* The high bit of each byte that is `ch`, maybe also of one behind such a
 * byte. */
static uint64_t bytes_equal(uint64_t word, char ch)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x = word ^ ones * (unsigned char)ch;
    return (x - ones) & ~x & ones << 7;
}

/* Where the first '?' of target[0, len) is, or len; above len if there is a
 * '#' before it. May read up to the version behind the target. */
static size_t find_query(const char *target, size_t len)
{
    for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
        uint64_t word = moon_load_le64(target + at);
        uint64_t found = bytes_equal(word, '?') | bytes_equal(word, '#');
        if (MOON_LIKELY(found == 0))
            continue;
        at += (unsigned)MOON_CTZ64(found) / 8;
        return at >= len ? len : target[at] == '?' ? at : len + 1;
    }
    return len;
}

/* Splits what is `len` bytes at `off`. llhttp takes a fragment, which is no
 * part of a target. */
static enum moon_head split_query(struct moon_request *req, uint32_t off,
                                  uint32_t len)
{
    const char *text = req->base + off;
    uint32_t path = (uint32_t)find_query(text, len);
    if (MOON_UNLIKELY(path > len))
        return MOON_HEAD_BAD_TARGET;
    req->path = (struct moon_span){off, path};
    if (path == len) {
        req->query = (struct moon_span){off + len, 0};
        return MOON_HEAD_OK;
    }
    path++;
    if (memchr(text + path, '#', len - path) != NULL)
        return MOON_HEAD_BAD_TARGET;
    req->query = (struct moon_span){off + path, len - path};
    return MOON_HEAD_OK;
}

/* "http://host:port/path?query" (RFC 9112 section 3.2.2); its authority
 * replaces Host. */
static enum moon_head check_absolute(struct moon_request *req)
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
        return MOON_HEAD_BAD_TARGET;
    uint32_t end = scheme;
    while (end < target.len && target.ptr[end] != '/' && target.ptr[end] != '?')
        end++;
    struct moon_str authority = moon_str(target.ptr + scheme, end - scheme);
    if (authority.len == 0 || authority.ptr[0] == ':' || !is_host(authority))
        return MOON_HEAD_BAD_TARGET;
    req->host = (struct moon_span){req->target.off + scheme, end - scheme};
    enum moon_head found =
        split_query(req, req->target.off + end, (uint32_t)target.len - end);
    /* An absent path is "/": the scheme ends in one. */
    if (req->path.len == 0)
        req->path = (struct moon_span){req->target.off + scheme - 1, 1};
    return found;
}

static enum moon_head check_target(struct moon_request *req)
{
    struct moon_str target = moon_request_str(req, req->target);
    if (MOON_LIKELY(target.ptr[0] == '/'))
        return split_query(req, req->target.off, req->target.len);
    if (target.len == 1 && target.ptr[0] == '*') {
        if (req->method != MOON_METHOD_OPTIONS)
            return MOON_HEAD_BAD_STAR;
        return split_query(req, req->target.off, 1);
    }
    return check_absolute(req);
}

/* Offset of the method: behind empty lines, which a server should skip (RFC
 * 9112 section 2.2). llhttp has skipped whatever CR and LF there are. */
static uint32_t skip_empty_lines(const char *base, uint32_t at)
{
    while (base[at] == '\r' && base[at + 1] == '\n')
        at += 2;
    return at;
}

/* Of the request line llhttp 8 also takes: several spaces between its parts,
 * no version, HTTP/0.9 and 2.0, another protocol, an end without CR. So the
 * bytes around the target must be the expected ones. */
enum moon_head moon_head_request_line(struct moon_request *req, uint32_t line,
                                      uint32_t next)
{
    const char *base = req->base;
    line = skip_empty_lines(base, line);
    if (base[line] <= ' ' || base[req->target.off - 2] == ' ')
        return MOON_HEAD_BAD_LINE;
    req->method_text = (struct moon_span){line, req->target.off - 1 - line};
    const char *end = base + req->target.off + req->target.len;
    size_t len = (size_t)(base + next - end);
    if (len != 11 || memcmp(end, " HTTP/1.", 8) != 0 || (end[8] | 1) != '1' ||
        end[9] != '\r')
        return moon_head_version_fault(end, len);
    req->minor = (uint8_t)(end[8] & 1);
    return check_target(req);
}

/* What the fields say, one by one. */

static enum moon_head on_host(struct moon_request *req,
                              const struct moon_field *field,
                              struct moon_head_notes *notes)
{
    if (notes->host)
        return MOON_HEAD_TWO_HOSTS;
    notes->host = true;
    if (!is_host(moon_request_str(req, field->value)))
        return MOON_HEAD_BAD_HOST;
    if (req->host.off == 0) /* else an absolute target has set it */
        req->host = field->value;
    return MOON_HEAD_OK;
}

/* Chunked alone is understood. Another coding below it is one that we lack
 * (501); anything else leaves the length of the body open (400, RFC 9112
 * section 6.3). llhttp refuses what follows chunked. */
static enum moon_head on_coding(struct moon_request *req, struct moon_str value)
{
    struct moon_str item = MOON_STR_NONE;
    if (req->chunked)
        return MOON_HEAD_BAD_CODING;
    if (moon_str_eq_nocase(value, MOON_STR("chunked"))) {
        req->chunked = true;
        return MOON_HEAD_OK;
    }
    bool chunked = false;
    while (moon_list_next(&value, &item)) {
        if (chunked)
            return MOON_HEAD_BAD_CODING;
        chunked = moon_str_eq_nocase(item, MOON_STR("chunked"));
    }
    return chunked ? MOON_HEAD_CODING : MOON_HEAD_BAD_CODING;
}

static void on_connection(struct moon_str value, struct moon_head_notes *notes)
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

/* Of a name of four bytes. */
static inline bool is_name_host(const char *name)
{
    return (moon_load_le32(name) | 0x20202020u) == 0x74736f68u;
}

/* Is a field name of the right length this one? `lowerz` has only letters and
 * hyphens, so setting one bit folds the case of what can match it. */
static inline bool is_name(struct moon_str name, const char *lowerz)
{
    for (size_t i = 0; i < name.len; i++) {
        if ((name.ptr[i] | 0x20) != lowerz[i])
            return false;
    }
    return true;
}

enum moon_head moon_head_field(struct moon_request *req,
                               struct moon_head_notes *notes,
                               const struct moon_field *field)
{
    struct moon_str name = moon_request_str(req, field->name);
    struct moon_str value = moon_request_str(req, field->value);
    switch (name.len) {
    case 4:
        if (MOON_LIKELY(is_name_host(name.ptr)))
            return on_host(req, field, notes);
        break;
    case 6:
        if (is_name(name, "expect") &&
            moon_str_eq_nocase(value, MOON_STR("100-continue")))
            req->expect_continue = req->minor == 1;
        break;
    case 7:
        if (is_name(name, "upgrade"))
            notes->upgrade = true;
        break;
    case 10:
        if (is_name(name, "connection"))
            on_connection(value, notes);
        break;
    case 17:
        if (is_name(name, "transfer-encoding"))
            return on_coding(req, value);
        break;
    default:
        break;
    }
    return MOON_HEAD_OK;
}

enum moon_head moon_head_end(struct moon_request *req,
                             const struct moon_head_notes *notes)
{
    if (req->minor == 1 && !notes->host)
        return MOON_HEAD_NO_HOST;
    if (req->chunked && req->content_length >= 0)
        return MOON_HEAD_FRAMING;
    if (req->chunked && req->minor == 0)
        return MOON_HEAD_OLD_CODING;
    req->keep_alive =
        req->minor == 1 ? !notes->close : notes->keep_alive && !notes->close;
    req->upgrade =
        notes->upgrade && notes->connection_upgrade && req->minor == 1;
    return MOON_HEAD_OK;
}
