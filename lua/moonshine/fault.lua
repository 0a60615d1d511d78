--- Errors of wrong use: they name the caller's line, not the framework's.
local M = {}

local getinfo = debug.getinfo
-- What the chunk names of all framework files start with.
local own = getinfo(1, "S").source:match("^(.*)fault%.lua$")

--- Prefix of the chunk names of framework files.
M.own = own

--- "app.lua:12" of the innermost caller outside the framework, or nil.
function M.where(level)
    level = level or 2
    while true do
        local info = getinfo(level, "Sl")
        if not info then
            return nil
        end
        local source = info.source
        if info.currentline > 0 and source:sub(1, #own) ~= own then
            local name = source:match("^@(.*)$") or info.short_src
            return name .. ":" .. info.currentline, level - 1
        end
        level = level + 1
    end
end

--- Where the running request's route was registered: the place to name when a
--- tail call (`return c:url(...)`) left no frame of the caller. Set by boot.
function M.route_place()
    return nil
end

--- Raises with the caller's place in front.
function M.raise(format, ...)
    local message = select("#", ...) > 0 and format:format(...) or format
    local place = M.where(3) or M.route_place()
    error(place and place .. ": " .. message or message, 0)
end

--- A traceback without the framework's frames; "" if nothing else is left.
function M.trim(traceback)
    local kept = {}
    for line in traceback:gmatch("[^\n]+") do
        local place = line:match("^%s+(.*)")
        if place and place:sub(1, #own - 1) ~= own:sub(2) and place:sub(1, 4) ~= "[C]:"
            and place:sub(1, 11) ~= "[moonshine " then
            kept[#kept + 1] = line
        end
    end
    return #kept > 0 and "stack traceback:\n" .. table.concat(kept, "\n") or ""
end

--- A message that names a line of the framework, where the application waited
--- or called it, with the application's innermost line instead.
function M.replace_place(message, traceback)
    local prefix = own:sub(2)
    if message:sub(1, #prefix) ~= prefix then
        return message
    end
    local rest = message:match("^[^\n]-%.lua:%d+: (.*)$")
    local place = traceback:match("\n%s+([^%s:]+:%d+):") or M.route_place()
    -- Only its own methods index these: they were called with a dot.
    if rest and rest:find("^attempt to index local '[%a]+' %(a [%a]+ value%)$") then
        rest = require("moonshine.hint").colon(place)
    end
    return rest and (place and place .. ": " .. rest or rest) or message
end

-- How many letters are wrong; two that are swapped count as one.
local function distance(a, b)
    local before, above, row = {}, {}, {}
    for j = 0, #b do
        above[j] = j
    end
    for i = 1, #a do
        row[0] = i
        for j = 1, #b do
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            row[j] = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost)
            if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                row[j] = math.min(row[j], before[j - 2] + 1)
            end
        end
        before, above, row = above, row, before
    end
    return above[#b]
end

--- The key of `names` (a table by name) that looks most like `name`, or nil.
function M.nearest(name, names)
    name = tostring(name)
    local best, least = nil, math.max(1, math.floor(#name / 3)) + 1
    for candidate in pairs(names) do
        if type(candidate) == "string" and candidate:sub(1, 1) ~= "_" then
            local d = distance(name:lower(), candidate:lower())
            if d < least or (d == least and best and candidate < best) then
                best, least = candidate, d
            end
        end
    end
    return best
end

--- What to write instead of a name that is another framework's, or nil.
function M.instead(kind, name)
    return require("moonshine.foreign")[kind][name]
end

--- ", did you mean X?", ": what to write instead" (if that is known), or nothing.
function M.hint(name, names, instead)
    local near = M.nearest(name, names)
    if near and (not instead or instead:find(near, 1, true)) then
        return (", did you mean '%s'?%s"):format(near, instead and " " .. instead or "")
    end
    return instead and ": " .. instead or ""
end

-- More names than this are not listed.
local LIST_MAX = 12

--- Raises: `what` ("a task") has nothing of that name. Says what looks like it, or
--- else what there is.
function M.unknown(what, key, names, instead)
    local hint = M.hint(key, names, instead)
    if hint == "" then
        local list = {}
        for name in pairs(names) do
            list[#list + 1] = type(name) == "string" and name:sub(1, 1) ~= "_" and name or nil
        end
        table.sort(list)
        hint = #list <= LIST_MAX and "; it has " .. table.concat(list, ", ") or ""
    end
    M.raise("%s has no '%s'%s", what, tostring(key), hint)
end

--- Makes every name that a table of methods does not have an error. An object of
--- theirs must have all its fields from the start. `names`: those that the message
--- may tell, where some are not for applications.
function M.close(methods, what, names)
    return setmetatable(methods, {
        __index = function(_, key)
            M.unknown(what, key, names or methods)
        end,
    })
end

--- "nil" or "a number": what a value is.
function M.kind(value)
    return value == nil and "nil" or "a " .. type(value)
end

local SHOWN_MAX = 60

--- A value that is wrong, in a message: text in quotes, numbers and booleans as they
--- are, of all others what they are.
function M.show(value)
    local kind = type(value)
    if kind == "string" then
        local text = #value > SHOWN_MAX and value:sub(1, SHOWN_MAX) .. "..." or value
        return '"' .. text:gsub("%c", "?") .. '"'
    elseif kind == "number" or kind == "boolean" then
        return tostring(value)
    end
    return M.kind(value)
end

local function check_keys_from(key, options, known, what)
    if key == nil then
        return
    elseif known[key] == nil then
        M.raise("%s has no option '%s'%s", what, tostring(key), M.hint(key, known))
    end
    return check_keys_from(next(options, key), options, known, what)
end

--- Raises unless `options` is a table and every key of it is one of `known`. Without
--- a loop, which would be compiled first, and then keep what calls this from being.
function M.check_keys(options, known, what)
    if type(options) ~= "table" then
        M.raise("%s: the options must be a table, not %s", what, M.kind(options))
    end
    return check_keys_from(next(options), options, known, what)
end

--- Raises unless `value` has the type.
function M.want(value, wanted, what)
    if type(value) ~= wanted then
        M.raise("%s must be a %s, not %s", what, wanted, M.kind(value))
    end
    return value
end

--- A set from a list of names.
function M.set(list)
    local set = {}
    for name in list:gmatch("%S+") do
        set[name] = true
    end
    return set
end

return M
