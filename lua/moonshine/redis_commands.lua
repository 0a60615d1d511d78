--- What the client must know of the commands of Redis: where the first key stands,
--- which ones may be sent twice, and which have no place on a link that others use.
---
--- An unknown command is sent as it is, with its first argument taken for a key.
local fault = require "moonshine.fault"

local M = {}

---@class moonshine.redis.Spec
---@field name string
---@field what string What errors call it.
---@field key integer|fun(...): integer The index of the first key; 0: none.
---@field read_only? boolean
---@field map? fun(...): boolean Is the answer pairs that make a map?
---@field block? fun(...): number? For how many milliseconds it may block.
---@field own? string Why it needs a link of its own.
---@field instead? string What to call instead, on any link.
---@field changes? fun(...): boolean Does it, with these arguments?
---@field dirty? boolean Leaves a state behind that a link cannot be rid of.

local specs = {}

local function each(names, fn)
    for name in names:gmatch("%S+") do
        specs[name] = specs[name] or { name = name, what = "redis: " .. name, key = 1 }
        fn(specs[name])
    end
end

-- ---- keys ----

each([[ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DISCARD ECHO EXEC
    FAILOVER FLUSHALL FLUSHDB FUNCTION HELLO INFO KEYS LASTSAVE LATENCY LOLWUT MODULE MONITOR MULTI
    PING PSUBSCRIBE PSYNC PUBLISH PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY READONLY READWRITE REPLICAOF
    RESET ROLE SAVE SCAN SCRIPT SELECT SHUTDOWN SLAVEOF SLOWLOG SUBSCRIBE SWAPDB SYNC TIME
    UNSUBSCRIBE UNWATCH WAIT WAITAOF]], function(spec) spec.key = 0 end)
each("BITOP DEBUG MEMORY OBJECT XGROUP XINFO", function(spec) spec.key = 2 end)
each("MIGRATE", function(spec) spec.key = 3 end)

-- How many keys follow is said in front of them, at this index.
local function counted(at)
    return function(...)
        return (tonumber((select(at, ...))) or 0) > 0 and at + 1 or 0
    end
end
each("LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION",
    function(spec) spec.key = counted(1) end)
each("BLMPOP BZMPOP EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO",
    function(spec) spec.key = counted(2) end)

local function index_of(word, ...)
    for i = 1, select("#", ...) do
        local argument = select(i, ...)
        if type(argument) == "string" and argument:upper() == word then
            return i
        end
    end
end
each("XREAD XREADGROUP", function(spec)
    spec.key = function(...)
        local at = index_of("STREAMS", ...)
        return at and at + 1 or 0
    end
end)

-- ---- reads ----

each([[BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP EXISTS EXPIRETIME GEODIST GEOHASH GEOPOS
    GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN
    HMGET HRANDFIELD HSCAN HSTRLEN HVALS KEYS LCS LINDEX LLEN LPOS LRANGE MGET PEXPIRETIME PING
    PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO
    SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TIME TTL TYPE XLEN XPENDING XRANGE XREVRANGE ZCARD
    ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE
    ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION]],
    function(spec) spec.read_only = true end)

-- ---- maps ----

local function always()
    return true
end
each("HGETALL", function(spec) spec.map = always end)
each("CONFIG", function(spec)
    spec.map = function(sub)
        return type(sub) == "string" and sub:upper() == "GET"
    end
end)

-- ---- links of one's own ----

local STATE = "changes the link that others use, too"
local BLOCKS = "blocks the link that others use, too"
each("ASKING AUTH READONLY READWRITE SELECT UNWATCH WATCH", function(spec) spec.own = STATE end)
each("BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF",
    function(spec) spec.own = BLOCKS end)
each("ASKING AUTH READONLY READWRITE", function(spec) spec.dirty = true end)

-- These have a method that does it, or cannot be had.
local instead = {
    ["SUBSCRIBE SSUBSCRIBE UNSUBSCRIBE SUNSUBSCRIBE"] = "r:subscribe(channels, fn) does it",
    ["PSUBSCRIBE PUNSUBSCRIBE"] = "r:psubscribe(patterns, fn) does it",
    ["MULTI EXEC DISCARD"] = "r:multi(function(m) ... end) does it",
    ["MONITOR PSYNC SYNC"] = "its answer has no end; use redis-cli",
    ["HELLO RESET QUIT"] = "the client itself greets, resets and closes its links",
}
for names, text in pairs(instead) do
    each(names, function(spec) spec.instead = text end)
end

local function last(factor)
    return function(...)
        return (tonumber((select(select("#", ...), ...))) or 0) * factor
    end
end
local function nth(at, factor)
    return function(...)
        return (tonumber((select(at, ...))) or 0) * factor
    end
end
each("BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN", function(spec) spec.block = last(1000) end)
each("BLMPOP BZMPOP", function(spec) spec.block = nth(1, 1000) end)
each("WAIT", function(spec) spec.block = nth(2, 1) end)
each("WAITAOF", function(spec) spec.block = nth(3, 1) end)
each("XREAD XREADGROUP", function(spec)
    spec.block = function(...)
        local at = index_of("BLOCK", ...)
        return at and (tonumber((select(at + 1, ...))) or 0) or nil
    end
end)
each("CLIENT", function(spec)
    local harmless = fault.set [[GETNAME GETREDIR HELP ID INFO KILL LIST PAUSE TRACKINGINFO UNBLOCK
        UNPAUSE]]
    spec.changes = function(sub)
        return type(sub) == "string" and not harmless[sub:upper()]
    end
end)

-- ---- finding ----

-- By the name as it was written.
local known = {}
for name, spec in pairs(specs) do
    known[name], known[name:lower()] = spec, spec
end

--- What is known of a command, and whether anything is; `what` names the call for errors.
---@return moonshine.redis.Spec
---@return boolean
function M.find(name, what)
    local spec = known[name]
    if spec then
        return spec, true
    end
    if type(name) ~= "string" or not name:find("^[^%s]+$") then
        fault.raise('%s: the command must be a name such as "GET", not %s; what follows it are '
            .. "arguments of their own", what, type(name) == "string" and "'" .. name .. "'"
            or type(name))
    end
    name = name:upper()
    return known[name] or { name = name, what = "redis: " .. name, key = 1 }, false
end

--- Raises if the command cannot be used there: `own` says whether the link is one's own.
--- For how many milliseconds it may block, or nil.
function M.check(spec, own, ...)
    if spec.instead then
        fault.raise("redis: %s cannot be used here: %s", spec.name, spec.instead)
    end
    local block = spec.block and spec.block(...)
    local why = spec.own or (block and BLOCKS) or (spec.changes and spec.changes(...) and STATE)
    if not own and why then
        fault.raise("redis: %s %s; use r:dedicated(function(link) link:%s(...) end)", spec.name,
            why, spec.name:lower())
    end
    if block and block <= 0 then
        fault.raise("redis: %s with a time of 0 waits for ever; give one, and ask again when it is "
            .. "over", spec.name)
    end
    return block
end

return M
