--- moonshine.encode and moonshine.decode: base64, base64url, hex, url, html and
--- query.
local ffi = require "ffi"
local fault = require "moonshine.fault"

local C, ffi_string = ffi.C, ffi.string
local out, other = ffi.new "moon_bytes", ffi.new "moon_bytes"
local cursor = ffi.new "moon_cursor"

---@class moonshine.encode
---@field base64 fun(text: string): string
---@field base64url fun(text: string): string Without padding.
---@field hex fun(text: string): string
---@field url fun(text: string): string
---@field html fun(text: string): string
local M = {}

---@class moonshine.decode
---@field base64 fun(text: string): string?, string?, integer?
---@field base64url fun(text: string): string?, string?, integer?
---@field hex fun(text: string): string?, string?, integer?
---@field url fun(text: string): string?, string?, integer?
local decode = {}
M.decode = decode

local codecs = { base64 = 1, base64url = 2, hex = 3, url = 4, html = 5 }

for name, codec in pairs(codecs) do
    M[name] = function(text)
        if type(text) == "number" then
            text = tostring(text)
        end
        fault.want(text, "string", "encode." .. name .. ": the argument")
        if not C.moon_lua_encode(codec, text, #text, out) then
            error("out of memory", 0)
        end
        return (ffi_string(out.ptr, out.len))
    end
    if name ~= "html" then
        decode[name] = function(text)
            fault.want(text, "string", "decode." .. name .. ": the argument")
            if not C.moon_lua_decode(codec, text, #text, out) then
                return nil, "not " .. name, 400
            end
            return (ffi_string(out.ptr, out.len))
        end
    end
end

--- name=value pairs joined by &, sorted by name; lists give a pair for each value.
---@param values table<string, any>
---@return string
function M.query(values)
    fault.want(values, "table", "encode.query: the argument")
    local keys, parts = {}, {}
    for key in pairs(values) do
        keys[#keys + 1] = tostring(key)
    end
    table.sort(keys)
    for _, key in ipairs(keys) do
        local list = values[key]
        for _, value in ipairs(type(list) == "table" and list or { list }) do
            parts[#parts + 1] = M.url(key) .. "=" .. M.url(tostring(value))
        end
    end
    return table.concat(parts, "&")
end

--- The first value of each name.
---@param text string
---@return table<string, string>
function decode.query(text)
    fault.want(text, "string", "decode.query: the argument")
    local map = {}
    ffi.fill(cursor, ffi.sizeof(cursor))
    cursor.ptr, cursor.len = text, #text
    while C.moon_lua_form_next(cursor, out, other) do
        local name = ffi_string(out.ptr, out.len)
        if map[name] == nil then
            map[name] = ffi_string(other.ptr, other.len)
        end
    end
    return map
end

return M
