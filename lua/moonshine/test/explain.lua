--- Why a test ended, in the parts that the report shows (core/vm/vm_test.h).
local assertion = require "moonshine.test.assertion"
local fail = require "moonshine.fail"
local fault = require "moonshine.fault"
local native = require "moonshine.native"
local show = require "moonshine.test.show"

--- `file`: the spec file that runs; `limit`: the seconds that a test has.
local M = { file = "", limit = 0 }

-- Of each part; more than a screen helps nobody.
local TEXT_MAX = 8000

---@class moonshine.test.Failure
---@field kind string "error" "cpu" "memory" "timeout" ...
---@field value any what was raised
---@field traceback string

--- What ended a task.
---@return moonshine.test.Failure
function M.failure(kind, value, traceback)
    return { kind = kind, value = value, traceback = traceback or "" }
end

--- Did an assertion raise it?
---@param failure moonshine.test.Failure
function M.is_assertion(failure)
    local last = assertion.last
    return last ~= nil and failure.kind == "error" and rawequal(last.value, failure.value)
end

local function join(parts)
    for i, part in ipairs(parts) do
        part = show.clean(part)
        parts[i] = #part <= TEXT_MAX and part or part:sub(1, TEXT_MAX) .. "\n..."
    end
    return table.concat(parts, "\0")
end

-- ---- places ----

local function source_line(place)
    local file, number = place:match("^(.*):(%d+)$")
    local text = file and native.read_file(file)
    if not text then
        return ""
    end
    local left = tonumber(number)
    for line in (text .. "\n"):gmatch("([^\n]*)\n") do
        left = left - 1
        if left == 0 then
            return line
        end
    end
    return ""
end

-- LuaJIT shortens long names, but the file's own is known.
local function restore(text)
    for short in text:gmatch("%.%.%.([^\n]-%.lua):") do
        if M.file:sub(-#short) == short then
            local pattern = ("..." .. short):gsub("%p", "%%%0")
            text = text:gsub(pattern, (M.file:gsub("%%", "%%%%")))
        end
    end
    return text
end

-- "app.lua:3" in front of a message, or of the traceback's first frame.
local function place_of(message, trace)
    local place = message:match("^([^\n]-%.lua:%d+): ")
    if place and place:sub(1, #fault.own - 1) ~= fault.own:sub(2) then
        return place
    end
    return trace:match("\n%s+([^\n]-%.lua:%d+): ")
end

-- Where a frame raised without calling anything, LuaJIT forgot its line.
local function with_line(trace, place)
    local file = place:match("^(.*):%d+$")
    local from, to = trace:find("^[^\n]*\n%s+")
    if file and to and trace:sub(to + 1, to + #file + 2) == file .. ": " then
        trace = trace:sub(from, to) .. place .. trace:sub(to + #file + 1)
    end
    return trace
end

-- ---- messages ----

-- Tables say what they are if they can, else what is in them.
local function text_of(value)
    local metatable = type(value) == "table" and debug.getmetatable(value)
    if type(value) == "table" and not (metatable and metatable.__tostring) then
        return "the error is a table: " .. show.show(value, 400)
    end
    return fail.safe_tostring(value)
end

local limits = {
    cpu = "it ran for more than %g s without waiting: an endless loop?",
    timeout = "it was not done after %g s",
}

local function explain(failure, trace)
    if M.is_assertion(failure) then
        local last = assertion.last
        return "assertion", last.place, text_of(last.message), last.diff
    end
    local message = restore(text_of(failure.value))
    local place = place_of(message, trace)
    if place and message:sub(1, #place) == place then
        message = message:sub(#place + 3)
    end
    if limits[failure.kind] then
        message = limits[failure.kind]:format(M.limit)
    end
    return failure.kind, place, message
end

--- The text of an END. `where`: the hook that failed; `default`: the place of the
--- test, if the failure has none.
---@param failure moonshine.test.Failure
---@param where? string
---@param default string
---@return string
function M.text(failure, where, default)
    local trace = restore(fault.trim(failure.traceback))
    local kind, place, message, diff = explain(failure, trace)
    place = place or default
    return join { kind, place, where and where .. ": " .. message or message,
        source_line(place), diff or "", with_line(trace, place) }
end

--- The text of an END that has no more to say than this.
---@param kind string
---@param place string
---@param message string
---@return string
function M.plain(kind, place, message)
    return join { kind, place, message, "", "", "" }
end

return M
