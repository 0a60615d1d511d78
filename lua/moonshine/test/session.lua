--- Sessions that requests of tests shall have: made in the store, so that the
--- request needs only the cookie, as in production.
local ffi = require "ffi"
local fault = require "moonshine.fault"
local json = require "moonshine.json"
local session = require "moonshine.session"
local wait = require "moonshine.wait"

local C, ffi_string = ffi.C, ffi.string
local out = ffi.new "moon_bytes"
local FULL = -13 -- of base/errcode.h

local M = {}

local function put(made, name, value)
    fault.want(name, "string", "request: a key of session")
    local ok, text = pcall(json.encode, value)
    if not ok then
        fault.raise("request: session.%s cannot be kept: %s", name, text)
    end
    local full = "d:" .. name
    local code = C.moon_test_session_set(made, full, #full, text, #text)
    if code == FULL or #full > 256 then
        fault.raise("request: a session may have 1000 fields and 1 MiB, and keys of 254 bytes")
    elseif code ~= 0 then
        error("out of memory", 0)
    end
end

--- Makes a session with these values: the name of its cookie, and its id. nil for
--- an empty table: such a session does not exist.
---@param values table<string, any>
---@param scheme? "http"|"https" of the request
---@return string? cookie
---@return string? id
function M.make(values, scheme)
    fault.want(values, "table", "request: session")
    if next(values) == nil then
        return nil
    end
    wait.check("request: session")
    local made = C.moon_test_session_new()
    if made == nil then
        fault.raise("request: there is no session store here")
    end
    made = ffi.gc(made, C.moon_test_session_free)
    for name, value in pairs(values) do
        put(made, name, value)
    end
    if C.moon_test_session_save(made) == 1 then
        wait.suspend()
    end
    local code = C.moon_test_session_outcome(made, out)
    local text = ffi_string(out.ptr, out.len)
    if code ~= 0 then
        fault.raise("request: the session cannot be saved: %s", text)
    end
    return session.cookie_name(scheme or "http"), text
end

return M
