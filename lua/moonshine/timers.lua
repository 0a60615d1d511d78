--- moonshine.every: functions that run again and again.
---
--- With scope "worker" each worker runs its own. With "node" all of them keep the
--- timer, and a lease in shared memory decides at each turn who runs it; so it goes
--- on when a worker dies, and its turns go on over a reload. With "cluster" the same holds
--- for all nodes, by leases in Redis.
local ffi = require "ffi"
local crypto = require "moonshine.crypto"
local fault = require "moonshine.fault"
local lock = require "moonshine.lock"
local log = require "moonshine.log"
local shared = require "moonshine.shared"
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

-- When its turn is, by the clock of the machine that never jumps: an interval after
-- the last one, whoever had it, or after the code went live.
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
        if keeper then
            keeper:cancel()
        end
        timer.keeper.release(timer.name, token)
    end, timer.call)
end

-- The turn, if nobody else has it or had it meanwhile.
local function take_turn(timer)
    local token = timer.keeper.take(timer.name, LEASE)
    if not token then
        return
    end
    local due, now = due_at(timer), C.moon_lua_clock()
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
        rest(timer, math.max(due_at(timer) - C.moon_lua_clock(), pause))
        if not is_over(timer) then
            take_turn(timer)
            pause = due_at(timer) <= C.moon_lua_clock() and math.min(timer.interval, 1) or 0
        end
    end
end

-- ---- scope "cluster" ----

-- After a failure Redis is asked again so much later; when somebody else has the turn, at
-- the earliest so much.
local RETRY, PAUSE_MIN = 1, 0.01

-- All workers find the same, each in its time; one says so.
local TOLD = 10

local function note(timer, message)
    local dict = shared.internal()
    local down, up = "down:" .. timer.name, "up:" .. timer.name
    if message then
        if dict:add(down, true, TOLD) then
            log.error(("timer %s does not run: %s"):format(timer.name, message))
        end
        dict:set(down, true, TOLD)
    elseif timer.troubled and dict:add(up, true, TOLD) then
        log.info(("timer %s runs again"):format(timer.name))
    end
    timer.troubled = message ~= nil
end

local function cluster_loop(timer)
    -- Kept until its answer is known, so that no turn is lost with an answer.
    local token = crypto.random(16)
    while not is_over(timer) do
        local turn, pause, message = timer.keeper.turn(timer, token, LEASE)
        note(timer, message)
        if turn and timer.cancelled then
            timer.keeper.release(timer.name, turn)
        elseif turn then
            token = crypto.random(16)
            run_with(timer, turn)
        else
            rest(timer, math.max(pause or math.min(timer.interval, RETRY), PAUSE_MIN))
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

local loops = { node = shared_loop, worker = own_loop, cluster = cluster_loop }

-- What is asked for with scope "cluster", where it can be had.
local function check_cluster(name)
    if not name then
        fault.raise('moonshine.every: scope = "cluster" needs a name, which all nodes know it by')
    end
    local keeper = lock.keeper("cluster", nil, "timers", "moonshine.every")
    return keeper and "cluster" or "node", keeper
end

--- Runs fn again and again, never two at once. With scope "node" (the default) one
--- worker of the node does each time, with "worker" each on its own, with "cluster" one
--- worker of all nodes that share the Redis of cluster.url; that needs a name.
---@param interval number|string
---@param fn fun()
---@param options? {name?: string, scope?: "node"|"worker"|"cluster", now?: boolean}
---@return moonshine.Timer
function M.every(interval, fn, options)
    local seconds = units.seconds(interval, "moonshine.every: the interval")
    if seconds <= 0 then
        fault.raise("moonshine.every: the interval must be more than 0")
    end
    fault.want(fn, "function", "moonshine.every: the second argument")
    options = options or {}
    fault.check_keys(options, timer_options, "moonshine.every")
    local scope, keeper = options.scope or "node", lock.timers
    if not scopes[scope] then
        fault.raise('moonshine.every: scope must be "node" or "worker", not %s%s',
            fault.show(scope), fault.hint(scope, scopes))
    elseif scope == "cluster" then
        scope, keeper = check_cluster(options.name)
    end
    local timer = setmetatable({
        call = fn, interval = seconds, now = options.now, cancelled = false,
        name = name_of(options.name, fault.where(2) or "?"),
        keeper = keeper or lock.timers, fn = loops[scope],
    }, Timer)
    timer.args = { n = 1, timer }
    local function begin()
        timer.next = C.moon_lua_clock()
        timer.since = timer.next
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
