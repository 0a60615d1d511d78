--- moonshine.shared: dictionaries that all workers and generations share.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local units = require "moonshine.units"

local C, ffi_string = ffi.C, ffi.string
local value_out = ffi.new "moon_shared_value"
local value_in = ffi.new "moon_shared_value"
local number_out = ffi.new "double[1]"

local STRING, NUMBER, BOOLEAN = 1, 2, 3
-- Of base/errcode.h.
local OK, NO_MEMORY, INVALID, TOO_BIG, NOT_FOUND, EXISTS = 0, -1, -3, -4, -5, -6

local M = {}

---@class moonshine.Shared
local Shared = {}

local function key_of(key, what)
    if type(key) == "number" then
        return tostring(key)
    elseif type(key) ~= "string" then
        fault.raise("%s: the key must be a string, not %s", what, fault.kind(key))
    end
    return key
end

local failures = {
    [NO_MEMORY] = { "out of memory", 503 },
    [INVALID] = { "not a number", 400 },
    [TOO_BIG] = { "too large for this dictionary", 413 },
    [NOT_FOUND] = { "not found", 404 },
    [EXISTS] = { "exists", 409 },
}

local function refuse(code)
    local why = failures[code]
    return nil, why[1], why[2]
end

--- The value, or nil.
---@param key string|number
---@return string|number|boolean|nil
function Shared:get(key)
    key = key_of(key, "shared:get")
    if C.moon_shared_get(self[1], key, #key, value_out) ~= OK then
        return nil
    end
    local kind = value_out.type
    if kind == STRING then
        return (ffi_string(value_out.text.ptr, value_out.text.len))
    elseif kind == BOOLEAN then
        return value_out.number ~= 0
    end
    return value_out.number
end

local function put(dict, key, value, ttl, only_new, what)
    key = key_of(key, what)
    local kind = type(value)
    if kind == "string" then
        value_in.type, value_in.text.ptr, value_in.text.len = STRING, value, #value
    elseif kind == "number" then
        value_in.type, value_in.number, value_in.text.len = NUMBER, value, 0
    elseif kind == "boolean" then
        value_in.type, value_in.number, value_in.text.len = BOOLEAN, value and 1 or 0, 0
    else
        fault.raise("%s: the value must be a string, a number or a boolean, not a %s%s", what, kind,
            kind == "table" and " (moonshine.json.encode makes text of it)" or "")
    end
    ttl = ttl ~= nil and units.seconds(ttl, what .. ": the time to live") or 0
    local code = C.moon_shared_set(dict[1], key, #key, value_in, ttl, only_new)
    if code ~= OK then
        return refuse(code)
    end
    return true
end

--- Keeps a value; nil removes it. True, or nil, message, 413 (too large).
---@param key string|number
---@param value string|number|boolean|nil
---@param ttl? number|string For ever by default.
---@return boolean? ok
---@return string? message
---@return integer? code
function Shared:set(key, value, ttl)
    if value == nil then
        self:delete(key)
        return true
    end
    return put(self, key, value, ttl, false, "shared:set")
end

--- Keeps a value if the key has none. True, or nil, message, 409 (there is one) or
--- 413.
---@param key string|number
---@param value string|number|boolean
---@param ttl? number|string
---@return boolean? ok
---@return string? message
---@return integer? code
function Shared:add(key, value, ttl)
    return put(self, key, value, ttl, true, "shared:add")
end

--- Adds to a number in one step: the new value; or nil, message, 404 (not there, and
--- no `initial`) or 400 (not a number).
---@param key string|number
---@param by? number Default 1.
---@param initial? number What a key that is not there counts from.
---@param ttl? number|string Of a key that was not there.
---@return number? value
---@return string? message
---@return integer? code
function Shared:incr(key, by, initial, ttl)
    key = key_of(key, "shared:incr")
    by = by == nil and 1 or fault.want(by, "number", "shared:incr: by")
    if initial ~= nil then
        fault.want(initial, "number", "shared:incr: initial")
    end
    ttl = ttl ~= nil and units.seconds(ttl, "shared:incr: the time to live") or 0
    local code = C.moon_shared_incr(self[1], key, #key, by, initial ~= nil, initial or 0, ttl,
        number_out)
    if code ~= OK then
        return refuse(code)
    end
    return number_out[0]
end

--- Removes a key. Was it there?
---@param key string|number
---@return boolean
function Shared:delete(key)
    key = key_of(key, "shared:delete")
    return (C.moon_shared_delete(self[1], key, #key))
end

--- Removes a key if its value is this text. Internal: for locks.
function M.delete_if(dict, key, text)
    return (C.moon_shared_delete_if(dict[1], key, #key, text, #text))
end

local metatable = {
    __index = function(_, key)
        return Shared[key] or fault.unknown("a shared dictionary", key, Shared)
    end,
    __newindex = function(_, key)
        fault.raise("shared.%s cannot be assigned: use set(%q, value)", tostring(key),
            tostring(key))
    end,
}

local opened = {}

local function open(name, bytes)
    local dict = C.moon_shared_open(name, #name, bytes)
    if dict == nil then
        error(("no room for the shared dictionary '%s' of %d bytes"):format(name, bytes), 0)
    end
    opened[name] = setmetatable({ ffi.gc(dict, C.moon_shared_close) }, metatable)
    return opened[name]
end

--- A dictionary that config.lua declares: shared = { name = "1m" }.
---@param name string
---@return moonshine.Shared
function M.open(name)
    fault.want(name, "string", "moonshine.shared: the name")
    if opened[name] then
        return opened[name]
    end
    local sizes = native.info().shared
    local bytes = sizes[name]
    if not bytes then
        local hint = fault.hint(name, sizes)
        fault.raise("moonshine.shared: there is no '%s'%s %s it in config.lua: "
            .. 'shared = { %s = "1m" }', name, hint == "" and ";" or hint,
            hint == "" and "declare" or "Or declare", name)
    end
    return open(name, bytes)
end

--- The framework's own, for locks and timers.
function M.internal()
    return opened[" moonshine"] or open(" moonshine", 2 ^ 20)
end

return M
