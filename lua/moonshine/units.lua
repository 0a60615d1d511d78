--- Durations and sizes as people write them: 1.5, "250ms", "12h"; "64k", "10m".
local fault = require "moonshine.fault"

local M = {}

local durations = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }
local sizes = { [""] = 1, b = 1, k = 1024, m = 1048576, g = 1073741824, t = 1099511627776 }

--- Seconds, or nil when `value` is no duration.
function M.to_seconds(value)
    if type(value) == "number" then
        return value >= 0 and value < math.huge and value or nil
    end
    if type(value) ~= "string" then
        return nil
    end
    local number, unit = value:match("^(%d+%.?%d*)(%a*)$")
    local factor = unit == "" and 1 or durations[unit]
    return number and factor and tonumber(number) * factor or nil
end

--- Seconds; raises with the caller's line.
function M.seconds(value, what)
    local seconds = M.to_seconds(value)
    if not seconds then
        fault.raise('%s must be a duration such as 2 or "250ms", not %s', what, fault.show(value))
    end
    return seconds
end

--- Whole milliseconds, rounded up; raises with the caller's line.
function M.milliseconds(value, what)
    return math.ceil(M.seconds(value, what) * 1000)
end

--- Bytes; raises with the caller's line.
function M.bytes(value, what)
    local number, unit
    if type(value) == "number" then
        number, unit = value, ""
    elseif type(value) == "string" then
        number, unit = value:match("^(%d+%.?%d*)(%a*)$")
    end
    local factor = number and sizes[(unit:lower():gsub("(.)b$", "%1"))]
    number = tonumber(number)
    if not factor or not number or number < 0 then
        fault.raise('%s must be a size such as 1024 or "64k", not %s', what, fault.show(value))
    end
    return math.floor(number * factor)
end

return M
