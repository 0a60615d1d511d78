--- The test kit: what app:check is given, and what spec files require.
---
--- Requests travel over a socket to the process's own server, so parser, router,
--- stages and limits are those of production. Nothing is mocked.
local ffi = require "ffi"
local assertion = require "moonshine.test.assertion"
local clock = require "moonshine.test.clock"
local fault = require "moonshine.fault"
local json = require "moonshine.json"
local native = require "moonshine.native"
local show = require "moonshine.test.show"
local client = require "moonshine.test.client"
local request = require "moonshine.test.request"
local values = require "moonshine.test.same"

local C, ffi_string = ffi.C, ffi.string

---@class moonshine.test
local M = { client = client.new, advance = clock.advance }

---@class moonshine.test.Options
---@field headers? table<string, string|string[]>
---@field body? string
---@field json? any sent as application/json
---@field form? table<string, string|string[]> sent as a form
---@field files? table<string, moonshine.test.File|moonshine.test.File[]> makes it multipart
---@field ip? string what c:ip() says
---@field scheme? "http"|"https" what c:scheme() says
---@field session? table<string, any> the request has a session with these values
---@field timeout? number|string for each wait of the connection; default 10 s

---@class moonshine.test.File
---@field data string
---@field filename? string default: the field's name
---@field type? string default: application/octet-stream

--- Sends one request to the app and returns the response. Redirects are not
--- followed.
---@param app moonshine.App the app under test
---@param method string "GET"
---@param path string "/users/7?full=1"
---@param options? moonshine.test.Options
---@return moonshine.test.Response
function M.request(app, method, path, options)
    return request.send(app, method, path, options or {})
end

-- ---- assertions ----

local function titled(message, text)
    return message ~= nil and tostring(message) .. ": " .. text or text
end

--- Raises unless both are equal, tables by what is in them.
---@generic T
---@param actual T
---@param expected any
---@param message? string
---@return T actual
function M.same(actual, expected, message)
    if values.same(actual, expected) then
        return actual
    end
    local diff = values.diff(actual, expected)
    local text = diff and "the values differ"
        or ("expected %s, got %s"):format(show.show(expected), show.show(actual))
    assertion.fail(titled(message, text), diff)
end

--- Raises unless actual == expected.
---@generic T
---@param actual T
---@param expected any
---@param message? string
---@return T actual
function M.equal(actual, expected, message)
    if actual == expected then
        return actual
    end
    local text = ("expected %s, got %s"):format(show.show(expected), show.show(actual))
    if type(actual) == "table" and values.same(actual, expected) then
        text = "two tables with the same contents are not equal; t.same compares contents"
    end
    local diff = type(actual) == "string" and values.diff(actual, expected) or nil
    assertion.fail(titled(message, diff and "the texts differ" or text), diff)
end

--- Raises unless fn raises, an error whose text has `text` in it (plain text).
---@param fn function
---@param text? string
---@param message? string
---@return any error what fn raised
function M.raises(fn, text, message)
    fault.want(fn, "function", "raises: the first argument")
    local ok, value = pcall(fn)
    local raised = require("moonshine.fail").safe_tostring(value)
    if ok then
        assertion.fail(titled(message, "it did not raise an error"))
    elseif text ~= nil and not raised:find(fault.want(text, "string", "raises: the text"), 1, true)
    then
        assertion.fail(titled(message, ("expected an error with %s, got %s"):format(
            show.show(text), show.show(raised, 400))))
    end
    return value
end

--- Raises unless the text matches the Lua pattern.
---@param text string
---@param pattern string
---@param message? string
---@return ... what string.match returns
function M.match(text, pattern, message)
    fault.want(pattern, "string", "match: the pattern")
    if type(text) ~= "string" or not text:find(pattern) then
        assertion.fail(titled(message, ("expected a match of %s, got %s"):format(
            show.show(pattern), show.show(text, 400))))
    end
    return text:match(pattern)
end

-- ---- the log ----

---@class moonshine.test.LogRecord
---@field level "debug"|"info"|"warn"|"error"
---@field message string
---@field fields table<string, any>

local level, message_out = ffi.new "moon_bytes", ffi.new "moon_bytes"
local name_out, value_out = ffi.new "moon_bytes", ffi.new "moon_bytes"
local field_count = ffi.new "uint32_t[1]"

local function fields_of(index, count)
    local fields = {}
    for i = 0, count - 1 do
        local raw = C.moon_test_log_field(index, i, name_out, value_out)
        local value = ffi_string(value_out.ptr, value_out.len)
        if raw == 1 then
            local decoded, failed = json.decode(value)
            value = failed and value or decoded
        end
        fields[ffi_string(name_out.ptr, name_out.len)] = value
    end
    return fields
end

--- What was logged since the running test began (in app:check: since the code was
--- loaded), up to 1,000 lines.
---@return moonshine.test.LogRecord[]
function M.log()
    if not native.info().probe then
        fault.raise("log: only inside app:check and moonshine test")
    end
    local list, index = {}, 0
    while C.moon_test_log_at(index, level, message_out, field_count) do
        list[index + 1] = {
            level = ffi_string(level.ptr, level.len),
            message = ffi_string(message_out.ptr, message_out.len),
            fields = fields_of(index, field_count[0]),
        }
        index = index + 1
    end
    return list
end

return setmetatable(M, {
    __index = function(_, key)
        fault.raise("moonshine.test has no '%s'%s", tostring(key), fault.hint(key, M))
    end,
})
