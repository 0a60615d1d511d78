--- moonshine.every: functions that run again and again.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local log = require "moonshine.log"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C = ffi.C
local M = { worker_id = 0 }

---@class moonshine.Timer
local Timer = {}
Timer.__index = Timer

local function is_over(timer)
    return timer.cancelled or C.moon_vm_stopping()
end

-- Between two runs the timer ends at once when its code is replaced; a run in
-- progress goes on to its end.
local function loop(timer)
    if timer.now then
        timer.now = false
        timer.call()
    end
    while not is_over(timer) do
        timer.next = math.max(timer.next + timer.interval, C.moon_lua_clock())
        C.moon_task_set_timer(true)
        while not timer.cancelled and timer.next > C.moon_lua_clock() do
            wait.park(timer.next - C.moon_lua_clock(), "timer")
        end
        C.moon_task_set_timer(false)
        if not is_over(timer) then
            timer.call()
        end
    end
end

local function start_timer(timer)
    if not tasks.start(timer, false) then
        log.error("timer " .. timer.name .. " was not started: too many tasks")
    end
end

function Timer.finished()
end

function Timer:died(kind, value, traceback)
    tasks.log_death("timer " .. self.name, kind, value, traceback)
    if not self.cancelled and not C.moon_vm_stopping() then
        start_timer(self)
    end
end

--- No more runs; one in progress goes on to its end.
function Timer:cancel()
    self.cancelled = true
    if self.number then
        C.moon_task_unpark(self.number)
    end
end

local timer_options = fault.set "name scope now"
local scopes = fault.set "node worker cluster"

--- Runs fn again and again, never two at once. With scope "node" (the default)
--- one worker of the node does it, with "worker" each.
---@param interval number|string
---@param fn fun()
---@param options? {name?: string, scope?: "node"|"worker", now?: boolean}
---@return moonshine.Timer
function M.every(interval, fn, options)
    local seconds = units.seconds(interval, "moonshine.every: the interval")
    if seconds <= 0 then
        fault.raise("moonshine.every: the interval must be more than 0")
    end
    fault.want(fn, "function", "moonshine.every: the second argument")
    options = options or {}
    fault.check_keys(options, timer_options, "moonshine.every")
    local scope = options.scope or "node"
    if not scopes[scope] then
        fault.raise("moonshine.every: no scope '%s'%s", tostring(scope), fault.hint(scope, scopes))
    elseif scope == "cluster" then
        fault.raise('moonshine.every: scope = "cluster" needs a store shared by the nodes')
    end
    local timer = setmetatable({
        name = options.name or fault.where(2) or "?",
        call = fn, interval = seconds, now = options.now, cancelled = false,
        fn = loop, next = C.moon_lua_clock(),
    }, Timer)
    timer.args = { n = 1, timer }
    if scope == "node" and M.worker_id > 1 then
        return timer -- worker 1 runs it, and is replaced at once if it dies
    elseif tasks.active then
        start_timer(timer)
    else
        table.insert(tasks.recorded, function()
            timer.next = C.moon_lua_clock()
            start_timer(timer)
        end)
    end
    return timer
end

return M
