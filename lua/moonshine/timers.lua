--- moonshine.every: functions that run again and again.
---
--- With scope "worker" each worker runs its own. With "node" all of them keep the
--- timer, and a lease in shared memory decides at each turn who runs it; so it goes
--- on when a worker dies, and its turns go on over a reload.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local lock = require "moonshine.lock"
local log = require "moonshine.log"
local tasks = require "moonshine.tasks"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

-- A lease is renewed while its timer runs; it ends so long after its holder.
local LEASE, RENEW = 15, 5

---@class moonshine.Timer
local Timer = {}
Timer.__index = Timer

local function is_over(timer)
    return timer.cancelled or C.moon_vm_stopping()
end

-- Between two runs the timer ends at once when its code is replaced; a run in
-- progress goes on to its end.
local function rest(timer, seconds)
    local deadline = C.moon_lua_clock() + seconds
    C.moon_task_set_timer(true)
    while not timer.cancelled and deadline > C.moon_lua_clock() do
        wait.park(deadline - C.moon_lua_clock(), "timer", deadline)
    end
    C.moon_task_set_timer(false)
end

-- ---- scope "worker" ----

local function own_loop(timer)
    if timer.now then
        timer.now = false
        timer.call()
    end
    while not is_over(timer) do
        timer.next = math.max(timer.next + timer.interval, C.moon_lua_clock())
        rest(timer, timer.next - C.moon_lua_clock())
        if not is_over(timer) then
            timer.call()
        end
    end
end

-- ---- scope "node" ----

-- When its turn is, by the wall clock: an interval after the last one, whoever
-- had it, or after the code went live.
local function due_at(timer)
    local last = timer.keeper.last_run(timer.name)
    if last then
        return last + timer.interval
    end
    return timer.since + (timer.now and 0 or timer.interval)
end

local function keep_lease(timer, token)
    while timer.token == token do
        wait.park(RENEW, "timer's lease")
        if timer.token == token and not timer.keeper.renew(timer.name, token, LEASE) then
            log.warn(("timer %s lost its lease while it ran"):format(timer.name), {})
            return
        end
    end
end

local function run_with(timer, token)
    timer.token = token
    local keeper = tasks.spawn(keep_lease, timer, token)
    tasks.protect(function()
        timer.token = nil
        timer.keeper.release(timer.name, token)
        if keeper then
            keeper:cancel()
        end
    end, timer.call)
end

-- The turn, if nobody else has it or had it meanwhile.
local function take_turn(timer)
    local token = timer.keeper.take(timer.name, LEASE)
    if not token then
        return
    end
    local due, now = due_at(timer), C.moon_lua_now()
    if due > now then
        timer.keeper.release(timer.name, token)
        return
    end
    -- Turns that were missed are not made up for.
    timer.keeper.set_last_run(timer.name, math.max(due, now - timer.interval))
    run_with(timer, token)
end

local function shared_loop(timer)
    local pause = 0
    while not is_over(timer) do
        -- Whoever runs it now may take longer than an interval.
        rest(timer, math.max(due_at(timer) - C.moon_lua_now(), pause))
        if not is_over(timer) then
            take_turn(timer)
            pause = due_at(timer) <= C.moon_lua_now() and math.min(timer.interval, 1) or 0
        end
    end
end

-- ---- making ----

local function start_timer(timer)
    if not tasks.start(timer, false) then
        log.error("timer " .. timer.name .. " was not started: too many tasks")
    end
end

function Timer.finished()
end

function Timer:died(kind, value, traceback)
    tasks.log_death("timer " .. self.name, kind, value, traceback)
    if not is_over(self) then
        start_timer(self)
    end
end

--- No more runs in this worker; one in progress goes on to its end.
function Timer:cancel()
    self.cancelled = true
    if self.number then
        C.moon_task_unpark(self.number)
    end
end

local timer_options = fault.set "name scope now"
local scopes = fault.set "node worker cluster"

-- By name, for those that share it with other workers.
local named = {}

-- Its own name must be its alone; timers of one line get numbers.
local function name_of(name, place)
    if name == nil then
        local number = 1
        name = place
        while named[name] do
            number = number + 1
            name = place .. " #" .. number
        end
    elseif named[fault.want(name, "string", "moonshine.every: name")] then
        fault.raise("moonshine.every: the name '%s' is taken by the timer at %s", name, named[name])
    end
    named[name] = place
    return name
end

--- Runs fn again and again, never two at once. With scope "node" (the default) one
--- worker of the node does each time, with "worker" each on its own.
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
        fault.raise('moonshine.every: scope must be "node" or "worker", not %s%s',
            fault.show(scope), fault.hint(scope, scopes))
    elseif scope == "cluster" then
        fault.raise('moonshine.every: scope = "cluster" needs a store shared by the nodes')
    end
    local timer = setmetatable({
        call = fn, interval = seconds, now = options.now, cancelled = false,
        name = name_of(options.name, fault.where(2) or "?"),
        keeper = scope == "node" and lock.timers or nil,
        fn = scope == "node" and shared_loop or own_loop,
    }, Timer)
    timer.args = { n = 1, timer }
    local function begin()
        timer.next, timer.since = C.moon_lua_clock(), C.moon_lua_now()
        start_timer(timer)
    end
    if tasks.active then
        begin()
    else
        table.insert(tasks.recorded, begin)
    end
    return timer
end

return M
