--- Tasks: sleep, all, spawn.
---
--- C knows a task by its number; what it runs waits in `jobs` until C enters
--- main with that number.
local ffi = require "ffi"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local log = require "moonshine.log"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

local jobs = {}
M.recorded = {} -- what was asked for while loading
M.active = false

local function pack(...)
    return { n = select("#", ...), ... }
end

--- Suspends the task for a while; 0 lets others run.
---@param duration number|string
function M.sleep(duration)
    local seconds = units.seconds(duration, "moonshine.sleep: the time")
    wait.check("moonshine.sleep")
    local deadline = C.moon_lua_clock() + seconds
    -- Whoever waited for this task earlier may wake it in between.
    while wait.park(seconds, "sleep", deadline) do
        seconds = math.max(0, deadline - C.moon_lua_clock())
    end
end

-- ---- cleaning up ----

-- By task: what to run if it dies, the last first.
local cleanups = {}

--- Runs fn(...) and then `cleanup`, whatever the outcome: an error, and also an end
--- from outside, where nothing behind a pcall runs any more. Returns what fn
--- returned or raises what it raised.
function M.protect(cleanup, fn, ...)
    local number = C.moon_task_current()
    local entry = { run = cleanup, below = cleanups[number] }
    cleanups[number] = entry
    local results = pack(pcall(fn, ...))
    cleanups[number] = entry.below
    cleanup()
    if not results[1] then
        error(results[2], 0)
    end
    return unpack(results, 2, results.n)
end

--- The task of that number died.
function M.clean_up(number)
    local entry = cleanups[number]
    cleanups[number] = nil
    while entry do
        local ok, message = pcall(entry.run)
        if not ok then
            log.error("cleaning up failed: " .. tostring(message))
        end
        entry = entry.below
    end
end

-- ---- jobs ----

--- Queues a task for a job: fn, args, finished(results), died(kind, value, traceback).
function M.start(job, in_request)
    local number = C.moon_task_spawn(in_request)
    if number == 0 then
        return nil
    end
    job.number = number
    jobs[number] = job
    return number
end

--- Runs what was stored for the task of that number.
function M.run(number)
    local job = jobs[number]
    if not job then
        return
    end
    local args = job.args
    local results = pack(job.fn(unpack(args, 1, args.n)))
    jobs[number] = nil
    job:finished(results)
end

-- Parts of moonshine.all by the task that waits for them.
local groups = {}

local function cancel_parts(parts)
    for _, part in ipairs(parts) do
        if jobs[part.number] == part then
            C.moon_task_cancel(part.number)
        end
    end
end

--- The task of that number died. False if it is none of ours.
function M.failed(number, kind, value, traceback)
    local parts = groups[number]
    if parts then
        groups[number] = nil
        cancel_parts(parts)
    end
    local job = jobs[number]
    if not job then
        return false
    end
    jobs[number] = nil
    job:died(kind, value, traceback)
    return true
end

--- Logs why a task ended, unless it was asked to.
function M.log_death(what, kind, value, traceback)
    if kind == "cancelled" or kind == "retired" or kind == "stop" or kind == "disconnect" then
        return
    end
    local trace = fault.trim(traceback or "")
    log.error(what .. " failed: " .. require("moonshine.fail").message_of(value, trace), {
        kind = kind, traceback = trace ~= "" and trace or nil,
    })
end

-- ---- all ----

local Part = {}
Part.__index = Part

function Part:finished(results)
    local group = self.group
    group.results[self.index] = results[1]
    group.left = group.left - 1
    if group.left == 0 then
        C.moon_task_unpark(group.parent)
    end
end

-- Limits that a part exceeded are the request's: it is answered as if it had
-- exceeded them itself.
local limits = { cpu = true, memory = true, timeout = true }

function Part:died(kind, value)
    local group = self.group
    if not group.failed then
        group.failed = true
        group.value = limits[kind] and failure.new(kind, 503, tostring(value)) or value
        if M.part_died then
            M.part_died(group.value)
        end
        C.moon_task_unpark(group.parent)
    end
end

--- Runs functions side by side and returns the first result of each. The first
--- error ends the others and is raised here.
---@param ... fun(): any
---@return any ...
function M.all(...)
    local functions = pack(...)
    wait.check("moonshine.all")
    local group = { parent = C.moon_task_current(), left = functions.n, results = {} }
    local parts = {}
    for i = 1, functions.n do
        fault.want(functions[i], "function", "moonshine.all: argument " .. i)
    end
    for i = 1, functions.n do
        local part = setmetatable({
            fn = functions[i], args = { n = 0 }, group = group, index = i,
        }, Part)
        if not M.start(part, true) then
            cancel_parts(parts)
            error(failure.new("overload", 503, "too many tasks"), 0)
        end
        parts[i] = part
    end
    groups[group.parent] = parts
    while group.left > 0 and not group.failed do
        wait.park(nil, "all")
    end
    groups[group.parent] = nil
    if group.failed then
        cancel_parts(parts)
        error(group.value, 0)
    end
    return unpack(group.results, 1, functions.n)
end

-- ---- spawn ----

---@class moonshine.Task
local Handle = fault.close({}, "a task", { wait = true, cancel = true })
local metatable = { __index = Handle }

local function check_self(handle, what)
    if getmetatable(handle) ~= metatable then
        fault.raise("%s: call it with a colon: task:%s()", what, what)
    end
end

function Handle:finished(results)
    self.results = results
    self.done = true
    M.wake(self)
end

function Handle:died(kind, value, traceback)
    self.failure = require("moonshine.fail").safe_tostring(value)
    self.done = true
    M.log_death("spawned task", kind, value, traceback)
    M.wake(self)
end

--- Wakes whoever waits for a handle.
function M.wake(handle)
    local waiters = handle.waiters
    handle.waiters = {}
    for number in pairs(waiters) do
        C.moon_task_unpark(number)
    end
end

--- Waits for the task: true and what its function returned, or nil, message,
--- code (504 when the time is over, 500 when it failed).
---@param timeout? number|string
---@return boolean? ok
---@return any ... What the function returned, or the message and the code.
function Handle:wait(timeout)
    check_self(self, "wait")
    local seconds = timeout ~= nil and units.seconds(timeout, "wait: the timeout") or nil
    wait.check("wait")
    local deadline = seconds and C.moon_lua_clock() + seconds
    while not self.done do
        local left = deadline and deadline - C.moon_lua_clock()
        if left and left <= 0 then
            return nil, "timeout", 504
        end
        local me = C.moon_task_current()
        self.waiters[me] = true
        wait.park(left, "spawned task", deadline)
        self.waiters[me] = nil
    end
    if self.failure then
        return nil, self.failure, 500
    end
    return true, unpack(self.results, 1, self.results.n)
end

--- Ends the task.
function Handle:cancel()
    check_self(self, "cancel")
    if not self.done and self.number then
        C.moon_task_cancel(self.number)
    end
end

--- Runs a function as a task of its own, which outlives the request. Its errors
--- go to the log. Asked for while loading it starts when the code goes live.
---@param fn function
---@param ... any
---@return moonshine.Task? handle nil, message, 503 when too many tasks run.
---@return string?
---@return integer?
function M.spawn(fn, ...)
    fault.want(fn, "function", "moonshine.spawn: the first argument")
    local handle = setmetatable({
        fn = fn, args = pack(...), done = false, waiters = {}, number = false, results = false,
        failure = false,
    }, metatable)
    if C.moon_task_no_yield() ~= nil then
        table.insert(M.recorded, function()
            if not M.start(handle, false) then
                log.error("a task asked for while loading was not started: too many tasks")
            end
        end)
    elseif not M.start(handle, false) then
        return nil, "too many tasks", 503
    end
    return handle
end

--- The code is live: what was recorded begins.
function M.activate()
    M.active = true
    local list = M.recorded
    M.recorded = {}
    for _, begin in ipairs(list) do
        begin()
    end
end

return M
