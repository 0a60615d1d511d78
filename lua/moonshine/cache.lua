--- moonshine.cache: values that are dear to make, made once for all workers.
local crypto = require "moonshine.crypto"
local fault = require "moonshine.fault"
local log = require "moonshine.log"
local native = require "moonshine.native"
local shared = require "moonshine.shared"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"

local ffi = require "ffi"
local C = ffi.C
local json = native.json

-- Whoever makes a value says so for that long; then others try. Others look every
-- WAIT_MIN to WAIT_MAX seconds.
local FLIGHT, WAIT_MIN, WAIT_MAX = 10, 0.002, 0.05

---@class moonshine.Cache
local Cache = fault.close({}, "a cache")
local metatable = { __index = Cache }

-- An entry is "until when it is fresh:JSON".
local function read(cache, key)
    local text = cache.dict:get("v:" .. key)
    local fresh, body = nil, nil
    if text then
        fresh, body = text:match("^(%d+):(.*)$")
    end
    if not fresh then
        return nil
    end
    return { value = json.decode(body), fresh = C.moon_lua_now() * 1000 < tonumber(fresh) }
end

local function write(cache, key, value)
    local ok, body = pcall(json.encode, value)
    if not ok then
        fault.raise("cache:fetch: what fn returned cannot be kept: %s", body)
    end
    local fresh = math.floor((C.moon_lua_now() + cache.ttl) * 1000)
    local kept, message = cache.dict:set("v:" .. key, ("%d:%s"):format(fresh, body),
        cache.ttl + cache.stale)
    if not kept then
        log.warn(("cache '%s': %s is not kept: %s"):format(cache.name, key, message), {})
    end
end

-- Makes the value; whoever waits for it may go on afterwards.
local function make(cache, key, fn, token, old)
    local ok, value, message, code = tasks.protect(function()
        shared.delete_if(cache.dict, "f:" .. key, token)
    end, function()
        local ok, value, message, code = pcall(fn, key)
        if ok and value ~= nil then
            write(cache, key, value)
        end
        return ok, value, message, code
    end)
    if ok and (value ~= nil or not old) then
        return value, message, code
    elseif old then
        log.warn(("cache '%s': %s is served stale: %s"):format(cache.name, key,
            tostring(ok and message or value)), {})
        return old.value
    end
    error(value, 0)
end

--- The value of a key; if there is none, or it is older than `ttl`, what fn(key)
--- returns, which is then kept. However many ask, one of all workers makes it: the
--- others get the old value for as long as `stale` says, or wait. If fn fails, the
--- old value is returned, too; without one its error is raised, or what it
--- returned instead of a value (nil, message, code).
---@param key string|number
---@param fn fun(key: string|number): any, string?, integer?
---@return any
---@return string?
---@return integer?
function Cache:fetch(key, fn)
    fault.want(fn, "function", "cache:fetch: the second argument")
    if type(key) ~= "string" and type(key) ~= "number" then
        fault.raise("cache:fetch: the key must be a string, not %s", fault.kind(key))
    end
    local pause = WAIT_MIN
    while true do
        local entry = read(self, key)
        if entry and entry.fresh then
            return entry.value
        end
        local token = crypto.random(16)
        local first, _, code = self.dict:add("f:" .. key, token, FLIGHT)
        if first or code ~= 409 then
            return make(self, key, fn, token, entry)
        elseif entry then
            return entry.value
        end
        tasks.sleep(pause)
        pause = math.min(pause * 2, WAIT_MAX)
    end
end

--- Forgets a key. Was it there?
---@param key string|number
---@return boolean
function Cache:delete(key)
    return self.dict:delete("v:" .. key)
end

local M = {}

local known = fault.set "ttl stale"

--- A cache in the shared dictionary of that name (config.lua: shared = { name =
--- "10m" }). Values are JSON-able.
---@param name string
---@param options {ttl: number|string, stale?: number|string} Fresh for ttl, then stale.
---@return moonshine.Cache
function M.new(name, options)
    fault.check_keys(options, known, "moonshine.cache")
    local ttl = units.seconds(options.ttl, "moonshine.cache: ttl")
    if ttl <= 0 then
        fault.raise("moonshine.cache: ttl must be more than 0")
    end
    return setmetatable({
        name = name, dict = shared.open(name), ttl = ttl,
        stale = units.seconds(options.stale or 0, "moonshine.cache: stale"),
    }, metatable)
end

return M
