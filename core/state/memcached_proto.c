#include "state/memcached_proto.h"

#include "base/buf.h"

#include <stdlib.h>

enum { LINE_MAX_BYTES = 2048 };

/* Bytes that came; those before `at` have been read. */
struct reader {
    struct moon_buf in;
    size_t at;
};

static void *create(void)
{
    return calloc(1, sizeof(struct reader));
}

static void destroy(void *ctx)
{
    struct reader *reader = ctx;
    moon_buf_deinit(&reader->in);
    free(reader);
}

static enum moon_err feed(void *ctx, const char *bytes, size_t len)
{
    struct reader *reader = ctx;
    struct moon_buf *in = &reader->in;
    if (reader->at > 0) {
        memmove(in->ptr, in->ptr + reader->at, in->len - reader->at);
        in->len -= reader->at;
        reader->at = 0;
    }
    moon_buf_add(in, bytes, len);
    return in->failed ? MOON_ENOMEM : MOON_OK;
}

static const struct {
    struct moon_str word;
    enum moon_memcached_status status;
} words[] = {
    {MOON_STR("HD"), MOON_MEMCACHED_STORED},
    {MOON_STR("MN"), MOON_MEMCACHED_STORED},
    {MOON_STR("VA"), MOON_MEMCACHED_VALUE},
    {MOON_STR("EN"), MOON_MEMCACHED_MISS},
    {MOON_STR("NF"), MOON_MEMCACHED_MISS},
    {MOON_STR("EX"), MOON_MEMCACHED_CHANGED},
    {MOON_STR("NS"), MOON_MEMCACHED_REFUSED},
    {MOON_STR("ERROR"), MOON_MEMCACHED_ERROR},
    {MOON_STR("CLIENT_ERROR"), MOON_MEMCACHED_ERROR},
    {MOON_STR("SERVER_ERROR"), MOON_MEMCACHED_ERROR},
};

static bool find_status(struct moon_str word,
                        enum moon_memcached_status *status)
{
    for (size_t i = 0; i < MOON_COUNT(words); i++) {
        if (!moon_str_eq(word, words[i].word))
            continue;
        *status = words[i].status;
        return true;
    }
    return false;
}

/* The flag "c" and its number, among those behind the size. */
static uint64_t find_cas(struct moon_str flags)
{
    uint64_t cas = 0;
    while (flags.len > 0) {
        struct moon_str flag = moon_str_cut(flags, ' ', &flags);
        if (flag.len > 1 && flag.ptr[0] == 'c' &&
            !moon_str_to_u64(moon_str(flag.ptr + 1, flag.len - 1), &cas))
            return 0;
    }
    return cas;
}

static enum moon_err make(void **out, struct moon_memcached_reply head)
{
    struct moon_memcached_reply *reply =
        malloc(sizeof(*reply) + head.value.len);
    if (reply == NULL)
        return MOON_ENOMEM;
    *reply = head;
    if (head.value.len > 0)
        memcpy(reply->bytes, head.value.ptr, head.value.len);
    reply->value.ptr = reply->bytes;
    *out = reply;
    return MOON_OK;
}

/* "VA size flags*", and the item behind it. */
static enum moon_err read_value(struct reader *reader, struct moon_str rest,
                                size_t line_bytes, void **out)
{
    struct moon_memcached_reply head = {.status = MOON_MEMCACHED_VALUE};
    uint64_t size;
    if (!moon_str_to_u64(moon_str_cut(rest, ' ', &rest), &size))
        return MOON_EPROTO;
    size_t left = reader->in.len - reader->at - line_bytes;
    if (left < 2 || size > left - 2)
        return MOON_EAGAIN;
    head.cas = find_cas(rest);
    head.value =
        moon_str(reader->in.ptr + reader->at + line_bytes, (size_t)size);
    if (memcmp(head.value.ptr + size, "\r\n", 2) != 0)
        return MOON_EPROTO;
    enum moon_err err = make(out, head);
    if (err == MOON_OK)
        reader->at += line_bytes + (size_t)size + 2;
    return err;
}

static enum moon_err read_line(struct reader *reader, struct moon_str line,
                               void **out)
{
    struct moon_memcached_reply head = {0};
    struct moon_str rest;
    struct moon_str word = moon_str_cut(line, ' ', &rest);
    if (!find_status(word, &head.status))
        return MOON_EPROTO;
    if (head.status == MOON_MEMCACHED_VALUE)
        return read_value(reader, rest, line.len + 2, out);
    if (head.status == MOON_MEMCACHED_ERROR)
        head.value = line;
    enum moon_err err = make(out, head);
    if (err == MOON_OK)
        reader->at += line.len + 2;
    return err;
}

static enum moon_err next(void *ctx, void **out, const char **whyz)
{
    struct reader *reader = ctx;
    const struct moon_buf *in = &reader->in;
    size_t left = in->len - reader->at;
    if (left == 0)
        return MOON_EAGAIN;
    const char *from = in->ptr + reader->at;
    const char *end = memmem(from, left, "\r\n", 2);
    enum moon_err err = MOON_EAGAIN;
    if (end != NULL)
        err = read_line(reader, moon_str(from, (size_t)(end - from)), out);
    else if (left > LINE_MAX_BYTES)
        err = MOON_EPROTO;
    *whyz = err == MOON_EPROTO ? "that is no reply of memcached 1.6"
                               : moon_err_text(err);
    return err;
}

const struct moon_wire_codec moon_memcached_codec = {
    .create = create,
    .destroy = destroy,
    .feed = feed,
    .next = next,
    .release = free,
};
