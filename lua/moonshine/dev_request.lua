--- --dev: the request of a failure, as plain tables for the error page.
local ffi = require "ffi"

local C = ffi.C
local M = {}

local BODY_MAX = 2000
local piece = ffi.new("char[?]", BODY_MAX)
local out = ffi.new "moon_bytes"

-- Values that let whoever reads a screenshot act as the user.
local function mask(name, value)
    name = name:lower()
    if name == "cookie" then
        return (value:gsub("([^;=%s]+)=[^;]*", "%1=***"))
    elseif name == "authorization" or name == "proxy-authorization" then
        return (value:match("^%a+ ") or "") .. "***"
    end
    return value
end

local function sorted(map)
    local list = {}
    for name, value in pairs(map) do
        list[#list + 1] = { name = name, value = tostring(value) }
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    return list[1] and list or nil
end

local function headers_of(c)
    local list = sorted(c:headers())
    for _, header in ipairs(list or {}) do
        header.value = mask(header.name, header.value)
    end
    return list
end

local function params_of(c)
    local list = {}
    for name in c:route():gmatch("/[:*]([%a_][%w_]*)") do
        list[#list + 1] = { name = name, value = tostring(c:param(name)) }
    end
    return list[1] and list or nil
end

-- Its start, wherever it is; binary ones are only counted.
local function body_of(handle)
    local kind = C.moon_req_body(handle, out)
    local size = tonumber(out.len)
    if kind == 0 or size == 0 then
        return nil
    end
    local got = C.moon_req_body_pread(handle, 0, piece, BODY_MAX)
    local text = got > 0 and ffi.string(piece, got) or ""
    if text:find("[%z\1-\8\14-\31\127]") then
        text = nil
    end
    return { size = size, text = text, cut = size > BODY_MAX }
end

--- What is known of the request of a context.
function M.of(c)
    local query = c:raw_query()
    return {
        method = c:method(),
        target = query ~= "" and c:path() .. "?" .. query or c:path(),
        ip = c:ip(),
        params = params_of(c),
        query = sorted(c:queries()),
        headers = headers_of(c),
        body = body_of(c[1]),
    }
end

return M
