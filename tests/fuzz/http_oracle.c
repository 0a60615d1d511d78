#include "http_oracle.h"

#include <ctype.h>

enum { SIZE_DIGITS = 15 };

static bool is_tchar(char ch)
{
    return isalnum((unsigned char)ch) ||
           (ch != '\0' && strchr("!#$%&'*+-.^_`|~", ch) != NULL);
}

static bool is_token(struct moon_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_tchar(s.ptr[i]))
            return false;
    }
    return s.len > 0;
}

static bool is_field_text(struct moon_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.ptr[i];
        if ((ch < ' ' && ch != '\t') || ch == 0x7f)
            return false;
    }
    return true;
}

static bool same(struct moon_str a, const char *z)
{
    size_t len = strlen(z);
    if (a.len != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (tolower((unsigned char)a.ptr[i]) != z[i])
            return false;
    }
    return true;
}

static struct moon_str trimmed(struct moon_str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Takes a line and its CRLF off *rest; a CR or LF elsewhere is bad. */
static enum oracle_verdict take_line(struct moon_str *rest,
                                     struct moon_str *line)
{
    for (size_t i = 0; i < rest->len; i++) {
        if (rest->ptr[i] == '\n' || rest->ptr[i] == '\0')
            return ORACLE_BAD;
        if (rest->ptr[i] != '\r')
            continue;
        if (i + 1 == rest->len)
            return ORACLE_CUT;
        if (rest->ptr[i + 1] != '\n')
            return ORACLE_BAD;
        *line = moon_str(rest->ptr, i);
        *rest = moon_str(rest->ptr + i + 2, rest->len - i - 2);
        return ORACLE_CLEAN;
    }
    return ORACLE_CUT;
}

/* A path with a query of ordinary characters: nobody may refuse that. */
static bool is_plain_target(struct moon_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!isalnum((unsigned char)s.ptr[i]) &&
            strchr("/?&=%._-+;:@!$'()*,~", s.ptr[i]) == NULL)
            return false;
    }
    return s.len > 0 && s.ptr[0] == '/';
}

static enum oracle_verdict request_line(struct moon_str line,
                                        struct oracle_head *head)
{
    struct moon_str version;
    head->method = moon_str_cut(line, ' ', &line);
    head->target = moon_str_cut(line, ' ', &version);
    if (!is_token(head->method) || head->target.len == 0)
        return ORACLE_BAD;
    for (size_t i = 0; i < head->target.len; i++) {
        unsigned char ch = (unsigned char)head->target.ptr[i];
        if (ch <= ' ' || ch == 0x7f || ch == '#')
            return ORACLE_BAD;
    }
    if (moon_str_eq(version, MOON_STR("HTTP/1.0")))
        head->minor = 0;
    else if (moon_str_eq(version, MOON_STR("HTTP/1.1")))
        head->minor = 1;
    else
        return ORACLE_BAD;
    return is_plain_target(head->target) &&
                   !moon_str_eq(head->method, MOON_STR("CONNECT"))
               ? ORACLE_CLEAN
               : ORACLE_LAX;
}

static bool is_plain_host(struct moon_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!isalnum((unsigned char)s.ptr[i]) && s.ptr[i] != '.' &&
            s.ptr[i] != '-')
            return false;
    }
    return s.len > 0;
}

static enum oracle_verdict content_length(struct oracle_head *head,
                                          struct moon_str value)
{
    size_t significant = 0;
    if (head->has_length || value.len == 0)
        return ORACLE_BAD;
    head->has_length = true;
    head->length = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (!isdigit((unsigned char)value.ptr[i]))
            return ORACLE_BAD;
        significant += significant > 0 || value.ptr[i] != '0';
        head->length = significant <= 18
                           ? head->length * 10 + (uint64_t)(value.ptr[i] - '0')
                           : ORACLE_FAR;
    }
    return value.len < 18 ? ORACLE_CLEAN : ORACLE_LAX;
}

static void connection(struct oracle_head *head, struct moon_str value)
{
    if (same(value, "close"))
        head->close = true;
    else if (same(value, "keep-alive"))
        head->keep_alive = true;
}

static enum oracle_verdict worse(enum oracle_verdict a, enum oracle_verdict b)
{
    return a < b ? a : b;
}

/* What the fields say together (RFC 9112 sections 3.2, 6.1 and 6.3). */
static enum oracle_verdict weigh(struct oracle_head *head)
{
    enum oracle_verdict verdict = ORACLE_CLEAN;
    size_t hosts = 0;
    for (size_t i = 0; i < head->count; i++) {
        struct moon_str name = head->names[i], value = head->values[i];
        enum oracle_verdict field = ORACLE_CLEAN;
        if (same(name, "host")) {
            hosts++;
            field = is_plain_host(value) ? ORACLE_CLEAN : ORACLE_LAX;
        } else if (same(name, "content-length")) {
            field = content_length(head, value);
        } else if (same(name, "transfer-encoding")) {
            if (head->chunked || !same(value, "chunked"))
                field = ORACLE_BAD;
            head->chunked = true;
        } else if (same(name, "connection")) {
            connection(head, value);
            if (!same(value, "close") && !same(value, "keep-alive"))
                field = ORACLE_LAX;
        } else if (same(name, "upgrade") || same(name, "proxy-connection")) {
            field = ORACLE_LAX;
        }
        verdict = worse(verdict, field);
    }
    if (hosts > 1 || (hosts == 0 && head->minor == 1))
        return ORACLE_BAD;
    if (head->chunked && (head->has_length || head->minor == 0))
        return ORACLE_BAD;
    return verdict;
}

/* A field of a head, or a trailer. */
static enum oracle_verdict field_line(struct moon_str line,
                                      struct moon_str *name,
                                      struct moon_str *value)
{
    *value = MOON_STR_NONE;
    *name = moon_str_cut(line, ':', value);
    if (name->len == line.len || !is_token(*name) || !is_field_text(*value))
        return ORACLE_BAD;
    *value = trimmed(*value);
    return ORACLE_CLEAN;
}

/* White space behind a value is no part of it (RFC 9110 section 5.5), but
 * behind these two llhttp takes spaces only; nobody sends anything else. */
static bool ends_oddly(struct moon_str name, struct moon_str line)
{
    return line.ptr[line.len - 1] == '\t' &&
           (same(name, "content-length") || same(name, "transfer-encoding"));
}

enum oracle_verdict oracle_read_head(struct moon_str bytes,
                                     struct oracle_head *head)
{
    struct moon_str rest = bytes, line;
    *head = (struct oracle_head){0};
    do {
        enum oracle_verdict verdict = take_line(&rest, &line);
        if (verdict != ORACLE_CLEAN)
            return verdict;
    } while (line.len == 0);
    enum oracle_verdict verdict = request_line(line, head);
    while (verdict != ORACLE_BAD) {
        enum oracle_verdict found = take_line(&rest, &line);
        if (found != ORACLE_CLEAN)
            return found;
        if (line.len == 0)
            break;
        if (head->count == ORACLE_FIELDS)
            return ORACLE_LAX;
        struct moon_str *name = &head->names[head->count];
        found = field_line(line, name, &head->values[head->count]);
        if (found == ORACLE_CLEAN && ends_oddly(*name, line))
            found = ORACLE_LAX;
        verdict = worse(verdict, found);
        head->count++;
    }
    head->len = bytes.len - rest.len;
    return verdict == ORACLE_BAD ? ORACLE_BAD : worse(verdict, weigh(head));
}

/* "1f" or "1f;name=value"; what stands behind a semicolon is legal or not by
 * rules of its own, so a line with one is odd at best. */
static enum oracle_verdict chunk_size(struct moon_str line, uint64_t *size)
{
    size_t digits = 0;
    *size = 0;
    for (; digits < line.len && isxdigit((unsigned char)line.ptr[digits]);
         digits++) {
        int ch = tolower((unsigned char)line.ptr[digits]);
        *size = *size * 16 + (uint64_t)(ch <= '9' ? ch - '0' : ch - 'a' + 10);
    }
    if (digits == 0 || digits > SIZE_DIGITS)
        return ORACLE_BAD;
    if (digits == line.len)
        return ORACLE_CLEAN;
    return line.ptr[digits] == ';' && line.len > digits + 1 ? ORACLE_LAX
                                                            : ORACLE_BAD;
}

static enum oracle_verdict trailers(struct moon_str *rest)
{
    for (;;) {
        struct moon_str line = MOON_STR_NONE, name, value;
        enum oracle_verdict verdict = take_line(rest, &line);
        if (verdict != ORACLE_CLEAN)
            return verdict;
        if (line.len == 0)
            return ORACLE_CLEAN;
        if (field_line(line, &name, &value) == ORACLE_BAD ||
            same(name, "content-length") || same(name, "host") ||
            same(name, "transfer-encoding"))
            return ORACLE_BAD;
    }
}

static enum oracle_verdict chunked(struct moon_str *rest, struct moon_buf *body)
{
    enum oracle_verdict verdict = ORACLE_CLEAN;
    for (;;) {
        struct moon_str line;
        uint64_t size;
        enum oracle_verdict found = take_line(rest, &line);
        if (found != ORACLE_CLEAN)
            return found == ORACLE_CUT && verdict == ORACLE_LAX ? ORACLE_LAX
                                                                : found;
        verdict = worse(verdict, chunk_size(line, &size));
        if (verdict == ORACLE_BAD)
            return ORACLE_BAD;
        if (size == 0)
            return worse(verdict, trailers(rest));
        if (size > rest->len || rest->len - size < 2)
            return ORACLE_CUT;
        moon_buf_add(body, rest->ptr, (size_t)size);
        if (rest->ptr[size] != '\r' || rest->ptr[size + 1] != '\n')
            return ORACLE_BAD;
        *rest = moon_str(rest->ptr + size + 2, rest->len - (size_t)size - 2);
    }
}

enum oracle_verdict oracle_read_body(const struct oracle_head *head,
                                     struct moon_str bytes,
                                     struct moon_buf *body, size_t *used)
{
    struct moon_str rest = bytes;
    enum oracle_verdict verdict = ORACLE_CLEAN;
    if (head->chunked) {
        verdict = chunked(&rest, body);
    } else if (head->length > rest.len) {
        verdict = ORACLE_CUT;
    } else {
        moon_buf_add(body, rest.ptr, (size_t)head->length);
        rest.ptr += head->length;
        rest.len -= (size_t)head->length;
    }
    *used = bytes.len - rest.len;
    return verdict;
}
