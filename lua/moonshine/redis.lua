--- moonshine.redis: the client of the core, as Lua sees it.
---
--- The core has the links, one for each master and worker, whatever code runs; a
--- client here is a number that the core knows it by.
local batches = require "moonshine.redis_batch"
local commands = require "moonshine.redis_commands"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local core = native.redis
local send, result = core.send, core.result
local suspend, check_wait = wait.suspend, wait.check
local find, check_command = commands.find, commands.check
local READ_ONLY = 1 -- of state/redis.h

local M = {}

--- Any command of Redis is a method: r:get("key"), r:hset("key", "field", 1). Places 1 to
--- 4 hold: the number, that of its own link or 0, the time of a command in milliseconds,
--- the URL to show.
---@class moonshine.Redis
---@field [string] fun(self: moonshine.Redis, ...: string|number): any, string?, integer?
local Redis = {}

--- A link of one's own, within r:dedicated.
---@class moonshine.RedisLink : moonshine.Redis
local Link = {}

local metatables = {} -- of both kinds

local function check_self(self, what)
    if type(self) ~= "table" or not metatables[getmetatable(self)] then
        fault.raise("redis: %s: call it with a colon, as a method of a client", what)
    end
    if self.over then
        fault.raise("redis: %s: this link was given back when the function of r:dedicated "
            .. "returned", what)
    end
end

local advice = {
    boolean = "a boolean: say what to store for it, such as 1 and 0",
    table = "a table: moonshine.json.encode makes text of it, unpack makes several arguments",
    ["nil"] = "nil: r:del(key) removes a value",
    number = "nan",
}

-- Why the nth argument is none.
local function refuse(spec, index, ...)
    local value = select(index, ...)
    local what = advice[type(value)] or "a " .. type(value)
    if type(value) == "function" then
        what = what .. fault.hint(spec.name:lower(), Redis)
    end
    fault.raise("redis: %s: argument %d must be a string or a number, not %s", spec.name, index,
        what)
end

local function run(self, spec, ...)
    check_self(self, spec.name)
    local own = self[2]
    local block = check_command(spec, own ~= 0, ...)
    local key = spec.key
    if type(key) ~= "number" then
        key = key(...)
    end
    if spec.dirty or (spec.changes and spec.changes(...)) then
        self.dirty = true
    end
    check_wait(spec.what)
    local begun, message, code = send(self[1], own, block and block + self[3] or 0,
        spec.read_only and READ_ONLY or 0, key, spec.name, ...)
    if begun then
        suspend()
        return result(self[1], spec.map ~= nil and spec.map(...))
    elseif begun == false then
        refuse(spec, message, ...)
    end
    return nil, message, code
end

--- Sends a command: what it answers, nil for what is missing; or nil, message, code: 502
--- for an error of Redis, 503 when it cannot be reached, 504 when no answer came in time.
---@param command string
---@param ... string|number
---@return any
---@return string?
---@return integer?
function Redis:call(command, ...)
    return run(self, find(command, "redis: call"), ...)
end

-- ---- several at once ----

local function run_batch(self, what, atomic, fn)
    check_self(self, what)
    fault.want(fn, "function", what .. ": the argument")
    local list, timeout = batches.record(self[2] ~= 0, atomic, what, fn)
    if #list == 0 then
        return native.json.array {}
    end
    check_wait("redis: " .. what)
    local begun, message, code = core.batch(self[1], self[2],
        timeout > 0 and timeout + self[3] or 0, batches.flags(list, atomic), list)
    if not begun then
        return nil, message, code
    end
    suspend()
    local answers, why, status, part = result(self[1], list)
    if answers ~= nil then
        return answers
    elseif why == nil then
        return nil, "a key that was watched has changed", 409
    end
    return nil, why, status, part
end

--- Sends what fn asks of its argument in one go: the list of the answers, in which false
--- stands for what is missing and { err = message } for an error. When only some answers
--- came: nil, message, code and the list of these.
---@param fn fun(p: moonshine.Redis)
---@return any[]?
---@return string?
---@return integer?
---@return any[]? part
function Redis:pipeline(fn)
    return run_batch(self, "pipeline", false, fn)
end

--- The same as one transaction (MULTI, EXEC): all of it is executed, or nothing is. On a
--- link that watches a key which was changed: nil, message, 409.
---@param fn fun(m: moonshine.Redis)
---@return any[]?
---@return string?
---@return integer?
function Redis:multi(fn)
    return run_batch(self, "multi", true, fn)
end

-- ---- scripts ----

---@class moonshine.RedisScript
---@overload fun(keys?: (string|number)[], args?: (string|number)[]): any, string?, integer?
local Script = {}
Script.__index = Script

local function texts(list, what)
    local copy = {}
    if list ~= nil and type(list) ~= "table" then
        fault.raise("redis: a script takes lists: script({ key }, { argument }), %s is a %s", what,
            type(list))
    end
    for i = 1, list and #list or 0 do
        local value = list[i]
        copy[i] = type(value) == "number" and core.text(value) or value
        if type(copy[i]) ~= "string" then
            fault.raise("redis: a script's %s must be strings or numbers, number %d is a %s", what,
                i, type(value))
        end
    end
    return copy
end

function Script:__call(keys, args)
    keys, args = texts(keys, "keys"), texts(args, "arguments")
    check_wait("redis: a script")
    local begun, message, code = core.eval(self[1], self[2], keys, args)
    if not begun then
        return nil, message, code
    end
    suspend()
    return result(self[1])
end

--- A script that is sent once and then run by its hash: call it with a list of keys and a
--- list of arguments.
---@param source string
---@return moonshine.RedisScript
function Redis:prepare(source)
    check_self(self, "prepare")
    fault.want(source, "string", "redis: prepare: the source")
    local number, message = core.script(self[1], source)
    if not number then
        fault.raise("redis: prepare: %s", message)
    end
    return setmetatable({ self[1], number }, Script)
end

-- ---- links of one's own ----

local dedicated_options = fault.set "key"

--- Runs fn with a link that nobody else uses, for commands that block or change it. It is
--- given back when fn is over, whatever its outcome. Returns what fn returns, or nil,
--- message, code.
---@generic T
---@param fn fun(link: moonshine.RedisLink): T
---@param options? {key?: string} A key whose master to use, in a cluster.
---@return T?
---@return string?
---@return integer?
function Redis:dedicated(fn, options)
    check_self(self, "dedicated")
    fault.want(fn, "function", "redis: dedicated: the first argument")
    options = options or {}
    fault.check_keys(options, dedicated_options, "redis: dedicated")
    check_wait("redis: dedicated")
    local own, message, code = core.take(self[1],
        fault.want(options.key or "", "string", "redis: dedicated: key"))
    if not own then
        return nil, message, code
    end
    suspend()
    local _
    _, message, code = result(self[1])
    if message then
        core.give(own, false)
        return nil, message, code
    end
    local link = setmetatable({ self[1], own, self[3], self[4], over = false, dirty = false }, Link)
    return tasks.protect(function()
        link.over = true
        core.give(own, not link.dirty)
    end, fn, link)
end

-- ---- subscriptions ----

--- Runs fn(message, channel) for each message, one after the other, in a task of its own;
--- an error in it is logged. From app:on_start or a spawned task, for as long as this code
--- is live or until cancel(). A link that broke is made again; what was published
--- meanwhile is missed.
---@param channels string|string[]
---@param fn fun(message: string, channel: string)
---@param options? {queue?: integer} How many messages may wait; what is more is dropped. 1000.
---@return moonshine.RedisSubscription?
---@return string?
---@return integer?
function Redis:subscribe(channels, fn, options)
    check_self(self, "subscribe")
    return require("moonshine.redis_sub").new(self, "subscribe", false, channels, fn, options)
end

--- The same for all channels whose names fit patterns such as "news.*".
---@param patterns string|string[]
---@param fn fun(message: string, channel: string)
---@param options? {queue?: integer}
---@return moonshine.RedisSubscription?
---@return string?
---@return integer?
function Redis:psubscribe(patterns, fn, options)
    check_self(self, "psubscribe")
    return require("moonshine.redis_sub").new(self, "psubscribe", true, patterns, fn, options)
end

-- ---- methods by name ----

for name, fn in pairs(Redis) do
    Link[name] = fn
end
for _, name in ipairs { "prepare", "dedicated", "subscribe", "psubscribe" } do
    Link[name] = function()
        fault.raise("redis: %s is a method of the client, not of a link of its own", name)
    end
end

-- One function for each command, made when it is used first. Names that are not known
-- are not kept: there may be any number of them.
local made = {}

local function find_method(name)
    if made[name] then
        return made[name]
    end
    local spec, is_known = find(name, "redis")
    local function fn(self, ...)
        return run(self, spec, ...)
    end
    made[name] = is_known and fn or nil
    return fn
end

for _, methods in ipairs { Redis, Link } do
    local plain = {}
    for name, fn in pairs(methods) do
        plain[name] = fn
    end
    methods.__index = function(_, name)
        return plain[name] or find_method(name)
    end
    methods.__tostring = function(self)
        return "moonshine.redis " .. self[4]
    end
    metatables[methods] = true
end

-- ---- making ----

local known = fault.set "timeout connect_timeout max_pending"

local function time(value, default, what)
    return math.max(1, units.milliseconds(value == nil and default or value, what))
end

--- A client for a URL, by default that of the configuration (redis.url). May be called
--- while the app loads; nothing is sent before it is used.
---@param url? string
---@param options? {timeout?: number|string, connect_timeout?: number|string, max_pending?: integer}
---@return moonshine.Redis
function M.new(url, options)
    if type(url) == "table" and options == nil then
        url, options = nil, url
    end
    options = options or {}
    local config = native.info().redis
    if url == nil and config.url == "" then
        fault.raise("moonshine.redis: no URL; set redis.url, in config.lua: "
            .. 'redis = { url = "redis://127.0.0.1:6379" }')
    end
    url = fault.want(url or config.url, "string", "moonshine.redis: the URL")
    fault.check_keys(options, known, "moonshine.redis")
    local pending = options.max_pending or 0
    if type(pending) ~= "number" or pending < 0 or pending % 1 ~= 0 then
        fault.raise("moonshine.redis: max_pending must be a whole number, not %s",
            tostring(pending))
    end
    local timeout = time(options.timeout, config.timeout, "moonshine.redis: timeout")
    local number, shown = core.client(url,
        time(options.connect_timeout, config.connect_timeout, "moonshine.redis: connect_timeout"),
        timeout, pending)
    if not number then
        fault.raise("moonshine.redis: %s", shown)
    end
    return setmetatable({ number, 0, timeout, shown, over = false, dirty = false }, Redis)
end

return M
