#include "vm/vm_api.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/random.h"
#include "http/negotiate.h"
#include "http/query.h"

enum codec {
    CODEC_BASE64 = 1,
    CODEC_BASE64URL,
    CODEC_HEX,
    CODEC_PERCENT,
    CODEC_HTML,
};

/* Results of the last call on this thread; big ones are given back. */
enum { SCRATCH_KEEP = 64 << 10 };
static _Thread_local struct moon_buf scratch;

void moon_api_util_keep(void)
{
}

static struct moon_buf *fresh_scratch(void)
{
    if (scratch.cap > SCRATCH_KEEP || scratch.failed)
        moon_buf_deinit(&scratch);
    scratch.len = 0;
    return &scratch;
}

static bool finish(moon_bytes *out)
{
    *out = moon_bytes_of(moon_buf_str(&scratch));
    return !scratch.failed;
}

double moon_lua_now(void)
{
    return moon_clock_wall();
}

double moon_lua_clock(void)
{
    return (double)(moon_clock_ns() + moon_clock_shift_ns) / 1e9;
}

void moon_lua_random(char *to, size_t len)
{
    moon_random_bytes(to, len);
}

double moon_lua_utf8_length(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + len;
    double count = 0;
    while (at < end) {
        size_t step = *at < 0x80 ? 1 : moon_utf8_len(at, (size_t)(end - at));
        if (step == 0)
            return -1;
        at += step;
        count++;
    }
    return count;
}

/* ---- encoding ---- */

static void base64(struct moon_str in, bool url, struct moon_buf *out)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "abcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *digits = url ? safe : plain;
    char *to = moon_buf_reserve(out, (in.len + 2) / 3 * 4);
    if (to == NULL)
        return;
    const char *start = to;
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t bits = (uint32_t)(unsigned char)in.ptr[i] << 16;
        if (left > 1)
            bits |= (uint32_t)(unsigned char)in.ptr[i + 1] << 8;
        if (left > 2)
            bits |= (unsigned char)in.ptr[i + 2];
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        if (left > 1)
            *to++ = digits[bits >> 6 & 63];
        else if (!url)
            *to++ = '=';
        if (left > 2)
            *to++ = digits[bits & 63];
        else if (!url)
            *to++ = '=';
    }
    out->len += (size_t)(to - start);
}

static void hex(struct moon_str in, struct moon_buf *out)
{
    static const char digits[] = "0123456789abcdef";
    char *to = moon_buf_reserve(out, in.len * 2);
    if (to == NULL)
        return;
    for (size_t i = 0; i < in.len; i++) {
        *to++ = digits[(unsigned char)in.ptr[i] >> 4];
        *to++ = digits[(unsigned char)in.ptr[i] & 15];
    }
    out->len += in.len * 2;
}

bool moon_lua_encode(int codec, const char *text, size_t len, moon_bytes *out)
{
    struct moon_str in = moon_str(text, len);
    struct moon_buf *buf = fresh_scratch();
    switch (codec) {
    case CODEC_BASE64:
        base64(in, false, buf);
        break;
    case CODEC_BASE64URL:
        base64(in, true, buf);
        break;
    case CODEC_HEX:
        hex(in, buf);
        break;
    case CODEC_PERCENT:
        moon_percent_encode(in, buf);
        break;
    default:
        moon_buf_add_html(buf, in);
    }
    return finish(out);
}

/* ---- decoding ---- */

static int base64_digit(char ch, bool url)
{
    if (ch >= 'A' && ch <= 'Z')
        return ch - 'A';
    if (ch >= 'a' && ch <= 'z')
        return ch - 'a' + 26;
    if (ch >= '0' && ch <= '9')
        return ch - '0' + 52;
    if (ch == (url ? '-' : '+'))
        return 62;
    if (ch == (url ? '_' : '/'))
        return 63;
    return -1;
}

/* Strict: padding whole or (url) absent, no bits left over. */
static bool unbase64(struct moon_str in, bool url, struct moon_buf *out)
{
    size_t pad = 0;
    while (pad < 2 && pad < in.len && in.ptr[in.len - 1 - pad] == '=')
        pad++;
    if ((pad > 0 || !url) && in.len % 4 != 0)
        return false;
    in.len -= pad;
    if (in.len % 4 == 1)
        return false;
    char *to = moon_buf_reserve(out, in.len / 4 * 3 + 3);
    if (to == NULL)
        return false;
    const char *start = to;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < in.len; i++) {
        int digit = base64_digit(in.ptr[i], url);
        if (digit < 0)
            return false;
        bits = (bits << 6 | (uint32_t)digit) & 0xffffffu;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *to++ = (char)(unsigned char)(bits >> have & 0xff);
        }
    }
    out->len += (size_t)(to - start);
    return (bits & ((1u << have) - 1)) == 0;
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

static bool unhex(struct moon_str in, struct moon_buf *out)
{
    if (in.len % 2 != 0)
        return false;
    for (size_t i = 0; i < in.len; i += 2) {
        int high = hex_digit(in.ptr[i]), low = hex_digit(in.ptr[i + 1]);
        if (high < 0 || low < 0)
            return false;
        moon_buf_add_char(out, (char)(unsigned char)(high * 16 + low));
    }
    return true;
}

static bool unpercent(struct moon_str in, struct moon_buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        char ch = in.ptr[i];
        if (ch == '%') {
            if (in.len - i < 3)
                return false;
            int high = hex_digit(in.ptr[i + 1]);
            int low = hex_digit(in.ptr[i + 2]);
            if (high < 0 || low < 0)
                return false;
            ch = (char)(unsigned char)(high * 16 + low);
            i += 2;
        }
        moon_buf_add_char(out, ch);
    }
    return true;
}

bool moon_lua_decode(int codec, const char *text, size_t len, moon_bytes *out)
{
    struct moon_str in = moon_str(text, len);
    struct moon_buf *buf = fresh_scratch();
    bool good;
    switch (codec) {
    case CODEC_BASE64:
        good = unbase64(in, false, buf);
        break;
    case CODEC_BASE64URL:
        good = unbase64(in, true, buf);
        break;
    case CODEC_HEX:
        good = unhex(in, buf);
        break;
    case CODEC_PERCENT:
        good = unpercent(in, buf);
        break;
    default:
        good = false;
    }
    return finish(out) && good;
}

/* ---- text within other text ---- */

enum quoting {
    QUOTE_HTML = 1,
    QUOTE_CSV,
    QUOTE_SCRIPT,
};

static bool needs_csv_quotes(struct moon_str in)
{
    for (size_t i = 0; i < in.len; i++) {
        char ch = in.ptr[i];
        if (ch == ',' || ch == '"' || ch == '\r' || ch == '\n')
            return true;
    }
    return false;
}

/* RFC 4180. */
static void quote_csv(struct moon_str in, struct moon_buf *out)
{
    moon_buf_add_char(out, '"');
    for (size_t i = 0; i < in.len; i++) {
        if (in.ptr[i] == '"')
            moon_buf_add_char(out, '"');
        moon_buf_add_char(out, in.ptr[i]);
    }
    moon_buf_add_char(out, '"');
}

/* U+2028 and U+2029, which end a line of JavaScript before ES2019. */
static bool is_line_separator(struct moon_str s)
{
    return moon_str_starts(s, MOON_STR("\xe2\x80\xa8")) ||
           moon_str_starts(s, MOON_STR("\xe2\x80\xa9"));
}

/* JSON that cannot end the <script> around it. What is replaced occurs only in
 * its strings. */
static bool quote_script(struct moon_str in, struct moon_buf *out)
{
    bool changed = false;
    while (in.len > 0) {
        size_t taken = 1;
        char ch = in.ptr[0];
        if (ch == '<' || ch == '>' || ch == '&') {
            moon_buf_printf(out, "\\u%04x", (unsigned)ch);
            changed = true;
        } else if (is_line_separator(in)) {
            moon_buf_addz(out, in.ptr[2] == '\xa8' ? "\\u2028" : "\\u2029");
            taken = 3;
            changed = true;
        } else {
            moon_buf_add_char(out, ch);
        }
        in = moon_str(in.ptr + taken, in.len - taken);
    }
    return changed;
}

int moon_lua_quote(int how, const char *text, size_t len, moon_bytes *out)
{
    struct moon_str in = moon_str(text, len);
    bool changed = true;
    if (how == QUOTE_HTML && moon_html_plain(in) == len)
        return 0;
    if (how == QUOTE_CSV && !needs_csv_quotes(in))
        return 0;
    struct moon_buf *buf = fresh_scratch();
    if (how == QUOTE_HTML)
        moon_buf_add_html(buf, in);
    else if (how == QUOTE_CSV)
        quote_csv(in, buf);
    else
        changed = quote_script(in, buf);
    return finish(out) ? changed : -1;
}

void moon_lua_content_type(const char *name, size_t len, moon_bytes *out)
{
    *out = moon_bytes_of(moon_content_type_of(moon_str(name, len)));
}

/* ---- dates and forms ---- */

void moon_lua_http_date(double when, moon_bytes *out)
{
    char text[30];
    moon_http_date_write((time_t)when, text);
    moon_buf_add(fresh_scratch(), text, 29);
    (void)finish(out);
}

bool moon_lua_http_date_parse(const char *text, size_t len, double *when)
{
    time_t parsed;
    if (!moon_http_date_parse(moon_str(text, len), &parsed))
        return false;
    *when = (double)parsed;
    return true;
}

/* '+' and escapes of one half of a pair; a bad escape stays as it is. */
static struct moon_str form_text(struct moon_str in, size_t *at)
{
    struct moon_buf *buf = &scratch;
    *at = buf->len;
    for (size_t i = 0; i < in.len; i++) {
        int high = -1, low = -1;
        if (in.ptr[i] == '%' && in.len - i > 2) {
            high = hex_digit(in.ptr[i + 1]);
            low = hex_digit(in.ptr[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            moon_buf_add_char(buf, (char)(unsigned char)(high * 16 + low));
            i += 2;
        } else {
            moon_buf_add_char(buf, in.ptr[i] == '+' ? ' ' : in.ptr[i]);
        }
    }
    return moon_str(NULL, buf->len - *at);
}

bool moon_lua_form_next(moon_cursor *cursor, moon_bytes *name,
                        moon_bytes *value)
{
    struct moon_str rest = moon_str(cursor->ptr, cursor->len);
    struct moon_str pair = MOON_STR_NONE;
    while (rest.len > 0 && pair.len == 0)
        pair = moon_str_cut(rest, '&', &rest);
    cursor->ptr = rest.ptr;
    cursor->len = rest.len;
    if (pair.len == 0)
        return false;
    struct moon_str raw_value;
    struct moon_str raw_name = moon_str_cut(pair, '=', &raw_value);
    size_t name_at, value_at;
    struct moon_buf *buf = fresh_scratch();
    name->len = form_text(raw_name, &name_at).len;
    value->len = form_text(raw_value, &value_at).len;
    if (buf->failed)
        return false;
    name->ptr = buf->ptr + name_at;
    value->ptr = buf->ptr + value_at;
    return true;
}
