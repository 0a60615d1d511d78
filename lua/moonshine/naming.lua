--- What to call a middleware in the output of `moonshine routes`.
local fault = require "moonshine.fault"

local M = {}

--- The name under which the caller holds a function, for `moonshine routes`.
local function name_of(fn, level)
    for i = 1, 200 do
        local name, value = debug.getlocal(level + 1, i)
        if not name then
            break
        elseif value == fn and name:sub(1, 1) ~= "(" then
            return name
        end
    end
    local info = debug.getinfo(level, "f")
    for i = 1, 60 do
        local name, value = debug.getupvalue(info.func, i)
        if not name then
            break
        elseif value == fn then
            return name
        end
    end
    return nil
end

--- A name for a function or object that the application's code just passed.
function M.describe(value)
    if type(value) == "table" then
        return tostring(value.name or rawget(value, "kind") or "object")
    end
    local _, level = fault.where(3)
    local name = level and name_of(value, level)
    if not name then
        local info = debug.getinfo(value, "S")
        name = info.source:gsub("^@", "") .. ":" .. info.linedefined
    end
    return name
end

return M
