--- --dev: answers for requests that failed, with everything that is known, and
--- the report of an application that does not load. Loaded with --dev only.
local ffi = require "ffi"
local app = require "moonshine.app"
local context = require "moonshine.context"
local dev_facts = require "moonshine.dev_facts"
local dev_page = require "moonshine.dev_page"
local dev_request = require "moonshine.dev_request"
local dev_value = require "moonshine.dev_value"
local log = require "moonshine.log"
local native = require "moonshine.native"
local respond = require "moonshine.respond"
local scope = require "moonshine.scope"
local tasks = require "moonshine.tasks"

local C = ffi.C
local M = {}

dev_value.metatables[context.metatable] = "the context of the request"
dev_value.metatables[app.metatable] = "the application"
dev_value.metatables[scope.Scope] = "a group of routes"
dev_value.values[require "moonshine"] = "the module moonshine"

local read = native.read_file

-- Frames of a part of moonshine.all, by the value that it died of and that is
-- raised again where all was called.
local part

-- A part dies: its frames are lost once its error is raised in the task that
-- waits for it.
function tasks.part_died(value)
    part = { value = value, frames = dev_facts.frames(native.captured(), read) }
end

local function frames_of(err)
    local frames = dev_facts.frames(native.captured(), read)
    if part and rawequal(part.value, err.value) then
        for i, frame in ipairs(frames) do
            frame.name = i == 1 and "moonshine.all, in " .. frame.name or frame.name
            table.insert(part.frames, frame)
        end
        frames = part.frames
    end
    part = nil
    return frames
end

-- The names under which a chain holds its functions say nothing to their owner.
local function rename(frames, info)
    for _, frame in ipairs(frames) do
        local i = frame.name:match("^function 'middleware_(%d+)'$")
        local entry = i and info and info.middleware and info.middleware[tonumber(i)]
        if entry then
            frame.name = respond.name_of(entry)
        elseif frame.name == "function 'handler'" then
            entry = info and info.handler
            frame.name = "the handler"
                .. (entry and entry.name ~= entry.place and " " .. entry.name or "")
        end
    end
    return frames
end

local function facts_of(c, err)
    local message = err.message ~= "" and err.message or err.kind
    local info = c[8]
    local facts = dev_facts.new(message, err.traceback, rename(frames_of(err), info), read)
    facts.status, facts.kind = err.status, err.kind
    facts.request = dev_request.of(c)
    facts.request_id = err.request_id
    facts.generation = c:generation()
    facts.route = err.route ~= "" and { pattern = err.route, source = info and info.source } or nil
    return facts
end

--- Answers a failed request with the page, or with the same facts as a problem
--- (RFC 9457). `shaped_by` is what answers it without --dev, or nil.
function M.answer(c, err, shaped_by)
    local handle = c[1]
    local facts = facts_of(c, err)
    C.moon_res_set(handle, "Cache-Control", 13, "no-store", 8)
    if C.moon_req_prefers_html(handle) then
        facts.shaped_by = shaped_by
        -- Through JSON, so that every text in it is UTF-8.
        local page = dev_page.render(native.json.decode(native.encode_lossy(facts)))
        -- The application's own policy may forbid the page's style.
        local policy = native.dev_policy
        C.moon_res_set(handle, "Content-Security-Policy", 23, policy, #policy)
        C.moon_res_send(handle, err.status, page, #page, "text/html; charset=utf-8", 24)
    else
        local detail = err.message .. (err.traceback ~= "" and "\n" .. err.traceback or "")
        local details = native.encode_lossy(facts)
        C.moon_res_problem(handle, err.status, detail, #detail, details, #details)
    end
end

-- ---- what is no error, but hardly meant ----

local stored_by = { body = "c:text, c:html or c:bytes", json = "c:json", file = "c:send_file",
    stream = "c:stream" }

local function hint_about(c, body, status)
    local who, place = respond.who(c)
    local more, info = c[2], c[8]
    local stored = more and more.kind
    if body ~= nil and stored then
        return ("%s: %s returned a %s, so what %s has set is not sent: do one of the two"):format(
            place or "?", who, type(body), stored_by[stored] or "a method of c")
    elseif body ~= nil or stored then
        return nil
    end
    local set = status or C.moon_res_get_status(c[1])
    if set == 0 and info and info.middleware and info.middleware[c[3]] then
        return ("%s: %s neither called proceed(c) nor answered, so the handler did not run: "
            .. "answered 204; end it with return proceed(c), or answer"):format(place, who)
    elseif set == 0 then
        return ("%s: %s returned nothing: answered 204"):format(place or "?", who), "debug"
    elseif set >= 400 then
        return ("%s: %s answered %d without a body; c:fail(%d) sends one"):format(place or "?",
            who, set, set), "debug"
    end
    return nil
end

local finish = respond.finish

-- Before the chains are composed, which keep it.
function respond.finish(c, body, status, headers)
    local ok, text, level = pcall(hint_about, c, body, status)
    if ok and text then
        log._write(level or "warn", "hint: " .. text)
    end
    return finish(c, body, status, headers)
end

--- Tells the core what is known of a failure to load or to start.
function M.report(message, traceback)
    local facts = dev_facts.new(message, traceback, dev_facts.frames(native.captured(), read), read)
    facts.status, facts.kind = 500, "load"
    native.report(native.encode_lossy(facts))
end

return M
