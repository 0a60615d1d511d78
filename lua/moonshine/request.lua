--- Methods of the context that read the request.
local ffi = require "ffi"
local context = require "moonshine.context"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local native = require "moonshine.native"

local C, ffi_string = ffi.C, ffi.string
local Context, dead = context.methods, context.dead

-- One of each per VM: a call fills them and they are read at once.
local out, other = ffi.new "moon_bytes", ffi.new "moon_bytes"
local number = ffi.new "double[1]"
local cursor = ffi.new "moon_cursor"
local max_args = native.info().max_args

local function bad_name(name, what)
    fault.raise("%s takes a name (a string), not a %s", what, type(name))
end

-- ---- texts ----

-- Parentheses around a last call, here and elsewhere, make it no tail call: a
-- function that ends in one of C or a builtin cannot be the root of a trace.
local function text(c, what)
    local handle = c[1]
    if not handle then
        dead(c)
    end
    C.moon_req_text(handle, what, out)
    return (ffi_string(out.ptr, out.len))
end

--- The method, in capitals.
---@return string
function Context:method()
    return text(self, 1)
end

--- The decoded path.
---@return string
function Context:path()
    return text(self, 2)
end

--- The query as it was sent, without the question mark.
---@return string
function Context:raw_query()
    return text(self, 3)
end

--- The pattern of the route, "" for automatic answers.
---@return string
function Context:route()
    return text(self, 4)
end

--- The request's id, also in the log and in the response.
---@return string
function Context:request_id()
    return text(self, 5)
end

--- The client's address, after the trusted-proxy rule.
---@return string
function Context:ip()
    return text(self, 6)
end

--- "http" or "https", after the trusted-proxy rule.
---@return string
function Context:scheme()
    return text(self, 7)
end

--- The host that was asked for, after the trusted-proxy rule.
---@return string
function Context:host()
    return text(self, 8)
end

local generation = native.info().generation

--- The number of the code that serves this request.
---@return integer
function Context:generation()
    if not self[1] then
        dead(self)
    end
    return generation
end

--- True once the client left or the server drains.
---@return boolean
function Context:closing()
    local handle = self[1]
    return not handle and dead(self) or C.moon_req_closing(handle) ~= 0
end

-- ---- parameters ----

--- A parameter of the route's pattern; a number for <int>.
---@param name string
---@return string|number|nil
function Context:param(name)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if type(name) ~= "string" then
        bad_name(name, "c:param")
    end
    local kind = C.moon_req_param(handle, name, #name, out, number)
    if kind == 1 then
        return (ffi_string(out.ptr, out.len))
    elseif kind == 2 then
        return number[0]
    end
    return nil
end

--- The first value of a query argument.
---@param name string
---@param default? any
---@return string|any
function Context:query(name, default)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if type(name) ~= "string" then
        bad_name(name, "c:query")
    end
    if C.moon_req_query(handle, name, #name, 0, out) then
        return (ffi_string(out.ptr, out.len))
    end
    return default
end

-- Calls fn(name, value) for each pair that `step` yields.
local function walk(c, step, fn)
    local handle = c[1]
    if not handle then
        dead(c)
    end
    ffi.fill(cursor, ffi.sizeof(cursor))
    local count = 0
    while step(handle, cursor, out, other) do
        count = count + 1
        if count > max_args then
            error(failure.new("bad_request", 400, "too many arguments"), 0)
        end
        fn(ffi_string(out.ptr, out.len), ffi_string(other.ptr, other.len))
    end
end

local function query_next(handle, at, name, value)
    return (C.moon_req_query_next(handle, at, name, value))
end

local function cookie_next(handle, at, name, value)
    return (C.moon_req_cookie_next(handle, at, name, value))
end

--- All values of a query argument, in order.
---@param name string
---@return string[]
function Context:query_all(name)
    if type(name) ~= "string" then
        bad_name(name, "c:query_all")
    end
    local list = native.json.array {}
    walk(self, query_next, function(key, value)
        if key == name then
            list[#list + 1] = value
        end
    end)
    return list
end

--- The query's arguments in order: a list of { name, value }.
function context.query_pairs(c)
    local list = {}
    walk(c, query_next, function(key, value)
        list[#list + 1] = { key, value }
    end)
    return list
end

local function first_values(c, step)
    local map = {}
    walk(c, step, function(key, value)
        if map[key] == nil then
            map[key] = value
        end
    end)
    return map
end

--- The first value of each query argument.
---@return table<string, string>
function Context:queries()
    return first_values(self, query_next)
end

local int_options = fault.set "default min max"

--- A query argument as an integer; answers 400 if it is none or out of range.
---@param name string
---@param options? {default?: integer, min?: integer, max?: integer}
---@return integer?
function Context:query_int(name, options)
    local value = self:query(name)
    options = options or {}
    fault.check_keys(options, int_options, "c:query_int")
    if value == nil or value == "" then
        return options.default
    end
    local int = value:match("^%-?%d+$") and #value <= 16 and tonumber(value)
    local message
    if not int then
        message = "must be an integer"
    elseif options.min and int < options.min then
        message = "must be at least " .. options.min
    elseif options.max and int > options.max then
        message = "must be at most " .. options.max
    end
    if message then
        error(failure.new("bad_request", 400, name .. " " .. message, { [name] = message }), 0)
    end
    return int
end

-- ---- headers and cookies ----

--- The first field of that name, whatever its case.
---@param name string
---@return string?
function Context:header(name)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if type(name) ~= "string" then
        bad_name(name, "c:header")
    end
    if C.moon_req_header(handle, name, #name, 0, out) then
        return (ffi_string(out.ptr, out.len))
    end
    return nil
end

local any_case = {
    __index = function(map, name)
        return type(name) == "string" and rawget(map, name:lower()) or nil
    end,
}

--- All fields by name in small letters, repeated ones joined by ", "; the table
--- finds them whatever the case.
---@return table<string, string>
function Context:headers()
    local handle = self[1]
    if not handle then
        dead(self)
    end
    local map, index = {}, 0
    while C.moon_req_header_at(handle, index, out, other) do
        local name = ffi_string(out.ptr, out.len):lower()
        local value = ffi_string(other.ptr, other.len)
        local before = map[name]
        map[name] = before and before .. (name == "cookie" and "; " or ", ") .. value or value
        index = index + 1
    end
    return setmetatable(map, any_case)
end

--- A cookie of the request.
---@param name string
---@return string?
function Context:cookie(name)
    local handle = self[1]
    if not handle then
        dead(self)
    end
    if type(name) ~= "string" then
        bad_name(name, "c:cookie")
    end
    if C.moon_req_cookie(handle, name, #name, out) then
        return (ffi_string(out.ptr, out.len))
    end
    return nil
end

--- All cookies by name.
---@return table<string, string>
function Context:cookies()
    return first_values(self, cookie_next)
end

return Context
