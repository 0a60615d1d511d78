--- moonshine.lock: one at a time, over all workers of a node.
local crypto = require "moonshine.crypto"
local fault = require "moonshine.fault"
local log = require "moonshine.log"
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
    return shared.internal():get("last:" .. name)
end

function M.timers.set_last_run(name, when)
    shared.internal():set("last:" .. name, when)
end

local known = fault.set "wait"

-- The token, or nil when the time is over.
local function take(keeper, name, ttl, wait)
    local pause = WAIT_MIN
    while true do
        local token = keeper.take(name, ttl)
        if token or wait <= 0 then
            return token
        end
        pause = math.min(pause, wait)
        tasks.sleep(pause)
        wait, pause = wait - pause, math.min(pause * 2, WAIT_MAX)
    end
end

--- Runs fn unless somebody else holds the lock of that name: true and what fn
--- returned; or nil, "locked", 409. The lock ends with fn, whatever its outcome, and
--- after `ttl` if its holder is gone; a holder that takes longer is warned of.
---@param name string
---@param ttl number|string
---@param fn fun(): any
---@param options? {wait?: number|string} How long to wait for it; default not at all.
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
    local token = take(M.node, name, seconds, wait)
    if not token then
        return nil, "locked", 409
    end
    return true, tasks.protect(function()
        if not M.node.release(name, token) then
            log.warn(("lock '%s' was held for longer than its time to live"):format(name), {})
        end
    end, fn)
end

return M
