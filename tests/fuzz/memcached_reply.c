/* Replies of memcached's meta commands, against a reader that has all of them
 * at once and takes its time. */
#include "codec.h"

#include "state/memcached_proto.h"

#include <ctype.h>

static void tell(const void *any, struct moon_buf *to)
{
    const struct moon_memcached_reply *reply = any;
    moon_buf_printf(to, "%d:%llu:%zu:", (int)reply->status,
                    (unsigned long long)reply->cas, reply->value.len);
    moon_buf_add_str(to, reply->value);
    moon_buf_add_char(to, '\n');
    FUZZ_CHECK(reply->value.len == 0 || reply->status == MOON_MEMCACHED_VALUE ||
               reply->status == MOON_MEMCACHED_ERROR);
}

/* The number of bytes in "VA 12 ..."; false: it has none. */
static bool size_of(struct moon_str line, uint64_t *size)
{
    struct moon_str rest;
    (void)moon_str_cut(line, ' ', &rest);
    struct moon_str text = moon_str_cut(rest, ' ', &rest);
    *size = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.ptr[i]) || i == 18)
            return false;
        *size = *size * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    return text.len > 0;
}

/* How many whole replies stand at the start. */
static size_t count_of(struct moon_str bytes)
{
    size_t count = 0;
    for (;; count++) {
        const char *end =
            bytes.len == 0 ? NULL : memmem(bytes.ptr, bytes.len, "\r\n", 2);
        if (end == NULL)
            return count;
        struct moon_str rest,
            line = moon_str(bytes.ptr, (size_t)(end - bytes.ptr));
        struct moon_str word = moon_str_cut(line, ' ', &rest);
        size_t used = line.len + 2;
        uint64_t size = 0;
        if (moon_str_eq(word, MOON_STR("VA"))) {
            if (!size_of(line, &size) || bytes.len - used < 2 ||
                size > bytes.len - used - 2 ||
                memcmp(end + 2 + size, "\r\n", 2) != 0)
                return count;
            used += (size_t)size + 2;
        } else if (!moon_str_eq(word, MOON_STR("HD")) &&
                   !moon_str_eq(word, MOON_STR("MN")) &&
                   !moon_str_eq(word, MOON_STR("EN")) &&
                   !moon_str_eq(word, MOON_STR("NF")) &&
                   !moon_str_eq(word, MOON_STR("EX")) &&
                   !moon_str_eq(word, MOON_STR("NS")) &&
                   !moon_str_eq(word, MOON_STR("ERROR")) &&
                   !moon_str_eq(word, MOON_STR("CLIENT_ERROR")) &&
                   !moon_str_eq(word, MOON_STR("SERVER_ERROR"))) {
            return count;
        }
        bytes = moon_str(bytes.ptr + used, bytes.len - used);
    }
}

static size_t seen;

static void count_one(const void *reply, struct moon_buf *to)
{
    (void)to;
    (void)reply;
    seen++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str bytes = fuzz_str(data, size);
    codec_compare(&moon_memcached_codec, bytes, tell);
    seen = 0;
    struct moon_buf told =
        codec_run(&moon_memcached_codec, bytes, size, 0, count_one);
    moon_buf_deinit(&told);
    FUZZ_CHECK(seen == count_of(bytes));
    return 0;
}
