--- From what a handler returned to a response.
---
--- A context is a table whose array part the framework owns; everything an
--- application may do with it is a method. See `FIELDS`.
local ffi = require "ffi"
local failure = require "moonshine.failure"
local hint = require "moonshine.hint"
local native = require "moonshine.native"
local stream = require "moonshine.stream"
local wait = require "moonshine.wait"

local C = ffi.C
local send_json = native.send_json

local M = {}

--- Places in a context.
--- 1 handle: false once the request is over
--- 2 more: false, or a table of what is not plain: the stored response, stream,
---   fresh (the client has it: 304), defer and after functions, jobs that hold
---   temporary files
--- 3 depth in the chain of middleware
--- 4, 5 body and status that the inner part of the chain returned
--- 6 slot number
--- 7 values of c:set, or false
--- 8 the route's record in Lua, or false
M.FIELDS = 8

--- Stands for a nil body in place 4, which would not be a field.
M.NOTHING = {}

--- What a middleware is called in messages.
function M.name_of(entry)
    return entry.name == entry.place and "a middleware" or "the middleware " .. entry.name
end

--- Who answered: the handler, or the middleware that did not call proceed. Its
--- name for messages, and its place or nil.
function M.who(c)
    local info = c[8]
    local entry = info and info.middleware and info.middleware[c[3]]
    if entry then
        return M.name_of(entry), entry.place
    end
    entry = info and info.handler
    return "the handler", entry and entry.place or info and info.source
end

-- `format` has a place for who it was.
local function result_error(c, format, ...)
    local who, place = M.who(c)
    local message = format:format(who, ...)
    error(failure.new("result", 500, place and place .. ": " .. message or message), 0)
end

-- What was meant by a body that is none.
local function body_hint(body)
    local kind = type(body)
    if kind == "number" and body >= 200 and body <= 599 then
        return (": a status comes second: return \"text\", %d"):format(body)
    elseif kind == "number" then
        return ": as text, return tostring(number)"
    elseif kind == "boolean" then
        return ": as JSON, return { ok = true }"
    elseif kind == "function" then
        for name, method in pairs(hint.methods) do
            if method == body then
                return (": c.%s is a method: %s"):format(name, hint.call_of(name))
            end
        end
        return ": call it, or return what it returns"
    end
    return ""
end

--- Sets a table of headers: value, list of values, or false to remove.
function M.apply_headers(c, headers)
    if type(headers) ~= "table" then
        result_error(c, "%s's third result must be a table of headers, not a %s", type(headers))
    end
    for name, value in pairs(headers) do
        if type(value) == "table" then
            c:set_header(name, nil)
            for _, one in ipairs(value) do
                c:add_header(name, one)
            end
        else
            c:set_header(name, value or nil)
        end
    end
end

local function check_status(c, body, status)
    if type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 999 then
        local why = ""
        if type(body) == "number" then
            why = ": the body comes first, then the status"
        elseif tonumber(status) then
            why = (": write %s, without quotes"):format(status)
        end
        result_error(c, "%s's second result must be a status from 200 to 999, not %s%s",
            type(status) == "number" and tostring(status) or "a " .. type(status), why)
    end
    return status
end

local function json(c, status, value)
    local code, message = send_json(c[6], status, value)
    if message then
        result_error(c, "%s's table is no JSON: %s", message)
    end
    return code
end

local function send_file(c, file)
    local code = C.moon_res_file(c[1], file.root, file.path, #file.path, file.max_age)
    if code == -5 or code == -12 then
        error(failure.new("not_found", 404, "no such file"), 0)
    elseif code ~= 0 and code ~= -10 then
        error("cannot send " .. file.path .. ": error " .. code, 0)
    end
end

-- What a method of c stored, when nothing was returned.
local function send_stored(c, more, status)
    local kind = more.kind
    if kind == "body" then
        local body, mime = more.body, more.mime
        C.moon_res_send(c[1], status, body, #body, mime, #mime)
    elseif kind == "json" then
        json(c, status, more.body)
    elseif kind == "stream" then
        if status ~= 0 then
            C.moon_res_set_status(c[1], status)
        end
        stream.run(c, more.stream, more.format)
    elseif kind == "file" then
        send_file(c, more.body)
    end
end

local function send_nothing(c, status)
    local handle = c[1]
    if status == 0 then
        status = C.moon_res_get_status(handle)
    end
    if status == 0 then
        status = 204
    end
    C.moon_res_send(handle, status, "", 0, "", 0)
end

-- The client has what a handler with c:etag would send, unless that is an error.
local function send_fresh(c, status)
    if status == 0 then
        status = C.moon_res_get_status(c[1])
    end
    if status ~= 304 and status ~= 200 then
        return false
    end
    C.moon_res_send(c[1], 304, "", 0, "", 0)
    return true
end

local function run(fn, what)
    local ok, message = pcall(fn)
    if not ok then
        require("moonshine.log").error(what .. " function failed: " .. tostring(message))
    end
end

--- Ends a request's Lua life: c:after functions once the response is out, then
--- c:defer functions, last in first out.
function M.epilogue(c, more)
    if more.after then
        if C.moon_res_wait_sent(c[1]) == 0 then
            wait.suspend()
        end
        for _, fn in ipairs(more.after) do
            run(fn, "after")
        end
    end
    -- Each is taken off before it runs: if the task is stopped in the middle,
    -- the rest runs when the failure is dealt with.
    local defer = more.defer
    while defer and #defer > 0 do
        run(table.remove(defer), "defer")
    end
    if more.jobs then -- temporary files of uploads
        for _, job in ipairs(more.jobs) do
            require("moonshine.jobs").free(job)
        end
        more.jobs = nil
    end
end

--- Set by moonshine.session: saves a session before the answer's head leaves.
M.commit_session = nil

--- Sends whatever a chain returned.
function M.finish(c, body, status, headers)
    if headers ~= nil then
        M.apply_headers(c, headers)
    end
    if status == nil then
        status = 0
    else
        check_status(c, body, status)
    end
    local kind, more = type(body), c[2]
    if more and more.session then
        M.commit_session(c, more.session)
    end
    if more and more.fresh and send_fresh(c, status) then
        return M.epilogue(c, more)
    end
    if kind == "string" then
        C.moon_res_text(c[1], status, body, #body)
    elseif kind == "table" then
        json(c, status, body)
    elseif body ~= nil then
        result_error(c, "%s returned a %s; it may return a string, a table or nil%s", kind,
            body_hint(body))
    elseif more and more.kind then
        send_stored(c, more, status)
    else
        send_nothing(c, status)
    end
    if more then
        M.epilogue(c, more)
    end
end

return M
