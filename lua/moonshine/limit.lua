--- moonshine.limit: token buckets, leaky buckets, sliding windows, concurrency.
---
--- A limit is an object: middleware for an app, a group or a route, and methods
--- for handlers. What is counted lies in the core, under the limit's name.
local ffi = require "ffi"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local session = require "moonshine.session"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

-- The core's numbers.
local kinds = { token_bucket = 0, leaky_bucket = 1, sliding_window = 2, concurrency = 3 }
local by = { ip = 0, all = 1, route = 2, header = 3, lua = 4, session = 5 }
local store_errors = { ["local"] = 0, open = 1, closed = 2 }

local CLAIMS_MAX = 8 -- MOON_LIMIT_CLAIMS_MAX
local LEASE = 60     -- seconds that a request may count as running, by default
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
local known_concurrency = fault.set "max lease key scope on_store_error name status dry_run"

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
    elseif key == "session" then
        return by.session, "", session.limit_key
    end
    local header = type(key) == "string" and key:match("^header:([%w-]+)$")
    if header then
        return by.header, header
    end
    fault.raise('%s: key must be "ip", "all", "route", "session", "header:NAME" or a function, '
        .. "not %s", what, fault.show(key))
end

-- How much may pass.
local function read_rate(limit, options, what)
    limit.rate = whole(options.rate, 1, what .. ": rate")
    limit.period = units.seconds(options.per or 1, what .. ": per")
    limit.cost = whole(options.cost or 1, 0, what .. ": cost")
    limit.burst = options.burst == nil and limit.rate
        or whole(options.burst, limit.kind == "leaky_bucket" and 0 or 1, what .. ": burst")
    if limit.kind == "sliding_window" and options.burst ~= nil then
        fault.raise("%s takes no burst: all of rate may come at once", what)
    elseif limit.period <= 0 then
        fault.raise("%s: per must be more than 0", what)
    end
end

-- How many may be there: kept in the same fields.
local function read_concurrency(limit, options, what)
    limit.rate = whole(options.max, 1, what .. ": max")
    limit.period = units.seconds(options.lease or LEASE, what .. ": lease")
    limit.cost, limit.burst = 1, limit.rate
    if limit.period <= 0 then
        fault.raise("%s: lease must be more than 0", what)
    end
end

-- Who holds it, and what holds while the cluster gives no answer (nil: as
-- configured).
local function read_scope(limit, options, what)
    local scope, on_error = options.scope or "node", options.on_store_error
    if scope ~= "node" and scope ~= "cluster" then
        fault.raise('%s: scope must be "node" or "cluster", not %s', what,
            fault.show(scope))
    elseif on_error ~= nil and not store_errors[on_error] then
        fault.raise('%s: on_store_error must be "local", "open" or "closed", not %s', what,
            fault.show(on_error))
    elseif on_error and scope == "node" then
        fault.raise('%s: on_store_error is for scope = "cluster"', what)
    end
    limit.cluster = scope == "cluster"
    limit.on_error = on_error and store_errors[on_error] or false
end

local function make(kind, options)
    local what = "limit." .. kind
    fault.check_keys(options, kind == "concurrency" and known_concurrency or known, what)
    local limit = {
        kind = kind, source = fault.where(2) or "?", number = false,
        status = options.status or 429,
        dry_run = options.dry_run and true or false,
        name = options.name or false, key_of = false,
    }
    read_scope(limit, options, what)
    if kind == "concurrency" then
        read_concurrency(limit, options, what)
    else
        read_rate(limit, options, what)
    end
    limit.by, limit.header, limit.key_of = read_key(options.key, what)
    limit.key_of = limit.key_of or false
    if type(limit.status) ~= "number" or limit.status < 400 or limit.status > 599 then
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
---@field scope? "node"|"cluster" Who holds it together; default "node".
---@field on_store_error? "local"|"open"|"closed" Cluster: while Redis gives no
---answer, each node holds its share, or lets pass what a node alone would, or
---refuses. Default: `limits.on_store_error`.

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

---@class moonshine.ConcurrencyOptions
---@field max integer How many requests may run at once.
---@field lease? number|string How long one counts at most; default 60 s.
---@field key? string|fun(c: moonshine.Context): string|number|nil Default "ip".
---@field name? string It is kept under it, also over a reload.
---@field status? integer Of a refusal; default 429.
---@field dry_run? boolean Counts and logs, refuses nothing.
---@field scope? "node"|"cluster" As of the others.
---@field on_store_error? "local"|"open"|"closed"

--- `max` requests run at once, on all workers together. One counts until its
--- task is over, however that ends, but no longer than its lease.
---@param options moonshine.ConcurrencyOptions
---@return moonshine.Limit
function M.concurrency(options)
    return make("concurrency", options)
end

-- ---- freezing ----

-- RateLimit-Policy: at least a second, and then as many as that lets through.
local function policy_of(limit)
    if limit.kind == "concurrency" then
        return ('"%s";q=%d;qu="concurrent-requests"'):format(limit.name, limit.rate)
    end
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
            limit.dry_run, limit.cluster, limit.on_error or nil)
        if not number and limit.kind == "concurrency" then
            error(("%s: limit.concurrency: a lease of %g s is out of range"):format(
                limit.source, limit.period), 0)
        elseif not number then
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
    return limit.by ~= by.lua and limit.by ~= by.session
end

--- For people: "token_bucket, 100 per 1s".
function M.describe(limit)
    if limit.kind == "concurrency" then
        return ("concurrency, %d at once"):format(limit.rate)
    end
    return ("%s, %d per %gs"):format(limit.kind, limit.rate, limit.period)
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

-- The answer of the cluster, if that was asked.
local function await(answer)
    if result.hold ~= nil then
        local held = result.hold
        wait.suspend()
        answer(held, result)
    end
end

local function hold(c, list)
    local texts = make_keys(c, list)
    for i = 1, #list do
        if list[i].cluster then
            wait.check("a limit of the cluster")
        end
    end
    for i = 1, #list do
        local text, key = texts[i], keys[i - 1]
        numbers[i - 1] = list[i].number
        key.ptr, key.len = text, text and #text or 0
    end
    C.moon_limit_check(c[1], numbers, keys, #list, result)
    await(C.moon_limit_answer)
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
    if limit.cluster and what ~= "reset" then
        wait.check("limit:" .. what)
    end
    local text = text_of(key, limit)
    return text or fault.raise("limit:%s: the key must be a string, not nil", what)
end

-- Who takes of it holds it until the request is over.
local function check_concurrency(cost)
    if cost ~= nil and cost ~= 1 then
        fault.raise("limit:take: of a limit of concurrency one takes 1, not %s", tostring(cost))
    elseif C.moon_req_current() == 0 then
        fault.raise("limit:take: a limit of concurrency only in a request, until whose end "
            .. "it is held")
    end
end

local function answer()
    return result.allowed, result.remaining, result.allowed and result.delay or result.retry
end

--- Takes for a key: allowed?, how many are left, and seconds: to wait (allowed,
--- leaky bucket) or until it may pass (refused). Concurrency is held until the
--- request is over.
---@param key string|number
---@param cost? integer Default: the limit's.
---@return boolean allowed
---@return integer remaining
---@return number seconds
function Limit:take(key, cost)
    local text = check_use(self, key, "take")
    if self.kind == "concurrency" then
        check_concurrency(cost)
    end
    cost = cost == nil and self.cost or whole(cost, 0, "limit:take: cost")
    C.moon_limit_take(self.number, text, #text, cost, result)
    await(C.moon_limit_answer_one)
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
    await(C.moon_limit_answer_one)
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
    sliding_window = M.sliding_window, concurrency = M.concurrency,
}, {
    __index = function(limits, key)
        fault.unknown("moonshine.limit", key, limits)
    end,
})

return M
