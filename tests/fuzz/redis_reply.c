/* RESP through our codec, which is hiredis' reader; and commands, which must be
 * read back as they were written. */
#include "codec.h"

#include "state/redis_proto.h"

#include <hiredis/hiredis.h>

/* Every kind, and what our helpers say of it. */
static void tell(const void *any, struct moon_buf *to)
{
    const redisReply *reply = any;
    struct moon_str text = moon_redis_text(reply);
    moon_buf_printf(to, "%d:%lld:", reply->type, reply->integer);
    moon_buf_add_str(to, text);
    FUZZ_CHECK(moon_redis_is_error(reply) ==
               (reply->type == REDIS_REPLY_ERROR));
    FUZZ_CHECK(!moon_redis_is_error_of(reply, "NOSCRIPT") ||
               moon_str_starts(text, MOON_STR("NOSCRIPT")));
    FUZZ_CHECK(reply->type == REDIS_REPLY_ARRAY ||
               moon_redis_item(reply, 0) == NULL);
    if (reply->type != REDIS_REPLY_ARRAY)
        return;
    moon_buf_printf(to, "%zu[", reply->elements);
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *item = moon_redis_item(reply, i);
        FUZZ_CHECK(item != NULL);
        tell(item, to);
        moon_buf_add_char(to, ',');
    }
    FUZZ_CHECK(moon_redis_item(reply, reply->elements) == NULL);
    moon_buf_add_char(to, ']');
}

/* A command is what a reply is: an array of strings. */
static void check_command(struct moon_str bytes)
{
    enum { ARGS = 8 };
    struct moon_str argv[ARGS], rest = bytes;
    uint32_t argc = 0;
    struct moon_buf text = {0};
    while (rest.len > 0 && argc < ARGS)
        argv[argc++] = moon_str_cut(rest, '\n', &rest);
    moon_redis_add_command(&text, argv, argc);
    FUZZ_CHECK(text.len <= moon_redis_command_size(argv, argc));
    void *reader = moon_redis_codec.create(), *reply = NULL;
    const char *whyz = NULL;
    FUZZ_CHECK(reader != NULL);
    FUZZ_CHECK(moon_redis_codec.feed(reader, text.ptr, text.len) == MOON_OK);
    FUZZ_CHECK(moon_redis_codec.next(reader, &reply, &whyz) == MOON_OK);
    for (uint32_t i = 0; i < argc; i++)
        FUZZ_CHECK(
            moon_str_eq(moon_redis_text(moon_redis_item(reply, i)), argv[i]));
    FUZZ_CHECK(moon_redis_item(reply, argc) == NULL);
    moon_redis_codec.release(reply);
    FUZZ_CHECK(moon_redis_codec.next(reader, &reply, &whyz) == MOON_EAGAIN);
    moon_redis_codec.destroy(reader);
    moon_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    codec_compare(&moon_redis_codec, fuzz_str(data, size), tell);
    check_command(fuzz_str(data, size));
    return 0;
}
