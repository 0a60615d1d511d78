--- moonshine.sessions: all sessions of one subject.
local ffi = require "ffi"
local encode = require "moonshine.encode"
local fault = require "moonshine.fault"
local wait = require "moonshine.wait"

local C, ffi_string = ffi.C, ffi.string
local out, count = ffi.new "moon_bytes", ffi.new "uint32_t[1]"
local created, seen = ffi.new "double[1]", ffi.new "double[1]"

---@class moonshine.sessions
local M = {}

local NO_MEMORY, DENIED = -1, -12

-- Asks the store and waits: the query, or nil, message, code.
local function ask(begin, subject, what)
    if type(subject) == "number" then
        subject = tostring(subject)
    end
    fault.want(subject, "string", what .. ": the subject")
    wait.check(what)
    local query = C.moon_session_query_new()
    if query == nil then
        return nil, "out of memory", 503
    end
    query = ffi.gc(query, C.moon_session_query_free)
    local code = begin(query, subject, #subject)
    if code == 1 then
        wait.suspend()
        code = C.moon_session_query_outcome(query, count, out)
    else
        C.moon_session_query_outcome(query, count, out)
    end
    if code == 0 then
        return query
    elseif code == NO_MEMORY then
        return nil, "out of memory", 503
    end
    return nil, ffi_string(out.ptr, out.len), code == DENIED and 501 or 503
end

---@class moonshine.SessionInfo
---@field key string The key that the store knows it by, in hexadecimal digits.
---@field created number Seconds since 1970.
---@field seen number Seconds since 1970; up to a minute old.

--- The sessions whose subject is this, or nil, message, 501 (this store keeps no
--- such index) or 503.
---@param subject string|number
---@return moonshine.SessionInfo[]? list
---@return string? message
---@return integer? code
function M.list(subject)
    local query, message, code = ask(C.moon_session_query_list, subject, "sessions.list")
    if not query then
        return nil, message, code
    end
    local list = require("moonshine.json").array {}
    for i = 0, count[0] - 1 do
        C.moon_session_query_at(query, i, out, created, seen)
        list[i + 1] = {
            key = encode.hex(ffi_string(out.ptr, out.len)),
            created = created[0], seen = seen[0],
        }
    end
    return list
end

--- Ends all of them: how many, or nil, message, 501 or 503.
---@param subject string|number
---@return integer? count
---@return string? message
---@return integer? code
function M.revoke_all(subject)
    local query, message, code = ask(C.moon_session_query_remove, subject, "sessions.revoke_all")
    if not query then
        return nil, message, code
    end
    return count[0]
end

return M
