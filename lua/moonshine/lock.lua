--- moonshine.lock: one at a time, over all workers of a node or all nodes.
local crypto = require "moonshine.crypto"
local fault = require "moonshine.fault"
local log = require "moonshine.log"
local native = require "moonshine.native"
local shared = require "moonshine.shared"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"

local M = {}

local WAIT_MIN, WAIT_MAX = 0.002, 0.1

--- What holds locks of the node: take(name, ttl) -> token or nil, and
--- release(name, token) -> was it still ours?
M.node = {}

function M.node.take(name, ttl)
    local token = crypto.random(16)
    return shared.internal():add("lock:" .. name, token, ttl) and token or nil
end

function M.node.release(name, token)
    return shared.delete_if(shared.internal(), "lock:" .. name, token)
end

--- The same for the turns of timers, and when each had its last one.
M.timers = {}

function M.timers.take(name, ttl)
    return M.node.take("timer " .. name, ttl)
end

function M.timers.release(name, token)
    return M.node.release("timer " .. name, token)
end

--- Is it still ours? Then for `ttl` more.
function M.timers.renew(name, token, ttl)
    local dict, key = shared.internal(), "lock:timer " .. name
    return dict:get(key) == token and dict:set(key, token, ttl) == true
end

function M.timers.last_run(name)
    return shared.internal():get("ran:" .. name)
end

function M.timers.set_last_run(name, when)
    shared.internal():set("ran:" .. name, when)
end

local known = fault.set "wait scope"
local scopes = fault.set "node cluster"

--- Raises unless there is such a scope here: what holds it, of a module with one keeper
--- for each. A test process is a cluster of its own.
function M.keeper(scope, node, kind, what)
    if scope == "node" or native.info().test then
        return node
    end
    local cluster = require "moonshine.cluster"
    local missing = cluster.missing()
    if missing then
        fault.raise('%s: scope = "cluster" needs %s', what, missing)
    end
    return cluster[kind]
end

-- The token and the number of the holder; nil when the time is over, or nil, message,
-- code.
local function take(keeper, name, ttl, wait)
    local pause = WAIT_MIN
    while true do
        local token, fence, code = keeper.take(name, ttl)
        if token or code or wait <= 0 then
            return token, fence, code
        end
        pause = math.min(pause, wait)
        tasks.sleep(pause)
        wait, pause = wait - pause, math.min(pause * 2, WAIT_MAX)
    end
end

--- Runs fn unless somebody else holds the lock of that name: true and what fn
--- returned; or nil, "locked", 409. The lock ends with fn, whatever its outcome, and
--- after `ttl` if its holder is gone; a holder that takes longer is warned of.
---
--- With scope "cluster" it holds for all nodes that share the Redis of cluster.url; fn is
--- given a number that is larger for each holder, so that what it writes to can refuse an
--- earlier one that believes it still holds the lock. nil, message, 503 or 504 when Redis
--- cannot tell.
---@param name string
---@param ttl number|string
---@param fn fun(fence?: integer): any
---@param options? {wait?: number|string, scope?: "node"|"cluster"} wait: default not at all.
---@return boolean? ok
---@return any ...
function M.lock(name, ttl, fn, options)
    fault.want(name, "string", "moonshine.lock: the name")
    local seconds = units.seconds(ttl, "moonshine.lock: the time to live")
    fault.want(fn, "function", "moonshine.lock: the third argument")
    options = options or {}
    fault.check_keys(options, known, "moonshine.lock")
    if seconds <= 0 then
        fault.raise("moonshine.lock: the time to live must be more than 0")
    end
    local wait = units.seconds(options.wait or 0, "moonshine.lock: wait")
    local scope = options.scope or "node"
    if not scopes[scope] then
        fault.raise("moonshine.lock: no scope '%s'%s", tostring(scope), fault.hint(scope, scopes))
    end
    local keeper = M.keeper(scope, M.node, "locks", "moonshine.lock")
    local token, fence, code = take(keeper, name, seconds, wait)
    if not token then
        return nil, fence or "locked", code or 409
    end
    return true, tasks.protect(function()
        if not keeper.release(name, token) then
            log.warn(("lock '%s' was held for longer than its time to live"):format(name), {})
        end
    end, fn, fence)
end

return M
