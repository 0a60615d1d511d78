#include "state/redis_proto.h"

#include "base/digits.h"
#include "state/redis_reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

/* ---- commands ---- */

/* "*" or "$", up to 20 digits, CR LF; and the CR LF behind a string. */
enum { MARK_BYTES = 23, END_BYTES = 2 };

static char *put_mark(char *to, char mark, uint64_t count)
{
    *to++ = mark;
    to = moon_put_u64(to, count);
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

char *moon_redis_put_array(char *to, uint32_t argc)
{
    return put_mark(to, '*', argc);
}

char *moon_redis_put_arg(char *to, struct moon_str arg)
{
    to = put_mark(to, '$', arg.len);
    if (arg.len > 0)
        memcpy(to, arg.ptr, arg.len);
    to += arg.len;
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

void moon_redis_add_command(struct moon_buf *to, const struct moon_str *argv,
                            uint32_t argc)
{
    char *begin = moon_buf_reserve(to, moon_redis_command_size(argv, argc));
    if (begin == NULL)
        return;
    char *at = moon_redis_put_array(begin, argc);
    for (uint32_t i = 0; i < argc; i++)
        at = moon_redis_put_arg(at, argv[i]);
    to->len += (size_t)(at - begin);
}

size_t moon_redis_command_size(const struct moon_str *argv, uint32_t argc)
{
    size_t size = MARK_BYTES;
    for (uint32_t i = 0; i < argc; i++)
        size += MARK_BYTES + argv[i].len + END_BYTES;
    return size;
}

/* ---- replies ---- */

/* hiredis makes room for all elements that an array says it has, up to 2^31,
 * and looks at all of it when it lets go: seconds, for eleven bytes. So we
 * count before it does. */
struct reader {
    redisReader *parser;
    redisReplyObjectFunctions make; /* redis_reply.h, but for arrays */
    void *(*make_array)(const redisReadTask *, int);
    bool too_many;
};

static void *make_array(const redisReadTask *task, int elements)
{
    struct reader *reader = task->privdata;
    reader->too_many = elements > MOON_REDIS_ELEMENTS_MAX;
    return reader->too_many ? NULL : reader->make_array(task, elements);
}

static void *create(void)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    redisReader *parser =
        redisReaderCreateWithFunctions(&moon_redis_reply_functions);
    if (reader == NULL || parser == NULL) {
        free(reader);
        redisReaderFree(parser);
        return NULL;
    }
    reader->parser = parser;
    reader->make = *parser->fn;
    reader->make_array = reader->make.createArray;
    reader->make.createArray = make_array;
    parser->fn = &reader->make;
    parser->privdata = reader;
    return reader;
}

static void destroy(void *ctx)
{
    struct reader *reader = ctx;
    redisReaderFree(reader->parser);
    free(reader);
}

static enum moon_err feed(void *ctx, const char *bytes, size_t len)
{
    struct reader *reader = ctx;
    return redisReaderFeed(reader->parser, bytes, len) == REDIS_OK
               ? MOON_OK
               : MOON_ENOMEM;
}

static enum moon_err next(void *ctx, void **reply, const char **whyz)
{
    struct reader *reader = ctx;
    *reply = NULL;
    if (redisReaderGetReply(reader->parser, reply) == REDIS_OK)
        return *reply != NULL ? MOON_OK : MOON_EAGAIN;
    *whyz = reader->parser->errstr;
    if (reader->too_many) {
        *whyz = "a reply of too many elements";
        return MOON_ETOO_BIG;
    }
    return reader->parser->err == REDIS_ERR_OOM ? MOON_ENOMEM : MOON_EPROTO;
}

static void release(void *reply)
{
    moon_redis_reply_free(reply);
}

const struct moon_wire_codec moon_redis_codec = {
    .create = create,
    .destroy = destroy,
    .feed = feed,
    .next = next,
    .release = release,
};

struct moon_str moon_redis_text(const struct redisReply *reply)
{
    if (reply == NULL || reply->str == NULL)
        return MOON_STR("");
    return moon_str(reply->str, reply->len);
}

const struct redisReply *moon_redis_item(const struct redisReply *reply,
                                         size_t index)
{
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY ||
        index >= reply->elements)
        return NULL;
    return reply->element[index];
}

bool moon_redis_is_error(const struct redisReply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_ERROR;
}

bool moon_redis_is_error_of(const struct redisReply *reply, const char *wordz)
{
    struct moon_str rest;
    return moon_redis_is_error(reply) &&
           moon_str_eq(moon_str_cut(moon_redis_text(reply), ' ', &rest),
                       moon_strz(wordz));
}
