--- Time travel: the clock that the application sees, moved forward.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local units = require "moonshine.units"
local wait = require "moonshine.wait"

local C = ffi.C
local M = {}

-- Lets everything that can go on without time passing do so: other tasks,
-- requests between this process and itself, jobs on the thread pool.
local function settle()
    local begin = true
    repeat
        wait.park(0, "advance")
        local rests = C.moon_travel_rests(begin)
        begin = false
    until rests
end

--- Moves the clock forward. What waits for a time on the way is woken in order,
--- each when what was woken before it has come to rest.
---@param duration number|string
function M.advance(duration)
    local seconds = units.seconds(duration, "advance: the time")
    if not native.info().probe then
        fault.raise("advance: only inside app:check and moonshine test")
    end
    wait.check("advance")
    settle()
    local target = C.moon_lua_clock() + seconds
    while C.moon_travel_next(target) do
        settle()
    end
end

--- From now on the clock may be moved. os.time and os.date without a time say
--- what the moved clock does.
function M.install()
    wait.clock_moves = true
    local time, date = os.time, os.date
    rawset(os, "time", function(parts)
        if parts ~= nil then
            return time(parts)
        end
        return math.floor(C.moon_lua_now())
    end)
    rawset(os, "date", function(format, when)
        return date(format or "%c", when or math.floor(C.moon_lua_now()))
    end)
end

return M
