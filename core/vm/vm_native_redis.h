/* moonshine.redis, the part that takes and makes Lua values: the table "redis"
 * of the natives. Ordinary lua_CFunctions, see vm_native.h. */
#ifndef MOON_VM_VM_NATIVE_REDIS_H
#define MOON_VM_VM_NATIVE_REDIS_H

#include <lua.h>
#include <stddef.h>

struct redisReply;

/* Adds it to the table on top of the stack. May raise. */
void moon_native_open_redis(lua_State *L);

/* vm_native_redis_reply.c */

/* Leaves what a call returns for an answer. `shape`: the stack index of what
 * was asked: true for pairs that make a map; of several commands a list of
 * tables with such a `map`. Returns how many values: of nil one, of an error
 * three. May raise. */
int moon_native_push_reply(lua_State *L, const struct redisReply *reply,
                           int shape);
/* Leaves one value: that of the same within a list. May raise. */
void moon_native_push_inner(lua_State *L, const struct redisReply *reply,
                            int shape);
/* A number as Redis is to read it: whole ones with all their digits. How many
 * bytes, 0 for one that it cannot. */
enum { MOON_NATIVE_NUMBER = 40 };
size_t moon_native_write_number(double value, char to[MOON_NATIVE_NUMBER]);

#endif
