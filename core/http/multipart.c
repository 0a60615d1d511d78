#include "http/multipart.h"

#include "http/token.h"

static enum moon_err bad(const char **whyz, const char *textz)
{
    *whyz = textz;
    return MOON_EPROTO;
}

/* ---- parameters of a field value: ; name=value, RFC 9110 section 5.6.6 ----
 */

/* Length of the quoted string at the start of `s`, quotes included; 0: it does
 * not end. */
static size_t quoted_len(struct moon_str s)
{
    for (size_t i = 1; i < s.len; i++) {
        if (s.ptr[i] == '\\' && i + 1 < s.len)
            i++;
        else if (s.ptr[i] == '"')
            return i + 1;
    }
    return 0;
}

static struct moon_str skip(struct moon_str s, size_t n)
{
    return moon_str(s.ptr + n, s.len - n);
}

/* Takes "; name=value" off *rest; a quoted value comes without its quotes.
 * MOON_ENOT_FOUND at the end. */
static enum moon_err next_param(struct moon_str *rest, struct moon_str *name,
                                struct moon_str *value)
{
    struct moon_str s = moon_str_trim(*rest);
    do {
        if (s.len == 0)
            return MOON_ENOT_FOUND;
        if (s.ptr[0] != ';')
            return MOON_EPROTO;
        s = moon_str_trim(skip(s, 1));
    } while (s.len == 0 || s.ptr[0] == ';');
    size_t n = 0;
    while (n < s.len && moon_char_is(s.ptr[n], MOON_CHAR_TOKEN))
        n++;
    if (n == 0 || n == s.len || s.ptr[n] != '=')
        return MOON_EPROTO;
    *name = moon_str(s.ptr, n);
    s = skip(s, n + 1);
    if (s.len > 0 && s.ptr[0] == '"') {
        n = quoted_len(s);
        if (n == 0)
            return MOON_EPROTO;
        *value = moon_str(s.ptr + 1, n - 2);
    } else {
        n = 0;
        while (n < s.len && s.ptr[n] != ';')
            n++;
        *value = moon_str_trim(moon_str(s.ptr, n));
    }
    *rest = skip(s, n);
    return MOON_OK;
}

/* ---- the boundary ---- */

/* bchars of RFC 2046 section 5.1.1 */
static bool is_boundary_char(char ch)
{
    return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') ||
           (ch >= 'A' && ch <= 'Z') ||
           (ch != '\0' && strchr("'()+_,-./:=? ", ch) != NULL);
}

static bool is_boundary(struct moon_str s)
{
    if (s.len == 0 || s.len > MOON_BOUNDARY_MAX || s.ptr[s.len - 1] == ' ')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_boundary_char(s.ptr[i]))
            return false;
    }
    return true;
}

enum moon_err moon_multipart_init(struct moon_multipart *m,
                                  struct moon_str content_type,
                                  struct moon_str body, const char **whyz)
{
    struct moon_str rest, name, value, boundary = MOON_STR_NONE;
    struct moon_str type =
        moon_str_trim(moon_str_cut(content_type, ';', &rest));
    if (!moon_str_eq_nocase(type, MOON_STR("multipart/form-data")))
        return bad(whyz, "the body is not multipart/form-data");
    rest = skip(content_type, (size_t)(type.ptr + type.len - content_type.ptr));
    enum moon_err err;
    while ((err = next_param(&rest, &name, &value)) == MOON_OK) {
        if (!moon_str_eq_nocase(name, MOON_STR("boundary")))
            continue;
        if (boundary.ptr != NULL)
            return bad(whyz, "the Content-Type has two boundaries");
        boundary = value;
    }
    if (err != MOON_ENOT_FOUND || boundary.ptr == NULL ||
        !is_boundary(boundary))
        return bad(whyz, "the Content-Type has no usable boundary");
    *m = (struct moon_multipart){.body = body};
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary.ptr, boundary.len);
    m->delimiter_len = 4 + boundary.len;
    return MOON_OK;
}

/* ---- parts ---- */

/* What follows a delimiter: "--" ends the body, padding and CRLF begin a part.
 * False if it is neither, so that it was no delimiter but data. */
static bool read_tail(struct moon_multipart *m, size_t at)
{
    struct moon_str rest = skip(m->body, at);
    if (moon_str_starts(rest, MOON_STR("--"))) {
        m->ended = true; /* what follows is an epilogue, and ignored */
        return true;
    }
    while (rest.len > 0 && (rest.ptr[0] == ' ' || rest.ptr[0] == '\t'))
        rest = skip(rest, 1);
    if (!moon_str_starts(rest, MOON_STR("\r\n")))
        return false;
    m->at = (size_t)(rest.ptr - m->body.ptr) + 2;
    return true;
}

/* Goes behind the next delimiter at or behind `from`; *begin is where it
 * stands. False if there is none. */
static bool pass_delimiter(struct moon_multipart *m, size_t from, size_t *begin)
{
    struct moon_str body = m->body;
    size_t len = m->delimiter_len;
    while (from <= body.len) {
        const char *found =
            memmem(body.ptr + from, body.len - from, m->delimiter, len);
        if (found == NULL)
            return false;
        *begin = (size_t)(found - body.ptr);
        if (read_tail(m, *begin + len))
            return true;
        from = *begin + len;
    }
    return false;
}

static enum moon_err read_disposition(struct moon_part *part,
                                      struct moon_str value, const char **whyz)
{
    struct moon_str rest, name, text;
    struct moon_str kind = moon_str_trim(moon_str_cut(value, ';', &rest));
    if (!moon_str_eq_nocase(kind, MOON_STR("form-data")))
        return bad(whyz, "a part of the form is not form-data");
    rest = skip(value, (size_t)(kind.ptr + kind.len - value.ptr));
    enum moon_err err;
    while ((err = next_param(&rest, &name, &text)) == MOON_OK) {
        if (moon_str_eq_nocase(name, MOON_STR("name")) &&
            part->name.ptr == NULL) {
            part->name = text;
        } else if (moon_str_eq_nocase(name, MOON_STR("filename")) &&
                   !part->is_file) {
            part->filename = text;
            part->is_file = true;
        }
    }
    if (err != MOON_ENOT_FOUND)
        return bad(whyz, "a Content-Disposition of the form is malformed");
    return MOON_OK;
}

static bool is_identity(struct moon_str encoding)
{
    return moon_str_eq_nocase(encoding, MOON_STR("7bit")) ||
           moon_str_eq_nocase(encoding, MOON_STR("8bit")) ||
           moon_str_eq_nocase(encoding, MOON_STR("binary"));
}

static enum moon_err read_field(struct moon_part *part, struct moon_str line,
                                const char **whyz)
{
    struct moon_str value;
    struct moon_str name = moon_str_cut(line, ':', &value);
    if (!moon_str_is_token(name) || name.len == line.len ||
        !moon_str_is(value, MOON_CHAR_VALUE))
        return bad(whyz, "a header of a part of the form is malformed");
    value = moon_str_trim(value);
    if (moon_str_eq_nocase(name, MOON_STR("content-disposition"))) {
        if (part->name.ptr != NULL || part->is_file)
            return bad(whyz, "a part of the form has two Content-Dispositions");
        return read_disposition(part, value, whyz);
    }
    if (moon_str_eq_nocase(name, MOON_STR("content-type"))) {
        struct moon_str rest;
        part->type = moon_str_trim(moon_str_cut(value, ';', &rest));
    } else if (moon_str_eq_nocase(name,
                                  MOON_STR("content-transfer-encoding")) &&
               !is_identity(value)) {
        return bad(whyz, "a part of the form has a Content-Transfer-Encoding "
                         "other than binary");
    }
    return MOON_OK;
}

/* The header of the part at m->at; leaves m->at at its data. */
static enum moon_err read_header(struct moon_multipart *m,
                                 struct moon_part *part, const char **whyz)
{
    size_t start = m->at;
    for (int fields = 0;; fields++) {
        struct moon_str rest = skip(m->body, m->at);
        size_t window = MOON_PART_HEADER_BYTES - (m->at - start);
        size_t look = rest.len < window ? rest.len : window;
        const char *end = memmem(rest.ptr, look, "\r\n", 2);
        if (end == NULL)
            return bad(whyz, look < window
                                 ? "the form ends inside a part's header"
                                 : "the header of a part of the form is too "
                                   "large");
        size_t len = (size_t)(end - rest.ptr);
        m->at += len + 2;
        if (len == 0)
            return MOON_OK;
        if (fields == MOON_PART_HEADERS)
            return bad(whyz, "a part of the form has too many headers");
        enum moon_err err = read_field(part, moon_str(rest.ptr, len), whyz);
        if (err != MOON_OK)
            return err;
    }
}

static bool pass_first_delimiter(struct moon_multipart *m)
{
    /* Without its CRLF at the very start. */
    struct moon_str first = moon_str(m->delimiter + 2, m->delimiter_len - 2);
    size_t begin;
    m->started = true;
    return (moon_str_starts(m->body, first) && read_tail(m, first.len)) ||
           pass_delimiter(m, 0, &begin);
}

enum moon_err moon_multipart_next(struct moon_multipart *m,
                                  struct moon_part *part, const char **whyz)
{
    *part = (struct moon_part){0};
    if (!m->started && !pass_first_delimiter(m))
        return bad(whyz, "the form does not contain its boundary");
    if (m->ended)
        return MOON_ENOT_FOUND;
    enum moon_err err = read_header(m, part, whyz);
    if (err != MOON_OK)
        return err;
    if (part->name.ptr == NULL)
        return bad(whyz, "a part of the form has no name");
    /* An empty part's delimiter begins with the CRLF that ends its header. */
    size_t data = m->at, begin;
    if (!pass_delimiter(m, data - 2, &begin))
        return bad(whyz, "the form is cut off");
    part->data = moon_str(m->body.ptr + data, begin < data ? 0 : begin - data);
    return MOON_OK;
}

/* ---- names ---- */

static size_t percent(struct moon_str s, char *ch)
{
    static const struct {
        char code[4], ch;
    } known[] = {{"%22", '"'}, {"%0D", '\r'}, {"%0A", '\n'}};
    for (size_t i = 0; i < MOON_COUNT(known); i++) {
        if (s.len >= 3 && moon_bytes_eq_nocase(s.ptr, known[i].code, 3)) {
            *ch = known[i].ch;
            return 3;
        }
    }
    return 0;
}

size_t moon_part_text(struct moon_str raw, char *to)
{
    size_t len = 0;
    for (size_t i = 0; i < raw.len;) {
        char ch = raw.ptr[i];
        size_t used = ch == '%' ? percent(skip(raw, i), &ch) : 0;
        if (ch == '\\' && i + 1 < raw.len &&
            (raw.ptr[i + 1] == '"' || raw.ptr[i + 1] == '\\')) {
            /* Others stay: an old browser's C:\path is not escaped. */
            ch = raw.ptr[i + 1];
            used = 2;
        }
        to[len++] = ch;
        i += used == 0 ? 1 : used;
    }
    return len;
}

struct moon_str moon_part_base_name(char *name, size_t len)
{
    size_t from = 0, to = 0;
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '/' || name[i] == '\\')
            from = i + 1;
    }
    for (size_t i = from; i < len; i++) {
        unsigned char ch = (unsigned char)name[i];
        if (ch >= 0x20 && ch != 0x7f)
            name[to++] = name[i];
    }
    struct moon_str base = moon_str(name, to);
    if (moon_str_eq(base, MOON_STR(".")) || moon_str_eq(base, MOON_STR("..")))
        base.len = 0;
    return base;
}
