--- Coroutines of the application.
---
--- A framework call that waits inside one must suspend the whole task, not
--- return from the application's resume: resume here passes such yields on to
--- the scheduler and goes on with the coroutine afterwards.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

local create, resume, status = coroutine.create, coroutine.resume, coroutine.status
local running, raw_yield, isyieldable = coroutine.running, coroutine.yield, coroutine.isyieldable
local SENTINEL = wait.SENTINEL

-- Each coroutine that resumes another takes some of the C stack.
local DEPTH_MAX = 1000

-- Coroutines made by the application, with their depth within each other when
-- resumed last; those inside a framework call.
local made = setmetatable({}, { __mode = "k" })
local waiting = setmetatable({}, { __mode = "k" })
-- Coroutines of tasks that the application has seen.
local named = setmetatable({}, { __mode = "k" })

local function settle(co, ok, first, ...)
    if ok and first == SENTINEL then
        if not isyieldable() then
            -- The operation is started, but the task cannot be suspended here;
            -- the coroutine stays where it is for ever.
            waiting[co] = true
            C.moon_task_drop_wait()
            return false, "cannot wait here: a callback of string.gsub, table.sort or another "
                .. "C function cannot be suspended"
        end
        waiting[co] = true
        raw_yield(SENTINEL)
        waiting[co] = nil
        return settle(co, resume(co))
    end
    return ok, first, ...
end

function M.create(fn)
    local co = create(fault.want(fn, "function", "coroutine.create: the argument"))
    made[co] = 0
    return co
end

--- The coroutine of a task serves one task after another, until somebody asks for
--- it: what is kept under it must not be found by the next one.
function M.running()
    local co, main = running()
    if co and not made[co] then
        named[co] = true
        C.moon_task_name()
    end
    return co, main
end

function M.resume(co, ...)
    if named[co] then
        return false, "cannot resume the coroutine of a request or a task"
    elseif waiting[co] then
        return false, "cannot resume a coroutine that waits in a Moonshine call"
    end
    local depth = (made[running()] or 0) + 1
    if depth > DEPTH_MAX then
        return false, "C stack overflow: too many coroutines within each other"
    end
    made[co] = depth
    return settle(co, resume(co, ...))
end

local function unwrap(ok, ...)
    if not ok then
        error((...), 0)
    end
    return ...
end

function M.wrap(fn)
    local co = M.create(fn)
    return function(...)
        return unwrap(M.resume(co, ...))
    end
end

function M.status(co)
    return waiting[co] and "normal" or status(co)
end

function M.yield(...)
    local co = running()
    if not co or not made[co] then
        fault.raise("attempt to yield from outside a coroutine")
    end
    return raw_yield(...)
end

--- Replaces the standard functions.
function M.install()
    for name, fn in pairs(M) do
        if name ~= "install" then
            rawset(coroutine, name, fn)
        end
    end
end

return M
