--- What happens when a request's task dies: log, shape the answer, run c:defer.
local ffi = require "ffi"
local chain = require "moonshine.chain"
local fault = require "moonshine.fault"
local failure = require "moonshine.failure"
local hint = require "moonshine.hint"
local log = require "moonshine.log"
local native = require "moonshine.native"
local respond = require "moonshine.respond"

local C = ffi.C
local SESSION_FORGET = 4 -- of moon_session_do
local M = {
    hooks = {},     -- by scope: status -> {fn} or {body, mime}
    parents = {},   -- by scope: the parent's number
    on_error = nil, -- the application's function
    dev = nil,      -- moonshine.dev with --dev
}

local statuses = {
    error = 500, result = 500, cpu = 503, memory = 503, timeout = 503,
    cancelled = 503, stop = 503, retired = 503, disconnect = 499,
}

local kinds_by_status = {
    [400] = "bad_request", [404] = "not_found", [405] = "method", [408] = "timeout",
    [413] = "too_large", [414] = "too_large", [429] = "limit", [431] = "too_large",
    [501] = "bad_request", [503] = "overload", [505] = "bad_request",
}

local function safe_tostring(value)
    if type(value) == "table" and not getmetatable(value) then
        return "error is a table: " .. require("moonshine.dev_value").describe(value, true)
    elseif value == nil then
        return "error without a message: nil"
    end
    local ok, text = pcall(tostring, value)
    return ok and type(text) == "string" and text or "(error is a " .. type(value) .. " value)"
end
M.safe_tostring = safe_tostring

--- The message of a value that was thrown: at the application's line, and with
--- what to write instead if that can be told.
function M.message_of(value, traceback)
    local ok, text = pcall(function()
        return hint.extend(fault.replace_place(safe_tostring(value), traceback))
    end)
    return ok and text or safe_tostring(value)
end

local function build(c, kind, value, traceback)
    local own = failure.is(value) and value
    traceback = traceback and fault.trim(traceback) or ""
    return {
        kind = own and own.kind or kind,
        status = own and own.status or statuses[kind] or 500,
        message = own and (own.message or "") or M.message_of(value, traceback),
        details = own and own.details or nil,
        value = value,
        traceback = traceback,
        route = c:route(),
        request_id = c:request_id(),
    }
end

local function write_log(err)
    -- moonshine.session tells of its store.
    if err.status < 500 or err.kind == "disconnect" or err.kind == "session" then
        log.debug("request refused: " .. err.message, { kind = err.kind, status = err.status })
        return
    end
    log.error("request failed: " .. err.message, {
        kind = err.kind, status = err.status,
        traceback = err.traceback ~= "" and err.traceback or nil,
    })
end

--- The nearest hook for a status, from a scope outwards.
local function find_hook(scope, status)
    while scope and scope >= 0 do
        local hooks = M.hooks[scope]
        if hooks and hooks[status] then
            return hooks[status]
        end
        scope = M.parents[scope]
    end
    return nil
end

-- What nobody asked for, and what quarantine counts (vm/quarantine_gate.h): the
-- place in front of the message, or the innermost one of the application.
local counted = { error = true, cpu = true, memory = true, timeout = true }

local function tell_quarantine(c, err)
    if not counted[err.kind] or failure.is(err.value) then
        return
    end
    local place, message = err.message:match("^([^\n:]+:%d+): (.*)$")
    if not place then
        place, message = err.traceback:match("\n%s+([^%s:]+:%d+):") or "", err.message
    end
    C.moon_req_failed(c[1], err.kind, #err.kind, place, #place, message, #message)
end

-- Failures that the framework wraps; what they say is for the log.
local silent = { result = true, cpu = true, memory = true, timeout = true }

local function default_answer(c, err, own)
    local detail, details = "", ""
    if own then
        -- What the application said to the client; its own bugs say nothing.
        detail = silent[err.kind] and "" or err.message
        if err.details ~= nil then
            local ok, text = pcall(native.json.encode, err.details)
            details = ok and text or ""
        end
    end
    C.moon_res_problem(c[1], err.status, detail, #detail, details, #details)
end

-- What goes wrong without anybody's will: a developer wants to know all of it.
local surprises = { error = true, result = true, cpu = true, memory = true, timeout = true }

-- --dev: tells the developer; a client that reads JSON gets what the application
-- makes of it, if anything. False if it is not for us, or cannot be told.
local function answer_dev(c, err, hook)
    if not surprises[err.kind] or err.status < 500 then
        return false
    end
    local shaped_by = hook and ("on(%d)"):format(err.status) or M.on_error and "app:on_error"
    if shaped_by and not C.moon_req_prefers_html(c[1]) then
        return false
    end
    local ok, message = pcall(M.dev.answer, c, err, shaped_by)
    if not ok then
        log.error("the error page failed: " .. safe_tostring(message))
    end
    return ok
end

local function answer(c, err)
    local handle = c[1]
    local own = failure.is(err.value) and err.value
    C.moon_res_drop_content(handle)
    C.moon_res_set_status(handle, err.status)
    if own and own.headers then
        respond.apply_headers(c, own.headers)
    end
    local hook = find_hook(C.moon_req_scope(handle), err.status)
    if M.dev and answer_dev(c, err, hook) then
        return
    elseif hook and hook.body then
        C.moon_res_send(handle, err.status, hook.body, #hook.body, hook.mime, #hook.mime)
    elseif hook then
        respond.finish(c, hook.fn(c, err))
    elseif M.on_error then
        respond.finish(c, M.on_error(c, err))
    else
        default_answer(c, err, own)
    end
end

-- Functions of c:defer and files stay; what was stored or asked for later goes.
-- What the session was given stays when the failure is the application's answer,
-- as a count of wrong passwords must; after a bug or a limit it is dropped.
local function what_stays(c, kind, value)
    local more = c[2]
    if not more or not (more.defer or more.jobs or more.session) then
        return false
    end
    local wanted = kind == "error" and failure.is(value) and value.kind ~= "session"
    if more.session and not wanted then
        C.moon_session_do(c[1], SESSION_FORGET)
    end
    return { defer = more.defer, jobs = more.jobs, session = wanted and more.session or nil }
end

-- The failure to answer instead, when the session cannot be saved.
local function save_session(c)
    local session = c[2] and c[2].session
    if session then
        local ok, value = pcall(respond.commit_session, c, session)
        if not ok then
            C.moon_session_do(c[1], SESSION_FORGET)
            return value
        end
    end
    return nil
end

--- Task death of a request. `c` may not exist yet.
function M.request(slot, kind, value, traceback)
    local c = chain.contexts[slot]
    if not c or not c[1] then
        c = chain.new_context(slot)
    end
    c[2] = what_stays(c, kind, value)
    local err = build(c, kind, value, traceback)
    local unsaved = save_session(c)
    if unsaved then
        err = build(c, "error", unsaved)
    end
    write_log(err)
    tell_quarantine(c, err)
    if C.moon_res_started(c[1]) then
        C.moon_res_stream_end(c[1], false)
    elseif kind ~= "disconnect" then
        answer(c, err)
    end
    if c[2] then
        respond.epilogue(c, c[2])
    end
    c[1] = false
    chain.contexts[slot] = nil
end

--- The handler of a hook's chain: an automatic answer (404, 405, ...) in Lua.
function M.hook_handler(fn)
    return function(c)
        local status = C.moon_req_auto_status(c[1])
        local err = {
            kind = C.moon_req_quarantined(c[1]) and "quarantine" or kinds_by_status[status]
                or status < 500 and "bad_request" or "error",
            status = status,
            message = "",
            route = c:route(),
            request_id = c:request_id(),
        }
        C.moon_res_set_status(c[1], status)
        return fn(c, err)
    end
end

return M
