/* The protocol of Redis (RESP2): commands to bytes, and the codec that makes
 * replies of bytes, which is hiredis' reader.
 *
 * Pure: no sockets, no loop. A reply may nest seven levels deep, more than that
 * is malformed (hiredis 0.14). An array of more than MOON_REDIS_ELEMENTS_MAX
 * elements is MOON_ETOO_BIG. */
#ifndef MOON_STATE_REDIS_PROTO_H
#define MOON_STATE_REDIS_PROTO_H

#include "base/buf.h"
#include "state/wire.h"

struct redisReply;

enum { MOON_REDIS_ELEMENTS_MAX = 4 << 20 };

extern const struct moon_wire_codec moon_redis_codec;

/* One command is an array of `argc` strings. Where the put functions write must
 * be room, see moon_redis_command_size; they return where they stopped. */
char *moon_redis_put_array(char *to, uint32_t argc);
char *moon_redis_put_arg(char *to, struct moon_str arg);
void moon_redis_add_command(struct moon_buf *to, const struct moon_str *argv,
                            uint32_t argc);
/* How many bytes a command has at most. */
size_t moon_redis_command_size(const struct moon_str *argv, uint32_t argc);

/* The text of a string, status or error; else empty. Borrowed from the
 * reply. */
struct moon_str moon_redis_text(const struct redisReply *reply);
/* The element of an array; NULL if it has none there. */
const struct redisReply *moon_redis_item(const struct redisReply *reply,
                                         size_t index);
bool moon_redis_is_error(const struct redisReply *reply);
/* An error whose first word is `wordz`? */
bool moon_redis_is_error_of(const struct redisReply *reply, const char *wordz);
#endif
