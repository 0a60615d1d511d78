/* What the test driver prints, and how it wastes time. */
#include "redis_driver.h"

#include "base/clock.h"

#include <hiredis/hiredis.h>
#include <unistd.h>

const char *driver_err_name(enum moon_err err)
{
    switch (err) {
    case MOON_OK:
        return "OK";
#define X(code, name, text) \
    case MOON_E##name:      \
        return #name;
        MOON_ERR_MAP(X)
#undef X
    }
    return "?";
}

void driver_add_reply(struct moon_buf *to, const struct redisReply *reply)
{
    switch (reply == NULL ? REDIS_REPLY_NIL : reply->type) {
    case REDIS_REPLY_ERROR:
        moon_buf_addz(to, "{\"error\":");
        moon_buf_add_json(to, moon_str(reply->str, reply->len));
        moon_buf_add_char(to, '}');
        break;
    case REDIS_REPLY_INTEGER:
        moon_buf_printf(to, "%lld", reply->integer);
        break;
    case REDIS_REPLY_ARRAY:
        moon_buf_add_char(to, '[');
        for (size_t i = 0; i < reply->elements; i++) {
            if (i > 0)
                moon_buf_add_char(to, ',');
            driver_add_reply(to, reply->element[i]);
        }
        moon_buf_add_char(to, ']');
        break;
    case REDIS_REPLY_NIL:
        moon_buf_addz(to, "null");
        break;
    default:
        moon_buf_add_json(to, moon_str(reply->str, reply->len));
    }
}

void driver_say(struct moon_buf *line)
{
    size_t at = 0;
    while (at < line->len) {
        ssize_t n = write(STDOUT_FILENO, line->ptr + at, line->len - at);
        if (n <= 0)
            _exit(4);
        at += (size_t)n;
    }
    moon_buf_deinit(line);
}

void driver_stall(uint64_t ms)
{
    uint64_t until = moon_clock_ms() + ms;
    while (moon_clock_ms() < until)
        ;
}
