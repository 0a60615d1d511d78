--- What the values that a view prints become in its text.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local C, ffi_string = ffi.C, ffi.string
local out = ffi.new "moon_bytes"
local null = native.json.null

local M = {}

local function refuse(value, label, sign)
    if value == nil or value == null then
        fault.raise("'%s' is %s; write <%%%s %s or \"\" %%>", label,
            value == nil and "nil" or "json.null", sign, label)
    end
    fault.raise("'%s' is a %s, not text", label, type(value))
end

local function print_value(value, label, sign)
    local kind = type(value)
    if kind == "string" or kind == "number" then
        return value
    elseif kind == "boolean" then
        return tostring(value)
    end
    return refuse(value, label, sign)
end

--- The value of <%= label %> where nothing is escaped; raises if it cannot be
--- printed.
function M.plain(value, label)
    return print_value(value, label, "=")
end

--- The value of <%- label %>.
function M.raw(value, label)
    return print_value(value, label, "-")
end

local HTML, SCRIPT = 1, 3

local function quote(how, text)
    local code = C.moon_lua_quote(how, text, #text, out)
    if code == 0 then
        return text
    elseif code < 0 then
        error("out of memory", 0)
    end
    return (ffi_string(out.ptr, out.len))
end

--- The value of <%= label %> in HTML and XML.
function M.html(value, label)
    if type(value) == "string" then
        return quote(HTML, value)
    end
    return print_value(value, label, "=")
end

--- JSON that may stand inside <script>.
function M.json(value)
    local ok, text = pcall(native.json.encode, value)
    if not ok then
        fault.raise("json: %s", text)
    end
    return quote(SCRIPT, text)
end

return M
