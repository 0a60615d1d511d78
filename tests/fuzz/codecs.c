/* What an application encodes, decodes and quotes with whatever a client sent:
 * any bytes come back, what is malformed is refused, and nothing ends the text
 * around it. */
#include "fuzz.h"

#include "vm/vm_api.h"

enum { BASE64 = 1, BASE64URL, HEX, PERCENT, HTML };
enum { QUOTE_HTML = 1, QUOTE_CSV, QUOTE_SCRIPT };

static struct moon_str str_of(moon_bytes bytes)
{
    return moon_str(bytes.ptr, bytes.len);
}

/* Encoded text is ASCII, and decodes to the same bytes. */
static void check_encode(struct moon_str text)
{
    moon_bytes out;
    for (int codec = BASE64; codec <= PERCENT; codec++) {
        FUZZ_CHECK(moon_lua_encode(codec, text.ptr, text.len, &out));
        struct moon_str encoded = fuzz_copy(str_of(out));
        for (size_t i = 0; i < encoded.len; i++)
            FUZZ_CHECK(encoded.ptr[i] > ' ' && encoded.ptr[i] < 0x7f);
        FUZZ_CHECK(moon_lua_decode(codec, encoded.ptr, encoded.len, &out));
        FUZZ_CHECK(moon_str_eq(str_of(out), text));
        fuzz_free(encoded);
    }
}

/* What decodes has one text only, but for case, padding and needless
 * escapes. */
static void check_decode(struct moon_str text)
{
    moon_bytes out;
    for (int codec = BASE64; codec <= PERCENT; codec++) {
        if (!moon_lua_decode(codec, text.ptr, text.len, &out))
            continue;
        struct moon_str bytes = fuzz_copy(str_of(out));
        FUZZ_CHECK(bytes.len <= text.len);
        FUZZ_CHECK(moon_lua_encode(codec, bytes.ptr, bytes.len, &out));
        if (codec == BASE64)
            FUZZ_CHECK(moon_str_eq(str_of(out), text));
        if (codec == HEX)
            FUZZ_CHECK(moon_str_eq_nocase(str_of(out), text));
        if (codec == BASE64URL)
            FUZZ_CHECK(moon_str_starts(text, str_of(out)));
        fuzz_free(bytes);
    }
}

static void refuse_bytes(struct moon_str text, const char *bytesz)
{
    for (; *bytesz != '\0'; bytesz++)
        FUZZ_CHECK(text.len == 0 ||
                   memchr(text.ptr, *bytesz, text.len) == NULL);
}

/* A CSV field of which it is known where it ends. */
static void check_csv(struct moon_str text, struct moon_str quoted)
{
    size_t at = 1, nth = 0;
    FUZZ_CHECK(quoted.len >= 2 && quoted.ptr[0] == '"');
    for (; at + 1 < quoted.len; at++, nth++) {
        if (quoted.ptr[at] == '"')
            at++;
        FUZZ_CHECK(nth < text.len && quoted.ptr[at] == text.ptr[nth]);
    }
    FUZZ_CHECK(at + 1 == quoted.len && quoted.ptr[at] == '"');
    FUZZ_CHECK(nth == text.len);
}

static void check_quote(struct moon_str text)
{
    moon_bytes out;
    int changed = moon_lua_quote(QUOTE_HTML, text.ptr, text.len, &out);
    FUZZ_CHECK(changed >= 0);
    refuse_bytes(changed ? str_of(out) : text, "<>\"'");
    changed = moon_lua_quote(QUOTE_CSV, text.ptr, text.len, &out);
    if (changed)
        check_csv(text, str_of(out));
    else
        refuse_bytes(text, ",\"\r\n");
    changed = moon_lua_quote(QUOTE_SCRIPT, text.ptr, text.len, &out);
    refuse_bytes(changed ? str_of(out) : text, "<>&");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str text = fuzz_copy(fuzz_str(data, size));
    check_encode(text);
    check_decode(text);
    check_quote(text);
    double length = moon_lua_utf8_length(text.ptr, text.len);
    FUZZ_CHECK(length == -1 || (length >= 0 && length <= (double)text.len));
    fuzz_free(text);
    return 0;
}
