--- What r:subscribe makes: a task that runs a function for each message.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local tasks = require "moonshine.tasks"
local wait = require "moonshine.wait"

local C = ffi.C
local core = native.redis
local QUEUE = 1000

local M = {}

---@class moonshine.RedisSubscription
local Subscription = {}
Subscription.__index = Subscription

-- Tells who made it what Redis said.
local function report(self)
    local answer = core.confirmed(self.number_of)
    if answer and self.maker then
        C.moon_task_unpark(self.maker)
        self.answer, self.maker = answer, nil
    end
end

-- While it waits for a message it ends at once with its code; what has come by then is
-- still worked off.
local function read(self)
    while true do
        local message, channel = core.next(self.number_of)
        if message == true then
            C.moon_task_set_timer(true)
            wait.suspend()
            C.moon_task_set_timer(false)
            report(self)
        elseif message == nil then
            return
        else
            self.call(message, channel)
            wait.park(0, "subscription") -- others have their turn
        end
    end
end

local function start(self)
    if not tasks.start(self, false) then
        core.forget(self.number_of)
        return nil, "too many tasks", 503
    end
    return self
end

-- When it returns messages come: new code asks for them before the old code lets go. A
-- Redis that is not there now is waited for, but not here.
local function await(self, seconds)
    local deadline = C.moon_lua_clock() + seconds
    self.maker = C.moon_task_current()
    while self.maker do
        if not wait.park(seconds, "subscribe", deadline) then
            self.maker = nil
        end
        seconds = math.max(0, deadline - C.moon_lua_clock())
    end
end

function Subscription:finished()
    report(self)
    core.forget(self.number_of)
end

function Subscription:died(kind, value, traceback)
    tasks.log_death("subscription to " .. self.what, kind, value, traceback)
    if kind == "cancelled" or kind == "retired" or kind == "stop" or not start(self) then
        core.forget(self.number_of)
    end
end

--- No more messages. A run in progress goes on to its end.
function Subscription:cancel()
    core.unsubscribe(self.number_of)
end

--- How many messages found no room in the queue.
---@return integer
function Subscription:dropped()
    return core.dropped(self.number_of)
end

local known = fault.set "queue"

local function list_of(names, what)
    names = type(names) == "string" and { names } or names
    if type(names) ~= "table" or #names == 0 then
        fault.raise("redis: %s: the first argument must be a name or a list of names", what)
    end
    for _, name in ipairs(names) do
        fault.want(name, "string", "redis: " .. what .. ": a name")
    end
    return names
end

--- See moonshine/redis.lua.
function M.new(client, what, are_patterns, names, fn, options)
    names = list_of(names, what)
    fault.want(fn, "function", "redis: " .. what .. ": the second argument")
    options = options or {}
    fault.check_keys(options, known, "redis: " .. what)
    local queue = options.queue or QUEUE
    if type(queue) ~= "number" or queue < 1 or queue % 1 ~= 0 then
        fault.raise("redis: %s: queue must be a whole number from 1, not %s", what,
            tostring(queue))
    end
    wait.check("redis: " .. what)
    if C.moon_req_current() ~= 0 then
        fault.raise("redis: %s lasts longer than a request: use it in app:on_start, or in a task "
            .. "of moonshine.spawn", what)
    end
    local number, message, code = core.subscribe(client[1], names, are_patterns, queue)
    if not number then
        return nil, message, code
    end
    local self = setmetatable({
        call = fn, number_of = number, fn = read, what = table.concat(names, ", "),
    }, Subscription)
    self.args = { n = 1, self }
    local started
    started, message, code = start(self)
    if not started then
        return nil, message, code
    end
    await(self, client[3] / 1000)
    if type(self.answer) == "string" then
        return nil, client[4] .. ": " .. self.answer, 502
    end
    return self
end

return M
