--- What all nodes of a cluster do one at a time: locks and the turns of timers, by leases
--- in Redis.
---
--- A lease is a key with a random token that runs out; only who has the token may make it
--- longer or give it back. Clocks of the nodes do not matter: Redis' own is used.
local ffi = require "ffi"
local crypto = require "moonshine.crypto"
local log = require "moonshine.log"
local native = require "moonshine.native"
local tasks = require "moonshine.tasks"

local C = ffi.C
local M = {}

-- Numbers of holders are kept for as long after the last one.
local FENCE_DAYS = 30

local TAKE = [[
if not redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) then
    return false
end
local fence = redis.call("INCR", KEYS[2])
redis.call("EXPIRE", KEYS[2], ARGV[3])
return fence]]

local RELEASE = [[
if redis.call("GET", KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call("DEL", KEYS[1])]]

local RENEW = [[
if redis.call("GET", KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call("PEXPIRE", KEYS[1], ARGV[2])]]

-- KEYS: lease, last run. ARGV: token, lease, interval, run at once? Returns -1: this one
-- is yours, else how many milliseconds to wait. Who asks again with the same token, since
-- the answer was lost, gets the same.
local TURN = [[
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local interval = tonumber(ARGV[3])
if redis.call("GET", KEYS[1]) == ARGV[1] then
    return -1
end
local last = tonumber(redis.call("GET", KEYS[2]) or "")
if not last then
    last = ARGV[4] == "1" and now - interval or now
    redis.call("SET", KEYS[2], string.format("%.0f", last), "PX",
        string.format("%.0f", interval + 86400000))
end
-- A clock that was set back must not hold it up for longer than an interval.
local due = math.min(last, now) + interval
if due > now then
    return due - now
end
if not redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) then
    return math.min(redis.call("PTTL", KEYS[1]), interval, 1000)
end
-- Turns that were missed are not made up for.
last = due + interval > now and due or now
redis.call("SET", KEYS[2], string.format("%.0f", last), "PX",
    string.format("%.0f", interval + 86400000))
return -1]]

local client, scripts

--- Is there a Redis for it? What to do, if there is none.
function M.missing()
    if native.info().redis.cluster_url == "" then
        return "a store shared by the nodes: set redis.url or cluster.url, in config.lua: "
            .. 'redis = { url = "redis://127.0.0.1:6379" }'
    end
end

local function open()
    if not client then
        client = require("moonshine.redis").new(native.info().redis.cluster_url)
        scripts = {
            take = client:prepare(TAKE), release = client:prepare(RELEASE),
            renew = client:prepare(RENEW), turn = client:prepare(TURN),
        }
    end
    return scripts
end

-- Of one name, in one slot of a cluster of Redis.
local function key(kind, name, what)
    return ("moonshine:{%s:%s}:%s"):format(kind, name, what)
end

local function milliseconds(seconds)
    return math.max(1, math.floor(seconds * 1000))
end

-- ---- locks ----

--- As lock.node, but take also gives the number of the holder, or why it cannot tell:
--- nil, message, code.
M.locks = {}

function M.locks.take(name, ttl)
    local token = crypto.random(16)
    local fence, message, code = open().take(
        { key("lock", name, "lease"), key("lock", name, "fence") },
        { token, milliseconds(ttl), FENCE_DAYS * 86400 })
    if fence then
        return token, fence
    elseif code == 504 then
        -- It may be ours.
        tasks.spawn(M.locks.release, name, token)
    end
    return nil, message, code
end

function M.locks.release(name, token)
    local ours, message = open().release({ key("lock", name, "lease") }, { token })
    if message then
        log.warn(("lock '%s' is not given back: %s; its time to live ends it"):format(name,
            message), {})
        return true
    end
    return ours == 1
end

-- ---- timers ----

--- As lock.timers.
M.timers = {}

-- By name, until when a lease lasts as far as we know.
local lasting = {}

--- May the timer run now? The token of its turn; or nil and for how many seconds to wait;
--- or nil, nil, message. `token` is that of a turn whose answer was lost.
function M.timers.turn(timer, token, lease)
    local began = C.moon_lua_clock()
    local answer, message = open().turn(
        { key("timer", timer.name, "lease"), key("timer", timer.name, "last") },
        { token, milliseconds(lease), milliseconds(timer.interval), timer.now and 1 or 0 })
    if message then
        return nil, nil, message
    elseif answer == -1 then
        lasting[timer.name] = began + lease
        return token
    end
    return nil, answer / 1000
end

--- Is it still ours? Then for `ttl` more. While Redis cannot tell it is as long as it was
--- to last.
function M.timers.renew(name, token, ttl)
    local began = C.moon_lua_clock()
    local ours, message = open().renew({ key("timer", name, "lease") },
        { token, milliseconds(ttl) })
    if ours == 1 then
        lasting[name] = began + ttl
    end
    return ours == 1 or (message ~= nil and C.moon_lua_clock() < (lasting[name] or 0))
end

function M.timers.release(name, token)
    lasting[name] = nil
    local _, message = open().release({ key("timer", name, "lease") }, { token })
    if message then
        log.warn(("timer %s: its lease is not given back: %s; it ends by itself"):format(name,
            message), {})
    end
end

return M
