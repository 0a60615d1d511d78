--- Reading a body, a query or parameters as a table of a given shape.
local ffi = require "ffi"
local context = require "moonshine.context"
local failure = require "moonshine.failure"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local shape = require "moonshine.shape"
local shape_code = require "moonshine.shape_code"
local shape_text = require "moonshine.shape_text"
require "moonshine.form"

local C = ffi.C
local Context, dead = context.methods, context.dead
local NONE, JSON, URLENCODED, MULTIPART = 0, 1, 2, 3 -- of moon_req_body_type
local M = {}

-- ---- compiled shapes ----

-- A shape written in a handler is a new table at each request, so compiled ones
-- are found by what is in them: in a bucket by one of their keys.
local buckets, bucket_count = {}, 0
local BUCKETS_MAX, BUCKET_SIZE = 500, 20

local function equal(a, b)
    if a == b then
        return true
    elseif type(a) ~= "table" or type(b) ~= "table" then
        return false
    end
    local count = 0
    for key, value in pairs(a) do
        count = count + 1
        if value ~= b[key] and not equal(value, b[key]) then
            return false
        end
    end
    for _ in pairs(b) do
        count = count - 1
    end
    return count == 0
end

local function copy(value)
    if type(value) ~= "table" then
        return value
    end
    local same = {}
    for key, part in pairs(value) do
        same[key] = copy(part)
    end
    return same
end

local function forget_all()
    require("moonshine.log").warn("more shapes than can be kept compiled: make them once, "
        .. "not in each request", {})
    buckets, bucket_count = {}, 0
end

local function remember(key, compiled)
    local bucket = buckets[key]
    if not bucket then
        if bucket_count == BUCKETS_MAX then
            forget_all()
        end
        bucket, bucket_count = {}, bucket_count + 1
        buckets[key] = bucket
    elseif #bucket == BUCKET_SIZE then
        forget_all()
        return remember(key, compiled)
    end
    bucket[#bucket + 1] = compiled
    return compiled
end

--- The compiled form of a shape: json and text functions, made when needed.
function M.compiled(value)
    local key = type(value) == "table" and next(value) or value
    local bucket = buckets[key]
    if bucket then
        for i = 1, #bucket do
            if equal(value, bucket[i].shape) then
                return bucket[i]
            end
        end
    end
    return remember(key, { shape = copy(value), node = shape.read(value), json = false,
        text = false })
end

local function check(compiled, value, is_text)
    local kind = is_text and "text" or "json"
    local fn = compiled[kind]
    if not fn then
        fn = shape_code.compile(compiled.node, is_text)
        compiled[kind] = fn
    end
    return fn(value)
end

-- The failure for what a check found: message, details by path.
local function complaint(what, err)
    if type(err) == "string" then
        return what .. " " .. err, { [what] = err }
    end
    local details = {}
    for _, one in ipairs(err) do
        details[one[1]] = details[one[1]] or one[2]
    end
    local more = #err > 1 and (" (and %d more)"):format(#err - 1) or ""
    return ("%s: %s %s%s"):format(what, err[1][1], err[1][2], more), details
end

-- ---- bodies ----

-- Value, is it text?; or nil, nil, message, code.
local function read_body(c)
    local kind = C.moon_req_body_type(c[1])
    if kind == JSON then
        local value, message, code = native.json.decode(c:body())
        return value, false, message, code
    elseif kind == URLENCODED or kind == MULTIPART then
        return context.form_pairs(c), true
    elseif kind == NONE and c:body() == "" then
        return nil, nil, "a body is expected", 400
    end
    return nil, nil, "a body of this type cannot be read: send JSON or a form", 415
end

local function bind(c, wanted)
    local value, is_text, message, code = read_body(c)
    if message then
        return nil, message, code
    elseif wanted == nil then
        return is_text and context.first_of_each(value) or value
    end
    if is_text then
        value = shape_text.tree(value)
    end
    local result, err = check(M.compiled(wanted), value, is_text)
    if err then
        local text, details = complaint("the body", err)
        return nil, text, 422, details
    end
    return result
end

--- The body as a value, by its Content-Type (JSON, urlencoded, multipart), of
--- the given shape; or nil, message, code (400, 413, 415, 422) and what is wrong
--- with each field.
---@param wanted? table|string The shape; without one, whatever came.
---@return any
---@return string?
---@return integer?
---@return table<string, string>?
function Context:try_bind(wanted)
    if not self[1] then
        dead(self)
    end
    local ok, value, message, code, details = pcall(bind, self, wanted)
    if ok then
        return value, message, code, details
    elseif failure.is(value) then
        return nil, value.message, value.status, value.details
    end
    error(value, 0)
end

--- The same, and answers 400, 413, 415 or 422 with details if it fails.
---@param wanted? table|string
---@return any
function Context:bind(wanted)
    if not self[1] then
        dead(self)
    end
    local value, message, code, details = bind(self, wanted)
    if message then
        error(failure.new("bad_request", code, message, details), 0)
    end
    return value
end

-- ---- the route option `input` ----

local readers = {}

function readers.params(c, node)
    local values = {}
    for _, field in ipairs(node.fields) do
        values[field.name] = c:param(field.name)
    end
    return values, "the path", 404
end

function readers.query(c)
    return shape_text.tree(context.query_pairs(c)), "the query", 400
end

local parts = { "params", "query", "body" }
local known_parts = fault.set(table.concat(parts, " "))

-- The shape of parameters must be about those that the pattern has.
local function check_params(node, pattern)
    if node.kind ~= "map" then
        fault.raise("input.params must be a table of shapes by name")
    end
    for _, field in ipairs(node.fields) do
        if not (pattern .. "/"):find("[:*]" .. field.name:gsub("%W", "%%%0") .. "[</]") then
            fault.raise("input.params.%s: %s has no such parameter", field.name, pattern)
        end
    end
end

--- The handler that reads what `input` names and calls `handler(c, input)`;
--- raises if a shape is malformed.
function M.wrap(handler, input, pattern)
    fault.want(input, "table", "input")
    fault.check_keys(input, known_parts, "input")
    local compiled = {}
    for name, wanted in pairs(input) do
        compiled[name] = M.compiled(wanted)
    end
    if compiled.params then
        check_params(compiled.params.node, pattern)
    end
    return function(c)
        local values = {}
        for _, name in ipairs(parts) do
            local wanted = compiled[name]
            if wanted and name == "body" then
                values.body = c:bind(wanted.shape)
            elseif wanted then
                local value, what, status = readers[name](c, wanted.node)
                local result, err = check(wanted, value, true)
                if err then
                    local message, details = complaint(what, err)
                    error(failure.new("bad_request", status, message, details), 0)
                end
                values[name] = result
            end
        end
        return handler(c, values)
    end
end

return M
