#include "state/redis_proto.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

/* ---- commands ---- */

/* "*" or "$", up to 20 digits, CR LF; and the CR LF behind a string. */
enum { MARK_BYTES = 23, END_BYTES = 2 };

static void add_mark(struct moon_buf *to, char mark, uint64_t count)
{
    moon_buf_add_char(to, mark);
    moon_buf_add_u64(to, count);
    moon_buf_add(to, "\r\n", 2);
}

void moon_redis_add_array(struct moon_buf *to, uint32_t argc)
{
    add_mark(to, '*', argc);
}

void moon_redis_add_arg(struct moon_buf *to, struct moon_str arg)
{
    add_mark(to, '$', arg.len);
    moon_buf_add_str(to, arg);
    moon_buf_add(to, "\r\n", 2);
}

void moon_redis_add_command(struct moon_buf *to, const struct moon_str *argv,
                            uint32_t argc)
{
    moon_redis_add_array(to, argc);
    for (uint32_t i = 0; i < argc; i++)
        moon_redis_add_arg(to, argv[i]);
}

size_t moon_redis_command_size(const struct moon_str *argv, uint32_t argc)
{
    size_t size = MARK_BYTES;
    for (uint32_t i = 0; i < argc; i++)
        size += MARK_BYTES + argv[i].len + END_BYTES;
    return size;
}

/* ---- replies ---- */

static void *create(void)
{
    return redisReaderCreate();
}

static void destroy(void *reader)
{
    redisReaderFree(reader);
}

static enum moon_err feed(void *reader, const char *bytes, size_t len)
{
    return redisReaderFeed(reader, bytes, len) == REDIS_OK ? MOON_OK
                                                           : MOON_ENOMEM;
}

static enum moon_err next(void *reader, void **reply, const char **whyz)
{
    *reply = NULL;
    if (redisReaderGetReply(reader, reply) != REDIS_OK) {
        redisReader *r = reader;
        *whyz = r->errstr;
        return r->err == REDIS_ERR_OOM ? MOON_ENOMEM : MOON_EPROTO;
    }
    return *reply != NULL ? MOON_OK : MOON_EAGAIN;
}

const struct moon_wire_codec moon_redis_codec = {
    .create = create,
    .destroy = destroy,
    .feed = feed,
    .next = next,
    .release = freeReplyObject,
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

struct redisReply *moon_redis_make_array(struct redisReply **replies,
                                         size_t count)
{
    struct redisReply *array = calloc(1, sizeof(*array));
    struct redisReply **elements =
        calloc(count > 0 ? count : 1, sizeof(struct redisReply *));
    if (array == NULL || elements == NULL) {
        free(array);
        free(elements);
        return NULL;
    }
    if (count > 0)
        memcpy(elements, replies, count * sizeof(struct redisReply *));
    array->type = REDIS_REPLY_ARRAY;
    array->elements = count;
    array->element = elements;
    return array;
}
