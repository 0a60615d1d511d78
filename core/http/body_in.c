#include "http/body_in.h"

#include "base/compiler.h"
#include "http/token.h"

/* A chunk size has at most this many digits, leading zeros included, so it
 * cannot overflow. */
enum { SIZE_DIGITS = 15 };

enum state {
    LENGTH_DATA,
    SIZE,            /* in the digits */
    SIZE_SPACE,      /* after white space that only an extension may follow */
    EXTENSION_START, /* after a semicolon: a name must follow */
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START, /* a field, or the CR of the empty line */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    DONE
};

void moon_body_in_start_length(struct moon_body_in *body, uint64_t length)
{
    *body = (struct moon_body_in){.sink = body->sink,
                                  .sink_ctx = body->sink_ctx,
                                  .left = length,
                                  .state = LENGTH_DATA};
}

void moon_body_in_start_chunked(struct moon_body_in *body, uint32_t extra_limit,
                                uint32_t trailers)
{
    *body = (struct moon_body_in){.sink = body->sink,
                                  .sink_ctx = body->sink_ctx,
                                  .state = SIZE,
                                  .extra_limit = extra_limit,
                                  .trailers_left = trailers};
}

static bool fail(struct moon_body_in *body, uint16_t status, const char *why)
{
    body->status = status;
    body->why = why;
    return false;
}

static bool bad(struct moon_body_in *body, const char *why)
{
    return fail(body, 400, why);
}

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    char low = (char)(ch | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

static bool count_extra(struct moon_body_in *body)
{
    if (body->extra_bytes++ < body->extra_limit)
        return true;
    return fail(body, 431, "chunk extensions or trailers too large");
}

static bool on_size(struct moon_body_in *body, char ch)
{
    int digit = hex_digit(ch);
    if (digit >= 0) {
        if (body->digits++ == SIZE_DIGITS)
            return bad(body, "chunk size too large");
        body->left = body->left << 4 | (uint64_t)digit;
        return true;
    }
    if (body->digits == 0)
        return bad(body, "chunk without size");
    if (ch == '\r')
        body->state = SIZE_LF;
    else if (ch == ';')
        body->state = EXTENSION_START;
    else if (ch == ' ' || ch == '\t')
        body->state = SIZE_SPACE;
    else
        return bad(body, "bad chunk size");
    return true;
}

static bool on_extension_start(struct moon_body_in *body, char ch)
{
    if (moon_char_is(ch, MOON_CHAR_TOKEN))
        body->state = EXTENSION;
    else if (ch != ' ' && ch != '\t')
        return bad(body, "bad chunk extension");
    return count_extra(body);
}

static bool on_extension(struct moon_body_in *body, char ch)
{
    if (ch == '\r') {
        body->state = SIZE_LF;
        return true;
    }
    if (ch == ';')
        body->state = EXTENSION_START;
    else if (!moon_char_is(ch, MOON_CHAR_VALUE))
        return bad(body, "bad chunk extension");
    return count_extra(body);
}

static bool on_size_space(struct moon_body_in *body, char ch)
{
    if (ch == ';')
        body->state = EXTENSION_START;
    else if (ch != ' ' && ch != '\t')
        return bad(body, "space after a chunk size");
    return count_extra(body);
}

static bool on_trailer_start(struct moon_body_in *body, char ch)
{
    if (ch == '\r') {
        body->state = END_LF;
        return true;
    }
    if (!moon_char_is(ch, MOON_CHAR_TOKEN))
        return bad(body, "bad trailer field");
    if (body->trailers_left == 0)
        return fail(body, 431, "too many trailer fields");
    body->trailers_left--;
    body->state = TRAILER_NAME;
    body->name[0] = ch;
    body->name_len = 1;
    return count_extra(body);
}

/* Fields that would change framing or routing after the fact (RFC 9110 section
 * 6.5.1). */
static bool is_forbidden(struct moon_str name)
{
    return moon_str_eq_nocase(name, MOON_STR("content-length")) ||
           moon_str_eq_nocase(name, MOON_STR("transfer-encoding")) ||
           moon_str_eq_nocase(name, MOON_STR("host"));
}

static bool on_trailer_name(struct moon_body_in *body, char ch)
{
    if (ch == ':') {
        if (is_forbidden(moon_str(body->name, body->name_len)))
            return bad(body, "a trailer that belongs in the head");
        body->state = TRAILER_VALUE;
    } else if (!moon_char_is(ch, MOON_CHAR_TOKEN)) {
        return bad(body, "bad trailer field");
    } else if (body->name_len < sizeof(body->name)) {
        body->name[body->name_len++] = ch;
    }
    return count_extra(body);
}

static bool on_trailer_value(struct moon_body_in *body, char ch)
{
    if (ch == '\r') {
        body->state = TRAILER_LF;
        return true;
    }
    if (!moon_char_is(ch, MOON_CHAR_VALUE))
        return bad(body, "bad trailer field");
    return count_extra(body);
}

static bool expect(struct moon_body_in *body, char ch, char want,
                   enum state next)
{
    if (ch != want)
        return bad(body, "chunk line without CRLF");
    body->state = (uint8_t)next;
    return true;
}

static bool on_size_lf(struct moon_body_in *body, char ch)
{
    bool last = body->left == 0;
    body->digits = 0;
    return expect(body, ch, '\n', last ? TRAILER_START : DATA);
}

static bool on_framing(struct moon_body_in *body, char ch)
{
    switch ((enum state)body->state) {
    case SIZE:
        return on_size(body, ch);
    case SIZE_SPACE:
        return on_size_space(body, ch);
    case EXTENSION_START:
        return on_extension_start(body, ch);
    case EXTENSION:
        return on_extension(body, ch);
    case SIZE_LF:
        return on_size_lf(body, ch);
    case DATA_CR:
        return expect(body, ch, '\r', DATA_LF);
    case DATA_LF:
        return expect(body, ch, '\n', SIZE);
    case TRAILER_START:
        return on_trailer_start(body, ch);
    case TRAILER_NAME:
        return on_trailer_name(body, ch);
    case TRAILER_VALUE:
        return on_trailer_value(body, ch);
    case TRAILER_LF:
        return expect(body, ch, '\n', TRAILER_START);
    case END_LF:
        return expect(body, ch, '\n', DONE);
    case LENGTH_DATA:
    case DATA:
    case DONE:
        break;
    }
    return true;
}

/* Hands over as much data as there is; returns how much. */
static size_t take_data(struct moon_body_in *body, struct moon_str bytes)
{
    size_t len = bytes.len < body->left ? bytes.len : (size_t)body->left;
    if (len == 0)
        return 0;
    body->left -= len;
    body->decoded_bytes += len;
    if (body->sink != NULL &&
        body->sink(body->sink_ctx, moon_str(bytes.ptr, len)) != MOON_OK) {
        body->status = 0;
        body->why = "the body was refused";
    }
    return len;
}

enum moon_body_result moon_body_in_feed(struct moon_body_in *body,
                                        struct moon_str bytes, size_t *used)
{
    size_t at = 0;
    while (body->why == NULL) {
        if (body->state == LENGTH_DATA || body->state == DATA) {
            at += take_data(body, moon_str(bytes.ptr + at, bytes.len - at));
            if (body->left > 0)
                break;
            body->state = body->state == DATA ? DATA_CR : DONE;
        } else if (body->state == DONE || at == bytes.len) {
            break;
        } else if (on_framing(body, bytes.ptr[at])) {
            at++;
        }
    }
    *used = at;
    if (body->why != NULL)
        return MOON_BODY_FAILED;
    return body->state == DONE ? MOON_BODY_DONE : MOON_BODY_MORE;
}
