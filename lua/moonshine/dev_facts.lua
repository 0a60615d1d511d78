--- --dev: what can be told about a failure, as plain tables for JSON and the
--- error page. Needs neither FFI nor an application, so that a bare Lua state
--- can use it, too.
local dev_value = require "moonshine.dev_value"
local fault = require "moonshine.fault"

local M = {}

local FRAMES_MAX, VARIABLES_MAX = 30, 50
local AROUND, LINE_MAX = 6, 240

local own = fault.own

local function file_of(source)
    return source:sub(1, 1) == "@" and source:sub(1, #own) ~= own and source:sub(2) or nil
end

--- The lines around a line: first and lines; nil if the file cannot be read.
function M.excerpt(read, file, line)
    local text = read(file)
    if not text then
        return nil
    end
    local first, number, lines = math.max(1, line - AROUND), 0, {}
    for one in (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("([^\n]*)\n") do
        number = number + 1
        if number >= first and number <= line + AROUND then
            one = one:gsub("\r$", ""):gsub("\t", "    ")
            lines[#lines + 1] = #one > LINE_MAX and one:sub(1, LINE_MAX) .. " ..." or one
        end
    end
    return { first = first, lines = lines }
end

-- ---- variables ----

-- What safepoints and views add to the application's code.
local function is_hidden(name)
    return name:sub(1, 1) == "(" or name:sub(1, 2) == "__"
end

-- A later local of the same name hides the earlier one.
local function add_variable(list, by_name, name, value)
    local place = by_name[name] or #list + 1
    if place <= VARIABLES_MAX then
        by_name[name] = place
        list[place] = { name = name, type = type(value), value = dev_value.describe(value) }
    end
end

local function locals_of(frame)
    local list, by_name, extra = {}, {}, 0
    for i = 1, frame.count do
        local name = frame.names[i]
        if name == "(*vararg)" then
            extra = extra + 1
            name = "... " .. extra
        end
        if not is_hidden(name) then
            add_variable(list, by_name, name, frame.values[i])
        end
    end
    return list[1] and list or nil
end

local function upvalues_of(fn)
    local list, by_name = {}, {}
    for i = 1, 60 do
        local name, value = debug.getupvalue(fn, i)
        if not name then
            break
        elseif not is_hidden(name) then
            add_variable(list, by_name, name, value)
        end
    end
    return list[1] and list or nil
end

-- ---- frames ----

local function name_of(info, file)
    if info.what == "main" then
        return file:find("%.lua$") and "main chunk" or "the view"
    elseif info.name then
        return (info.namewhat == "method" and "method '%s'" or "function '%s'"):format(info.name)
    end
    return ("function at %s:%d"):format(file, info.linedefined)
end

local function frame_of(frame, read)
    local file = file_of(frame.source) or frame.short_src
    return {
        file = file,
        line = frame.currentline,
        name = name_of(frame, file),
        source = M.excerpt(read, file, frame.currentline),
        locals = locals_of(frame),
        upvalues = upvalues_of(frame.func),
    }
end

--- The application's frames of what vm_capture.c has kept; the innermost first.
--- `read(name)` returns the text of a file, or nil.
function M.frames(captured, read)
    local frames = {}
    for _, frame in ipairs(captured or {}) do
        local source = frame.source
        if source:sub(1, #own) ~= own and source:sub(1, 11) ~= "=[moonshine"
            and #frames < FRAMES_MAX then
            frames[#frames + 1] = frame_of(frame, read)
        end
    end
    return frames
end

-- "app.lua:3: in function 'x'" of a traceback, when only its text is left.
local function frames_of_text(traceback, read)
    local frames = {}
    for file, line, name in traceback:gmatch("\n%s*([^%s:]+):(%d+): in ([^\n]*)") do
        line = tonumber(line)
        frames[#frames + 1] = {
            file = file, line = line, name = name:gsub("[<>]", ""),
            source = M.excerpt(read, file, line),
        }
        if #frames == FRAMES_MAX then
            break
        end
    end
    return frames
end

-- The first "file:line" of a message whose file can be read. A message may name
-- several, the first of which is where the mistake is.
local function place_in(message, read)
    for file, line in message:gmatch("([%w_%-%./]+%.%w+):(%d+)") do
        if read(file) then
            return file, tonumber(line)
        end
    end
    return nil
end

-- Puts the place that the message names first, if no frame has it: a syntax
-- error, or error("...", 2).
local function focus(facts, read)
    local file, line = place_in(facts.message, read)
    if not file then
        return
    end
    for i, frame in ipairs(facts.frames) do
        if frame.file == file and frame.line == line then
            facts.focus = i
            return
        end
    end
    table.insert(facts.frames, 1, {
        file = file, line = line, source = M.excerpt(read, file, line),
    })
end

--- Facts about a failure: its message and traceback, and what the frames hold.
function M.new(message, traceback, frames, read)
    local facts = { message = message, traceback = traceback, frames = frames, focus = 1 }
    focus(facts, read)
    return facts
end

--- Facts about a failure to load of which only the text is known, with its
--- traceback behind it.
function M.from_text(text, read)
    local message, traceback = text:match("^(.-)\n(stack traceback:.*)$")
    message, traceback = message or text, traceback or ""
    local facts = M.new(message, traceback, frames_of_text("\n" .. traceback, read), read)
    facts.status, facts.kind = 500, "load"
    return facts
end

return M
