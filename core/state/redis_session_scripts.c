#include "state/redis_session_scripts.h"

/* Is the session with these fields (v s i x) over? */
#define IS_OVER                                                            \
    "local now = tonumber(ARGV[1])\n"                                      \
    "local function is_over(m)\n"                                          \
    "  return not m[1] or m[4] ~= '-1' and now >= tonumber(m[4])\n"        \
    "    or m[3] ~= '-1' and now - tonumber(m[2]) >= tonumber(m[3])\n"     \
    "end\n"                                                                \
    "local function times(key)\n"                                          \
    "  return redis.call('HMGET', key, 'v', 's', 'i', 'x')\n"              \
    "end\n"                                                                \
    "local function live(key, idle, expires)\n"                            \
    "  local left = tonumber(idle)\n"                                      \
    "  local until_end = tonumber(expires) - now\n"                        \
    "  if expires ~= '-1' and (left < 0 or until_end < left) then\n"       \
    "    left = until_end\n"                                               \
    "  end\n"                                                              \
    "  if expires == '-1' and left < 0 then\n"                             \
    "    redis.call('PERSIST', key)\n"                                     \
    "  else\n"                                                             \
    "    redis.call('PEXPIRE', key, string.format('%.0f', math.max(left, " \
    "1)))\n"                                                               \
    "  end\n"                                                              \
    "end\n"

/* A save that sets a few fields of a session that lives, as most do, costs
 * three calls of Redis and makes no function: what cannot be done so is done by
 * what follows this. */
#define FAST_SAVE                                                            \
    "if ARGV[2] == '' and ARGV[7] == '0' and not KEYS[2] and #ARGV < 1000 "  \
    "then\n"                                                                 \
    "  local call, key, now = redis.call, KEYS[1], tonumber(ARGV[1])\n"      \
    "  local m = call('HMGET', key, 'v', 's', 'i', 'x')\n"                   \
    "  local left, expires = tonumber(ARGV[4]), ARGV[5]\n"                   \
    "  if expires ~= '-1' then\n"                                            \
    "    local until_end = expires - now\n"                                  \
    "    if left < 0 or until_end < left then left = until_end end\n"        \
    "  end\n"                                                                \
    "  if m[1] and (m[4] == '-1' or now < tonumber(m[4]))\n"                 \
    "    and (m[3] == '-1' or now - m[2] < tonumber(m[3]))\n"                \
    "    and (ARGV[3] == '0' or ARGV[3] == m[1])\n"                          \
    "    and left >= 1 and left < 1e15 then\n"                               \
    "    local version = m[1] + 1\n"                                         \
    "    call('HSET', key, 'v', version, 's', ARGV[1], 'i', ARGV[4], 'x',\n" \
    "      expires, unpack(ARGV, 8))\n"                                      \
    "    call('PEXPIRE', key, left)\n"                                       \
    "    return version\n"                                                   \
    "  end\n"                                                                \
    "end\n"

/* unpack takes some thousands of values at most. */
const char moon_redis_session_save[] = FAST_SAVE IS_OVER
    "local flags, key, kept = ARGV[2], KEYS[1], times(KEYS[1])\n"
    "local function has(flag) return flags:find(flag, 1, true) end\n"
    "local function each(from, last, command)\n"
    "  for i = from, last, 1000 do\n"
    "    redis.call(command, key, unpack(ARGV, i, math.min(i + 999, last)))\n"
    "  end\n"
    "end\n"
    "if has('n') then\n"
    "  if not is_over(kept) then return -1 end\n"
    "  redis.call('DEL', key)\n"
    "  redis.call('HSET', key, 'c', ARGV[1])\n"
    "else\n"
    "  if is_over(kept) then return 0 end\n"
    "  if ARGV[3] ~= '0' and ARGV[3] ~= kept[1] then return -1 end\n"
    "end\n"
    "if KEYS[2] then\n"
    "  if KEYS[2] == key or not is_over(times(KEYS[2])) then return -1 end\n"
    "  redis.call('RENAME', key, KEYS[2])\n"
    "  key = KEYS[2]\n"
    "end\n"
    "if has('c') then\n"
    "  local m = redis.call('HMGET', key, 'v', 'c', 'u')\n"
    "  redis.call('DEL', key)\n"
    "  redis.call('HSET', key, 'v', m[1] or 0, 'c', m[2], 'u', m[3] or '')\n"
    "end\n"
    "redis.call('HSET', key, 's', ARGV[1], 'i', ARGV[4], 'x', ARGV[5])\n"
    "if has('s') then redis.call('HSET', key, 'u', ARGV[6]) end\n"
    "local removed = tonumber(ARGV[7])\n"
    "each(8, 7 + removed, 'HDEL')\n"
    "each(8 + removed, #ARGV, 'HSET')\n"
    "live(key, ARGV[4], ARGV[5])\n"
    "return redis.call('HINCRBY', key, 'v', 1)\n";

const char moon_redis_session_touch[] =
    IS_OVER "local m = times(KEYS[1])\n"
            "if is_over(m) then return 0 end\n"
            "if now > tonumber(m[2]) then\n"
            "  redis.call('HSET', KEYS[1], 's', ARGV[1])\n"
            "  live(KEYS[1], m[3], m[4])\n"
            "end\n"
            "return 1\n";

const char moon_redis_session_remove[] =
    "local m = redis.call('HMGET', KEYS[1], 'v', 'u')\n"
    "redis.call('DEL', KEYS[1])\n"
    "return m[1] and (m[2] or '')\n";

const char moon_redis_session_remove_of[] =
    "if redis.call('HGET', KEYS[1], 'u') ~= ARGV[1] then return 0 end\n"
    "return redis.call('DEL', KEYS[1])\n";

const char moon_redis_session_index[] =
    "local key, now = KEYS[1], tonumber(ARGV[1])\n"
    "redis.call('ZREMRANGEBYSCORE', key, '-inf', ARGV[1])\n"
    "redis.call('ZADD', key, ARGV[3], ARGV[2])\n"
    "redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(ARGV[4]))\n"
    "local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]\n"
    "if last then\n"
    "  redis.call('PEXPIRE', key,\n"
    "    string.format('%.0f', math.max(tonumber(last) - now, 1)))\n"
    "end\n"
    "return 1\n";
