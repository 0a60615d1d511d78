--- What to call a middleware in the output of `moonshine routes`.
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local M = {}

local info = native.info()
-- Only there somebody reads them.
local search_tables = info.probe or info.dev

local FIELDS_MAX = 500

-- "users.show", if the table that the caller holds as `users` has it.
local function field_of(fn, name, value)
    if not search_tables or type(value) ~= "table" or name:sub(1, 1) == "(" then
        return nil
    end
    local count = 0
    for key, field in next, value do
        count = count + 1
        if field == fn and type(key) == "string" then
            return name .. "." .. key
        elseif count > FIELDS_MAX then
            return nil
        end
    end
    return nil
end

--- The name under which the caller holds a function, for `moonshine routes`.
local function name_of(fn, level)
    local field
    for i = 1, 200 do
        local name, value = debug.getlocal(level + 1, i)
        if not name then
            break
        elseif value == fn and name:sub(1, 1) ~= "(" then
            return name
        end
        field = field or field_of(fn, name, value)
    end
    local caller = debug.getinfo(level + 1, "f")
    for i = 1, 60 do
        local name, value = debug.getupvalue(caller.func, i)
        if not name then
            break
        elseif value == fn then
            return name
        end
        field = field or field_of(fn, name, value)
    end
    return field
end

--- Where a function was defined; for an object or a C function, where the
--- caller outside the framework is now.
function M.place(value)
    local where = type(value) == "function" and debug.getinfo(value, "S")
    if where and where.linedefined > 0 then
        return where.source:gsub("^@", "") .. ":" .. where.linedefined
    end
    return fault.where(2) or "?"
end

--- A name for a function or object that the application's code just passed.
function M.describe(value)
    if type(value) == "table" then
        return tostring(value.name or rawget(value, "kind") or "object")
    end
    local _, level = fault.where(3)
    local name = level and name_of(value, level)
    if not name then
        local where = debug.getinfo(value, "S")
        name = where.source:gsub("^@", "") .. ":" .. where.linedefined
    end
    return name
end

return M
