/* Replies of Redis in one block: the same as hiredis makes of the same bytes,
 * whatever they are and wherever they are cut. */
#include "state/redis_reply.h"

#include "base/buf.h"
#include "base/random.h"
#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t below(uint64_t bound)
{
    uint64_t bits[2];
    moon_random_fast(bits);
    return bits[0] % bound;
}

/* ---- replies at random ---- */

static void add_text(struct moon_buf *to, size_t len)
{
    moon_buf_printf(to, "$%zu\r\n", len);
    char *bytes = moon_buf_reserve(to, len + 2);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)below(256);
    memcpy(bytes + len, "\r\n", 2);
    to->len += len + 2;
}

static void add_reply(struct moon_buf *to, int depth)
{
    static const size_t sizes[] = {0, 1, 7, 8, 30, 500, 2047, 2048, 9000};
    switch (below(depth < 6 ? 8 : 5)) {
    case 0:
        moon_buf_printf(to, ":%lld\r\n", (long long)below(1000) - 500);
        break;
    case 1:
        moon_buf_addz(to, below(2) == 0 ? "$-1\r\n" : "*-1\r\n");
        break;
    case 2:
        moon_buf_addz(to, below(2) == 0 ? "+OK\r\n" : "-ERR not so\r\n");
        break;
    case 3:
    case 4:
        add_text(to, sizes[below(MOON_COUNT(sizes))]);
        break;
    default: {
        uint64_t count = below(8) == 0 ? below(200) : below(6);
        moon_buf_printf(to, "*%llu\r\n", (unsigned long long)count);
        for (uint64_t i = 0; i < count; i++)
            add_reply(to, count > 6 ? 6 : depth + 1);
    }
    }
}

static void check_same(const redisReply *ours, const redisReply *theirs)
{
    assert_int_equal(ours->type, theirs->type);
    assert_int_equal(ours->integer, theirs->integer);
    assert_int_equal(ours->len, theirs->len);
    assert_int_equal(ours->str == NULL, theirs->str == NULL);
    if (ours->str != NULL)
        assert_memory_equal(ours->str, theirs->str, ours->len + 1);
    assert_int_equal(ours->elements, theirs->elements);
    for (size_t i = 0; i < ours->elements; i++)
        check_same(ours->element[i], theirs->element[i]);
}

static void as_hiredis(void **state)
{
    const struct moon_wire_codec *codec = &moon_redis_codec;
    void *ours = codec->create();
    redisReader *theirs = redisReaderCreate();
    struct moon_buf bytes = {0};
    (void)state;
    for (int round = 0; round < 2000; round++) {
        void *reply = NULL, *other = NULL;
        const char *whyz = "";
        bytes.len = 0;
        add_reply(&bytes, 0);
        assert_int_equal(redisReaderFeed(theirs, bytes.ptr, bytes.len),
                         REDIS_OK);
        assert_int_equal(redisReaderGetReply(theirs, &other), REDIS_OK);
        for (size_t at = 0; at < bytes.len;) {
            size_t piece = 1 + below(bytes.len - at);
            assert_int_equal(codec->feed(ours, bytes.ptr + at, piece), MOON_OK);
            at += piece;
            assert_int_equal(codec->next(ours, &reply, &whyz),
                             at == bytes.len ? MOON_OK : MOON_EAGAIN);
        }
        check_same(reply, other);
        moon_redis_reply_free(reply);
        freeReplyObject(other);
    }
    redisReaderFree(theirs);
    codec->destroy(ours);
    moon_buf_deinit(&bytes);
}

/* ---- what is not whole ---- */

/* Nothing is lost when the reader ends in the middle of a reply (the sanitizer
 * looks), or when one cannot be read. */
static void in_part(void **state)
{
    static const char whole[] =
        "*3\r\n$5\r\nhello\r\n*2\r\n:1\r\n$2\r\nhi\r\n+OK";
    const struct moon_wire_codec *codec = &moon_redis_codec;
    (void)state;
    for (size_t len = 1; len < sizeof(whole); len++) {
        for (int bad = 0; bad < 2; bad++) {
            void *reader = codec->create(), *reply = NULL;
            const char *whyz = "";
            assert_int_equal(codec->feed(reader, whole, len), MOON_OK);
            assert_int_equal(codec->next(reader, &reply, &whyz), MOON_EAGAIN);
            if (bad == 1 && codec->feed(reader, "\r\n?\r\n", 5) == MOON_OK &&
                codec->next(reader, &reply, &whyz) == MOON_OK)
                moon_redis_reply_free(reply);
            codec->destroy(reader);
        }
    }
    moon_redis_reply_free(NULL);
}

static void joined(void **state)
{
    const struct moon_wire_codec *codec = &moon_redis_codec;
    void *reader = codec->create(), *replies[2] = {NULL, NULL};
    const char *whyz = "";
    (void)state;
    assert_int_equal(codec->feed(reader, "$1\r\na\r\n*1\r\n:7\r\n", 15),
                     MOON_OK);
    assert_int_equal(codec->next(reader, &replies[0], &whyz), MOON_OK);
    assert_int_equal(codec->next(reader, &replies[1], &whyz), MOON_OK);
    codec->destroy(reader);
    redisReply *both =
        moon_redis_reply_join((redisReply *[]){replies[0], replies[1]}, 2);
    assert_int_equal(both->type, REDIS_REPLY_ARRAY);
    assert_int_equal(both->elements, 2);
    assert_string_equal(both->element[0]->str, "a");
    assert_int_equal(both->element[1]->element[0]->integer, 7);
    moon_redis_reply_free(both);
    both = moon_redis_reply_join(NULL, 0);
    assert_int_equal(both->elements, 0);
    moon_redis_reply_free(both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_hiredis),
        cmocka_unit_test(in_part),
        cmocka_unit_test(joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
