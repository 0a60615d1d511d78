--- Suspending the running task: the only place that yields to the scheduler.
local ffi = require "ffi"
local fault = require "moonshine.fault"

local C = ffi.C
local M = { clock_moves = false } -- true where tests may move it

local raw_yield, isyieldable = coroutine.yield, coroutine.isyieldable

--- What a framework yield carries: an application's coroutine passes it on.
M.SENTINEL = {}
local SENTINEL = M.SENTINEL

-- Set while code runs that must not wait: what to call it, and whose it is. Code
-- that is stopped from outside never comes to the end that clears it.
local still, still_task

--- The running task must not wait, in what is called `what`; nil: it may again.
function M.hold(what)
    still, still_task = what, what and C.moon_task_current()
end

--- Raises, naming `what`, if the running code may not wait here.
function M.check(what)
    if still and still_task == C.moon_task_current() then
        fault.raise("%s: not inside %s", what, still)
    end
    local why = C.moon_task_no_yield()
    if why ~= nil then
        fault.raise("%s: not %s", what, ffi.string(why))
    end
    if not isyieldable() then
        fault.raise("%s cannot wait here: a callback of string.gsub, table.sort or another "
            .. "C function cannot be suspended", what)
    end
end

--- Yields until the operation that was just started is over; its result.
function M.suspend()
    raw_yield(SENTINEL)
    -- Parentheses make it no tail call, from which no trace can return.
    return (C.moon_task_result())
end

--- Parks the running task until it is unparked (true) or `seconds` are over
--- (false); nil waits for ever. `what` is a literal: C keeps its address.
--- `deadline`, if the caller has one, is when the seconds are over: a test that
--- moves the clock wakes tasks by it, in the order of their deadlines.
function M.park(seconds, what, deadline)
    if C.moon_task_park(seconds and seconds * 1000 or -1, what) ~= 0 then
        fault.raise("cannot wait: the task waits already")
    end
    if deadline and M.clock_moves then
        C.moon_travel_due_at(deadline)
    end
    raw_yield(SENTINEL)
    return C.moon_task_result() == 1
end

return M
