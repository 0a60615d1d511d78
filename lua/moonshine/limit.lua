--- moonshine.limit: token buckets, leaky buckets, sliding windows.
---
--- A limit is an object: middleware for an app, a group or a route, and methods
--- for handlers. What is counted lies in the core, under the limit's name.
local ffi = require "ffi"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"

local C = ffi.C
local M = {}

-- The core's numbers.
local kinds = { token_bucket = 0, leaky_bucket = 1, sliding_window = 2 }
local by = { ip = 0, all = 1, route = 2, header = 3, lua = 4 }

local CLAIMS_MAX = 8 -- MOON_LIMIT_CLAIMS_MAX
local numbers = ffi.new("uint16_t[?]", CLAIMS_MAX)
local keys = ffi.new("moon_bytes[?]", CLAIMS_MAX)
local result = ffi.new "moon_limit_result"

---@class moonshine.Limit
local Limit = {}
Limit.__index = function(_, key)
    return Limit[key] or fault.unknown("a limit", key, { take = true, peek = true, reset = true })
end

--- Is this value a limit?
function M.is(value)
    return type(value) == "table" and getmetatable(value) == Limit
end

-- ---- making ----

local known = fault.set "rate per burst key scope on_store_error name cost status dry_run"

local function whole(value, least, what)
    if type(value) ~= "number" or value % 1 ~= 0 or value < least or value > 2 ^ 32 - 2 then
        fault.raise("%s must be a whole number from %d, not %s", what, least, fault.show(value))
    end
    return value
end

-- What it counts by: number, header, function.
local function read_key(key, what)
    if type(key) == "function" then
        return by.lua, "", key
    elseif key == nil or key == "ip" then
        return by.ip, ""
    elseif key == "all" or key == "route" then
        return by[key], ""
    end
    local header = type(key) == "string" and key:match("^header:([%w-]+)$")
    if header then
        return by.header, header
    end
    fault.raise('%s: key must be "ip", "all", "route", "header:NAME" or a function, not %s', what,
        fault.show(key))
end

local function make(kind, options)
    local what = "limit." .. kind
    fault.check_keys(options, known, what)
    if options.scope ~= nil and options.scope ~= "node" then
        fault.raise('%s: scope must be "node", not %s', what, fault.show(options.scope))
    end
    local limit = {
        kind = kind, source = fault.where(2) or "?", number = false,
        rate = whole(options.rate, 1, what .. ": rate"),
        period = units.seconds(options.per or 1, what .. ": per"),
        cost = whole(options.cost or 1, 0, what .. ": cost"),
        status = options.status or 429,
        dry_run = options.dry_run and true or false,
        name = options.name or false, key_of = false,
    }
    limit.by, limit.header, limit.key_of = read_key(options.key, what)
    limit.key_of = limit.key_of or false
    limit.burst = options.burst == nil and limit.rate
        or whole(options.burst, kind == "leaky_bucket" and 0 or 1, what .. ": burst")
    if kind == "sliding_window" and options.burst ~= nil then
        fault.raise("%s takes no burst: all of rate may come at once", what)
    elseif limit.period <= 0 then
        fault.raise("%s: per must be more than 0", what)
    elseif type(limit.status) ~= "number" or limit.status < 400 or limit.status > 599 then
        fault.raise("%s: status must be from 400 to 599, not %s", what, fault.show(limit.status))
    elseif limit.name and (type(limit.name) ~= "string" or #limit.name > 64
        or not limit.name:find("^[%w%-%._/:%*<> ]+$")) then
        fault.raise("%s: name must be of letters, digits, spaces and -._/:*<>, at most 64 bytes, "
            .. "not %s", what, fault.show(limit.name))
    end
    M.made[#M.made + 1] = limit
    return setmetatable(limit, Limit)
end

--- Every limit of this code, in the order of making.
M.made = {}

---@class moonshine.LimitOptions
---@field rate integer How many pass per `per`.
---@field per? number|string Default 1 s.
---@field burst? integer Buckets: how many may come at once (leaky: wait). Default: rate.
---@field key? string|fun(c: moonshine.Context): string|number|nil Default "ip".
---@field name? string Its state is kept under it, also over a reload.
---@field cost? integer What one request takes; default 1.
---@field status? integer Of a refusal; default 429.
---@field dry_run? boolean Counts and logs, refuses nothing.

--- `burst` requests pass at once, and `rate` per `per` in the long run.
---@param options moonshine.LimitOptions
---@return moonshine.Limit
function M.token_bucket(options)
    return make("token_bucket", options)
end

--- Requests leave at the rate; `burst` of them wait for their turn, more are
--- refused.
---@param options moonshine.LimitOptions
---@return moonshine.Limit
function M.leaky_bucket(options)
    return make("leaky_bucket", options)
end

--- `rate` requests in any `per`, whenever they come.
---@param options moonshine.LimitOptions
---@return moonshine.Limit
function M.sliding_window(options)
    return make("sliding_window", options)
end

-- ---- freezing ----

-- RateLimit-Policy: at least a second, and then as many as that lets through.
local function policy_of(limit)
    local window = math.ceil(limit.period)
    local quota = limit.kind == "sliding_window" and limit.rate
        or math.floor(limit.rate * window / limit.period)
    return ('"%s";q=%d;w=%d'):format(limit.name, quota, window)
end

--- Gives every limit its number in the core. One that was not named and is not
--- attached anywhere is called by its place.
function M.freeze()
    local names = {}
    for _, limit in ipairs(M.made) do
        limit.name = limit.name or limit.source
        local first = names[limit.name]
        if first then
            error(("%s: the limit's name '%s' is taken by the one at %s"):format(limit.source,
                limit.name, first.source), 0)
        end
        names[limit.name] = limit
        local number = native.add_limit(kinds[limit.kind], limit.rate, limit.period, limit.burst,
            limit.name, policy_of(limit), limit.by, limit.header, limit.cost, limit.status,
            limit.dry_run)
        if not number then
            error(("%s: limit.%s: %d per %g s with a burst of %d is out of range"):format(
                limit.source, limit.kind, limit.rate, limit.period, limit.burst), 0)
        end
        limit.number = number
    end
end

--- Names a limit after the first place where it is attached.
function M.name_after(limit, place, ordinal)
    limit.name = limit.name or ("%s %s %d"):format(place, limit.kind, ordinal):sub(1, 64)
end

--- Can it be decided without Lua?
function M.is_native(limit)
    return limit.by ~= by.lua
end

-- ---- holding requests against them ----

local function text_of(key, limit)
    local kind = type(key)
    if kind == "string" then
        return key
    elseif kind == "number" then
        return tostring(key)
    elseif key ~= nil then
        error(("%s: the key function of limit '%s' returned a %s: a string, a number or nil")
            :format(limit.source, limit.name, kind), 0)
    end
    return nil
end

-- The keys that Lua has to make. They stay referenced while the core reads them.
local function make_keys(c, list)
    local texts = {}
    for i = 1, #list do
        local limit = list[i]
        if limit.key_of then
            texts[i] = text_of(limit.key_of(c), limit)
        end
    end
    return texts
end

local function hold(c, list)
    local texts = make_keys(c, list)
    for i = 1, #list do
        local text, key = texts[i], keys[i - 1]
        numbers[i - 1] = list[i].number
        key.ptr, key.len = text, text and #text or 0
    end
    C.moon_limit_check(c[1], numbers, keys, #list, result)
    if not result.allowed then
        error(failure.new("limit", result.status, "Too many requests."), 0)
    end
    return result.delay
end

--- One middleware for limits that stand side by side: all are checked, then all
--- are taken.
function M.group(list)
    return function(c, proceed)
        local delay = hold(c, list)
        if delay > 0 then
            tasks.sleep(delay)
        end
        return proceed(c)
    end
end

-- ---- for handlers ----

local function check_use(limit, key, what)
    if not M.is(limit) then
        fault.raise("call it with a colon: limit:%s(key)", what)
    elseif not limit.number then
        fault.raise("limit:%s: not while the app loads: in a handler, or in app:on_start", what)
    end
    local text = text_of(key, limit)
    return text or fault.raise("limit:%s: the key must be a string, not nil", what)
end

local function answer()
    return result.allowed, result.remaining, result.allowed and result.delay or result.retry
end

--- Takes for a key: allowed?, how many are left, and seconds: to wait (allowed,
--- leaky bucket) or until it may pass (refused).
---@param key string|number
---@param cost? integer Default: the limit's.
---@return boolean allowed
---@return integer remaining
---@return number seconds
function Limit:take(key, cost)
    local text = check_use(self, key, "take")
    cost = cost == nil and self.cost or whole(cost, 0, "limit:take: cost")
    C.moon_limit_take(self.number, text, #text, cost, result)
    return answer()
end

--- The same without taking.
---@param key string|number
---@return boolean allowed
---@return integer remaining
---@return number seconds
function Limit:peek(key)
    local text = check_use(self, key, "peek")
    C.moon_limit_peek(self.number, text, #text, result)
    return answer()
end

--- Gives a key its whole quota again.
---@param key string|number
function Limit:reset(key)
    local text = check_use(self, key, "reset")
    C.moon_limit_reset(self.number, text, #text)
end

--- So that it can be used as middleware; chains use M.group instead.
function Limit:__call(c, proceed)
    return M.group { self }(c, proceed)
end

--- What applications see.
M.public = setmetatable({
    token_bucket = M.token_bucket, leaky_bucket = M.leaky_bucket,
    sliding_window = M.sliding_window,
}, {
    __index = function(limits, key)
        fault.unknown("moonshine.limit", key, limits)
    end,
})

return M
