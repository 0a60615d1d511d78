--- moonshine.log: lines of the process log. The request id, the route and the
--- generation are added by C.
local ffi = require "ffi"
local fault = require "moonshine.fault"

local C = ffi.C
local M = {}

local levels = { debug = 0, info = 1, warn = 2, error = 3 }

local function text_of(value)
    local kind = type(value)
    if kind == "string" then
        return value, false
    elseif kind == "number" then
        -- JSON has no infinities.
        local finite = value == value and value < math.huge and value > -math.huge
        return tostring(value), finite
    elseif kind == "boolean" then
        return tostring(value), true
    elseif kind == "table" and not getmetatable(value) then
        local json = require "moonshine.json"
        local ok, text = pcall(json.encode, value)
        return ok and text or tostring(value), ok
    end
    return tostring(value), false
end

-- By name, so that lines of one kind look alike.
local function sorted(fields)
    local list = {}
    for name, value in pairs(fields) do
        list[#list + 1] = { tostring(name), value }
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
    return list
end

--- Writes one line. `level` is a name of `levels`.
function M._write(level, message, fields)
    local number = levels[level]
    if not number then
        fault.raise("unknown log level '%s'%s", tostring(level), fault.hint(level, levels))
    end
    if not C.moon_lua_log_enabled(number) then
        return
    end
    if fields ~= nil then
        fault.want(fields, "table", "log fields")
        for _, pair in ipairs(sorted(fields)) do
            local name, text, raw = pair[1], text_of(pair[2])
            C.moon_lua_log_field(name, #name, text, #text, raw)
        end
    end
    message = text_of(message)
    C.moon_lua_log(number, message, #message)
end

---@param message any
---@param fields? table<string, any>
function M.debug(message, fields)
    M._write("debug", message, fields)
end

---@param message any
---@param fields? table<string, any>
function M.info(message, fields)
    M._write("info", message, fields)
end

---@param message any
---@param fields? table<string, any>
function M.warn(message, fields)
    M._write("warn", message, fields)
end

---@param message any
---@param fields? table<string, any>
function M.error(message, fields)
    M._write("error", message, fields)
end

return M
