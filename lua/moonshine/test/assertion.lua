--- Failed assertions: an error whose text says all, and a record of it for the
--- test runner, which shows the parts on their own.
local fault = require "moonshine.fault"

local M = {}

--- The last one: value (what was raised), place, message, diff. An error is a
--- failed assertion if it is that value.
M.last = nil

local function raise(value, place, message, diff)
    M.last = { value = value, place = place, message = message, diff = diff }
    error(value, 0)
end

--- Raises for the caller's caller.
---@param message string
---@param diff? string
function M.fail(message, diff)
    local place = fault.where(3)
    local text = (place and place .. ": " or "") .. message
    raise(diff and text .. " (- expected, + actual)\n" .. diff or text, place, message, diff)
end

--- assert of a spec file: as Lua's own, but the runner learns where it was.
function M.assert(...)
    if (...) then
        return ...
    elseif select("#", ...) == 0 then
        error("bad argument #1 to 'assert' (value expected)", 2)
    end
    local message = (select(2, ...))
    if message == nil then
        message = "assertion failed!"
    end
    raise(message, fault.where(2), message)
end

return M
